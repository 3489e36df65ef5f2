"""Tables in pages: what is written between which markers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.present import pages
from harness.present.tables import documents
from harness.records import Record, write
from tests.present import outputs
from tests.present.lengths import synthetic_run_times

SECTIONS = ("claims", "table1", "table2", "figure3")


def written(folder: Path, cells: Sequence[Record]) -> tuple[list[Path], Path, Path]:
    """Write records and two pages whose sections are old."""
    for i, cell in enumerate(cells):
        write(cell, folder / "results" / str(i) / "record.json")
    for record in synthetic_run_times():
        name = f"{record.length}.json"
        write(record, folder / "results" / "runtime" / record.model / name)
    readme, page = folder / "README.md", folder / "docs" / "results.md"
    page.parent.mkdir()
    readme.write_text("# Top\n<!-- results:begin -->\nto replace\n<!-- results:end -->\nbelow\n")
    parts = [
        f"<!-- {name}:begin -->\nto replace {name}\n<!-- {name}:end -->\n" for name in SECTIONS
    ]
    page.write_text("# Results\n" + "between\n".join(parts) + "end\n")
    return [folder / "results"], readme, page


def sections(page: Path) -> dict[str, str]:
    text = page.read_text()
    return {
        name: text.split(f"<!-- {name}:begin -->\n")[1].split(f"\n<!-- {name}:end -->")[0]
        for name in SECTIONS
    }


def test_both_pages_are_rewritten_between_their_markers(tmp_path: Path) -> None:
    paths = written(tmp_path, outputs.solar() + outputs.physionet())
    pages.update(*paths)
    _, readme, page = paths
    once = readme.read_text(), page.read_text()
    assert once[0].startswith("# Top\n<!-- results:begin -->\n")
    assert once[0].endswith("\n<!-- results:end -->\nbelow\n")
    assert once[1].count("between\n") == 3 and once[1].endswith("end\n")
    assert "to replace" not in "".join(once)
    pages.update(*paths)
    assert (readme.read_text(), page.read_text()) == once


def test_the_page_shows_table_1_whole_and_an_overview_of_table_2(tmp_path: Path) -> None:
    paths = written(tmp_path, outputs.physionet() + outputs.solar())
    pages.update(*paths)
    found = sections(paths[2])
    assert found["table2"].count("| LS4 ") == 1 and "Solar" not in found["table2"]
    for stem in ("table2_full", "elbo_full", "hidden_full", "costs_full"):
        assert f"(../results/tables/{stem}.md)" in found["table2"]
    assert "Overview" not in found["table1"] and "0.0517 ± 0.0022 [0.0047] †" in found["table1"]
    legend = {d.kind: d.legend for d in documents(outputs.frame_of(outputs.solar()))}["table1"]
    assert all(f"* {line}" in found["table1"] for line in legend)
    assert "≥ 469" in found["figure3"]
    assert "#### Verdicts: budget full" in found["claims"]
    assert "(../results/tables/runtime_cpu_synthetic_2_threads.md)" in found["figure3"]


def test_data_that_could_not_be_had(tmp_path: Path) -> None:
    row = outputs.record(status="skipped", reason=outputs.UNAVAILABLE, data_digest="")
    paths = written(tmp_path, [row])
    pages.update(*paths)
    assert "No data set of generation could be had." in paths[1].read_text()


def test_budgets_follow_each_other(tmp_path: Path) -> None:
    rows = [
        outputs.record(budget=budget, scores=outputs.scores(value, 0.6, 0.1))
        for budget, value in (("full", 0.111), ("paper", 0.222), ("smoke", 0.333))
    ]
    paths = written(tmp_path, rows)
    pages.update(*paths)
    text = sections(paths[2])["table1"]
    assert text.index("0.111") < text.index("0.222") < text.index("0.333")


def readme_cells(readme: Path) -> list[tuple[str, ...]]:
    lines = [line.split("|")[1:-1] for line in readme.read_text().splitlines() if "|" in line]
    return [tuple(cell.strip() for cell in line) for line in lines]


def test_readme_shows_the_budget_with_the_most_models(tmp_path: Path) -> None:
    paper = [  # rows on many data sets are no more models
        outputs.record(budget="paper").model_copy(update={"dataset": name, "title": name})
        for name in ("nn5_daily", "fred_md", "temperature_rain", "heston", "sines")
    ]
    paths = written(tmp_path, outputs.solar() + outputs.flame() + paper)
    pages.update(*paths)
    cells = readme_cells(paths[1])
    scores = ("marginal ↓", "classification ↑", "prediction ↓")
    assert cells[0] == ("model", "told apart", *scores, "seeds")
    assert cells[2] == (
        "LS4", "–", "0.0517 ± 0.0022 †", "0.680 ± 0 †‡", "0.140 ± 0 †", "3/3",
    )  # fmt: skip
    assert cells[3][:3] == ("Latent ODE", "–", "timeout at step 31")
    assert cells[4][0] == "RNN-VAE" and cells[5][0] == "*controls:*"
    names = [cell[0] for cell in cells[6:]]
    assert {"*noise floor*", "*Gaussian*"} < set(names) and len(set(names)) == len(names)
    text = paths[1].read_text()
    assert "Solar Weekly, budget full: trained" in text and "† a control" in text
    assert "(docs/results.md)" in text and "* **Incomplete:** " in text


def test_of_two_budgets_with_as_many_models_readme_shows_that_of_most_training(
    tmp_path: Path,
) -> None:
    rows = [
        outputs.record(budget=budget, scores=outputs.scores(value, 0.6, 0.1))
        for budget, value in (("smoke", 0.333), ("paper", 0.222))
    ]
    paths = written(tmp_path, rows)
    pages.update(*paths)
    assert readme_cells(paths[1])[2][2:5] == ("0.244", "0.600", "0.100")


def test_readme_shows_the_data_set_with_the_most_trainings(tmp_path: Path) -> None:
    def trained(dataset: str, seed: int, told: bool) -> Record:
        scores = outputs.scores(0.2, 0.6, 0.1) | {"p_all": (0.001 if told else 0.4, None)}
        made = outputs.record(seed=seed, ended="cap", scores=scores)
        return made.model_copy(update={"dataset": dataset, "title": dataset})

    one = [trained("fred_md", 0, told=True)]
    two = [trained("nn5_daily", seed, told=seed == 1) for seed in (0, 1)]
    paths = written(tmp_path, one + two)
    pages.update(*paths)
    assert readme_cells(paths[1])[2][:2] == ("LS4ᶜ", "1/2")
    text = paths[1].read_text()
    assert "nn5_daily, budget full" in text and "ᶜ not converged" in text


def test_what_there_is_no_record_of_is_left_alone(tmp_path: Path) -> None:
    paths = written(tmp_path, outputs.physionet())
    before = paths[1].read_text()
    pages.update(*paths)
    assert paths[1].read_text() == before
    assert sections(paths[2])["table1"] == "to replace table1"
    assert "to replace" not in sections(paths[2])["table2"]


@pytest.mark.parametrize(
    "text", ["none", "<!-- table1:begin -->", "<!-- table1:end --><!-- table1:begin -->"]
)
def test_a_page_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match="table1:begin"):
        pages.update_sections(page, {"table1": "new"})
    assert page.read_text() == text
