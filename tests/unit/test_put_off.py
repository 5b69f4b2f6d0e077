"""A session that cannot be settled is left alone, longer after each failure."""

from __future__ import annotations

import pytest

from app.reconcile.put_off import PutOff
from tests.world import HeldClock

ONE, OTHER = ("/store", "agent:main:one"), ("/store", "agent:main:other")


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def test_each_failure_doubles_the_time_from_thirty_seconds_to_an_hour(clock: HeldClock) -> None:
    put_off = PutOff(clock)
    failures = [put_off.add(ONE) for _ in range(9)]
    assert [f.delay for f in failures] == [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]
    assert [f.times for f in failures] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert put_off.add(OTHER).delay == 30


def test_it_is_held_until_its_time_by_a_clock_that_nobody_sets(clock: HeldClock) -> None:
    put_off = PutOff(clock)
    put_off.add(ONE)
    clock.jump(86_400)
    assert put_off.holds(ONE)
    clock.advance(29.999)
    assert put_off.holds(ONE)
    clock.advance(0.001)
    assert not put_off.holds(ONE)
    assert not put_off.holds(OTHER)


def test_it_says_when_it_is_tried_again(clock: HeldClock) -> None:
    put_off = PutOff(clock)
    began = clock.wall
    put_off.add(ONE)
    clock.advance(1)
    put_off.add(OTHER)
    assert (put_off.until(ONE), put_off.until(OTHER)) == (began + 30_000, began + 31_000)
    assert put_off.until(("/elsewhere", "agent:main:one")) is None
    assert sorted(put_off.moments()) == [began + 30_000, began + 31_000]


def test_one_that_is_stuck_no_more_counts_for_another_hour_should_it_come_back(clock: HeldClock) -> None:
    put_off = PutOff(clock)
    put_off.add(ONE)
    clock.advance(30 + 3_599)
    assert put_off.forget_all_but([OTHER]) == 0
    assert put_off.add(ONE).times == 2

    clock.advance(60 + 3_600)
    put_off.forget_all_but([OTHER])
    assert put_off.add(ONE).times == 1


def test_one_that_stays_stuck_is_never_forgotten_and_is_counted(clock: HeldClock) -> None:
    put_off = PutOff(clock)
    put_off.add(ONE)
    clock.advance(100_000)
    assert put_off.forget_all_but([ONE, OTHER]) == 1
    assert put_off.add(ONE).times == 2
