"""The coverage-guided fuzzer: `python -m tests.faults.nonsense.fuzz store|trajectory [libFuzzer's own options]`.

A case that breaks a claim is written to the working folder (`-artifact_prefix=` moves it). Make it small with
`python -m tests.faults.nonsense.smaller store FILE` and keep it in `found/`.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(
    include=["app.domain.json_text", "app.domain.splice", "app.openclaw.sessions_json", "app.openclaw.trajectory"]
):
    from app.domain import json_text, splice  # noqa: F401  (instrumented as it is loaded)
    from app.openclaw import sessions_json, trajectory  # noqa: F401

from tests.faults.nonsense import grown
from tests.faults.nonsense.mutations import mutated
from tests.faults.nonsense.store_claims import check_store
from tests.faults.nonsense.trajectory_claims import SMALL, Held, check_trajectory


def main() -> None:
    target = sys.argv.pop(1)
    grow = {"store": grown.store, "trajectory": grown.trajectory}[target]
    held = Held()
    if target == "trajectory":
        for name, size in SMALL.items():
            setattr(trajectory, name, size)

    def one(data: bytes) -> None:
        if target == "store":
            check_store(data)
        else:
            check_trajectory(data, held)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        kind = rng.randrange(16)
        if kind == 0 or not data:
            return grow(rng.randrange)[:max_size]
        if kind < 4:
            changed: bytes = atheris.Mutate(data, max_size)
            return changed
        return mutated(data, rng)[:max_size]

    atheris.Setup(sys.argv, one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
