"""A pass over an agent whose rows live in a database: found, judged, shown; where nobody may write, left alone."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from app.domain.model import Code
from app.reconcile.asking import Ask, StoreUnfit
from tests.command import Clawmend, one_line
from tests.databases import FIRST, LOCKED_OUT, NEWEST, SCHEMAS, recorded, state_database
from tests.world import (
    ABSENT,
    STUCK_KEY,
    World,
    attempts,
    finding_of,
    run_for,
    run_pass,
    running_since,
    tree_unchanged,
)

DAY = 86_400.0


@pytest.mark.parametrize("recording", SCHEMAS)
@pytest.mark.parametrize("ended_ago", [1.0, 3_600.0, 40 * DAY])
def test_an_end_is_ending_within_its_window_and_stuck_once_it_has_passed(
    world: World, recording: str, ended_ago: float
) -> None:
    recorded(world, recording, ended_ago=ended_ago)
    world.gateway = ABSENT
    reconciler = world.reconciler(auto_repair=False)
    first = finding_of(run_pass(reconciler), LOCKED_OUT)
    assert first.verdict.code is (Code.ENDING if ended_ago < 30 else Code.STUCK)
    assert not first.verdict.ripe
    later = finding_of(run_for(reconciler, world.clock, 40), LOCKED_OUT)
    assert (later.verdict.code, later.verdict.ripe) == (Code.STUCK, True)


def test_a_change_of_the_run_begins_the_watch_anew(world: World) -> None:
    database = recorded(world)
    world.gateway = ABSENT
    reconciler = world.reconciler(auto_repair=False)
    assert finding_of(run_for(reconciler, world.clock, 40), LOCKED_OUT).verdict.ripe
    at = world.clock.now() - 60_000
    database.add_event("session.started", at)
    database.add_event("session.ended", at + 1_000, data={"status": "success"})
    finding = finding_of(run_pass(reconciler), LOCKED_OUT)
    assert (finding.verdict.code, finding.verdict.ripe, finding.evidence.watched) == (Code.ENDING, False, 0)


def test_a_jump_of_the_clock_alone_makes_nothing_ripe(world: World) -> None:
    recorded(world, ended_ago=1.0)
    world.gateway = ABSENT
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.clock.jump(3_600)
    assert not finding_of(run_pass(reconciler), LOCKED_OUT).verdict.ripe


def test_a_turn_whose_gateway_is_gone_or_restarted_is_orphaned(world: World) -> None:
    recorded(world)
    for gateway in (ABSENT, running_since(world.clock.now() - 1_000)):
        world.gateway = gateway
        found = {f.key: f.verdict.code for f in run_pass(world.reconciler()).findings()}
        assert (found["agent:main:killed"], found["agent:main:half-told"]) == (Code.ORPHANED, Code.ORPHANED)


@pytest.mark.parametrize("recording", [NEWEST, FIRST])
def test_the_words_that_a_gateway_has_for_an_error_stand_in_no_event(world: World, recording: str) -> None:
    """So nobody can write them after it (docs/decisions/0013)."""
    database = recorded(world, recording)
    entry = database.entry("agent:main:refused")
    assert (entry["status"], entry["lastRunError"][:19]) == ("failed", "LLM request failed:")
    with closing(sqlite3.connect(database.path)) as connection:
        query = "SELECT event_json FROM trajectory_runtime_events WHERE session_id = ? ORDER BY seq"
        events = [text for (text,) in connection.execute(query, (entry["sessionId"],))]
    assert json.loads(events[-1])["type"] == "session.ended"
    assert not any(entry["lastRunError"] in text for text in events)


def test_where_writing_is_off_nobody_settles_it_and_no_attempt_is_written_down(world: World) -> None:
    recorded(world)
    world.gateway = ABSENT
    reconciler = world.reconciler(database_writes="off")
    with tree_unchanged(world.state):
        assert finding_of(run_pass(reconciler), LOCKED_OUT).verdict.due_at is not None
        assert reconciler.wake_at is None, "nothing that a pass would do falls due"
        report = run_for(reconciler, world.clock, 600, step=30)
        finding = finding_of(report, LOCKED_OUT)
        assert finding.verdict.ripe
        for ask in (
            Ask("cli", "a test", "asked"),
            Ask("cli", "a test", "asked", dry_run=True),
            Ask("api", "a test", "asked", force=True, target_status="done"),
        ):
            with pytest.raises(StoreUnfit, match="CLAWMEND_DATABASE_WRITES is off"):
                reconciler.repairer.settle(finding, ask)
    assert attempts(reconciler) == []
    assert reconciler.failing == 0


def test_a_store_of_files_beside_it_is_settled_as_before(world: World) -> None:
    """Two agents, one of each era."""
    ended_at = world.stuck()
    (world.state / "agents" / "beta").mkdir()
    recorded(world).path.parent.rename(world.state / "agents" / "beta" / "agent")
    reconciler = world.reconciler()
    report = run_for(reconciler, world.clock, 1_300, step=10)  # as long as `half-told` works, an error waits 20 min
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", ended_at)
    assert finding_of(report, LOCKED_OUT).agent_id == "beta"


def test_a_store_that_migrates_while_we_run_changes_hands(world: World) -> None:
    """The findings of the file go, those of the database come, and the file that is left over keeps every byte."""
    world.stuck()
    reconciler = world.reconciler()
    assert finding_of(run_for(reconciler, world.clock, 60)).verdict.code is Code.STUCK
    before = world.store().read_bytes()

    recorded(world)
    report = run_pass(reconciler)

    assert report.find(STUCK_KEY) == []
    finding = finding_of(report, LOCKED_OUT)
    assert (finding.target.kind, finding.evidence.watched, finding.verdict.ripe) == ("database", 0, False)
    assert [(p.code, s.target.path) for s in report.stores if (p := s.problem)] == [
        ("sqlite_store", str(world.store()))
    ]
    run_for(reconciler, world.clock, 600, step=30)
    assert world.store().read_bytes() == before
    assert attempts(reconciler) == []
    world.store().unlink()
    assert run_pass(reconciler).problems() == []


def test_a_database_that_goes_takes_its_sessions_along_and_is_no_problem(world: World) -> None:
    database = recorded(world)
    reconciler = world.reconciler()
    assert finding_of(run_pass(reconciler), LOCKED_OUT)
    database.path.unlink()
    report = run_pass(reconciler)
    assert (list(report.findings()), report.problems()) == ([], [])


def test_nothing_is_read_again_of_a_database_that_nobody_wrote_to(world: World) -> None:
    recorded(world)
    reconciler = world.reconciler()
    read = run_pass(reconciler).bytes_read
    assert read > 0
    assert run_for(reconciler, world.clock, 60).bytes_read == read


def test_the_command_shows_it_and_refuses_to_settle_it_where_nobody_may_write(world: World, run: Clawmend) -> None:
    recorded(world)
    with tree_unchanged(world.state):
        scan = run("scan", "--json", CLAWMEND_DATABASE_WRITES="off")
        assert scan.returncode == 1
        found = {s["session_key"]: s["verdict"] for s in json.loads(scan.stdout)["sessions"]}
        assert found[LOCKED_OUT] == "stuck"
        said = one_line(run("repair", LOCKED_OUT, "--apply", CLAWMEND_DATABASE_WRITES="off"))
    assert said == "clawmend: its rows live in a database, and CLAWMEND_DATABASE_WRITES is off"


# --- databases elsewhere ---


def list_database(world: World, agent_id: str, path: str) -> None:
    """As a gateway does that has opened one: a path below the state dir is written relative to it."""
    state_database(world).run("INSERT INTO agent_databases VALUES (?, ?, 23, 0, NULL)", agent_id, path)


@pytest.mark.parametrize("relative", [True, False])
def test_a_database_elsewhere_is_found_by_the_list_of_its_state_dir(world: World, relative: bool) -> None:
    recorded(world).path.parent.rename(world.state / "elsewhere")
    path = "elsewhere/openclaw-agent.sqlite" if relative else str(world.state / "elsewhere" / "openclaw-agent.sqlite")
    list_database(world, "beta", path)
    with tree_unchanged(world.state):
        finding = finding_of(run_pass(world.reconciler()), LOCKED_OUT)
    assert (finding.agent_id, finding.verdict.code) == ("beta", Code.STUCK)


def test_a_file_is_left_over_too_when_its_agents_database_is_elsewhere(world: World) -> None:
    world.stuck()
    recorded(world).path.parent.rename(world.state / "elsewhere")
    list_database(world, "main", "elsewhere/openclaw-agent.sqlite")
    reconciler = world.reconciler()
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 300, step=30)
    assert [p.code for p in report.problems()] == ["sqlite_store"]
    assert (report.find(STUCK_KEY), attempts(reconciler)) == ([], [])


def test_a_database_at_its_usual_place_is_listed_once(world: World) -> None:
    recorded(world)
    list_database(world, "main", "agents/main/agent/openclaw-agent.sqlite")
    assert len(run_pass(world.reconciler()).find(LOCKED_OUT)) == 1


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "elsewhere/other.sqlite", "", "nul\0/openclaw-agent.sqlite"]
)
def test_a_listed_path_that_is_no_agents_database_is_passed_over(world: World, path: str) -> None:
    recorded(world)
    list_database(world, "beta", path)
    report = run_pass(world.reconciler())
    assert [s.target.agent_id for s in report.stores] == ["main"]
    assert report.problems() == []


def test_a_list_that_cannot_be_read_hides_no_database_at_its_usual_place(world: World) -> None:
    recorded(world)
    (world.state / "state").mkdir()
    (world.state / "state" / "openclaw.sqlite").write_bytes(b"noise" * 1_000)
    report = run_pass(world.reconciler())
    assert finding_of(report, LOCKED_OUT).verdict.code is Code.UNPROVABLE  # nobody knows who works on it
    assert [(path, p.code) for path, p in report.state_problems] == [(str(world.state), "database_unreadable")]


def test_while_the_list_cannot_be_read_no_file_is_settled(world: World) -> None:
    """Its rows may have moved to a database that is listed there."""
    world.stuck()
    (world.state / "state").mkdir()
    (world.state / "state" / "openclaw.sqlite").write_bytes(b"noise" * 1_000)
    reconciler = world.reconciler()
    with tree_unchanged(world.state):
        run_for(reconciler, world.clock, 300, step=30)
    assert attempts(reconciler) == []
