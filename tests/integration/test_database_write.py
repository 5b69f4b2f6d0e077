"""A database that a real gateway made (recordings), with rows that one has left running; nothing here is played."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.domain.entry import entry_of
from app.openclaw.database_process import replace_in_a_process
from app.openclaw.processes import start_ticks
from app.openclaw.replacement import Replacement, Written
from tests.databases import LOCKED_OUT, SCHEMAS
from tests.stuck_rows import Stuck, stuck
from tests.world import World


@pytest.fixture(params=SCHEMAS, ids=lambda name: f"schema {SCHEMAS[name]}")
def row(world: World, request: pytest.FixtureRequest) -> Stuck:
    return stuck(world, request.param)


@pytest.fixture
def new(world: World) -> Stuck:
    """A row of the newest schema."""
    return stuck(world)


# --- what is written ---


def test_a_settled_row_is_whole_in_node_and_window_and_valid(row: Stuck) -> None:
    ended = entry_of(row.what.after)
    others = row.rest()
    assert row.write().kind == "written"
    window = ("done", ended.started_at, ended.ended_at, ended.updated_at)
    assert row.node() == (row.what.after, 1, ended.updated_at, "done", *window)
    assert row.rest() == others
    assert row.ask("PRAGMA integrity_check") == [("ok",)]
    assert row.ask("PRAGMA foreign_key_check") == []


def test_no_row_waits_to_be_validated_after_it(new: Stuck) -> None:
    new.write()
    assert new.pending() == []


def test_an_undo_gives_the_row_back_as_it_was(row: Stuck) -> None:
    before, others = row.node(), row.rest()
    row.write()
    assert row.undo().kind == "written"
    assert row.node() == before
    assert row.rest() == others


def test_an_undo_of_a_row_that_has_moved_on_changes_nothing(new: Stuck) -> None:
    new.write()
    new.database.edit(label="a person has named it")
    moved_on = new.node()
    assert (new.undo().kind, new.undo().code) == ("changed", "changed")
    assert new.node() == moved_on


def test_a_row_that_has_been_written_since_it_was_judged_is_left_alone(new: Stuck) -> None:
    new.database.edit(label="a person has named it")
    moved_on = new.node()
    assert (new.write().kind, new.write().code) == ("changed", "changed")
    assert new.node() == moved_on


def test_one_byte_that_means_the_same_is_another_text(new: Stuck) -> None:
    assert new.write(before=new.what.before.replace(b'"status":"running"', b'"status": "running"')).kind == "changed"
    assert new.is_untouched()


def test_a_row_that_is_gone_is_not_made_anew(new: Stuck) -> None:
    new.database.run("DELETE FROM session_nodes WHERE session_key = ?", LOCKED_OUT)
    assert new.write().kind == "changed"
    assert new.ask("SELECT 1 FROM session_nodes WHERE session_key = ?", LOCKED_OUT) == []


def test_what_is_written_already_is_said_to_be(new: Stuck) -> None:
    new.write()
    assert (new.write().kind, new.write().code) == ("changed", "already")


# --- beside the database ---


def names(row: Stuck) -> dict[str, tuple[int, int]]:
    """Every file beside the database: which one, and who may read it."""
    found = {p.name: p.stat() for p in row.database.path.parent.iterdir()}
    return {name: (st.st_ino, stat.S_IMODE(st.st_mode)) for name, st in found.items()}


def test_where_there_was_no_log_there_is_none_afterwards(new: Stuck) -> None:
    before = names(new)
    assert list(before) == [new.database.path.name]
    new.write()
    assert names(new) == before


def test_a_log_that_was_there_stays_the_same_file_and_is_added_to(new: Stuck) -> None:
    with closing(sqlite3.connect(new.database.path, isolation_level=None)) as gateway:
        gateway.execute("UPDATE session_nodes SET label = label")
        before, size = names(new), Path(f"{new.database.path}-wal").stat().st_size
        assert len(before) == 3
        assert new.write().kind == "written"
        assert names(new) == before
        assert Path(f"{new.database.path}-wal").stat().st_size >= size
        assert {mode for _, mode in names(new).values()} == {0o600}


def test_a_log_that_a_killed_gateway_left_behind_is_neither_emptied_nor_taken_away(new: Stuck) -> None:
    leave_a_log(new)
    before, size = names(new), Path(f"{new.database.path}-wal").stat().st_size
    assert size > 0
    new.write()
    assert names(new) == before
    assert Path(f"{new.database.path}-wal").stat().st_size > size
    assert new.node()[3] == "done"


def leave_a_log(row: Stuck) -> None:
    connection = apsw.Connection(str(row.database.path))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("UPDATE session_nodes SET label = 'x' WHERE session_key <> ?", (LOCKED_OUT,))
    connection.close()


# --- when it is refused ---


def refused(row: Stuck, code: str, **over: Any) -> None:
    said = row.write(**over)
    assert (said.kind, said.code) == ("refused", code), said
    assert said.detail


@pytest.mark.parametrize("schema", [18, 20, 22, 24])
def test_a_schema_that_we_do_not_know_is_not_written_to(new: Stuck, schema: int) -> None:
    new.database.run("UPDATE schema_meta SET schema_version = ?", schema)
    with closing(sqlite3.connect(new.database.path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema}")
    refused(new, "unknown_schema")
    assert new.is_untouched()


@pytest.mark.parametrize("change", ["role = 'global'", "schema_version = 21", "meta_key = 'other'"])
def test_a_database_that_says_two_things_of_its_schema_is_not_written_to(new: Stuck, change: str) -> None:
    new.database.run(f"UPDATE schema_meta SET {change}")
    refused(new, "unknown_schema")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE session_nodes SET entry_valid = 0",
        "UPDATE session_nodes SET entry_valid = -1",
        "UPDATE session_nodes SET status = 'failed'",
        "INSERT INTO session_canonical_validation_pending SELECT session_key FROM session_nodes",
        "DELETE FROM session_windows",
    ],
)
def test_a_row_that_openclaw_would_not_take_as_it_is_is_not_written_to(new: Stuck, change: str) -> None:
    new.database.run(change)
    if "INSERT" not in change:
        new.database.run("DELETE FROM session_canonical_validation_pending")
    before = new.ask("SELECT * FROM session_nodes"), new.pending()
    refused(new, "row_unfit")
    assert (new.ask("SELECT * FROM session_nodes"), new.pending()) == before


def test_nothing_is_written_while_openclaw_maintains_its_databases(new: Stuck) -> None:
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    new.state.run(lease, new.now + 1)
    refused(new, "maintenance")
    with locked(new.database.path):  # it does not come as far as to wait
        refused(new, "maintenance", live=True)
    assert new.is_untouched()


def test_a_maintenance_that_has_run_out_hinders_nobody(new: Stuck) -> None:
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    new.state.run(lease, new.now)
    assert new.write().kind == "written"


def test_a_process_that_has_the_database_open_is_a_gateway_that_runs(new: Stuck) -> None:
    me = os.getpid()
    new.state.run("INSERT INTO agent_database_leases VALUES ('1', 'main', 'x', ?, ?, 0)", me, start_ticks(me))
    refused(new, "still_open")
    assert new.is_untouched()
    assert new.write(live=True).kind == "written"


def test_a_process_that_is_dead_has_nothing_open(new: Stuck) -> None:
    mine = start_ticks(os.getpid()) or 0
    new.state.run("INSERT INTO agent_database_leases VALUES ('1', 'main', 'x', ?, ?, 0)", os.getpid(), mine + 1)
    new.state.run("INSERT INTO agent_database_leases VALUES ('2', 'main', 'x', ?, NULL, 0)", 2**22 + 1)
    assert new.write().kind == "written"


def test_without_the_state_database_nobody_knows_who_maintains(new: Stuck) -> None:
    (new.world.state / "state" / "openclaw.sqlite").unlink()
    refused(new, "missing")


def claim(row: Stuck) -> None:
    row.state.claim_task(row.what.key, None)


def test_beside_a_gateway_at_work_a_claim_of_its_own_is_respected(row: Stuck) -> None:
    claim(row)
    refused(row, "claimed", live=True)
    assert row.write().kind == "written"


def test_a_worker_elsewhere_is_respected_also_where_no_gateway_runs(row: Stuck) -> None:
    row.state.place(row.what.key, "another-session")
    refused(row, "claimed")


def test_an_undo_respects_a_claim_too(row: Stuck) -> None:
    row.write()
    settled = row.node()
    claim(row)
    assert row.write(before=row.what.after, after=row.what.before, live=True).code == "claimed"
    assert row.node() == settled


def test_where_claims_cannot_be_told_nothing_is_written(row: Stuck) -> None:
    row.state.run("ALTER TABLE task_runs RENAME COLUMN status TO state")
    refused(row, "unknown_schema")


def test_a_database_in_another_journal_mode_is_not_written_to(new: Stuck) -> None:
    with closing(sqlite3.connect(new.database.path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    refused(new, "no_log")


def test_a_file_that_is_not_ours_alone_is_not_written_to(new: Stuck) -> None:
    path, real = new.database.path, new.database.path.with_name("real.sqlite")
    path.chmod(0o640)
    refused(new, "not_private")
    path.chmod(0o600)
    os.link(path, real)
    refused(new, "hard_link")
    path.unlink()
    path.symlink_to(real)
    refused(new, "symlink")
    path.unlink()
    os.mkfifo(path)
    refused(new, "not_a_file")
    path.unlink()
    refused(new, "missing")
    assert not path.exists()


def test_a_folder_that_is_a_link_is_not_followed(new: Stuck) -> None:
    folder = new.database.path.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))
    refused(new, "symlink")


def test_a_state_dir_that_is_reached_by_a_link_is_its_owners_affair(new: Stuck, tmp_path: Path) -> None:
    link = tmp_path / "by-a-link"
    link.symlink_to(new.world.state)
    path = link / new.database.path.relative_to(new.world.state)
    assert new.write(state_dir=str(link), root=str(link), path=str(path)).kind == "written"


def test_a_database_that_lies_outside_of_the_state_dir_is_written_to_as_well(new: Stuck, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    new.database.path.parent.rename(elsewhere)
    new.database.path = elsewhere / new.database.path.name
    assert new.write(root=str(elsewhere), path=str(new.database.path)).kind == "written"
    assert new.node()[3] == "done"


def test_a_library_that_may_damage_a_log_writes_nothing(new: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    refused(new, "unsafe_library")
    assert new.is_untouched()


def test_what_lies_on_no_disk_of_this_machine_is_not_opened(new: Stuck) -> None:
    refused(new, "not_local", root="/proc", path="/proc/self/openclaw-agent.sqlite")


def test_what_is_no_database_gives_a_clear_word(new: Stuck) -> None:
    new.database.path.write_bytes(b"x" * 5_000)
    refused(new, "database_unreadable")


# --- beside others ---


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """By another process, as POSIX locks are."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        connection = apsw.Connection(str(path))
        connection.execute("BEGIN IMMEDIATE")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        yield
    finally:
        os.write(go[1], b"x")
        os.waitpid(pid, 0)
        for fd in (*ready, *go):
            os.close(fd)


def test_a_lock_that_is_not_given_up_ends_it_in_a_second_and_nothing_is_written(new: Stuck) -> None:
    began = time.monotonic()
    with locked(new.database.path):
        said = new.write(live=True)
    assert said == Written("refused", "busy", "another process has held the write lock for a second")
    assert time.monotonic() - began < 15  # by far less than the gateway waits for four of its own writes
    assert new.is_untouched()


def test_a_lock_that_is_given_up_while_it_waits_is_taken(new: Stuck) -> None:
    found: list[Written] = []
    writer = threading.Thread(target=lambda: found.append(new.write(live=True)))
    with locked(new.database.path):
        writer.start()
        while writer.is_alive() and not has_open(os.getpid(), new.database.path):
            time.sleep(0.001)
    writer.join()
    assert [said.kind for said in found] == ["written"]


def test_a_write_that_would_keep_the_gateway_waiting_is_given_up(new: Stuck) -> None:
    refused(new, "too_slow", hold_seconds=0.0)
    assert new.is_untouched()


def test_a_statement_that_does_not_end_is_broken_off(new: Stuck) -> None:
    with closing(apsw.Connection(str(new.database.path))) as connection:
        connection.execute(
            "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        )
        connection.execute(
            "CREATE TRIGGER endless_one AFTER UPDATE OF status ON session_windows BEGIN SELECT max(i) FROM endless; END"
        )
    said = replace_in_a_process(replace(new.what, hold_seconds=0.05), new.now, patience=10.0)
    assert said == Written("refused", "too_slow", "it took longer than the gateway is to be kept waiting")
    assert new.is_untouched()


def test_a_log_of_any_length_is_left_to_the_gateway_to_bring_in(new: Stuck) -> None:
    with closing(apsw.Connection(str(new.database.path))) as gateway:
        gateway.execute("PRAGMA wal_autocheckpoint = 0")
        gateway.execute("CREATE TABLE long (page BLOB)")
        gateway.execute("INSERT INTO long VALUES (zeroblob(8 << 20))")  # 2,000 pages: twice what SQLite waits for
        before = hashlib.sha256(new.database.path.read_bytes())
        assert new.write().kind == "written"
        assert hashlib.sha256(new.database.path.read_bytes()).digest() == before.digest()


def written_while_waiting(row: Stuck, meanwhile: Callable[[], None]) -> Written:
    """By a process that has the database open already, and waits for a lock, when `meanwhile` happens."""
    found: list[Written] = []
    writer = threading.Thread(target=lambda: found.append(replace_in_a_process(replace(row.what, live=True), row.now)))
    with locked(row.database.path):
        writer.start()
        while writer.is_alive() and not any(has_open(pid, row.database.path) for pid in children(writer)):
            time.sleep(0.001)
        meanwhile()
    writer.join()
    return found[0]


def children(thread: threading.Thread) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{thread.native_id}/children").read_text().split()]


def has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_a_maintenance_that_begins_while_it_waits_for_the_lock_goes_first(new: Stuck) -> None:
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    assert written_while_waiting(new, lambda: new.state.run(lease, new.now + 60_000)).code == "maintenance"
    assert new.is_untouched()


def test_a_turn_that_begins_while_it_waits_for_the_lock_goes_first(new: Stuck) -> None:
    assert written_while_waiting(new, lambda: claim(new)).code == "claimed"
    assert new.is_untouched()


def test_a_database_whose_place_another_has_taken_meanwhile_is_not_written_to(new: Stuck) -> None:
    path = new.database.path

    def restore() -> None:
        beside = path.with_name("restored")
        beside.write_bytes(path.read_bytes())
        beside.chmod(0o600)
        beside.rename(path)

    said = written_while_waiting(new, restore)
    assert (said.kind, said.detail) == ("changed", "another file has taken the place of the database")


def test_nothing_that_a_gateway_writes_meanwhile_is_lost(new: Stuck) -> None:
    """A writer counts in rows of its own while ours is settled and given back, again and again."""
    new.database.run("CREATE TABLE counted (number INTEGER PRIMARY KEY)")
    over = threading.Event()
    numbers: list[int] = []
    pid_says, child_says = os.pipe()
    pid = os.fork()
    if pid == 0:
        count_in(new.database.path, child_says)
    os.close(child_says)
    reader = threading.Thread(target=read_numbers, args=(pid_says, numbers, over))
    reader.start()
    done = []
    try:
        for _ in range(8):
            done += [replace_in_a_process(each, new.now) for each in (new.what, back(new.what))]
    finally:
        over.set()
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        reader.join(20)
    assert {w.code for w in done} <= {"", "busy", "already"}, done
    assert len([w for w in done if w.kind == "written"]) > 4, done
    there = {n for (n,) in new.ask("SELECT number FROM counted")}
    assert len(numbers) > 20
    assert set(numbers) <= there
    assert new.ask("PRAGMA integrity_check") == [("ok",)]


def back(what: Replacement) -> Replacement:
    return replace(what, before=what.after, after=what.before)


def count_in(path: Path, into: int) -> None:
    """Every number is told once its transaction is committed. Does not return."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    number = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO counted VALUES (?)", (number,))
        connection.execute("COMMIT")
        os.write(into, number.to_bytes(8, "big"))
        number += 1
        time.sleep(0.002)  # as a gateway has other things to do


def read_numbers(fd: int, numbers: list[int], over: threading.Event) -> None:
    with os.fdopen(fd, "rb") as told:
        while len(part := told.read(8)) == 8:
            numbers.append(int.from_bytes(part, "big"))
    assert over.is_set()


# --- the process that writes ---


def test_the_process_of_its_own_says_what_became_of_it(new: Stuck) -> None:
    said = replace_in_a_process(new.what, new.now)
    assert said.kind == "written" and said.held_ms is not None
    assert replace_in_a_process(new.what, new.now) == Written("changed", "already", "the row already says so")


def test_a_process_that_does_not_answer_in_time_is_ended_and_nobody_claims_to_know(new: Stuck) -> None:
    with locked(new.database.path):
        said = replace_in_a_process(replace(new.what, live=True), new.now, patience=0.001)
    assert (said.kind, said.code) == ("unknown", "no_answer")
    assert new.is_untouched()


def test_this_process_which_reads_the_database_never_has_it_open_to_write(new: Stuck) -> None:
    """Else a look that ends here would drop the writer's lock, unseen: POSIX locks are the process's."""
    mine: list[bool] = []
    writer = threading.Thread(target=lambda: replace_in_a_process(replace(new.what, live=True), new.now))
    with locked(new.database.path):
        writer.start()
        while writer.is_alive() and not any(has_open(pid, new.database.path) for pid in children(writer)):
            mine.append(has_open(os.getpid(), new.database.path))
        mine.append(has_open(os.getpid(), new.database.path))
    writer.join()
    assert not any(mine)
    assert new.node()[3] == "done"
