"""Findings that stand from pass to pass: nothing of theirs was touched, and time alone does not change them yet.

Only of sessions whose turn has no end on disk: whatever may be settled is looked at closely in every pass. What would
make one of these another (an end, a new turn, a lock, a child, another gateway) touches its trajectory, its store, a
name in its folder, or is compared here; and none is believed for ever.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.clock import Clock
from app.domain.model import Code, Gateway, Policy, Row, Trail
from app.openclaw.paths import StoreTarget
from app.openclaw.place import Place
from app.openclaw.rest import Mark, Rest, rest_of, untouched
from app.openclaw.trails import Lost, transcript_place
from app.reconcile.report import Finding

_BELIEVED_FOR = 300.0
"""Seconds after which a session is looked at closely all the same."""
BY_TIME_ONLY = (Code.WORKING, Code.SILENT, Code.ORPHANED)


class Spell(NamedTuple):
    """For how long what was found stands, if nothing is touched."""

    since: int
    until: float
    """Epoch ms: from then on time alone may change the verdict; before `since` a clock was set back."""
    believed_until: float
    """By the monotonic clock."""

    def lasts(self, now: int, monotonic: float) -> bool:
        return self.since <= now < self.until and monotonic < self.believed_until


def shortest(spells: Iterable[Spell]) -> Spell:
    """What lasts while each of them lasts, of which there is at least one."""
    since, until, believed_until = zip(*spells, strict=True)
    return Spell(max(since), min(until), min(believed_until))


@dataclass(frozen=True, slots=True)
class _Kept:
    finding: Finding
    marks: tuple[tuple[str, Mark | None], ...]
    spell: Spell


@dataclass(frozen=True, slots=True)
class _Store:
    rest: Rest
    gateway: Gateway
    rows: tuple[_Kept | None, ...]
    """In the order of the rows that run."""
    whole: _Whole | None
    """Where each of the rows is kept."""
    stamp: int | None
    """Of the notices, as of when all that is kept was last seen to be untouched."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """All rows of one store, which stand together, or are gone through one by one."""

    findings: tuple[Finding, ...]
    keys: frozenset[str]
    marks: tuple[tuple[str, Mark | None], ...]
    spell: Spell


class Resting:
    """Remembers from pass to pass. One thread at a time."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._silent_ms = policy.silent_after * 1000
        self._stores: dict[str, _Store] = {}
        self._turn = 0

    def of(
        self, path: str, rest: Rest, gateway: Gateway, parents: Set[str], count: int, *, stamp: int | None
    ) -> tuple[Finding | None, ...]:
        """For each of the `count` rows that run in the store at `path`, which rests as `rest`: its finding, where that
        stands; the very same tuple as in the pass before where all of them do. `parents`: keys of rows for which
        others run. `stamp`: of the store's folder (app.openclaw.notices).
        """
        known = self._stores.get(path)
        if known is None or known.rest is not rest or known.gateway != gateway:
            return (None,) * count
        now, monotonic = self._clock.now(), self._clock.monotonic()
        told = stamp is not None and stamp == known.stamp

        def stands(kept: _Kept | _Whole) -> bool:
            return kept.spell.lasts(now, monotonic) and (told or untouched(kept.marks))

        if known.whole is not None and parents.isdisjoint(known.whole.keys) and stands(known.whole):
            if not told:
                self._stores[path] = replace(known, stamp=stamp)
            return known.whole.findings
        return tuple(
            kept.finding if kept is not None and kept.finding.key not in parents and stands(kept) else None
            for kept in known.rows
        )

    def spell(self, path: str, stamp: int | None) -> Spell | None:
        """For how long all rows that run in the store at `path` stand while no stamp changes; None where one of them
        must be looked at, or nobody tells of changes. `stamp` as `of` has it.
        """
        known = self._stores.get(path)
        if known is None or known.whole is None or stamp is None or stamp != known.stamp:
            return None
        return known.whole.spell

    def keep(
        self, target: StoreTarget, rest: Rest, gateway: Gateway, found: Iterable[Finding], stamp: int | None
    ) -> None:
        """Remember what was found of the rows that run in one store, all of them, in their order; by what `of` gave at
        this stamp.
        """
        before = self._stores.get(target.path)
        old = {id(kept.finding): kept for kept in before.rows if kept} if before else {}
        rows = tuple(old.get(id(f)) or self._kept(target, f) for f in found)
        whole = _whole([kept for kept in rows if kept], len(rows))
        self._stores[target.path] = _Store(rest, gateway, rows, whole, stamp)

    def _kept(self, target: StoreTarget, finding: Finding) -> _Kept | None:
        evidence = finding.evidence
        transcript = _transcript(target, finding.evidence.row)
        if (
            finding.verdict.code not in BY_TIME_ONLY
            or transcript is None
            or evidence.lock is not None
            or evidence.children
            or not evidence.trails
            or any(_tells_more(t, target.folder) for t in evidence.trails)
        ):
            return None
        paths = [t.path for t in evidence.trails]
        until = math.inf
        if finding.verdict.code is Code.WORKING:
            until = max(evidence.row.started_at or 0, *(t.last.ts for t in evidence.trails if t.last)) + self._silent_ms
        else:
            paths.append(transcript)  # a sign of life in it makes another verdict
        held = rest_of(paths)
        if held is None or any(not _as_read(t, m) for t, (_, m) in zip(evidence.trails, held.marks, strict=False)):
            return None
        self._turn += 1
        spread = 1 - (self._turn % 64) / 128  # not all of them in one pass
        believed = self._clock.monotonic() + _BELIEVED_FOR * spread
        return _Kept(finding, held.marks, Spell(self._clock.now(), until, believed))


def _whole(rows: list[_Kept], count: int) -> _Whole | None:
    if len(rows) < count or not rows:
        return None
    return _Whole(
        tuple(kept.finding for kept in rows),
        frozenset(kept.finding.key for kept in rows),
        tuple(mark for kept in rows for mark in kept.marks),
        shortest(kept.spell for kept in rows),
    )


def _transcript(target: StoreTarget, row: Row) -> str | None:
    """The path of its transcript, where that lies beside the store, and so its lock too."""
    sessions = Place(target.root, target.folder, target.name)
    try:
        place = transcript_place(row.session_id or "", row.session_file, sessions, target.state_dir)
    except Lost:
        return None
    return place.path if place.folder == target.folder else None


def _tells_more(trail: Trail, folder: str) -> bool:
    """It has an end, or what is no event, or lies where nobody looks for names that come and go."""
    odd = trail.end is not None or trail.torn or trail.problem is not None or not trail.events
    return odd or os.path.dirname(trail.path) != folder


def _as_read(trail: Trail, mark: Mark | None) -> bool:
    read = trail.identity
    return mark is not None and mark[:3] == (read.dev, read.ino, read.size)
