"""The frame of all records."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.files import save_arrays
from harness.present import frame
from harness.run.summary import summarise
from metrics.diversity import band_ratio
from tests.present import outputs


def everything() -> list:
    return outputs.solar() + outputs.physionet() + outputs.unavailable()


def test_a_line_for_each_record_and_score(tmp_path: Path) -> None:
    cells = everything()
    lines = frame.read([outputs.write_cells(tmp_path, cells)])
    records = lines[lines["score"] != frame.BAND_RATIO]
    assert len(records) == sum(max(len(cell.scores), 1) for cell in cells)
    for cell in cells:
        folder = tmp_path / cell.task / cell.dataset / cell.model / str(cell.seed)
        own = lines[lines["folder"] == folder]
        own = own[own["score"] != frame.BAND_RATIO]
        assert own["score"].dropna().tolist() == [s.name for s in cell.scores]
        assert own["value"].dropna().tolist() == [s.value for s in cell.scores]
        assert own["status"].unique().tolist() == [cell.status]
        if not cell.scores:
            assert own[["score", "value", "spread", "n"]].isna().all(axis=None)


def test_diversity_of_older_records_is_that_of_their_samples(tmp_path: Path) -> None:
    older = outputs.record()
    newer = outputs.record(model="rnn_vae", scores=outputs.scores(0.1, 0.5, 0.1, band_ratio=0.7))
    other = outputs.record(model="sde_gan", status="failed", reason="no")
    outputs.write_cells(tmp_path, [older, newer, other])
    real, fake = np.random.default_rng(0).standard_normal((2, 30, 20, 1))
    cell = tmp_path / "generation" / "solar_weekly" / "ls4" / "0"
    save_arrays(cell / "summary.npz", summarise(real, 0.25 * fake))
    lines = frame.read([tmp_path])
    found = lines[lines["score"] == frame.BAND_RATIO].set_index("model")["value"].to_dict()
    assert found == {"ls4": pytest.approx(band_ratio(real, 0.25 * fake)), "rnn_vae": 0.7}


def test_lines_are_sorted_by_cell_whatever_the_order_of_the_records() -> None:
    cells = everything()
    lines = outputs.frame_of(random.Random(0).sample(cells, len(cells)))
    places = lines[["budget", "task", "dataset", "model", "seed"]].apply(tuple, axis=1).tolist()
    assert places == sorted(places)
    again = outputs.frame_of(cells)
    pd.testing.assert_frame_equal(lines.drop(columns="folder"), again.drop(columns="folder"))


def test_types() -> None:
    lines = outputs.frame_of(everything())
    for column in ("seed", "n_test", "draws", "peak_memory_bytes", "n", "planned_steps"):
        assert lines[column].dtype == "Int64", column
    for column in ("value", "spread", "train_seconds", "epoch_seconds"):
        assert lines[column].dtype == float, column
    for column in ("control", "union_grid"):
        assert lines[column].dtype == bool, column
    assert lines.loc[lines["task"] == "generation", "draws"].isna().all()


def test_what_is_not_finite_is_missing_and_keeps_its_line() -> None:
    lines = outputs.frame_of([outputs.record(scores={"marginal_robust": (None, None)})])
    assert lines["score"].tolist() == ["marginal_robust"] and lines["value"].isna().all()


def test_mappings_are_equal_texts_if_they_are_equal() -> None:
    protocol = {"hidden": 0.5, "cut": "time"}
    cells = [
        outputs.predicted("interpolation", seed=0, protocol=protocol),
        outputs.predicted("interpolation", seed=1, protocol=dict(reversed(protocol.items()))),
    ]
    (text,) = outputs.frame_of(cells)["protocol"].unique()
    assert json.loads(text) == protocol


def test_fields_from_settings() -> None:
    settings = {"class": "toy:Toy", "variant_of": "ls4"}
    settings |= {"training": {"steps": 40, "batch_size": 16, "grid": "union"}}
    cells = [outputs.record(settings=settings, steps=20), outputs.record(model="gaussian")]
    control, variant = (line for _, line in outputs.frame_of(cells).iterrows())
    assert (variant["variant_of"], variant["union_grid"], variant["planned_steps"]) == (
        "ls4", True, 40
    )  # fmt: skip
    assert variant["epoch_seconds"] == 61.5 / 20 * 6  # 95 training series in batches of 16
    assert not control["union_grid"] and pd.isna(control["variant_of"])
    assert pd.isna(control["planned_steps"]) and pd.isna(control["epoch_seconds"])


def test_without_scores_there_is_a_line_for_each_record() -> None:
    cells = everything()
    lines = frame.without_scores(outputs.frame_of(cells))
    assert len(lines) == len(cells)
    assert not {"score", "value", "spread", "n"} & {*lines.columns}


def test_records_of_several_folders_are_one_frame(tmp_path: Path) -> None:
    solar, flame = outputs.solar(), outputs.flame()
    outputs.write_cells(tmp_path / "a", solar)
    outputs.write_cells(tmp_path / "b", flame)
    lines = frame.read([tmp_path / "a", tmp_path / "b"])
    assert lines["dataset"].unique().tolist() == ["flame", "solar_weekly"]
    assert len(frame.without_scores(lines)) == len(solar) + len(flame)
