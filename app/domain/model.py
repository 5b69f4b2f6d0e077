"""The values that everything else speaks in: rows, trails, evidence, policy, verdicts.

Units: every time is epoch milliseconds (as OpenClaw stores them), every duration is seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

RUNNING = "running"
_FLUSHED_WITHIN_MS = 5_000
TERMINAL_STATUSES = ("done", "failed", "timeout", "killed")
SETTLED_FIELDS = ("status", "endedAt", "runtimeMs", "abortedLastRun")


class Code(StrEnum):
    """What a session is found to be; the table in docs/reference/verdicts.md explains each."""

    SETTLED = "settled"
    WORKING = "working"
    ENDING = "ending"
    STUCK = "stuck"
    ORPHANED = "orphaned"
    SILENT = "silent"
    NEVER_STARTED = "never_started"
    WAITING = "waiting"
    RECOVERING = "recovering"
    UNPROVABLE = "unprovable"


FORCEABLE = frozenset({Code.STUCK, Code.ENDING, Code.ORPHANED, Code.SILENT, Code.NEVER_STARTED})
"""What a person may settle with `force`."""


class FileIdentity(NamedTuple):
    """Which bytes were looked at: two equal identities mean an untouched file."""

    dev: int
    ino: int
    size: int
    mtime_ns: int

    @property
    def mtime(self) -> int:
        return self.mtime_ns // 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One session's entry in its store, as far as we need it (spec 2026.5.18, section 2)."""

    key: str
    session_id: str | None = None
    status: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    runtime_ms: int | None = None
    aborted_last_run: bool | None = None
    updated_at: int | None = None
    session_file: str | None = None
    family: tuple[str, ...] = ()
    """Earlier sessionIds of the same conversation (`usageFamilySessionIds`)."""
    parents: tuple[str, ...] = ()
    """Keys of the rows that this one works for (`spawnedBy`, `parentSessionKey`)."""
    recovery: tuple[str, ...] = ()
    """Fields that say that OpenClaw itself is recovering this session."""
    run_id: str | None = None
    """The run that keeps it running (`lifecycleRunId`); the SQLite era names it, the one of files does not."""
    yielded: bool = False
    """It runs with an `endedAt`, as a turn does that has yielded to the sessions which it started (SQLite era)."""
    guards: tuple[str, ...] = ()
    """Fields that 2026.7.x keeps for a restart while a turn runs: such a turn is not over, whatever its end says."""
    problem: str | None = None
    """Why this row cannot be judged at all."""

    @property
    def is_subagent(self) -> bool:
        return ":subagent:" in self.key

    @property
    def agent_in_key(self) -> str | None:
        parts = self.key.split(":", 2)
        return parts[1] if len(parts) == 3 and parts[0] == "agent" else None


class Event(NamedTuple):
    """One line of a trajectory."""

    type: str
    ts: int
    run_id: str | None = None
    session_id: str | None = None
    session_key: str | None = None


class End(NamedTuple):
    """What a `session.ended` event says (spec 2026.5.18, section 4)."""

    ts: int
    status: str | None
    aborted: bool = False
    external_abort: bool = False
    timed_out: bool = False
    compaction: bool = False
    """It smells of compaction: a timeout in one, or an overflow of the context."""
    yielded: bool = False
    for_restart: bool = False
    """The gateway stopped it to be restarted; it takes such a turn up again."""
    run_id: str | None = None
    session_id: str | None = None
    session_key: str | None = None
    error: str | None = None


class Trail(NamedTuple):
    """What the tail of one trajectory file says."""

    path: str
    session_id: str
    identity: FileIdentity
    events: tuple[Event, ...] = ()
    """The complete lines that the tail read covered, oldest first."""
    end: End | None = None
    """Set when the LAST complete line is a `session.ended`."""
    torn: bool = False
    """Bytes stand behind the last newline."""
    full: bool = False
    """No room is left: a newer line may have been dropped."""
    problem: str | None = None
    open_runs: tuple[tuple[str, int], ...] | None = None
    """Runs that spoke in the hour before the end and did not end, with their last word's time; None: not looked for."""
    registered: bool = False
    """The run that ended is one of which the gateway's list of active runs tells (chat.send, the `agent` call)."""

    @property
    def last(self) -> Event | None:
        return self.events[-1] if self.events else None


@dataclass(frozen=True, slots=True)
class TranscriptLock:
    """`<transcript>.lock`: `live` is None when the process cannot be seen from here."""

    pid: int | None
    live: bool | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """What is known of the gateway process that owns a state dir."""

    state: Literal["running", "absent", "unknown"]
    since: int | None = None
    """When the running process started."""
    reason: str = ""

    def gone_since(self, moment: int, slack_ms: int = 5_000) -> bool:
        """True when no process that lived at `moment` can still be running a turn."""
        if self.state == "absent":
            return True
        return self.state == "running" and self.since is not None and self.since > moment + slack_ms


@dataclass(frozen=True, slots=True)
class Liveness:
    """What the gateway itself says of one session, in an answer that named this very row (design, section 5)."""

    active: bool | None = None
    """Its `hasActiveRun`; None: it was not asked, or did not tell."""
    idle: bool = False
    """Nothing at all runs or waits in that gateway (`gateway.restart.preflight`)."""
    asked_at: int | None = None
    """When it was asked (epoch ms)."""
    why: str = "not asked"
    """Why it does not tell."""
    by_plugin: bool = False
    """The companion plugin said so: it knows of every run, also of one that the gateway does not register."""
    runs: tuple[str, ...] | None = None
    """Its `activeRunIds`; None: it does not say, as up to 2026.7.1 none does."""

    def rules_out(self, end: End, *, registered: bool) -> bool:
        """Whether no run can follow `end` by itself: the gateway was asked after it, and nothing runs for it."""
        if self.asked_at is None or self.asked_at < end.ts or self.active is not False:
            return False
        return registered or self.idle or self.by_plugin


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the gateway's own books by which somebody still works on a session (spec 2026.9.6, section 3.7)."""

    table: str
    outlives: bool
    """It stands also where no gateway runs: a worker elsewhere goes on without one."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a verdict rests on."""

    row: Row
    trails: tuple[Trail, ...] = ()
    trail_problem: str | None = None
    """Why the trajectory could not be looked for, or not where it is said to be."""
    transcript: FileIdentity | None = None
    pointer: FileIdentity | None = None
    """The trajectory's pointer file, which OpenClaw writes anew when an attempt begins."""
    lock: TranscriptLock | None = None
    children: tuple[str, ...] = ()
    """Keys of rows that run, or wait to run, for this one."""
    gateway: Gateway = field(default_factory=lambda: Gateway("unknown"))
    liveness: Liveness = field(default_factory=Liveness)
    claims: tuple[Claim, ...] = ()
    claims_problem: str | None = None
    """Why it cannot be told who else works on it."""
    watched: float = 0.0
    """Seconds of our monotonic clock across which all of this looked the same."""
    witnessed: bool = False
    """We saw it look otherwise before: what it shows now is no older than `watched`."""
    calm: float | None = math.inf
    """Seconds of our monotonic clock for which no other session of its gateway has been at work; None: one is."""

    @property
    def ended_run(self) -> str | None:
        """The run whose end is the last word in the trajectories."""
        last_words = {t.last.ts: t.end for t in self.trails if t.last}
        end = last_words[max(last_words)] if last_words else None
        return end.run_id if end is not None else None

    @property
    def standing_claims(self) -> tuple[Claim, ...]:
        """Those that somebody can still be behind: the gateway's own go with it."""
        return tuple(c for c in self.claims if c.outlives or self.gateway.state != "absent")

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Changes whenever anything happened to the session."""
        return (
            replace(self.row, updated_at=None),
            tuple((t.path, t.identity) for t in self.trails),
            self.transcript,
            self.pointer,
            self.lock is not None,
        )

    def began_after(self, trail: Trail, end: End) -> bool:
        """A newer attempt than the one that ended: its pointer was written after the file that has the end.

        Asked only where the file still is as the gateway wrote it: a copy's times tell when it was copied.
        """
        as_written = 0 <= trail.identity.mtime - end.ts <= _FLUSHED_WITHIN_MS
        return as_written and self.pointer is not None and self.pointer.mtime_ns > trail.identity.mtime_ns


@dataclass(frozen=True, slots=True)
class Policy:
    """The windows, in seconds. docs/reference/settings.md has the setting of each."""

    stale_after: float = 30.0
    error_quiet: float = 120.0
    compaction_quiet: float = 1200.0
    silent_after: float = 3600.0
    never_started_after: float = 600.0
    torn_patience: float = 60.0
    future_slack: float = 5.0
    settle_subagents: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """The four fields that the gateway would have written at the end."""

    status: str
    ended_at: int
    runtime_ms: int
    aborted_last_run: bool

    def as_fields(self) -> dict[str, str | int | bool]:
        return {
            "status": self.status,
            "endedAt": self.ended_at,
            "runtimeMs": self.runtime_ms,
            "abortedLastRun": self.aborted_last_run,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A code and a sentence, with what follows from them."""

    code: Code
    reason: str
    settlement: Settlement | None = None
    due_at: int | None = None
    """When the scheduler may settle it; None when it never will by itself."""
    ripe: bool = False
    """The window has passed on both clocks: the scheduler may act now."""
