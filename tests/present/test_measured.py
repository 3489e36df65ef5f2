"""Tables of what models cost and how fast LS4's engine is; the pages show the committed records."""

from pydantic import RootModel

from harness.catalogue import ROOT
from harness.checks import check_json
from harness.measurements import Cost, Engine, Machine, Speed
from harness.present.tables import costs, engine

REFERENCE = ROOT / "results" / "reference"
CIRCUMSTANCES = {
    "device": "CPU Synthetic", "threads": 2, "versions": {"torch": "2.13.0"},
    "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789",
}  # fmt: skip


def cost(model: str, **changes) -> Cost:
    fields = {
        "task": "generation", "batch": 4, "length": 8, "channels": 1, "parameters": 2000,
        "step_seconds": 0.5, "step_quartiles": (0.4, 0.8), "steps": 5, "train_peak_bytes": 2**29,
        "sample_seconds": 3.0, "circumstances": CIRCUMSTANCES,
    }  # fmt: skip
    return Cost(model, **(fields | changes))


def test_costs() -> None:
    text = costs.markdown([cost("ls4"), cost("rnn_vae", step_seconds=0.1, sample_seconds=None)])
    assert text.index("RNN-VAE") < text.index("LS4")  # the faster one first
    assert "2,000" in text and "2.0 (1.2 to 2.5)" in text and "512 MiB" in text
    assert "CPU Synthetic, 2 threads, torch 2.13.0, 2026-01-02, commit 0123456" in text
    assert "at most 5 steps" in text


def test_costs_of_two_sizes_are_two_tables() -> None:
    other = cost("rnn", task="reconstruction", sample_seconds=None, channels=2)
    text = costs.markdown([cost("ls4"), other])
    generation, reconstruction = text.split("**Reconstruction, ")
    assert generation.startswith("**Generation, 4 series of length 8, 1 channel**")
    assert "samples" in generation and "samples" not in reconstruction


def test_engine() -> None:
    speed = Speed("training step", 64, 20480, 8.0, (7.5, 8.25), 5, 2**30, 3e11, 1e9, 2.0)
    where = CIRCUMSTANCES | {"threads": 1}
    text = engine.markdown(Engine(Machine(1.5e11, 2e10), [speed], where))
    assert "| training step | 64      | 20,480   | 8.0 s (7.5 s to 8.2 s) | 1,024 MiB" in text
    assert "| 2.0 s   | 25 %" in text
    assert "150 GFLOP/s" in text and "1 thread, torch 2.13.0, 2026-01-02, commit 0123456" in text


def test_the_pages_show_the_committed_records() -> None:
    found = check_json(RootModel[list[Cost]], REFERENCE / "costs_cpu.json", "costs").root
    text = costs.markdown(found)
    assert text in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    text = engine.markdown(check_json(Engine, REFERENCE / "engine_cpu.json", "speeds"))
    assert text in (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
