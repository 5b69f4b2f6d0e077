"""The grammar of a trajectory: its tail from the end of the file, and what the last line says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Event, Trail
from app.openclaw.folder import identity_of
from app.openclaw.trajectory import Tail, parse_ts, read_runs, read_tail, trail_of
from tests.world import RECORDINGS, STUCK_ENDED_AT, STUCK_KEY, STUCK_SESSION_ID

KIB, MIB = 1 << 10, 1 << 20
EVENT_CAP = 256 * KIB
"""OpenClaw replaces the data of a line that is longer."""

NOT_AN_EVENT = "the last line of its trajectory is not an event"


def line(kind: str = "session.ended", data: Any = None, *, long: int = 0, **over: Any) -> bytes:
    """One line, `long` bytes before its newline if that is asked for."""
    event = {
        "traceSchema": "openclaw-trajectory",
        "schemaVersion": 1,
        "type": kind,
        "ts": "2026-11-22T06:05:58.006Z",
        "seq": 7,
        "sourceSeq": 7,
        "sessionId": "s-1",
        "sessionKey": "agent:main:main",
        "runId": "r-1",
        "data": {"status": "success"} if data is None else data,
        **over,
    }
    event = {k: v for k, v in event.items() if v is not ...}
    if long:
        event["pad"] = ""
        event["pad"] = "x" * (long - len(json.dumps(event)))
    return json.dumps(event).encode() + b"\n"


END = line()
STARTED = line("session.started", {})


def tail_of(path: Path) -> Tail:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_tail(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def trail(path: Path) -> Trail:
    return trail_of(str(path), "s-1", identity_of(path.stat()), tail_of(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "s-1.trajectory.jsonl"


def test_the_end_of_the_real_stuck_session(tmp_path: Path) -> None:
    (recorded,) = (RECORDINGS / "provider-error-stuck").rglob("*.trajectory.jsonl")
    found = trail(recorded)

    assert found.last == Event(
        "session.ended", STUCK_ENDED_AT, found.last.run_id if found.last else "", STUCK_SESSION_ID, STUCK_KEY
    )
    assert found.end is not None
    assert (found.end.ts, found.end.status, found.end.error) == (
        STUCK_ENDED_AT,
        "error",
        "non_deliverable_terminal_turn",
    )
    assert (found.end.session_id, found.end.session_key) == (STUCK_SESSION_ID, STUCK_KEY)
    assert (found.torn, found.full, found.problem) == (False, False, None)


def test_only_a_session_ended_that_stands_last_is_an_end(file: Path) -> None:
    file.write_bytes(END + STARTED)
    assert (trail(file).end, [e.type for e in trail(file).events]) == (None, ["session.ended", "session.started"])
    file.write_bytes(END + STARTED + END)
    assert trail(file).end is not None


def test_a_file_of_ten_mib_costs_what_its_tail_costs(file: Path) -> None:
    file.write_bytes(line("context.compiled", long=200 * KIB) * 50 + END)
    assert file.stat().st_size > 9.7 * MIB

    tail = tail_of(file)

    assert tail.lines == (END[:-1],)
    assert tail.bytes_read <= 4 * KIB


@pytest.mark.parametrize("long", [500, 4 * KIB - 2, 4 * KIB - 1, 4 * KIB, 16 * KIB, 64 * KIB, EVENT_CAP - 1, EVENT_CAP])
def test_the_last_event_is_found_whatever_its_length(file: Path, long: int) -> None:
    last = line("model.completed", long=long)
    assert len(last) == long + 1
    file.write_bytes(line("context.compiled", long=EVENT_CAP) * 4 + last)

    tail = tail_of(file)

    assert tail.lines[-1] == last[:-1]
    assert (tail.torn, tail.too_long) == (False, False)
    assert tail.bytes_read <= max(4 * KIB, 6 * long), "blocks grow by four, and all of them count"


def test_bytes_read_is_all_that_was_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(line("context.compiled", long=EVENT_CAP) * 5)
    read, pread = [], os.pread

    def counted(fd: int, size: int, at: int) -> bytes:
        data = pread(fd, size, at)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)

    assert tail_of(file).bytes_read == sum(read)


@pytest.mark.parametrize("size", [0, 1, 3, 4096, 4097, 70_000])
def test_a_torn_last_line_is_told_from_the_complete_lines_before_it(file: Path, size: int) -> None:
    file.write_bytes(STARTED + END + b"{" * size)
    tail, found = tail_of(file), trail(file)

    assert tail.torn is found.torn is (size > 0)
    assert tail.lines[-1] == END[:-1]
    assert found.problem is None


def test_an_end_whose_newline_is_not_written_yet_is_torn_and_no_end(file: Path) -> None:
    file.write_bytes(STARTED + END[:-1])
    assert (trail(file).torn, trail(file).end, trail(file).last is not None) == (True, None, True)
    file.write_bytes(END[:-1])
    assert (trail(file).torn, trail(file).end, trail(file).last) == (True, None, None)


@pytest.mark.parametrize("blank", [b"\n", b"\n" * 5_000, b"\r\n \n\t\n"])
def test_blank_lines_are_no_events(file: Path, blank: bytes) -> None:
    file.write_bytes(STARTED + blank + END + blank)
    found = trail(file)

    assert found.end is not None
    assert (found.torn, found.problem) == (False, None)


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n\n"])
def test_an_empty_file_says_nothing(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    found = trail(file)

    assert (found.events, found.end, found.torn, found.full, found.problem) == ((), None, False, False, None)


@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_one_line_of_200_mb_is_read_only_so_far(file: Path, newline: bytes) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(200_000_000)
        sparse.seek(0, os.SEEK_END)
        sparse.write(newline)

    tail = tail_of(file)

    assert (tail.lines, tail.too_long) == ((), True)
    assert tail.bytes_read <= 2 * MIB
    assert trail(file).problem == "the last line of its trajectory is longer than any event"


def test_binary_noise_is_no_event(file: Path) -> None:
    noise = bytes(range(256)) * 64
    for data in (noise, noise + b"\n", END + noise + b"\n", noise + END[:-1] + b"\x00\n"):
        file.write_bytes(data)
        assert (trail(file).end, trail(file).problem) == (None, NOT_AN_EVENT)
    file.write_bytes(noise + b"\n" + END)
    assert trail(file).end is not None, "what stands before the last line is not asked"


@pytest.mark.parametrize(
    "last",
    [
        b"[]\n",
        b"7\n",
        b"null\n",
        b'"session.ended"\n',
        b"{}\n",
        b"{" * 3_000 + b"\n",
        END[:-2] + b"\n",
        END[:-1] + END,
        line(traceSchema="openclaw-trajectory-pointer"),
        line(traceSchema=None),
        line(traceSchema=...),
        line(type=None),
        line(type=...),
        line(type=["session.ended"]),
        line(ts=...),
        line(ts=1_795_327_558_006),
        line(ts="2026-11-22 06:05:58.006Z"),
        line(ts="yesterday"),
    ],
)
def test_a_last_line_that_is_no_event_is_the_trails_problem(file: Path, last: bytes) -> None:
    file.write_bytes(END + last)
    found = trail(file)

    assert (found.problem, found.end, found.events) == (NOT_AN_EVENT, None, ())


@pytest.mark.parametrize(
    ("ts", "ms"),
    [
        ("2026-11-22T06:05:58.006Z", STUCK_ENDED_AT),
        ("2026-11-22T06:05:58Z", STUCK_ENDED_AT - 6),
        ("2026-11-22T06:05:58.9Z", STUCK_ENDED_AT + 894),
        ("1970-01-01T00:00:00.001Z", 1),
        ("2024-02-29T00:00:00.000Z", 1_709_164_800_000),
        ("2026-11-22T06:05:58.006+00:00", None),
        ("2026-11-22T06:05:58.006", None),
        ("2026-11-22t06:05:58.006z", None),
        ("2026-11-22T06:05:58.006Z\n", None),
        (" 2026-11-22T06:05:58.006Z", None),
        ("2026-02-29T00:00:00.000Z", None),
        ("2026-13-01T00:00:00.000Z", None),
        ("2026-11-22T06:05:60.000Z", None),
        ("0000-01-01T00:00:00.000Z", None),
        ("+010000-01-01T00:00:00.000Z", None),
        ("２０２６-11-22T06:05:58.006Z", None),
        ("2026-11-22T06:05Z", None),
        ("", None),
        (STUCK_ENDED_AT, None),
        (None, None),
        (True, None),
    ],
)
def test_a_time_is_utc_as_openclaw_writes_it_or_nothing(ts: object, ms: int | None) -> None:
    assert parse_ts(ts) == ms


@pytest.mark.parametrize(
    "over",
    [
        {"data": {"status": "success", "promptError": "cut in an emoji \ud83d"}},
        {"runId": "\ud83d", "sessionKey": "\ude00"},
        {"workspaceDir": "é \ud83d"},
        {"type": "session.ended\ud83d"},
    ],
)
def test_a_lone_surrogate_in_an_event_harms_nobody_who_shows_it(file: Path, over: dict[str, Any]) -> None:
    file.write_bytes(line(**over))
    found = trail(file)

    assert found.problem is None
    assert found.last is not None
    end = found.end
    shown = (found.last.type, found.last.run_id, found.last.session_key, end and end.error, end and end.run_id)
    for text in shown:
        assert (text or "").encode("utf-8") is not None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"status": "error", "aborted": True, "externalAbort": True}, {"aborted", "external_abort"}),
        ({"status": "error", "aborted": "true", "timedOut": 1, "externalAbort": 1, "yieldDetected": "no"}, set()),
        ({"status": "error", "timedOut": True}, {"timed_out"}),
        ({"status": "error", "idleTimedOut": True}, {"timed_out"}),
        ({"status": "error", "timedOutDuringToolExecution": True}, {"timed_out"}),
        ({"status": "error", "timedOutByRunBudget": True}, {"timed_out"}),
        ({"status": "error", "timedOutDuringCompaction": True}, {"timed_out", "compaction"}),
        ({"status": "error", "promptError": "Context overflow: prompt too large for the model"}, {"compaction"}),
        ({"status": "error", "promptError": "400 context_length_exceeded"}, {"compaction"}),
        ({"status": "error", "promptError": "prompt is too long: 210000 tokens > 200000 maximum"}, {"compaction"}),
        ({"status": "error", "promptError": "request timed out | request timed out"}, set()),
        # OpenClaw cuts a text of over 32,768 characters to this: an overflow can no longer be excluded.
        (
            {"status": "error", "promptError": {"truncated": True, "reason": "trajectory-field-size-limit"}},
            {"compaction"},
        ),
        ({"status": "success", "yieldDetected": True}, {"yielded"}),
    ],
)
def test_an_end_says_how_it_came_about(file: Path, data: dict[str, Any], said: set[str]) -> None:
    file.write_bytes(line(data=data))
    end = trail(file).end

    assert end is not None
    assert end.status == data["status"]
    flags = ("aborted", "external_abort", "timed_out", "compaction", "yielded")
    assert {name for name in flags if getattr(end, name)} == said


@pytest.mark.parametrize("data", [..., "success", [], {"truncated": True, "originalBytes": 300_000}])
def test_an_end_without_its_data_is_an_end_of_unknown_outcome(file: Path, data: Any) -> None:
    file.write_bytes(line(data=data))
    end = trail(file).end

    assert end is not None
    assert (end.status, end.aborted, end.timed_out) == (None, False, False)


def sized(file: Path, size: int, last: bytes) -> Trail:
    """A sparse file of exactly `size` bytes that ends in `last`."""
    with file.open("wb") as sparse:
        sparse.seek(size - len(last) - 1)
        sparse.write(b"\n" + last)
    assert file.stat().st_size == size
    return trail(file)


@pytest.mark.parametrize(
    ("size", "full"),
    [
        (1 * MIB, False),
        (9 * MIB, False),
        (10 * MIB - 16 * KIB - 1, False),
        (10 * MIB - 16 * KIB, True),
        (10 * MIB - 1, True),
        (10 * MIB, True),
        # The Codex harness writes on to 50 MiB; an attempt of the embedded runtime behind it would be dropped.
        (20 * MIB, True),
        (60 * MIB, True),
    ],
)
@pytest.mark.parametrize("kind", ["session.ended", "model.completed"])
def test_a_trajectory_without_room_for_another_line_is_full(file: Path, size: int, full: bool, kind: str) -> None:
    found = sized(file, size, line(kind))

    assert found.problem is None
    assert found.full is full


@pytest.mark.parametrize(
    ("seq", "source_seq", "full"),
    [(7, 8, False), (7, 7, True), (8, 7, True), (7, ..., True), (7, "8", True), (..., 8, True)],
)
def test_where_source_seq_is_ahead_the_newest_lines_are_kept(file: Path, seq: Any, source_seq: Any, full: bool) -> None:
    """2026.7.x drops the oldest lines at the cap; there sourceSeq counts on through the file."""
    assert sized(file, 10 * MIB, line(seq=seq, sourceSeq=source_seq)).full is full


@pytest.mark.parametrize("source_seq", [7, 9])
def test_trace_truncated_as_the_last_line_means_that_lines_were_dropped(file: Path, source_seq: int) -> None:
    file.write_bytes(END + line("trace.truncated", {"droppedEvents": 3}, sourceSeq=source_seq))
    assert (trail(file).full, trail(file).end) == (True, None)

    file.write_bytes(line("trace.truncated", {"droppedEvents": 3}) + STARTED + END)
    assert (trail(file).full, trail(file).end is not None) == (False, True)


# --- which run it was ---

WEBCHAT = {"trigger": "user", "messageProvider": "webchat"}


@pytest.mark.parametrize(
    ("starts", "registered"),
    [
        ([("r-1", WEBCHAT)], True),
        ([("r-1", WEBCHAT), ("r-1", WEBCHAT)], True),
        ([("r-1", WEBCHAT), ("r-1", {"trigger": "cron", "messageProvider": "webchat"})], False),
        ([("r-1", {"trigger": "user", "messageProvider": "telegram"})], False),
        ([("r-1", {"trigger": "user"})], False),
        ([("r-1", {})], False),
        ([("r-1", [WEBCHAT])], False),
        ([("another", WEBCHAT)], False),
        ([(..., WEBCHAT)], False),
        ([], False),
        ([("another", {"trigger": "cron"}), ("r-1", WEBCHAT)], True),
    ],
)
def test_a_run_is_one_that_the_gateway_lists_if_every_attempt_of_it_began_in_the_chat(
    tmp_path: Path, starts: list[tuple[Any, Any]], registered: bool
) -> None:
    lines = [line("session.started", data, runId=run) for run, data in starts]
    file = tmp_path / "t"
    compact = [json.dumps(json.loads(text), separators=(",", ":")).encode() for text in (*lines, line())]
    file.write_bytes(b"\n".join([*compact, b""]))
    with file.open("rb") as opened:
        assert read_runs(opened.fileno(), file.stat().st_size, 0, "r-1").registered is registered
        assert read_runs(opened.fileno(), file.stat().st_size, 0, None).registered is False
        assert read_runs(opened.fileno(), file.stat().st_size, 0, "").registered is False


def test_the_recorded_bug_is_of_a_run_that_the_gateway_lists() -> None:
    folder = RECORDINGS / "provider-error-stuck" / "agents" / "main" / "sessions"
    file = folder / f"{STUCK_SESSION_ID}.trajectory.jsonl"
    with file.open("rb") as opened:
        trail = trail_of(
            "t",
            STUCK_SESSION_ID,
            identity_of(os.fstat(opened.fileno())),
            read_tail(opened.fileno(), file.stat().st_size),
        )
        assert trail.end is not None
        runs = read_runs(opened.fileno(), file.stat().st_size, trail.end.ts - 3_600_000, trail.end.run_id)
    assert runs.registered
