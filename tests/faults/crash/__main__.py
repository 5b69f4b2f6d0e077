"""One run again: `python -m tests.faults.crash settle EIO 123 [goes-on]` (a call by its place in the recording)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.faults.crash.sweep import Bench, Point


def main(thing: str, fault: str, index: str, *rest: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place) / "bench")
        what = bench.thing(thing)
        point = Point(int(index), bench.recorded(what).calls[int(index)], fault)
        print(point)
        print(json.dumps(bench.run(what, point, goes_on="goes-on" in rest), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
