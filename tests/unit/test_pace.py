"""The bucket that repairs are drawn from: as many at once as it holds, then one each time a new drop has fallen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.pace import drawn


def granted(moments: list[float], per_minute: int) -> list[float]:
    """Those of `moments` (rising) at which a draw is granted."""
    until, kept = 0.0, []
    for moment in moments:
        until, wait = drawn(until, per_minute, moment)
        if not wait:
            kept.append(moment)
    return kept


def test_as_many_are_granted_at_once_as_the_bucket_holds() -> None:
    assert len(granted([1_000.0] * 50, 6)) == 6


def test_after_that_one_more_is_granted_each_time_its_share_of_a_minute_has_passed() -> None:
    assert granted([1_000.0] * 6 + [1_009.9, 1_010.0, 1_010.1, 1_020.0], 6) == [1_000.0] * 6 + [1_010.0, 1_020.0]


def test_a_minute_of_rest_fills_it_and_a_longer_one_no_more() -> None:
    assert len(granted([1_000.0] * 6 + [1_060.0] * 10, 6)) == 12
    assert len(granted([1_000.0] * 6 + [9_000.0] * 10, 6)) == 12


def test_who_is_refused_is_not_made_to_wait_longer_for_having_asked() -> None:
    until, _ = drawn(0.0, 1, 1_000.0)
    for asked in range(50):
        until, wait = drawn(until, 1, 1_000.0 + asked)
        assert wait == 60.0 - asked


@given(st.integers(1, 6_000), st.lists(st.floats(0, 300, allow_nan=False), max_size=200), st.floats(0, 1e9))
def test_who_waits_as_long_as_was_said_is_granted_it_and_never_more_than_twice_the_limit_in_a_minute(
    per_minute: int, offsets: list[float], start: float
) -> None:
    until, kept = 0.0, []
    for moment in sorted(start + offset for offset in offsets):
        until, wait = drawn(until, per_minute, moment)
        if wait:
            assert 0 < wait <= 60 / per_minute + 1e-3
            assert drawn(until, per_minute, moment + wait)[1] == 0
        else:
            kept.append(moment)
    assert all(sum(m <= other < m + 60 for other in kept) <= 2 * per_minute for m in kept)
