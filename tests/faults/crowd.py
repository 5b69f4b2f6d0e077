"""Big states, cheaply made: many sessions, heavy stores, full trajectories; all by the pattern of the recordings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.world import RECORDINGS, STUCK, STUCK_KEY, STUCK_SESSION_ID

FULL = 10 << 20
"""Where OpenClaw's recorder stops."""
_RECORDED = RECORDINGS / STUCK / "agents" / "main" / "sessions"
_ROW: dict[str, Any] = json.loads((_RECORDED / "sessions.json").read_bytes())[STUCK_KEY]
_LINES = (_RECORDED / f"{STUCK_SESSION_ID}.trajectory.jsonl").read_bytes().splitlines(keepends=True)
_END: dict[str, Any] = json.loads(_LINES[-1])
_SETTLED = {"status": "done", "abortedLastRun": False}
_SNAPSHOT = "@skillsSnapshot@"


class Crowd:
    """Sessions of any number of agents below one state dir. Times are given as seconds before `now` (epoch ms)."""

    def __init__(self, state: Path, now: int) -> None:
        self.state = state
        self.now = now
        self._rows: dict[str, tuple[dict[str, Any], int]] = {}

    def sessions(self, agent: str) -> Path:
        return self.state / "agents" / agent / "sessions"

    def store(self, agent: str) -> Path:
        return self.sessions(agent) / "sessions.json"

    def trajectory(self, agent: str, session_id: str) -> Path:
        return self.sessions(agent) / f"{session_id}.trajectory.jsonl"

    def settled(self, agent: str, name: str, *, weight: int = 0) -> str:
        """A session whose turn is over and whose row says so; gives its key."""
        moment = self.now - 3_600_000
        return self._row(agent, name, weight, **_SETTLED, startedAt=moment, endedAt=moment + 9, updatedAt=moment + 9)

    def ended(self, agent: str, name: str, *, ago: float, weight: int = 0, before: bytes = b"", kind: str = "") -> str:
        """A session whose turn has ended with an error though its row says running; gives its key.

        `before` is what its trajectory holds ahead of that turn; `kind` goes into the key: `subagent:`.
        """
        key = self._row(agent, name, weight, kind, **self._running(ago + 5))
        self._write(agent, name, before + self.line(key, name, "session.started", ago + 5) + self.end(key, name, ago))
        return key

    def at_work(self, agent: str, name: str, *, ago: float, weight: int = 0, before: bytes = b"") -> str:
        """A session in the middle of its turn, which spoke last so long ago; gives its key. `before` as in `ended`."""
        key = self._row(agent, name, weight, **self._running(ago + 5))
        self._write(agent, name, before + self.line(key, name, "prompt.submitted", ago))
        return key

    def full(self, agent: str, name: str, content: Path, *, weight: int = 0) -> str:
        """A session that runs and whose recorder had to stop: `content` (see `recorder_stopped`); gives its key."""
        key = self._row(agent, name, weight, **self._running(60))
        self.sessions(agent).mkdir(parents=True, exist_ok=True)
        os.link(content, self.trajectory(agent, name))
        return key

    def line(self, key: str, session_id: str, kind: str, ago: float, **data: Any) -> bytes:
        """One event, as 2026.5.18 writes it."""
        event = {**_END, "traceId": session_id, "type": kind, "ts": self._rfc3339(ago), "sessionId": session_id}
        event |= {"sessionKey": key, "runId": f"run-of-{session_id}", "data": data}
        return json.dumps(event, separators=(",", ":")).encode() + b"\n"

    def end(self, key: str, session_id: str, ago: float) -> bytes:
        return self.line(key, session_id, "session.ended", ago, **_END["data"])

    def turns(self, size: int, *, first_ago: float, last_ago: float) -> bytes:
        """About `size` bytes of whole turns as they were recorded, evenly spread over that time."""
        turn = [line.partition(b'"ts":"') for line in _LINES]
        count = size // sum(map(len, _LINES))
        parts: list[bytes] = []
        for number in range(count):
            moment = self._rfc3339(first_ago - (first_ago - last_ago) * number / max(1, count - 1)).encode()
            parts += [head + mark + moment + rest[24:] for head, mark, rest in turn]
        return b"".join(parts)

    def recorder_stopped(self, folder: Path) -> Path:
        """10 MiB of turns at whose end the recorder had to stop; one file, to be given to `full` again and again."""
        body = self.turns(FULL, first_ago=30 * 86_400, last_ago=600)
        last = self.line("agent:a:k", "s", "trace.truncated", 60, reason="x")
        file = folder / "full.jsonl"
        file.write_bytes(body + b" " * (FULL - len(body) - len(last) - 1) + b"\n" + last)
        self._rested(file)
        return file

    def write(self, *, quiet_for: float = 60.0) -> None:
        """Write the store of every agent, as the gateway would have `quiet_for` seconds ago."""
        by_agent: dict[str, list[str]] = {}
        for key, (row, weight) in self._rows.items():
            by_agent.setdefault(key.split(":")[1], []).append(_member(key, row, weight))
        for agent, members in by_agent.items():
            write_store(self.store(agent), members)
            self._rested(self.store(agent), quiet_for)

    def _row(self, agent: str, name: str, weight: int, kind: str = "", **fields: Any) -> str:
        key = f"agent:{agent}:{kind}{name}"
        file = str(self.sessions(agent) / f"{name}.jsonl")
        self._rows[key] = (
            {**_ROW, "sessionId": name, **fields, "sessionFile": file, "skillsSnapshot": _SNAPSHOT},
            weight,
        )
        return key

    def _running(self, started_ago: float) -> dict[str, Any]:
        moment = self.now - round(started_ago * 1000)
        return {"status": "running", "startedAt": moment, "updatedAt": moment, "abortedLastRun": False}

    def _write(self, agent: str, name: str, data: bytes) -> None:
        file = self.trajectory(agent, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._rested(file)

    def _rested(self, file: Path, seconds: float = 60.0) -> None:
        """Written `seconds` ago: the one time of a file that nobody else can have given it."""
        moment = self.now * 1_000_000 - round(seconds * 1e9)
        os.utime(file, ns=(moment, moment))

    def _rfc3339(self, ago: float) -> str:
        moment = datetime.fromtimestamp((self.now - round(ago * 1000)) / 1000, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def write_store(path: Path, members: Iterable[str]) -> None:
    """A store of these members (`"key": {row}`), put in place in one instant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name("new")
    with beside.open("w", encoding="utf-8") as file:
        for number, member in enumerate(members):
            file.write(f"{',' if number else '{'}\n  {member}")
        file.write("\n}")
    beside.chmod(0o600)
    beside.rename(path)


def _member(key: str, row: dict[str, Any], weight: int) -> str:
    """As `JSON.stringify(store, null, 2)` has it."""
    text = f"{json.dumps(key)}: {_indented(row)}"
    return text.replace(json.dumps(_SNAPSHOT), _snapshot(weight))


@lru_cache
def _snapshot(weight: int) -> str:
    """The heaviest part of a real row; `weight` is the length of the text in it."""
    recorded = _ROW["skillsSnapshot"]
    text = (recorded["prompt"] * (weight // len(recorded["prompt"]) + 1))[:weight]
    return _indented({**recorded, "prompt": text}).replace("\n", "\n  ")


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
