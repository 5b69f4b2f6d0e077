"""Hazards 1, 3, 5 and 8 to 11: what stands in the trajectory, and in which order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Code
from tests.integration.test_hazards import HELD_FOR, left_alone, verdict
from tests.world import World, attempts, finding_of, run_for, tree_unchanged

MIB = 1 << 20
OVERFLOW = {"status": "error", "promptError": "prompt is too long: context length exceeded", "timedOut": False}


def ended(world: World, at: int, **data: Any) -> dict[str, Any]:
    return world.event("session.ended", at, {"status": "success", **data})


def rewrite(file: Path, data: bytes) -> None:
    """As 2026.7.x flushes: the whole file anew, under another inode."""
    beside = file.with_name("rewritten")
    beside.write_bytes(data)
    beside.rename(file)


@pytest.mark.parametrize("status", ["error", "success"])
def test_hazard_01_a_new_turn_after_session_ended_in_the_same_file(world: World, status: str) -> None:
    """`seq` begins at 1 again: sorted by it, the old end (7) would come last."""
    world.stuck()
    world.append(
        ended(world, world.clock.now() - 9_000, status=status, seq=7),
        world.event("session.started", world.clock.now() - 4_000, seq=1, runId="the-next-turn"),
    )
    code, reason = verdict(left_alone(world))
    assert (code, reason.split(",")[0]) == ("working", "the last event is session.started")


@pytest.mark.parametrize(
    ("data", "gap"),
    [
        pytest.param(
            {"status": "error", "terminalError": "non_deliverable_terminal_turn"}, 110, id="retry or fallback"
        ),
        pytest.param(OVERFLOW, 1_190, id="compaction after an overflow"),
        pytest.param({"status": "interrupted", "timedOutDuringCompaction": True}, 1_190, id="timeout in a compaction"),
    ],
)
def test_hazard_03_the_gap_between_two_attempts_of_one_run(world: World, data: dict[str, Any], gap: int) -> None:
    world.stuck()
    world.append(world.event("session.ended", world.clock.now(), data, runId="one-run"))
    reconciler = world.reconciler()
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, gap, step=10)
    assert finding_of(report).verdict.code is Code.ENDING
    assert "it may still be settled" in finding_of(report).verdict.reason

    world.append(world.event("session.started", world.clock.now(), runId="one-run"))
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert finding_of(report).verdict.code is Code.WORKING
    assert attempts(reconciler) == []


def test_hazard_05_a_heartbeat_that_begins_after_the_end_of_the_main_run(world: World) -> None:
    world.stuck()
    world.append(
        world.event("session.started", world.clock.now() - 40_000, {"trigger": "heartbeat"}, runId="heartbeat")
    )
    assert verdict(left_alone(world))[0] == "working"


@pytest.mark.parametrize("main_opens_first", [True, False])
@pytest.mark.parametrize("prompt", [10, 90_000], ids=["small events", "events of real size"])
def test_hazard_05_the_end_of_one_run_does_not_close_another_that_is_open(
    world: World, main_opens_first: bool, prompt: int
) -> None:
    """Two runs interleaved in one trajectory; the end of the heartbeat stands last, the main run has none."""
    world.stuck()
    now = world.clock.now()
    main = [
        world.event("session.started", now - 50_000, runId="main"),
        world.event("prompt.submitted", now - 50_000, {"systemPrompt": "x" * prompt}, runId="main"),
    ]
    heartbeat = [world.event("session.started", now - 49_000, {"trigger": "heartbeat"}, runId="heartbeat")]
    opened = main + heartbeat if main_opens_first else heartbeat + main
    world.append(*opened, world.event("session.ended", now - 45_000, {"status": "success"}, runId="heartbeat"))
    assert verdict(left_alone(world))[0] == "working"


def test_hazard_05_interleaved_runs_that_have_all_ended_are_finished(world: World) -> None:
    world.stuck()
    now = world.clock.now()
    for kind, run, ago in (
        ("session.started", "main", 50_000),
        ("session.started", "heartbeat", 49_000),
        ("session.ended", "main", 45_000),
        ("session.ended", "heartbeat", 44_000),
    ):
        world.append(world.event(kind, now - ago, {"status": "success"}, runId=run))
    run_for(world.reconciler(), world.clock, 60)
    assert (world.row()["status"], world.row()["endedAt"]) == ("done", now - 44_000)


def test_hazard_05_a_run_that_crashed_long_before_the_end_does_not_stand_in_its_way_for_ever(world: World) -> None:
    world.stuck()
    now = world.clock.now()
    crashed = world.event("session.started", now - 3 * 3_600_000, runId="crashed")
    began = world.event("session.started", now - 50_000)
    world.append(crashed, began, world.event("session.ended", now - 45_000, {"status": "success"}))
    run_for(world.reconciler(), world.clock, 60)
    assert (world.row()["status"], world.row()["endedAt"]) == ("done", now - 45_000)


def test_hazard_08_a_partial_last_line_while_it_is_written(world: World) -> None:
    world.stuck()
    line = json.dumps(world.event("session.started", world.clock.now())).encode()
    with world.trajectory().open("ab") as file:
        file.write(line[:-40])
    reconciler = world.reconciler()
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 45)
    assert verdict(finding_of(report)) == ("working", "its trajectory is being written at this moment")

    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert verdict(finding_of(report)) == ("unprovable", "its trajectory stops in the middle of a line")
    assert attempts(reconciler) == []


def test_hazard_08_an_end_of_which_only_a_part_is_written_is_no_end(world: World) -> None:
    world.stuck()
    whole = world.trajectory().read_bytes()
    for cut in (len(whole) - 1, len(whole) - 30):
        world.trajectory().write_bytes(whole[:cut])
        assert verdict(left_alone(world)) == ("unprovable", "its trajectory stops in the middle of a line")


def test_hazard_09_a_file_replaced_by_a_rewrite_of_the_same_size_and_time(world: World) -> None:
    """A new turn pushed the oldest lines out; neither size nor mtime tell, only the inode does."""
    world.stuck(ended_ago=1)
    file = world.trajectory()
    before, old = file.read_bytes(), file.stat()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 100)

    newest = json.dumps(world.event("session.started", world.clock.now())).encode() + b"\n"
    rest = before[before.index(b"\n") + 1 :]
    padding = b" " * (len(before) - len(rest) - len(newest) - 1) + b"\n"
    rewrite(file, padding + rest + newest)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)

    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert finding_of(report).verdict.reason.startswith("the last event is session.started")
    assert attempts(reconciler) == []


def test_hazard_09_a_file_that_keeps_being_rewritten_is_never_old_enough(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    for _ in range(6):
        rewrite(world.trajectory(), world.trajectory().read_bytes())
        run_for(reconciler, world.clock, 100, step=20)
    assert (world.row()["status"], attempts(reconciler)) == ("running", [])


def test_hazard_10_trace_truncated_is_the_last_line(world: World) -> None:
    world.stuck()
    limit = {"reason": "trajectory-runtime-file-size-limit", "droppedEvents": 3, "limitBytes": 10 * MIB}
    world.append(world.event("trace.truncated", world.clock.now() - 40_000, limit))
    assert verdict(left_alone(world)) == ("unprovable", "the trajectory is full: its end may never have been written")


@pytest.mark.parametrize("room", [0, 100, 8_000])
def test_hazard_10_truncated_at_the_cap_a_newer_start_may_have_been_dropped(world: World, room: int) -> None:
    """`session.started` did not fit into what was left below 10 MiB; the older end is the last line."""
    world.stuck()
    tail = world.trajectory().read_bytes()
    with world.trajectory().open("wb") as file:
        file.seek(10 * MIB - room - len(tail) - 1)
        file.write(b"\n" + tail)
    code, reason = verdict(left_alone(world))
    assert (code, reason.split(":")[0]) == ("unprovable", "the trajectory is full")


def test_hazard_11_the_end_is_found_behind_an_event_of_256_kib(world: World) -> None:
    world.stuck()
    now = world.clock.now()
    world.append(
        world.event("session.started", now - 9_000),
        world.event("model.completed", now - 8_000, {"messagesSnapshot": "x" * 256 * 1024}),
        world.event("session.ended", now - 8_000, {"status": "error"}),
    )
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", now - 8_000)


def test_hazard_11_an_end_of_256_kib_is_read_whole(world: World) -> None:
    world.stuck()
    at = world.clock.now() - 8_000
    world.append(world.event("session.ended", at, {"status": "error", "promptError": "x" * 256 * 1024}))
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", at)


def test_hazard_11_an_event_of_256_kib_after_the_end_is_a_new_turn(world: World) -> None:
    world.stuck()
    world.append(world.event("context.compiled", world.clock.now() - 40_000, {"systemPrompt": "x" * 256 * 1024}))
    assert verdict(left_alone(world))[1].startswith("the last event is context.compiled")
