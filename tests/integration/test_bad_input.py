"""Stores and trajectories that are not what they should be: a clear word for each, no exception, no write, no waiting.

Beside every bad one stands a healthy agent in the same state dir with a session that is really stuck: it is settled.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest

from app.api.health import health_checks
from app.api.lists import Lists, Query
from app.api.views import describe_problems
from app.domain.model import Code
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Report
from app.reconcile.service import Service
from tests.world import (
    World,
    attempts,
    finding_of,
    run_for,
    tree_unchanged,
)

MIB = 1 << 20
NOBODY = 65_534
BAD_KEY = "agent:bad:s-error400"
"""The bad agent's session has the recording's sessionId, too: every agent has sessions of its own."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail instead of hanging: a FIFO that is opened, a file that is read to its far end."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def add_bad_agent(world: World) -> Path:
    """Two agents with a stuck session each: `main`, and `bad`, whose store is given: to be spoilt."""
    world.stuck()
    (world.state / "agents" / "bad").mkdir()
    world.sessions().rename(world.sessions("bad"))
    for file in world.sessions("bad").iterdir():
        moment = file.stat().st_mtime_ns
        file.write_bytes(file.read_bytes().replace(b"agent:main:", b"agent:bad:").replace(b"/main/", b"/bad/"))
        os.utime(file, ns=(moment, moment))
    world.stuck()
    return world.store("bad")


def pass_over(
    world: World, caplog: pytest.LogCaptureFixture, reconciler: Reconciler | None = None, **settings: Any
) -> Reconciler:
    """Hold for 240 s: main's session is settled, nothing of the bad agent is written, nothing is logged as an error.

    A torn line counts as a session at work for a minute, and an unsuccessful end waits for 120 s of calm.
    """
    reconciler = reconciler or world.reconciler(**settings)
    with within(30), caplog.at_level(logging.DEBUG, "clawmend"), tree_unchanged(world.state / "agents" / "bad"):
        run_for(reconciler, world.clock, 240, step=30)
    assert world.row()["status"] == "failed", "the healthy agent's session is settled"
    assert [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR] == []
    return reconciler


def problem(reconciler: Reconciler) -> dict[str, Any]:
    """The one problem, as /sessions names it; /health counts it and names nothing."""
    (found,) = describe_problems(reconciler.report)
    listed = orjson.loads(
        Lists().get(reconciler.report, reconciler.settings.policy, Query(tuple(Code), evidence=False)).body
    )
    assert listed["problems"] == [found]
    stores = health_checks(Service(reconciler))["stores"]
    assert (stores["status"], stores["problems"]) == ("warn", {found["code"]: 1})
    return found


def session(report: Report, key: str = BAD_KEY) -> tuple[str, str]:
    verdict = finding_of(report, key).verdict
    return str(verdict.code), verdict.reason


def of(data: bytes) -> Callable[[Path], None]:
    def spoil(store: Path) -> None:
        store.write_bytes(data)

    return spoil


def change(function: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(store: Path) -> None:
        store.write_bytes(function(store.read_bytes()))

    return spoil


def put_away(make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """The real file is moved out of the state dir; `make(name, moved)` puts something else in its place."""

    def spoil(path: Path) -> None:
        moved = path.parents[4] / "moved-away"
        path.rename(moved)
        make(path, moved)

    return spoil


def make_socket(path: Path, _: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


NOT_A_FILE = {
    "a FIFO": put_away(lambda path, _: os.mkfifo(path)),
    "a directory": put_away(lambda path, _: path.mkdir()),
    "a socket": put_away(make_socket),
}
STORES = [
    ("0 bytes", of(b""), "empty", "empty"),
    ("white space", of(b" \n\n"), "empty", "empty"),
    ("half a JSON", change(lambda d: d[: len(d) // 2]), "not_json", "does not parse"),
    (
        "NULs only, as after a power cut",
        change(lambda d: bytes(len(d))),
        "not_an_object",
        "not a JSON object",
    ),
    ("an array", of(b'[{"status": "running"}]'), "not_an_object", "not a JSON object"),
    ("null", of(b"null"), "not_an_object", "not a JSON object"),
    ("a byte order mark", change(lambda d: b"\xef\xbb\xbf" + d), "not_json", "byte order mark"),
    ("UTF-16", change(lambda d: d.decode().encode("utf-16")), "not_utf8", "not UTF-8"),
    ("a session twice", change(lambda d: d[:-1].rstrip() + b"," + d.lstrip()[1:]), "duplicate_keys", "twice"),
    ("NaN", change(lambda d: d.replace(b'"compactionCount": 0', b'"compactionCount": NaN')), "not_json", "NaN"),
    ("Infinity", change(lambda d: d.replace(b'"compactionCount": 0', b'"x": -Infinity')), "not_json", "Infinity"),
    ("a lone surrogate in bytes", change(lambda d: d.replace(b"webchat", b"\xed\xa0\xbd", 1)), "not_utf8", "not UTF-8"),
    ("nested a million deep", of(b'{"a":' + b"[" * MIB), "not_json", "nested too deeply"),
    ("two objects", change(lambda d: d + d), "not_json", "something follows the object"),
    *((name, make, "not_a_file", "not a regular file") for name, make in NOT_A_FILE.items()),
    ("a symlink out of the tree", put_away(lambda p, moved: p.symlink_to(moved)), "symlink", "symbolic link"),
    ("a symlink to nothing", put_away(lambda p, _: p.symlink_to("/nowhere")), "symlink", "symbolic link"),
]


@pytest.mark.parametrize(("spoil", "code", "word"), [s[1:] for s in STORES], ids=[s[0] for s in STORES])
def test_a_store_that_cannot_be_judged_gets_a_clear_word_and_blocks_nobody(
    world: World,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    code: str,
    word: str,
) -> None:
    store = add_bad_agent(world)
    spoil(store)
    reconciler = pass_over(world, caplog)
    found = problem(reconciler)
    assert (found["store"], found["code"]) == (str(store), code)
    assert word in found["detail"]
    assert [a.agent_id for a in attempts(reconciler)] == ["main"]


def test_a_store_that_may_not_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Mode 000, seen by an ordinary user: root, who may read everything, becomes nobody for as long as it takes."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        store = add_bad_agent(world)
        reconciler = world.reconciler()
        with as_ordinary_user(Path(folder)):
            store.chmod(0)
            found = problem(pass_over(world, caplog, reconciler))
            assert (found["code"], found["detail"]) == ("no_permission", "it may not be read by this user")

            store.chmod(0o600)
            store.parent.chmod(0)
            found = problem(pass_over(world, caplog, reconciler))
            assert (found["code"], found["detail"]) == ("no_permission", "it may not be read by this user")
            store.parent.chmod(0o700)
            world.close()


@contextmanager
def as_ordinary_user(folder: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
            pytest.skip("the folder for temporary files is closed to other users")
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_store_of_80_mb_is_settled_within_bounds_and_above_the_limit_it_is_not_read(world: World) -> None:
    """5,650 rows of 14 KB, which is what a row weighs, behind the one that is stuck."""
    store = add_bad_agent(world)
    row = json.dumps({"sessionId": "s-1", "status": "done", "skillsSnapshot": "x" * 14_200})
    rest = ",\n".join(f'"agent:bad:s-{n}": {row}' for n in range(5_650)).encode()
    store.write_bytes(store.read_bytes()[:-1].rstrip() + b",\n" + rest + b"}")
    assert store.stat().st_size > 80_000_000

    limited = world.reconciler(store_max_bytes=64 * MIB)
    with within(30), tree_unchanged(store.parent):
        run_for(limited, world.clock, 60, step=30)
    assert problem(limited)["code"] == "too_large"
    assert limited.report.bytes_read < MIB

    with within(60):
        run_for(world.reconciler(), world.clock, 150, step=75)
    kept = store.read_bytes().endswith(b",\n" + rest + b"}")  # not in the assert: it would write out 80 MB
    assert kept
    assert world.row(BAD_KEY, "bad")["status"] == "failed"


def test_a_state_dir_that_is_not_there_is_named_and_blocks_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    add_bad_agent(world)
    world.store("bad").write_bytes(b"{}")
    gone = str(world.folder / "gone")
    found = problem(pass_over(world, caplog, state_dir=(gone, str(world.state))))
    assert (found["state_dir"], found["code"]) == (gone, "no_state_dir")
