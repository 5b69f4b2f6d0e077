"""Whether a session flaps: it was settled, and came back stuck, again and again.

Each settlement is proven by itself; that they do not end is what no proof of one turn can tell. It points at a fault
that settling hides, so a person is to look (docs/decisions/0017).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlappingPolicy:
    """So many settlements within so many seconds."""

    settlements: int = 3
    seconds: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Flapping:
    """Times are epoch ms."""

    times: int
    """How often it was settled within the window."""
    since: int
    """The first of these settlements."""
    until: int
    """When the scheduler may settle it again: by then enough of them are older than the window."""


def flapping(settled_at: Iterable[int], policy: FlappingPolicy, now: int) -> Flapping | None:
    """`settled_at`: when each settlement of one session that stood was begun, in any order; None: it does not flap.

    One that lies ahead of the clock, which was set back, counts as far ahead as it would behind: no further, so that a
    clock that was once wrong by a year keeps nobody waiting for a year.
    """
    window = round(policy.seconds * 1000)
    counted = sorted(at for at in settled_at if abs(now - at) < window)
    if len(counted) < policy.settlements:
        return None
    return Flapping(len(counted), counted[0], counted[-policy.settlements] + window)
