"""What every pass asks of the audit is asked again only where somebody has committed to it since, whoever that is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.openings import Opening, latest_opening, write_opening
from app.reconcile.reconciler import Reconciler
from tests.world import World, by_a_person, run_pass


@pytest.fixture
def settled(world: World) -> Reconciler:
    """One session is settled, and looked at again no more."""
    world.stuck()
    reconciler = world.reconciler()
    by_a_person(reconciler)
    for seconds in (2, 10, 100):
        world.clock.advance(seconds)
        run_pass(reconciler)
    return reconciler


def asked_in(work: Callable[[], object], audit: AuditLog) -> list[str]:
    """The questions that the audit database is asked meanwhile."""
    asked: list[str] = []

    def note(*told: object) -> None:
        asked.append(str(told[2]))

    event.listen(audit._engine, "before_cursor_execute", note)
    work()
    event.remove(audit._engine, "before_cursor_execute", note)
    return asked


def database(world: World) -> Path:
    return world.folder / "own" / "audit.db"


def test_a_pass_asks_nothing_of_an_audit_that_nobody_has_written_to(settled: Reconciler) -> None:
    run_pass(settled)
    assert asked_in(lambda: run_pass(settled), settled.audit) == []


def test_what_another_process_has_written_is_seen_in_the_next_pass(world: World, settled: Reconciler) -> None:
    run_pass(settled)
    with closing(sqlite3.connect(database(world))) as other, other:
        other.execute("UPDATE repair_attempts SET outcome = 'refused'")
    run_pass(settled)
    assert [(by.outcome, n) for by, n in settled.attempts.items()] == [("refused", 1)]


def test_what_we_have_written_ourselves_is_known_at_once(settled: Reconciler) -> None:
    audit = settled.audit
    assert (audit.left_open(), audit.to_look_at(), latest_opening(audit)) == ([], [], None)
    (attempt, *_), _ = audit.page(1)
    audit.change(attempt.id, finished_at=None)
    assert [a.id for a in audit.to_look_at()] == [attempt.id]
    audit.change(attempt.id, outcome=None)
    assert [a.id for a in audit.left_open()] == [attempt.id]
    write_opening(audit, Opening("an id", 1, "a test", 1))
    assert latest_opening(audit) == Opening("an id", 1, "a test", 1)


def test_what_was_given_may_be_changed_by_whoever_has_it(settled: Reconciler) -> None:
    settled.audit.counts().clear()
    assert len(settled.audit.counts()) == 1


def test_an_answer_of_an_audit_that_is_gone_is_not_remembered(world: World, settled: Reconciler) -> None:
    settled.audit.ping()
    database(world).rename(world.folder / "away")
    with pytest.raises(AuditUnavailable):
        settled.audit.ping()


def test_what_was_committed_while_it_was_asked_is_asked_for_again(world: World, settled: Reconciler) -> None:
    audit = settled.audit

    def slow() -> str:
        with closing(sqlite3.connect(database(world))) as other, other:
            other.execute("UPDATE repair_attempts SET outcome = 'refused'")
        return "before"

    assert audit.unless_changed("a question", slow) == "before"
    assert audit.unless_changed("a question", lambda: "after") == "after"


def test_it_is_asked_anew_once_it_could_not_tell(settled: Reconciler) -> None:
    audit = settled.audit
    for _ in range(2):  # two connections that have seen the same count alike
        audit.dispose()
        assert asked_in(audit.counts, audit)
    assert asked_in(audit.counts, audit) == []
