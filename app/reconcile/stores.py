"""What stands in the stores: read when they have changed, remembered until then. Files and databases give the same."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from app.clock import Clock
from app.domain.model import RUNNING, Code, Evidence, FileIdentity, Policy, Row, TranscriptLock
from app.domain.verdict import judge
from app.openclaw.agent_databases import AgentDatabasesReader
from app.openclaw.claims import ClaimsReader
from app.openclaw.era import EraReader
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.notices import Notices
from app.openclaw.paths import DATABASE_NAME, StoreTarget
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.processes import read_transcript_lock
from app.openclaw.rest import Rest, rest_of
from app.openclaw.sessions_database import SessionsDatabaseReader
from app.openclaw.sessions_file import read_store
from app.openclaw.sessions_json import Piece, StoreProblem, rows_of
from app.openclaw.trails import TrailReader, Trails
from app.reconcile.report import Finding, Problem

LEFT_OVER = "its sessions live in a database; this sessions.json is left over"
_UNKNOWN_SCHEMA = "its schema ({}) is none that we know: its sessions are judged, and nobody of us writes to it"
_NO_FILE = FileIdentity(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of one store."""

    identity: FileIdentity
    settled: tuple[Finding, ...]
    odd: tuple[Finding, ...]
    """Rows that do not run, and are not settled either: they are broken."""
    open_rows: tuple[Row, ...]
    children: tuple[tuple[str, Row], ...]
    trails: dict[str, Trails] | None = None
    """By session key, where the store itself keeps the trajectories."""
    entries: dict[str, bytes] = field(default_factory=dict)
    """By session key, the texts of the rows that run, where each row has one of its own."""
    doubt: Problem | None = None
    """What is to be said of it though it can be judged."""
    pieces: tuple[Piece, ...] = ()
    """Of a file: what of the next version is the same need not be decoded again."""
    still: tuple[tuple[Finding, ...], ...] = ()
    """Of each piece what `still_of` says, which need not be judged again either."""


@dataclass(frozen=True, slots=True)
class _AtRest:
    """What must not have been touched for an answer to be the answer still."""

    rest: Rest
    answer: Known | None
    folders: tuple[str, ...]
    """In which all of it lies."""
    stamp: int | None = None
    """Of the notices, as of when it was last seen to rest."""


class Stores:
    """Remembers from pass to pass. One thread at a time."""

    def __init__(self, clock: Clock, policy: Policy, limit: int, trails: TrailReader, notices: Notices) -> None:
        """`limit`: the most bytes of a sessions.json."""
        self._clock = clock
        self._policy = policy
        self._limit = limit
        self._trails = trails
        self._notices = notices
        self._eras = EraReader()
        self._databases = SessionsDatabaseReader()
        self._agent_databases = AgentDatabasesReader()
        self._claims = ClaimsReader()
        self._known: dict[str, Known] = {}
        self._at_rest: dict[str, _AtRest] = {}
        """By path."""
        self.bytes_read = 0

    def known(self, path: str) -> Known | None:
        return self._known.get(path)

    def take_over(self, elder: Stores, without: str) -> None:
        """Remember what `elder` does of every file but the one at `without`."""
        self._known = {path: known for path, known in elder._known.items() if path != without and not known.trails}

    def look(self, target: StoreTarget, *, in_a_pass: bool = False) -> Known | Problem | None:
        """What stands in one store; None when there is none. The system's notices are believed in a pass only."""
        at_rest = self._at_rest.get(target.path)
        if at_rest is not None:
            stamp = self._notices.stamp(target.root, at_rest.folders) if in_a_pass else None
            if stamp is not None and stamp == at_rest.stamp:
                return at_rest.answer
            if at_rest.rest.holds():
                self._at_rest[target.path] = replace(at_rest, stamp=stamp)
                return at_rest.answer
            del self._at_rest[target.path]
        found = self._rest_of(target)
        answer = self._look(target)
        if isinstance(answer, Known):
            self._known[target.path] = answer
        else:
            self._known.pop(target.path, None)
        if found is not None and (answer is None or (target.kind == "file" and isinstance(answer, Known))):
            self._at_rest[target.path] = _AtRest(found[0], answer, found[1])
        return answer

    def _look(self, target: StoreTarget) -> Known | Problem | None:
        try:
            return self._look_at_database(target) if target.kind == "database" else self._look_at_file(target)
        except (FileProblem, StoreProblem) as error:
            return None if error.code == "missing" else Problem(error.code, error.detail)

    def _rest_of(self, target: StoreTarget) -> tuple[Rest, tuple[str, ...]] | None:
        """How everything stands that the answer on one store rests on: folders, for the names in them, and the files
        that may be written in place; and those folders. (Which agents there are is for `wake`.)
        """
        if target.kind == "database":
            rest = rest_of((target.folder, target.path))
            return (rest, (target.folder,)) if rest is not None else None
        try:
            elsewhere = [t.folder for t in self.listed(target.state_dir)]
        except FileProblem:
            return None
        folders = dict.fromkeys([*_database_folders(target), *elsewhere])
        databases = [os.path.join(f, name) for f in folders for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal")]
        rest = rest_of((target.path, target.folder, *folders, *databases))
        if rest is None:
            return None
        # What is not there comes with its name, of which its folder tells, whose mark is the older one.
        told = {p for p in databases if not os.path.islink(os.path.dirname(p))}
        rest = Rest(tuple((path, mark) for path, mark in rest.marks if mark is not None or path not in told))
        return rest, (target.folder, *folders)

    def rest(self, path: str) -> Rest | None:
        """What has not been touched since the store at `path` was read: itself, and all names in its folder. None where
        that is not known.
        """
        at_rest = self._at_rest.get(path)
        return at_rest.rest if at_rest is not None else None

    def stands_by_word(self, target: StoreTarget) -> bool:
        """Whether what `look` says of it stands until a notice comes, without anything being looked at."""
        at_rest = self._at_rest.get(target.path)
        if at_rest is None or at_rest.stamp is None:
            return False
        return at_rest.stamp == self._notices.stamp(target.root, at_rest.folders)

    def wake(self) -> None:
        """Believe of no store that it rests: which stores there are is another question now."""
        self._at_rest.clear()

    def left_over(self, target: StoreTarget) -> bool:
        """Whether the rows of a sessions.json have moved to a database. Raises FileProblem: then nobody knows."""
        listed = self.listed(target.state_dir)
        own = [t.folder for t in listed if target.agent_id in (None, t.agent_id)]
        return self._eras.in_sqlite([*_database_folders(target), *own])

    def listed(self, state_dir: str) -> tuple[StoreTarget, ...]:
        """Databases of a state dir that lie elsewhere than by default. Raises FileProblem."""
        return self._agent_databases.listed(state_dir)

    def _look_at_file(self, target: StoreTarget) -> Known | Problem | None:
        with Folder(target.folder, target.root) as folder:
            identity = folder.identity(target.name)
            if identity is None:
                return None
            if self.left_over(target):
                return Problem("sqlite_store", LEFT_OVER)
            known = self._known.get(target.path)
            if known is not None and known.identity == identity:
                return known
            pieces, identity = read_store(folder, target.name, self._limit, known.pieces if known is not None else ())
        self.bytes_read += identity.size
        judged = _still_by_piece(known, target) if known is not None else {}
        still = tuple(judged.get(id(piece)) or still_of(target, piece.rows, self._policy) for piece in pieces)
        found = _known(rows_of(pieces), tuple(chain.from_iterable(still)), identity)
        return replace(found, pieces=pieces, still=still)

    def _look_at_database(self, target: StoreTarget) -> Known | None:
        with Folder(target.folder, target.root) as folder:
            seen = self._databases.read(folder, target.name, target.path, self._clock.now())
        if seen is None:
            return None
        doubt = None if seen.known_schema else Problem("unknown_schema", _UNKNOWN_SCHEMA.format(seen.schema))
        known = self._known.get(target.path)
        if known is not None and known.trails is seen.trails:
            return known
        self.bytes_read += seen.bytes_read
        known = known_of(target, seen.rows, self._policy, seen.identity.main)
        return replace(known, trails=seen.trails, entries=seen.entries, doubt=doubt)

    def ask_ahead(self, target: StoreTarget, rows: Iterable[Row], places: OpenPlaces) -> None:
        """Have the disk bring what `evidence` will read for these rows."""
        if target.kind == "file":
            sessions = Place(target.root, target.folder, target.name)
            self._trails.ask_ahead(rows, places, sessions=sessions, state_dir=target.state_dir)

    def evidence(self, target: StoreTarget, row: Row, places: OpenPlaces) -> Evidence:
        """What the disk tells of one row that runs."""
        known = self._known.get(target.path)
        if target.kind == "database":
            trails = (known.trails if known else None) or {}
            return _evidence(row, trails.get(row.key, Trails()))
        sessions = Place(target.root, target.folder, target.name)
        found = self._trails.read(row, places, sessions=sessions, state_dir=target.state_dir)
        looked_for = found.place if found.problem is None else None
        lock = read_transcript_lock(looked_for, self._clock.now(), places) if looked_for else None
        return _evidence(row, found, lock)

    def claimed(self, target: StoreTarget, evidence: Evidence) -> Evidence:
        """`evidence` with what the state database says of who works on its row; it tells of rows in databases only."""
        if target.kind == "file":
            return evidence
        row = evidence.row
        try:
            claims = self._claims.read(target.state_dir, self._clock.now())
        except FileProblem as error:
            return replace(evidence, claims_problem=error.detail)
        return replace(evidence, claims=claims.on(row.key, row.session_id, row.run_id))


def _evidence(row: Row, found: Trails, lock: TranscriptLock | None = None) -> Evidence:
    return Evidence(
        row=row,
        trails=found.trails,
        trail_problem=found.problem,
        transcript=found.transcript,
        pointer=found.pointer,
        lock=lock,
    )


def known_of(
    target: StoreTarget,
    rows: Iterable[Row],
    policy: Policy,
    identity: FileIdentity = _NO_FILE,
) -> Known:
    rows = tuple(rows)
    return _known(rows, still_of(target, rows, policy), identity)


def still_of(target: StoreTarget, rows: Iterable[Row], policy: Policy) -> tuple[Finding, ...]:
    """What is found of the rows that do not run, whatever else is true and whenever it is asked."""
    evidences = [Evidence(row) for row in rows if row.status != RUNNING]
    return tuple(Finding(target, evidence, judge(evidence, policy, 0)) for evidence in evidences)


def _still_by_piece(known: Known, target: StoreTarget) -> dict[int, tuple[Finding, ...]]:
    """What was found of `target`, by the `id` of the piece in which it stands."""
    judged = zip(known.pieces, known.still, strict=True)
    return {id(piece): still for piece, still in judged if still and still[0].target == target}


def _known(rows: tuple[Row, ...], still: tuple[Finding, ...], identity: FileIdentity) -> Known:
    settled = tuple(f for f in still if f.verdict.code is Code.SETTLED)
    odd = tuple(f for f in still if f.verdict.code is not Code.SETTLED)
    children = tuple((p, r) for r in rows if r.status in (RUNNING, None) for p in r.parents)
    return Known(identity, settled, odd, tuple(r for r in rows if r.status == RUNNING), children)


def _database_folders(target: StoreTarget) -> list[str]:
    """The folders `agents/<id>/agent` of the agents whose rows a store holds: the databases there tell the era."""
    agents = os.path.join(target.state_dir, "agents")
    own = [os.path.dirname(target.folder), os.path.join(agents, target.agent_id or "")]
    if target.agent_id is None:
        try:
            own = [os.path.join(agents, name) for name in sorted(os.listdir(agents))]
        except OSError:
            return []
    return [os.path.join(folder, "agent") for folder in own]
