"""The last attempts of a trajectory, as a person sees them."""

from __future__ import annotations

from app.domain.model import Trail
from app.openclaw.last_attempts import MOST_BYTES, last_attempts
from tests.world import STUCK_SESSION_ID, World, finding_of, run_pass


def trail_of(world: World) -> Trail:
    (trail,) = finding_of(run_pass(world.reconciler())).evidence.trails
    return trail


def test_the_attempts_of_a_recording_are_read_back_to_the_beginning_of_the_one_that_is_wanted(world: World) -> None:
    world.stuck()
    trail = trail_of(world)
    assert "session.started" not in [e.type for e in trail.events], "the tail of the pass does not go so far"
    turn = ["session.started", "trace.metadata", "context.compiled", "prompt.submitted", "model.completed"]
    turn += ["trace.artifacts", "session.ended"]
    assert [e.type for e in last_attempts(trail, 1)] == turn
    both = last_attempts(trail, 9)
    assert [e.type for e in both] == turn * 2
    assert [e.ts for e in both] == sorted(e.ts for e in both)
    assert both[-1].ts == trail.last.ts if trail.last else None
    assert len({e.run_id for e in both}) == 2


def test_what_was_appended_since_the_pass_is_not_shown_with_its_evidence(world: World) -> None:
    world.stuck()
    trail = trail_of(world)
    before = last_attempts(trail, 9)
    world.append(world.event("session.started", world.clock.now()))
    assert last_attempts(trail, 9) == before


def test_a_file_that_is_another_or_a_link_or_gone_shows_what_the_pass_has_seen(world: World) -> None:
    world.stuck()
    trail = trail_of(world)
    file = world.trajectory(STUCK_SESSION_ID)
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    elsewhere = file.rename(file.with_name("elsewhere"))
    assert last_attempts(trail, 9) == trail.events
    file.symlink_to(elsewhere)
    assert last_attempts(trail, 9) == trail.events
    copy.replace(file)
    assert last_attempts(trail, 9) == trail.events
    assert last_attempts(trail._replace(path=str(file.with_name("openclaw-agent.sqlite"))), 9) == trail.events


def test_a_long_attempt_is_read_so_far_and_no_farther(world: World) -> None:
    world.stuck()
    filler = world.event("model.completed", world.clock.now() - 3_600_000, {"text": "x" * 200_000})
    for _ in range(2 * MOST_BYTES // 200_000):
        world.append(filler)
    events = last_attempts(trail_of(world), 9)
    assert {e.type for e in events} == {"model.completed"}
    assert MOST_BYTES // 200_000 - 2 <= len(events) <= MOST_BYTES // 200_000 + 1
