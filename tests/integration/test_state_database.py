"""What the database of a state dir says of databases elsewhere, and of who works on them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from app.openclaw import database
from app.openclaw.agent_databases import AgentDatabasesReader
from app.openclaw.claims import Claims, ClaimsReader, read_claims
from app.openclaw.database_leases import Leases, Opener, read_leases, still_open
from app.openclaw.folder import FileProblem
from app.openclaw.paths import StoreTarget
from app.openclaw.state_database import identify_state_database
from tests.databases import StateDatabase, state_database
from tests.world import World

MAINTENANCE = "core:agent-database-maintenance"
SOON = 1_795_370_000_000


@pytest.fixture
def state(world: World) -> StateDatabase:
    """Without a lease, a claim or a database elsewhere, but with a table for each."""
    made = state_database(world)
    for table in ("state_leases", "agent_database_leases", "agent_databases"):
        made.run(f"DELETE FROM {table}")
    for table in ("worker_session_placements", "subagent_runs", "task_runs"):
        made.run(f"DELETE FROM {table}")
    return made


def lease(state: StateDatabase, scope: str, key: str, until: int | None) -> None:
    state.run("INSERT INTO state_leases VALUES (?, ?, 'x', ?, 0, NULL, 0, 0)", scope, key, until)


def opener(state: StateDatabase, lease_id: str, pid: int, ticks: int | None) -> None:
    state.run("INSERT INTO agent_database_leases VALUES (?, 'main', 'x', ?, ?, 0)", lease_id, pid, ticks)


def anew(state: StateDatabase, table: str, columns: str, *values: object) -> None:
    """`table` as some other version might have it, with one row."""
    state.run(f"DROP TABLE {table}")
    state.run(f"CREATE TABLE {table} ({columns})")
    state.run(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in values)})", *values)


def problem_of(read: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(FileProblem) as caught:
        read()
    assert str(caught.value) == caught.value.detail
    return caught.value.code, caught.value.detail


# --- leases ---


def test_where_nobody_has_said_anything_nobody_works_on_the_databases(world: World, state: StateDatabase) -> None:
    assert read_leases(str(world.state)) == Leases(None, ())


def test_the_maintenance_that_lasts_longest_counts_and_no_other_lease(world: World, state: StateDatabase) -> None:
    lease(state, MAINTENANCE, "a", SOON)
    lease(state, MAINTENANCE, "b", SOON + 2)
    lease(state, MAINTENANCE, "c", SOON + 1)
    lease(state, "core:another", "d", SOON + 9)
    assert read_leases(str(world.state)) == Leases(SOON + 2, ())


def test_everybody_who_has_a_database_open_is_told_with_pid_and_start(world: World, state: StateDatabase) -> None:
    opener(state, "1", 41, 7)
    opener(state, "2", 42, None)
    assert read_leases(str(world.state)) == Leases(None, (Opener(41, 7), Opener(42, None)))


def test_an_older_schema_has_no_list_of_who_has_them_open(world: World, state: StateDatabase) -> None:
    lease(state, MAINTENANCE, "a", SOON)
    state.run("DROP TABLE agent_database_leases")
    assert read_leases(str(world.state)) == Leases(SOON, ())


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("state_leases", "scope, expires_at", (MAINTENANCE, "soon")),
        ("agent_database_leases", "owner_pid, owner_start_time", ("41", 7)),
        ("agent_database_leases", "owner_pid, owner_start_time", (41, "7")),
        ("agent_database_leases", "owner_pid, owner_start_time", (41.5, None)),
    ],
)
def test_leases_of_another_shape_tell_nothing(
    world: World, state: StateDatabase, table: str, columns: str, values: tuple[object, ...]
) -> None:
    anew(state, table, columns, *values)
    detail = "the state database: its leases are not as we know them"
    assert problem_of(lambda: read_leases(str(world.state))) == ("unknown_schema", detail)


def test_without_its_table_nobody_knows_of_leases(world: World, state: StateDatabase) -> None:
    state.run("DROP TABLE state_leases")
    code, detail = problem_of(lambda: read_leases(str(world.state)))
    assert code == "database_unreadable"
    assert detail == "the state database: the agent's database cannot be read: no such table: state_leases"


def test_of_those_who_have_it_open_the_first_that_lives_is_told() -> None:
    openers = (Opener(41, 7), Opener(42, 7), Opener(43, 7), Opener(44, 7))
    starts = {41: None, 42: 6, 43: 7, 44: 7}
    assert still_open(Leases(None, openers), starts.get) == Opener(43, 7)
    assert still_open(Leases(None, openers[:2]), starts.get) is None


def test_by_default_the_processes_of_this_machine_are_asked() -> None:
    assert still_open(Leases(None, (Opener(os.getpid(), None),))) == Opener(os.getpid(), None)
    assert still_open(Leases(None, (Opener(2**22 + 1, None),))) is None


# --- databases elsewhere ---


def listed(world: World) -> tuple[StoreTarget, ...]:
    return AgentDatabasesReader().listed(str(world.state))


def list_one(state: StateDatabase, agent_id: str, path: str | bytes) -> None:
    state.run("INSERT INTO agent_databases VALUES (?, CAST(? AS TEXT), 23, 0, NULL)", agent_id, path)


def test_a_database_elsewhere_is_listed_with_its_agent_and_the_folder_that_it_lies_in(
    world: World, state: StateDatabase, tmp_path: Path
) -> None:
    list_one(state, "Beta", "there/../elsewhere/openclaw-agent.sqlite")
    list_one(state, "gamma", str(tmp_path / "other" / "openclaw-agent.sqlite"))
    own, top = str(world.state), str(tmp_path / "other")
    at = f"{own}/elsewhere"
    assert listed(world) == (
        StoreTarget(own, "beta", f"{at}/openclaw-agent.sqlite", at, "database"),
        StoreTarget(own, "gamma", f"{top}/openclaw-agent.sqlite", top, "database"),
    )


@pytest.mark.parametrize(
    "path",
    [
        "agents/main/agent/openclaw-agent.sqlite",
        "agents/other/agent/openclaw-agent.sqlite",
        "elsewhere/another.sqlite",
        "else\nwhere/openclaw-agent.sqlite",
        b"elsewhere\0/openclaw-agent.sqlite",
    ],
    ids=repr,
)
def test_one_by_default_one_of_another_name_and_one_that_cannot_be_told_are_not(
    world: World, state: StateDatabase, path: str | bytes
) -> None:
    list_one(state, "a", path)
    list_one(state, "z", "elsewhere/openclaw-agent.sqlite")
    assert [target.agent_id for target in listed(world)] == ["z"]


@pytest.mark.parametrize(
    "path",
    [
        "agents/main/other/openclaw-agent.sqlite",
        "agents/openclaw-agent.sqlite",
        "agents/agent/openclaw-agent.sqlite",
        "agents/main/deeper/agent/openclaw-agent.sqlite",
        "elsewhere/main/agent/openclaw-agent.sqlite",
    ],
)
def test_one_beside_the_usual_places_is(world: World, state: StateDatabase, path: str) -> None:
    list_one(state, "beta", path)
    assert [target.path for target in listed(world)] == [f"{world.state}/{path}"]


@pytest.mark.parametrize("values", [(7, "elsewhere/openclaw-agent.sqlite"), ("a", 7), ("a", None)], ids=str)
def test_what_is_no_text_names_no_database(world: World, state: StateDatabase, values: tuple[object, ...]) -> None:
    anew(state, "agent_databases", "agent_id, path", *values)
    state.run("INSERT INTO agent_databases VALUES ('z', 'elsewhere/openclaw-agent.sqlite')")
    assert [target.agent_id for target in listed(world)] == ["z"]


def test_an_agent_whose_name_is_no_text_has_its_database_all_the_same(world: World, state: StateDatabase) -> None:
    state.run(
        "INSERT INTO agent_databases VALUES (CAST(x'62ff' AS TEXT), 'elsewhere/openclaw-agent.sqlite', 23, 0, NULL)"
    )
    assert len(listed(world)) == 1


def test_without_the_list_or_the_database_all_lie_where_they_are_by_default(world: World, state: StateDatabase) -> None:
    state.run("DROP TABLE agent_databases")
    assert listed(world) == ()
    state.run("CREATE VIEW agent_databases AS SELECT 'beta' AS agent_id, '/x/openclaw-agent.sqlite' AS path")
    assert listed(world) == ()
    for file in state.path.parent.iterdir():
        file.unlink()
    assert listed(world) == ()
    state.path.parent.rmdir()
    assert listed(world) == ()


def test_the_list_is_remembered_until_its_database_changes(world: World, state: StateDatabase) -> None:
    reader, other = AgentDatabasesReader(), AgentDatabasesReader()
    own = str(world.state)
    list_one(state, "beta", "elsewhere/openclaw-agent.sqlite")
    first = reader.listed(own)
    assert len(first) == 1
    assert reader.listed(own) is first, "nothing was read again"
    assert other.listed(own) == first
    list_one(state, "gamma", "there/openclaw-agent.sqlite")
    assert len(reader.listed(own)) == 2
    for file in state.path.parent.iterdir():
        file.unlink()
    assert reader.listed(own) == ()


def test_a_list_that_cannot_be_read_is_told(world: World, state: StateDatabase) -> None:
    state.path.write_bytes(b"noise" * 1_000)
    code, detail = problem_of(lambda: listed(world))
    assert code == "database_unreadable"
    assert detail.startswith("the list of the agents' databases: the agent's database cannot be read: ")


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda own: AgentDatabasesReader().listed(own), "the list of the agents' databases"),
        (read_leases, "the state database"),
        (read_claims, "the state database"),
        (lambda own: ClaimsReader().read(own, SOON), "the state database"),
    ],
)
def test_a_folder_or_a_database_that_is_a_link_is_not_followed(
    world: World, state: StateDatabase, read: Callable[[str], object], what: str
) -> None:
    own = str(world.state)
    link = ("symlink", f"{what}: it is a symbolic link, which is not followed")
    folder = state.path.parent
    folder.rename(folder.with_name("real"))
    folder.symlink_to("real")
    assert problem_of(lambda: read(own)) == link
    folder.unlink()
    folder.mkdir()
    state.path.symlink_to(f"../real/{state.path.name}")
    assert problem_of(lambda: read(own)) == link


# --- claims ---


def test_a_state_dir_without_a_database_claims_nothing_and_has_no_leases_to_be_told(world: World) -> None:
    own = str(world.state)
    assert read_claims(own) == Claims(())
    assert ClaimsReader().read(own, SOON) == Claims(())
    assert problem_of(lambda: read_leases(own)) == ("missing", "the state database: it is not there")


def test_what_nobody_can_read_is_not_remembered(world: World, state: StateDatabase) -> None:
    reader, own = ClaimsReader(), str(world.state)
    long_after = world.clock.now() + 60_000
    whole = state.path.read_bytes()
    for end in ("-wal", "-shm"):
        state.path.with_name(state.path.name + end).unlink(missing_ok=True)
    state.path.write_bytes(b"noise" * 1_000)
    assert problem_of(lambda: reader.read(own, long_after))[0] == "database_unreadable"
    state.path.write_bytes(whole)
    assert reader.read(own, long_after) == Claims(())


@pytest.mark.parametrize(("after_ms", "believed"), [(1_000, False), (1_001, True)])
def test_what_was_read_within_a_second_of_its_last_write_is_read_again(
    world: World, state: StateDatabase, after_ms: int, believed: bool
) -> None:
    reader, own = ClaimsReader(), str(world.state)
    state.claim_subagent("agent:main:other", "r-1")
    written = identify_state_database(own).mtime
    first = reader.read(own, written + after_ms)
    assert (reader.read(own, written + after_ms) is first) == believed


def subagents(state: StateDatabase, count: int) -> None:
    """So many runs that nothing has ended."""
    state.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO subagent_runs (run_id, child_session_key, requester_session_key, created_at, payload_json)"
        " SELECT 'run ' || i, 'agent:main:another', 'agent:main:main', 0, '{}' FROM n",
        count,
    )


def test_ten_thousand_claims_are_read_and_one_more_is_too_many(world: World, state: StateDatabase) -> None:
    subagents(state, 10_000)
    assert len(read_claims(str(world.state)).entries) == 10_000
    state.claim_subagent("agent:main:other", "r-1")
    said = "the state database: more than 10000 rows of its subagent_runs are not over"
    assert problem_of(lambda: read_claims(str(world.state))) == ("too_large", said)


def test_a_table_of_another_shape_is_an_unknown_schema_and_one_without_an_end_is_not(
    world: World, state: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_STEPS", 100)
    state.run("DROP TABLE task_runs")
    state.run("CREATE TABLE task_runs (run_id, child_session_key)")
    said = "the state database: its task_runs is not as we know it"
    assert problem_of(lambda: read_claims(str(world.state))) == ("unknown_schema", said)
    state.run("DROP TABLE task_runs")
    state.run(
        "CREATE VIEW task_runs AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT i AS run_id, i AS child_session_key, i AS status FROM n"
    )
    said = "the state database: to look through it takes too long"
    assert problem_of(lambda: read_claims(str(world.state))) == ("too_large", said)


def test_each_of_two_state_dirs_is_remembered(world: World, state: StateDatabase, tmp_path: Path) -> None:
    other = StateDatabase(tmp_path / "second")
    other.path.parent.parent.mkdir()
    with closing(sqlite3.connect(state.path)) as connection:
        other.make("\n".join(connection.iterdump()))
    other.claim_subagent("agent:main:other", "r-1")
    reader, long_after = ClaimsReader(), world.clock.now() + 60_000
    first = reader.read(str(world.state), long_after)
    second = reader.read(str(tmp_path / "second"), long_after)
    assert (first.entries, len(second.entries)) == ((), 1)
    assert reader.read(str(world.state), long_after) is first
    assert reader.read(str(tmp_path / "second"), long_after) is second


def test_a_name_that_is_no_text_claims_all_the_same(world: World, state: StateDatabase) -> None:
    state.claim_subagent("agent:main:other", "r-1")
    state.run("UPDATE subagent_runs SET child_session_key = CAST(x'61ff' AS TEXT)")
    claims = read_claims(str(world.state))
    assert len(claims.entries) == 1
    assert len(claims.on("another", None, "R-1")) == 1
    assert claims.on("another", None, None) == ()
