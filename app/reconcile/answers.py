"""What the gateways have said of rows, and what they are still to be asked."""

from __future__ import annotations

import math

from app.clock import Clock
from app.domain.model import Liveness, Row
from app.openclaw.paths import StoreTarget

FRESH_SECONDS = 60.0
"""For so long an answer is gone by in a pass; a repair asks anew."""
JUST_NOW_SECONDS = 2.0
"""For so long it is gone by in a repair, which judges twice."""

Asked = tuple[StoreTarget, Row]


class Answers:
    """Any number of threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Row, Liveness, float]] = {}
        self._wishes: dict[tuple[str, str], tuple[StoreTarget, Row, str]] = {}

    def keep(self, target: StoreTarget, row: Row, answer: Liveness, asked_at: float) -> None:
        """`asked_at` is on our monotonic clock: a gateway that is slow may have looked when it was asked."""
        self._known[target.path, row.key] = (row, answer, asked_at)

    def recent(self, target: StoreTarget, row: Row, seconds: float) -> Liveness | None:
        """The answer about this very turn, if it is no older."""
        known = self._known.get((target.path, row.key))
        if known is None or (known[0].session_id, known[0].started_at) != (row.session_id, row.started_at):
            return None
        return known[1] if self._clock.monotonic() - known[2] <= seconds else None

    def said(self, asked: list[Asked]) -> list[tuple[bool | None, bool]]:
        """What counts of the last answers: when it changes, that is news."""
        known = [self._known.get((target.path, row.key)) for target, row in asked]
        return [(each[1].active, each[1].idle) if each else (None, False) for each in known]

    def forget(self, key: str) -> None:
        """Something has happened to this session, whatever store it is in."""
        for name in [n for n in self._known if n[1].lower() == key.lower()]:
            self._known.pop(name, None)

    def forget_stale(self) -> None:
        """What is too old to go by is news when it is answered again."""
        oldest = self._clock.monotonic() - FRESH_SECONDS
        self._known = {name: known for name, known in self._known.items() if known[2] >= oldest}

    def wish(self, target: StoreTarget, row: Row, agent_id: str) -> None:
        """Ask this when there is time."""
        self._wishes[target.path, row.key] = (target, row, agent_id)

    def take_wishes(self) -> dict[tuple[str, str], list[Asked]]:
        """By state dir and agent what is to be asked, that first of which the answer is the oldest."""
        wishes, self._wishes = self._wishes, {}
        by_agent: dict[tuple[str, str], list[Asked]] = {}
        for name in sorted(wishes, key=lambda name: self._known[name][2] if name in self._known else -math.inf):
            target, row, agent_id = wishes[name]
            by_agent.setdefault((target.state_dir, agent_id), []).append((target, row))
        return by_agent
