"""Measure, and print the table: each line with its floor, their ratio, and what is asked for."""

from __future__ import annotations

import argparse
import re
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
    parser.add_argument("--into", type=Path, help="a page whose table is to be the one that was measured")
    wanted = parser.parse_args()
    rows: list[str] = []
    measured = True
    for name in wanted.group or GROUPS:
        with TemporaryDirectory(dir=wanted.folder) as folder:
            try:
                for line in GROUPS[name](Path(folder)):
                    rows.append(row(line))
                    print(rows[-1], flush=True)
            except CannotMeasure as error:
                print(f"{name}: not measured: {error}", file=sys.stderr)
                measured = False
    if wanted.into is not None:
        wanted.into.write_text(with_table(wanted.into.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 0 if measured else 1


def with_table(page: str, rows: list[str]) -> str:
    """`page` with `rows` in the place of the table that it has; rows that were not measured now stay as they are."""
    head, table, rest = re.split(r"(?m)(?<=^\|---\|---\|---\|---\|---\|---\|\n)((?:\|.*\n)*)", page, maxsplit=1)
    kept = {line.split("|")[1].strip(): line for line in table.splitlines()}
    kept |= {line.split("|")[1].strip(): line for line in rows}
    return f"{head}{chr(10).join(kept.values())}\n{rest}"


def row(line: Line) -> str:
    ratio = "" if line.ratio is None else f"{line.ratio:.3g}x"
    met = ("yes" if line.met else "**no**") if line.goal else ""
    return f"| {line.what} | {line.floor} | {line.ours} | {ratio} | {line.goal} | {met} |"


if __name__ == "__main__":
    sys.exit(main())
