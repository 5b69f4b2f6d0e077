"""What we were seen to do: which files we made, what was synced, and every version of ours that anybody could read."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from tests.faults.model.gateway import GatewaySide
from tests.faults.model.rows import Rows, rows_of, without_the_four
from tests.faults.model.trails import Line

_OWN = re.compile(r"\.clawmend-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_AT_WORK_MS = 3_600_000
"""A session that said something within the hour is at work, unless its last word is an end."""


@dataclass(frozen=True)
class Proof:
    """What the disk told of a row's turn when we last looked, before our version came to stand there."""

    last: Line | None
    torn: bool
    regular: bool
    quiet: float
    """Seconds, by the clock that cannot be set, since anything happened in its turn."""
    age: float
    """Seconds since its end, by the wall clock."""
    other_at_work: bool
    open_runs: bool
    truly_open: bool
    """The turn was open before this step began, whatever the disk says."""


@dataclass(frozen=True)
class Standing:
    """A version of ours that stood where the gateway reads."""

    named: str
    """Which attempt's files it was one of; others may have been published with it."""
    data: bytes
    rows: Rows
    before: Rows
    by: str
    watched: float
    """Seconds for which the Clawmend that wrote it has been there."""
    proofs: dict[str, Proof]
    on_newest: bool
    """Built on the gateway's newest version; where not, a kill left it there in the middle of a crossing."""


@dataclass
class Record:
    """Picklable: a process that is killed hands it on."""

    gateway: GatewaySide
    by: str = ""
    born: float = 0.0
    step_began: float = 0.0
    step_rows: Rows = field(default_factory=dict)
    """The store when this step began: who was at work then."""
    step_tick: int = 0
    nested: bool = False
    made: dict[int, str] = field(default_factory=dict)
    """By inode: the name under which we made a file."""
    unsynced: set[int] = field(default_factory=set)
    names_unsynced: set[str] = field(default_factory=set)
    """Attempts that exchanged a name which the folder on the disk need not show yet."""
    placed: set[str] = field(default_factory=set)
    """Attempts whose version came to be the store, if only for an instant in which nobody could read it."""
    shut: dict[int, int] = field(default_factory=dict)
    """By descriptor: the inode of a file that we hold shut. Who opens it waits, and we would wait for ourselves."""
    looked: dict[str, int] = field(default_factory=dict)
    """By trajectory: the tick of our last look at it."""
    stood: list[Standing] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    live: bytes | None = None
    """What could be read last."""
    stores: list[Rows] = field(default_factory=list)
    """Every store that could be read, the newest last."""
    _seen: tuple[int, bytes] | None = None

    def note_exchange(self, name: str) -> None:
        attempt = _OWN.match(name)
        if attempt is not None:
            self.names_unsynced.add(attempt[1])
            ours = os.lstat(self.gateway.store).st_ino in self.made
            (self.placed.add if ours else self.placed.discard)(attempt[1])

    def is_shut(self) -> bool:
        """Whether whoever opens the store now has to wait."""
        try:
            return os.lstat(self.gateway.store).st_ino in self.shut.values()
        except FileNotFoundError:
            return False

    def kept(self) -> list[bytes]:
        """What lies in files of ours beside the store."""
        files = [path for path in self.gateway.sessions.glob(".clawmend-*") if path.is_file() and not path.is_symlink()]
        return [path.read_bytes() for path in files if path.stat().st_ino not in self.shut.values()]

    def note_live(self) -> bytes | None:
        """Read the store; a version of ours that was not there before is a standing."""
        store = self.gateway.store
        try:
            inode = os.lstat(store).st_ino
            with open(store, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            self.live, self._seen = None, None
            return None
        if (inode, data) != self._seen and inode in self.made:
            self._note_standing(self.made[inode], inode, data)
        if data != self.live:
            with suppress(ValueError):
                self.stores.append(rows_of(data))
        self._seen, self.live = (inode, data), data
        return data

    def _note_standing(self, name: str, inode: int, data: bytes) -> None:
        attempt = _OWN.match(name)
        if attempt is None:
            self.broken.append(f"I6: {name} came to stand as the store and belongs to no attempt")
            return
        if inode in self.unsynced:
            self.broken.append("I5: a version that was not synced came to stand as the store")
        try:
            rows = rows_of(data)
        except ValueError as error:
            self.broken.append(f"I1: ours does not parse: {error}")
            return
        bare = without_the_four(rows)
        before = next((each for each in reversed(self.stores) if without_the_four(each) == bare), {})
        changed = [key for key in rows if rows[key] != before.get(key)]
        proofs = {key: self.proof(key, before) for key in changed if key in before}
        watched = self.gateway.clock.monotonic() - self.born
        on_newest = self.gateway.version_of(rows) == len(self.gateway.versions) - 1
        self.stood.append(Standing(attempt[1], data, rows, before, self.by, watched, proofs, on_newest))

    def proof(self, key: str, rows: Rows) -> Proof:
        gateway, row = self.gateway, rows[key]
        trails, clock = gateway.trails, gateway.clock
        session_id = row["sessionId"].strip('"')
        seen = self._visible(session_id)
        last = seen[-1] if seen else None
        turn = gateway.turns.get(key)
        path = trails.path(session_id)
        since = max([line.mono for line in seen[-1:]] + [turn.since if turn else 0.0])
        return Proof(
            last=last,
            torn=session_id in trails.torn and seen == trails.lines.get(session_id),
            regular=path.is_file() and not path.is_symlink(),
            quiet=clock.monotonic() - since,
            age=(clock.now() - last.at) / 1000 if last else 0.0,
            other_at_work=any(self._at_work(other) for other in self.step_rows if other != key),
            open_runs=_open_runs(seen, clock.now()),
            truly_open=turn is not None and turn.open and max(turn.since, turn.changed) < self.step_began,
        )

    def _visible(self, session_id: str) -> list[Line]:
        """The lines that stood in a trajectory when we last looked at it (a nested pass looks after all of them)."""
        until = inf if self.nested else self.looked.get(session_id, -1)
        return [line for line in self.gateway.trails.lines.get(session_id, []) if line.tick <= until]

    def _at_work(self, key: str) -> bool:
        row, trails = self.step_rows[key], self.gateway.trails
        if row.get("status") != '"running"':
            return False
        session_id = row["sessionId"].strip('"')
        lines = [line for line in trails.lines.get(session_id, []) if line.tick <= self.step_tick]
        now = self.gateway.clock.now()
        if any(line.at > now for line in lines):
            return False  # a clock is wrong: nothing can be told
        whole = session_id not in trails.torn and not trails.path(session_id).is_symlink()
        return bool(lines) and whole and lines[-1].end is None and 0 <= now - lines[-1].at < _AT_WORK_MS


def _open_runs(lines: list[Line], now: int) -> bool:
    """Another run spoke within the last hour and did not end."""
    if not lines:
        return False
    last = {line.run: line for line in lines if lines[-1].at - line.at < _AT_WORK_MS}
    return any(line.end is None and now - line.at < _AT_WORK_MS for line in last.values())
