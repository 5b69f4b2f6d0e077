"""Who still works on a session by the state database: such a session is not settled, whatever its end says."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from app.domain.model import Code
from app.reconcile.asking import Ask, NotStuck
from tests.databases import FIRST, LOCKED_OUT, NEWEST, StateDatabase, recorded, state_database
from tests.stuck_rows import Stuck, stuck
from tests.world import ABSENT, STUCK_KEY, World, attempts, finding_of, run_for, run_pass, running_since

OTHER = "agent:main:another"
Claims = Callable[[StateDatabase, str, str, str], None]
"""Puts a claim on a session: its key, its id, its run."""
TURN = "worker_session_placements", lambda state, key, own, run: state.claim_turn(key, own, run)
TASK = "task_runs", lambda state, key, own, run: state.claim_task(key, run)
SUBAGENT = "subagent_runs", lambda state, key, own, run: state.claim_subagent(key, run)
WORKER = "worker_session_placements", lambda state, key, own, run: state.place(key, own)


@pytest.fixture(params=[NEWEST, FIRST], ids=["state schema 18", "state schema 15"])
def row(world: World, request: pytest.FixtureRequest) -> Stuck:
    world.gateway = running_since(world.clock.now() - 86_400_000)
    return stuck(world, request.param)


def names(row: Stuck) -> tuple[str, str, str]:
    """The key, the id and the run of the row that is stuck."""
    entry = row.database.entry()
    return LOCKED_OUT, entry["sessionId"], entry["lifecycleRunId"]


def code_of(row: Stuck, key: str = LOCKED_OUT) -> Code:
    return finding_of(run_pass(row.world.reconciler()), key).verdict.code


def reason_of(row: Stuck) -> str:
    verdict = finding_of(run_pass(row.world.reconciler()), LOCKED_OUT).verdict
    return f"{verdict.code}: {verdict.reason}"


@pytest.mark.parametrize(("table", "claim"), [TURN, TASK, SUBAGENT, WORKER])
def test_a_session_that_somebody_works_on_is_working_and_nobody_settles_it(
    row: Stuck, table: str, claim: Claims
) -> None:
    claim(row.state, *names(row))
    reconciler = row.world.reconciler()
    verdict = finding_of(run_for(reconciler, row.world.clock, 120), LOCKED_OUT).verdict
    assert (verdict.code, verdict.settlement, verdict.ripe) == (Code.WORKING, None, False)
    assert verdict.reason == f"somebody still works on it, by {table} in the gateway's state database"
    assert attempts(reconciler) == []
    assert row.is_untouched()


@pytest.mark.parametrize(("table", "claim"), [TURN, TASK, SUBAGENT, WORKER])
def test_what_is_claimed_for_another_session_holds_nobody(row: Stuck, table: str, claim: Claims) -> None:
    claim(row.state, OTHER, "another-session", "another-run")
    assert code_of(row) is Code.STUCK


def test_a_claim_counts_by_key_by_id_and_by_run_alike(world: World) -> None:
    key, own, run = names(row := stuck(world))
    for claim in (
        lambda: row.state.claim_turn(key.upper(), "another-session", "another-run"),
        lambda: row.state.claim_turn(OTHER, own, "another-run"),
        lambda: row.state.claim_turn(OTHER, "another-session", run),
        lambda: row.state.claim_task(key, None),
        lambda: row.state.claim_task(None, run),
    ):
        row.state.path.unlink()
        state_database(world)
        assert code_of(row) is Code.STUCK
        claim()
        assert code_of(row) is Code.WORKING


# --- what is over ---


@pytest.mark.parametrize("status", ["succeeded", "failed", "timed_out", "cancelled", "lost"])
def test_a_task_that_is_over_holds_nobody(row: Stuck, status: str) -> None:
    key, _, run = names(row)
    row.state.claim_task(key, run)
    row.state.run("UPDATE task_runs SET status = ? WHERE run_id = ?", status, run)
    assert code_of(row) is Code.STUCK


@pytest.mark.parametrize("status", ["queued", "", "a word of a later version"])
def test_a_task_that_is_not_known_to_be_over_does(row: Stuck, status: str) -> None:
    key, _, run = names(row)
    row.state.claim_task(key, run)
    row.state.run("UPDATE task_runs SET status = ? WHERE run_id = ?", status, run)
    assert code_of(row) is Code.WORKING


def test_a_turn_that_has_given_its_place_back_holds_nobody(row: Stuck) -> None:
    key, own, run = names(row)
    row.state.claim_turn(key, own, run)
    given_back = ", ".join(f"turn_claim_{name} = NULL" for name in ("owner", "id", "run_id", "generation"))
    row.state.run(f"UPDATE worker_session_placements SET {given_back} WHERE session_id = ?", own)
    assert code_of(row) is Code.STUCK


@pytest.mark.parametrize(
    ("state", "code"), [("reclaimed", Code.STUCK), ("failed", Code.STUCK), ("draining", Code.WORKING)]
)
def test_a_place_elsewhere_counts_until_it_is_given_up(row: Stuck, state: str, code: Code) -> None:
    key, own, _ = names(row)
    row.state.place(key, own, state)
    assert code_of(row) is code


def test_a_subagents_run_is_over_when_it_has_an_end(row: Stuck) -> None:
    key, _, run = names(row)
    row.state.claim_subagent(key, run, status="terminal", endedAt=1_795_370_012_096)
    assert code_of(row) is Code.STUCK
    payload = {"parentCompletion": {"execution": {"status": "terminal", "endedAt": 1_795_370_012_096}}}
    row.state.run("UPDATE subagent_runs SET payload_json = ?", json.dumps(payload))
    assert code_of(row) is Code.STUCK


@pytest.mark.parametrize("payload", ["{}", "", "{", "[]", '{"execution":{"endedAt":"soon"}}', "\0"])
def test_a_subagents_run_of_which_nothing_can_be_told_is_not_over(row: Stuck, payload: str) -> None:
    key, _, run = names(row)
    row.state.claim_subagent(key, run)
    row.state.run("UPDATE subagent_runs SET payload_json = ?", payload)
    assert code_of(row) is Code.WORKING


# --- when the gateway is gone ---


@pytest.mark.parametrize(("table", "claim"), [TURN, TASK, SUBAGENT])
def test_what_a_gateway_claimed_that_is_gone_holds_nobody(row: Stuck, table: str, claim: Claims) -> None:
    claim(row.state, *names(row))
    row.world.gateway = ABSENT
    reconciler = row.world.reconciler()
    run_for(reconciler, row.world.clock, 35)
    assert [(a.outcome, a.hand) for a in attempts(reconciler)] == [("applied", "database")]


def test_a_worker_elsewhere_goes_on_without_its_gateway(row: Stuck) -> None:
    key, own, _ = names(row)
    row.state.place(key, own)
    row.world.gateway = ABSENT
    assert code_of(row) is Code.WORKING


def test_so_does_one_whose_turn_is_led_by_the_gateway(row: Stuck) -> None:
    key, own, run = names(row)
    row.state.place(key, own)
    led = "turn_claim_owner = 'local', turn_claim_id = 'x', turn_claim_run_id = ?, turn_claim_generation = 0"
    change = f"UPDATE worker_session_placements SET execution_mode = 'remote-exec', {led} WHERE session_id = ?"
    row.state.run(change, run, own)
    row.world.gateway = ABSENT
    assert code_of(row) is Code.WORKING


# --- what is asked for by a person ---


@pytest.mark.parametrize("key", ["agent:main:half-told", "agent:main:killed"])
def test_what_is_shown_as_orphaned_cannot_be_forced_while_somebody_works_on_it(world: World, key: str) -> None:
    world.gateway = running_since(world.clock.now() - 1_000)
    recorded(world)
    reconciler = world.reconciler()
    state_database(world).claim_task(key, "another-run")
    finding = finding_of(run_pass(reconciler), key)
    assert finding.verdict.code is Code.ORPHANED
    with pytest.raises(NotStuck, match="somebody still works on it, by task_runs"):
        reconciler.repairer.settle(finding, Ask("api", "a person", "a test", force=True, target_status="failed"))
    assert attempts(reconciler) == []


def test_what_a_file_tells_is_judged_by_files_alone(world: World) -> None:
    """Up to 2026.7.1 a gateway keeps such tables too, and its rows in a sessions.json."""
    world.stuck()
    state_database(world).claim_task(STUCK_KEY, None)
    assert finding_of(run_pass(world.reconciler())).verdict.code is Code.STUCK


# --- when it cannot be told ---


@pytest.mark.parametrize("table", ["worker_session_placements", "subagent_runs", "task_runs"])
def test_a_table_that_an_older_schema_lacks_claims_nothing(row: Stuck, table: str) -> None:
    row.state.run(f"DROP TABLE {table}")
    assert code_of(row) is Code.STUCK


def test_what_claims_behind_a_table_that_is_not_there_is_heard(row: Stuck) -> None:
    row.state.run("DROP TABLE worker_session_placements")
    row.state.claim_task(*names(row)[::2])
    assert code_of(row) is Code.WORKING


def test_a_state_dir_without_such_a_database_claims_nothing(world: World) -> None:
    recorded(world)
    assert finding_of(run_pass(world.reconciler()), LOCKED_OUT).verdict.code is Code.STUCK


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("worker_session_placements", "ALTER TABLE worker_session_placements RENAME COLUMN session_key TO session"),
        ("subagent_runs", "ALTER TABLE subagent_runs RENAME COLUMN payload_json TO payload"),
        ("task_runs", "ALTER TABLE task_runs RENAME COLUMN child_session_key TO session_key"),
        ("task_runs", "ALTER TABLE task_runs RENAME COLUMN status TO state"),
    ],
)
def test_a_table_of_another_shape_makes_it_unprovable_and_says_which(row: Stuck, table: str, change: str) -> None:
    row.state.run(change)
    said = f"who else works on it cannot be told: the state database: its {table} is not as we know it"
    assert reason_of(row) == f"unprovable: {said}"
    assert code_of(row, "agent:main:refused") is Code.SETTLED


def test_a_value_of_another_type_is_another_shape(row: Stuck) -> None:
    row.state.run("DROP TABLE task_runs")
    row.state.run("CREATE TABLE task_runs (run_id, child_session_key, status)")
    row.state.run("INSERT INTO task_runs VALUES (7, 'agent:main:another', 'running')")
    assert reason_of(row).endswith("the state database: its task_runs is not as we know it")


def test_more_claims_than_any_gateway_has_are_not_read(row: Stuck) -> None:
    row.state.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)"
        " INSERT INTO subagent_runs (run_id, child_session_key, requester_session_key, created_at, payload_json)"
        " SELECT 'run ' || i, 'agent:main:another', 'agent:main:main', 0, '{}' FROM n"
    )
    assert reason_of(row).endswith("the state database: more than 10000 rows of its subagent_runs are not over")


def test_a_damaged_state_database_settles_nobody_and_hides_nobody(row: Stuck) -> None:
    row.state.path.write_bytes(b"noise" * 1_000)
    assert reason_of(row).startswith("unprovable: who else works on it cannot be told: the state database: ")


def test_a_log_without_its_index_is_no_state_database_that_can_be_read(row: Stuck) -> None:
    with closing(sqlite3.connect(row.state.path)) as connection:
        connection.execute("UPDATE task_runs SET label = 'x'")
        connection.commit()
        copies = {end: row.state.path.with_name(row.state.path.name + end).read_bytes() for end in ("", "-wal")}
    for end, content in copies.items():
        row.state.path.with_name(row.state.path.name + end).write_bytes(content)
    assert reason_of(row).startswith("unprovable: who else works on it cannot be told: the state database: its log")


# --- what is remembered ---


def looks_as_before(state: StateDatabase, change: Callable[[], None]) -> None:
    """Change its bytes, and give its file the size and the time that it had."""
    before = state.path.stat()
    change()
    os.utime(state.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state.path.stat().st_size == before.st_size


@pytest.mark.parametrize(("age", "code"), [(60_000, Code.STUCK), (500, Code.WORKING)], ids=["old", "just written"])
def test_nothing_is_read_again_while_it_looks_the_same_unless_it_was_just_written(
    world: World, age: int, code: Code
) -> None:
    row = stuck(world)
    key, _, run = names(row)
    row.state.run("PRAGMA journal_mode=DELETE")
    moment = (world.clock.now() - age) * 1_000_000
    os.utime(row.state.path, ns=(moment, moment))
    reconciler = world.reconciler(auto_repair=False)
    assert finding_of(run_pass(reconciler), LOCKED_OUT).verdict.code is Code.STUCK
    looks_as_before(row.state, lambda: row.state.claim_task(key, run))
    assert finding_of(run_pass(reconciler), LOCKED_OUT).verdict.code is code
    os.utime(row.state.path)
    assert finding_of(run_pass(reconciler), LOCKED_OUT).verdict.code is Code.WORKING


def test_a_claim_that_is_given_up_lets_the_session_be_stuck_again(row: Stuck) -> None:
    key, _, run = names(row)
    row.state.claim_task(key, run)
    reconciler = row.world.reconciler(auto_repair=False)
    assert finding_of(run_for(reconciler, row.world.clock, 40), LOCKED_OUT).verdict.code is Code.WORKING
    row.state.run("UPDATE task_runs SET status = 'succeeded' WHERE run_id = ?", run)
    assert finding_of(run_pass(reconciler), LOCKED_OUT).verdict.code is Code.STUCK
