"""The file of numbers that others printed."""

import math

from harness import catalogue
from harness.present import published
from harness.present.quantities import QUANTITIES
from harness.tasks import TABLE_OF


def test_the_file_says_where_each_number_is_from() -> None:
    names = []
    for block in published.content().values():
        assert block["paper"]
        for cells in block["cells"]:
            assert cells["certainty"] in ("primary", "secondary")
            assert cells["source"]
            quantities = {q.name for q in QUANTITIES[TABLE_OF[cells["task"]]]}
            for model, scores in cells["models"].items():
                assert set(scores) <= quantities
                assert all(math.isfinite(v) for v in scores.values())
                assert all(v > 0 for name, v in scores.items() if name != "neg_elbo")
                names += [(cells["task"], cells["dataset"], model, name) for name in scores]
        for note in block["notes"]:
            assert note["text"] and note["task"] in TABLE_OF and note["dataset"]
    assert len(set(names)) == len(names)


def test_numbers_of_several_blocks_stand_together() -> None:
    found = published.numbers("reconstruction", "physionet")["latent_ode"]
    assert found.keys() == {"mse", "neg_elbo"}
    assert (found["mse"].certainty, found["neg_elbo"].certainty) == ("secondary", "primary")
    assert published.numbers("interpolation", "physionet") == {}


def test_the_claim_is_of_a_model_that_there_is() -> None:
    claim = published.speed_claim()
    assert claim.model in catalogue.available("models")
    assert (claim.factor, claim.length) == (100, 20480)
