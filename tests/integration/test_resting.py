"""What rests is not looked at again, and whatever happens to it is seen in the very next pass."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.api.views import describe_finding
from app.domain.model import Code
from app.domain.verdict import judge
from app.openclaw.notices import BELIEVED_FOR
from app.openclaw.processes import start_ticks
from app.openclaw.rest import rest_of
from app.openclaw.sessions_json import read_rows
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding, Report
from tests.databases import LOCKED_OUT, recorded
from tests.world import ABSENT, World, finding_of, run_pass, running_since

SESSION = "eda752ec-319b-460b-b144-ad4be7bab4af"
KEY = "agent:main:s-multi"
OTHER = "agent:main:s-other"
STARTED_AT = 1_795_327_083_388
LATER = 60_000


@dataclass
class AtWork:
    """One session in the middle of its turn, which has come to rest: it is the same in two passes, not looked at."""

    world: World
    reconciler: Reconciler
    finding: Finding

    def next_pass(self) -> Finding:
        return finding_of(run_pass(self.reconciler), KEY)


@pytest.fixture(params=["told of changes", "not told"])
def at_work(world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AtWork:
    if request.param == "not told":  # as on the disk of another machine
        monkeypatch.setattr("app.openclaw.notices.is_local", lambda _: False)
    world.gateway = running_since(world.clock.now() - 3_600_000)
    world.recording("multi-turn-running-third", shift_ms=world.clock.now() - LATER - STARTED_AT)
    reconciler = world.reconciler()
    now = finding_of(at_rest(reconciler), KEY)
    assert now.verdict.code is Code.WORKING
    return AtWork(world, reconciler, now)


def at_rest(reconciler: Reconciler) -> Report:
    """The report on findings that are all the very same in two passes: files rest a second after their last change."""
    deadline = time.monotonic() + 60
    before = run_pass(reconciler)
    while True:
        now = run_pass(reconciler)
        if all(f is g for f, g in zip(now.open(), before.open(), strict=True)):
            return run_pass(reconciler)  # from here on by what the system tells, where it does
        assert time.monotonic() < deadline, now
        before = now
        time.sleep(0.05)


def the_turn_ends(world: World) -> None:
    now = world.clock.now()
    run = json.loads(world.trajectory(SESSION).read_bytes().splitlines()[-1])["runId"]
    over = {"sessionId": SESSION, "sessionKey": KEY, "traceId": SESSION, "runId": run}
    world.append(world.event("session.ended", now, {"status": "success"}, **over), session_id=SESSION)


def the_gateway_settles_it(world: World) -> None:
    world.edit_row(KEY, status="done", endedAt=world.clock.now())


def somebody_takes_its_lock(world: World) -> None:
    lock = {"pid": os.getpid(), "starttime": start_ticks(os.getpid())}
    (world.sessions() / f"{SESSION}.jsonl.lock").write_text(json.dumps(lock))


def a_child_begins(world: World) -> None:
    rows = world.rows()
    now = world.clock.now()
    rows["agent:main:subagent:1"] = {"sessionId": "child", "status": "running", "startedAt": now, "spawnedBy": KEY}
    world.write_store(json.dumps(rows, indent=2).encode())


def a_link_takes_the_trajectorys_place(world: World) -> None:
    trajectory = world.trajectory(SESSION)
    trajectory.rename(world.folder / "elsewhere.jsonl")
    trajectory.symlink_to(world.folder / "elsewhere.jsonl")


def the_trajectory_is_torn(world: World) -> None:
    with world.trajectory(SESSION).open("ab") as file:
        file.write(b'{"traceSchema":"openclaw-tra')


def a_link_takes_the_folders_place(world: World) -> None:
    world.sessions().rename(world.folder / "elsewhere")
    world.sessions().symlink_to(world.folder / "elsewhere")


def the_rows_move_to_a_database(world: World) -> None:
    folder = world.sessions().parent / "agent"
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "openclaw-agent.sqlite")) as database:
        database.execute("CREATE TABLE session_nodes (session_key TEXT)")


def the_store_goes(world: World) -> None:
    world.store().unlink()


def the_agent_goes(world: World) -> None:
    shutil.rmtree(world.sessions().parent)


def the_gateway_goes(world: World) -> None:
    world.gateway = ABSENT


def another_gateway_has_started(world: World) -> None:
    world.clock.advance(20)
    world.gateway = running_since(world.clock.now() - 1_000)


def an_hour_goes_by(world: World) -> None:
    world.clock.advance(3_601)


def its_folder_is_made_again(world: World) -> None:
    away = world.folder / "away"
    shutil.copytree(world.sessions(), away)
    shutil.rmtree(world.sessions())
    shutil.copytree(away, world.sessions())
    the_turn_ends(world)


def the_agents_are_moved_and_copied_back(world: World) -> None:
    agents, away = world.state / "agents", world.folder / "away"
    agents.rename(away)
    shutil.copytree(away, agents)
    the_turn_ends(world)


def another_state_dir_takes_its_place(world: World) -> None:
    away = world.folder / "away"
    world.state.rename(away)
    shutil.copytree(away, world.state)
    the_turn_ends(world)


def a_child_begins_at_a_new_agent(world: World) -> None:
    now = world.clock.now()
    child = {"sessionId": "child", "status": "running", "startedAt": now, "spawnedBy": KEY}
    world.write_store(json.dumps({"agent:new:subagent:1": child}).encode(), "new")


def a_link_to_a_database_comes(world: World) -> None:
    (world.folder / "far").mkdir()
    (world.sessions().parent / "agent").symlink_to(world.folder / "far")
    the_rows_move_to_a_database(world)


def the_configuration_names_another_store(world: World) -> None:
    config = {"session": {"store": str(world.folder / "elsewhere" / "sessions.json")}}
    (world.state / "openclaw.json").write_text(json.dumps(config))


def more_happens_than_the_system_tells(world: World) -> None:
    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 10):
        (world.sessions() / str(number % 2)).touch()
    the_turn_ends(world)


SEEN: list[tuple[Callable[[World], None], Code | None]] = [
    (the_turn_ends, Code.ENDING),
    (the_gateway_settles_it, Code.SETTLED),
    (a_child_begins, Code.WAITING),
    (a_link_takes_the_trajectorys_place, Code.UNPROVABLE),
    (the_gateway_goes, Code.ORPHANED),
    (another_gateway_has_started, Code.ORPHANED),
    (an_hour_goes_by, Code.SILENT),
    (a_link_takes_the_folders_place, None),
    (the_rows_move_to_a_database, None),
    (the_store_goes, None),
    (the_agent_goes, None),
    (its_folder_is_made_again, Code.ENDING),
    (the_agents_are_moved_and_copied_back, Code.ENDING),
    (another_state_dir_takes_its_place, Code.ENDING),
    (a_child_begins_at_a_new_agent, Code.WAITING),
    (a_link_to_a_database_comes, None),
    (the_configuration_names_another_store, None),
    (more_happens_than_the_system_tells, Code.ENDING),
]
"""What happens, and the verdict in the next pass; None: the session is not judged any more."""


@pytest.mark.parametrize(("happens", "verdict"), SEEN, ids=[each.__name__ for each, _ in SEEN])
def test_what_happens_to_a_session_at_rest_is_seen_in_the_next_pass(
    at_work: AtWork, happens: Callable[[World], None], verdict: Code | None
) -> None:
    happens(at_work.world)
    found = run_pass(at_work.reconciler).find(KEY)
    assert [f.verdict.code for f in found] == ([verdict] if verdict else [])


@pytest.fixture
def far(world: World) -> None:
    """The folder of the agent's database is a link."""
    (world.folder / "far").mkdir()
    world.sessions().parent.mkdir(parents=True, exist_ok=True)
    (world.sessions().parent / "agent").symlink_to(world.folder / "far")


@pytest.mark.usefixtures("far")
def test_rows_that_move_to_a_database_behind_a_link_are_seen_in_the_next_pass(at_work: AtWork) -> None:
    the_rows_move_to_a_database(at_work.world)
    assert run_pass(at_work.reconciler).find(KEY) == []


def test_a_lock_and_a_torn_line_are_seen_in_the_next_pass_too(at_work: AtWork) -> None:
    somebody_takes_its_lock(at_work.world)
    assert "holds the lock" in at_work.next_pass().verdict.reason
    (at_work.world.sessions() / f"{SESSION}.jsonl.lock").unlink()
    the_trajectory_is_torn(at_work.world)
    assert at_work.next_pass().evidence.trails[0].torn


def test_nothing_is_read_of_what_rests(at_work: AtWork) -> None:
    before = at_work.reconciler.scanner.bytes_read
    for _ in range(3):
        at_work.world.clock.advance(5)
        assert at_work.next_pass() is at_work.finding
    assert at_work.reconciler.scanner.bytes_read == before


@pytest.mark.parametrize(("at_work", "comes"), [("told of changes", False), ("not told", True)], indirect=["at_work"])
def test_a_pass_comes_to_no_store_where_it_is_told_that_nothing_happened(at_work: AtWork, comes: bool) -> None:
    report, steps = at_work.reconciler.report, at_work.reconciler.steps
    now = run_pass(at_work.reconciler)
    assert (at_work.reconciler.steps > steps) is comes
    assert now.stores == report.stores


@pytest.mark.parametrize("at_work", ["told of changes"], indirect=True)
def test_a_first_pass_does_not_ask_to_be_told_since_it_may_be_the_only_one(at_work: AtWork) -> None:
    gc.collect()  # what earlier tests left goes now, not in between
    reconciler, before = at_work.world.reconciler(), told_by()
    run_pass(reconciler)
    assert told_by() == before
    run_pass(reconciler)
    assert len(told_by()) == len(before) + 1


def told_by() -> list[str]:
    """The descriptors by which the system tells this process of changes."""
    links = ((name, os.path.join("/proc/self/fd", name)) for name in os.listdir("/proc/self/fd"))
    return [name for name, link in links if os.path.lexists(link) and os.readlink(link) == "anon_inode:inotify"]


def test_a_session_falls_silent_in_the_first_pass_behind_its_time(at_work: AtWork) -> None:
    silent_after = at_work.reconciler.settings.silent_after_seconds
    transcript = at_work.world.sessions() / f"{SESSION}.jsonl"
    os.utime(transcript, ns=(0, 0))  # so that the trajectory's is the last sign of life
    evidence = finding_of(at_rest(at_work.reconciler), KEY).evidence
    signs = [evidence.row.started_at or 0, *(trail.last.ts for trail in evidence.trails if trail.last)]
    falls_silent = max(signs) + silent_after * 1000
    while (now := at_work.world.clock.now()) < falls_silent + 3_000:
        expected = Code.WORKING if now < falls_silent else Code.SILENT
        assert at_work.next_pass().verdict.code is expected, falls_silent - now
        at_work.world.clock.advance(min(7, max(1, (falls_silent - now) / 2_000)))


def test_how_long_nobody_has_been_at_work_counts_from_the_last_pass_that_saw_somebody(at_work: AtWork) -> None:
    at_work.world.clock.advance(20)
    assert at_work.next_pass() is at_work.finding
    at_work.world.clock.advance(5)
    the_turn_ends(at_work.world)
    assert at_work.next_pass().evidence.calm == 5


def test_a_database_in_which_nothing_runs_is_looked_at_in_every_pass(world: World) -> None:
    database = recorded(world)
    reconciler = world.reconciler()
    for finding in list(run_pass(reconciler).open()):
        database.edit(finding.key, status="done")
    assert list(at_rest(reconciler).open()) == []
    database.edit(LOCKED_OUT, status="running")
    assert [f.key for f in run_pass(reconciler).open()] == [LOCKED_OUT]


def test_a_store_that_is_to_be_left_out_is_shown_so_in_the_next_pass(at_work: AtWork) -> None:
    at_work.reconciler.skipped.add(str(at_work.world.store()))
    assert [p.code for p in run_pass(at_work.reconciler).problems()] == ["not_answering"]


def test_a_store_at_rest_is_the_very_same_in_the_next_report(at_work: AtWork) -> None:
    reconciler = at_work.reconciler
    (before,), (now,) = run_pass(reconciler).stores, run_pass(reconciler).stores
    assert now is before
    the_turn_ends(at_work.world)
    (after,) = run_pass(reconciler).stores
    assert after.codes == {Code.ENDING}


def test_of_a_store_at_rest_only_what_was_touched_is_looked_at(at_work: AtWork) -> None:
    world = at_work.world
    rows = world.rows()
    rows[OTHER] = json.loads(json.dumps(rows[KEY]).replace(SESSION, "other"))
    world.write_store(json.dumps(rows, indent=2).encode())
    shutil.copy2(world.trajectory(SESSION), world.trajectory("other"))
    both = at_rest(at_work.reconciler)
    with world.trajectory("other").open("ab") as file:
        file.write(b'{"traceSchema":"openclaw-tra')
    now = run_pass(at_work.reconciler)
    assert finding_of(now, KEY) is finding_of(both, KEY)
    assert finding_of(now, OTHER) is not finding_of(both, OTHER)


def test_the_sentence_on_what_rests_tells_its_age_as_of_when_it_is_shown(at_work: AtWork) -> None:
    policy = at_work.reconciler.settings.policy
    at_work.world.clock.advance(200)
    found = at_work.next_pass()
    assert found is at_work.finding
    shown = describe_finding(found, policy, at_work.world.clock.now())["reason"]
    assert shown == judge(found.evidence, policy, at_work.world.clock.now()).reason != found.verdict.reason


@pytest.mark.parametrize("at_work", ["told of changes"], indirect=True)
def test_what_nobody_tells_of_is_seen_half_a_minute_later_at_most(at_work: AtWork) -> None:
    at_work.world.clock.advance(BELIEVED_FOR)
    assert at_work.next_pass() is at_work.finding
    it_is_written_by_another_name(at_work.world)
    assert at_work.next_pass() is at_work.finding
    at_work.world.clock.advance(BELIEVED_FOR)
    assert at_work.next_pass().evidence.trails[0].torn


@pytest.mark.parametrize("at_work", ["told of changes"], indirect=True)
def test_of_a_store_what_nobody_tells_of_is_seen_half_a_minute_later_at_most(at_work: AtWork) -> None:
    at_work.world.clock.advance(BELIEVED_FOR)
    assert at_work.next_pass() is at_work.finding
    other = at_work.world.folder / "another name"
    other.hardlink_to(at_work.world.store())
    other.write_text("{}")
    assert at_work.next_pass() is at_work.finding
    at_work.world.clock.advance(BELIEVED_FOR)
    assert run_pass(at_work.reconciler).find(KEY) == []


def it_is_written_by_another_name(world: World) -> None:
    other = world.folder / "another name"
    other.hardlink_to(world.trajectory(SESSION))
    with other.open("ab") as file:
        file.write(b'{"traceSchema":"openclaw-tra')


@pytest.mark.parametrize("at_work", ["told of changes"], indirect=True)
def test_a_repair_looks_for_itself_whatever_was_told(at_work: AtWork) -> None:
    it_is_written_by_another_name(at_work.world)
    assert at_work.next_pass() is at_work.finding
    store = at_work.world.store().read_bytes()
    now = at_work.reconciler.scanner.judge_row(at_work.finding.target, read_rows(store), KEY)
    assert now is not None
    assert now.evidence.trails[0].torn


def test_none_is_believed_to_rest_for_longer_than_five_minutes(at_work: AtWork) -> None:
    at_work.world.clock.advance(301)
    assert at_work.next_pass() is not at_work.finding


def test_a_clock_that_was_set_back_ends_the_rest(at_work: AtWork) -> None:
    at_work.world.clock.jump(-3_600)
    assert at_work.next_pass().verdict.code is Code.UNPROVABLE


def test_a_session_whose_turn_has_ended_is_looked_at_in_every_pass(at_work: AtWork) -> None:
    the_turn_ends(at_work.world)
    first = at_work.next_pass()
    at_work.world.clock.advance(5)
    second = at_work.next_pass()
    assert (second.verdict.code, second.evidence.watched - first.evidence.watched) == (Code.ENDING, 5)


def test_trajectories_that_lie_in_a_folder_of_their_own_are_looked_for_in_every_pass(world: World) -> None:
    world.env["OPENCLAW_TRAJECTORY_DIR"] = str(world.folder / "trajectories")
    world.recording("multi-turn-running-third", shift_ms=world.clock.now() - LATER - STARTED_AT)
    reconciler = world.reconciler()
    deadline = time.monotonic() + 60
    while rest_of([str(world.store()), str(world.sessions()), str(world.trajectory(SESSION))]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first, second, third = (finding_of(run_pass(reconciler), KEY) for _ in range(3))
    assert first is not second
    assert second is not third


def test_what_was_changed_this_very_moment_is_not_taken_to_rest(world: World) -> None:
    file = world.folder / "file"
    file.write_text("x")
    assert rest_of([str(file)]) is None
    assert rest_of([str(world.folder / "nothing")]) is not None
