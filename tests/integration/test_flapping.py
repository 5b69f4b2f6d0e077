"""A session that comes back stuck too often is reported, and left to a person."""

from __future__ import annotations

import pytest

from app.audit.models import Outcome
from app.domain.model import Code
from app.reconcile.asking import Ask
from app.reconcile.reconciler import Reconciler
from tests.turns import lost_turn, lost_turns, put_back, settle_next_turn
from tests.world import ABSENT, STUCK_KEY, World, attempts, finding_of, run_for, run_pass

PERSON = Ask("api", "a person", "looked at")


@pytest.fixture
def reconciler(world: World) -> Reconciler:
    """Three turns of one session were lost, and settled, within six minutes."""
    world.stuck(ended_ago=60)
    world.gateway = ABSENT
    made = world.reconciler()
    run_for(made, world.clock, 120)
    for _ in range(2):
        settle_next_turn(world, made)
    assert [a.outcome for a in attempts(made)] == [Outcome.APPLIED] * 3
    return made


def test_the_fourth_time_in_an_hour_it_is_reported_and_not_settled(world: World, reconciler: Reconciler) -> None:
    report = settle_next_turn(world, reconciler)
    finding = finding_of(report)
    assert finding.verdict.code is Code.STUCK
    assert finding.verdict.ripe
    assert finding.flapping is not None
    assert finding.flapping.times == 3
    assert (finding.flapping.since, finding.flapping.until) == (
        attempts(reconciler)[0].opened_at,
        attempts(reconciler)[0].opened_at + 3_600_000,
    )
    assert len(attempts(reconciler)) == 3


def test_it_is_said_while_its_turn_may_still_be_settled_by_the_gateway(world: World, reconciler: Reconciler) -> None:
    lost_turn(world)
    finding = finding_of(run_pass(reconciler))
    assert (finding.verdict.code, finding.flapping is not None) == (Code.ENDING, True)


def test_a_session_that_works_is_not_called_flapping(world: World, reconciler: Reconciler) -> None:
    assert finding_of(run_pass(reconciler)).flapping is None


def test_a_restart_does_not_forget_it(world: World, reconciler: Reconciler) -> None:
    lost_turn(world)
    again = world.reconciler()
    finding = finding_of(run_for(again, world.clock, 120))
    assert finding.verdict.ripe
    assert finding.flapping is not None
    assert len(attempts(again)) == 3


def test_an_hour_after_the_first_it_is_settled_again_and_a_pass_comes_for_it(
    world: World, reconciler: Reconciler
) -> None:
    finding = finding_of(settle_next_turn(world, reconciler))
    assert finding.flapping is not None
    assert reconciler.wake_at == finding.flapping.until
    world.clock.advance((finding.flapping.until - world.clock.now()) / 1000)
    assert finding_of(run_pass(reconciler)).verdict.code is Code.SETTLED


def test_a_person_may_settle_it_and_that_counts(world: World, reconciler: Reconciler) -> None:
    finding = finding_of(settle_next_turn(world, reconciler))
    assert reconciler.repairer.settle(finding, PERSON).outcome == Outcome.APPLIED
    lost_turn(world)
    again = finding_of(run_pass(reconciler)).flapping
    assert again is not None
    assert again.times == 4


def test_the_repeats_of_a_repair_that_was_overwritten_are_one_settlement(world: World) -> None:
    world.stuck(ended_ago=60)
    world.gateway = ABSENT
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 30)
    for _ in range(2):
        put_back(world)
        world.clock.advance(2)
        run_pass(reconciler)
    run_for(reconciler, world.clock, 120)
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten", "overwritten", "applied"]
    settle_next_turn(world, reconciler)
    assert attempts(reconciler)[-1].outcome == Outcome.APPLIED
    lost_turn(world)
    assert finding_of(run_pass(reconciler)).flapping is None, "settled twice, in five attempts"


def test_a_row_that_stood_and_is_put_back_later_has_come_back(world: World) -> None:
    world.stuck(ended_ago=60)
    world.gateway = ABSENT
    reconciler = world.reconciler()
    for _ in range(3):
        run_for(reconciler, world.clock, 120)
        put_back(world)
    assert [a.outcome for a in attempts(reconciler)] == [Outcome.APPLIED] * 3
    finding = finding_of(run_for(reconciler, world.clock, 120))
    assert finding.flapping is not None
    assert len(attempts(reconciler)) == 3


def test_what_was_taken_back_does_not_count(world: World, reconciler: Reconciler) -> None:
    newest = attempts(reconciler)[-1]
    assert reconciler.repairer.undo(newest, PERSON).outcome == Outcome.APPLIED
    finding = finding_of(run_pass(reconciler))
    assert (finding.verdict.code, finding.flapping) == (Code.STUCK, None)
    assert finding.held_by is not None


def test_another_session_of_the_same_store_is_settled_as_ever(world: World, reconciler: Reconciler) -> None:
    lost_turn(world)
    lost_turns(world, range(1), ended_ago=10)
    report = run_for(reconciler, world.clock, 120)
    assert finding_of(report, "agent:main:0").verdict.code is Code.SETTLED
    assert finding_of(report, STUCK_KEY).verdict.code is Code.STUCK


def test_the_number_and_the_window_are_settings(world: World, reconciler: Reconciler) -> None:
    lost_turn(world)
    for settings, flaps in (
        ({"flapping_settlements": 4}, False),
        ({"flapping_minutes": 1}, False),
        ({"flapping_settlements": 1, "flapping_minutes": 10}, True),
    ):
        other = world.reconciler(auto_repair=False, **settings)
        assert (finding_of(run_pass(other)).flapping is not None) == flaps, settings
