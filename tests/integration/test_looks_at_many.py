"""Several attempts at once: what one of them is up to keeps none of the others waiting."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from app.audit.models import Attempt
from app.openclaw.folder import Folder
from app.reconcile.leftovers import anything_left
from tests.integration.test_publish import fail
from tests.repaired import Repaired


@contextmanager
def another_clawmend_in(folder: str) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def second_open(repaired: Repaired) -> Attempt:
    """A later attempt, in the folder of another agent, which a crash has left open."""
    world, audit = repaired.world, repaired.reconciler.audit
    world.write_store(repaired.before, "work")
    made = replace(
        repaired.attempt,
        id=audit.next_id(world.clock.now()),
        agent_id="work",
        store_path=str(world.store("work")),
        outcome=None,
        outcome_reason=None,
        decided_at=None,
    )
    assert made.id > repaired.attempt.id
    audit.open(made)
    return made


def outcome_of(repaired: Repaired, attempt: Attempt) -> str | None:
    found = repaired.reconciler.audit.get(attempt.id)
    assert found is not None
    return found.outcome


def test_an_attempt_at_which_another_clawmend_is_keeps_no_other_open(repaired: Repaired) -> None:
    second = second_open(repaired)
    repaired.was(outcome=None)
    with another_clawmend_in(str(repaired.world.sessions())):
        assert repaired.looker.resolve_left_open() == 1
    assert (repaired.now_is().outcome, outcome_of(repaired, second)) == (None, "unknown")


def test_an_attempt_that_another_clawmend_has_just_resolved_keeps_no_other_open(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, audit = second_open(repaired), repaired.reconciler.audit
    stale = [replace(repaired.attempt, outcome=None), second]
    monkeypatch.setattr(audit, "left_open", lambda: stale)
    assert repaired.looker.resolve_left_open() == 1
    assert (repaired.now_is(), outcome_of(repaired, second)) == (repaired.attempt, "unknown")


def test_all_that_were_left_open_are_resolved_and_counted(repaired: Repaired) -> None:
    second = second_open(repaired)
    repaired.was(outcome=None)
    assert repaired.looker.resolve_left_open() == 2
    assert (repaired.now_is().outcome, outcome_of(repaired, second)) == ("applied", "unknown")


def test_a_look_for_which_another_clawmend_is_in_the_way_keeps_no_other_waiting(repaired: Repaired) -> None:
    second, audit = second_open(repaired), repaired.reconciler.audit
    audit.change(second.id, outcome="applied", decided_at=repaired.at)
    with another_clawmend_in(str(repaired.world.sessions())):
        overwritten = repaired.look(1)
    assert [a.id for a in overwritten] == [second.id]
    assert (len(repaired.now_is().looks), outcome_of(repaired, second)) == (0, "overwritten")


def test_whether_anything_of_an_attempt_is_left_is_asked_of_its_own_files_only(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Folder(str(repaired.world.sessions())) as folder:
        (repaired.world.sessions() / ".clawmend-another.tmp").touch()
        assert anything_left(folder, repaired.attempt) is False
        repaired.beside(".tmp.kept", b"")
        assert anything_left(folder, repaired.attempt) is True
        fail(monkeypatch, "listdir", 5)
        assert anything_left(folder, replace(repaired.attempt, id="another one")) is True
