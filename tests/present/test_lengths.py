"""Run time against length: ranges, slopes, and the table and figure that show them."""

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.errors import UserError
from harness.measurements import find_run_times
from harness.present import claims, figures, report, run_times, tables
from harness.present.figures.lengths import growth
from harness.present.pages import run_times_section
from harness.present.run_times import PowerLaw, Range, Study
from harness.present.tables import lengths
from harness.present.tables.table import latex
from harness.records import write
from tests.present import outputs
from tests.present.lengths import LENGTHS, measurement, run_time, synthetic_run_times

TIMED = ("rnn_vae", "latent_ode", "ode2vae", "sde_gan", "sashimi", "cru")


@pytest.fixture(scope="module")
def study() -> Study:
    (found,) = run_times.studies(synthetic_run_times())
    return found


def test_slopes_are_those_of_the_long_series() -> None:
    bent = {n: n**0.5 if n < 1280 else n**2 for n in LENGTHS}
    assert run_times.fit(bent) == PowerLaw(pytest.approx(2), 1280, 20480)
    assert run_times.fit({80: 1.0, 320: 64.0, 1280: 4096.0}) == PowerLaw(pytest.approx(3), 80, 1280)
    assert run_times.fit({80: 1.0}) is None
    assert run_times.fit({80: 1.0, 320: 0.0}) is None  # no memory above the base


def test_smaller_batches_do_not_bend_a_slope(study: Study) -> None:
    fit = study.growth("ls4", "generation", "time")
    assert fit == PowerLaw(pytest.approx(1.5), 1280, 20480)
    memory = study.growth("ls4", "training", "memory")
    assert memory == PowerLaw(pytest.approx(1), 1280, 20480)


def test_memory_that_is_taken_for_a_length_before_the_first_iteration_counts() -> None:
    base = 300 * 2**20
    records = [
        run_time("ls4", n, measurement("training", 1.0, 2**20, base_memory_bytes=base + 64 * n**2,
                                       peak_memory_bytes=base + 65 * n**2))
        for n in LENGTHS
    ]  # fmt: skip
    (study,) = run_times.studies(records)
    memory = study.growth("ls4", "training", "memory")
    assert memory == PowerLaw(pytest.approx(2, abs=0.01), 1280, 20480)


def test_ratios_are_for_each_series_and_bounded_by_the_limit(study: Study) -> None:
    assert study.ratio("latent_ode", "training", 20480) == Range(*[pytest.approx(3)] * 2)
    late = study.ratio("latent_ode", "reconstruction", 20480)
    assert late == Range(pytest.approx(600 / 16 / (1.28 / 16)), math.inf)
    assert study.ratio("ode2vae", "training", 20480) is None  # out of memory
    assert study.ratio("cru", "training", 20480) is None  # not measured
    assert (study.common("cru", "training"), study.common("ls4", "training")) == (1280, 20480)


@pytest.mark.parametrize(
    ("theirs", "ours", "ratio", "verdict"),
    [
        (250.0, 2.0, "125", claims.REPRODUCED),
        (4.0, 2.0, "2.0", claims.NOT_REPRODUCED),
        (None, 2.0, "≥ 300", claims.REPRODUCED),  # over 600 s
        (None, 20.0, "≥ 30", claims.UNDECIDED),
        (30.0, None, "≤ 0.050", claims.NOT_REPRODUCED),
        (None, None, "not known", claims.UNDECIDED),
    ],
)
def test_ratios_and_what_the_claims_say_of_them(theirs, ours, ratio: str, verdict: str) -> None:
    late = {"status": "timeout", "reason": "no iteration in 600 s"}
    times = {"ls4": ours} | dict.fromkeys(TIMED, theirs)
    records = [
        run_time(model, 20480, measurement("training", seconds, **({} if seconds else late)))
        for model, seconds in times.items()
    ]
    (document,) = lengths.documents(records)
    assert set(document.tables[0].cells.iloc[:, 1]) == {ratio}
    (study,) = run_times.studies(records)
    (found,) = (
        f for f in claims.of_run_times(study) if f.claim == "run_time" and "training" in f.of
    )
    assert found.verdict == verdict


def by_name(table) -> dict[str, list[str]]:
    return {line[0]: line[1:] for line in table.cells.to_numpy().tolist()}


def test_tables(study: Study) -> None:
    (document,) = lengths.documents(synthetic_run_times())
    assert document.stem == "runtime_cpu_synthetic_2_threads"
    ratios, training, reconstruction, *_ = document.tables
    assert by_name(ratios) == {
        "CRU": ["not known", "not known", "–"],
        "Latent ODE": ["3.0", "≥ 469", "0.010"],
        "ODE²VAE": ["not known", "–", "not known"],
    }
    (note,) = ratios.notes
    assert note.startswith("The paper says 100 times")
    rows = by_name(training)
    assert rows["LS4"][4] == "32 sˢ (batch 4)"
    assert rows["CRU"][3:] == [
        "not run", "not run", "20 (at 1,280)", "–", "1.00 (80 to 1,280)", "12,345"
    ]  # fmt: skip
    assert rows["ODE²VAE"][4:7] == ["out of memory", "0.32 (at 5,120)", "–"]
    rows = by_name(reconstruction)
    assert "ODE²VAE" not in rows
    assert rows["Latent ODE"][4:7] == ["did not finish", "9.0 (at 5,120)", "≥ 469"]
    assert r"$\geq$ 469" in latex(ratios)


def test_fewer_repetitions_are_counted() -> None:
    assert lengths.outcome(measurement("generation", 310.0, iterations=1)) == "5.2 min (1 of 3)"
    few = measurement("generation", 310.0, iterations=2, batch=4)
    assert lengths.outcome(few) == "5.2 min (batch 4, 2 of 3)"


def test_machines_are_not_mixed_and_cells_not_doubled() -> None:
    one = synthetic_run_times()
    other = [r.model_copy(update={"device": "NVIDIA H100"}) for r in one]
    assert [s.slug for s in run_times.studies(one + other)] == [
        "cpu_synthetic_2_threads", "nvidia_h100_2_threads"
    ]  # fmt: skip
    with pytest.raises(UserError, match="found more of ls4 at 80 on CPU Synthetic, 2 threads"):
        run_times.studies([*one, one[0]])


def test_models_of_one_size_have_a_study_of_their_own_without_the_ratios_of_the_claim() -> None:
    own, equal = (run_time("ls4", 320, measurement("training"), size=s) for s in (None, "100k"))
    found = lengths.documents([own, equal])
    assert [len(document.tables) for document in found] == [3, 2]
    assert found[1].kind == f"{found[0].kind}_100k"
    assert "about 100k parameters" in found[1].name
    assert ["default settings" in " ".join(document.legend) for document in found] == [True, False]
    drawn = run_times.studies([own, equal])
    assert [len(dotted(growth(study).axes[0])) for study in drawn] == [1, 0]
    captions = [figure.caption for figure in figures.lengths.figures([own, equal])]
    assert ["where the paper's claim" in text for text in captions] == [True, False]
    assert "None" not in captions[1]


def dotted(ax: Axes) -> list[Line2D]:
    """Where the claim puts the baselines."""
    return [line for line in ax.lines if line.get_linestyle() == ":"]


def test_files_and_what_includes_them(tmp_path: Path) -> None:
    for record in synthetic_run_times():
        write(record, tmp_path / "runtime" / record.model / f"{record.length}.json")
    found = find_run_times(tmp_path)
    assert sorted(map(repr, found)) == sorted(map(repr, synthetic_run_times()))
    written = tables.write_lengths([tmp_path], tmp_path / "tables")
    assert [path.suffix for path in written] == [".csv", ".md", ".tex"]
    lines = pd.read_csv(written[0])
    assert len(lines) == sum(len(r.measurements) for r in found)
    late = lines.query("status == 'timeout'")
    assert late["seconds_at_least"].tolist() == [600] and late["ratio_high"].tolist() == [math.inf]
    documents = lengths.documents(found)
    assert "≥ 469" in run_times_section(documents, lambda document: document.stem)
    drawn = figures.write_lengths([tmp_path], tmp_path / "figures")
    again = figures.write_lengths([tmp_path], tmp_path / "again")
    stem = "figure3_cpu_synthetic_2_threads"
    assert [p.name for p in drawn] == [f"{stem}.pdf", f"{stem}.png", "captions.json"]
    assert [p.read_bytes() for p in drawn] == [p.read_bytes() for p in again]
    outputs.write_cells(tmp_path, [outputs.record(scores=outputs.scores(0.1, 0.6, 0.1))])
    page = tmp_path / "report.html"
    report.write([tmp_path], tmp_path / "tables", tmp_path / "figures", page)
    assert "≥ 469" in page.read_text() and "Figure 3." in page.read_text()


def test_run_times_of_several_folders_or_none(tmp_path: Path) -> None:
    for record in synthetic_run_times():
        folder = tmp_path / ("a" if record.length > 1000 else "b")
        write(record, folder / "runtime" / record.model / f"{record.length}.json")
    found = run_times.find([tmp_path / "a", tmp_path / "b"])
    assert len(found) == len(synthetic_run_times())
    assert run_times.find([tmp_path / "empty"]) == []
    with pytest.raises(UserError, match=r"empty: no runtime/<model>/<length>\.json"):
        tables.write_lengths([tmp_path / "empty"], tmp_path)


def test_relatives_of_the_compared_model_are_no_baselines() -> None:
    names = ("mine", "rnn_vae", "ls4_time", "ls4")
    (study,) = run_times.studies([run_time(name, 80, measurement("training")) for name in names])
    assert study.models == ["ls4", "ls4_time", "mine", "rnn_vae"]
    assert study.baselines == ["mine", "rnn_vae"]


def test_figure_marks_what_is_not_whole(study: Study) -> None:
    figure = growth(study)
    training, reconstruction, _, a_step, memory, legend = figure.axes
    for ax in (training, reconstruction, a_step):
        assert ax.get_xscale() == ax.get_yscale() == "log"

    def points(ax, marker: str, hollow: bool = False) -> list[tuple[float, float]]:
        lines = [line for line in ax.lines if line.get_marker() == marker]
        lines = [line for line in lines if (line.get_markerfacecolor() == "white") is hollow]
        return [point for line in lines for point in zip(*line.get_data(), strict=True)]

    # 100 iterations of 16 series, of which 30 of 4 series were measured
    assert points(training, "o")[-1] == (20480, pytest.approx(128))
    assert points(training, "o", hollow=True) == [(20480, pytest.approx(128))]
    assert points(reconstruction, "x") == [(20480, 600)]
    assert [n for n, _ in points(training, "+")] == [20480]
    (claim,) = dotted(training)
    assert list(claim.get_ydata()) == pytest.approx([50, 200, 800, 3200, 12800])
    assert points(a_step, "o")[-1][1] == pytest.approx(20.48**1.5 / 16 / 20480)
    assert points(memory, "o")[0][1] == pytest.approx(300 + 80 / 1024)
    shown = [text.get_text() for text in legend.texts]
    assert shown.count("Latent ODE") == 1 and "1.50" in shown
