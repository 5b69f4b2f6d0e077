"""Measure, and print the table: each line with its floor, their ratio, and what is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import answers, command, disk, memory, passes, settling
from tests.bench.measure import CannotMeasure, Line

GROUPS: dict[str, Callable[[Path], Iterable[Line]]] = {
    "passes": passes.lines,
    "disk": disk.lines,
    "command": command.lines,
    "answers": answers.lines,
    "settling": settling.lines,
    "memory": memory.lines,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("group", nargs="*", choices=[*GROUPS, []], help="which; all of them where none is named")
    parser.add_argument("--folder", help="where the states are made: the disk that is meant")
    wanted = parser.parse_args()
    measured = True
    for name in wanted.group or GROUPS:
        with TemporaryDirectory(dir=wanted.folder) as folder:
            try:
                for line in GROUPS[name](Path(folder)):
                    print(row(line), flush=True)
            except CannotMeasure as error:
                print(f"{name}: not measured: {error}", file=sys.stderr)
                measured = False
    return 0 if measured else 1


def row(line: Line) -> str:
    ratio = "" if line.ratio is None else f"{line.ratio:.3g}x"
    met = ("yes" if line.met else "**no**") if line.goal else ""
    return f"| {line.what} | {line.floor} | {line.ours} | {ratio} | {line.goal} | {met} |"


if __name__ == "__main__":
    sys.exit(main())
