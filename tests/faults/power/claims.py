"""What must hold of a disk after the power was cut, directly after the mount and after the next start."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt, Outcome
from app.openclaw.swap import OWN_PREFIX
from tests.faults.power.disk import CannotMount, mounted
from tests.faults.power.scenes import NEXT_PASSES, Moment, Played
from tests.faults.power.versions import Versions, sha256
from tests.world import World, attempts, run_pass


@dataclass(frozen=True, slots=True)
class Broken:
    """A claim that does not hold: at which step the power went, and what was found."""

    number: int
    step: str
    claim: str
    found: str

    def __str__(self) -> str:
        return f"power cut after step {self.number}, `{self.step}`: {self.claim}: {self.found}"


def judged(played: Played, folder: Path, *, next_start: bool = True) -> list[Broken]:
    """What does not hold. Two moments with the same disk and the same promises are mounted once."""
    found: list[Broken] = []
    seen: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    started: set[tuple[str, int | None]] = set()
    for number, moment in enumerate(played.moments):
        promised = (moment.cut.digest, moment.intended, moment.reported, moment.arrived)
        if promised not in seen:
            disk = (moment.cut.digest, moment.arrived)
            seen[promised] = _judged(played, moment, folder, next_start=next_start and disk not in started)
            started.add(disk)
        found += [Broken(number, moment.step, claim, what) for claim, what in seen[promised]]
    return found


def _judged(played: Played, moment: Moment, folder: Path, *, next_start: bool) -> list[tuple[str, str]]:
    try:
        with mounted(played.stage.disk, moment.cut.image, folder / "mnt"):
            try:
                found, left = _at_the_mount(played, moment)
                return found if found or not next_start else _after_the_start(played, moment, left)
            finally:
                played.world.close()
    except CannotMount as error:
        return [("the file system mounts", str(error))]


def _at_the_mount(played: Played, moment: Moment) -> tuple[list[tuple[str, str]], list[Attempt]]:
    world, versions = played.world, played.versions
    store = world.store().read_bytes() if world.store().exists() else b""
    found: list[tuple[str, str]] = []
    if store not in {*versions.gateway, *versions.ours()}:
        found.append(("the store is the old or the new version", _described(store)))
    try:
        left = read_audit(world)
    except (AuditUnavailable, AssertionError, sqlite3.Error) as error:
        return [*found, ("the audit database opens", str(error))], []
    mine = [a for a in left if a.kind == played.kind]
    done = versions.done_in(store)
    if store in versions.ours() and not any(a.new_sha256 == sha256(store) for a in mine):
        found.append(("a new version in place has its intent in the audit", f"{len(mine)} intents"))
    for key in done - {a.session_key for a in mine if versions.lives_on(a.new_sha256, store)}:
        found.append(("a new version in place has its intent in the audit", f"none of {key}"))
    for key in moment.intended - {a.session_key for a in mine}:
        found.append(("an intent that was confirmed is there", f"none of {key}"))
    for applied in (a for a in mine if a.outcome == Outcome.APPLIED):
        lives = store in versions.lasting() and versions.lives_on(applied.new_sha256, store)
        if not lives or applied.session_key not in done:
            found.append(("where the audit says `applied` the new version is in place", _described(store, versions)))
    for key, outcome in moment.reported:
        if outcome == Outcome.APPLIED and (store not in versions.lasting() or key not in done):
            found.append(("a success that was reported survives", f"{key}: {_described(store, versions)}"))
        if not any(a.outcome for a in mine if a.session_key == key):
            found.append(("an outcome that was confirmed is there", f"none of {key}"))
    return found, left


def _after_the_start(played: Played, moment: Moment, left: list[Attempt]) -> list[tuple[str, str]]:
    world, versions = played.world, played.versions.until(_last_arrived(played, moment))
    world.clock.wall, world.clock.mono = moment.wall, moment.mono
    beside, done = _ours_beside(world), versions.done_in(world.store().read_bytes())
    reconciler = world.reconciler()
    found: list[tuple[str, str]] = []
    first, *later = NEXT_PASSES
    world.clock.advance(first)
    run_pass(reconciler)
    store = world.store().read_bytes()
    was_open = {a.id for a in left if a.outcome is None}
    for attempt in (a for a in attempts(reconciler) if a.id in was_open):
        lives = versions.lives_on(attempt.new_sha256, store)
        if (attempt.outcome == Outcome.APPLIED) != (lives and attempt.session_key in versions.done_in(store)):
            what = f"{attempt.session_key} {attempt.outcome}; {_described(store, versions)}"
            found.append(("the audit says what became of it", what))
    for seconds in later:
        world.clock.advance(seconds)
        run_pass(reconciler)
    now, told = world.store().read_bytes(), attempts(reconciler)
    if now not in _in_the_end(played, moment, store):
        found.append(("the row is settled in the end, every other byte as it was", _described(now, versions)))
    for attempt in (a for a in told if a.id in was_open and a.outcome == Outcome.UNKNOWN):
        if attempt.session_key in done or any(attempt.files_named in name for name in beside):
            found.append(("the audit says what became of it", f"{attempt.session_key} unknown, and the disk tells"))
    if litter := _ours_beside(world):
        found.append(("no litter is left", str(litter)))
    unfinished = [a for a in told if a.outcome is None or a.finished_at is None]
    if unfinished:
        found.append(("no attempt is left open", str([(a.outcome, a.looks) for a in unfinished])))
    for key in versions.done_in(now) if now in versions.ours() else ():
        live = [a for a in told if (a.kind, a.session_key, a.outcome) == (played.kind, key, Outcome.APPLIED)]
        if len(live) != 1 or not versions.lives_on(live[0].new_sha256, now):
            said = str([a.outcome for a in told if a.session_key == key])
            found.append(("exactly one attempt says that it wrote what is there", f"{key}: {said}"))
    return found


def _last_arrived(played: Played, moment: Moment) -> int:
    return len(played.versions.gateway) - 1 if moment.arrived is None else moment.arrived


def _in_the_end(played: Played, moment: Moment, store: bytes) -> set[bytes]:
    if played.kind == "undo":
        return {store}  # an undo that did not happen is not done by anybody else
    made = played.versions.made
    return set(made) if moment.arrived is None else {made[moment.arrived]}


def _ours_beside(world: World) -> list[str]:
    return sorted(p.name for p in world.sessions().iterdir() if p.name.startswith(OWN_PREFIX))


def read_audit(world: World) -> list[Attempt]:
    path = world.folder / "own" / "audit.db"
    assert path.exists(), "it is gone"
    connection = sqlite3.connect(path)
    try:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    assert said == "ok", said
    audit = AuditLog(world.database_url)
    try:
        return audit.page(500)[0]
    finally:
        audit.dispose()


def _described(store: bytes, versions: Versions | None = None) -> str:
    if versions is not None and store in versions.gateway:
        return f"the gateway's version {versions.gateway.index(store)}"
    if versions is not None and store in versions.made:
        return f"what was made of the gateway's version {versions.made.index(store)}"
    if versions is not None and versions.done_in(store):
        return f"the gateway's version {len(versions.made) - 1} with {', '.join(versions.done_in(store))} settled alone"
    if not store.strip(b"\0"):
        return f"{len(store)} bytes, nothing in them"
    try:
        json.loads(store)
    except ValueError:
        return f"{len(store)} bytes that do not parse"
    return f"another version of {len(store)} bytes"
