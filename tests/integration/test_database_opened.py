"""Looking into a database of a gateway that is at work, has stopped or was killed: nothing is left, nobody waits."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.domain.model import Code
from app.openclaw import database as under_test
from app.openclaw.database import opened_read_only
from app.openclaw.folder import FileProblem, Folder
from tests.databases import LOCKED_OUT, AgentDatabase, recorded
from tests.world import World, finding_of, run_pass, tree_unchanged

_GATEWAY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("UPDATE session_windows SET display_name = 'in the log'")
if sys.argv[2] == "truncates":
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
print("ready", flush=True)
sys.stdin.readline()
connection.close()
"""


@contextmanager
def gateway_at(database: AgentDatabase, how: str = "writes") -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the database open in WAL mode, as a gateway has; it goes by itself when its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _GATEWAY, str(database.path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def beside(database: AgentDatabase) -> dict[str, tuple[int, int]]:
    """Every file of the folder: inode and size."""
    return {p.name: (p.stat().st_ino, p.stat().st_size) for p in database.path.parent.iterdir()}


def look(world: World) -> Code:
    return finding_of(run_pass(world.reconciler(auto_repair=False)), LOCKED_OUT).verdict.code


def read(database: AgentDatabase) -> None:
    with Folder(str(database.path.parent)) as folder, opened_read_only(folder, database.path.name) as (connection, _):
        connection.execute("SELECT count(*) FROM session_nodes").fetchone()


def test_nothing_is_left_beside_the_database_of_a_gateway_that_stopped(world: World) -> None:
    database = recorded(world)
    assert set(beside(database)) == {"openclaw-agent.sqlite"}
    with tree_unchanged(world.state):
        assert look(world) is Code.STUCK


def test_nothing_is_left_where_the_gateway_left_an_empty_log(world: World) -> None:
    """As 2026.8.1 and 2026.9.6 do at a SIGTERM: a log of no bytes, and its index."""
    database = recorded(world)
    with gateway_at(database, "truncates") as gateway:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
    assert {name: size for name, (_, size) in beside(database).items()}["openclaw-agent.sqlite-wal"] == 0
    with tree_unchanged(world.state):
        assert look(world) is Code.STUCK


def test_an_empty_log_without_an_index_is_no_hindrance(world: World) -> None:
    database = recorded(world)
    database.path.with_name("openclaw-agent.sqlite-wal").touch()
    with tree_unchanged(world.state):
        assert look(world) is Code.STUCK


def test_beside_a_gateway_at_work_its_log_is_read_and_nothing_is_left(world: World) -> None:
    database = recorded(world)
    with gateway_at(database):
        database_in_log = closing(sqlite3.connect(database.path, isolation_level=None))
        with database_in_log as other:
            other.execute(
                "UPDATE session_nodes SET status = 'done', entry_json = json_set(entry_json, '$.status', 'done')"
            )
        before = beside(database)
        assert set(before) == {f"openclaw-agent.sqlite{end}" for end in ("", "-wal", "-shm")}
        assert look(world) is Code.SETTLED, "what stands in the log alone counts"
        assert beside(database) == before


def test_after_a_gateway_was_killed_its_log_is_read_and_nothing_is_left(world: World) -> None:
    database = recorded(world)
    with gateway_at(database) as gateway:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
    assert beside(database)["openclaw-agent.sqlite-wal"][1] > 0
    with tree_unchanged(world.state):
        assert look(world) is Code.STUCK
        with (
            Folder(str(database.path.parent)) as folder,
            opened_read_only(folder, database.path.name) as (connection, _),
        ):
            assert connection.execute("SELECT DISTINCT display_name FROM session_windows").fetchall() == [
                (b"in the log",)
            ]


def test_a_log_without_its_index_is_said_so_and_none_is_made(world: World) -> None:
    """A copy, perhaps: to read it, SQLite would have to write."""
    database = recorded(world)
    with gateway_at(database) as gateway:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
    database.path.with_name("openclaw-agent.sqlite-shm").unlink()
    with tree_unchanged(world.state):
        report = run_pass(world.reconciler())
    assert [p.code for p in report.problems()] == ["database_unreadable"]
    assert list(report.findings()) == []


def test_the_locks_of_a_rollback_journal_are_respected(world: World) -> None:
    """On a network disk OpenClaw keeps one: while it writes the database itself, nothing of it is believed."""
    database = recorded(world)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as gateway:
        gateway.execute("PRAGMA journal_mode=DELETE")
        gateway.execute("BEGIN IMMEDIATE")
        gateway.execute("UPDATE session_nodes SET status = 'done'")
        before = beside(database)
        assert "openclaw-agent.sqlite-journal" in before
        read(database)  # nothing is written yet
        gateway.execute("COMMIT")
        gateway.execute("BEGIN EXCLUSIVE")
        gateway.execute("UPDATE session_nodes SET status = NULL")
        with pytest.raises(FileProblem) as raised:
            read(database)
        assert raised.value.code == "unsteady"
        assert beside(database).keys() == before.keys()
        gateway.execute("ROLLBACK")


def test_a_look_neither_waits_for_a_writer_nor_keeps_one_waiting(world: World) -> None:
    """A gateway's writes are done on its main thread: what stops one stops them all."""
    database = recorded(world)
    slowest, stop = 0.0, threading.Event()

    def keep_looking() -> None:
        while not stop.is_set():
            read(database)

    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0)) as gateway:
        gateway.execute("UPDATE session_nodes SET label = 'at work'")
        looker = threading.Thread(target=keep_looking)
        looker.start()
        try:
            for n in range(300):
                began = time.monotonic()
                gateway.execute("BEGIN IMMEDIATE")  # with no patience at all: a lock of ours would fail it
                gateway.execute("UPDATE session_nodes SET label = ?", (str(n),))
                gateway.execute("COMMIT")
                slowest = max(slowest, time.monotonic() - began)
        finally:
            stop.set()
            looker.join(10)
        gateway.execute("BEGIN IMMEDIATE")
        read(database)  # a writer in the midst of its transaction keeps no look waiting
        gateway.execute("ROLLBACK")
    assert slowest < 2.0


def test_a_database_that_is_written_to_while_it_is_read_without_locks_is_not_believed(world: World) -> None:
    database = recorded(world)
    with (
        Folder(str(database.path.parent)) as folder,
        pytest.raises(FileProblem) as raised,
        opened_read_only(folder, database.path.name) as (connection, _),
    ):
        connection.execute("SELECT count(*) FROM session_nodes").fetchone()
        database.run("UPDATE session_nodes SET label = 'meanwhile'")
    assert raised.value.code == "unsteady"


# --- what is no database, or means harm ---


def only_problem(world: World) -> str:
    (problem,) = run_pass(world.reconciler()).problems()
    return problem.code


def noise(path: Path) -> None:
    path.write_bytes(b"noise" * 10_000)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


def scribbled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(5_000, len(data) - 4_096, 997):
        data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [noise, half, scribbled])
def test_a_database_that_is_broken_is_said_so_and_the_pass_goes_on(world: World, harm: object) -> None:
    database = recorded(world)
    harm(database.path)  # type: ignore[operator]
    assert only_problem(world) in ("database_unreadable", "unknown_schema")


def test_a_fifo_in_the_place_of_the_database_keeps_nobody_waiting(world: World) -> None:
    database = recorded(world)
    database.path.unlink()
    os.mkfifo(database.path)
    assert only_problem(world) == "not_a_file"


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_link_in_the_place_of_a_file_is_not_followed(world: World, end: str) -> None:
    database = recorded(world)
    elsewhere = world.folder / "elsewhere"
    place = database.path.with_name(database.path.name + end)
    if end == "":
        place.rename(elsewhere)
    else:
        elsewhere.write_bytes(b"")
    place.symlink_to(elsewhere)
    assert only_problem(world) == "symlink"


def test_a_link_on_the_way_to_the_database_is_not_followed(world: World) -> None:
    database = recorded(world)
    database.path.parent.rename(world.folder / "elsewhere")
    database.path.parent.symlink_to(world.folder / "elsewhere")
    assert only_problem(world) == "symlink"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_database_of_another_user_is_not_opened(world: World) -> None:
    database = recorded(world)
    os.chown(database.path, 65_534, 65_534)
    assert only_problem(world) == "foreign_owner"


def test_a_look_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    database = recorded(world)
    monkeypatch.setattr(under_test, "_MOST_STEPS", 20)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with (
        pytest.raises(FileProblem) as raised,
        Folder(str(database.path.parent)) as folder,
        opened_read_only(folder, database.path.name) as (connection, _),
    ):
        connection.execute(endless).fetchone()
    assert raised.value.code == "too_large"


def test_a_connection_can_neither_write_nor_reach_another_file(world: World) -> None:
    database = recorded(world)
    with Folder(str(database.path.parent)) as folder, opened_read_only(folder, database.path.name) as (connection, _):
        for statement in (
            "DELETE FROM session_nodes",
            f"ATTACH '{world.folder}/other' AS other",
            "CREATE TEMP TABLE x (y)",
        ):
            with pytest.raises(sqlite3.Error):
                connection.execute(statement)
    assert not (world.folder / "other").exists()
