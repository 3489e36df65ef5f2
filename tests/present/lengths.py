"""Synthetic run times for the tests of figure 3; no number is a result."""

from typing import Any

from harness.measurements import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from tests.present.outputs import record

LIMIT = 600.0  # seconds of a measurement
LENGTHS = (80, 320, 1280, 5120, 20480)


def measurement(
    kind: Kind, seconds: float | None = 1.0, memory: int = 2**20, **changes: Any
) -> Measurement:
    """Make a measurement of run time that took so long, and so much above its base."""
    base = 300 * 2**20
    done = seconds is not None
    fields: dict[str, Any] = {
        "name": kind,
        "task": "reconstruction" if kind == "reconstruction" else "generation",
        "status": "done",
        "reason": None,
        "batch": BATCHES[0],
        "wanted": ITERATIONS[kind],
        "warm_up": 1,
        "iterations": ITERATIONS[kind] if done else 0,
        "seconds": seconds,
        "quartiles": (0.9 * seconds, 1.1 * seconds) if done else None,
        "base_memory_bytes": base,
        "peak_memory_bytes": base + memory if done else None,
    }
    return Measurement(**(fields | changes))


def run_time(model: str, length: int, *found: Measurement, **changes: Any) -> RunTime:
    """Make a record of run times."""
    failed = [m for m in found if m.status != "done"]
    fields: dict[str, Any] = {
        "model": model,
        "length": length,
        "channels": 1,
        "limit_seconds": LIMIT,
        "config_hash": "c" * 64,
        "code_hash": "d" * 64,
        "status": failed[0].status if failed else "done",
        "reason": failed[0].reason if failed else None,
        "measurements": list(found),
        "settings": {"class": f"toy.{model}:Toy", "config": {}},
        "parameters": 12345,
        **{k: getattr(record(), k) for k in ("commit", "dirty", "versions", "device", "threads")},
        "date": "2026-01-02T03:04:05+00:00",
    }
    return RunTime(**(fields | changes))


def synthetic_run_times() -> list[RunTime]:
    """Power laws of the length: LS4, one that is slower, one that neither ends nor fits, CRU.

    At 20,480 LS4 takes 0.32 s to train on 4 series once; Latent ODE trains 3 times as long for
    each, does not answer within the limit, and generates in a hundredth of the time; ODE2VAE
    generates, but one that long does not fit.
    """
    kinds: tuple[Kind, ...] = ("training", "reconstruction", "generation")
    found = []
    for length in LENGTHS:
        unit, longest = length / 16000, length == LENGTHS[-1]
        size = {"memory": 1024 * length}
        less = {"batch": 4, "memory": 256 * length} if longest else size
        few = {"iterations": 30, "reason": "30 of 100 iterations in 600 s"} if longest else {}
        ls4 = [unit, unit, (length / 1000) ** 1.5]
        part = 4 if longest else 1
        ls4 = [
            measurement(kind, seconds / part, **less, **(few if kind == "training" else {}))
            for kind, seconds in zip(kinds, ls4, strict=True)
        ]
        found.append(run_time("ls4", length, *ls4))
        late = {"status": "timeout", "reason": "no iteration in 600 s"} if longest else {}
        ode = [
            measurement("training", 3 * unit, **size),
            measurement("reconstruction", None if longest else 9 * unit, **late),
            measurement("generation", 4 * (length / 1000) ** 1.5 / 400),
        ]
        found.append(run_time("latent_ode", length, *ode))
        lost = {"status": "oom", "reason": "can't allocate memory"} if longest else {}
        ode2vae = [
            measurement(kind, None if longest else unit**2, **size, **lost)
            for kind in ("training", "generation")
        ]
        found.append(run_time("ode2vae", length, *ode2vae))
        if length < 5120:
            cru = [measurement(kind, 20 * unit, **size) for kind in kinds[:2]]
            found.append(run_time("cru", length, *cru))
    return found
