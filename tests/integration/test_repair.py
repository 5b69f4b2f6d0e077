"""A stuck session on a real recording: settled, undone, held."""

from __future__ import annotations

from app.domain.model import Code
from tests.world import STUCK_KEY, World, attempts, finding_of, run_for, run_pass


def test_the_scheduler_settles_the_real_bug_and_changes_no_other_byte(world: World) -> None:
    ended_at = world.stuck()
    before = world.store().read_bytes()
    reconciler = world.reconciler()

    assert finding_of(run_pass(reconciler)).verdict.code is Code.STUCK
    assert world.store().read_bytes() == before, "seen for the first time: watched, not touched"
    run_for(reconciler, world.clock, 120)

    started_at = world.row()["startedAt"]
    settled = (
        f'"status": "failed",\n    "startedAt": {started_at},\n    "endedAt": {ended_at},\n'
        f'    "runtimeMs": {ended_at - started_at}'
    )
    running = f'"status": "running",\n    "startedAt": {started_at}'
    assert world.store().read_bytes() == before.replace(running.encode(), settled.encode())
    (attempt,) = attempts(reconciler)
    assert (attempt.outcome, attempt.trigger, attempt.mode) == ("applied", "scheduler", "exchange")
    assert list(world.sessions().glob(".clawmend*")) == []


def test_undo_gives_the_store_back_byte_for_byte_and_the_scheduler_leaves_it_alone(world: World) -> None:
    from app.reconcile.asking import Ask

    world.stuck()
    before = world.store().read_bytes()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 200)
    (repair,) = attempts(reconciler)

    undone = reconciler.repairer.undo(repair, Ask("api", "a test", "it was not finished"))

    assert undone.outcome == "applied"
    assert world.store().read_bytes() == before
    report = run_for(reconciler, world.clock, 4_000, step=60)
    assert world.store().read_bytes() == before
    assert finding_of(report).held_by == undone.id
    assert len(attempts(reconciler)) == 2

    finding = finding_of(report, STUCK_KEY)
    reconciler.repairer.settle(finding, Ask("cli", "a test", "a person says so"))
    assert world.row()["status"] == "failed"
