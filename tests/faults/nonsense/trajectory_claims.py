"""What must hold for any bytes as a trajectory. `check_trajectory` raises AssertionError where something does not."""

from __future__ import annotations

import os
import re
from datetime import date
from typing import Any

from app.domain.model import End, FileIdentity, Trail
from app.openclaw import trajectory
from app.openclaw.trajectory import Tail, read_runs, read_tail, trail_of
from tests.faults.nonsense.json_parse import DEEP, Parsed, depth, parse

TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?Z")
RUN_ID = re.compile(rb'"runId":("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
TIMEOUTS = (
    "timedOut",
    "idleTimedOut",
    "timedOutDuringCompaction",
    "timedOutDuringToolExecution",
    "timedOutByRunBudget",
)
LONGEST_NUMBER = 4_000


SMALL = {"FIRST_BLOCK": 256, "LONGEST_LINE": 4096, "_BLOCK": 512, "CAP": 16384, "ROOM": 1024}
"""Blocks and limits of a trajectory at a scale at which short cases reach all of them."""


class Held:
    """A file in memory that is filled anew for each case."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("trajectory")

    def fill(self, data: bytes) -> int:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, data, 0)
        return self.fd

    def close(self) -> None:
        os.close(self.fd)


def check_trajectory(data: bytes, held: Held) -> None:
    fd = held.fill(data)
    tail = read_tail(fd, len(data))
    check_tail(data, tail)
    check_trail(data, tail, trail_of("t.jsonl", "s", FileIdentity(1, 1, len(data), 1), tail))
    check_open_runs(data, fd)
    short = read_tail(fd, len(data) + 1 + len(data) // 3)  # it was cut while it was read
    assert short.bytes_read <= 2 * len(data) + trajectory.LONGEST_LINE * 2


def complete_lines(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n")[:-1] if line.strip()]


def check_tail(data: bytes, tail: Tail) -> None:
    """It holds the last complete lines, whole, and it costs what the last of them costs."""
    lines = complete_lines(data)
    assert tail.torn == (data != b"" and not data.endswith(b"\n"))
    assert len(tail.lines) <= trajectory.KEPT_EVENTS
    assert tail.lines == tuple(lines[len(lines) - len(tail.lines) :])
    last = data.rindex(b"\n" + lines[-1] + b"\n") if len(lines) > 1 else 0
    needed = len(data) - last
    if tail.too_long:
        assert needed >= trajectory.LONGEST_LINE or not lines, "a line that fits was called too long"
    else:
        assert bool(tail.lines) == bool(lines), "there is a line, and it was not found"
    assert tail.bytes_read <= max(2 * trajectory.FIRST_BLOCK, 6 * needed), "more was read than the last line asks for"
    assert tail.bytes_read <= 2 * trajectory.LONGEST_LINE


def event_of(line: bytes) -> Parsed | None:
    """The event that a line is to JSON.parse, by the envelope of spec section 4."""
    try:
        value = parse(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, Parsed) or value.get("traceSchema") != "openclaw-trajectory":
        return None
    version, kind = value.get("schemaVersion"), value.get("type")
    if version is True or version != 1 or not isinstance(kind, str) or not kind or time_of(value.get("ts")) is None:
        return None
    return value


def time_of(value: object) -> tuple[int, int] | None:
    """Epoch ms, rounded down and up."""
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    micros = int((found[7] or "").ljust(6, "0"))
    whole = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000
    return whole + micros // 1_000, whole - (-micros // 1_000)


def _hard(line: bytes) -> bool:
    """JSON.parse takes it, and we need not: it is deep, or holds a number that is no number any more."""
    return depth(line.decode("latin-1")) > DEEP or re.search(rb"[0-9]{%d}" % LONGEST_NUMBER, line) is not None


def check_trail(data: bytes, tail: Tail, trail: Trail) -> None:
    """An end is said where the last complete line is a whole event that says so, and nowhere else."""
    events = [event for line in tail.lines if (event := event_of(line)) is not None]
    last = event_of(tail.lines[-1]) if tail.lines else None
    if trail.problem is not None:
        assert (trail.events, trail.end, trail.full) == ((), None, False)
        assert tail.too_long or (tail.lines and (last is None or _hard(tail.lines[-1]))), trail.problem
        return
    assert not tail.too_long
    assert trail.torn == tail.torn
    if not any(_hard(line) for line in tail.lines):
        shown = [(_shown(e["type"]), _shown(e.get("runId")), _shown(e.get("sessionKey"))) for e in events]
        assert [(e.type, e.run_id, e.session_key) for e in trail.events] == shown
    kept = iter(events)
    assert all(any(e.type == _shown(found["type"]) for found in kept) for e in trail.events), (
        "no event was taken for one"
    )
    assert (trail.last is None) == (not tail.lines)
    if trail.last is None:
        assert (trail.end, trail.full) == (None, False)
        return
    assert last is not None, "the last line is no event, and nobody says so"
    times = time_of(last["ts"])
    assert times is not None
    assert times[0] <= trail.last.ts <= times[1]
    assert (trail.end is not None) == (last["type"] == "session.ended"), "an end that nobody wrote, or one overlooked"
    truncated = last["type"] == "trace.truncated"
    assert trail.full is truncated or len(data) >= trajectory.CAP - trajectory.ROOM
    if trail.end is not None:
        check_end(trail.end, last)


def check_end(end: End, event: dict[str, Any]) -> None:
    given = event.get("data")
    data: dict[str, Any] = given if isinstance(given, dict) else {}
    assert (end.status, end.run_id) == (_shown(data.get("status")), _shown(event.get("runId")))
    assert (end.session_id, end.session_key) == (_shown(event.get("sessionId")), _shown(event.get("sessionKey")))
    flags = (end.aborted, end.external_abort, end.yielded, end.timed_out)
    said = [data.get(name) is True for name in ("aborted", "externalAbort", "yieldDetected")]
    assert flags == (*said, any(data.get(name) is True for name in TIMEOUTS))
    if data.get("timedOutDuringCompaction") is True or isinstance(data.get("promptError"), dict):
        assert end.compaction
    elif not data.get("promptError"):
        assert not end.compaction
    error = _shown(data.get("promptError")) or _shown(data.get("terminalError"))
    assert end.error == (error[:200] if error else None)


def check_open_runs(data: bytes, fd: int) -> None:
    """Whatever stands there, it comes back, has read no more than there is, and names runs that are in the file."""
    found = read_runs(fd, len(data), 0, "r-1")
    runs, spent = found.open, found.bytes_read
    assert spent <= len(data)
    assert not found.registered or b"webchat" in data or b"\\u" in data
    assert list(runs) == sorted(dict(runs).items())
    named = {_text(token) for token in RUN_ID.findall(data)}
    for run, ts in runs:
        assert ts >= 0
        assert run in named or run == ""


def _text(token: bytes) -> Any:
    try:
        return _shown(parse(token.decode()))
    except ValueError:
        return ""


def _shown(word: object) -> Any:
    return word.encode("utf-8", "replace").decode() if isinstance(word, str) else None
