"""What was recorded, as sightings: the audit's attempts with what their trajectories tell since, and recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.domain.model import Code, Policy
from app.domain.simulation import Change, replay
from app.reconcile.asking import Ask
from app.reconcile.history import Recorded, of_audit, of_recordings
from app.reconcile.reconciler import Reconciler
from tests.command import Clawmend
from tests.world import ABSENT, RECORDINGS, STUCK_KEY, World, run_for

HOUR = 3_600.0


@pytest.fixture
def settled(world: World) -> Reconciler:
    """The stuck session, settled by the scheduler in its time."""
    world.gateway = ABSENT
    world.stuck(ended_ago=5.0)
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 45.0, step=1.0)
    return reconciler


def one(reconciler: Reconciler, since: int = 0) -> Recorded:
    (found,) = of_audit(reconciler.audit, since, Policy())
    return found


def test_an_attempt_of_the_scheduler_is_a_sighting_that_shows_what_was_found(world: World, settled: Reconciler) -> None:
    found = one(settled)
    assert found.sighting is not None
    assert (found.session_key, found.outcome, found.tells_more) == (STUCK_KEY, "applied", True)
    assert (found.sighting.code, found.sighting.by_person, found.sighting.followed_at) == (Code.STUCK, False, None)
    replayed = replay(found.sighting, Policy(stale_after=60.0))
    assert (replayed.change, replayed.seconds) == (Change.LATER, 30.0)


def test_a_turn_that_went_on_is_known_from_its_trajectory_though_the_audit_cannot_tell(
    world: World, settled: Reconciler
) -> None:
    end = one(settled).end
    assert end is not None
    world.append(world.event("session.started", end.ts + 45_000, runId=end.run_id))
    found = one(settled)
    assert found.sighting is not None
    assert found.sighting.followed_at == end.ts + 45_000
    assert replay(found.sighting, Policy()).was_wrong
    assert replay(found.sighting, Policy(stale_after=60.0)).change is Change.NOT_AT_ALL


def test_another_turn_is_not_the_same_one_going_on(world: World, settled: Reconciler) -> None:
    end = one(settled).end
    assert end is not None
    world.append(world.event("session.started", end.ts + 45_000, runId="another"))
    found = one(settled)
    assert found.sighting is not None
    assert found.sighting.followed_at is None


def test_without_its_trajectory_nobody_knows_whether_a_turn_went_on(world: World, settled: Reconciler) -> None:
    world.trajectory().unlink()
    found = one(settled)
    assert (found.tells_more, found.sighting is not None) == (False, True)


def test_an_undo_is_known_with_who_did_it(world: World, settled: Reconciler) -> None:
    (attempt,), _ = settled.audit.page(1)
    settled.repairer.undo(attempt, Ask("cli", "ada", "it was at work"))
    found = one(settled)
    assert found.outcome == "applied, undone by ada"
    assert found.sighting is not None
    assert found.sighting.taken_back


def test_of_a_repair_that_was_undone_and_then_made_again_the_first_one_counts(
    world: World, settled: Reconciler
) -> None:
    (attempt,), _ = settled.audit.page(1)
    settled.repairer.undo(attempt, Ask("cli", "ada", "it was at work"))
    report = run_for(settled, world.clock, 60.0, step=1.0)
    (finding,) = report.find(STUCK_KEY)
    again = settled.repairer.settle(finding, Ask("cli", "ada", "now it is over"))
    assert again.outcome == "applied"
    assert (one(settled).source, one(settled).outcome) == (attempt.id, "applied, undone by ada")


def test_only_what_was_tried_since_then_counts(world: World, settled: Reconciler) -> None:
    (attempt,), _ = settled.audit.page(1)
    assert one(settled, attempt.opened_at).source == attempt.id
    assert list(of_audit(settled.audit, attempt.opened_at + 1, Policy())) == []


def test_several_attempts_at_one_end_are_one_and_the_one_that_was_applied_counts(
    world: World, settled: Reconciler
) -> None:
    (attempt,), _ = settled.audit.page(1)
    settled.audit.change(attempt.id, outcome="overwritten")
    world.edit_row(status="running", endedAt=None, runtimeMs=None, abortedLastRun=None)
    run_for(settled, world.clock, 60.0, step=1.0)
    applied = [a for a in settled.audit.page(9)[0] if a.outcome == "applied"]
    assert [one(settled).source] == [a.id for a in applied]


def test_evidence_that_is_written_otherwise_is_told_and_not_guessed(world: World, settled: Reconciler) -> None:
    (attempt,), _ = settled.audit.page(1)
    settled.audit.change(attempt.id, evidence={"row": {}})
    found = one(settled)
    assert found.sighting is None
    assert "not written in a way that is known" in found.outcome


# --- recordings ---


def test_of_the_recordings_those_ends_are_told_after_which_the_row_ran_on() -> None:
    found = {r.source: r for r in of_recordings(RECORDINGS, Policy())}
    assert set(found) == {"empty-reply-retried", "provider-error-stuck"}
    retried, stuck = found["empty-reply-retried"].sighting, found["provider-error-stuck"].sighting
    assert retried is not None
    assert stuck is not None
    assert retried.followed_at is not None
    assert replay(retried, Policy()).change is Change.NEITHER
    assert replay(stuck, Policy(error_quiet=60.0)).seconds == -60.0


def test_an_attempt_that_followed_later_than_the_window_makes_the_policy_wrong(world: World) -> None:
    ended_at = world.stuck()
    run_id = world.event("session.ended", ended_at)["runId"]
    (end,) = (r.end for r in of_recordings(world.state, Policy()))
    assert end is not None
    world.append(world.event("session.started", ended_at + 90_000, runId=end.run_id))
    assert run_id != end.run_id
    (found,) = of_recordings(world.state, Policy())
    assert found.sighting is not None
    assert replay(found.sighting, Policy()).change is Change.NEITHER
    replayed = replay(found.sighting, Policy(error_quiet=60.0))
    assert (replayed.change, replayed.would_be_wrong) == (Change.ADDITIONAL, True)


def test_a_link_among_the_recordings_is_not_followed(world: World, tmp_path: Path) -> None:
    world.stuck()
    path = world.trajectory()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert list(of_recordings(world.state, Policy())) == []


# --- the command ---


def test_simulate_tells_each_end_and_the_sum_and_what_it_cannot_know(world: World, run: Clawmend) -> None:
    world.stuck()
    run("repair", STUCK_KEY, "--apply")
    done = run("simulate", "--error-quiet", "5m", "--since", "7d", "--recordings", str(RECORDINGS))
    assert (done.returncode, done.stderr) == (0, "")
    heading, *ends, total, limit, other = done.stdout.splitlines()
    assert heading.split()[:3] == ["change", "seconds", "wrong"]
    assert [line.split()[0] for line in ends] == ["later", "neither", "later"]
    assert total == (
        "3 ends: 0 earlier, 2 later, 0 same, 0 additional, 0 not at all, 1 neither, 0 cannot tell; "
        "wrong: 0 with this policy, 0 before"
    )
    assert "left nothing in it" in limit
    assert "taken to have been the same" in other


def test_simulate_as_json_has_the_policy_every_end_and_the_totals(world: World, run: Clawmend) -> None:
    told = json.loads(run("simulate", "--stale-after", "60", "--error-quiet", "60s", "--json").stdout)
    assert (told["policy"]["stale_after"], told["policy"]["error_quiet"]) == (60.0, 60.0)
    (stuck,) = (e for e in told["ends"] if e["source"] == "provider-error-stuck")
    assert (stuck["change"], stuck["seconds"], stuck["would_be_wrong"]) == ("earlier", -60.0, False)
    assert told["totals"]["ends"] == len(told["ends"])
    assert len(told["limits"]) == 2
