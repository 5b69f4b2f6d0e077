"""What another policy would have done with one recorded sighting, and whether that would have been wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.model import Code, End, Event, Evidence, FileIdentity, Policy, Row, Trail
from app.domain.simulation import Change, Sighting, replay, totals

ENDED = 1_795_327_558_006
SUCCESS, ERROR = "success", "error"


def sighting(end: str = SUCCESS, *, seen_after: float = 40.0, **more: Any) -> Sighting:
    """A turn that ended at ENDED, seen `seen_after` seconds later by one who had watched it since its end."""
    at = ENDED + round(seen_after * 1000)
    trail = Trail(
        "a.trajectory.jsonl",
        "a",
        FileIdentity(1, 1, 1, ENDED * 1_000_000),
        (Event("session.ended", ENDED, "run"),),
        End(ENDED, end, run_id="run", session_id="a", session_key="agent:main:main"),
    )
    row = Row("agent:main:main", "a", "running", started_at=ENDED - 1_000)
    evidence = Evidence(row, (trail,), watched=seen_after)
    return Sighting(evidence, at, Policy(), **more)


def settled(end: str = SUCCESS, *, seen_after: float = 40.0, **more: Any) -> Sighting:
    """The same, and the scheduler settled it at that moment."""
    at = ENDED + round(seen_after * 1000)
    return sighting(end, seen_after=seen_after, code=Code.STUCK, acted_at=at, **more)


@pytest.mark.parametrize(
    ("window", "change", "seconds"),
    [(60.0, Change.LATER, 30.0), (30.0, Change.SAME, 0.0), (10.0, Change.EARLIER, -20.0)],
)
def test_another_window_settles_it_by_the_difference_of_the_windows(
    window: float, change: Change, seconds: float
) -> None:
    """The 10 s that the scheduler was late by, it would have been late by again."""
    replayed = replay(settled(), Policy(stale_after=window))
    assert (replayed.change, replayed.seconds) == (change, seconds)
    assert (replayed.was_at, replayed.would_be_wrong) == (ENDED + 40_000, False)


def test_the_window_of_an_unsuccessful_end_is_another_one() -> None:
    seen = settled(ERROR, seen_after=120.0)
    assert replay(seen, Policy(stale_after=60.0)).change is Change.SAME
    assert replay(seen, Policy(error_quiet=300.0)).seconds == 180.0


def test_a_person_was_not_late_so_what_counts_is_when_the_window_would_have_passed() -> None:
    seen = settled(seen_after=5.0, by_person=True)
    assert replay(seen, Policy()).seconds == 25.0


def test_it_counts_from_when_it_was_watched_as_the_scheduler_does() -> None:
    seen = settled(seen_after=3_600.0)
    began_to_watch = replace(seen.evidence, watched=30.0)
    replayed = replay(replace(seen, evidence=began_to_watch), Policy(stale_after=60.0))
    assert replayed.seconds == 30.0


def test_what_another_attempt_followed_is_left_alone_by_a_policy_that_waits_for_it() -> None:
    seen = settled(followed_at=ENDED + 45_000)
    replayed = replay(seen, Policy(stale_after=60.0))
    assert (replayed.change, replayed.would_be_at) == (Change.NOT_AT_ALL, None)
    assert (replayed.was_wrong, replayed.would_be_wrong) == (True, False)
    assert "followed" in replayed.why


def test_a_policy_that_does_not_wait_for_what_follows_is_wrong_and_one_that_nobody_followed_is_additional() -> None:
    seen = sighting(followed_at=ENDED + 20_000)
    assert replay(seen, Policy()).change is Change.NEITHER
    replayed = replay(seen, Policy(stale_after=10.0))
    assert (replayed.change, replayed.would_be_wrong, replayed.was_wrong) == (Change.ADDITIONAL, True, False)


@pytest.mark.parametrize(("followed_after", "wrong"), [(10_001, True), (10_000, False)])
def test_what_follows_in_the_very_moment_is_in_time(followed_after: int, wrong: bool) -> None:
    seen = sighting(followed_at=ENDED + followed_after)
    assert replay(seen, Policy(stale_after=10.0)).would_be_wrong is wrong


def test_what_a_person_has_taken_back_would_have_been_wrong_whenever() -> None:
    replayed = replay(settled(taken_back=True), Policy(stale_after=60.0))
    assert (replayed.was_wrong, replayed.would_be_wrong) == (True, True)


def test_a_subagents_row_is_settled_by_the_policy_that_does_so_and_by_no_other() -> None:
    seen = sighting()
    row = replace(seen.evidence.row, key="agent:main:subagent:1")
    (trail,) = seen.evidence.trails
    assert trail.end is not None
    trail = trail._replace(end=trail.end._replace(session_key=row.key))
    seen = replace(seen, evidence=replace(seen.evidence, row=row, trails=(trail,)))
    assert replay(seen, Policy()).change is Change.NEITHER
    assert replay(seen, Policy(settle_subagents=True)).change is Change.ADDITIONAL


def test_what_was_found_and_is_not_shown_by_what_was_recorded_cannot_be_told() -> None:
    seen = settled()
    replayed = replay(replace(seen, code=Code.ORPHANED), Policy(stale_after=60.0))
    assert (replayed.change, replayed.would_be_at) == (Change.CANNOT_TELL, None)
    assert "orphaned" in replayed.why


def test_ending_and_stuck_are_one_turn_at_two_moments() -> None:
    seen = replace(settled(seen_after=5.0, by_person=True), code=Code.STUCK)
    assert replay(seen, Policy()).change is not Change.CANNOT_TELL


def test_what_is_no_end_at_all_is_settled_by_no_policy() -> None:
    seen = settled()
    waiting = replace(seen.evidence, children=("agent:main:child",))
    replayed = replay(replace(seen, evidence=waiting, code=Code.WAITING, by_person=True), Policy())
    assert (replayed.change, replayed.would_be_at) == (Change.NOT_AT_ALL, None)


def test_the_totals_count_each_change_and_what_was_and_would_be_wrong() -> None:
    seen = [
        settled(),
        settled(followed_at=ENDED + 45_000),
        sighting(followed_at=ENDED + 1_000),
        settled(taken_back=True),
    ]
    counted = totals(replay(s, Policy(stale_after=60.0)) for s in seen)
    assert counted == {"later": 2, "not at all": 1, "neither": 1, "wrong": 1, "was_wrong": 2}
