"""What one pass does, and what it remembers for the next."""

from __future__ import annotations

import json
import logging
import os
from itertools import pairwise

import pytest

from app.domain.model import Code
from tests.world import (
    STUCK_KEY,
    STUCK_SESSION_ID,
    World,
    attempts,
    finding_of,
    run_for,
    run_pass,
    tree_unchanged,
)


def test_a_session_that_keeps_failing_is_put_off_for_ever_longer_and_loudly(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.stuck()
    os.link(world.store(), world.folder / "a second name")
    reconciler = world.reconciler()
    caplog.set_level(logging.INFO)

    run_for(reconciler, world.clock, 1_000)

    opened = [a.opened_at for a in attempts(reconciler)]
    gaps = [round((b - a) / 1000) for a, b in pairwise(opened)]
    assert gaps == [30, 60, 120, 240]
    assert {a.outcome for a in attempts(reconciler)} == {"refused"}
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == len(opened)
    assert all(STUCK_SESSION_ID in line and STUCK_KEY not in line for line in told)
    assert finding_of(reconciler.report).put_off_until is not None
    assert world.row()["status"] == "running"


def test_a_clock_that_jumps_an_hour_ahead_settles_nothing(world: World) -> None:
    world.stuck(ended_ago=2)
    reconciler = world.reconciler()
    run_pass(reconciler)

    world.clock.jump(3_600)
    run_for(reconciler, world.clock, 20)

    assert world.row()["status"] == "running"
    run_for(reconciler, world.clock, 100)
    assert world.row()["status"] == "failed", "once its window has passed on both clocks"


def test_an_end_that_came_before_our_eyes_is_not_older_than_our_watching(world: World) -> None:
    ended_at = world.stuck(ended_ago=2)
    lines = world.trajectory().read_bytes().splitlines(keepends=True)
    world.trajectory().write_bytes(b"".join(lines[:-1]))
    reconciler = world.reconciler()
    assert finding_of(run_pass(reconciler)).verdict.code is Code.WORKING

    world.trajectory().write_bytes(b"".join(lines))
    run_pass(reconciler)
    world.clock.jump(3_600)
    report = run_pass(reconciler)

    assert finding_of(report).verdict.code is Code.ENDING
    assert finding_of(report).verdict.settlement is not None
    assert finding_of(report).verdict.settlement.ended_at == ended_at  # type: ignore[union-attr]


def test_a_clock_that_is_set_back_makes_the_end_unprovable_and_writes_nothing(world: World) -> None:
    world.stuck(ended_ago=600)
    reconciler = world.reconciler()
    run_pass(reconciler)

    world.clock.jump(-7_200)

    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 300)
    assert finding_of(report).verdict.code is Code.UNPROVABLE
    assert "clock" in finding_of(report).verdict.reason


def test_a_new_turn_during_the_window_starts_the_watching_anew(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 100)

    world.edit_row(startedAt=world.clock.now())
    report = run_for(reconciler, world.clock, 600)

    assert world.row()["status"] == "running"
    assert finding_of(report).verdict.code is Code.WORKING


def test_two_stuck_sessions_of_one_store_are_settled_in_the_same_pass(world: World) -> None:
    world.stuck()
    rows = world.rows()
    twin = {**rows[STUCK_KEY], "sessionId": "twin", "sessionFile": str(world.sessions() / "twin.jsonl")}
    world.write_store(json.dumps({**rows, "agent:main:twin": twin}, indent=2).encode())
    told = world.trajectory().read_text()
    told = told.replace(STUCK_SESSION_ID, "twin").replace(STUCK_KEY, "agent:main:twin")
    world.trajectory("twin").write_text(told)
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 115)
    assert {r["status"] for r in world.rows().values()} == {"running"}

    world.clock.advance(6)
    run_pass(reconciler)

    assert {r["status"] for r in world.rows().values()} == {"failed"}


def test_a_store_that_the_gateway_keeps_writing_is_left_alone_until_it_rests(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler(store_patience_seconds=300)
    run_for(reconciler, world.clock, 115)
    for _ in range(20):
        world.clock.advance(1)
        world.edit_row(lastInteractionAt=world.clock.now())
        world.write_store(world.store().read_bytes(), written_ago=0)
        run_pass(reconciler)
    assert world.row()["status"] == "running"
    assert attempts(reconciler) == []

    world.clock.advance(2)
    run_pass(reconciler)
    assert world.row()["status"] == "failed"


def test_nothing_is_repaired_while_the_audit_is_gone_and_again_when_it_is_back(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    database = world.folder / "own" / "audit.db"
    run_pass(reconciler)
    database.rename(database.with_name("away"))

    with tree_unchanged(world.state):
        run_for(reconciler, world.clock, 300)
    assert reconciler.audit_problem is not None

    database.with_name("away").rename(database)
    run_pass(reconciler)
    assert reconciler.audit_problem is None
    assert world.row()["status"] == "failed"


def test_with_automatic_repair_off_it_is_only_shown(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler(auto_repair=False)

    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 3_600, step=60)

    assert finding_of(report).verdict.code is Code.STUCK
    assert finding_of(report).verdict.ripe


def test_a_read_that_never_comes_back_costs_one_store_and_no_other(world: World) -> None:
    """The pass is given up from outside, as the service does; the store is left out until its read comes back."""
    world.stuck()
    reconciler = world.reconciler()
    run_pass(reconciler)
    reconciler.reading = (str(world.store()), world.clock.monotonic())

    assert reconciler.abandon() == str(world.store())

    report = run_pass(reconciler)
    assert [p.code for p in report.problems()] == ["not_answering"]
    reconciler.skipped.clear()
    assert finding_of(run_pass(reconciler)).verdict.code is Code.STUCK


def test_a_missing_state_dir_is_a_problem_and_no_error(world: World) -> None:
    world.state.rmdir()
    report = run_pass(world.reconciler())
    ((path, problem),) = report.state_problems
    assert (path, problem.code) == (str(world.state), "no_state_dir")


def test_of_a_large_store_in_which_one_row_changed_only_what_is_around_it_is_read_anew(world: World) -> None:
    heavy = {f"agent:main:s{n}": {"sessionId": f"s{n}", "status": "done", "label": "x" * 1_200_000} for n in range(3)}
    world.write_store(json.dumps(heavy).encode())
    reconciler = world.reconciler()
    before = {finding.key: finding.evidence.row for finding in run_pass(reconciler).findings()}
    heavy["agent:main:s1"]["status"] = "failed"
    world.write_store(json.dumps(heavy).encode())

    after = {finding.key: finding.evidence.row for finding in run_pass(reconciler).findings()}

    assert after["agent:main:s1"].status == "failed"
    assert [after[key] is row for key, row in before.items()] == [True, False, True]
