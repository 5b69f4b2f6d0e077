"""The gateway's side: what it wrote, what it believes, which turns are over. It takes no lock and knows nothing of us.

A write is: load the store (or have it loaded earlier), change rows, write beside, rename. All its writes go through one
queue, as in 2026.5.18, so it never loses a write of its own.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.model.rows import Row, Rows, rows_of, text_of, without_the_four
from tests.faults.model.trails import Trails
from tests.world import HeldClock

STORE = "sessions.json"
NOTES = (
    '"\\ud83d"',  # a lone surrogate: Node writes it for a text cut inside an emoji
    '"\\u00e9\\/ é 😀"',
    '{"status":"running","endedAt":[1,{}]}',
    '"\\"status\\": \\"running\\","',
    "-0",
    "1e21",
    "123456789012345678901234567890",
    '"}, {"',
)


class Blocked(Exception):
    """The store's file may not be read yet; `pin` is the very file that the reader waits for."""

    def __init__(self, pin: int) -> None:
        super().__init__("a lease is held on it")
        self.pin = pin


@dataclass
class Version:
    """One version that the gateway wrote; `parent` is the version that it was built on (None: on nothing)."""

    data: bytes
    rows: Rows
    parent: int | None

    def __post_init__(self) -> None:
        self.bare = without_the_four(self.rows)


@dataclass
class Turn:
    """What really goes on in a session, whatever the disk says."""

    session_id: str
    started_at: int | None = None
    open: bool = False
    since: float = 0.0
    """The monotonic time at which it began."""
    changed: float = 0.0
    """The monotonic time at which it was last opened or closed by a line of its trajectory."""


@dataclass
class GatewaySide:
    """Picklable: a process that is killed hands it on."""

    sessions: Path
    clock: HeldClock
    trails: Trails
    versions: list[Version] = field(default_factory=list)
    forgotten: int = 0
    """Versions before this one were given up by their owner, who deleted the store."""
    exists: bool = False
    loaded: tuple[Rows, int | None] | None = None
    """A store that was loaded, and which the next write is built on, whatever the disk says by then."""
    turns: dict[str, Turn] = field(default_factory=dict)
    ids: int = 0

    @property
    def store(self) -> Path:
        return self.sessions / STORE

    @property
    def newest(self) -> Version | None:
        return self.versions[-1] if self.exists else None

    # --- the store ---------------------------------------------------------------------------------------------------

    def load(self, pin: int | None = None) -> None:
        """Load the store; the next write is built on it. Raises Blocked; `pin` is a file that was waited for."""
        data = self._read(pin)
        if data is None:
            self.loaded = ({}, None)
            return
        rows = rows_of(data)
        self.loaded = (rows, self.version_of(rows))

    def version_of(self, rows: Rows) -> int | None:
        """The version, newest first, whose rows these are but for the four fields."""
        bare = without_the_four(rows)
        return next((i for i in reversed(range(len(self.versions))) if self.versions[i].bare == bare), None)

    def _read(self, pin: int | None) -> bytes | None:
        if pin is None:
            try:
                pin = os.open(self.store, os.O_PATH | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            try:
                os.close(os.open(f"/proc/self/fd/{pin}", os.O_RDONLY | os.O_NONBLOCK))
            except BlockingIOError:
                raise Blocked(pin) from None
        try:
            with open(f"/proc/self/fd/{pin}", "rb") as file:
                return file.read()
        finally:
            os.close(pin)

    def write(self, change: str, key: str) -> None:
        """One write of the gateway's. Raises Blocked where it has to wait for the store's file."""
        if self.loaded is None:
            self.load()
        assert self.loaded is not None
        rows, parent = self.loaded
        self.loaded = None
        getattr(self, f"_{change}")(rows, key)
        self.place(rows, parent)

    def place(self, rows: Rows, parent: int | None) -> None:
        self.clock.advance(0.001)
        version = Version(text_of(rows), {k: dict(r) for k, r in rows.items()}, parent)
        beside = self.sessions / f".fs-safe-replace.{len(self.versions)}.tmp"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, version.data)
        os.close(descriptor)
        moment = self.clock.now() * 1_000_000 + len(self.versions) % 1_000_000
        os.utime(beside, ns=(moment, moment))
        self.versions.append(version)
        self.exists = True
        os.rename(beside, self.store)

    def delete_store(self) -> None:
        self.store.unlink(missing_ok=True)
        self.exists, self.loaded, self.forgotten = False, None, len(self.versions)

    # --- what a write may change -------------------------------------------------------------------------------------

    def _new_row(self, rows: Rows, key: str) -> Row:
        session_id = f"session-{self._next()}"
        self.turns[key] = Turn(session_id, since=self.clock.monotonic())
        rows[key] = {
            "sessionId": json.dumps(session_id),
            "updatedAt": str(self.clock.now()),
            "note": NOTES[self.ids % len(NOTES)],
        }
        return self._counted(rows, key)

    def _counted(self, rows: Rows, key: str) -> Row:
        """A counter that no two versions share."""
        row = rows[key] if key in rows else self._new_row(rows, key)
        row["writes"] = str(self._next())
        return row

    def _next(self) -> int:
        self.ids += 1
        return self.ids

    def _counts(self, rows: Rows, key: str) -> None:
        self._counted(rows, key)["updatedAt"] = str(self.clock.now())

    def _notes(self, rows: Rows, key: str) -> None:
        row = self._counted(rows, key)
        row["note"] = NOTES[(self.ids * 3) % len(NOTES)]
        row.pop("updatedAt", None)

    def _deletes_row(self, rows: Rows, key: str) -> None:
        rows.pop(key, None)
        self.turns.pop(key, None)
        if rows:
            self._counted(rows, next(iter(rows)))

    def _resets(self, rows: Rows, key: str) -> None:
        rows.pop(key, None)
        self._new_row(rows, key)

    def _begins_turn(self, rows: Rows, key: str) -> None:
        row = self._counted(rows, key)
        self.clock.advance(0.001)
        turn = self.turns[key] = Turn(json.loads(row["sessionId"]), self.clock.now(), True, self.clock.monotonic())
        row.update(status='"running"', startedAt=str(turn.started_at), updatedAt=str(turn.started_at))
        for name in ("endedAt", "runtimeMs", "abortedLastRun"):
            row.pop(name, None)

    def _ends_turn(self, rows: Rows, key: str) -> None:
        """The end as it should be: the gateway itself writes it down."""
        row = self._counted(rows, key)
        if "startedAt" not in row:
            return
        now = self.clock.now()
        runtime = max(0, now - int(row["startedAt"]))
        row.update(status='"done"', endedAt=str(now), runtimeMs=str(runtime), abortedLastRun="false")
        if key in self.turns:
            self.turns[key].open = False
