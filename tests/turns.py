"""Turns that end and leave their rows running: the real bug, again and again, in one session or in many."""

from __future__ import annotations

import os

from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Report
from tests.api.conftest import add_row
from tests.world import ABSENT, STUCK_KEY, STUCK_SESSION_ID, World, run_for

WINDOW = 31.0
"""Seconds after which a turn is settled where the gateway is gone."""


def lost_turn(world: World, key: str = STUCK_KEY, session_id: str = STUCK_SESSION_ID) -> None:
    """A turn begins and ends in a session that was settled, and its row goes on saying running."""
    world.gateway = ABSENT
    now = world.clock.now()
    world.edit_row(key, status="running", startedAt=now - 2_000, updatedAt=now - 2_000, endedAt=None, runtimeMs=None)
    told = [world.event("session.started", now - 1_900), world.event("session.ended", now - 1_000, {"status": "error"})]
    world.append(*({**e, "sessionId": session_id, "sessionKey": key} for e in told), session_id=session_id)
    os.utime(world.trajectory(session_id), ns=(0, now * 1_000_000))


def put_back(world: World, key: str = STUCK_KEY) -> None:
    """The gateway writes the row as it was before the repair."""
    world.edit_row(key, status="running", endedAt=None, runtimeMs=None)


def lost_turns(world: World, names: range, *, ended_ago: float = 60.0) -> None:
    """Sessions `agent:main:<n>` that are over and say running."""
    world.gateway = ABSENT
    for n in names:
        ended = ("session.ended", ended_ago, {"status": "error"})
        add_row(world, f"agent:main:{n}", f"id-{n}", started_ago=ended_ago + 60, events=(ended,))


def settle_next_turn(world: World, reconciler: Reconciler) -> Report:
    """Another turn is lost, and passes run until it would be settled and the looks at it are over."""
    lost_turn(world)
    return run_for(reconciler, world.clock, 120)
