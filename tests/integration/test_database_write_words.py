"""What a write to a database says of itself, to the letter: the audit keeps it, and a person reads it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import Any

import apsw
import pytest

from app.openclaw import database_write
from app.openclaw.processes import start_ticks
from app.openclaw.replacement import Written
from tests.databases import LOCKED_OUT
from tests.stuck_rows import Stuck, stuck
from tests.world import World


@pytest.fixture
def row(world: World) -> Stuck:
    return stuck(world)


def node(row: Stuck, change: str) -> None:
    """As somebody changes the row who keeps it valid, and leaves nothing to be validated."""
    row.database.run(f"UPDATE session_nodes SET {change} WHERE session_key = ?", LOCKED_OUT)
    if "entry_valid" not in change:
        row.database.run("UPDATE session_nodes SET entry_valid = 1")
    row.database.run("DELETE FROM session_canonical_validation_pending")


def test_a_row_that_is_not_what_was_judged(row: Stuck) -> None:
    row.database.edit(label="named")
    assert row.write() == Written("changed", "changed", "the row has been written since it was judged")
    row.database.run("DELETE FROM session_nodes WHERE session_key = ?", LOCKED_OUT)
    assert row.write() == Written("changed", "changed", "the row is gone")


def test_a_row_that_says_so_already(row: Stuck) -> None:
    row.write()
    assert row.write() == Written("changed", "already", "the row already says so")


UNLIKE = "the entry and its columns tell of different turns"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("entry_valid = 0", "OpenClaw has not found the row valid"),
        ("entry_valid = -1", "OpenClaw has not found the row valid"),
        ("updated_at = updated_at + 1", UNLIKE),
        ("current_session_id = 'another'", UNLIKE),
        ("status = 'failed'", UNLIKE),
        ("status = NULL", UNLIKE),
    ],
)
def test_a_row_that_openclaw_would_not_take_as_it_is(row: Stuck, change: str, why: str) -> None:
    node(row, change)
    assert row.write() == Written("refused", "row_unfit", why)


def test_a_row_that_is_yet_to_be_validated(row: Stuck) -> None:
    row.database.run("INSERT INTO session_canonical_validation_pending VALUES (?)", LOCKED_OUT)
    assert row.write() == Written("refused", "row_unfit", "OpenClaw has yet to validate the row")


def test_another_row_that_is_yet_to_be_validated_stays_so(row: Stuck) -> None:
    row.database.run("INSERT INTO session_canonical_validation_pending VALUES ('agent:main:killed')")
    assert row.write().kind == "written"
    assert row.pending() == [("agent:main:killed",)]


def test_a_session_without_a_window_of_its_own(row: Stuck) -> None:
    row.database.run("UPDATE session_windows SET session_key = 'agent:main:killed' WHERE session_key = ?", LOCKED_OUT)
    row.database.run("DELETE FROM session_canonical_validation_pending")
    assert row.write() == Written("refused", "row_unfit", "the session has no window of its own")
    assert row.ask("SELECT status FROM session_nodes WHERE session_key = ?", LOCKED_OUT) == [("running",)]


def test_texts_of_two_sessions_or_too_long_ones(row: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    unfit = Written("refused", "row_unfit", "the two texts are not of one session, or too long")
    assert row.write(after=row.what.after.replace(b'"sessionId":"', b'"sessionId":"x')) == unfit
    monkeypatch.setattr(database_write, "LONGEST_VALUE", len(row.what.after) - 1)
    assert row.write() == unfit
    monkeypatch.setattr(database_write, "LONGEST_VALUE", len(row.what.after))
    assert row.write() != unfit


def test_a_row_that_is_longer_than_any_of_openclaws_is_not_loaded(row: Stuck) -> None:
    text = json.dumps({**row.database.entry(), "label": "x" * database_write.LONGEST_VALUE})
    row.database.put(LOCKED_OUT, text, row.database.entry()["updatedAt"], "running")
    assert row.write() == Written("refused", "database_unreadable", "nothing was written: string or blob too big")


def test_a_text_that_is_none(row: Stuck) -> None:
    said = row.write(after=b"[]")
    assert (said.kind, said.code) == ("refused", "row_unfit")
    assert said.detail == "the entry cannot be changed: not an object"


def test_a_library_and_a_disk_that_are_not_fit(row: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    said = row.write(root="/proc", path="/proc/self/openclaw-agent.sqlite")
    assert said == Written("refused", "not_local", "it is not on a local disk, where locks can be relied on")
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    detail = "SQLite 3.51.2 may damage a database that another process writes to"
    assert row.write() == Written("refused", "unsafe_library", detail)


def test_others_who_are_at_work(row: Stuck) -> None:
    me = os.getpid()
    row.state.run("INSERT INTO agent_database_leases VALUES ('1', 'main', 'x', ?, ?, 0)", me, start_ticks(me))
    detail = f"process {me} has said that it has a database of this kind open"
    assert row.write() == Written("refused", "still_open", detail)
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    row.state.run(lease, row.now + 1)
    assert row.write() == Written("refused", "maintenance", "OpenClaw's own maintenance works on the databases")


@pytest.mark.parametrize("by", ["key", "session", "run"])
def test_whoever_works_on_the_session_by_any_of_its_names(row: Stuck, by: str) -> None:
    entry = row.database.entry()
    if by == "key":
        row.state.claim_task(LOCKED_OUT, None)
    elif by == "session":
        row.state.claim_turn("agent:main:another", entry["sessionId"], "another-run")
    else:
        row.state.claim_task(None, entry["lifecycleRunId"])
    table = "worker_session_placements" if by == "session" else "task_runs"
    assert row.write(live=True) == Written("refused", "claimed", f"somebody works on the session, by {table}")
    assert row.write().kind == "written", "with its gateway its claim has gone too"


def test_a_file_that_is_not_fit(row: Stuck) -> None:
    path = row.database.path
    path.chmod(0o604)
    detail = "others may read it: what is written beside it would be theirs to read as well"
    assert row.write() == Written("refused", "not_private", detail)
    path.chmod(0o600)
    os.link(path, path.with_name("second"))
    detail = "it has a second name, by which another process may write to it unseen"
    assert row.write() == Written("refused", "hard_link", detail)
    path.with_name("second").unlink()
    path.unlink()
    assert row.write() == Written("refused", "missing", "it is not there")


def test_a_database_that_is_not_fit(row: Stuck) -> None:
    with closing(sqlite3.connect(row.database.path)) as connection:
        connection.execute("PRAGMA user_version = 24")
    assert row.write() == Written("refused", "unknown_schema", "its schema (24) is not one that we know how to write")
    with closing(sqlite3.connect(row.database.path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    detail = "its journal mode is delete: it is not a database of a gateway on a local disk"
    assert row.write() == Written("refused", "no_log", detail)


def test_a_database_without_any_word_of_its_schema(row: Stuck) -> None:
    row.database.run("DELETE FROM schema_meta")
    assert row.write().code == "unknown_schema"


def test_a_gateway_that_would_have_to_wait(row: Stuck) -> None:
    detail = "it took longer than the gateway is to be kept waiting"
    assert row.write(hold_seconds=0.0) == Written("refused", "too_slow", detail)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000000) SELECT i FROM n"
    with closing(apsw.Connection(str(row.database.path))) as connection:
        connection.execute(f"CREATE VIEW numbers AS {numbers}")
        connection.execute(
            "CREATE TRIGGER slow AFTER UPDATE OF status ON session_windows BEGIN SELECT max(i) FROM numbers; END"
        )
    assert row.write(hold_seconds=0.02) == Written("refused", "too_slow", detail)
    assert row.is_untouched()


def test_a_statement_that_does_not_end_is_broken_off(row: Stuck) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    with closing(apsw.Connection(str(row.database.path))) as connection:
        connection.execute(f"CREATE VIEW numbers AS {numbers}")
        connection.execute(
            "CREATE TRIGGER endless AFTER UPDATE OF status ON session_windows BEGIN SELECT max(i) FROM numbers; END"
        )
    detail = "it took longer than the gateway is to be kept waiting"
    assert row.write(hold_seconds=0.02) == Written("refused", "too_slow", detail)
    assert row.is_untouched()


def test_a_statement_that_takes_long_but_not_too_long_is_let_be(row: Stuck) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT i FROM n"
    with closing(apsw.Connection(str(row.database.path))) as connection:
        connection.execute(f"CREATE VIEW numbers AS {numbers}")
        connection.execute(
            "CREATE TRIGGER slow AFTER UPDATE OF status ON session_windows BEGIN SELECT max(i) FROM numbers; END"
        )
    assert row.write().kind == "written"


@pytest.mark.parametrize(
    "statement",
    ["SELECT load_extension('x')", "SELECT fts5(NULL)", "INSERT INTO notes_data VALUES (7, x'00')"],
    ids=["loads a library", "calls what may do harm", "writes to what belongs to an index"],
)
def test_a_trigger_that_was_made_to_do_harm(row: Stuck, statement: str) -> None:
    with closing(apsw.Connection(str(row.database.path))) as connection:
        connection.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        connection.execute(f"CREATE TRIGGER harm AFTER UPDATE OF status ON session_windows BEGIN {statement}; END")
    said = row.write()
    assert (said.kind, said.code, said.held_ms) == ("refused", "database_unreadable", None)
    assert said.detail.startswith("nothing was written: ")
    assert row.is_untouched()


def test_how_long_the_lock_was_held_is_told_in_milliseconds(row: Stuck) -> None:
    said: Any = row.write()
    assert (said.kind, said.code, said.detail) == ("written", "", "")
    assert 0.01 < said.held_ms < 60_000
