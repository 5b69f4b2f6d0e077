"""What was found wrong beside real gateways, and must not come back."""

from __future__ import annotations

import json
import os

import pytest

from app.domain.model import Code
from app.reconcile.asking import Ask
from tests.world import ABSENT, STUCK_KEY, STUCK_SESSION_ID, World, attempts, finding_of, run_for, run_pass


@pytest.mark.parametrize("after", [2.0, 10.0, 40.0])
def test_an_undo_before_the_last_look_is_not_taken_for_a_gateway_write(world: World, after: float) -> None:
    world.stuck()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 150.0)
    (settled,) = attempts(reconciler)
    world.clock.advance(after)
    run_pass(reconciler)
    reconciler.repairer.undo(settled, Ask("api", "a person", "it was not finished"))
    report = run_for(reconciler, world.clock, 300.0)
    assert world.row()["status"] == "running"
    assert finding_of(report).held_by is not None
    assert [(a.kind, a.outcome) for a in attempts(reconciler)] == [("settle", "applied"), ("undo", "applied")]


def test_a_trajectory_pointer_written_after_the_end_means_that_a_newer_attempt_began(world: World) -> None:
    end = world.stuck()
    pointer = world.sessions() / f"{STUCK_SESSION_ID}.trajectory-path.json"
    os.utime(world.trajectory(), ns=((end + 100) * 1_000_000,) * 2)
    os.utime(pointer, ns=((end + 500) * 1_000_000,) * 2)
    reconciler = world.reconciler()
    report = run_for(reconciler, world.clock, 200.0)
    assert finding_of(report).verdict.code is not Code.STUCK
    assert attempts(reconciler) == []


def test_a_running_row_without_a_trajectory_whose_gateway_is_gone_is_orphaned(world: World) -> None:
    world.stuck(ended_ago=60.0)
    world.trajectory().unlink()
    world.gateway = ABSENT
    assert finding_of(run_pass(world.reconciler())).verdict.code is Code.ORPHANED


@pytest.mark.parametrize("overwritten_after", [2.0, 8.0])
def test_a_repair_that_the_gateway_overwrote_is_never_left_as_applied(world: World, overwritten_after: float) -> None:
    """With short windows the next pass finds the row stuck again before the next look is due."""
    world.stuck()
    reconciler = world.reconciler(stale_after_seconds=1, error_quiet_seconds=1, store_quiet_seconds=0)
    run_for(reconciler, world.clock, 3.0, step=1.0)
    before = attempts(reconciler)[0]
    assert before.outcome == "applied"
    run_for(reconciler, world.clock, overwritten_after, step=0.5)
    world.edit_row(status="running", endedAt=None, runtimeMs=None)
    run_for(reconciler, world.clock, 120.0, step=0.5)
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten", "applied"]
    assert attempts(reconciler)[1].retry_of == before.id


def test_a_retry_that_may_wait_behind_another_sessions_turn_is_given_twenty_minutes(world: World) -> None:
    """2026.5.18 and 2026.7.1, ten long turns in the lane: the next attempt began 205 and 322 s after the failed one."""
    world.recording("success-running", shift_ms=world.clock.now() - 1_795_327_069_682)
    rows = world.rows()
    world.stuck(ended_ago=1)
    world.write_store(json.dumps({**rows, **world.rows()}, indent=2).encode())
    reconciler = world.reconciler()

    report = run_for(reconciler, world.clock, 400.0)
    assert world.row()["status"] == "running"
    assert {f.verdict.code for f in report.findings()} == {Code.ENDING, Code.WORKING}

    other = next(key for key in rows if key != STUCK_KEY)
    world.edit_row(other, status="done", endedAt=world.clock.now())
    run_for(reconciler, world.clock, 115.0)
    assert world.row()["status"] == "running", "the others have only just come to rest"
    run_for(reconciler, world.clock, 10.0)
    assert world.row()["status"] == "failed"


def test_a_row_that_2026_7_keeps_ready_for_a_restart_is_at_work_and_not_recovering(world: World) -> None:
    world.recording("success-running", shift_ms=world.clock.now() - 1_795_327_069_682)
    (key,) = world.rows()
    world.edit_row(key, restartRecoveryDeliveryRunId="run-1")
    assert finding_of(run_pass(world.reconciler()), key).verdict.code is Code.WORKING
