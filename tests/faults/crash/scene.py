"""The state dirs on which a repair is broken off, and what is done to them.

A scene stands at one fixed path (the audit knows stores by their paths), is put aside once, and brought back as it was
before every run.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.audit.models import Trigger
from app.openclaw import publish, swap
from app.openclaw.folder import Folder
from app.reconcile import file_hand
from app.reconcile.asking import Ask
from app.reconcile.looks import Looker
from app.reconcile.reconciler import Reconciler
from tests.faults.crash.beside import READS, WROTE_AGAIN, Beside, around_the_first_exchange, wait_for
from tests.faults.crash.versions import (
    ALL,
    BOTH,
    FIRST_NEW,
    GATEWAY,
    NEW,
    OLD,
    ON_OURS,
    OTHER_KEY,
    OTHER_NEW,
    OTHER_SESSION_ID,
    SECOND,
    TWO,
    TWO_NEW,
    counted,
    seen,
    versions,
)
from tests.world import ABSENT, STUCK_KEY, STUCK_SESSION_ID, HeldClock, World, attempts, finding_of, run_pass

LEFT_OVER = "new, and a file of ours that could not be unlinked"
LOOKED_TWICE = f"{LEFT_OVER} by two looks either"

_AHEAD = 60.0
"""The clock is held this far ahead of the machine's: a file that was written now is an old one, and no run waits."""
_LATER = 300.0
"""Between the making of a scene and what is done to it, and again until the next start: every look is due by then."""


class Scene:
    """One state dir with one stuck session, and what lies aside."""

    def __init__(self, place: Path) -> None:
        folder = place / "world"
        folder.mkdir(parents=True)
        self.world = World(folder)
        self.world.gateway = ABSENT
        self.folder = folder
        self._aside = place / "aside"
        ended_at = self.world.stuck()
        self.versions = versions(self.world.row(), ended_at)
        told = self.world.trajectory().read_text().replace(STUCK_SESSION_ID, OTHER_SESSION_ID)
        self.world.trajectory(OTHER_SESSION_ID).write_text(told.replace(STUCK_KEY, OTHER_KEY))
        self.world.write_store(self.bytes_of(OLD))
        self.world.reconciler().audit.dispose()
        self.put_aside(OLD)

    def bytes_of(self, word: str) -> bytes:
        return next(data for data, each in self.versions.items() if each == word)

    def has(self, name: str) -> bool:
        return (self._aside / name).is_dir()

    def has_a_file_of_ours(self, name: str) -> bool:
        return any((self._aside / name).rglob(f"{swap.OWN_PREFIX}*"))

    def put_aside(self, name: str) -> None:
        shutil.copytree(self.folder, self._aside / name)

    def bring_back(self, name: str, later: float = _LATER) -> None:
        for part in ("openclaw", "own"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            shutil.copytree(self._aside / name / part, self.folder / part)
        self.hold_clock(later)

    def is_as(self, name: str) -> bool:
        """Whether every byte is as it was put aside (the index of SQLite's log, and a log without frames, are none)."""
        return _bytes_below(self.folder) == _bytes_below(self._aside / name)

    def stamped(self, stamp: str) -> bool:
        return (self.world.state / stamp).exists()

    def wait_for_the_gateway(self) -> None:
        """It may have been stopped by us in the midst of its reading, and goes on when we are done, or dead."""
        if self.stamped(READS):
            wait_for(lambda: self.stamped(WROTE_AGAIN))

    def hold_clock(self, later: float = 2 * _LATER) -> None:
        self.world.clock = HeldClock()
        self.world.clock.advance(_AHEAD + later)


def _bytes_below(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {n: d for n, d in found.items() if not n.endswith("-shm") and (d or not n.endswith("-wal"))}


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that is done to a scene. `prepare` gives the Clawmend that does it, and the doing."""

    name: str
    scene: str
    prepare: Callable[[Scene], tuple[Reconciler, Callable[[], str]]]
    before: str
    """The version that stands there to begin with."""
    after: str
    """The version that it makes."""
    ends: tuple[str, ...]
    """What may stand in the end, when Clawmend has gone on by itself and the gateway has not written."""
    between: tuple[str, ...] = ()
    """What else may stand for an instant."""
    tells: bool = False
    """Whether a file of ours lies in the scene to begin with."""

    @property
    def allowed(self) -> tuple[str, ...]:
        return (self.before, self.after, *self.ends, *self.between)


def _watched(scene: Scene) -> Reconciler:
    """A Clawmend that has watched the stuck session for its whole window, and has loaded all that it loads late."""
    reconciler = scene.world.reconciler()
    for seconds in (1, 30):
        run_pass(reconciler)
        scene.world.clock.advance(seconds)
    return reconciler


def _settle(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = _watched(scene)
    finding = finding_of(reconciler.report)
    ask = Ask(Trigger.SCHEDULER, "clawmend", "a test says so")
    return reconciler, lambda: str(reconciler.repairer.settle(finding, ask).outcome)


def _pass(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = _watched(scene)

    def do() -> str:
        run_pass(reconciler)
        if reconciler.audit_problem is not None:
            return "no audit"
        done = attempts(reconciler)
        return str(done[-1].outcome) if done else "put off"

    return reconciler, do


def _pass_for_two(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = _watched(scene)

    def do() -> str:
        run_pass(reconciler)
        if reconciler.audit_problem is not None:
            return "no audit"
        newest = {a.session_key: str(a.outcome) for a in attempts(reconciler)}
        return newest.popitem()[1] if len(set(newest.values())) == 1 and len(newest) > 1 else f"mixed: {newest}"

    return reconciler, do


def _crossed(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler, do = _settle(scene)
    around_the_first_exchange(_beside(scene).writes(counted))
    return reconciler, do


def _crossed_and_read(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler, do = _settle(scene)
    read, wait = _beside(scene).reads_and_writes(seen)
    around_the_first_exchange(_beside(scene).writes(counted), read, wait)
    return reconciler, do


def _beside(scene: Scene) -> Beside:
    return Beside(scene.world.state, scene.world.store(), scene.world.write_store)


def _undo(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = scene.world.reconciler()
    run_pass(reconciler)
    repair = attempts(reconciler)[0]
    ask = Ask(Trigger.API, "a test", "a test says so")
    return reconciler, lambda: str(reconciler.repairer.undo(repair, ask).outcome)


def _look(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = scene.world.reconciler()
    reconciler.audit.ping()
    looker = Looker(scene.world.clock, reconciler.audit, reconciler.settings.store_max_bytes)
    return reconciler, lambda: "overwritten" if looker.take_due() else "looked"


def _recover(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    reconciler = scene.world.reconciler()
    reconciler.audit.ping()
    looker = Looker(scene.world.clock, reconciler.audit, reconciler.settings.store_max_bytes)
    return reconciler, lambda: "resolved" if looker.resolve_left_open() else "left open"


def _naive(scene: Scene) -> tuple[Reconciler, Callable[[], str]]:
    """The repair that everybody writes first: the new version over the old one."""

    def over_the_old_one(folder: Folder, name: str, change: publish.Change, **_: object) -> publish.Published:
        fd = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=folder.fd)
        os.write(fd, change.new)
        os.close(fd)
        return publish.Published("naive", None)

    file_hand.publish = over_the_old_one  # type: ignore[attr-defined]
    return _settle(scene)


THINGS = {
    thing.name: thing
    for thing in (
        Thing("settle", OLD, _settle, OLD, NEW, ends=(NEW,)),
        Thing("pass", OLD, _pass, OLD, NEW, ends=(NEW,)),
        Thing("together", TWO, _pass_for_two, TWO, TWO_NEW, ends=(TWO_NEW,), between=(FIRST_NEW, OTHER_NEW)),
        Thing("crossing", OLD, _crossed, OLD, BOTH, ends=(NEW,), between=(GATEWAY,)),
        Thing("read crossing", OLD, _crossed_and_read, OLD, ALL, ends=(NEW,), between=(GATEWAY, BOTH, SECOND, ON_OURS)),
        Thing("undo", NEW, _undo, NEW, OLD, ends=(NEW, OLD)),
        Thing("look", LEFT_OVER, _look, NEW, NEW, ends=(NEW,)),
        Thing("last look", LOOKED_TWICE, _look, NEW, NEW, ends=(NEW,)),
        Thing("naive", OLD, _naive, OLD, NEW, ends=(NEW,)),
    )
}


def recovery(of: Thing, scene: str, *, tells: bool) -> Thing:
    """The next start on what a crash in the midst of another thing has left."""
    return replace(of, name=f"recovery of {scene}", scene=scene, prepare=_recover, tells=tells)


def make(scene: Scene, name: str) -> None:
    """Put a scene aside that a repair has to make first. Called in a process of its own."""
    scene.bring_back(OLD, later=0)
    if name == TWO:
        scene.world.write_store(scene.bytes_of(TWO))
        scene.put_aside(name)
        return
    if name in (LEFT_OVER, LOOKED_TWICE):
        _let_nothing_of_ours_be_unlinked()
    reconciler, do = _settle(scene)
    assert do() == "applied"
    if name == LOOKED_TWICE:
        for seconds in (1, 4):
            scene.world.clock.advance(seconds)
            run_pass(reconciler)
        assert len(attempts(reconciler)[0].looks) == 2
    reconciler.audit.dispose()
    scene.put_aside(name)


def _let_nothing_of_ours_be_unlinked() -> None:
    real = os.unlink

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        if str(path).startswith(swap.OWN_PREFIX):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(path, dir_fd=dir_fd)

    os.unlink = unlink  # type: ignore[assignment]
