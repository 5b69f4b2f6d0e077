"""Who makes the runs: two workers, each with a bench of its own, and the tally of what they saw."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.crash import judge
from tests.faults.crash.sweep import AFTER_CALL, Bench, NotHit, Point
from tests.faults.crash.trace import END, KILL

_WORKERS = 2
_PARTS = 4


@dataclass(frozen=True, slots=True)
class Order:
    """All runs of one thing with one fault."""

    thing: str
    fault: str
    goes_on: bool = False
    """Whether a process that met an error goes on itself; else it ends, and another starts."""
    store_every: int = 1
    others_every: int = 1
    """Of the calls at the store's folder, and of all others, each so-many-th."""
    since: str = ""
    """Only from the first call on in whose text this stands."""

    def __str__(self) -> str:
        origin, after, _ = self.thing.partition(AFTER_CALL)
        what = f"recovery of a {origin} that was killed" if after else self.thing
        return f"{what}, {self.fault}" + (", the process goes on" if self.goes_on else "")


@dataclass(slots=True)
class Tally:
    """What the runs of an order showed."""

    scenes: int = 1
    calls: int = 0
    """System calls of the thing between the markers."""
    points: int = 0
    """Those at which the fault makes sense."""
    runs: int = 0
    untouched: int = 0
    """Runs after which every byte was as before; the start after that is judged once for all of them."""
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    states: dict[tuple[str, ...], int] = field(default_factory=dict)
    """What a crash can leave behind, and the first call at which it does."""

    def add(self, other: Tally, *, same_scene: bool) -> None:
        if same_scene:
            self.calls, self.points = other.calls, other.points
        else:
            self.scenes, self.calls, self.points = (
                self.scenes + 1,
                self.calls + other.calls,
                self.points + other.points,
            )
        self.runs += other.runs
        self.untouched += other.untouched
        self.outcomes.update(other.outcomes)
        self.violations.update(other.violations)
        self.examples = {**other.examples, **self.examples}
        for state, index in other.states.items():
            self.states[state] = min(index, self.states.get(state, index))

    def __str__(self) -> str:
        outcomes = ", ".join(f"{n} {word}" for word, n in self.outcomes.most_common())
        scenes = f"{self.scenes} scenes, " if self.scenes > 1 else ""
        wrong = sum(self.violations.values())
        return f"{scenes}{self.calls} calls, {self.runs} of {self.points} points run, {wrong} violations; {outcomes}"

    def story(self) -> str:
        """Every violation with its number and one example."""
        return "\n".join(f"{n} times: {what}\n    {self.examples[what]}" for what, n in self.violations.most_common())


class Crew:
    """Tallies are made once for every order."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self.tallies: dict[Order, Tally] = {}

    def carry_out(self, order: Order) -> Tally:
        if order not in self.tallies:
            total = Tally()
            for tally in self._pool.map(_carry_out, [order] * _PARTS, range(_PARTS)):
                total.add(tally, same_scene=True)
            self.tallies[order] = total
        return self.tallies[order]

    def table(self) -> list[str]:
        """A line for each order; the recoveries from all the states that one thing left are taken together."""
        lines: dict[str, Tally] = {}
        for order, tally in self.tallies.items():
            if str(order) in lines:
                lines[str(order)].add(tally, same_scene=False)
            else:
                lines[str(order)] = deepcopy(tally)
        return [f"{order}: {tally}" for order, tally in lines.items()]


@contextmanager
def crew(place: Path) -> Iterator[Crew]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_WORKERS, spawn, initializer=_begin, initargs=(str(place),)) as pool:
        yield Crew(pool)


_benches: list[Bench] = []
"""The bench of this worker."""


def _begin(place: str) -> None:
    _benches.append(Bench(Path(place) / str(os.getpid())))


def _carry_out(order: Order, part: int) -> Tally:
    (bench,) = _benches
    thing = bench.thing(order.thing)
    calls = bench.recorded(thing).calls
    able = [Point(i, c, order.fault) for i, c in enumerate(calls) if c.can(order.fault)]
    tally = Tally(calls=len(calls), points=len(able))
    for point in _chosen(bench, able, order)[part::_PARTS]:
        try:
            result = bench.run(thing, point, goes_on=order.goes_on)
        except NotHit:
            if point.call.inside:  # the allocator did without it this time; the disk would be as at the next call
                continue
            raise
        tally.runs += 1
        tally.untouched += result.get("untouched", False)
        tally.outcomes[_outcome(result)] += 1
        for what in result["violations"]:
            tally.violations[what] += 1
            tally.examples.setdefault(what, str(point))
        if order.fault == KILL and "found" in (result["then"] or {}):
            state = judge.signature(judge.Seen(**result["at_once"]), result["then"])
            tally.states.setdefault(state, point.index)
    return tally


def _chosen(bench: Bench, able: list[Point], order: Order) -> list[Point]:
    sessions = bench.scene.world.sessions()
    calls = bench.recorded(bench.thing(order.thing)).calls
    begin = next((i for i, c in enumerate(calls) if order.since in c.text), 0)
    able = [p for p in able if p.index >= begin]
    at_store = [p for p in able if p.call.at(sessions) or END in p.call.text]
    others = [p for p in able if p not in at_store]
    return sorted(at_store[:: order.store_every] + others[:: order.others_every], key=lambda p: p.index)


def _outcome(result: dict[str, Any]) -> str:
    said = result["said"]
    how = "killed" if said is None else said["outcome"] or said["raised"]
    return f"{how} ({result['at_once']['store']})" if "at_once" in result else str(how)
