"""When a session flaps: by when it was settled, and nothing else."""

from __future__ import annotations

import pytest

from app.domain.flapping import Flapping, FlappingPolicy, flapping

NOW = 1_800_000_000_000
POLICY = FlappingPolicy(3, 3_600)
HOUR = 3_600_000


def ago(*seconds: int) -> list[int]:
    return [NOW - s * 1000 for s in seconds]


def test_two_settlements_in_an_hour_are_not_flapping() -> None:
    assert flapping(ago(10, 20), POLICY, NOW) is None


def test_three_settlements_in_an_hour_are_flapping_until_the_first_is_an_hour_old() -> None:
    at = ago(3_000, 60, 1_800)
    assert flapping(at, POLICY, NOW) == Flapping(3, NOW - 3_000_000, NOW + 600_000)
    assert flapping(at, POLICY, NOW + 599_999) is not None
    assert flapping(at, POLICY, NOW + 600_000) is None


def test_an_older_settlement_counts_no_more() -> None:
    assert flapping(ago(3_600, 20, 10), POLICY, NOW) is None


def test_what_a_person_adds_prolongs_it() -> None:
    flap = flapping(ago(3_000, 1_800, 60, 0), POLICY, NOW)
    assert flap == Flapping(4, NOW - 3_000_000, NOW - 1_800_000 + HOUR)


@pytest.mark.parametrize(("ahead", "flaps"), [(30, True), (3_599, True), (3_600, False), (31_536_000, False)])
def test_a_clock_that_was_set_back_neither_forgets_at_once_nor_waits_for_a_year(ahead: int, flaps: bool) -> None:
    assert (flapping(ago(-ahead, 10, 20), POLICY, NOW) is not None) == flaps


def test_the_number_and_the_window_are_settings() -> None:
    assert flapping(ago(50), FlappingPolicy(1, 60), NOW) == Flapping(1, NOW - 50_000, NOW + 10_000)
    assert flapping(ago(70), FlappingPolicy(1, 60), NOW) is None
