"""Hazards 12, 13 and 22: where the trajectory is, and where it is not looked for."""

from __future__ import annotations

import json

import pytest

from tests.integration.test_hazards import left_alone, verdict
from tests.world import STUCK_SESSION_ID, World


def point_to(world: World, target: str) -> None:
    """Write the pointer file as the gateway does (spec 2026.5.18, section 4)."""
    pointer = {
        "traceSchema": "openclaw-trajectory-pointer",
        "schemaVersion": 1,
        "sessionId": STUCK_SESSION_ID,
        "runtimeFile": target,
    }
    (world.sessions() / f"{STUCK_SESSION_ID}.trajectory-path.json").write_text(json.dumps(pointer, indent=2) + "\n")


def test_hazard_12_recording_is_off(world: World) -> None:
    """OPENCLAW_TRAJECTORY=0 in the gateway: there is a transcript, and nothing else."""
    world.stuck()
    for file in world.sessions().glob("*.trajectory*"):
        file.unlink()
    code, reason = verdict(left_alone(world, 900))
    assert (code, reason.split(" (")[0]) == ("unprovable", "it has no trajectory")


@pytest.mark.parametrize(
    ("session_id", "name"),
    [("a.b-c_d", "a_b-c_d.jsonl"), ("s" + "7" * 125, "s" + "7" * 119 + ".jsonl")],
    ids=["made safe", "cut at 120"],
)
def test_hazard_12_openclaw_trajectory_dir_is_looked_at(world: World, session_id: str, name: str) -> None:
    """An older end stands beside the transcript; the turn that runs is recorded in OPENCLAW_TRAJECTORY_DIR."""
    world.stuck()
    for suffix in (".jsonl", ".trajectory.jsonl"):
        (world.sessions() / f"{STUCK_SESSION_ID}{suffix}").rename(world.sessions() / f"{session_id}{suffix}")
    beside = world.trajectory(session_id)
    beside.write_bytes(beside.read_bytes().replace(STUCK_SESSION_ID.encode(), session_id.encode()))
    world.edit_row(sessionId=session_id, sessionFile=str(world.sessions() / f"{session_id}.jsonl"))
    elsewhere = world.folder / "trajectories"
    elsewhere.mkdir()
    started = world.event("session.started", world.clock.now() - 40_000, sessionId=session_id)
    (elsewhere / name).write_text(json.dumps(started) + "\n")
    world.env["OPENCLAW_TRAJECTORY_DIR"] = str(elsewhere)

    assert verdict(left_alone(world))[1].startswith("the last event is session.started")


def test_hazard_12_two_session_ids_that_become_one_file_name_are_told_apart(world: World) -> None:
    world.stuck()
    other = STUCK_SESSION_ID.replace("-", ".")
    world.edit_row(sessionId=other, sessionFile=str(world.sessions() / f"{other}.jsonl"))
    elsewhere = world.folder / "trajectories"
    elsewhere.mkdir()
    ours = STUCK_SESSION_ID.replace("-", "_")
    end = world.event("session.ended", world.clock.now() - 40_000, {"status": "success"}, sessionId=ours)
    (elsewhere / f"{ours}.jsonl").write_text(json.dumps(end) + "\n")
    world.env["OPENCLAW_TRAJECTORY_DIR"] = str(elsewhere)
    code, reason = verdict(left_alone(world))
    assert (code, reason) == ("unprovable", "the last end in its trajectory belongs to another sessionId")


@pytest.mark.parametrize("inside", ["../elsewhere.jsonl", "agents/main/sessions/../../../../elsewhere.jsonl", ""])
def test_hazard_13_a_pointer_that_leads_out_of_the_state_dir(world: World, inside: str) -> None:
    world.stuck()
    outside = world.folder / "elsewhere.jsonl"
    world.trajectory().rename(outside)
    point_to(world, f"{world.state}/{inside}" if inside else str(outside))
    code, reason = verdict(left_alone(world))
    assert code == "unprovable"
    assert "pointer leads out of the state dir" in reason


@pytest.mark.parametrize("pointed", [True, False])
def test_hazard_13_a_trajectory_that_is_a_symbolic_link(world: World, pointed: bool) -> None:
    world.stuck()
    outside = world.folder / "elsewhere.jsonl"
    world.trajectory().rename(outside)
    link = world.state / "inside.jsonl" if pointed else world.trajectory()
    link.symlink_to(outside)
    if pointed:
        point_to(world, str(link))
    code, reason = verdict(left_alone(world))
    assert code == "unprovable"
    assert ("leads out of the state dir" if pointed else "symbolic link") in reason


def test_hazard_13_a_link_among_the_folders_of_a_pointed_trajectory(world: World) -> None:
    """The link stays in the state dir, and is still a link: OpenClaw refuses to write through it."""
    world.stuck()
    (world.state / "real").mkdir()
    world.trajectory().rename(world.state / "real" / "t.jsonl")
    (world.state / "linked").symlink_to(world.state / "real")
    point_to(world, str(world.state / "linked" / "t.jsonl"))
    code, reason = verdict(left_alone(world))
    assert code == "unprovable"
    assert "symbolic link" in reason


def test_hazard_22_a_mirrored_session_whose_trajectory_is_elsewhere(world: World) -> None:
    """A Codex or ACP session: the recorder belongs to another harness, under an id of its own."""
    world.stuck()
    world.trajectory().rename(world.trajectory("0199c2b0-the-harness-own-id"))
    world.edit_row(acp={"state": "running"}, agentHarnessId="codex")
    code, reason = verdict(left_alone(world, 900))
    assert (code, reason.split(" (")[0]) == ("unprovable", "it has no trajectory")


def test_hazard_22_a_mirrored_session_whose_trajectory_tells_of_another_id(world: World) -> None:
    world.stuck()
    file = world.trajectory()
    file.write_bytes(file.read_bytes().replace(f'"sessionId":"{STUCK_SESSION_ID}"'.encode(), b'"sessionId":"harness"'))
    assert verdict(left_alone(world)) == (
        "unprovable",
        "the last end in its trajectory belongs to another sessionId",
    )
