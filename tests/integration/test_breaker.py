"""When too many sessions fall due, nothing is settled by itself until a person has looked."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from app.audit.models import Outcome
from app.audit.openings import Opening, write_opening
from app.domain.model import Code
from app.reconcile.asking import Ask
from app.reconcile.breaker import NotOpen
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Report
from tests.turns import WINDOW, lost_turns, put_back
from tests.world import World, attempts, finding_of, run_for, run_pass

PERSON = Ask("api", "a person", "looked at")
LIMIT = {"breaker_repairs": 3, "breaker_minutes": 10}


def stuck(report: Report) -> int:
    return len(report.with_code(Code.STUCK))


@pytest.fixture
def opened(world: World) -> Reconciler:
    """Four sessions have fallen due where three may."""
    lost_turns(world, range(4))
    reconciler = world.reconciler(**LIMIT)
    run_for(reconciler, world.clock, WINDOW)
    assert reconciler.breaker.is_open
    return reconciler


def test_as_many_as_the_setting_says_are_settled_at_once(world: World) -> None:
    lost_turns(world, range(3))
    reconciler = world.reconciler(**LIMIT)
    assert stuck(run_for(reconciler, world.clock, WINDOW)) == 0
    assert not reconciler.breaker.is_open


def test_one_more_and_none_is_settled_and_it_says_why(world: World, caplog: pytest.LogCaptureFixture) -> None:
    lost_turns(world, range(4))
    reconciler = world.reconciler(**LIMIT)
    with caplog.at_level(logging.WARNING, "clawmend"):
        assert stuck(run_for(reconciler, world.clock, 120)) == 4
    assert attempts(reconciler) == []
    opening = reconciler.breaker.latest
    assert opening is not None
    assert (opening.waiting, opening.closed_at) == (4, None)
    assert opening.reason.startswith("4 sessions fell due within 10 min;")
    (said,) = [r.message for r in caplog.records if "breaker" in r.message]
    assert opening.reason in said
    assert "agent:main" not in said


def test_what_was_settled_before_within_the_window_counts(world: World) -> None:
    lost_turns(world, range(3))
    reconciler = world.reconciler(**LIMIT)
    run_for(reconciler, world.clock, WINDOW)
    lost_turns(world, range(3, 4), ended_ago=1)
    run_for(reconciler, world.clock, WINDOW)
    assert reconciler.breaker.is_open
    assert len(attempts(reconciler)) == 3


def test_what_was_settled_longer_ago_does_not_count(world: World) -> None:
    lost_turns(world, range(3))
    reconciler = world.reconciler(**LIMIT)
    run_for(reconciler, world.clock, 660, step=20)
    lost_turns(world, range(3, 4), ended_ago=1)
    assert stuck(run_for(reconciler, world.clock, 61)) == 0
    assert not reconciler.breaker.is_open


def test_a_turn_counts_once_however_often_it_is_tried(world: World) -> None:
    lost_turns(world, range(2))
    reconciler = world.reconciler(**LIMIT)
    run_for(reconciler, world.clock, WINDOW)
    for _ in range(2):
        put_back(world, "agent:main:0")
        run_for(reconciler, world.clock, 5)
    assert len(attempts(reconciler)) >= 4
    lost_turns(world, range(2, 3), ended_ago=1)
    assert stuck(run_for(reconciler, world.clock, 61)) == 0
    assert not reconciler.breaker.is_open


def test_a_restart_does_not_close_it_whatever_is_due_then(world: World, opened: Reconciler) -> None:
    again = world.reconciler(breaker_repairs=1_000)
    run_pass(again)
    assert again.breaker.is_open, "from the first pass on, before anything has fallen due"
    assert stuck(run_for(again, world.clock, 3_600, step=600)) == 4
    assert again.breaker.is_open
    assert attempts(again) == []


def test_another_clawmend_on_the_same_audit_stops_too(world: World, opened: Reconciler) -> None:
    other = world.reconciler(breaker_repairs=1_000)
    assert stuck(run_for(other, world.clock, WINDOW)) == 4


def test_a_person_may_settle_while_it_is_open(world: World, opened: Reconciler) -> None:
    finding = finding_of(opened.report, "agent:main:1")
    assert opened.repairer.settle(finding, PERSON).outcome == Outcome.APPLIED
    run_pass(opened)
    assert opened.breaker.latest is not None
    assert opened.breaker.latest.waiting == 3, "it is told how many wait now"
    assert opened.breaker.is_open


def test_of_what_was_overwritten_only_a_persons_is_repeated_while_it_is_open(world: World) -> None:
    lost_turns(world, range(2))
    reconciler = world.reconciler(auto_repair=False)
    report = run_for(reconciler, world.clock, WINDOW)
    for n, trigger in enumerate(("api", "scheduler")):
        reconciler.repairer.settle(finding_of(report, f"agent:main:{n}"), replace(PERSON, trigger=trigger))
        put_back(world, f"agent:main:{n}")
    write_opening(reconciler.audit, Opening("an opening", world.clock.now(), "a test", 0))
    world.clock.advance(2)
    run_for(world.reconciler(**LIMIT), world.clock, 0)
    assert [(a.trigger, a.outcome) for a in attempts(reconciler)] == [
        ("api", "overwritten"),
        ("scheduler", "overwritten"),
        ("api", "applied"),
    ]


def test_closing_lets_what_waits_through_and_tells_who_did_it(world: World, opened: Reconciler) -> None:
    closed = opened.breaker.close("ada", "the disk was full")
    assert (closed.closed_by, closed.close_reason, closed.is_open) == ("ada", "the disk was full", False)
    assert stuck(run_pass(opened)) == 0
    assert not opened.breaker.is_open
    assert len(attempts(opened)) == 4


def test_after_closing_as_many_more_may_fall_due_as_ever_and_no_more(world: World, opened: Reconciler) -> None:
    opened.breaker.close("ada", "the disk was full")
    run_pass(opened)
    lost_turns(world, range(4, 7), ended_ago=1)
    assert stuck(run_for(opened, world.clock, WINDOW)) == 0
    lost_turns(world, range(7, 8), ended_ago=1)
    assert stuck(run_for(opened, world.clock, WINDOW)) == 1
    assert opened.breaker.is_open


def test_what_was_let_through_is_remembered_across_a_restart(world: World, opened: Reconciler) -> None:
    opened.breaker.close("ada", "the disk was full")
    again = world.reconciler(**LIMIT)
    assert stuck(run_for(again, world.clock, WINDOW)) == 0


def test_a_closing_by_another_process_is_seen_by_the_next_pass(world: World, opened: Reconciler) -> None:
    world.reconciler().breaker.close("ada", "on the command line")
    assert stuck(run_pass(opened)) == 0


def test_what_is_not_open_cannot_be_closed(world: World, opened: Reconciler) -> None:
    opened.breaker.close("ada", "once")
    with pytest.raises(NotOpen):
        opened.breaker.close("ada", "twice")


def test_where_its_opening_cannot_be_written_down_nothing_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_turns(world, range(4))
    reconciler = world.reconciler(**LIMIT)
    database = Path(world.folder / "own" / "audit.db")
    let = reconciler.breaker.let

    def without_the_audit(due: list[object]) -> object:
        database.rename(database.with_name("away"))
        try:
            return let(due)  # type: ignore[arg-type]
        finally:
            database.with_name("away").rename(database)

    monkeypatch.setattr(reconciler.breaker, "let", without_the_audit)
    assert stuck(run_for(reconciler, world.clock, 60)) == 4
    assert reconciler.audit_problem is not None
    assert attempts(reconciler) == []


def test_where_only_people_settle_nothing_opens_it(world: World) -> None:
    lost_turns(world, range(4))
    reconciler = world.reconciler(auto_repair=False, **LIMIT)
    run_for(reconciler, world.clock, 60)
    assert not reconciler.breaker.is_open
