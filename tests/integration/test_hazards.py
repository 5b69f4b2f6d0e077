"""The 25 ways in which a rule that only counts seconds would settle a healthy session.

Each hazard is a test `test_hazard_NN_...` in one of the files named below, on the recording of the real bug,
changed as the hazard says. Here: what they all stand on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.reconcile.report import Finding
from tests.world import STUCK_KEY, World, attempts, finding_of, run_for, tree_unchanged

HELD_FOR = 400.0
"""Seconds: past 30 s, past the window of an unsuccessful end, with room."""
FILES = (
    "test_hazards_trajectory.py",
    "test_hazards_places.py",
    "test_hazards_store.py",
    "test_hazards_time.py",
    "test_hazards_processes.py",
)


def left_alone(world: World, seconds: float = HELD_FOR, *, key: str = STUCK_KEY, **settings: Any) -> Finding:
    """Hold the world for `seconds`: nothing in it may be written, no repair begun. Gives what was found at the end."""
    reconciler = world.reconciler(**settings)
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, seconds, step=20)
    assert attempts(reconciler) == []
    return finding_of(report, key)


def verdict(finding: Finding) -> tuple[str, str]:
    return str(finding.verdict.code), finding.verdict.reason


def test_without_a_hazard_the_same_row_is_settled_in_that_time(world: World) -> None:
    world.stuck(ended_ago=1)
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert world.row()["status"] == "failed"


def test_each_of_the_25_hazards_has_a_test() -> None:
    text = "".join((Path(__file__).parent / name).read_text() for name in FILES)
    assert {int(n) for n in re.findall(r"^def test_hazard_(\d\d)_\w+\(", text, re.M)} == set(range(1, 26))
