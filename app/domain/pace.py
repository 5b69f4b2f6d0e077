"""How fast one caller may ask for repairs: a token bucket, kept as the moment up to which it has been drawn upon."""

from __future__ import annotations

_MINUTE = 60.0
_ROUNDING = 1e-6


def drawn(until: float, per_minute: int, now: float) -> tuple[float, float]:
    """Draw once upon a bucket that holds `per_minute` and fills as fast as that; a new one has been drawn upon until 0.

    `until` and `now` are seconds of one monotonic clock. Returns until when it is drawn upon now, and how many
    seconds to wait before asking again: 0 when this one was granted.
    """
    drawn_until = max(until, now) + _MINUTE / per_minute
    wait = drawn_until - _MINUTE - now
    return (until, wait) if wait > _ROUNDING else (drawn_until, 0.0)
