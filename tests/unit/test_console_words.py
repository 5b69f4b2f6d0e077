"""The words of the console."""

from __future__ import annotations

import pytest

from app.domain.model import Code
from app.web.words import MARK, MEANING, age, day, exact, span, time_of_day


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (-3, "0 s"),
        (0.146, "0.15 s"),
        (5, "5 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_span_is_no_more_exact_than_a_reader_needs(seconds: float | None, said: str) -> None:
    assert span(seconds) == said


def test_an_age_has_whole_seconds() -> None:
    assert (age(1.34), age(None)) == ("1 s", "")


def test_times_are_utc_and_a_time_that_has_no_form_is_left_out() -> None:
    at = 1_795_327_558_006
    assert (day(at), time_of_day(at), exact(at)) == ("22 Nov 2026", "06:05:58", "06:05:58.006")
    for none in (None, -1, 10**18):
        assert (day(none), time_of_day(none), exact(none)) == ("", "", "")


def test_every_verdict_has_words_and_a_shape_of_its_own() -> None:
    assert set(MEANING) == set(MARK) == set(Code)
    assert len(set(MARK.values())) == len(Code)
