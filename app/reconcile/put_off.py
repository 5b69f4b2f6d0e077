"""Sessions whose repairs fail: each is left alone for longer after each failure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.clock import Clock

FIRST_DELAY = 30.0
LONGEST_DELAY = 3_600.0

Name = tuple[str, str]
"""A session's, as `Finding.name`."""


@dataclass(frozen=True, slots=True)
class Failed:
    """How often a session could not be settled, and until when it is left alone."""

    times: int
    delay: float
    until: float
    """By the monotonic clock."""
    until_wall: int


class PutOff:
    """For one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[Name, Failed] = {}

    def add(self, name: Name) -> Failed:
        times = self._failed[name].times + 1 if name in self._failed else 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (times - 1))
        failed = Failed(times, delay, self._clock.monotonic() + delay, self._clock.now() + round(delay * 1000))
        self._failed[name] = failed
        return failed

    def holds(self, name: Name) -> bool:
        return name in self._failed and self._failed[name].until > self._clock.monotonic()

    def until(self, name: Name) -> int | None:
        """When (epoch ms) it is tried again; None where nothing failed."""
        return self._failed[name].until_wall if name in self._failed else None

    def moments(self) -> list[int]:
        """When (epoch ms) any of them is tried again."""
        return [failed.until_wall for failed in self._failed.values()]

    def forget_all_but(self, names: Iterable[Name]) -> int:
        """Forget what is no longer there, an hour after its time; how many of `names` are put off."""
        there = set(names)
        forgotten = self._clock.monotonic() - LONGEST_DELAY
        self._failed = {n: f for n, f in self._failed.items() if n in there or f.until > forgotten}
        return sum(1 for name in self._failed if name in there)
