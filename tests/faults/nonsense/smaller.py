"""Makes a case that breaks a claim small: `python -m tests.faults.nonsense.smaller store|trajectory FILE`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from app.openclaw import trajectory
from tests.faults.nonsense.store_claims import check_store
from tests.faults.nonsense.trajectory_claims import SMALL, Held, check_trajectory


def broken(check: Callable[[bytes], None], data: bytes) -> tuple[str, int | None] | None:
    """Which claim `data` breaks, by the kind of failure and the line that says so."""
    try:
        check(data)
    except Exception as error:  # noqa: BLE001  (whatever comes out is the finding)
        return type(error).__name__, traceback.extract_tb(error.__traceback__)[-1].lineno
    return None


def smaller(check: Callable[[bytes], None], data: bytes) -> bytes:
    """`data` without every piece that it can do without and still break the same claim."""
    claim = broken(check, data)
    piece = len(data) // 2
    while claim is not None and piece:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + piece :]
            if broken(check, shorter) == claim:
                data = shorter
            else:
                at += piece
        piece //= 2
    return data


def main() -> None:
    target, file = sys.argv[1], Path(sys.argv[2])
    held = Held()
    for name, size in SMALL.items():  # as the fuzzer has them
        setattr(trajectory, name, size)
    check = check_store if target == "store" else lambda data: check_trajectory(data, held)
    data = file.read_bytes()
    found = smaller(check, data)
    file.with_suffix(".small").write_bytes(found)
    print(broken(check, data), len(data), "->", len(found), found[:2000])


if __name__ == "__main__":
    main()
