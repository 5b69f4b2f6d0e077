"""How many repairs and undos one caller may ask for: against a script that has gone wild, not against strangers."""

from __future__ import annotations

from math import ceil

from app.api.problems import Problem
from app.clock import Clock
from app.domain.caller import Caller
from app.domain.pace import drawn


class RepairPace:
    """Each caller has a bucket of their own. Lives on the event loop."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._drawn_until: dict[str, float] = {}

    def draw(self, caller: Caller) -> None:
        """Count one repair or undo of `caller`. Raises Problem (`too_many`, with Retry-After in whole seconds)."""
        until = self._drawn_until.get(caller.name, 0.0)
        self._drawn_until[caller.name], wait = drawn(until, self._per_minute, self._clock.monotonic())
        if wait:
            seconds = ceil(wait)
            raise Problem(
                "too_many",
                f"{caller.name} has asked for {self._per_minute} repairs within a minute; "
                f"this one was not looked at: ask again in {seconds} s",
                headers={"retry-after": str(seconds)},
            )
