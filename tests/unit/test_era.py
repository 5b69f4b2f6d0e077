"""Whether an agent's sessions have moved to SQLite, told from real databases (spec 2026.9.6, sections 1 and 2)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.domain.model import Code
from app.openclaw.era import EraReader
from app.openclaw.folder import FileProblem
from app.reconcile.asking import Ask, NotStuck, StoreUnfit
from tests.world import World, attempts, finding_of, run_for, run_pass, tree_unchanged

NAME = "openclaw-agent.sqlite"
CREDENTIALS = "CREATE TABLE auth_profile_store (store_key TEXT PRIMARY KEY, store_json TEXT NOT NULL)"
"""2026.5.30 to 2026.7.1 keep credentials, caches and memory there, and their sessions in sessions.json."""
SESSIONS = {
    "2026.7.2-beta.1": "CREATE TABLE session_entries (session_key TEXT PRIMARY KEY, entry_json TEXT NOT NULL)",
    "2026.8.1": "CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, entry_json TEXT NOT NULL) STRICT",
    "quoted": 'create table if not exists "session_nodes" (session_key TEXT)',
}


def database(agent: Path, *statements: str) -> Path:
    path = agent / "agent" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as made:
        for statement in statements:
            made.execute(statement)
        made.commit()
    return path


@contextmanager
def unchecked_wal(agent: Path, statement: str) -> Iterator[sqlite3.Connection]:
    """A gateway at work: its connection open, its last statement in the write-ahead log only."""
    path = database(agent, "PRAGMA journal_mode=WAL", CREDENTIALS)
    with closing(sqlite3.connect(path)) as gateway:
        gateway.execute("PRAGMA wal_autocheckpoint=0")
        gateway.execute(statement)
        gateway.commit()
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as main_file:
            tables = {name for (name,) in main_file.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        assert tables == {"auth_profile_store"}, "the test needs the new table to be in the log alone"
        yield gateway


def in_sqlite(agent: Path, reader: EraReader | None = None) -> bool:
    return (reader or EraReader()).in_sqlite([str(agent / "agent")])


def test_an_agent_without_a_database_is_of_the_file_era(tmp_path: Path) -> None:
    assert not in_sqlite(tmp_path)
    (tmp_path / "agent").mkdir()
    assert not in_sqlite(tmp_path)


def test_a_database_of_credentials_only_is_of_the_file_era(tmp_path: Path) -> None:
    database(tmp_path, CREDENTIALS, "CREATE TABLE session_nodes_backup (x)")
    assert not in_sqlite(tmp_path)


def test_a_database_of_no_bytes_is_of_the_file_era(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / NAME).touch()
    assert not in_sqlite(tmp_path)


@pytest.mark.parametrize("statement", SESSIONS.values(), ids=SESSIONS.keys())
def test_a_session_table_means_sqlite(tmp_path: Path, statement: str) -> None:
    database(tmp_path, CREDENTIALS, statement)
    assert in_sqlite(tmp_path)


@pytest.mark.parametrize("statement", SESSIONS.values(), ids=SESSIONS.keys())
def test_a_session_table_that_stands_in_the_log_alone_means_sqlite(tmp_path: Path, statement: str) -> None:
    with unchecked_wal(tmp_path, statement):
        assert in_sqlite(tmp_path)


def test_a_log_without_session_tables_is_of_the_file_era(tmp_path: Path) -> None:
    with unchecked_wal(tmp_path, "CREATE TABLE session_nodes_backup (x)"):
        assert not in_sqlite(tmp_path)


def test_a_log_is_searched_to_its_end(tmp_path: Path) -> None:
    """2 MiB of other pages stand before the page that names the table."""
    with unchecked_wal(tmp_path, "CREATE TABLE cache_entries (x)") as gateway:
        gateway.execute("INSERT INTO cache_entries VALUES (zeroblob(2097152))")
        gateway.commit()
        gateway.execute(SESSIONS["2026.8.1"])
        gateway.commit()
        assert in_sqlite(tmp_path)


def test_an_agent_that_migrates_is_noticed_and_stays_there(tmp_path: Path) -> None:
    reader = EraReader()
    path = database(tmp_path, CREDENTIALS)
    assert not in_sqlite(tmp_path, reader)
    database(tmp_path, SESSIONS["2026.8.1"])
    assert in_sqlite(tmp_path, reader)
    os.utime(path)
    assert in_sqlite(tmp_path, reader)


@pytest.mark.parametrize("name", ["a?mode=rwc", "b#c", "d%41", "e f", "ä日"])
def test_a_name_that_means_something_in_a_uri_is_only_a_name(tmp_path: Path, name: str) -> None:
    database(tmp_path / name, SESSIONS["2026.8.1"])
    assert in_sqlite(tmp_path / name)


def test_a_file_of_noise_is_a_problem_and_not_an_answer(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / NAME).write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises(FileProblem) as problem:
        in_sqlite(tmp_path)
    assert problem.value.code == "database_unreadable"


def test_a_database_that_is_a_link_or_a_folder_is_a_problem_and_not_an_answer(tmp_path: Path) -> None:
    real = database(tmp_path / "real", SESSIONS["2026.8.1"])
    (tmp_path / "linked" / "agent").mkdir(parents=True)
    (tmp_path / "linked" / "agent" / NAME).symlink_to(real)
    (tmp_path / "folder" / "agent" / NAME).mkdir(parents=True)
    for agent, code in ((tmp_path / "linked", "symlink"), (tmp_path / "folder", "not_a_file")):
        with pytest.raises(FileProblem) as problem:
            in_sqlite(agent)
        assert problem.value.code == code


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    database(tmp_path / "closed", "PRAGMA journal_mode=WAL", SESSIONS["2026.8.1"])
    assert [p.name for p in (tmp_path / "closed" / "agent").iterdir()] == [NAME]
    with unchecked_wal(tmp_path / "open", SESSIONS["2026.8.1"]), tree_unchanged(tmp_path):
        assert in_sqlite(tmp_path / "closed")
        assert in_sqlite(tmp_path / "open")


def test_reading_takes_no_lock_that_a_gateway_could_meet(tmp_path: Path) -> None:
    """A gateway in the middle of a transaction neither stops us nor is stopped."""
    path = database(tmp_path, CREDENTIALS)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as gateway:
        gateway.execute("BEGIN EXCLUSIVE")
        assert not in_sqlite(tmp_path)
        gateway.execute(SESSIONS["2026.8.1"])
        gateway.execute("COMMIT")
    assert in_sqlite(tmp_path)


def test_credentials_in_a_database_leave_the_sessions_with_us(world: World) -> None:
    world.stuck()
    database(world.state / "agents" / "main", CREDENTIALS)
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 180)
    assert world.row()["status"] == "failed"


def test_a_store_that_migrates_while_we_run_changes_hands_without_a_finding(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    assert finding_of(run_for(reconciler, world.clock, 60)).verdict.code is Code.STUCK
    before = world.store().read_bytes()

    database(world.state / "agents" / "main", SESSIONS["2026.8.1"])

    report = run_for(reconciler, world.clock, 600, step=30)
    assert list(report.findings()) == []
    assert [p.code for p in report.problems()] == ["unknown_schema", "sqlite_store"]
    assert world.store().read_bytes() == before
    assert attempts(reconciler) == []


def test_a_person_cannot_settle_a_row_that_has_migrated_since_it_was_seen(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler(auto_repair=False)
    finding = finding_of(run_pass(reconciler))
    before = world.store().read_bytes()
    database(world.state / "agents" / "main", SESSIONS["2026.8.1"])

    with pytest.raises((NotStuck, StoreUnfit)):
        reconciler.repairer.settle(finding, Ask("cli", "a test", "seen a moment ago"))

    assert world.store().read_bytes() == before


def test_a_store_elsewhere_is_left_over_too_once_its_agent_has_migrated(world: World) -> None:
    """Its database is below the state dir by default (spec 2026.9.6, section 2.1), not beside a store elsewhere."""
    world.stuck()
    elsewhere = world.folder / "elsewhere" / "main"
    elsewhere.mkdir(parents=True)
    world.store().rename(elsewhere / "sessions.json")
    (world.state / "openclaw.json").write_text(
        "{session: {store: '" + str(elsewhere.parent) + "/{agentId}/sessions.json'}}"
    )
    database(world.state / "agents" / "main", SESSIONS["2026.8.1"])

    report = run_pass(world.reconciler())

    assert [p.code for p in report.problems()] == ["unknown_schema", "sqlite_store"]
    assert list(report.findings()) == []


def test_a_database_that_cannot_be_read_is_said_so_and_nothing_is_settled(world: World) -> None:
    world.stuck()
    before = world.store().read_bytes()
    (world.state / "agents" / "main" / "agent").mkdir()
    (world.state / "agents" / "main" / "agent" / NAME).write_bytes(b"noise" * 1000)
    report = run_for(world.reconciler(), world.clock, 180)
    assert [p.code for p in report.problems()] == ["database_unreadable"] * 2, "of the file, and of the database"
    assert world.store().read_bytes() == before
