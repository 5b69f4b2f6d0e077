"""Hazards 2, 14, 15, 16 and 25: what time proves, and what it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from app.domain.model import Code, Gateway
from tests.integration.test_hazards import HELD_FOR, left_alone, verdict
from tests.world import (
    STUCK_KEY,
    STUCK_SESSION_ID,
    UNKNOWN,
    World,
    attempts,
    finding_of,
    run_for,
    run_pass,
    running_since,
    tree_unchanged,
)

HOUR = 3_600
HOUR_MS = HOUR * 1000


@pytest.mark.parametrize("gap_ms", [1, 60_000])
def test_hazard_02_a_new_turn_is_accepted_and_its_start_is_not_flushed_yet(world: World, gap_ms: int) -> None:
    """`startedAt` has moved past the end, were it by one millisecond; the trajectory still shows the old end last."""
    ended_at = world.stuck(ended_ago=300)
    world.edit_row(startedAt=ended_at + gap_ms)
    code, reason = verdict(left_alone(world))
    assert code == "working"
    assert reason.startswith("a turn began after the last end")


@pytest.mark.parametrize("ahead_ms", [10_000, 2 * HOUR_MS])
def test_hazard_14_an_end_in_the_future(world: World, ahead_ms: int) -> None:
    """Clocks differ; while the end's time is still to come, nothing is proven by it."""
    world.stuck()
    world.append(world.event("session.ended", world.clock.now() + ahead_ms, {"status": "success"}))
    assert verdict(left_alone(world, ahead_ms / 1000 - 6 if ahead_ms < HELD_FOR * 1000 else HELD_FOR)) == (
        "unprovable",
        "the trajectory carries a time in the future: a clock is wrong",
    )


@pytest.mark.parametrize("field", ["startedAt", "updatedAt"])
def test_hazard_14_a_row_with_a_time_in_the_future(world: World, field: str) -> None:
    world.stuck()
    fields: dict[str, Any] = {field: world.clock.now() + HOUR_MS}
    world.edit_row(**fields)
    assert verdict(left_alone(world)) == ("unprovable", "the row carries a time in the future: a clock is wrong")


@pytest.mark.parametrize("name", ["Pacific/Apia", "America/New_York", "UTC"])
def test_hazard_14_the_time_zone_of_this_machine_makes_no_end_older(
    world: World, zone: Callable[[str], None], name: str
) -> None:
    zone(name)
    ended_at = world.stuck(ended_ago=10)
    finding = left_alone(world, 105)
    assert finding.verdict.code is Code.ENDING
    assert finding.verdict.due_at == ended_at + 130_000, "120 s after we saw it first, which was 10 s after its end"


@pytest.mark.parametrize("seconds", [2 * HOUR, 30 * 24 * HOUR])
def test_hazard_15_a_laptop_wakes_up_and_the_wall_clock_has_jumped(world: World, seconds: int) -> None:
    """The gateway slept as well: by the clock that stood still meanwhile, next to nothing has passed."""
    ended_at = world.stuck(ended_ago=1)
    reconciler = world.reconciler()
    with tree_unchanged(world.state):
        run_pass(reconciler)
        world.clock.jump(seconds)
        report = run_for(reconciler, world.clock, 119)
    finding = finding_of(report)
    assert (finding.verdict.code, finding.verdict.ripe) == (Code.STUCK, False)
    assert finding.verdict.due_at == world.clock.now() + 1_000, "what is left of the window, by the clock that stood"
    assert attempts(reconciler) == []

    run_for(reconciler, world.clock, 10)
    assert world.row()["endedAt"] == ended_at


def test_hazard_15_a_jump_makes_no_end_older_that_we_saw_happen(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.append(world.event("session.ended", world.clock.now(), {"status": "success"}))
    run_pass(reconciler)
    world.clock.jump(2 * HOUR)
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 29, step=1)
    assert finding_of(report).verdict.code is Code.ENDING
    assert attempts(reconciler) == []


def test_hazard_15_a_wall_clock_that_is_set_back_makes_nothing_ripe(world: World) -> None:
    world.stuck(ended_ago=1)
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.clock.jump(-2 * HOUR)
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, HELD_FOR, step=20)
    assert verdict(finding_of(report))[0] == "unprovable"
    assert attempts(reconciler) == []


@pytest.mark.parametrize("gateway", [UNKNOWN, running_since(0)], ids=["gateway unknown", "gateway alive"])
@pytest.mark.parametrize("quiet", [600, 5 * HOUR])
def test_hazard_16_a_starved_gateway_is_quiet_and_not_idle(world: World, gateway: Gateway, quiet: int) -> None:
    """A turn in progress that has written nothing for hours: a person may look at it, nobody settles it."""
    world.gateway = gateway
    key, prompted_at = "agent:main:s-tool", 1_795_327_097_808  # 2026-11-22T05:58:17.808Z, its last event
    world.recording("abort-in-tool-running", shift_ms=world.clock.now() - quiet * 1000 - prompted_at)
    transcript = world.sessions() / f"{world.row(key)['sessionId']}.jsonl"
    moment = (world.clock.now() - quiet * 1000) * 1_000_000
    os.utime(transcript, ns=(moment, moment))

    code, reason = verdict(left_alone(world, key=key))
    assert code == ("silent" if quiet > HOUR else "working")
    assert reason.startswith("the last event is prompt.submitted")


def test_hazard_16_a_starved_gateway_may_still_settle_an_unsuccessful_end_itself(world: World) -> None:
    world.gateway = running_since(0)
    world.stuck(ended_ago=1)
    assert left_alone(world, 115).verdict.code is Code.ENDING


def test_hazard_25_the_answer_is_still_being_delivered(world: World) -> None:
    world.stuck()
    world.edit_row(pendingFinalDelivery=True, pendingFinalDeliveryAttemptCount=3)
    assert verdict(left_alone(world)) == ("recovering", "OpenClaw is on it: pendingFinalDelivery")


@pytest.mark.parametrize("name", [f"{STUCK_SESSION_ID}.jsonl", f"{STUCK_SESSION_ID}.trajectory.jsonl"])
def test_hazard_25_a_hook_or_a_memory_flush_still_writes(world: World, name: str) -> None:
    """Not settled as long as something moves: the window begins anew with each write, however old the end is."""
    world.stuck()
    reconciler = world.reconciler()
    for _ in range(6):
        file = world.sessions() / name
        with file.open("ab") as stream:
            stream.write(b"\n")
        run_for(reconciler, world.clock, 100, step=20)
    finding = finding_of(reconciler.report, STUCK_KEY)
    assert (finding.verdict.code, finding.verdict.ripe) == (Code.ENDING, False)
    assert (world.row()["status"], attempts(reconciler)) == ("running", [])

    run_for(reconciler, world.clock, 60, step=20)
    assert world.row()["status"] == "failed"


def test_hazard_25_a_memory_flush_is_a_turn_of_its_own(world: World) -> None:
    world.stuck()
    started = world.event("session.started", world.clock.now() - 40_000, {"trigger": "memory"}, runId="memory-flush")
    world.append(started, world.event("prompt.submitted", world.clock.now() - 39_000, runId="memory-flush"))
    assert verdict(left_alone(world))[0] == "working"
