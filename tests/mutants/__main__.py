"""The long form by hand; tests/faults/test_mutants.py is the bounded one."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.mutants.ground import Ground
from tests.mutants.modules import EVERYTHING, TRIED
from tests.mutants.mutant import mutants_of
from tests.mutants.survivors import as_entry, listed

_CHECKED_EVERY = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TRIED), metavar="MODULE")
    parser.add_argument(
        "--function", action="append", metavar="NAME", help="only those of this function; may be repeated"
    )
    parser.add_argument("--each", action="store_true", help="say of each mutant what became of it")
    parser.add_argument("--tests", action="append", help="by these alone, instead of the module's; again and again")
    parser.add_argument("--suite", action="store_true", help="try the whole suite on those that survive the module's")
    args = parser.parse_args()
    known, fresh = listed(), 0
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
        for path in args.modules:
            began, fates = time.monotonic(), Counter[str]()
            stages = (tuple(args.tests),) if args.tests else TRIED[path]
            made = mutants_of(ground.top, path)
            if args.function:
                made = {mutant: text for mutant, text in made.items() if mutant.function in args.function}
            for number, (mutant, text) in enumerate(made.items(), 1):
                fate, stage = ground.fate(path, text, stages)
                if fate == "survived" and args.suite and mutant not in known:
                    fate, _ = ground.fate_alone(path, text, (EVERYTHING,))
                fates[fate if fate == "survived" else f"{fate} by tests {stage}"] += 1
                if args.each:
                    print(f"# {number} {fate} {stage}: {mutant.function}: {mutant.now}", flush=True)
                if fate == "timeout":
                    print(f"# no end in time: {mutant}", flush=True)
                if fate == "survived" and mutant not in known:
                    fresh += 1
                    print(as_entry(mutant), flush=True)
                if number % _CHECKED_EVERY == 0 or number == len(made):
                    ground.check(stages[0])
            ground.rest()
            told = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
            print(f"# {path}: {len(made)} mutants: {told}; {time.monotonic() - began:.0f} s", flush=True)
    return 1 if fresh else 0


if __name__ == "__main__":
    sys.exit(main())
