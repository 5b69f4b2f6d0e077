"""The flight recorder's side: trajectories as 2026.5.18 appends them, whole lines and torn ones."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world import HeldClock

ENDS: dict[str, dict[str, Any]] = {
    "success": {"status": "success"},
    "error": {"status": "error"},
    "interrupted": {"status": "interrupted"},
    "cleanup": {"status": "cleanup"},
    "timeout": {"status": "error", "timedOut": True, "aborted": True},
    "abort": {"status": "interrupted", "aborted": True, "externalAbort": True},
    "compaction": {"status": "error", "timedOutDuringCompaction": True},
    "yielded": {"status": "success", "yieldDetected": True},
    "strange": {"status": "paused"},
}
SETTLED_AS = {
    "success": "done",
    "error": "failed",
    "interrupted": "killed",
    "cleanup": "failed",
    "timeout": "timeout",
    "abort": "killed",
    "compaction": "timeout",
}
"""What a row becomes for each end (docs/decisions/0003); the other ends are never settled."""


@dataclass(frozen=True)
class Line:
    """One event; `tick` orders it among our own system calls, `mono` is when it was written."""

    kind: str
    at: int
    key: str
    run: str
    end: str | None
    tick: int
    mono: float


@dataclass
class Trails:
    sessions: Path
    clock: HeldClock
    lines: dict[str, list[Line]] = field(default_factory=dict)
    torn: dict[str, bytes] = field(default_factory=dict)
    """By session: the half of a line that is still to be written. Its event counts from the first half on."""
    touched: dict[str, float] = field(default_factory=dict)
    """By session: the monotonic time of the last byte."""
    tick: int = 0
    _runs: int = 0

    def path(self, session_id: str) -> Path:
        return self.sessions / f"{session_id}.trajectory.jsonl"

    def open_runs(self, session_id: str) -> bool:
        """Whether any run of the session has not ended."""
        last = {line.run: line for line in self.lines.get(session_id, [])}
        return any(line.end is None for line in last.values())

    def begin(self, session_id: str, key: str) -> None:
        """A new run: the first lines of it."""
        self._runs += 1
        self.append(session_id, key, "session.started")
        self.append(session_id, key, "prompt.submitted")

    def append(self, session_id: str, key: str, kind: str, end: str | None = None, *, half: bool = False) -> None:
        self.complete(session_id)
        self.clock.advance(0.001)
        now, run = self.clock.now(), f"run-{self._runs}"
        event: dict[str, Any] = {
            "traceSchema": "openclaw-trajectory",
            "schemaVersion": 1,
            "traceId": session_id,
            "source": "runtime",
            "type": kind,
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000)) + f".{now % 1000:03d}Z",
            "seq": 1,
            "sourceSeq": 1,
            "sessionId": session_id,
            "sessionKey": key,
            "runId": run,
        }
        if end is not None:
            event["data"] = ENDS[end]
        whole = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        first = whole[: len(whole) // 2] if half else whole
        self._put(session_id, first)
        self.lines.setdefault(session_id, []).append(Line(kind, now, key, run, end, self.tick, self.clock.monotonic()))
        if half:
            self.torn[session_id] = whole[len(first) :]

    def complete(self, session_id: str) -> None:
        """The other half of a torn line."""
        rest = self.torn.pop(session_id, None)
        if rest is not None:
            self._put(session_id, rest)

    def _put(self, session_id: str, data: bytes) -> None:
        descriptor = os.open(self.path(session_id), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, data)
        os.close(descriptor)
        moment = self.clock.now() * 1_000_000 + 1
        os.utime(self.path(session_id), ns=(moment, moment))
        self.touched[session_id] = self.clock.monotonic()
