"""Arbitrary trajectories, whole, torn or nonsense: an end is said where a complete line says it, and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.model import FileIdentity
from app.openclaw import trajectory
from app.openclaw.trajectory import parse_ts, read_runs, read_tail, trail_of
from tests.faults.nonsense import grown
from tests.faults.nonsense.trajectory_claims import SMALL, Held, check_trajectory, time_of

SETTINGS = settings(max_examples=120, derandomize=True, deadline=None)
TOP = Path(__file__).parents[2]
START = 1_795_327_557_860
END = (
    b'{"traceSchema":"openclaw-trajectory","schemaVersion":1,"traceId":"s","source":"runtime","type":"session.ended",'
    b'"ts":"2026-11-22T05:59:38.961Z","seq":1,"sourceSeq":1,"sessionId":"s","runId":"r","data":{"status":"success"}}'
)
FRAMES = (
    '"',
    '"',
    "\\",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "é",
    "😀",
    "\n",
    "runId",
    '","runId":"x"',
    '"type":"session.ended"',
)
nasty = st.lists(st.sampled_from(FRAMES), max_size=5).map("".join)


@pytest.fixture(scope="module")
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.close()


@st.composite
def trajectories(draw: st.DrawFn, *, flaws: bool = False) -> bytes:
    def below(n: int) -> int:
        return draw(st.integers(0, n - 1))

    data = grown.trajectory(below)
    return grown.flawed(below, data) if flaws else data


@SETTINGS
@given(data=trajectories() | trajectories(flaws=True) | st.binary(max_size=80))
@example(data=b"")
@example(data=b"\n\n\n")
@example(data=END)
@example(data=END + b"\r\n")
@example(data=END + b"\n" + END[:60])
@example(data=END + b"\n\0\0\0\0")
@example(data=END + b"\n\0\0\0\0\n")
@example(data=END[:-2] + b',"x":NaN}}\n')
@example(data=END[:-2] + b',"x":-Infinity}}\n')
@example(data=b"\xef\xbb\xbf" + END + b"\n")
@example(data=END.decode().encode("utf-16-le") + b"\n")
@example(data=END.decode().encode("utf-16") + b"\n")
@example(data=END.decode().encode("utf-32-be") + b"\n")
@example(data=END[:-2] + b',"x":"\xed\xa0\xbd"}}\n')
@example(data=END[:-2] + b',"x":"\\ud83d"}}\n')
@example(data=END[:-2] + b',"x":"\\ud83d","y":NaN}}\n')
@example(data=END.replace(b'Version":1', b'Version":true') + b"\n")
@example(data=END[:-1] + b',"type":"model.completed"}\n')
@example(
    data=END.replace(b"session.ended", b"model.completed").replace(b"success", b'\\"type\\":\\"session.ended\\"')
    + b"\n"
)
def test_an_end_is_said_only_where_a_complete_line_says_it(held: Held, data: bytes) -> None:
    check_trajectory(data, held)


@SETTINGS
@given(data=trajectories(flaws=True))
def test_it_holds_at_every_edge_of_a_block(held: Held, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as scale:
        for name, size in SMALL.items():
            scale.setattr(trajectory, name, size)
        check_trajectory(data, held)


edges = st.sampled_from([1 << n for n in (12, 14, 16, 18, 20)])


@settings(SETTINGS, max_examples=30)
@given(
    st.lists(st.tuples(edges, st.integers(-400, 3)), min_size=1, max_size=3),
    st.integers(0, 2),
    st.sampled_from([b" ", b"x", b"\n"]),
)
def test_lines_as_long_as_a_block_or_as_the_limit_are_whole_or_called_too_long(
    held: Held, sizes: list[tuple[int, int]], torn: int, filler: bytes
) -> None:
    """The filler stands before an event or is a line of its own: longer than any event, it hides what is before it."""
    data = b"".join(END + b"\n" + filler * (size + by - len(END) - 1) + b"\n" * (by % 2) for size, by in sizes)
    check_trajectory(data + (END + b"\n")[: (0, 40, len(END) + 1)[torn]], held)


def event(kind: str, at: int, run: str, key: str, padding: int) -> dict[str, object]:
    seconds, ms = divmod(START + at, 1000)
    day, rest = divmod(seconds, 86_400)
    assert day == START // 86_400_000
    ts = f"2026-11-22T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.{ms:03}Z"
    return {
        "traceSchema": "openclaw-trajectory",
        "schemaVersion": 1,
        "traceId": "s",
        "source": "runtime",
        "type": kind,
        "ts": ts,
        "seq": 1,
        "sourceSeq": 1,
        "sessionId": "s",
        "sessionKey": key,
        "runId": run,
        "workspaceDir": key,
        "data": {"type": "session.ended", "text": "x" * padding, "runId": "z"},
    }


kinds = st.sampled_from(["session.ended", "session.started", "model.completed"])
told = st.lists(
    st.tuples(kinds, st.integers(0, 900), st.sampled_from(["r-1", "r-2", "r-3"]), st.sampled_from([0, 300, 5_000])),
    min_size=1,
    max_size=8,
)


@SETTINGS
@given(told=told, since=st.integers(0, 4_000), key=nasty, odd=nasty, block=st.sampled_from([64 << 10, 4_096, 301, 64]))
@example(told=[("model.completed", 1, "r-1", 0), ("session.ended", 1, "r-2", 0)], since=0, key="{x}", odd="", block=512)
@example(told=[("model.completed", 1, "r-1", 0), ("session.ended", 1, "r-2", 0)], since=0, key="", odd="\\", block=512)
def test_open_runs_are_those_whose_last_event_is_no_end(
    held: Held, told: list[tuple[str, int, str, int]], since: int, key: str, odd: str, block: int
) -> None:
    """Whatever the session's key and the ids of the runs are made of, and wherever a block begins."""
    times = list(accumulate(step for _, step, _, _ in told))
    events = [event(kind, at, run + odd, key, pad) for (kind, _, run, pad), at in zip(told, times, strict=True)]
    data = b"".join(json.dumps(e, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for e in events)
    with pytest.MonkeyPatch.context() as scale:
        scale.setattr(trajectory, "_BLOCK", block)
        runs = read_runs(held.fill(data), len(data), START + since, None).open
    last = {run + odd: (kind, START + at) for (kind, _, run, _), at in zip(told, times, strict=True) if at >= since}
    assert dict(runs) == {run: at for run, (kind, at) in last.items() if kind != "session.ended"}


@SETTINGS
@given(
    st.sampled_from([json.loads(t) for t in grown.TIMES])
    | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z?", fullmatch=True)
    | st.text()
)
def test_a_time_is_read_as_the_calendar_has_it_or_not_at_all(value: object) -> None:
    expected, found = time_of(value), parse_ts(value)
    assert (found is None) == (expected is None)
    assert found is None or expected is None or expected[0] <= found <= expected[1]


LONG = """
import os
from app.domain.model import FileIdentity
from app.openclaw.trajectory import read_runs, read_tail, trail_of
data = {data}
fd = os.memfd_create("trajectory")
os.write(fd, data)
trail = trail_of("t", "s", FileIdentity(1, 1, len(data), 1), read_tail(fd, len(data)))
assert trail.problem is not None or trail.end is not None
read_runs(fd, len(data), 0, "r-1")
"""
HEAD, TAIL = END.split(b'"success"')
ENDLESS = {
    "one word of an error": ((HEAD + b'"error","promptError":"', b"max", b'"}}\n'), 300_000),
    "one error of many words": ((HEAD + b'"error","promptError":"', b"context max ", b'"}}\n'), 80_000),
    "spaces in an error": ((HEAD + b'"error","promptError":"context', b" ", b'"}}\n'), 900_000),
    "brackets": ((HEAD, b"[", b"\n"), 900_000),
    "quotes": ((HEAD, b'"', b"\n"), 900_000),
    "escapes": ((HEAD + b'"', b"\\\\", b'"}}\n'), 450_000),
    "digits": ((HEAD, b"9", b"}}\n"), 900_000),
    "heads": ((b"", b'{"traceSchema":"openclaw-trajectory",', TAIL + b"\n"), 25_000),
    "blank lines": ((END + b"\n", b" \n", b""), 450_000),
    "kinds": ((END[:39], b'"type":"x","ts":"', b"\n"), 55_000),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_line_of_almost_a_megabyte_is_read_in_no_time_whatever_stands_in_it(what: str) -> None:
    """A tenth of a second is enough; what grows with the square of the length would take minutes."""
    (before, piece, behind), times = ENDLESS[what]
    code = LONG.format(data=f"{before!r} + {piece!r} * {times} + {behind!r}")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=TOP)


def test_a_file_that_was_cut_while_it_was_read_is_read_as_what_is_left(held: Held) -> None:
    data = END + b"\n"
    tail = read_tail(held.fill(data), 3 << 20)
    assert (tail.lines, tail.torn) in (((END,), False), ((), False))
    assert trail_of("t", "s", FileIdentity(1, 1, len(data), 1), tail).problem in (
        None,
        "the last line of its trajectory is longer than any event",
    )
