"""Trajectories that prove nothing: see test_bad_input."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.api.health import health_checks
from app.api.views import describe_problems
from app.reconcile.service import Service
from tests.integration.test_bad_input import (
    MIB,
    NOT_A_FILE,
    add_bad_agent,
    as_ordinary_user,
    change,
    of,
    pass_over,
    put_away,
    session,
)
from tests.world import World, attempts


def stretched(before: int, after: int, end: bytes) -> Callable[[Path], None]:
    """200 MB that take no room on the disk, between the first `before` lines of the file and its last `after`."""

    def spoil(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        with path.open("wb") as file:
            file.write(b"".join(lines[:before]))
            file.seek(200_000_000)
            file.write(end + b"".join(lines[len(lines) - after :]))

    return spoil


NOISE = bytes((n * n + n // 7) % 251 for n in range(100_000))
TRAJECTORIES = [
    ("binary noise", of(NOISE.replace(b"\n", b"") + b"\n"), "not an event"),
    ("binary noise without a newline", of(NOISE.replace(b"\n", b"")), "middle of a line"),
    ("noise behind the end", change(lambda d: d + b"\xff\xfe\x00\x01\n"), "not an event"),
    ("JSON that is no event", change(lambda d: d + b'{"status": "success"}\n'), "not an event"),
    ("a number", change(lambda d: d + b"5\n"), "not an event"),
    ("nested a million deep", change(lambda d: d + b"[" * 900_000 + b"\n"), "not an event"),
    ("one line of 200 MB", stretched(0, 0, b"\n"), "longer than any event"),
    ("one line of 200 MB that is not complete", stretched(0, 0, b"x"), "longer than any event"),
    ("200 MB behind the end", stretched(99, 0, b"\n"), "longer than any event"),
    ("200 MB before the end", stretched(0, 1, b"\n"), "is full"),
    ("a future clock", change(lambda d: d.replace(b'"ts":"20', b'"ts":"21')), "a time in the future"),
    ("a time that is none", change(lambda d: d.replace(b'"ts":"20', b'"ts":"xx')), "not an event"),
    *((name, make, "not a regular file") for name, make in NOT_A_FILE.items()),
    ("a symlink", put_away(lambda p, moved: p.symlink_to(moved)), "symbolic link"),
    ("a symlink to nothing", put_away(lambda p, _: p.symlink_to("/nowhere")), "symbolic link"),
]


@pytest.mark.parametrize(("spoil", "word"), [t[1:] for t in TRAJECTORIES], ids=[t[0] for t in TRAJECTORIES])
def test_a_trajectory_that_proves_nothing_gets_a_clear_reason_and_blocks_nobody(
    world: World, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], word: str
) -> None:
    add_bad_agent(world)
    spoil(world.trajectory(agent="bad"))
    tracemalloc.start()
    try:
        reconciler = pass_over(world, caplog)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    code, reason = session(reconciler.report)
    assert code == "unprovable"
    assert word in reason
    assert peak < 40 * MIB, "read from its end, never whole"
    assert [a.agent_id for a in attempts(reconciler)] == ["main"]
    assert describe_problems(reconciler.report) == [], "the store itself is fine"


def test_a_trajectory_that_may_not_be_read(caplog: pytest.LogCaptureFixture) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        add_bad_agent(world)
        reconciler = world.reconciler()
        with as_ordinary_user(Path(folder)):
            world.trajectory(agent="bad").chmod(0)
            code, reason = session(pass_over(world, caplog, reconciler).report)
            world.close()
    assert code == "unprovable"
    assert "may not be read by this user" in reason


def test_health_counts_the_sessions_that_cannot_be_judged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    add_bad_agent(world)
    world.trajectory(agent="bad").write_bytes(NOISE + b"\n")
    reconciler = pass_over(world, caplog)
    assert health_checks(Service(reconciler))["sessions"]["unprovable"] == 1
