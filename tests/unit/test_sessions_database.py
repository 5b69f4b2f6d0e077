"""From the tables of a real gateway's database to rows, trails and verdicts (spec 2026.9.6, sections 2 to 4)."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any

import pytest

from app.domain.model import Code
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.sessions_database import SessionsDatabaseReader, SessionsSeen
from app.reconcile.report import Finding
from tests.databases import ENDED_AS, LOCKED_OUT, SCHEMAS, AgentDatabase, recorded
from tests.world import World, finding_of, run_pass

MINUTE = 60_000


def found(world: World, key: str = LOCKED_OUT) -> Finding:
    return finding_of(run_pass(world.reconciler(auto_repair=False)), key)


def said(world: World, key: str = LOCKED_OUT) -> tuple[Code, str]:
    verdict = found(world, key).verdict
    return verdict.code, verdict.reason


def look(reader: SessionsDatabaseReader, database: AgentDatabase, now: int) -> SessionsSeen:
    with Folder(str(database.path.parent)) as folder:
        seen = reader.read(folder, database.path.name, str(database.path), now)
    assert seen is not None
    return seen


# --- rows ---


@pytest.mark.parametrize("recording", SCHEMAS)
def test_a_finished_run_whose_row_still_says_running_is_stuck(world: World, recording: str) -> None:
    recorded(world, recording, ended_ago=3_600)
    finding = found(world)
    assert finding.verdict.code is Code.STUCK
    assert finding.verdict.settlement is not None
    assert finding.verdict.settlement.status == ENDED_AS[recording]
    (trail,) = finding.evidence.trails
    assert trail.end is not None
    assert trail.end.run_id == finding.evidence.row.run_id
    assert finding.agent_id == "main"


def test_the_other_rows_of_the_recording_are_what_their_stories_say(world: World) -> None:
    recorded(world)
    report = run_pass(world.reconciler(auto_repair=False))
    assert {f.key: f.verdict.code for f in report.findings()} == {
        "agent:main:hello": Code.SETTLED,
        "agent:main:refused": Code.SETTLED,
        LOCKED_OUT: Code.STUCK,
        "agent:main:half-told": Code.WORKING,  # its last event was lost: no end, so nothing is proven
        "agent:main:killed": Code.UNPROVABLE,
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"abortedLastRun": True}, Code.RECOVERING),
        ({"mainRestartRecovery": {"attempts": 1}}, Code.RECOVERING),
        ({"restartRecoveryRuns": ["a"]}, Code.RECOVERING),
        ({"restartRecoveryDeliveryRunId": "a"}, Code.RECOVERING),
        ({"restartRecoveryForceSafeTools": True}, Code.RECOVERING),
        ({"pendingFinalDelivery": {"a": 1}}, Code.RECOVERING),
        ({"pendingDeliveryNotice": {"a": 1}}, Code.RECOVERING),
        ({"subagentRecovery": {"a": 1}}, Code.RECOVERING),
        ({"initializationPending": True}, Code.RECOVERING),
        ({"incognito": True}, Code.RECOVERING),
        ({"cronRunContinuation": {"a": 1}}, Code.RECOVERING),
        ({"providerReview": {"a": 1}}, Code.RECOVERING),
        ({"updatedAt": 0}, Code.UNPROVABLE),
        ({"lifecycleRunId": None}, Code.UNPROVABLE),
        ({"lifecycleRunId": 7}, Code.UNPROVABLE),
        ({"sessionId": None}, Code.UNPROVABLE),
        ({"sessionId": "another"}, Code.UNPROVABLE),
        ({"startedAt": None}, Code.UNPROVABLE),
        ({"status": "done"}, Code.SETTLED),
        ({"status": "interrupted"}, Code.SETTLED),
        ({"status": None}, Code.SETTLED),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_row_that_is_not_ours_to_settle_is_not_stuck(world: World, fields: dict[str, Any], code: Code) -> None:
    database = recorded(world)
    assert said(world)[0] is Code.STUCK
    database.edit(**fields)
    assert said(world)[0] is code


def test_a_row_that_runs_with_an_end_has_yielded_and_waits(world: World) -> None:
    database = recorded(world)
    database.edit(endedAt=database.entry()["startedAt"] + 5)
    assert said(world) == (
        Code.WAITING,
        "its turn has ended and yielded: it waits for sessions that it has started",
    )


def test_a_parent_waits_for_the_rows_that_work_for_it(world: World) -> None:
    database = recorded(world)
    database.edit("agent:main:killed", spawnedBy=LOCKED_OUT)
    assert said(world)[0] is Code.WAITING


def test_a_row_that_was_written_past_openclaw_is_not_believed(world: World) -> None:
    database = recorded(world)
    entry = database.entry()
    database.put(LOCKED_OUT, json.dumps(entry), entry["updatedAt"], "running", certify=False)
    assert said(world) == (Code.UNPROVABLE, "OpenClaw has not found its row valid")
    database.run("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?", LOCKED_OUT)
    assert said(world) == (Code.UNPROVABLE, "OpenClaw has yet to validate its row")
    database.run("DELETE FROM session_canonical_validation_pending")
    assert said(world)[0] is Code.STUCK


def test_columns_that_tell_of_another_turn_than_the_row_prove_nothing(world: World) -> None:
    database = recorded(world)
    entry = database.entry()
    database.put(LOCKED_OUT, json.dumps(entry), entry["updatedAt"] + 1, "running")
    assert said(world) == (
        Code.UNPROVABLE,
        "its row and its columns tell of different turns: OpenClaw takes such a row for invalid",
    )
    database.put(LOCKED_OUT, json.dumps(entry), entry["updatedAt"], "done")
    assert said(world) == (Code.UNPROVABLE, "its row and its column tell of different statuses")
    database.put(LOCKED_OUT, json.dumps({**entry, "status": "done"}), entry["updatedAt"], "running")
    assert said(world) == (Code.UNPROVABLE, "its row and its column tell of different statuses")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{", '{"sessionId": "\\ud800"', "[" * 100_000, '{"a":' * 100_000, "\x00", "NaN"],
    ids=["empty", "list", "number", "half", "surrogate", "deep list", "deep object", "nul", "nan"],
)
def test_an_entry_that_is_no_object_makes_its_row_unprovable_and_no_other(world: World, text: str) -> None:
    database = recorded(world)
    database.put(LOCKED_OUT, text, 1, "running")
    assert said(world) == (Code.UNPROVABLE, "its row is not an object")
    assert said(world, "agent:main:hello")[0] is Code.SETTLED


def test_an_entry_of_forty_megabytes_is_not_read(world: World) -> None:
    database = recorded(world)
    database.put(LOCKED_OUT, json.dumps({**database.entry(), "x": "x" * 40_000_000}), 1, "running")
    assert said(world) == (Code.UNPROVABLE, "its row is larger than any that OpenClaw writes")
    assert said(world, "agent:main:hello")[0] is Code.SETTLED


# --- trails ---


@pytest.mark.parametrize("kind", ["session.started", "prompt.submitted", "trace.metadata", "something.new"])
def test_an_event_of_the_run_behind_its_end_takes_the_proof_away(world: World, kind: str) -> None:
    database = recorded(world)
    at = found(world).evidence.trails[0].identity.mtime
    database.add_event(kind, at + 1)
    assert said(world)[0] is Code.WORKING


def test_a_second_end_of_the_run_is_the_one_that_counts(world: World) -> None:
    database = recorded(world)
    at = found(world).evidence.trails[0].identity.mtime
    database.add_event("session.started", at + 1_000)
    database.add_event("session.ended", at + 2_000, data={"status": "success"})
    settlement = found(world).verdict.settlement
    assert settlement is not None
    assert (settlement.status, settlement.ended_at) == ("done", at + 2_000)


def test_events_of_another_run_neither_prove_nor_disprove(world: World) -> None:
    database = recorded(world)
    database.add_event("session.started", world.clock.now() - MINUTE, run_id="another")
    assert said(world)[0] is Code.STUCK
    database.edit("agent:main:killed", lifecycleRunId="mine")
    database.add_event(
        "session.ended", world.clock.now() - 1, "agent:main:killed", run_id="other", data={"status": "success"}
    )
    assert said(world, "agent:main:killed")[0] is Code.UNPROVABLE


def test_a_run_without_an_event_is_never_stuck(world: World) -> None:
    database = recorded(world)
    database.run("DELETE FROM trajectory_runtime_events WHERE run_id = ?", database.entry()["lifecycleRunId"])
    assert said(world) == (
        Code.UNPROVABLE,
        "no event of its run is there: it is not over, they were lost with a gateway, or trimmed",
    )


def test_an_end_before_the_start_is_that_of_another_turn(world: World) -> None:
    database = recorded(world)
    late = world.clock.now() - 10_000
    database.edit(startedAt=late, updatedAt=late)
    assert said(world)[0] is Code.WORKING


def test_a_turn_that_was_stopped_for_a_restart_is_the_gateways_own(world: World) -> None:
    database = recorded(world)
    data = {"status": "interrupted", "aborted": True, "stopReason": "restart"}
    database.add_event("session.ended", world.clock.now() - MINUTE, data=data)
    assert said(world) == (
        Code.RECOVERING,
        "its turn was stopped for a restart of the gateway, which takes it up again",
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"status": "success"}, "done"),
        ({"status": "error", "timedOutByRunBudget": True}, "timeout"),
        ({"status": "error", "stopReason": "timeout"}, "timeout"),
        ({"status": "interrupted", "aborted": True, "stopReason": "rpc"}, "killed"),
        ({"status": "error", "terminalError": "non_deliverable_terminal_turn"}, "failed"),
    ],
)
def test_what_an_end_of_this_era_is_settled_to(world: World, data: dict[str, Any], status: str) -> None:
    database = recorded(world)
    database.add_event("session.ended", world.clock.now() - 30 * MINUTE, data=data)
    settlement = found(world).verdict.settlement
    assert settlement is not None
    assert settlement.status == status


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"type":"session.ended"}'])
def test_a_last_event_that_is_none_proves_nothing(world: World, text: str) -> None:
    database = recorded(world)
    entry = database.entry()
    database.run(
        "INSERT INTO trajectory_runtime_events VALUES (?, 99, ?, ?, 1)",
        entry["sessionId"],
        entry["lifecycleRunId"],
        text,
    )
    assert said(world) == (Code.UNPROVABLE, "the last line of its trajectory is not an event")


def test_an_event_in_the_place_of_another_run_proves_nothing(world: World) -> None:
    database = recorded(world)
    run_id = database.entry()["lifecycleRunId"]
    database.add_event("session.ended", world.clock.now() - MINUTE, run_id="another", data={"status": "success"})
    database.run("UPDATE trajectory_runtime_events SET run_id = ? WHERE run_id = 'another'", run_id)
    assert said(world) == (Code.UNPROVABLE, "an event of its trajectory names another run than its column")


def test_an_event_of_forty_megabytes_is_not_read(world: World) -> None:
    database = recorded(world)
    database.add_event("session.ended", world.clock.now() - MINUTE, data={"status": "success", "x": "x" * 40_000_000})
    assert said(world) == (Code.UNPROVABLE, "an event of its trajectory is larger than any that OpenClaw writes")


def test_what_the_gateways_list_tells_of_a_run_is_told_by_its_first_event(world: World) -> None:
    database = recorded(world)
    assert found(world).evidence.trails[0].registered
    run_id = database.entry()["lifecycleRunId"]
    database.run("DELETE FROM trajectory_runtime_events WHERE run_id = ? AND seq = 0", run_id)
    assert not found(world).evidence.trails[0].registered


# --- schemas ---


def test_the_beta_schema_is_read_and_said_to_be_unknown_to_a_writer(world: World) -> None:
    """2026.7.2-beta.1: no validity, no lifecycleRunId; the last event of the session counts, as in a file."""
    database = recorded(world)
    entry = database.entry()
    del entry["lifecycleRunId"]
    events = "SELECT session_id, seq, run_id, event_json, created_at FROM trajectory_runtime_events"
    with sqlite3.connect(database.path) as connection:
        rows = connection.execute(events).fetchall()
    connection.close()
    database.path.unlink()
    database.make(
        "CREATE TABLE session_entries (session_key TEXT PRIMARY KEY, session_id TEXT, entry_json TEXT,"
        " updated_at INTEGER, status TEXT);"
        " CREATE TABLE sessions (session_id TEXT PRIMARY KEY, transcript_updated_at INTEGER);"
        " CREATE TABLE trajectory_runtime_events (session_id TEXT, seq INTEGER, run_id TEXT, event_json TEXT,"
        " created_at INTEGER, PRIMARY KEY (session_id, seq)); PRAGMA user_version = 4;"
    )
    with database.writing() as connection:
        connection.executemany("INSERT INTO trajectory_runtime_events VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute(
            "INSERT INTO session_entries VALUES (?, ?, ?, ?, 'running')",
            (LOCKED_OUT, entry["sessionId"], json.dumps(entry), entry["updatedAt"]),
        )
    report = run_pass(world.reconciler())
    assert finding_of(report, LOCKED_OUT).verdict.code is Code.STUCK
    assert [p.code for p in report.problems()] == ["unknown_schema"]


def test_a_schema_of_tomorrow_that_reads_like_todays_is_judged_and_said_to_be_unknown(world: World) -> None:
    database = recorded(world)
    with sqlite3.connect(database.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    report = run_pass(world.reconciler())
    assert finding_of(report, LOCKED_OUT).verdict.code is Code.STUCK
    assert [p.code for p in report.problems()] == ["unknown_schema"]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE session_nodes RENAME COLUMN updated_at TO changed_at",
        "ALTER TABLE trajectory_runtime_events RENAME TO trajectory_events",
        "ALTER TABLE session_nodes RENAME COLUMN entry_json TO entry_jsonb",
    ],
)
def test_tables_that_do_not_read_like_todays_are_said_so(world: World, change: str) -> None:
    database = recorded(world)
    database.run(change)
    reader = SessionsDatabaseReader()
    with pytest.raises(FileProblem) as raised:
        look(reader, database, world.clock.now())
    assert raised.value.code == "unknown_schema"


# --- what a look costs ---


def test_a_database_that_nobody_wrote_to_is_not_read_again(world: World) -> None:
    database = recorded(world)
    reader = SessionsDatabaseReader()
    seen = look(reader, database, world.clock.now())
    assert look(reader, database, world.clock.now() + MINUTE) is seen


def test_only_what_is_new_and_what_runs_is_read_again(world: World) -> None:
    database = recorded(world)
    reader = SessionsDatabaseReader()
    first = look(reader, database, world.clock.now())
    running = len(json.dumps(database.entry(), separators=(",", ":"))) + sum(
        len(json.dumps(database.entry(f"agent:main:{name}"), separators=(",", ":"))) for name in ("half-told", "killed")
    )
    database.edit("agent:main:hello", label="renamed", updatedAt=database.entry("agent:main:hello")["updatedAt"] + 1)
    second = look(reader, database, world.clock.now())
    hello = len(json.dumps(database.entry("agent:main:hello"), separators=(",", ":")))
    refused = len(json.dumps(database.entry("agent:main:refused"), separators=(",", ":")))
    assert running + hello < second.bytes_read
    assert abs(first.bytes_read - second.bytes_read - refused) < 100, "all but the row that has rested"


def test_a_second_write_in_the_instant_of_the_first_is_seen(world: World) -> None:
    """Two writes within one tick leave files that look the same; what is so fresh is not believed."""
    database = recorded(world)
    reader = SessionsDatabaseReader()
    database.edit(label="one")
    now = database.path.stat().st_mtime_ns // 1_000_000
    assert {r.key for r in look(reader, database, now).rows if r.status == "running"} >= {LOCKED_OUT}
    before = database.path.stat()
    database.edit(status="done", label="two")
    os.utime(database.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen = look(reader, database, now)
    assert LOCKED_OUT not in {r.key for r in seen.rows if r.status == "running"}


def test_a_row_that_is_gone_is_forgotten(world: World) -> None:
    database = recorded(world)
    reader = SessionsDatabaseReader()
    look(reader, database, world.clock.now())
    database.run("DELETE FROM session_nodes WHERE session_key = 'agent:main:hello'")
    assert "agent:main:hello" not in {r.key for r in look(reader, database, world.clock.now()).rows}


def test_more_rows_than_any_gateway_has_are_not_read(world: World) -> None:
    database = AgentDatabase(world.state)
    database.make(
        "CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, updated_at INTEGER, status TEXT, entry_valid INT);"
        "INSERT INTO session_nodes WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200001)"
        " SELECT i, 1, NULL, 1 FROM n;"
    )
    with pytest.raises(FileProblem) as raised:
        look(SessionsDatabaseReader(), database, world.clock.now())
    assert raised.value.code == "too_large"
