"""The paper's claims: each rule gives each verdict, and says what is in the way of one."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from datasets.files import save_arrays
from harness import catalogue
from harness.errors import UserError
from harness.present import claims, frame, published
from harness.present.claims import Finding, Order
from harness.present.paired import ERRORS
from harness.present.run_times import studies
from harness.present.tables import claims as table
from harness.present.tables.table import write_documents
from harness.records import Record
from tests.present import outputs
from tests.present.lengths import measurement, run_time, synthetic_run_times

N = 24
BASE = np.linspace(1.0, 2.0, N)
NOISE = np.tile([1.0, -1.0], N // 2)
RIVALS = ("rnn", "gru_d", "rnn_vae", "ode_rnn", "latent_ode", "cru")
Cell = tuple[Record, np.ndarray | None]


def judge(folder: Path, cells: Sequence[Cell], name: str = "squared") -> dict[str, Finding]:
    """Judge claims by cells whose single records have these errors, by the claim's id."""
    outputs.write_cells(folder, [record for record, _ in cells])
    for cell, errors in cells:
        if errors is None:
            continue
        arrays = {"prediction": errors[None]}
        if cell.task != "generation":
            index = np.arange(N)
            arrays = {"record": index, "group": index, "count": np.full(N, 3)}
            arrays |= {"squared": np.ones(N), "crps": np.ones(N), name: errors}
        save_arrays(
            folder / cell.task / cell.dataset / cell.model / str(cell.seed) / ERRORS, arrays
        )
    found = table.judged(frame.read([folder]), [])["budget full"]
    return {f.claim: f for f in found if f.because != claims.NO_RECORD}


def predicted(model: str, errors: np.ndarray | None, seed: int = 0) -> Cell:
    return outputs.predicted("interpolation", model=model, seed=seed), errors


def with_rivals(errors: np.ndarray | None, **other: np.ndarray | None) -> list[Cell]:
    return [predicted(name, other.get(name, errors)) for name in RIVALS]


@pytest.mark.parametrize(
    ("cells", "verdict", "because"),
    [
        (with_rivals(BASE + 0.2), claims.REPRODUCED, "ahead of all 6 rows"),
        (
            with_rivals(BASE + 0.2, cru=BASE - 0.2),
            claims.NOT_REPRODUCED,
            "behind CRU; ahead of RNN, GRU-D, RNN-VAE, ODE-RNN, Latent ODE",
        ),
        (
            with_rivals(BASE + 0.2, cru=BASE + 0.01 + 0.5 * NOISE),
            claims.UNDECIDED,
            "ahead of RNN, GRU-D, RNN-VAE, ODE-RNN, Latent ODE; no difference seen from CRU",
        ),
        (
            with_rivals(BASE + 0.2)[:-1],
            claims.INCOMPLETE,
            "ahead of RNN, GRU-D, RNN-VAE, ODE-RNN, Latent ODE; no record: CRU",
        ),
        (with_rivals(BASE - 0.2)[:-1], claims.NOT_REPRODUCED, None),
        (
            with_rivals(None),
            claims.UNDECIDED,
            "no errors of single series or records kept: all 6 rows",
        ),
    ],
)
def test_ahead(tmp_path: Path, cells: list[Cell], verdict: str, because: str | None) -> None:
    found = judge(tmp_path, [predicted("ls4", BASE), *cells])["hidden_values"]
    assert found.verdict == verdict and found.seeds == "1/1"
    assert because in (None, found.because)
    assert found.of == "PhysioNet 2012, interpolation" and found.score == "MSE"


@pytest.mark.parametrize(
    ("rivals", "verdict"),
    [
        ((BASE - 0.2, BASE - 0.2), claims.REPRODUCED),
        ((BASE - 0.2, BASE + 0.2), claims.NOT_REPRODUCED),
        ((BASE - 0.2, BASE + 0.01 + 0.5 * NOISE), claims.UNDECIDED),
    ],
)
def test_behind(tmp_path: Path, rivals: tuple[np.ndarray, np.ndarray], verdict: str) -> None:
    cells = [
        (outputs.predicted("extrapolation", model=model), errors)
        for model, errors in zip(("ls4", "ode_rnn", "latent_ode"), (BASE, *rivals), strict=True)
    ]
    assert judge(tmp_path, cells)["extrapolation_physionet"].verdict == verdict


def test_each_seed_must_say_so(tmp_path: Path) -> None:
    ls4 = [predicted("ls4", BASE), predicted("ls4", BASE + 0.4, seed=1)]
    found = judge(tmp_path, [*ls4, *with_rivals(BASE + 0.2)])["hidden_values"]
    assert found.verdict == claims.UNDECIDED and found.seeds == "2/2"


def test_what_failed_or_did_not_converge_is_said(tmp_path: Path) -> None:
    failed = outputs.predicted(
        "interpolation", seed=1, mse=None, status="diverged", reason="step 12: loss nan"
    )
    rivals = with_rivals(BASE + 0.2)
    rivals[0] = (rivals[0][0].model_copy(update={"ended": "cap"}), rivals[0][1])
    found = judge(tmp_path, [predicted("ls4", BASE), (failed, None), *rivals])["hidden_values"]
    assert found.verdict == claims.UNDECIDED and found.seeds == "1/2"
    assert found.remarks == (
        "LS4: diverged at step 12 (seeds: 1 of 2)",
        "RNN: met its cap, not converged (seeds: 1 of 1)",
    )
    only = judge(tmp_path / "failed", [(failed, None), *rivals])["hidden_values"]
    assert (only.verdict, only.because) == (claims.UNDECIDED, "LS4: diverged at step 12")
    fewer = judge(tmp_path / "fewer", [(failed, None), *rivals[1:]])["hidden_values"]
    assert fewer.verdict == claims.INCOMPLETE


def test_caveats_are_those_of_the_rows_that_the_verdict_follows_from(tmp_path: Path) -> None:
    def capped(cell: Cell) -> Cell:
        return cell[0].model_copy(update={"ended": "cap"}), cell[1]

    ls4 = predicted("ls4", BASE)
    *rest, cru = with_rivals(BASE + 0.2, cru=BASE - 0.2)
    found = judge(tmp_path / "a", [ls4, *map(capped, rest), cru])["hidden_values"]
    assert found.verdict == claims.NOT_REPRODUCED and found.caveats == ("one seed",)
    found = judge(tmp_path / "b", [capped(ls4), *rest, capped(cru)])["hidden_values"]
    assert found.caveats == ("one seed", "not converged: LS4, CRU")
    twice = [predicted(name, BASE + 0.2, seed) for name in RIVALS for seed in (0, 1)]
    found = judge(tmp_path / "c", [ls4, predicted("ls4", BASE, 1), *twice])["hidden_values"]
    assert found.verdict == claims.REPRODUCED and found.caveats == ()
    found = judge(tmp_path / "d", [ls4, *twice])["hidden_values"]  # one row of one seed is enough
    assert found.verdict == claims.REPRODUCED and found.caveats == ("one seed",)


def bounds(sigma: float, own: np.ndarray) -> list[Cell]:
    """The negative ELBOs of LS4, which are `own`, and of its rivals, which have another sigma."""
    cells: list[Cell] = [(outputs.predicted("extrapolation", bound=-300.0), own)]
    for name in ("rnn_vae", "latent_ode"):
        made = outputs.predicted("extrapolation", model=name, bound=-200.0)
        scores = [
            s.model_copy(update={"value": sigma}) if s.name == claims.SIGMA else s
            for s in made.scores
        ]
        cells.append((made.model_copy(update={"scores": scores}), BASE))
    return cells


@pytest.mark.parametrize(
    ("sigma", "own", "verdict", "because"),
    [
        (0.05, BASE - 0.2, claims.REPRODUCED, "ahead of"),
        (0.05, BASE + 0.2, claims.NOT_REPRODUCED, "behind"),
        (0.05, BASE - 0.01 + 0.5 * NOISE, claims.UNDECIDED, "no difference seen from"),
        (0.1, BASE - 0.2, claims.UNDECIDED, "another sigma:"),
    ],
)
def test_bounds_are_compared_record_by_record(
    tmp_path: Path, sigma: float, own: np.ndarray, verdict: str, because: str
) -> None:
    found = judge(tmp_path, bounds(sigma, own), "neg_elbo")["bound"]
    assert (found.verdict, found.because) == (verdict, f"{because} RNN-VAE, Latent ODE")


def test_what_a_score_sees_is_measured(tmp_path: Path) -> None:
    def generated(model: str, errors: np.ndarray) -> tuple[Record, np.ndarray]:
        return outputs.record(model=model, scores={"prediction_robust": (1.0, None)}), errors

    cells = [
        generated("ls4", BASE),
        generated("noise_floor", BASE),
        generated("white_noise", BASE + 1),
        generated("gaussian", BASE + 0.01 + 0.5 * NOISE),
    ]
    found = judge(tmp_path, cells)["generation"]
    assert found.score == "prediction" and found.sees == ("white noise",)


def test_run_times() -> None:
    (study,) = studies(synthetic_run_times())
    found = {(f.claim, f.of, f.score): f for f in claims.of_run_times(study)}
    training = found["run_time", "training at length 20,480", "time"]
    assert training.verdict == claims.NOT_REPRODUCED  # Latent ODE takes 3 times as long
    assert training.because == "times as long as LS4's: Latent ODE 3.0"
    assert training.remarks == ("no time of RNN-VAE, ODE²VAE, SDE-GAN, SaShiMi, CRU",)
    answering = found["run_time", "reconstruction at length 20,480", "time"]
    assert answering.verdict == claims.INCOMPLETE and "≥ 469" in answering.because
    for of in ("time", "memory"):
        law = found["proposition_4_2", "exponent of training", of]
        assert law.verdict == claims.REPRODUCED and law.because == (
            "LS4 1.00 (1,280 to 20,480); the rule allows 0 to 1.2"
        )
    # ODE²VAE's time is quadratic
    assert (
        found["linear_baselines", "exponent of training", "time"].verdict == claims.NOT_REPRODUCED
    )


@pytest.mark.parametrize(
    ("kind", "factor", "verdict"),
    [
        ("training", 2, claims.REPRODUCED),  # Latent ODE takes 3 times as long
        ("training", 4, claims.NOT_REPRODUCED),
        ("reconstruction", 400, claims.REPRODUCED),  # 469 times as long, or more
        ("reconstruction", 500, claims.UNDECIDED),
    ],
)
def test_faster_by_a_factor(
    monkeypatch: pytest.MonkeyPatch, kind: str, factor: int, verdict: str
) -> None:
    said = dataclasses.replace(published.speed_claim(), factor=factor)
    (claim,) = (c for c in claims.claims() if isinstance(c, claims.Faster))
    claim = claim.model_copy(update={"rows": ["latent_ode"], "measurements": [kind]})
    monkeypatch.setattr(published, "speed_claim", lambda: said)
    monkeypatch.setattr(claims, "claims", lambda: (claim,))
    (study,) = studies(synthetic_run_times())
    (found,) = claims.of_run_times(study)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("row", "status", "because", "verdict"),
    [
        ("rnn_vae", "timeout", "no measurement is done", claims.UNDECIDED),
        ("rnn_vae", None, "no record", claims.INCOMPLETE),
        ("gru_d", "done", "no row has this task", claims.UNDECIDED),
    ],
)
def test_a_claim_of_rows_without_a_time(
    monkeypatch: pytest.MonkeyPatch, row: str, status: str | None, because: str, verdict: str
) -> None:
    wanted = [
        claim.model_copy(update={"rows": [row], "measurements": ["training"]})
        for claim in claims.claims()
        if isinstance(claim, claims.Faster | claims.Exponent)
    ]
    monkeypatch.setattr(claims, "claims", lambda: tuple(wanted))
    records = [record for record in synthetic_run_times() if record.model == "ls4"]
    if status == "timeout":
        records.append(run_time(row, 1280, measurement("training", None, status=status)))
    elif status:
        records.append(run_time(row, 1280, measurement("generation")))
    (study,) = studies(records)
    found = claims.of_run_times(study)
    assert {type(claim) for claim in wanted} == {claims.Faster, claims.Exponent}
    assert {(f.because, f.verdict) for f in found} == {(because, verdict)}


def test_models_of_equal_size_are_not_judged() -> None:
    equal = [record.model_copy(update={"size": "100k"}) for record in synthetic_run_times()]
    records = outputs.frame_of(outputs.solar())
    assert len(table.judged(records, studies(equal))) == 2  # the budget, and no measurement
    both = table.judged(records, studies(synthetic_run_times() + equal))
    assert both == table.judged(records, studies(synthetic_run_times()))


def test_the_file_names_every_published_row() -> None:
    known = [claim for claim in claims.claims() if isinstance(claim, Order)]
    for claim in known:
        if claim.rule == "behind":  # names the rows of which the paper says so
            continue
        for task in claim.tasks:
            for dataset in claim.datasets:
                numbers = published.numbers(task, dataset)
                rows = {m for m, of in numbers.items() if set(of) & set(claim.quantities)}
                assert rows <= {claim.model, *claim.rows}, (claim.id, task, dataset)
    judged = {(task, name) for claim in known for task in claim.tasks for name in claim.datasets}
    shown = {
        (cell["task"], cell["dataset"])
        for block in published.content().values()
        for cell in block["cells"]
    }
    assert shown <= judged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ["rnn_vea"]}, "unknown model 'rnn_vea'"),
        ({"datasets": ["fredmd"]}, "unknown dataset 'fredmd'"),
        ({"quantities": ["mse"]}, "expected quantities of generation, found mse"),
        ({"rule": "best"}, "rule"),
        ({"powre": "high"}, "powre"),
    ],
)
def test_a_wrong_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict, message: str
) -> None:
    content = catalogue.read_yaml(claims.FILE)
    content["claims"][0] |= change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(claims, "FILE", path)
    with pytest.raises(UserError, match=message):
        claims.claims.__wrapped__()


def test_the_table_and_its_summary() -> None:
    runs = studies(synthetic_run_times())
    records = outputs.frame_of(outputs.solar() + outputs.unavailable())
    document = table.document(records, runs)
    assert [t.title.split(",")[0] for t in document.tables] == [
        "The claims",
        "Verdicts: budget full",
        "Verdicts: CPU Synthetic",
        "Verdicts: no measurement",
    ]
    verdicts = document.tables[1]
    assert set(verdicts.cells["verdict"]) == {claims.INCOMPLETE}
    assert outputs.UNAVAILABLE in set(verdicts.cells["because"])
    assert any(note.startswith("Without a record: FRED-MD") for note in verdicts.notes)
    assert len(document.frame) == len(
        document.frame.drop_duplicates(["measured", "claim", "of", "score"])
    )


def test_the_summary_names_each_claim_under_its_verdict() -> None:
    runs = studies(synthetic_run_times())
    records = outputs.frame_of(outputs.solar() + outputs.unavailable())
    _, _, *lines = table.summary(records, runs, "docs/results.md").splitlines()
    reproduced, refuted, incomplete, unscored = lines
    where = "CPU Synthetic, 2 threads"
    assert reproduced.startswith(f"* **Reproduced, {where}:** LS4 trains in time")
    assert refuted.startswith(f"* **Not reproduced, {where}:** ") and "cases contradict" in refuted
    assert incomplete.startswith("* **Incomplete:** LS4 generates FRED-MD")
    assert unscored.startswith("* **No score:** LS4's error")
    for claim in claims.claims():
        assert sum(claim.says in line for line in lines) == 1


def test_a_claim_holds_as_a_whole_only_where_each_case_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = claims.claims()[0]

    def line(*cases: tuple[claims.Verdict, tuple[str, ...]]) -> str:
        found = [
            claims.Finding(
                one.id,
                f"set {k}",
                "marginal",
                verdict,
                claims.NO_RECORD if verdict == claims.INCOMPLETE else "",
                caveats=caveats,
            )
            for k, (verdict, caveats) in enumerate(cases)
        ]
        monkeypatch.setattr(table, "judged", lambda *_: {"budget full": found})
        lines = table.summary(outputs.frame_of(outputs.solar()), [], "page").splitlines()
        return next(text for text in lines[1:] if one.says in text)

    holds, fails = (claims.REPRODUCED, ("one seed",)), (claims.NOT_REPRODUCED, ("one seed",))
    assert line(holds, holds) == f"* **Reproduced, budget full:** {one.says} (one seed)."
    assert line(holds, (claims.UNDECIDED, ())).startswith("* **Undecided:**")
    assert line((claims.UNDECIDED, ()), (claims.INCOMPLETE, ())).startswith("* **Incomplete:**")
    refuted = line(holds, fails, (claims.INCOMPLETE, ()))
    assert refuted.startswith("* **Not reproduced, budget full:**")
    assert refuted.endswith("(1 of 3 cases contradict this, 1 without a record; one seed).")
    # one case without caveats is enough
    assert line(fails, (claims.NOT_REPRODUCED, ())).endswith("(2 of 2 cases contradict this).")


def test_a_budget_of_which_no_claim_speaks(tmp_path: Path) -> None:
    document = table.document(
        outputs.frame_of([outputs.predicted("interpolation", "ushcn_maine")]), []
    )
    assert document.tables[1].cells.empty and document.tables[1].notes
    (csv, page, tex) = write_documents([document], tmp_path)
    assert "| claim" in page.read_text().split("Verdicts: budget full")[1]
    assert csv.name == "claims.csv" and r"\bottomrule" in tex.read_text()
