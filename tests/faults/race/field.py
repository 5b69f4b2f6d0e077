"""The state dir of a race: a store of a given size, a row that counts, and rows whose turns have ended unsettled."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[3]
NODE = TOP / ".gateways" / "bin" / "node"
PACKAGE = TOP / ".gateways" / "2026.5.18" / "node_modules" / "openclaw"

COUNTER_KEY = "agent:main:counter"
TURN_MS = 5
"""How long every turn of a race lasts: a settled row says exactly so."""
_TURN_KEY = "agent:main:turn-"


@dataclass(frozen=True, slots=True)
class Size:
    """A store's size as rows: those whose turns end unsettled, those that never change, and the filling of each."""

    name: str
    turns: int
    others: int
    filling: int


SMALL = Size("2 KB", turns=6, others=0, filling=40)
MIDDLE = Size("400 KB", turns=10, others=50, filling=6_400)
LARGE = Size("5 MB", turns=8, others=392, filling=12_300)
MANY = Size("6 KB", turns=24, others=0, filling=40)
"""So many rows that there are always some which no look is to come for: those are settled together."""


@dataclass(frozen=True, slots=True)
class Field:
    """The folder of one race."""

    folder: Path
    size: Size

    @property
    def state_dir(self) -> Path:
        return self.folder / "openclaw"

    @property
    def store(self) -> Path:
        return self.state_dir / "agents" / "main" / "sessions" / "sessions.json"

    @property
    def turn_keys(self) -> list[str]:
        return [f"{_TURN_KEY}{number}" for number in range(self.size.turns)]

    def rows(self) -> dict[str, Any]:
        rows: dict[str, Any] = json.loads(self.store.read_bytes())
        return rows


def lay_out(folder: Path, size: Size) -> Field:
    """Make the state dir: every turn's row is stuck from the start."""
    field = Field(folder, size)
    field.store.parent.mkdir(parents=True)
    now = time.time_ns() // 1_000_000
    rows: dict[str, Any] = {COUNTER_KEY: {"sessionId": "counter", "updatedAt": now}}
    for number in range(size.others):
        rows[f"agent:main:other-{number}"] = _row(f"other-{number}", now, size.filling) | {"status": "done"}
    began = now - 1_000
    for key in field.turn_keys:
        session_id = key.removeprefix("agent:main:")
        rows[key] = _row(session_id, now, size.filling) | {"status": "running", "startedAt": began, "turn": 1}
        trajectory = field.store.with_name(f"{session_id}.trajectory.jsonl")
        trajectory.write_bytes(_event("session.ended", began + TURN_MS, session_id, key))
    field.store.write_text(json.dumps(rows, indent=2))
    field.store.chmod(0o600)
    return field


def _row(session_id: str, now: int, filling: int) -> dict[str, Any]:
    return {"sessionId": session_id, "updatedAt": now, "note": "n" * filling}


def _event(kind: str, at: int, session_id: str, key: str) -> bytes:
    event = {
        "traceSchema": "openclaw-trajectory",
        "schemaVersion": 1,
        "traceId": session_id,
        "source": "runtime",
        "type": kind,
        "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03d}Z",
        "seq": 1,
        "sourceSeq": 1,
        "sessionId": session_id,
        "sessionKey": key,
        "runId": "run-1",
        "data": {"status": "success"},
    }
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
