"""When a message that was not delivered is tried again."""

from __future__ import annotations

import pytest

from app.domain.backoff import next_delay


def test_each_wait_is_longer_and_the_sixth_failure_is_the_last() -> None:
    assert [next_delay(tries, 0.5, None) for tries in range(1, 7)] == [5, 30, 120, 600, 1_800, None]


def test_luck_spreads_it_by_a_fifth() -> None:
    assert next_delay(2, 0.0, None) == pytest.approx(24)
    assert next_delay(2, 1.0, None) == pytest.approx(36)


@pytest.mark.parametrize(("asked", "waits"), [(2.0, 5.0), (90.0, 90.0), (1e9, 3_600.0)])
def test_who_asks_for_a_longer_wait_gets_it_up_to_an_hour(asked: float, waits: float) -> None:
    assert next_delay(1, 0.5, asked) == waits


def test_asking_does_not_make_it_go_on_for_ever() -> None:
    assert next_delay(6, 0.5, 10.0) is None
