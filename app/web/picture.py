"""One session's evidence as a picture in time: where everything stands on a line from 0 to 1. Pure.

Time is not to scale: an attempt may take a tenth of a second, and the silence after it a day. The order is kept, and
what took longer is drawn no shorter; each moment has a number, and its exact time is told beside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from app.domain.model import RUNNING, Event, Evidence, Trail, Verdict
from app.web.words import span

MOST_ATTEMPTS = 3
"""As many of the newest attempts are drawn of each trajectory."""
_MOST_TRAILS = 3
_WIDE_ENOUGH = 0.13
"""A pause is labelled where this part of the line is free for its words."""

Kind = Literal["row", "attempt", "open", "window", "gateway"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point on the line. `at` is epoch ms, `after` seconds since the moment before it."""

    number: int
    at: int
    what: str
    x: float
    after: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """From `x` over `width`. `open`: it has no end yet."""

    kind: Kind
    x: float
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of a trajectory."""

    x: float
    label: str
    last: bool
    """The last word of its trajectory."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of the picture, with its name."""

    name: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """How long it is from one moment to the next, said in the middle between them."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    lanes: tuple[Lane, ...]
    moments: tuple[Moment, ...]
    pauses: tuple[Pause, ...]
    now: float
    said: str
    """All of it in a sentence, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    start: int
    end: int | None
    begun: bool
    """Its `session.started` is there; else its first words are further back than the tail that was read."""
    how: str | None = None
    """How it ended, where that is known."""


def draw(evidence: Evidence, verdict: Verdict, due: int | None, now: int) -> Picture:
    """The picture at `now`; `due`: when the scheduler may settle it, None where it will not (both epoch ms)."""
    row = evidence.row
    trails = sorted((t for t in evidence.trails if t.events), key=_last_ts)[-_MOST_TRAILS:]
    attempts = [(t, _attempts(t)[-MOST_ATTEMPTS:]) for t in trails]
    line = _Line(
        [
            *_of_row(evidence),
            *(m for _, each in attempts for a in each for m in _of_attempt(a)),
            *_last_words(attempts),
            *([(evidence.gateway.since, "the gateway that runs now was started")] if _restarted(evidence) else []),
            *([(due, "its window is over")] if due is not None else []),
            (now, "now"),
        ]
    )
    end = verdict.settlement.ended_at if verdict.settlement else None
    lanes = [Lane("row", _row_bar(evidence, line, now))] if row.started_at is not None else []
    lanes += [_trail_lane(trail, each, line, now) for trail, each in attempts]
    if due is not None and end is not None:
        lanes.append(Lane("window", (_bar(line, "window", end, due, "the gateway may still settle it itself"),)))
    if evidence.gateway.state == "running" and evidence.gateway.since is not None:
        since = max(evidence.gateway.since, line.first)
        lanes.append(Lane("gateway", (_bar(line, "gateway", since, now, "the gateway runs"),)))
    moments = line.moments()
    return Picture(tuple(lanes), moments, _pauses(moments), line.x(now), _said(moments, now))


class _Line:
    """The moments in their order, and where each of them stands."""

    def __init__(self, moments: Iterable[tuple[int | None, str]]) -> None:
        said: dict[int, list[str]] = {}
        for at, what in moments:
            if at is not None and what not in said.setdefault(at, []):
                said[at].append(what)
        self._said = dict(sorted(said.items()))
        self._at = list(self._said)
        weights = [_weight(b - a) for a, b in pairwise(self._at)]
        total = sum(weights) or 1.0
        self._x = [0.0]
        for weight in weights:
            self._x.append(self._x[-1] + weight / total)

    @property
    def first(self) -> int:
        return self._at[0]

    def x(self, at: int) -> float:
        """Between two moments time is even; before the first and after the last it stands still."""
        if at <= self._at[0]:
            return self._x[0]
        for before, after, x, following in zip(self._at, self._at[1:], self._x, self._x[1:], strict=False):
            if at <= after:
                return round(x + (following - x) * (at - before) / (after - before), 6)
        return round(self._x[-1], 6)

    def moments(self) -> tuple[Moment, ...]:
        found = []
        for number, (at, words) in enumerate(self._said.items(), 1):
            after = (at - self._at[number - 2]) / 1000 if number > 1 else None
            found.append(Moment(number, at, "; ".join(words), self.x(at), after))
        return tuple(found)


def _weight(ms: int) -> float:
    """How much of the line a pause gets: room for its two numbers, and more the longer it took."""
    return 1.0 + math.log10(1.0 + ms / 100)


def _of_row(evidence: Evidence) -> list[tuple[int | None, str]]:
    row = evidence.row
    found = [(row.started_at, "the row was set running")]
    if row.status != RUNNING:
        found.append((row.ended_at, f"the row says that it ended: {(row.status or 'no status')[:40]}"))
    return found


def _of_attempt(attempt: _Attempt) -> list[tuple[int | None, str]]:
    how = f": {attempt.how[:40]}" if attempt.how else ""
    began = "an attempt began" if attempt.begun else "the oldest event that was read"
    return [(attempt.start, began), (attempt.end, f"the attempt ended{how}")]


def _last_words(attempts: list[tuple[Trail, list[_Attempt]]]) -> list[tuple[int | None, str]]:
    return [(t.last.ts, f"the last event: {t.last.type[:60]}") for t, _ in attempts if t.last and t.end is None]


def _restarted(evidence: Evidence) -> bool:
    gateway, started_at = evidence.gateway, evidence.row.started_at
    return gateway.since is not None and started_at is not None and gateway.since > started_at


def _attempts(trail: Trail) -> list[_Attempt]:
    """From each `session.started` to the `session.ended` that follows it. The tail may begin within one."""
    found: list[_Attempt] = []
    first: Event | None = None
    for event in trail.events:
        if first is not None and event.type == "session.started":
            found.append(_attempt(first, None))
            first = None
        first = first or event
        if event.type == "session.ended":
            how = trail.end.status if trail.end is not None and event is trail.last else None
            found.append(_attempt(first, event.ts, how))
            first = None
    if first is not None:
        found.append(_attempt(first, None))
    return found


def _attempt(first: Event, end: int | None, how: str | None = None) -> _Attempt:
    return _Attempt(first.ts, end, first.type == "session.started", how)


def _last_ts(trail: Trail) -> int:
    return trail.last.ts if trail.last else 0


def _row_bar(evidence: Evidence, line: _Line, now: int) -> tuple[Bar, ...]:
    row = evidence.row
    start = row.started_at or 0
    if row.status == RUNNING:
        return (_bar(line, "open", start, max(now, start), "the row says running"),)
    end = max(row.ended_at or start, start)
    return (_bar(line, "row", start, end, f"the row says {(row.status or 'nothing')[:40]}"),)


def _trail_lane(trail: Trail, attempts: list[_Attempt], line: _Line, now: int) -> Lane:
    bars = tuple(
        _bar(line, "attempt", a.start, a.end, "an attempt")
        if a.end is not None
        else _bar(line, "open", a.start, max(now, a.start), "an attempt without an end")
        for a in attempts
    )
    since = attempts[0].start if attempts else 0
    shown = [e for e in trail.events if e.ts >= since]
    ticks = tuple(Tick(line.x(e.ts), f"{e.type[:60]}", e is trail.last) for e in shown)
    return Lane("trajectory", bars, ticks)


def _bar(line: _Line, kind: Kind, start: int, end: int, label: str) -> Bar:
    x = line.x(start)
    return Bar(kind, x, round(max(0.0, line.x(end) - x), 6), label)


def _pauses(moments: tuple[Moment, ...]) -> tuple[Pause, ...]:
    return tuple(
        Pause(round((before.x + after.x) / 2, 6), span(after.after))
        for before, after in pairwise(moments)
        if after.x - before.x >= _WIDE_ENOUGH
    )


def _said(moments: tuple[Moment, ...], now: int) -> str:
    """`1: the row was set running, 2 h ago. 2: …`"""
    return " ".join(f"{m.number}: {m.what}{_when(m.at, now)}." for m in moments)


def _when(at: int, now: int) -> str:
    if at == now:
        return ""
    return f", {span((now - at) / 1000)} ago" if at < now else f", in {span((at - now) / 1000)}"
