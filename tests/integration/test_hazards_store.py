"""Hazards 4, 6, 7, 19, 21, 23 and 24: what the rows say, and what a store is."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.domain.model import Code
from app.reconcile.asking import Ask, NotStuck
from tests.integration.test_hazards import HELD_FOR, left_alone, verdict
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, attempts, finding_of, run_for, run_pass, tree_unchanged

NEW_ID = "70615e9b-14b7-448e-88c7-1d3f834922e3"
BY_CLOCK = Ask("scheduler", "clawmend", "its window has passed")


def add_row(world: World, key: str, agent: str = "main", **fields: Any) -> None:
    rows = world.rows(agent) if world.store(agent).exists() else {}
    data = json.dumps({**rows, key: fields}, indent=2).encode()
    world.write_store(data, agent)


@pytest.mark.parametrize("link", ["spawnedBy", "parentSessionKey"])
@pytest.mark.parametrize("agent", ["main", "beta"])
@pytest.mark.parametrize("status", ["running", None])
def test_hazard_04_a_yielded_parent_whose_child_runs(world: World, link: str, agent: str, status: str | None) -> None:
    """The parent's turn ended in success; the child works, or waits for its turn, in the same store or another's."""
    world.stuck()
    now = world.clock.now()
    world.append(world.event("session.ended", now - 60_000, {"status": "success"}))
    child = {"sessionId": NEW_ID, "updatedAt": now, link: STUCK_KEY}
    if status is not None:
        child |= {"status": status, "startedAt": now}
    add_row(world, f"agent:{agent}:subagent:{NEW_ID}", agent, **child)
    assert verdict(left_alone(world)) == ("waiting", "1 session that work for it still run")


def test_hazard_04_a_turn_that_says_that_it_yielded(world: World) -> None:
    world.stuck()
    world.append(world.event("session.ended", world.clock.now() - 60_000, {"status": "success", "yieldDetected": True}))
    assert verdict(left_alone(world))[0] == "waiting"


@pytest.mark.parametrize("family", [None, [STUCK_SESSION_ID]])
def test_hazard_06_a_session_id_rotated_by_a_reset(world: World, family: list[str] | None) -> None:
    """`running` may survive the rotation (spec 2026.5.18, section 2); the old trajectory stays, with its old end."""
    world.stuck()
    now = world.clock.now()
    transcript = world.sessions() / f"{NEW_ID}.jsonl"
    world.edit_row(sessionId=NEW_ID, sessionFile=str(transcript), startedAt=now, usageFamilySessionIds=family)
    code, reason = verdict(left_alone(world))
    assert code == "working"
    assert reason.startswith("a turn began after the last end" if family else "set running")


def test_hazard_06_an_old_end_proves_nothing_for_a_new_session_id(world: World) -> None:
    """As above, with the old `startedAt` kept, and no word of a family: nothing is known of the new session."""
    world.stuck()
    world.edit_row(sessionId=NEW_ID, sessionFile=str(world.sessions() / f"{NEW_ID}.jsonl"))
    assert verdict(left_alone(world))[0] == "never_started"


def test_hazard_07_one_session_id_shared_by_two_rows(world: World) -> None:
    """A cron job's base row and its `:run:` row: the end names one of them, and only that one is settled."""
    world.stuck()
    base = f"{STUCK_KEY.removesuffix(':s-error400')}:cron:nightly"
    add_row(world, base, **world.row())
    untouched = world.row(base)
    reconciler = world.reconciler()
    report = run_for(reconciler, world.clock, HELD_FOR, step=20)

    assert world.row(base) == untouched
    assert verdict(finding_of(report, base)) == (
        "unprovable",
        "the last end in its trajectory belongs to another row with this sessionId",
    )
    assert world.row()["status"] == "failed"
    assert [a.session_key for a in attempts(reconciler)] == [STUCK_KEY]


@pytest.mark.parametrize("table", ["session_nodes", "session_entries"])
@pytest.mark.parametrize("in_the_log", [True, False])
def test_hazard_19_a_stale_sessions_json_after_the_migration_to_sqlite(
    world: World, table: str, in_the_log: bool
) -> None:
    """The database is the store, even where its tables stand in the write-ahead log only; the file is debris."""
    world.stuck()
    folder = world.sessions().parent / "agent"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "openclaw-agent.sqlite")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute(f'CREATE TABLE "{table}" (session_key TEXT PRIMARY KEY, entry_json TEXT, status TEXT)')
        database.commit()
        if not in_the_log:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        reconciler = world.reconciler()
        with tree_unchanged(world.state):
            report = run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert [p.code for p in report.problems()] == ["unknown_schema", "sqlite_store"]
    assert (list(report.findings()), attempts(reconciler)) == ([], [])


def test_hazard_19_a_database_of_credentials_only_is_no_migration(world: World) -> None:
    """Before 2026.7.2 the same file holds credentials; the rows are still in sessions.json, and are settled there."""
    world.stuck()
    folder = world.sessions().parent / "agent"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "openclaw-agent.sqlite")) as database:
        database.execute("CREATE TABLE auth_profiles (id TEXT)")
        database.commit()
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert world.row()["status"] == "failed"


@pytest.mark.parametrize(
    "fields",
    [
        {"restartRecoveryRuns": [{"runId": "r1"}]},
        {"restartRecoveryDeliveryRunId": "r1"},
        {"abortedLastRun": True},
        {"subagentRecovery": {"automaticAttempts": 1}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_hazard_21_restart_recovery_runs_is_present(world: World, fields: dict[str, Any]) -> None:
    world.stuck()
    world.edit_row(**fields)
    code, reason = verdict(left_alone(world))
    assert code == "recovering"
    assert next(iter(fields)) in reason


def test_hazard_23_a_deleted_row_is_not_brought_back_by_what_it_left(world: World) -> None:
    """`sessions.delete` takes the row and leaves the trajectory; the transcript is renamed."""
    world.stuck()
    reconciler = world.reconciler()
    seen = finding_of(run_for(reconciler, world.clock, 100, step=20))
    transcript = world.sessions() / f"{STUCK_SESSION_ID}.jsonl"
    transcript.rename(transcript.with_name(f"{transcript.name}.deleted.2026-11-22T06-10-00.000Z"))
    world.write_store(b"{}")

    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, HELD_FOR, step=20)
        with pytest.raises(NotStuck, match="its row is gone"):
            reconciler.repairer.settle(seen, BY_CLOCK)
    assert (list(report.findings()), report.problems(), attempts(reconciler)) == ([], [], [])


def test_hazard_23_a_deleted_store_is_not_brought_back(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 100, step=20)
    world.store().unlink()
    with tree_unchanged(world.state):
        run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert attempts(reconciler) == []


@contextmanager
def gateway_writes_before_the_exchange(world: World, **fields: Any) -> Iterator[None]:
    """The plan is in the audit, the new version not yet in place: at that moment the gateway writes the row, once."""
    written: list[str] = []

    def after_the_plan(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("UPDATE") and "new_sha256" in statement and not written:
            written.append(statement)
            world.edit_row(**fields)

    event.listen(Engine, "after_cursor_execute", after_the_plan)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after_the_plan)
    assert len(written) == 1


def test_hazard_24_a_turn_that_begins_between_our_read_and_our_write(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    began_at = world.clock.now()
    with gateway_writes_before_the_exchange(world, startedAt=began_at, model="the-gateway-wrote-this"):
        run_for(reconciler, world.clock, HELD_FOR, step=20)

    row = world.row()
    assert (row["status"], row["startedAt"], row["model"]) == ("running", began_at, "the-gateway-wrote-this")
    (attempt,) = attempts(reconciler)
    assert (attempt.outcome, attempt.outcome_reason) == ("superseded", "another turn has begun in this session")
    assert list(world.sessions().glob(".clawmend*")) == []


def test_hazard_24_a_write_between_our_read_and_our_write_that_changes_nothing_for_us_is_kept(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    with gateway_writes_before_the_exchange(world, model="the-gateway-wrote-this"):
        run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert (world.row()["status"], world.row()["model"]) == ("failed", "the-gateway-wrote-this")


def test_hazard_24_a_store_of_which_a_new_version_is_being_written_is_waited_for(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler(store_patience_seconds=0)
    run_for(reconciler, world.clock, 119)
    temp = world.sessions() / ".fs-safe-replace.4711.0b8e5c6e.tmp"
    temp.write_bytes(world.store().read_bytes()[:1000])
    world.clock.advance(2)
    os.utime(temp, ns=(0, world.clock.now() * 1_000_000))
    before = world.store().read_bytes()

    assert finding_of(run_pass(reconciler)).verdict.code is Code.STUCK
    assert world.store().read_bytes() == before
    assert [a.outcome for a in attempts(reconciler)] == ["refused"]

    temp.unlink()
    run_for(reconciler, world.clock, 60)
    assert world.row()["status"] == "failed"
