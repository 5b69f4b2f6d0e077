"""The hand `database` beside a gateway that is stopped: real recordings, a real transaction in a process of its own."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from app.audit.models import Attempt, Outcome, Trigger
from app.domain.model import Gateway
from app.openclaw.processes import start_ticks
from app.openclaw.replacement import Replacement, Written
from app.reconcile import database_hand
from app.reconcile.asking import Ask, CannotUndo, NotStuck, StoreUnfit
from app.reconcile.reconciler import Reconciler
from app.reconcile.scan import Scanner
from tests.databases import ENDED_AS, LOCKED_OUT, SCHEMAS
from tests.stuck_rows import Stuck, stuck
from tests.world import (
    ABSENT,
    PERSON,
    UNKNOWN,
    World,
    attempts,
    by_a_person,
    finding_of,
    run_for,
    run_pass,
    running_since,
    tree_unchanged,
)

Write = Callable[[Replacement, int], Written]


@pytest.fixture
def row(world: World) -> Stuck:
    world.gateway = ABSENT
    return stuck(world)


def settled(world: World, reconciler: Reconciler) -> Attempt:
    """By the scheduler, as soon as it is due."""
    run_for(reconciler, world.clock, 35)
    return attempts(reconciler)[-1]


def later(world: World, reconciler: Reconciler, *seconds: float) -> Attempt:
    """The first attempt, after passes so many seconds from each other."""
    for each in seconds:
        world.clock.advance(each)
        run_pass(reconciler)
    return attempts(reconciler)[0]


def between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Write, Replacement, int], Written]) -> None:
    """Something happens between what was judged and the process that writes, which `happens` is given."""
    write = database_hand.replace_in_a_process
    monkeypatch.setattr(database_hand, "replace_in_a_process", lambda what, now: happens(write, what, now))


class Crash(BaseException):
    """Clawmend ends here."""


# --- settling ---


@pytest.mark.parametrize("recording", SCHEMAS, ids=lambda name: f"schema {SCHEMAS[name]}")
def test_where_no_gateway_runs_the_row_is_settled_and_the_audit_says_by_whom(world: World, recording: str) -> None:
    world.gateway = ABSENT
    row = stuck(world, recording)
    before, others = row.database.entry(), row.rest()
    attempt = settled(world, world.reconciler())

    assert (attempt.outcome, attempt.hand, attempt.mode, attempt.told) == (Outcome.APPLIED, "database", None, None)
    run = before.pop("lifecycleRunId")
    updated_at = max(before["updatedAt"], attempt.after["endedAt"])
    assert row.database.entry() == {**before, **attempt.after, "updatedAt": updated_at, "lastRunId": run}
    text, valid, column, status, window, _, ended_at, _ = row.node()
    ended_as = ENDED_AS[recording]
    assert (valid, column, status, window, ended_at) == (1, updated_at, ended_as, ended_as, attempt.after["endedAt"])
    assert row.rest() == others
    assert attempt.base_sha256 == hashlib.sha256(row.what.before).hexdigest()
    assert attempt.new_sha256 == hashlib.sha256(text).hexdigest()


def test_the_intent_and_the_plan_are_in_the_audit_before_anything_is_written(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = world.reconciler(auto_repair=False)
    seen: list[Attempt] = []

    def look(write: Write, what: Replacement, now: int) -> Written:
        seen.extend(attempts(reconciler))
        assert row.is_untouched()
        return write(what, now)

    between(monkeypatch, look)
    done = by_a_person(reconciler, LOCKED_OUT)
    (intent,) = seen
    assert (intent.outcome, intent.hand, intent.after) == (None, "database", done.after)
    edit = {c["name"]: (c["before"], c["after"]) for c in intent.edit}
    run = f'"{row.database.entry()["lastRunId"]}"'
    assert (edit["status"], edit["endedAt"]) == (('"running"', '"failed"'), (None, str(done.after["endedAt"])))
    assert (edit["lifecycleRunId"], edit["lastRunId"]) == ((run, None), (None, run))


def test_a_row_that_was_written_since_is_judged_again_and_nothing_of_that_write_is_lost(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["a person has named it", "and again"])

    def named(write: Write, what: Replacement, now: int) -> Written:
        if name := next(names, None):
            row.database.edit(label=name)
        return write(what, now)

    between(monkeypatch, named)
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    entry = row.database.entry()
    assert (attempt.outcome, entry["status"], entry["label"]) == (Outcome.APPLIED, "failed", "and again")


def test_a_row_that_is_gone_since_it_was_found_is_not_settled_and_leaves_no_attempt(world: World, row: Stuck) -> None:
    reconciler = world.reconciler(auto_repair=False)
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    row.database.run("DELETE FROM session_nodes WHERE session_key = ?", LOCKED_OUT)
    with pytest.raises(NotStuck, match="its row is gone"):
        reconciler.repairer.settle(finding, PERSON)
    assert attempts(reconciler) == []


def test_a_turn_that_begins_after_the_judging_is_left_alone(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(write: Write, what: Replacement, now: int) -> Written:
        row.database.edit(startedAt=now, lifecycleRunId="another-run")
        return write(what, now)

    between(monkeypatch, begins)
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, row.database.entry()["status"]) == (Outcome.SUPERSEDED, "running")
    assert attempt.finished_at is not None


def test_a_row_that_is_written_again_and_again_is_given_up_for_now(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def named(write: Write, what: Replacement, now: int) -> Written:
        nonlocal tries
        tries += 1
        row.database.edit(label=f"name {tries}")
        return write(what, now)

    between(monkeypatch, named)
    attempt = by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    assert (attempt.outcome, tries, row.database.entry()["status"]) == (Outcome.REFUSED, 3, "running")


def test_a_database_that_was_written_a_moment_ago_is_no_reason_to_wait(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.clock.advance(31)
    now = world.clock.now() * 1_000_000
    os.utime(row.database.path, ns=(now, now))
    run_pass(reconciler)
    assert [a.outcome for a in attempts(reconciler)] == [Outcome.APPLIED]


def test_a_dry_run_writes_nothing_at_all(world: World, row: Stuck) -> None:
    reconciler = world.reconciler(auto_repair=False)
    with tree_unchanged(world.state):
        plan = by_a_person(reconciler, LOCKED_OUT, Ask(Trigger.API, "a person", "a test", dry_run=True))
    assert plan.after["status"] == "failed"
    assert attempts(reconciler) == []


def test_a_person_may_force_a_row_whose_gateway_was_killed_in_its_turn(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    finding = finding_of(run_pass(reconciler), "agent:main:killed")
    ask = Ask(Trigger.API, "a person", "a test", force=True, target_status="killed")
    attempt = reconciler.repairer.settle(finding, ask)
    assert (attempt.outcome, row.database.entry("agent:main:killed")["status"]) == (Outcome.APPLIED, "killed")


# --- where nobody may write ---


@pytest.mark.parametrize(
    ("gateway", "writes", "why"),
    [
        (UNKNOWN, "idle", "gateway_unsure"),
        (running_since(0), "idle", "gateway_unsure"),
        (running_since(0), "stopped", "gateway_unsure"),
        (ABSENT, "off", "CLAWMEND_DATABASE_WRITES is off"),
    ],
)
def test_where_nobody_may_write_nothing_is_attempted_and_a_person_is_told_why(
    world: World, row: Stuck, gateway: Gateway, writes: str, why: str
) -> None:
    world.gateway = gateway
    reconciler = world.reconciler(database_writes=writes)
    with tree_unchanged(world.state):
        finding = finding_of(run_for(reconciler, world.clock, 1_300, step=20), LOCKED_OUT)
        assert finding.verdict.ripe
        assert why in (finding.unwritable or "")
        assert reconciler.wake_at is None
        with pytest.raises(StoreUnfit, match=why):
            reconciler.repairer.settle(finding, PERSON)
    assert attempts(reconciler) == []


def test_to_a_schema_that_we_do_not_know_nobody_writes(world: World, row: Stuck) -> None:
    with closing(sqlite3.connect(row.database.path)) as connection:
        connection.execute("PRAGMA user_version = 24")
    row.database.rest(world.clock.now())
    reconciler = world.reconciler()
    report = run_for(reconciler, world.clock, 60)
    assert "schema" in (finding_of(report, LOCKED_OUT).unwritable or "")
    assert (attempts(reconciler), row.is_untouched()) == ([], True)


def test_only_what_might_be_settled_is_called_unwritable(world: World, row: Stuck) -> None:
    world.gateway = UNKNOWN
    report = run_pass(world.reconciler())
    assert [f.key for f in report.findings() if f.unwritable] == [LOCKED_OUT]


def maintained(row: Stuck) -> None:
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    row.state.run(lease, row.now + 3_600_000)


def still_open(row: Stuck) -> None:
    me = os.getpid()
    row.state.run("INSERT INTO agent_database_leases VALUES ('1', 'main', 'x', ?, ?, 0)", me, start_ticks(me))


def readable_by_others(row: Stuck) -> None:
    row.database.path.chmod(0o644)


def without_a_log(row: Stuck) -> None:
    with closing(sqlite3.connect(row.database.path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    row.database.rest(row.now)


@pytest.mark.parametrize(
    ("guard", "code"),
    [
        (maintained, "maintenance"),
        (still_open, "still_open"),
        (readable_by_others, "not_private"),
        (without_a_log, "no_log"),
    ],
)
def test_what_the_writer_refuses_is_the_reason_in_the_audit_and_the_session_is_put_off(
    world: World, row: Stuck, guard: Callable[[Stuck], None], code: str
) -> None:
    guard(row)
    reconciler = world.reconciler()
    attempt = settled(world, reconciler)
    assert (attempt.outcome, attempt.finished_at is not None) == (Outcome.REFUSED, True)
    assert f"({code})" in (attempt.outcome_reason or "")
    assert finding_of(reconciler.report, LOCKED_OUT).put_off_until is not None
    assert row.is_untouched()


# --- undo ---


def test_an_undo_gives_the_row_back_to_the_byte_and_the_scheduler_leaves_it_alone(world: World, row: Stuck) -> None:
    before = row.node()
    reconciler = world.reconciler()
    repair = settled(world, reconciler)
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, undo.hand, row.node()) == (Outcome.APPLIED, "database", before)
    run_for(reconciler, world.clock, 300, step=30)
    assert finding_of(reconciler.report, LOCKED_OUT).held_by == undo.id
    assert (len(attempts(reconciler)), row.node()) == (2, before)
    with pytest.raises(CannotUndo, match="changed again"):
        reconciler.repairer.undo(repair, PERSON)


def test_what_was_written_into_the_row_since_stays_in_an_undo(world: World, row: Stuck) -> None:
    before = row.database.entry()
    reconciler = world.reconciler()
    repair = settled(world, reconciler)
    bumped = world.clock.now()
    row.database.edit(label="a person has named it", updatedAt=bumped)
    assert reconciler.repairer.undo(repair, PERSON).outcome == Outcome.APPLIED
    assert row.database.entry() == {**before, "label": "a person has named it", "updatedAt": bumped}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "timeout"},
        {"startedAt": 1},
        {"lastRunId": None, "lifecycleRunId": "another-run", "status": "running", "endedAt": None},
    ],
)
def test_a_row_that_has_moved_on_is_not_given_back(world: World, row: Stuck, change: dict[str, Any]) -> None:
    reconciler = world.reconciler()
    repair = settled(world, reconciler)
    row.database.edit(**change)
    moved_on = row.node()
    with pytest.raises(CannotUndo):
        reconciler.repairer.undo(repair, PERSON)
    assert row.node() == moved_on


def test_another_last_run_refuses_the_undo(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    repair = settled(world, reconciler)
    row.database.edit(lastRunId="another-run")
    undo = reconciler.repairer.undo(repair, PERSON)
    assert (undo.outcome, row.database.entry()["status"]) == (Outcome.REFUSED, "failed")


def test_an_undo_waits_for_a_gateway_that_may_run(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    repair = settled(world, reconciler)
    world.gateway = UNKNOWN
    with pytest.raises(StoreUnfit, match="gateway_unsure"):
        reconciler.repairer.undo(repair, PERSON)
    assert row.database.entry()["status"] == "failed"


# --- looks, and what a crash leaves ---


def test_the_looks_find_it_as_it_was_written_also_where_another_field_has_changed(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    settled(world, reconciler)
    later(world, reconciler, 1)
    row.database.edit(updatedAt=world.clock.now())
    attempt = later(world, reconciler, 5, 55)
    assert [look["found"] for look in attempt.looks] == ["as_written"] * 3
    assert (attempt.outcome, attempt.finished_at is not None) == (Outcome.APPLIED, True)


def test_a_row_that_is_put_back_is_found_overwritten_and_settled_again(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    settled(world, reconciler)
    row.database.put(LOCKED_OUT, row.what.before.decode(), row.database.entry()["updatedAt"], "running")
    row.database.edit(updatedAt=world.clock.now())
    world.clock.advance(2)
    run_pass(reconciler)
    first, second = attempts(reconciler)
    assert (first.outcome, second.outcome, second.retry_of) == (Outcome.OVERWRITTEN, Outcome.APPLIED, first.id)
    assert row.database.entry()["status"] == "failed"


def test_a_new_turn_and_a_database_that_is_gone_are_told_apart_by_the_looks(world: World, row: Stuck) -> None:
    reconciler = world.reconciler()
    settled(world, reconciler)
    row.database.edit(startedAt=world.clock.now(), status="running", lastRunId=None, lifecycleRunId="another")
    later(world, reconciler, 1)
    row.database.path.unlink()
    attempt = later(world, reconciler, 60)
    assert [look["found"] for look in attempt.looks] == ["as_written", "moved_on", "gone"]


@pytest.mark.parametrize(("written", "outcome"), [(True, Outcome.APPLIED), (False, Outcome.UNKNOWN)])
def test_a_crash_around_the_write_is_resolved_from_the_database(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch, written: bool, outcome: Outcome
) -> None:
    def crash(write: Write, what: Replacement, now: int) -> Written:
        if written:
            write(what, now)
        raise Crash

    between(monkeypatch, crash)
    with pytest.raises(Crash):
        by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    monkeypatch.undo()
    after = world.reconciler(auto_repair=False)
    run_pass(after)
    assert attempts(after)[0].outcome == outcome
    later(world, after, 1, 4)
    assert later(world, after, 55).outcome == (outcome if written else Outcome.REFUSED)


def test_a_crash_before_there_was_a_plan_has_written_nothing(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, judged = Scanner.judge_entry, []

    def crash(self: Scanner, *what: Any) -> Any:
        judged.append(what)
        if len(judged) == 2:
            raise Crash
        return judge(self, *what)

    monkeypatch.setattr(Scanner, "judge_entry", crash)
    with pytest.raises(Crash):
        by_a_person(world.reconciler(auto_repair=False), LOCKED_OUT)
    monkeypatch.undo()
    after = world.reconciler(auto_repair=False)
    run_pass(after)
    (attempt,) = attempts(after)
    assert (attempt.outcome, row.is_untouched()) == (Outcome.REFUSED, True)


@pytest.mark.parametrize("written", [True, False])
def test_a_process_without_a_word_is_unknown_until_the_row_tells(
    world: World, row: Stuck, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    def silent(write: Write, what: Replacement, now: int) -> Written:
        if written:
            write(what, now)
        return Written("unknown", "no_answer", "a test says so")

    between(monkeypatch, silent)
    reconciler = world.reconciler(auto_repair=False)
    attempt = by_a_person(reconciler, LOCKED_OUT)
    assert (attempt.outcome, attempt.finished_at) == (Outcome.UNKNOWN, None)
    assert later(world, reconciler, 1).outcome == (Outcome.APPLIED if written else Outcome.UNKNOWN)
    assert later(world, reconciler, 4, 55).outcome == (Outcome.APPLIED if written else Outcome.REFUSED)


def test_a_session_that_was_settled_meanwhile_is_not_stuck(world: World, row: Stuck) -> None:
    reconciler = world.reconciler(auto_repair=False)
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    other = world.reconciler(auto_repair=False)
    by_a_person(other, LOCKED_OUT)
    with pytest.raises(NotStuck, match="settled"):
        reconciler.repairer.settle(finding, PERSON)
