"""Which model is best by a robust score, and which are not clearly worse."""

from pathlib import Path

import numpy as np
import pytest

from datasets.files import save_arrays
from harness.present import frame
from harness.present.best import Best, best, leading
from harness.present.comparison import Comparison, comparisons
from harness.records import ERRORS
from metrics.paired import CHANCE, FEWEST
from tests.present import outputs

BASE = np.linspace(1.0, 2.0, 20)


def compared(folder: Path, errors: dict[str, np.ndarray | None], **changes: object) -> Comparison:
    """Models with errors of single series, whose robust prediction score is their mean."""
    rows = [
        outputs.record(
            model=model,
            scores=outputs.scores(0.1, 0.5, 9.0 if own is None else float(own.mean())),
            **changes,
        )
        for model, own in errors.items()
    ]
    outputs.write_cells(folder, rows)
    for model, own in errors.items():
        if own is not None:
            where = folder / "generation" / "solar_weekly" / model / "0"
            save_arrays(where / ERRORS, {"prediction": own[None]})
    (found,) = comparisons(frame.read([folder]))
    return found


def test_a_row_is_tied_unless_the_best_is_ahead_of_it(tmp_path: Path) -> None:
    noise = np.where(np.arange(20) % 2, 1.0, -0.8)
    errors = {"ls4": BASE, "rnn_vae": BASE + noise, "latent_ode": BASE + 1}
    c = compared(tmp_path, errors)
    found = best(c, "prediction")
    assert found == Best(("ls4",), ("rnn_vae",))
    assert found.text == "best: LS4; no clear difference from it: RNN-VAE"
    assert leading(c, "prediction") == ["ls4", "rnn_vae"]


def test_nothing_is_tied_where_the_best_is_ahead_of_all(tmp_path: Path) -> None:
    c = compared(tmp_path, {"ls4": BASE, "rnn_vae": BASE + 1})
    found = best(c, "prediction")
    assert found == Best(("ls4",), ()) and found.text.endswith("ahead of every other in every seed")


def test_without_errors_of_single_series_nothing_is_known(tmp_path: Path) -> None:
    c = compared(tmp_path, {"ls4": BASE, "rnn_vae": None})
    found = best(c, "prediction")
    assert found == Best(("ls4",), None) and "not known" in found.text
    assert leading(c, "prediction") == []


def test_controls_and_a_single_model_do_not_compete(tmp_path: Path) -> None:
    c = compared(tmp_path, {"ls4": BASE, "memoriser": BASE - 0.5})
    assert best(c, "prediction") is None and leading(c, "prediction") == []


def test_a_variant_does_not_compete(tmp_path: Path) -> None:
    c = compared(tmp_path, {"ls4": BASE + 1, "rnn_vae": BASE + 2, "ls4_paper": BASE})
    is_variant = c.lines["model"] == "ls4_paper"
    c = Comparison(c.lines.assign(variant_of=c.lines["variant_of"].mask(is_variant, "ls4")))
    found = best(c, "prediction")
    assert found is not None and found.first == ("ls4",)
    assert leading(c, "prediction") == []  # a table of variants


def test_classifiers_at_their_limit_are_equally_good() -> None:
    rows = [
        outputs.record(model=model, scores=outputs.scores(0.1, value, 0.1))
        for model, value in (("ls4", 0.70), ("rnn_vae", 0.75), ("latent_ode", 0.6))
    ]
    (c,) = comparisons(outputs.frame_of(rows))
    found = best(c, "classification")
    assert found is not None and found.first == ("ls4", "rnn_vae") and found.limit == CHANCE
    assert found.text.startswith("at the limit of this score, 0.693, so alike: LS4; RNN-VAE;")


def test_nothing_is_bold_where_groups_are_too_few_for_a_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = next(c for c in comparisons(outputs.frame_of(outputs.physionet())))
    monkeypatch.setattr(Comparison, "groups", FEWEST - 1)
    assert leading(c, "mse") == []
