"""When a look is taken: so long after the decision, by whichever clock, and by one Clawmend only."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace

import pytest

from app.reconcile.asking import Ask
from app.reconcile.looks import AFTER_SECONDS
from tests.repaired import Repaired
from tests.world import attempts


def test_the_next_look_is_due_so_long_after_the_decision_and_after_the_intent_where_there_was_none(
    repaired: Repaired,
) -> None:
    due = [
        repaired.looker.next_due(attempt) - repaired.at
        for looks in range(5)
        for attempt in [replace(repaired.attempt, looks=[{}] * looks, decided_at=repaired.at)]
    ]
    assert due == [1_000, 5_000, 60_000, 120_000, 240_000]
    assert AFTER_SECONDS == (1, 5, 60)
    undecided = replace(repaired.attempt, decided_at=None, opened_at=repaired.at - 7)
    assert repaired.looker.next_due(undecided) == repaired.at - 7 + 1_000


@pytest.mark.parametrize(("jump", "taken"), [(-0.001, 1), (0.0, 0)])
def test_a_clock_that_was_set_back_does_not_put_the_looks_off(repaired: Repaired, jump: float, taken: int) -> None:
    repaired.world.clock.jump(jump)
    repaired.looker.take_due()
    assert len(repaired.now_is().looks) == taken


def test_a_clock_that_was_set_back_before_it_was_decided_does_not_put_the_looks_off(repaired: Repaired) -> None:
    repaired.was(decided_at=None)
    repaired.world.clock.jump(-0.001)
    repaired.looker.take_due()
    assert len(repaired.now_is().looks) == 1


def test_one_attempt_that_is_not_due_does_not_keep_the_others_waiting(repaired: Repaired) -> None:
    world = repaired.world
    repaired.was(decided_at=repaired.at + 1)
    world.clock.advance(5)
    undone = repaired.reconciler.repairer.undo(repaired.attempt, Ask("cli", "a person", "not over"))
    repaired.was(decided_at=world.clock.now())
    world.clock.advance(0.5)
    repaired.reconciler.audit.change(undone.id, decided_at=world.clock.now() - 1_000)
    repaired.looker.take_due()
    looks = {a.id: len(a.looks) for a in attempts(repaired.reconciler)}
    assert looks == {repaired.attempt.id: 0, undone.id: 1}


def test_a_store_at_which_another_Clawmend_is_is_looked_at_later_and_the_others_now(repaired: Repaired) -> None:
    fd = os.open(repaired.world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert repaired.look(1) == []
        assert not repaired.looker.finds_overwritten(repaired.now_is())
        assert repaired.now_is().looks == []
        assert repaired.world.clock.now() == repaired.at + 1_000, "nobody waits for it"
    finally:
        os.close(fd)
    repaired.look(1.1)
    assert len(repaired.now_is().looks) == 1


def test_a_look_that_another_Clawmend_has_just_taken_is_not_taken_twice(repaired: Repaired) -> None:
    stale = repaired.now_is()
    repaired.look(1)
    repaired.world.write_store(repaired.before)
    assert not repaired.looker.finds_overwritten(stale)
    assert [look["found"] for look in repaired.now_is().looks] == ["as_written"]


def test_an_attempt_whose_last_look_was_taken_elsewhere_is_left_alone(repaired: Repaired) -> None:
    stale = repaired.now_is()
    repaired.was(finished_at=repaired.at)
    repaired.world.write_store(repaired.before)
    assert not repaired.looker.finds_overwritten(stale)
    assert repaired.now_is().looks == []
