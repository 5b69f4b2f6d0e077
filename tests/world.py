"""A world that a test holds in its hand: a state dir with real recordings, a clock, and a reconciler on both.

The clock begins at the machine's own time and moves only when the test says so, always ahead of the files' real times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Trigger
from app.clock import Clock
from app.demo import copy_shifted
from app.domain.model import Gateway
from app.reconcile.asking import Ask
from app.reconcile.gateways import GatewayLinks
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding, Report
from app.settings import Settings

RECORDINGS = Path(__file__).parent / "recordings" / "2026.5.18"
INDEX: dict[str, dict[str, Any]] = json.loads((RECORDINGS / "index.json").read_text())

STUCK = "provider-error-stuck"
STUCK_KEY = "agent:main:s-error400"
STUCK_SESSION_ID = "d3e9c2be-6fc1-49a5-b885-f84b423d462f"
STUCK_STARTED_AT = 1_795_327_557_860
STUCK_ENDED_AT = 1_795_327_558_006
"""2026-11-22T06:05:58.006Z: the time of the recording's last session.ended."""

ABSENT = Gateway("absent", None, "a test says so")
UNKNOWN = Gateway("unknown", None, "a test says so")


def running_since(moment: int) -> Gateway:
    return Gateway("running", moment, "a test says so")


class HeldClock:
    """Wall and monotonic time, moved by the test; `sleep` moves both instead of waiting."""

    def __init__(self) -> None:
        self.wall = time.time_ns() // 1_000_000
        self.mono = 1_000.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.wall += round(seconds * 1000)
        self.mono += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock is set; the monotonic one knows nothing of it."""
        self.wall += round(seconds * 1000)


class World:
    """One state dir and one Clawmend beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "openclaw"
        self.state.mkdir()
        self.clock = HeldClock()
        self.gateway: Gateway = UNKNOWN
        self.env: dict[str, str] = {"HOME": str(folder / "home")}
        self.database_url = f"sqlite:///{folder / 'own' / 'audit.db'}"
        self._open: list[Reconciler] = []

    def recording(self, name: str, *, ended_ago: float | None = None, shift_ms: int = 0) -> int:
        """Copy a recording into the state dir; gives the shift of its times in ms.

        `ended_ago` moves them so that the stuck recording's end lies so many seconds before the clock's now.
        """
        if ended_ago is not None:
            shift_ms = self.clock.now() - round(ended_ago * 1000) - STUCK_ENDED_AT
        copy_shifted(RECORDINGS / name, self.state, shift_ms)
        for file in self.state.rglob("*"):
            os.utime(file, ns=(0, (self.clock.now() - 5_000) * 1_000_000))
        return shift_ms

    def stuck(self, *, ended_ago: float = 3_600.0) -> int:
        """The real bug; gives the time of its end."""
        return STUCK_ENDED_AT + self.recording(STUCK, ended_ago=ended_ago)

    def sessions(self, agent: str = "main") -> Path:
        return self.state / "agents" / agent / "sessions"

    def store(self, agent: str = "main") -> Path:
        return self.sessions(agent) / "sessions.json"

    def trajectory(self, session_id: str = STUCK_SESSION_ID, agent: str = "main") -> Path:
        return self.sessions(agent) / f"{session_id}.trajectory.jsonl"

    def rows(self, agent: str = "main") -> dict[str, Any]:
        rows: dict[str, Any] = json.loads(self.store(agent).read_bytes())
        return rows

    def row(self, key: str = STUCK_KEY, agent: str = "main") -> dict[str, Any]:
        row: dict[str, Any] = self.rows(agent)[key]
        return row

    def edit_row(self, key: str = STUCK_KEY, agent: str = "main", **fields: Any) -> None:
        """Change a row as the gateway would: the whole store rewritten (None takes a field away), renamed in place."""
        rows = self.rows(agent)
        for name, value in fields.items():
            if value is None:
                rows[key].pop(name, None)
            else:
                rows[key][name] = value
        self.write_store(json.dumps(rows, indent=2, ensure_ascii=False).encode(), agent)

    def write_store(self, data: bytes, agent: str = "main", *, written_ago: float = 5.0) -> None:
        store = self.store(agent)
        store.parent.mkdir(parents=True, exist_ok=True)
        beside = store.with_name("new")
        beside.write_bytes(data)
        beside.chmod(0o600)
        moment = self.clock.now() * 1_000_000 - round(written_ago * 1e9)
        os.utime(beside, ns=(moment, moment))
        beside.rename(store)

    def append(self, *events: dict[str, Any], session_id: str = STUCK_SESSION_ID, agent: str = "main") -> None:
        """Append lines to a trajectory, as 2026.5.18 does."""
        with self.trajectory(session_id, agent).open("ab") as file:
            for event in events:
                file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def event(self, kind: str, at: int, data: dict[str, Any] | None = None, **over: Any) -> dict[str, Any]:
        """A trajectory line of the stuck session."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03d}Z"
        event: dict[str, Any] = {
            "traceSchema": "openclaw-trajectory",
            "schemaVersion": 1,
            "traceId": STUCK_SESSION_ID,
            "source": "runtime",
            "type": kind,
            "ts": moment,
            "seq": 1,
            "sourceSeq": 1,
            "sessionId": STUCK_SESSION_ID,
            "sessionKey": STUCK_KEY,
            "runId": "run-of-a-test",
        }
        if data is not None:
            event["data"] = data
        return {**event, **over}

    def settings(self, **over: Any) -> Settings:
        values: dict[str, Any] = {
            "state_dir": (str(self.state),),
            "database_url": self.database_url,
            "watch_files": False,
            "gateway": "off",  # no test speaks with a gateway that it has not started
        }
        return Settings(**{**values, **over})

    def reconciler(self, clock: Clock | None = None, links: GatewayLinks | None = None, **over: Any) -> Reconciler:
        """A Clawmend that begins now: nothing watched yet. Several may stand on one world."""
        settings = self.settings(**over)
        audit = AuditLog(settings.database_url)
        audit.migrate()
        made = Reconciler(settings, clock or self.clock, audit, self.env, lambda _: self.gateway, links=links)
        self._open.append(made)
        return made

    def close(self) -> None:
        for reconciler in self._open:
            reconciler.audit.dispose()


def run_pass(reconciler: Reconciler) -> Report:
    report = reconciler.run_pass()
    assert report is not None
    return report


def run_for(reconciler: Reconciler, clock: HeldClock, seconds: float, step: float = 5.0) -> Report:
    """Passes every `step` seconds, as the scheduler would run them."""
    report = run_pass(reconciler)
    elapsed = 0.0
    while elapsed < seconds:
        clock.advance(min(step, seconds - elapsed))
        elapsed += step
        report = run_pass(reconciler)
    return report


def finding_of(report: Report, key: str = STUCK_KEY) -> Finding:
    (found,) = report.find(key)
    return found


PERSON = Ask(Trigger.API, "a person", "a test")


def by_a_person(reconciler: Reconciler, key: str = STUCK_KEY, ask: Ask = PERSON) -> Attempt:
    """What becomes of a session that a person has settled, as a pass finds it now."""
    return reconciler.repairer.settle(finding_of(run_pass(reconciler), key), ask)


def attempts(reconciler: Reconciler) -> list[Attempt]:
    """All of them, the oldest first."""
    return list(reversed(reconciler.audit.page(500)[0]))


@contextmanager
def tree_unchanged(folder: Path) -> Iterator[None]:
    """Nothing below `folder` is written, added or taken away meanwhile."""
    before = {p: (p.lstat().st_ino, p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*")}
    yield
    after = {p: (p.lstat().st_ino, p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*")}
    assert after == before
