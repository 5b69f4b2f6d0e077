"""Ours and its floor by turns, medians, and their ratio: what a busy machine does to one, it does to the other."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import gettempdir

Seconds = float
Measured = Callable[[], Seconds]
"""Does the work once, and gives the seconds that it took."""
PerSecond = Callable[[], float]
"""Does the work for a while, and gives how often it was done in a second."""


class CannotMeasure(RuntimeError):
    """Something that this measurement needs is not there."""


@dataclass(frozen=True)
class Line:
    """One line of the table. `ours` and `floor` as they are shown, with their units; no `goal` where none was set."""

    what: str
    floor: str
    ours: str
    ratio: float | None
    goal: str
    met: bool


def against(what: str, ours: Measured, floor: Measured, *, most: float, rounds: int, of: str) -> Line:
    """`ours` at most `most` times `floor` (named by `of`), each measured `rounds` times, one behind the other."""
    mine, base = by_turns(ours, floor, rounds)
    ratio = mine / base
    return Line(what, f"{of}: {spoken(base)}", spoken(mine), ratio, f"<= {most:g}x", ratio <= most)


def at_least(what: str, ours: PerSecond, floor: PerSecond, *, least: float, rounds: int, of: str) -> Line:
    """`ours` at least `least` times as often as `floor` (named by `of`), as `against` has it."""
    mine, base = by_turns(ours, floor, rounds)
    ratio = mine / base
    return Line(what, f"{of}: {base:,.0f}/s", f"{mine:,.0f}/s", ratio, f">= {least:g}x", ratio >= least)


def by_turns(ours: Callable[[], float], floor: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The median of each, measured one behind the other; the first time of each is not counted."""
    mine, base = [], []
    ours()
    floor()
    for _ in range(rounds):
        base.append(floor())
        mine.append(ours())
    return statistics.median(mine), statistics.median(base)


def timed(work: Callable[[], object]) -> Measured:
    def once() -> Seconds:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return once


def floor(kind: str, *words: str | Path | int, names: list[tuple[str, str]] | None = None, rounds: int = 5) -> Measured:
    """One of tests/bench/floors.c; the median of `rounds` in one process."""
    given = "".join(f"{folder}\t{name}\n" for folder, name in names or ())
    command = [str(_compiled()), kind, str(rounds), *map(str, words)]

    def once() -> Seconds:
        said = subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout
        return statistics.median(int(line) for line in said.split()) / 1e9

    return once


@cache
def _compiled() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotMeasure("the floors are written in C: apt-get install gcc libc6-dev")
    source = Path(__file__).with_name("floors.c")
    made = Path(gettempdir()) / f"clawmend-floors-{os.getpid()}"
    subprocess.run([compiler, "-O2", "-o", str(made), str(source)], check=True)
    return made


def spoken(seconds: Seconds) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
