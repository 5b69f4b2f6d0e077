"""How long to wait before a message that could not be delivered is tried again."""

from __future__ import annotations

DELAYS = (5.0, 30.0, 120.0, 600.0, 1_800.0)
"""Seconds after the first, the second … try; after one more it is given up, three quarters of an hour in all."""
LONGEST_DELAY = 3_600.0
"""Seconds for which a receiver may ask us to stay away."""


def next_delay(tries: int, luck: float, asked: float | None) -> float | None:
    """Seconds until the next try after `tries` that failed; None: it is given up.

    `luck` (0 to 1) spreads the tries of many messages by a fifth; `asked`: the receiver's own Retry-After.
    """
    if tries > len(DELAYS):
        return None
    delay = DELAYS[tries - 1] * (0.8 + 0.4 * luck)
    return delay if asked is None else max(delay, min(asked, LONGEST_DELAY))
