"""A repair of a row in a database on an image, the power cut after each of its steps, and what must hold then."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.audit.log import AuditUnavailable
from app.audit.models import Attempt, Outcome
from app.openclaw.replacement import Replacement, Written
from app.reconcile import database_hand
from app.reconcile.asking import Ask
from tests.databases import LOCKED_OUT, AgentDatabase
from tests.faults.power.claims import Broken, read_audit
from tests.faults.power.disk import CannotMount, Cut, Disk, Power, bystander, flush, format_image, mounted
from tests.faults.power.scenes import BYSTANDER, NEXT_PASSES, NOBODY
from tests.faults.power.stepping import replace_in_steps
from tests.faults.power.steps import PROTOCOL, Steps
from tests.stuck_rows import Stuck, stuck
from tests.world import ABSENT, World, attempts, run_for, run_pass

CLEAN = "repair after a clean stop"
"""There is no log: ours is brought in and taken away."""
LOGGED = "repair after a kill"
"""There is a log, to which ours is added."""
UNDO = "undo"
SCENES = (CLEAN, LOGGED, UNDO)


@dataclass(frozen=True, slots=True)
class Stage:
    """How a scene is played."""

    disk: Disk
    scene: str
    adversary: str = NOBODY
    log_sync: bool = True
    """False: what is written to the log is not brought to the disk."""

    def __str__(self) -> str:
        return f"{self.disk.name}, {self.scene}, {self.adversary}{'' if self.log_sync else ', the log is not synced'}"


@dataclass(frozen=True, slots=True)
class Moment:
    """The power goes: directly after `step`, and what had been promised by then."""

    step: str
    cut: Cut
    wall: int
    mono: float
    intended: bool
    reported: str | None


@dataclass(frozen=True, slots=True)
class Played:
    """One scene on one disk."""

    stage: Stage
    row: Stuck
    old: tuple[Any, ...]
    new: tuple[Any, ...]
    rest: list[tuple[Any, ...]]
    moments: list[Moment]

    @property
    def kind(self) -> str:
        return "undo" if self.stage.scene == UNDO else "settle"


class Play:
    """One scene, played on an image below `folder`."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._at = folder / "mnt"
        self._at.mkdir(exist_ok=True)
        (folder / "copies").mkdir()
        self._moments: list[Moment] = []
        self._intended = False
        self._reported: str | None = None

    def run(self) -> Played:
        image = self._folder / "live.img"
        format_image(self._stage.disk, image)
        with mounted(self._stage.disk, image, self._at):
            world = World(self._at)
            try:
                return self._played(world, Power(image, self._at, self._folder / "copies"))
            finally:
                world.close()

    def _played(self, world: World, power: Power) -> Played:
        world.gateway = ABSENT
        row = stuck(world)
        reconciler = world.reconciler()
        if self._stage.scene == UNDO:
            run_for(reconciler, world.clock, 200, step=20)
        old, rest = row.node(), row.rest()
        if self._stage.scene == LOGGED:
            _leave_a_log(row.database.path)
        flush(world.folder)
        steps = Steps(PROTOCOL, lambda step: self._after(step, world, power))
        with steps.watched(), self._in_steps(steps):
            steps.done("before the first")
            if self._stage.scene == UNDO:
                (earlier,) = attempts(reconciler)
                reconciler.repairer.undo(earlier, Ask("cli", "a test", "it was not finished"))
            else:
                run_for(reconciler, world.clock, 35)
        log = Path(f"{row.database.path}-wal")
        assert log.exists() == (self._stage.scene == LOGGED), "the log is where the scene has it"
        new = row.node()
        assert (new[3] == "running") == (self._stage.scene == UNDO), "the scene was played as it was written"
        return Played(self._stage, row, old, new, rest, self._moments)

    @contextmanager
    def _in_steps(self, steps: Steps) -> Iterator[None]:
        def write(what: Replacement, now: int) -> Written:
            return replace_in_steps(what, now, steps.done, log_sync=self._stage.log_sync)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database_hand, "replace_in_a_process", write)
            yield

    def _after(self, step: str, world: World, power: Power) -> None:
        match step.split(": "):
            case ["audit", "intent"]:
                self._intended = True
            case ["audit", "applied"]:
                self._reported = Outcome.APPLIED
        if self._stage.adversary == BYSTANDER:
            bystander(self._stage.disk, world.folder)
        clock = world.clock
        self._moments.append(Moment(step, power.cut(), clock.wall, clock.mono, self._intended, self._reported))


def _leave_a_log(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("UPDATE session_nodes SET icon = icon")


def judged(played: Played, folder: Path) -> list[Broken]:
    """What does not hold. Moments with the same disk and promises are mounted once."""
    seen: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    started: set[tuple[object, ...]] = set()
    found: list[Broken] = []
    for number, moment in enumerate(played.moments):
        promised = (moment.cut.digest, moment.intended, moment.reported)
        if promised not in seen:
            seen[promised] = _judged(played, moment, folder, started)
        found += [Broken(number, moment.step, claim, what) for claim, what in seen[promised]]
    return found


def _judged(played: Played, moment: Moment, folder: Path, started: set[tuple[object, ...]]) -> list[tuple[str, str]]:
    world = played.row.world
    try:
        with mounted(played.stage.disk, moment.cut.image, folder / "mnt"):
            try:
                beside = tuple(sorted(p.name for p in played.row.database.path.parent.iterdir()))
                copy = _copied(played.row, folder / "copy")
                found, left = _at_the_mount(played, copy, moment)
                if found:
                    return found
                was = copy.node()
                disk = (beside, *((a.id, a.outcome, a.new_sha256) for a in left), was)
                if disk in started:
                    return []
                started.add(disk)
                return _after_the_start(played, moment, left, was)
            finally:
                world.close()
    except CannotMount as error:
        return [("the file system mounts", str(error))]


def _copied(row: Stuck, folder: Path) -> Stuck:
    """To look at it there: a log that lies beside the database is to be as it was when Clawmend starts."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(row.database.path.parent, folder)
    database = AgentDatabase(row.world.state)
    database.path = folder / row.database.path.name
    return replace(row, database=database)


def _at_the_mount(played: Played, row: Stuck, moment: Moment) -> tuple[list[tuple[str, str]], list[Attempt]]:
    found: list[tuple[str, str]] = []
    try:
        node = row.node()
        if node not in (played.old, played.new):
            found.append(("the row is the old or the new one", str(node[1:])))
        if row.ask("PRAGMA integrity_check") != [("ok",)]:
            found.append(("the database is undamaged", "it is not"))
        if row.rest() != played.rest or row.pending():
            found.append(("nothing else has changed", "it has"))
    except sqlite3.Error as error:
        return [("the database opens", str(error))], []
    try:
        left = read_audit(row.world)
    except (AuditUnavailable, AssertionError, sqlite3.Error) as error:
        return [*found, ("the audit database opens", str(error))], []
    mine = [a for a in left if a.kind == played.kind]
    if node == played.new and not any(a.new_sha256 == _text_digest(row) for a in mine):
        found.append(("a new row has its intent and plan in the audit", f"{len(mine)} intents"))
    if moment.intended and not mine:
        found.append(("an intent that was confirmed is there", "none"))
    if any(a.outcome == Outcome.APPLIED for a in mine) and node != played.new:
        found.append(("where the audit says `applied` the row is the new one", str(node[3])))
    if moment.reported == Outcome.APPLIED and node != played.new:
        found.append(("a success that was reported survives", str(node[3])))
    return found, left


def _after_the_start(
    played: Played, moment: Moment, left: list[Attempt], was: tuple[Any, ...]
) -> list[tuple[str, str]]:
    """A Clawmend starts, and after its first pass a gateway, which stops again: only that makes an index for a log."""
    row, found = played.row, list[tuple[str, str]]()
    world = row.world
    world.clock.wall, world.clock.mono = moment.wall, moment.mono
    reconciler = world.reconciler()
    first, *later = NEXT_PASSES
    world.clock.advance(first)
    run_pass(reconciler)
    if any(a.outcome == Outcome.APPLIED for a in attempts(reconciler) if a.kind == played.kind) and was != played.new:
        found.append(("at once the audit says nothing that is not true", "applied, and the row is as it was"))
    row.ask("SELECT 1 FROM session_nodes")
    for seconds in (*later, *NEXT_PASSES):
        world.clock.advance(seconds)
        run_pass(reconciler)
    told, node = attempts(reconciler), row.node()
    mine = {a.id for a in left if a.kind == played.kind}
    for outcome in (a.outcome for a in told if a.id in mine):
        if (outcome == Outcome.APPLIED) != (was == played.new):
            found.append(("the audit says what became of it", f"{outcome}, and the row was {was[3]}"))
    if unfinished := [a for a in told if a.outcome is None or a.finished_at is None]:
        found.append(("no attempt is left open", str([(a.outcome, a.looks) for a in unfinished])))
    if node != (was if played.kind == "undo" else played.new):  # nobody else does an undo that did not happen
        found.append(("the row is what it is to be in the end", f"{node[3]}; {[a.outcome for a in told]}"))
    if row.ask("PRAGMA integrity_check") != [("ok",)] or row.pending() or row.rest() != played.rest:
        found.append(("the database is whole in the end", "it is not"))
    return found


def _text_digest(row: Stuck) -> str:
    query = "SELECT CAST(entry_json AS BLOB) FROM session_nodes WHERE session_key = ?"
    try:
        ((text,),) = row.ask(query, LOCKED_OUT)
    except sqlite3.Error as error:
        return str(error)
    return hashlib.sha256(text).hexdigest()
