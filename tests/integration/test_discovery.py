"""Finding stores while we run: state dirs, agents that come and go, stores elsewhere, and what cannot be found."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from app.demo import copy_shifted
from app.domain.model import Code
from app.reconcile.report import Report
from tests.world import (
    RECORDINGS,
    STUCK,
    STUCK_ENDED_AT,
    STUCK_KEY,
    STUCK_SESSION_ID,
    World,
    attempts,
    finding_of,
    run_for,
    run_pass,
)


def problems(report: Report) -> list[tuple[str, str]]:
    return [(path, problem.code) for path, problem in report.state_problems]


def configure(world: World, text: str) -> None:
    (world.state / "openclaw.json").write_text(text)


def add_agent(world: World, name: str) -> None:
    """A second agent with the stuck session of the first, its keys under the agent's own name."""
    shutil.copytree(world.sessions(), world.sessions(name))
    for file in world.sessions(name).iterdir():
        data = file.read_bytes().replace(b"agent:main:", f"agent:{name}:".encode())
        file.write_bytes(data.replace(b"agents/main/", f"agents/{name}/".encode()))


def test_several_state_dirs_are_watched_and_each_is_settled_in_its_own_place(world: World) -> None:
    ended_at = world.stuck()
    other = world.folder / "other"
    copy_shifted(RECORDINGS / STUCK, other, ended_at - STUCK_ENDED_AT)
    link = world.folder / "link"
    link.symlink_to(other)
    reconciler = world.reconciler(state_dir=(str(world.state), str(other), str(link)))

    found = run_pass(reconciler).find(STUCK_KEY)
    assert [(os.path.realpath(f.target.state_dir), f.verdict.code) for f in found] == [
        (str(world.state), Code.STUCK),
        (str(other), Code.STUCK),
    ], "the same key in two places is two sessions; the same place under two names is one"

    run_for(reconciler, world.clock, 180)
    for state in (world.state, other):
        row = json.loads((state / "agents/main/sessions/sessions.json").read_bytes())[STUCK_KEY]
        assert (row["status"], row["endedAt"]) == ("failed", ended_at)


def test_an_agent_that_appears_while_we_run_is_noticed(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler(auto_repair=False)
    assert run_pass(reconciler).find("agent:late:s-error400") == []

    add_agent(world, "late")

    finding = finding_of(run_pass(reconciler), "agent:late:s-error400")
    assert (finding.agent_id, finding.verdict.code) == ("late", Code.STUCK)


def test_an_agent_that_vanishes_while_we_run_takes_its_sessions_along_and_is_no_problem(world: World) -> None:
    world.stuck()
    add_agent(world, "late")
    reconciler = world.reconciler(auto_repair=False)
    assert len(run_pass(reconciler).find(STUCK_SESSION_ID)) == 2

    shutil.rmtree(world.state / "agents" / "late")

    report = run_pass(reconciler)
    assert [f.agent_id for f in report.find(STUCK_SESSION_ID)] == ["main"]
    assert report.problems() == []


def test_an_agent_that_comes_back_is_watched_anew(world: World) -> None:
    """What was seen before it went proves nothing about what happened while it was away."""
    world.stuck()
    reconciler = world.reconciler(auto_repair=False)
    assert finding_of(run_for(reconciler, world.clock, 180)).verdict.ripe
    away = world.folder / "away"
    world.sessions().rename(away)
    assert run_pass(reconciler).find(STUCK_KEY) == []
    away.rename(world.sessions())

    finding = finding_of(run_pass(reconciler))

    assert (finding.evidence.watched, finding.verdict.ripe) == (0, False)


def test_in_a_shared_store_the_agent_stands_in_the_key(world: World) -> None:
    world.stuck()
    add_agent(world, "beta")
    shared = world.folder / "shared" / "sessions.json"
    shared.parent.mkdir()
    shared.write_text(json.dumps({**world.rows(), **world.rows("beta"), "global": {"sessionId": "g", "updatedAt": 1}}))
    configure(world, "{session: {store: '" + str(shared) + "'}, agents: {list: [{id: 'main'}, {id: 'beta'}]}}")

    report = run_pass(world.reconciler())

    assert {f.key: f.agent_id for f in report.findings()} == {
        STUCK_KEY: "main",
        "agent:beta:s-error400": "beta",
        "global": "main",
    }
    assert [s.target.path for s in report.stores] == [str(shared)], "the gateway reads no other store then"


def test_a_state_dir_that_is_not_there_is_said_so_and_the_others_are_judged(world: World) -> None:
    world.stuck()
    missing = str(world.folder / "nowhere")
    reconciler = world.reconciler(state_dir=(missing, str(world.state)))

    report = run_pass(reconciler)
    assert problems(report) == [(missing, "no_state_dir")]
    assert finding_of(report).verdict.code is Code.STUCK

    Path(missing).mkdir()
    assert problems(run_pass(reconciler)) == [], "it may come later"


def test_a_state_dir_that_is_a_file_is_said_so(world: World) -> None:
    (world.folder / "file").write_text("")
    report = run_pass(world.reconciler(state_dir=(str(world.folder / "file"),)))
    assert problems(report) == [(str(world.folder / "file"), "no_state_dir")]


@pytest.mark.parametrize(
    "text",
    [
        "{session: {store:",
        "[]",
        "{session: {store: '${NOT_SET_ANYWHERE}/{agentId}.json'}}",
        "{session: {store: 'relative/{agentId}.json'}}",
        "{$include: '../elsewhere.json5'}",
    ],
)
def test_a_broken_configuration_is_said_so_and_nothing_is_settled_until_it_is_mended(world: World, text: str) -> None:
    """Where the stores are is not known then: the usual place may hold a dead one."""
    world.stuck()
    before = world.store().read_bytes()
    configure(world, text)
    reconciler = world.reconciler()

    report = run_for(reconciler, world.clock, 180)
    assert problems(report) == [(str(world.state), "config_unreadable")]
    assert report.state_problems[0][1].detail
    assert list(report.findings()) == []
    assert world.store().read_bytes() == before

    configure(world, "{}")
    assert finding_of(run_pass(reconciler)).verdict.code is Code.STUCK


def test_a_configuration_that_breaks_in_one_state_dir_leaves_the_others_alone(world: World) -> None:
    world.stuck()
    broken = world.folder / "broken"
    broken.mkdir()
    (broken / "openclaw.json").write_text("{")
    report = run_pass(world.reconciler(state_dir=(str(broken), str(world.state))))
    assert problems(report) == [(str(broken), "config_unreadable")]
    assert finding_of(report).verdict.code is Code.STUCK


@pytest.mark.parametrize("template", ["{agentId}.json", "{agentId}/sessions.json", "all.json"])
def test_a_store_outside_the_state_dir_is_found_and_settled(world: World, template: str) -> None:
    """The transcript and its trajectory then lie beside the store (paths-RbVDOqFp.js, resolveSessionFilePath)."""
    ended_at = world.stuck()
    store = world.folder / "elsewhere" / template.replace("{agentId}", "main")
    store.parent.mkdir(parents=True)
    world.edit_row(sessionFile=str(store.parent / f"{STUCK_SESSION_ID}.jsonl"))
    for file in world.sessions().iterdir():
        file.rename(store if file.name == "sessions.json" else store.parent / file.name)
    pointer = store.parent / f"{STUCK_SESSION_ID}.trajectory-path.json"
    runtime_file = str(store.parent / f"{STUCK_SESSION_ID}.trajectory.jsonl")
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "runtimeFile": runtime_file}))
    configure(world, "{session: {store: '" + str(world.folder / "elsewhere" / template) + "'}}")
    before = store.read_bytes()
    reconciler = world.reconciler()

    run_for(reconciler, world.clock, 180)

    (attempt,) = attempts(reconciler)
    assert (attempt.outcome, attempt.store_path) == ("applied", str(store))
    row = json.loads(store.read_bytes())[STUCK_KEY]
    assert (row["status"], row["endedAt"]) == ("failed", ended_at)
    assert store.read_bytes() != before
    assert sorted(p.name for p in store.parent.iterdir() if p.name.startswith(".")) == []


def test_a_linked_state_dir_is_read_like_the_folder_itself(world: World) -> None:
    world.stuck()
    link = world.folder / "dot-openclaw"
    link.symlink_to(world.state)
    reconciler = world.reconciler(state_dir=(str(link),))
    run_for(reconciler, world.clock, 180)
    assert world.row()["status"] == "failed"


def test_a_link_in_place_of_a_store_is_shown_and_never_written_through(world: World) -> None:
    world.stuck()
    real = world.folder / "real.json"
    world.store().rename(real)
    world.store().symlink_to(real)
    before = real.read_bytes()
    report = run_for(world.reconciler(), world.clock, 180)
    assert [p.code for p in report.problems()] == ["symlink"]
    assert real.read_bytes() == before
    assert world.store().is_symlink()
