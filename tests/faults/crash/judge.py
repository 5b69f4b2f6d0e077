"""What must be true after a fault, after the next start, and in the end."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from app.audit.models import Trigger
from app.openclaw.swap import OWN_PREFIX
from app.reconcile.asking import Ask
from app.reconcile.reconciler import Reconciler
from tests.faults.crash.beside import WROTE, WROTE_AGAIN
from tests.faults.crash.scene import Scene, Thing
from tests.faults.crash.versions import (
    ALL,
    BOTH,
    GATEWAY,
    ON_OURS,
    OTHER_KEY,
    SECOND,
    SETTLED,
    WITH_OURS,
    WITH_THE_GATEWAYS,
)
from tests.world import STUCK_KEY, attempts, finding_of, run_pass

_MOST_PASSES = 16
_TYPED = {"NotStuck", "StoreUnfit", "StoreBusy", "CannotUndo", "AuditUnavailable"}
"""What Repairer and Looker say that they raise."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies on the disk, and what the audit says of it."""

    store: str
    """A version's word, or what is wrong with the store."""
    beside: list[str] = field(default_factory=list)
    """The word of every file of ours in the store's folder."""
    names: list[str] = field(default_factory=list)
    """And their names."""
    modes: list[str] = field(default_factory=list)
    """Files that others may read."""
    crossed: bool = False
    """Whether the gateway has written."""
    again: bool = False
    """Whether it has read and written once more."""
    attempts: list[dict[str, Any]] = field(default_factory=list)


def observe(scene: Scene, reconciler: Reconciler | None = None) -> Seen:
    """The disk as it is now; with `reconciler` also its audit (without, nobody opens the database)."""
    scene.wait_for_the_gateway()
    sessions = scene.world.sessions()
    ours = sorted(p for p in sessions.iterdir() if p.name.startswith(OWN_PREFIX))
    beside, names = [_word(scene, p.read_bytes()) for p in ours], [p.name for p in ours]
    try:
        store = _word(scene, scene.world.store().read_bytes())
    except OSError as error:
        store = f"unreadable: {error.strerror}"
    private = [scene.world.store(), *sessions.glob(f"{OWN_PREFIX}*"), *(scene.folder / "own").iterdir()]
    modes = [f"{p.name} {stat.S_IMODE(p.stat().st_mode):o}" for p in private if stat.S_IMODE(p.stat().st_mode) != 0o600]
    known = [] if reconciler is None else [_short(asdict(a)) for a in attempts(reconciler)]
    return Seen(store, beside, names, modes, scene.stamped(WROTE), scene.stamped(WROTE_AGAIN), known)


def _word(scene: Scene, data: bytes) -> str:
    if data in scene.versions:
        return scene.versions[data]
    if any(whole.startswith(data) for whole in scene.versions):
        return "a part" if data else "empty"
    try:
        json.loads(data)
    except ValueError:
        return f"does not parse ({len(data)} bytes)"
    return f"a version that nobody wrote ({len(data)} bytes)"


def _short(attempt: dict[str, Any]) -> dict[str, Any]:
    wanted = ("session_key", "kind", "outcome", "outcome_reason", "base_sha256", "finished_at", "crossings")
    return {**{name: attempt[name] for name in wanted}, "looks": [look["found"] for look in attempt["looks"]]}


def go_on(scene: Scene, reconciler: Reconciler) -> dict[str, Any]:
    """Clawmend as it goes on by itself: what is found, after the first pass, and when nothing is left to do."""
    found = observe(scene, reconciler)
    scene.world.clock.advance(1.5)
    run_pass(reconciler)
    first = observe(scene, reconciler)
    passes = 1
    while passes < _MOST_PASSES and not _at_rest(scene, reconciler):
        scene.world.clock.advance(31)
        run_pass(reconciler)
        passes += 1
    last = observe(scene, reconciler)
    return {"found": asdict(found), "first": asdict(first), "last": asdict(last), "passes": passes}


def _at_rest(scene: Scene, reconciler: Reconciler) -> bool:
    found = [f for key in (STUCK_KEY, OTHER_KEY) for f in reconciler.report.find(key)]
    waiting = any(a.finished_at is None for a in attempts(reconciler))
    return not waiting and all(f.evidence.row.status != "running" or f.held_by is not None for f in found)


def other_way_round(scene: Scene, reconciler: Reconciler) -> str:
    """A person takes back what stands now, whichever it is: settled or undone. Gives the version then."""
    run_pass(reconciler)
    ask = Ask(Trigger.API, "a test", "the other way round")
    finding = finding_of(reconciler.report, STUCK_KEY)
    if finding.evidence.row.status == "running":
        reconciler.repairer.settle(finding, ask)
    else:
        done = [
            a for a in attempts(reconciler) if (a.session_key, a.outcome, a.kind) == (STUCK_KEY, "applied", "settle")
        ]
        if not done:
            return "no attempt has settled it"
        reconciler.repairer.undo(done[-1], ask)
    return observe(scene).store


def violations(thing: Thing, result: Mapping[str, Any]) -> list[str]:
    """What is wrong with one run (see sweep.Bench.run)."""
    said, then = result["said"], result["then"]
    at_once = Seen(**result["at_once"])
    wrong = _on_the_disk(thing, at_once, "at once")
    if said is not None:
        wrong += _how_it_ended(thing, said, at_once)
    if then is None:
        return [*wrong, "the next start did not come to an end"]
    if "raised" in then:
        return [*wrong, f"the next start raised {then['raised']}"]
    found, first, last = (Seen(**then[name]) for name in ("found", "first", "last"))
    wrong += _accounted(found, at_once)
    for seen, when in ((first, "after the next start"), (last, "in the end")):
        wrong += _on_the_disk(thing, seen, when) + _tidy(seen, when) + _truth(seen, when)
    wrong += _in_the_end(thing, last, told=_told(thing, found))
    if not _kept(last) and _stands(then["back"], STUCK_KEY) == _stands(last.store, STUCK_KEY):
        wrong.append(f"a person cannot turn it round afterwards: {then['back']}")
    return wrong


def _on_the_disk(thing: Thing, seen: Seen, when: str) -> list[str]:
    wrong = [f"{when} {mode} is not 0600" for mode in seen.modes]
    if seen.store not in thing.allowed:
        wrong.append(f"{when} the store is {seen.store}")
    if seen.crossed and not any(word in WITH_THE_GATEWAYS for word in (seen.store, *seen.beside)):
        wrong.append(f"{when} what the gateway wrote is nowhere")
    if seen.again and seen.store not in (SECOND, ALL, ON_OURS):
        wrong.append(f"{when} what the gateway wrote then is not live")
    return wrong


def _tidy(seen: Seen, when: str) -> list[str]:
    """No file of ours is left but what crossed, once, where it is not in what is live."""
    unneeded = list(seen.beside)
    if _kept(seen):
        unneeded.remove(GATEWAY)
    return [f"{when} a file of ours is left ({word})" for word in unneeded]


def _kept(seen: Seen) -> bool:
    """The gateway, let in when we were killed or the disk failed, has built on ours; what crossed lies beside, whole.

    This is the one thing that is not promised (docs/explanation/repair.md); the attempt is to say so then, with the
    file's name.
    """
    return seen.store == ON_OURS and GATEWAY in seen.beside


def _told(thing: Thing, found: Seen) -> bool:
    """Whether the disk tells what became of an attempt that was broken off: a file of ours lay there, or the row does.

    Where nothing is left and the row is as before, ours may never have been there, or been live and overwritten.
    """
    as_before = (found.store in WITH_OURS) == (thing.before in WITH_OURS)
    return thing.tells or bool(found.beside) or not as_before


def _how_it_ended(thing: Thing, said: Mapping[str, Any], at_once: Seen) -> list[str]:
    """A process that was not killed: an outcome that is true, or an error of a kind that it names."""
    wrong = []
    if said["raised"] and said["raised"] not in _TYPED:
        wrong.append(f"it raised {said['raised']}: {said['text']} ({said['where']})")
    if said["outcome"] == "applied" and (at_once.store in WITH_OURS) != (thing.after in WITH_OURS):
        wrong.append(f"it said applied, and the store is {at_once.store}")
    if said["outcome"] in ("refused", "superseded") and (at_once.store in WITH_OURS) != (thing.before in WITH_OURS):
        wrong.append(f"it said {said['outcome']}, and the store is {at_once.store}")
    return wrong


def _accounted(found: Seen, at_once: Seen) -> list[str]:
    """The intent stands before the store is touched, with the plan in it."""
    touched = any(word in WITH_OURS for word in (at_once.store, *at_once.beside))
    if touched and not any(a["base_sha256"] for a in found.attempts):
        return ["the store was touched, and the audit has no plan of it"]
    return []


def _truth(seen: Seen, when: str) -> list[str]:
    """The newest attempt at a row says of it what the disk says."""
    wrong = [f"{when} an attempt is open" for a in seen.attempts if a["outcome"] is None]
    if not seen.attempts:
        return [*wrong, f"{when} the row is settled and no attempt is known"] if seen.store in WITH_OURS else wrong
    for key in (STUCK_KEY, OTHER_KEY):
        done = [a for a in seen.attempts if a["outcome"] == "applied" and a["session_key"] == key]
        says = bool(done) and done[-1]["kind"] == "settle"
        if _stands(seen.store, key) != says and not _kept(seen):
            told = [(a["kind"], a["outcome"]) for a in seen.attempts if a["session_key"] == key]
            wrong.append(f"{when} the store is {seen.store}, and the audit says {told}")
        kinds = [a["kind"] for a in done]
        if any(one == other for one, other in pairwise(kinds)):
            wrong.append(f"{when} one repair was done twice: {kinds}")
    if _kept(seen):
        newest, name = seen.attempts[-1], seen.names[seen.beside.index(GATEWAY)]
        if newest["outcome"] != "unknown" or name not in newest["outcome_reason"]:
            wrong.append(f"{when} what crossed is kept, and the audit says {newest['outcome']}")
    return wrong


def _stands(store: str, key: str) -> bool:
    """Whether the row stands as we settle it."""
    return key in SETTLED.get(store, ())


def _in_the_end(thing: Thing, last: Seen, *, told: bool) -> list[str]:
    wrong = []
    ends = (ON_OURS,) if _kept(last) else (ALL,) if last.again else (BOTH,) if last.crossed else thing.ends
    if last.store not in ends:
        wrong.append(f"in the end the store is {last.store}")
    for attempt in last.attempts:
        cannot_tell = not told and (attempt["outcome_reason"] or "").startswith("found open at start; ")
        if attempt["outcome"] == "unknown" and not _kept(last) and not cannot_tell:
            wrong.append(f"in the end an attempt is unknown: {attempt['outcome_reason']}")
        if attempt["finished_at"] is None:
            wrong.append("in the end a look is still to come")
    return wrong


def signature(at_once: Seen, then: Mapping[str, Any]) -> tuple[str, ...]:
    """Crashes that leave the same behind have the same."""
    known = [f"{a['kind']} {a['outcome']} {'planned' if a['base_sha256'] else ''}" for a in then["found"]["attempts"]]
    return (at_once.store, *sorted(at_once.beside), "|", *known)
