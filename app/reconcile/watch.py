"""What we have seen ourselves, by a clock that cannot be set: how long each session has looked the same, and how long
nobody else has been at work in its gateway.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.clock import Clock
from app.domain.model import Evidence

Name = tuple[str, str]
"""A session: its store's path and its key."""

_NEAR_MS = 250
"""Two reckonings of one moment by two clocks lie no further apart."""


@dataclass(slots=True)
class _Watch:
    fingerprint: tuple[object, ...]
    since: float
    witnessed: bool
    due_at: int | None = None
    """When it was last said to fall due."""


class Watches:
    """Remembers from pass to pass. One thread at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[Name, _Watch] = {}
        self._work: dict[str, tuple[bool, float]] = {}
        """By state dir: whether somebody was at work in the last pass, and when that was last (or first asked) so."""

    def watched(self, name: Name, evidence: Evidence) -> tuple[float, bool]:
        """Seconds for which this session has looked the same, and whether we saw it look otherwise before."""
        now = self._clock.monotonic()
        known = self._sessions.get(name)
        if known is None or known.fingerprint != evidence.fingerprint:
            known = self._sessions[name] = _Watch(evidence.fingerprint, now, witnessed=known is not None)
        return now - known.since, known.witnessed

    def steady(self, name: Name, due_at: int | None, now: int) -> int | None:
        """`due_at` as it was said before, where it is the same moment: it is reckoned by two clocks, which are not read
        in one instant, and nobody is to take the difference for news. It never falls due before it does (`now`).
        """
        watch = self._sessions.get(name)
        if watch is None or due_at is None:
            return due_at
        before = watch.due_at
        same = before is not None and abs(due_at - before) <= _NEAR_MS and not before <= now < due_at
        watch.due_at = before if same else due_at
        return watch.due_at

    def note_work(self, state_dir: str, *, at_work: bool) -> None:
        """Whether any session of this state dir is at work in this pass."""
        _, last = self._work.get(state_dir, (False, self._clock.monotonic()))
        self._work[state_dir] = (at_work, self._clock.monotonic() if at_work else last)

    def calm(self, state_dir: str) -> float | None:
        """Seconds for which nobody has been at work there; None when somebody is, or when nobody has looked yet."""
        at_work, last = self._work.get(state_dir, (True, 0.0))
        return None if at_work else self._clock.monotonic() - last

    def forget_all_but(self, names: set[Name]) -> None:
        self._sessions = {name: watch for name, watch in self._sessions.items() if name in names}

    def copy(self) -> Watches:
        heir = Watches(self._clock)
        heir._sessions, heir._work = dict(self._sessions), dict(self._work)
        return heir
