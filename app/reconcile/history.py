"""What was recorded of sessions, as sightings to try another policy on: the audit's attempts, and trajectories on disk.

Reads, and writes nothing. A trajectory tells what the audit cannot: whether a turn went on after the end that was
taken for its last.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome, Trigger
from app.domain.model import RUNNING, Code, End, Event, Evidence, FileIdentity, Gateway, Policy, Row, Trail
from app.domain.recorded import evidence_of, policy_of
from app.domain.simulation import Sighting
from app.openclaw.sessions_json import StoreProblem, read_rows
from app.openclaw.trajectory import CAP, KEPT_EVENTS, read_all

_TRAJECTORY = ".trajectory.jsonl"
_PAGE = 500
_Read = Callable[[Path], list[tuple[Event, End | None]]]
_NOT_RECORDED = Gateway("unknown", None, "a recording does not tell")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A sighting, and where it is from."""

    source: str
    """The id of the attempt, or the folder of the recording."""
    session_key: str
    sighting: Sighting | None
    """None: what was written down cannot be read; `outcome` says why."""
    end: End | None
    outcome: str
    """What came of it, for a person."""
    tells_more: bool
    """Whether its trajectory is still there to tell if the turn went on."""


def of_audit(log: AuditLog, since: int, policy: Policy) -> Iterator[Recorded]:
    """Each turn that somebody tried to settle since `since` (epoch ms), the newest first. Raises AuditUnavailable."""
    attempts = list(_attempts(log, since))
    undone = {a.undo_of: a for a in attempts if a.kind == "undo" and a.outcome == Outcome.APPLIED}
    read = cache(_events)
    for attempt in _one_a_turn(a for a in attempts if a.kind == "settle"):
        yield _of_attempt(attempt, undone.get(attempt.id), policy, read)


def of_recordings(folder: Path, policy: Policy) -> Iterator[Recorded]:
    """Each end in the trajectories below `folder` after which the row is known to have gone on running: another attempt
    of its run followed, or the row beside it says so. Raises OSError.
    """
    for path in sorted(folder.rglob(f"*{_TRAJECTORY}")):
        source = str(path.relative_to(folder).parent).split("/agents/")[0]
        yield from _of_trajectory(path, source, policy)


def _attempts(log: AuditLog, since: int) -> Iterator[Attempt]:
    before: str | None = None
    while True:
        page, before = log.page(_PAGE, before)
        yield from (a for a in page if a.opened_at >= since)
        if before is None or page[-1].opened_at < since:
            return


def _one_a_turn(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """Of the attempts at one end the first that was applied, else the first; given and told from the newest on."""
    chosen: dict[object, Attempt] = {}
    for attempt in attempts:
        turn = (attempt.store_path, attempt.session_key, attempt.started_at, attempt.after.get("endedAt"))
        kept = chosen.get(turn)
        if kept is None or attempt.outcome == Outcome.APPLIED or kept.outcome != Outcome.APPLIED:
            chosen[turn] = attempt
    return iter(chosen.values())


def _of_attempt(attempt: Attempt, undo: Attempt | None, policy: Policy, read: _Read) -> Recorded:
    told = attempt.outcome or "open"
    try:
        evidence = evidence_of(attempt.evidence, attempt.session_key, attempt.session_id or None)
        of_then = policy_of(attempt.evidence, policy)
    except (KeyError, TypeError, ValueError) as error:
        why = f"{told}; its evidence is not written in a way that is known here: {type(error).__name__}: {error}"
        return Recorded(attempt.id, attempt.session_key, None, None, why, tells_more=False)
    end, followed_at, tells_more = _aftermath(evidence, read)
    if undo is not None:
        told += f", undone by {undo.actor}"
    sighting = Sighting(
        evidence,
        attempt.opened_at,
        of_then,
        code=Code(attempt.verdict),
        acted_at=attempt.opened_at,
        by_person=attempt.trigger != Trigger.SCHEDULER,
        followed_at=followed_at,
        taken_back=undo is not None,
    )
    return Recorded(attempt.id, attempt.session_key, sighting, end, told, tells_more)


def _aftermath(evidence: Evidence, read: _Read) -> tuple[End | None, int | None, bool]:
    """The last end, when its run went on, and whether its trajectory is there to tell."""
    spoken = [t for t in evidence.trails if t.last is not None and t.end is not None]
    if not spoken:
        return None, None, False
    trail = max(spoken, key=lambda t: t.end.ts if t.end else 0)
    end = trail.end
    events = read(Path(trail.path))
    if end is None or not any(e.ts == end.ts and e.type == "session.ended" for e, _ in events):
        return end, None, False
    return end, _followed_at(events, end), True


def _followed_at(events: list[tuple[Event, End | None]], end: End) -> int | None:
    """When the run of `end` spoke again."""
    behind = (e.ts for e, _ in events if e.ts > end.ts and e.run_id is not None and e.run_id == end.run_id)
    return min(behind, default=None)


def _of_trajectory(path: Path, source: str, policy: Policy) -> Iterator[Recorded]:
    events = _events(path)
    session_id = path.name.removesuffix(_TRAJECTORY)
    for number, (event, end) in enumerate(events):
        if end is None or end.session_id != session_id or end.session_key is None:
            continue
        followed_at = _followed_at(events[number + 1 :], end)
        row = _row_at(events[: number + 1], end) if followed_at else None
        outcome = "its turn went on"
        if number == len(events) - 1:
            row = _running_row(path.parent, session_id, end)
            outcome = "the row went on running"
        if row is None:
            continue
        seen = tuple(e for e, _ in events[: number + 1])[-KEPT_EVENTS:]
        identity = FileIdentity(0, 0, 0, end.ts * 1_000_000)
        trail = Trail(str(path), session_id, identity, seen, end)
        evidence = Evidence(row, (trail,), gateway=_NOT_RECORDED)
        sighting = Sighting(evidence, event.ts, policy, followed_at=followed_at)
        yield Recorded(source, row.key, sighting, end, outcome, tells_more=followed_at is not None)


def _row_at(events: list[tuple[Event, End | None]], end: End) -> Row:
    """The row of a turn that is known to have gone on: it ran."""
    began = next(e.ts for e, _ in events if e.run_id == end.run_id)
    return Row(end.session_key or "", end.session_id, RUNNING, began, updated_at=began)


def _running_row(folder: Path, session_id: str, end: End) -> Row | None:
    """The row of a session that still said `running` when its last end was recorded."""
    try:
        rows = read_rows((folder / "sessions.json").read_bytes())
    except (OSError, StoreProblem):
        return None
    found = (r for r in rows if r.session_id == session_id and r.key == end.session_key and r.status == RUNNING)
    return next(found, None)


def _events(path: Path) -> list[tuple[Event, End | None]]:
    """Of a file as OpenClaw leaves it; nothing of any other."""
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > 2 * CAP:
            return []
        return read_all(path.read_bytes())
    except OSError:
        return []
