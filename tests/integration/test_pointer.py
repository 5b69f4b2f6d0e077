"""The pointer file `<transcript>.trajectory-path.json`: followed where it may be, else the session is unprovable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Code, Verdict
from tests.world import STUCK_SESSION_ID, World, finding_of, run_pass


def verdict(world: World) -> Verdict:
    return finding_of(run_pass(world.reconciler(auto_repair=False))).verdict


def point(world: World, runtime_file: object, **over: Any) -> Path:
    """The pointer file as 2026.5.18 writes it (selection-Cr-9-UpD.js:473-497)."""
    pointer = world.sessions() / f"{STUCK_SESSION_ID}.trajectory-path.json"
    fields = {"traceSchema": "openclaw-trajectory-pointer", "schemaVersion": 1, "sessionId": STUCK_SESSION_ID}
    pointer.write_text(json.dumps({**fields, "runtimeFile": runtime_file, **over}) + "\n")
    return pointer


def test_a_pointer_that_names_the_sibling_as_the_gateways_container_sees_it_is_the_sibling(world: World) -> None:
    world.stuck()
    pointer = json.loads((world.sessions() / f"{STUCK_SESSION_ID}.trajectory-path.json").read_bytes())
    assert pointer["runtimeFile"].startswith("/home/claw/.openclaw/agents/main/sessions/"), "as it was recorded"
    assert verdict(world).code is Code.STUCK


def test_a_pointer_into_the_state_dir_is_followed(world: World) -> None:
    world.stuck()
    elsewhere = world.state / "recorded" / "any.jsonl"
    elsewhere.parent.mkdir()
    world.trajectory().rename(elsewhere)
    point(world, str(elsewhere))
    assert verdict(world).code is Code.STUCK


def test_a_pointer_and_the_sibling_must_agree_that_nothing_runs(world: World) -> None:
    """A newer attempt in the file that the pointer names outweighs the end in the sibling."""
    ended_at = world.stuck()
    elsewhere = world.state / "recorded.jsonl"
    elsewhere.write_text(json.dumps(world.event("session.started", ended_at + 1000)) + "\n")
    point(world, str(elsewhere))
    assert verdict(world).code in (Code.WORKING, Code.SILENT)


@pytest.mark.parametrize(
    "over",
    [
        {"sessionId": "another"},
        {"traceSchema": "openclaw-trajectory"},
        {"traceSchema": None},
        {"runtimeFile": "agents/main/sessions/elsewhere.jsonl"},
        {"runtimeFile": "/elsewhere/\0.jsonl"},
        {"runtimeFile": 5},
        {"runtimeFile": ""},
    ],
)
def test_a_pointer_that_is_not_one_for_this_session_is_none(world: World, over: dict[str, Any]) -> None:
    """cleanup-DnX0TMkW.js:33-43; a relative one resolves against a folder that only the gateway knows."""
    world.stuck()
    point(world, "/elsewhere/any.jsonl", **over)
    assert verdict(world).code is Code.STUCK


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 60_000])
def test_a_pointer_file_of_noise_is_none(world: World, data: bytes) -> None:
    world.stuck()
    point(world, "").write_bytes(data)
    assert verdict(world).code is Code.STUCK


def test_a_pointer_file_that_is_a_link_or_a_pipe_is_none(world: World) -> None:
    world.stuck()
    pointer = point(world, "/elsewhere/any.jsonl")
    pointer.rename(world.folder / "kept.json")
    pointer.symlink_to(world.folder / "kept.json")
    assert verdict(world).code is Code.STUCK
    pointer.unlink()
    os.mkfifo(pointer)
    assert verdict(world).code is Code.STUCK


@pytest.mark.parametrize("form", ["{outside}/any.jsonl", "{state}/../outside/any.jsonl", "{state}/way-out/any.jsonl"])
def test_a_pointer_that_leads_outside_makes_the_session_unprovable_and_nothing_there_is_read(
    world: World, form: str
) -> None:
    world.stuck()
    outside = world.folder / "outside"
    outside.mkdir()
    world.trajectory().rename(outside / "any.jsonl")
    (world.state / "way-out").symlink_to(outside)
    point(world, form.format(outside=outside, state=world.state))
    found = verdict(world)
    assert found.code is Code.UNPROVABLE
    assert "OPENCLAW_TRAJECTORY_DIR" in found.reason


def test_a_pointer_into_openclaw_trajectory_dir_is_followed(world: World) -> None:
    world.stuck()
    outside = world.folder / "outside"
    outside.mkdir()
    world.trajectory().rename(outside / "any.jsonl")
    point(world, str(outside / "any.jsonl"))
    world.env["OPENCLAW_TRAJECTORY_DIR"] = str(outside)
    assert verdict(world).code is Code.STUCK


def test_a_pointer_to_a_file_that_is_gone_makes_the_sibling_no_proof(world: World) -> None:
    world.stuck()
    point(world, str(world.state / "gone.jsonl"))
    assert verdict(world).code is Code.UNPROVABLE
