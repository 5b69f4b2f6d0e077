"""A repair, an undo, a crossed repair and two settled together on an image, the power cut after each of their steps."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from app.audit.models import Attempt
from app.reconcile.asking import Ask
from app.reconcile.file_hand import MOST_TRIES
from tests.faults.power.disk import Cut, Disk, Power, bystander, copy_image, flush, flusher, format_image, mounted
from tests.faults.power.steps import Steps, Variant
from tests.faults.power.versions import ONE, TWO, Versions, add_the_other, gateway_write, pad, settled
from tests.world import World, attempts, run_for, run_pass

REPAIR = "repair"
UNDO = "undo"
OUTRUN = "outrun repair"
"""The gateway writes while our new version is being written."""
CROSSED = "crossed repair"
"""The gateway writes in the instant of our exchange."""
REFUSED = "refused repair"
"""It is outrun until it gives up; a later one succeeds."""
TOGETHER = "two together"
"""Two sessions fall due at once, and are settled by one publishing."""
TOGETHER_OUTRUN = "two together, outrun"
TOGETHER_CROSSED = "two together, crossed"
"""Each of them is settled by itself then."""
SCENES = (REPAIR, UNDO, OUTRUN, CROSSED, REFUSED, TOGETHER, TOGETHER_OUTRUN, TOGETHER_CROSSED)
_OF_TWO = (TOGETHER, TOGETHER_OUTRUN, TOGETHER_CROSSED)
_CROSSED = (CROSSED, TOGETHER_CROSSED)
_OUTRUN = (OUTRUN, REFUSED, TOGETHER_OUTRUN)
_GATEWAY_WRITES = {OUTRUN: 1, CROSSED: 1, REFUSED: MOST_TRIES, TOGETHER_OUTRUN: 1, TOGETHER_CROSSED: 1}

NEXT_PASSES = (30.0, 121.0, 1.0, 4.0, 56.0, 5.0)
"""Seconds before each pass after the next start: the row is watched for 120, settled if need be, and looked at after 1,
5 and 60 more.
"""

NOBODY = "nobody"
BYSTANDER = "a bystander"
"""Another process syncs a file of its own before each cut, and with it all names that are on their way."""
FLUSHER = "the flusher"
"""The bystander does so once; from then on the kernel writes out bytes, but no names."""
ADVERSARIES = (NOBODY, BYSTANDER, FLUSHER)


@dataclass(frozen=True, slots=True)
class Stage:
    """How a scene is played."""

    disk: Disk
    variant: Variant
    scene: str = REPAIR
    adversary: str = NOBODY
    flush_from: str = "exchange ours"
    """The step with which the `flusher` begins."""
    padding: int = 0
    """Bytes of other rows in the store."""
    gateway_syncs: bool = True

    def __str__(self) -> str:
        who = f"{self.adversary} from {self.flush_from}" if self.adversary == FLUSHER else self.adversary
        size = f", {self.padding // 1_000} KB" if self.padding else ""
        return f"{self.disk.name}, {self.scene}, {who}{size}"


@dataclass(frozen=True, slots=True)
class Moment:
    """The power goes: directly after `step`, and what had been promised by then."""

    step: str
    cut: Cut
    wall: int
    mono: float
    intended: frozenset[str]
    """The sessions whose intent the audit has confirmed."""
    reported: tuple[tuple[str, str], ...]
    """Sessions, each with the outcome that the audit has confirmed last."""
    arrived: int | None
    """Which of the gateway's versions was the newest on the disk; None where the gateway does not sync."""


@dataclass(frozen=True, slots=True)
class Played:
    """One scene on one disk: every instant at which the power may have gone."""

    stage: Stage
    kind: str
    """`settle` or `undo`."""
    world: World
    versions: Versions
    moments: list[Moment]


class Play:
    """One scene, played on an image below `folder`."""

    def __init__(self, stage: Stage, folder: Path, copies: str = "copies") -> None:
        self._stage = stage
        self._folder = folder
        self._copies = folder / copies
        self._copies.mkdir()
        self._at = folder / "mnt"
        self._at.mkdir(exist_ok=True)
        self._moments: list[Moment] = []
        self._arrived = 0
        self._flushing = False

    def run(self) -> Played:
        """The scene from its beginning, on a fresh image."""
        stage, image = self._stage, self._folder / "live.img"
        format_image(stage.disk, image, stage.disk.size + 12 * stage.padding)
        with mounted(stage.disk, image, self._at):
            world = World(self._at)
            try:
                return self._from_the_start(world, Power(image, self._at, self._copies))
            finally:
                world.close()

    def next_start(self, played: Played, moment: Moment) -> Played:
        """What follows a power cut; the power may go once more in it."""
        image, world = self._folder / "live.img", played.world
        copy_image(moment.cut.image, image)
        self._arrived = moment.arrived or 0
        world.clock.wall, world.clock.mono = moment.wall, moment.mono
        with mounted(self._stage.disk, image, self._at):
            try:
                power, reconciler = Power(image, self._at, self._copies), world.reconciler()
                steps = self._steps(world, power)
                steps.intended.update(moment.intended)
                steps.reported.update(moment.reported)
                with steps.watched():
                    for seconds in NEXT_PASSES:
                        world.clock.advance(seconds)
                        run_pass(reconciler)
            finally:
                world.close()
        return Played(self._stage, played.kind, world, played.versions.until(self._arrived), self._moments)

    def _from_the_start(self, world: World, power: Power) -> Played:
        stage = self._stage
        ended_at = world.stuck()
        if stage.padding:
            pad(world, stage.padding)
        if stage.scene in _OF_TWO:
            add_the_other(world)
        running = world.store().read_bytes()
        reconciler = world.reconciler()
        run_for(reconciler, world.clock, 115, step=23)
        earlier: Attempt | None = None
        keys = TWO if stage.scene in _OF_TWO else ONE
        gateway = (running, *(gateway_write(running, n) for n in range(_GATEWAY_WRITES.get(stage.scene, 0))))
        made = tuple(settled(v, ended_at, keys) for v in gateway)
        alone = tuple({key: settled(v, ended_at, (key,)) for key in keys} for v in gateway if len(keys) > 1)
        apart = stage.scene in (TOGETHER_OUTRUN, TOGETHER_CROSSED)
        versions = Versions(gateway, made, stage.scene in _CROSSED, keys, alone, apart)
        if stage.scene == UNDO:
            run_for(reconciler, world.clock, 200, step=20)
            (earlier,) = attempts(reconciler)
            versions = Versions(made, gateway)
        _wear(world.folder / "own" / "audit.db")
        flush(world.folder)

        steps = self._steps(world, power, gateway)
        with steps.watched():
            steps.done("before the first")
            if earlier is not None:
                reconciler.repairer.undo(earlier, Ask("cli", "a test", "it was not finished"))
            for seconds in (5, 1, 4, 55, 10):
                world.clock.advance(seconds)
                run_pass(reconciler)
        assert world.store().read_bytes() == versions.last, "the scene was played as it was written"
        told = [(a.session_key, a.outcome) for a in attempts(reconciler) if a.published_with is not None]
        outcome = "applied" if stage.scene == TOGETHER else "refused"
        assert sorted(told) == sorted((key, outcome) for key in keys if stage.scene in _OF_TWO), (
            "and so were its attempts"
        )
        return Played(stage, "undo" if earlier else "settle", world, versions, self._moments)

    def _steps(self, world: World, power: Power, gateway: tuple[bytes, ...] = ()) -> Steps:
        stage = self._stage

        def write() -> None:
            if self._arrived + 1 < len(gateway):
                self._arrived += 1
                _write_as_the_gateway(world, gateway[self._arrived], synced=stage.gateway_syncs)

        def after(step: str) -> None:
            if stage.scene in _OUTRUN and step == "fsync ours":
                write()
            self._interfere(world, steps, step)
            arrived = self._arrived if stage.gateway_syncs else None
            promised = frozenset(steps.intended), tuple(sorted(steps.reported.items()))
            self._moments.append(Moment(step, power.cut(), world.clock.wall, world.clock.mono, *promised, arrived))

        steps = Steps(stage.variant, after, write if stage.scene in _CROSSED else lambda: None)
        return steps

    def _interfere(self, world: World, steps: Steps, step: str) -> None:
        stage = self._stage
        if stage.adversary == BYSTANDER:
            bystander(stage.disk, world.folder)
        elif stage.adversary == FLUSHER and self._flushing:
            flusher(steps.written)
        elif stage.adversary == FLUSHER and step == stage.flush_from:
            self._flushing = True
            bystander(stage.disk, world.folder)


def _write_as_the_gateway(world: World, data: bytes, *, synced: bool) -> None:
    beside = world.store().with_name(".fs-safe-replace.0123.tmp")
    with beside.open("wb") as file:
        beside.chmod(0o600)
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    moment = world.clock.now() * 1_000_000 - 5 * 10**9
    os.utime(beside, ns=(moment, moment))
    beside.rename(world.store())
    if synced:
        fd = os.open(world.sessions(), os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)


def _wear(database: Path) -> None:
    """An audit that has run for long: its log is written over, not appended to, so that its commits force nothing else
    to the disk.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("CREATE TABLE worn (x)")
        connection.execute("BEGIN")
        for _ in range(100):
            connection.execute("INSERT INTO worn VALUES (randomblob(4000))")
        connection.execute("COMMIT")
        connection.execute("DROP TABLE worn")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    finally:
        connection.close()
