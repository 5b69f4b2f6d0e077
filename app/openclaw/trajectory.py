"""The only grammar of a trajectory (spec 2026.5.18, section 4): from the tail of its file to a Trail."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from app.domain.model import End, Event, FileIdentity, Trail
from app.openclaw.parse import DECODER, parse_object, word

FIRST_BLOCK = 4 << 10
LONGEST_LINE = 1 << 20
"""OpenClaw cuts an event at 256 KiB; a line of four times that is not one of its own."""
CAP = 10 << 20
"""Where the embedded runtime's recorder stops (the Codex harness goes on to 50 MiB, but not for other attempts)."""
ROOM = 16 << 10
"""A line that opens an attempt is far smaller than this: where so much room is left, none was dropped."""
KEPT_EVENTS = 8
_BLOCK = 64 << 10

_TS = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?Z\Z", re.A)
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MEMBER = rb',"\w+":(?:' + _STRING + rb"|[\w.+-]+)"
_HEAD = re.compile(
    rb'\{"traceSchema":"openclaw-trajectory"(?:%b){0,9}?,"type":"([^"\\]+)","ts":"([^"\\]+)"'
    rb'(?:(?:%b){0,9}?,"runId":(%b))?' % (_MEMBER, _MEMBER, _STRING)
)
"""The envelope as OpenClaw writes it, up to `data`: keys in the order of spec section 4, compact."""
_OVERFLOW = re.compile(
    r"overflow|context[ _-]*(?:length|window|limit)|too long|too large|max\w{0,32} (?:context|tokens)", re.I
)
_TIMEOUTS = (
    "timedOut",
    "idleTimedOut",
    "timedOutDuringCompaction",
    "timedOutDuringToolExecution",
    "timedOutByRunBudget",
)


class Tail(NamedTuple):
    """The complete lines at the end of a file, oldest first; `torn` when bytes stand behind the last newline."""

    lines: tuple[bytes, ...]
    torn: bool
    bytes_read: int
    too_long: bool = False


def read_tail(fd: int, size: int) -> Tail:
    """Read backwards from `size` in growing blocks until one complete line is in hand."""
    block, spent = min(FIRST_BLOCK, size), 0
    while True:
        data = os.pread(fd, block, size - block)
        spent += len(data)
        torn = bool(data) and not data.endswith(b"\n")
        whole = block >= size
        lines = _last_lines(data, whole)
        if lines or whole:
            return Tail(lines, torn, spent)
        if block >= LONGEST_LINE:
            return Tail((), torn, spent, too_long=True)
        block = min(block * 4, size)


def _last_lines(data: bytes, whole: bool) -> tuple[bytes, ...]:
    """The last complete lines of `data` that are not blank; its first is complete only where it is the `whole` file."""
    lines: list[bytes] = []
    end = data.rfind(b"\n")  # and never split: that goes byte by byte through all that is not asked for
    while end > 0 and len(lines) < KEPT_EVENTS:
        start = data.rfind(b"\n", 0, end)
        if start < 0 and not whole:
            break
        line = data[start + 1 : end]
        if line.strip():
            lines.append(line)
            end = start
        elif start < 0:
            break
        else:  # all that is blank, in one step
            end = data.find(b"\n", len(data[:start].rstrip()))
    return tuple(lines[::-1])


def trail_of(path: str, session_id: str, identity: FileIdentity, tail: Tail) -> Trail:
    """What `tail` says. A last line that cannot be read as an event becomes the trail's `problem`."""

    def broken(why: str) -> Trail:
        return Trail(path, session_id, identity, torn=tail.torn, problem=why)

    if tail.too_long:
        return broken("the last line of its trajectory is longer than any event")
    events: list[Event] = []
    last: dict[str, Any] | None = None
    for line in tail.lines:
        last = parse_object(line)
        event = _event(last) if last is not None else None
        if event is not None:
            events.append(event)
        elif line is tail.lines[-1]:
            return broken("the last line of its trajectory is not an event")
    end = _end(events[-1], last) if last is not None and events[-1].type == "session.ended" else None
    full = bool(events) and (events[-1].type == "trace.truncated" or _is_full(identity.size, last or {}))
    return Trail(path, session_id, identity, tuple(events), end, tail.torn, full)


def read_all(data: bytes) -> list[tuple[Event, End | None]]:
    """Every event of a whole trajectory in its order, those that end an attempt with their end."""
    found: list[tuple[Event, End | None]] = []
    for line in data.split(b"\n"):
        value = parse_object(line)
        event = _event(value) if value is not None else None
        if value is not None and event is not None:
            found.append((event, _end(event, value) if event.type == "session.ended" else None))
    return found


@dataclass(frozen=True, slots=True)
class Runs:
    """What the hour before an end tells of the runs in one file."""

    open: tuple[tuple[str, int], ...]
    """Runs whose last event is no `session.ended`, with its time."""
    registered: bool
    """The run that ended is one that the gateway registers: `hasActiveRun` tells of it (design, section 5)."""
    bytes_read: int


def read_runs(fd: int, size: int, since: int, ended: str | None) -> Runs:
    """The runs that spoke since `since` (epoch ms); `ended` is the one of the end.

    Reads backwards until an event is older, or a line is longer than any event, so it costs what was written since.
    """
    last: dict[str, tuple[int, bool]] = {}
    starts: list[bool] = []
    at, rest, spent = size, b"", 0
    while at > 0 and spent < 2 * CAP and len(rest) <= LONGEST_LINE:
        start = max(0, at - _BLOCK)
        data = os.pread(fd, at - start, start) + rest
        spent += at - start
        first, *lines = data.split(b"\n")
        for line in reversed(lines if start > 0 else [first, *lines]):
            head = _HEAD.match(line)
            ts = parse_ts(head[2].decode("ascii", "replace")) if head else None
            if head is None or ts is None:
                continue
            if ts < since:
                at = start = 0
                break
            run = _run_id(head[3])
            last.setdefault(run, (ts, head[1] == b"session.ended"))
            if head[1] == b"session.started" and run and run == ended:
                starts.append(is_registered(parse_object(line)))
        at, rest = start, first
    still_open = tuple(sorted((run, ts) for run, (ts, over) in last.items() if not over))
    return Runs(still_open, bool(starts) and all(starts), spent)


def is_registered(started: dict[str, Any] | None) -> bool:
    """chat.send and the `agent` call hold a run in the gateway's list through all its attempts (spec, section 6)."""
    data = started.get("data") if started else None
    return isinstance(data, dict) and data.get("trigger") == "user" and data.get("messageProvider") == "webchat"


def event_at(line: bytes) -> Event | None:
    """The event that a line begins with; None for what is none. What follows its envelope is not looked at."""
    head = _HEAD.match(line)
    ts = parse_ts(head[2].decode("ascii", "replace")) if head else None
    return Event(head[1].decode("utf-8", "replace"), ts, _run_id(head[3]) or None) if head and ts is not None else None


def _run_id(token: bytes | None) -> str:
    try:
        return word(DECODER.decode(token.decode())) or "" if token else ""
    except ValueError:
        return ""


def _is_full(size: int, last: dict[str, Any]) -> bool:
    """Whether a newer line may have been dropped for want of room.

    2026.7.x rewrites the file and drops the OLDEST lines; there `sourceSeq` counts through the file while `seq`
    begins anew with each attempt, so a `sourceSeq` that is ahead tells that the newest lines are kept.
    """
    source_seq, seq = last.get("sourceSeq"), last.get("seq")
    if isinstance(source_seq, int) and isinstance(seq, int) and source_seq > seq:
        return False
    return size >= CAP - ROOM


def _event(value: dict[str, Any]) -> Event | None:
    kind, ts, version = word(value.get("type")), parse_ts(value.get("ts")), value.get("schemaVersion")
    if value.get("traceSchema") != "openclaw-trajectory" or version is True or version != 1 or not kind or ts is None:
        return None
    return Event(kind, ts, word(value.get("runId")), word(value.get("sessionId")), word(value.get("sessionKey")))


def _end(event: Event, value: dict[str, Any]) -> End:
    data = value.get("data")
    if not isinstance(data, dict):
        data = {}
    error = word(data.get("promptError")) or word(data.get("terminalError"))
    given = data.get("promptError")
    overflow = isinstance(given, dict) or _OVERFLOW.search(word(given) or "") is not None  # cut: it may have been one
    return End(
        ts=event.ts,
        status=word(data.get("status")),
        aborted=data.get("aborted") is True,
        external_abort=data.get("externalAbort") is True,
        timed_out=any(data.get(name) is True for name in _TIMEOUTS) or data.get("stopReason") == "timeout",
        compaction=data.get("timedOutDuringCompaction") is True or overflow,
        yielded=data.get("yieldDetected") is True,
        for_restart=data.get("stopReason") == "restart",
        run_id=event.run_id,
        session_id=event.session_id,
        session_key=event.session_key,
        error=error[:200] if error else None,
    )


def parse_ts(value: object) -> int | None:
    """Epoch ms of an RFC 3339 time in UTC, as OpenClaw writes it (`…T06:05:58.006Z`); None for anything else."""
    if not isinstance(value, str) or not _TS.match(value):
        return None
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    except ValueError:
        return None
