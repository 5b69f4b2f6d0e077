"""The values by themselves: what can be read off a row, a file, a gateway, a trail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.model import (
    FORCEABLE,
    Code,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Row,
    Settlement,
    Trail,
    TranscriptLock,
    Verdict,
)

MOMENT = 1_795_400_000_000
FILE = FileIdentity(1, 2, 3, MOMENT * 1_000_000)
TRAIL = Trail("a.trajectory.jsonl", "a", FILE, (Event("prompt.submitted", MOMENT),))
SEEN = Evidence(
    Row("agent:main:main", "a", "running", MOMENT, updated_at=MOMENT),
    (TRAIL,),
    transcript=FILE,
    pointer=FILE,
    lock=TranscriptLock(1, True),
)


@pytest.mark.parametrize(
    ("key", "agent", "subagent"),
    [
        ("agent:main:main", "main", False),
        ("agent:work:telegram:group:-100:topic:7", "work", False),
        ("agent:main:subagent:1", "main", True),
        ("agent:main:subagent:1:subagent:2", "main", True),
        ("agent:main:subagents", "main", False),
        ("agent:main", None, False),
        ("agent", None, False),
        ("main", None, False),
        ("Agent:main:main", None, False),
        ("cron:main:main", None, False),
        ("", None, False),
    ],
)
def test_a_key_tells_whose_it_is_and_whether_a_subagent_works_there(
    key: str, agent: str | None, subagent: bool
) -> None:
    assert (Row(key).agent_in_key, Row(key).is_subagent) == (agent, subagent)


def test_the_run_that_ended_is_that_of_the_last_word_in_all_trajectories() -> None:
    end = End(MOMENT + 1, "error", run_id="r")
    ended = TRAIL._replace(events=(Event("session.ended", MOMENT + 1),), end=end)
    silent = TRAIL._replace(events=())
    later = TRAIL._replace(events=(Event("prompt.submitted", MOMENT + 2),))
    for trails, run in (
        ((ended, TRAIL, silent), "r"),
        ((TRAIL, silent, ended), "r"),
        ((ended, later), None),
        ((later, ended), None),
        ((silent,), None),
        ((), None),
    ):
        assert replace(SEEN, trails=trails).ended_run == run


def test_nothing_is_held_to_be_intended_or_cut_short_that_nobody_said() -> None:
    assert Row("agent:main:x", "x", "running", MOMENT).yielded is False
    assert End(MOMENT, "success").for_restart is False


@pytest.mark.parametrize(
    ("ns", "ms"), [(0, 0), (999_999, 0), (1_000_000, 1), (1_795_400_000_123_999_999, 1_795_400_000_123)]
)
def test_a_files_time_is_in_whole_milliseconds_and_never_later_than_it_was(ns: int, ms: int) -> None:
    assert FileIdentity(1, 1, 1, ns).mtime == ms


def test_the_last_event_is_the_one_that_stands_last_in_the_file() -> None:
    first, second = Event("session.ended", MOMENT), Event("prompt.submitted", MOMENT - 1)

    assert TRAIL._replace(events=(first, second)).last is second
    assert TRAIL._replace(events=()).last is None


@pytest.mark.parametrize(
    ("gateway", "gone"),
    [
        (Gateway("absent"), True),
        (Gateway("absent", MOMENT - 1), True),
        (Gateway("running", MOMENT + 5_001), True),
        (Gateway("running", MOMENT + 5_000), False),
        (Gateway("running", MOMENT - 1), False),
        (Gateway("running"), False),
        (Gateway("unknown", MOMENT + 5_001), False),
        (Gateway("unknown"), False),
    ],
)
def test_a_gateway_is_gone_only_when_none_that_lived_then_can_live_now(gateway: Gateway, gone: bool) -> None:
    assert gateway.gone_since(MOMENT) is gone


@pytest.mark.parametrize(
    ("flushed_ms", "pointer_ns", "began"),
    [
        (0, 1, True),
        (0, 0, False),
        (0, -1, False),
        (0, None, False),
        (5_000, 1, True),
        (5_000, 0, False),
        # Copied or touched since: its times say nothing any more.
        (5_001, 1, False),
        (-1, 1, False),
    ],
)
def test_a_pointer_written_after_the_end_is_a_newer_attempt_while_the_file_is_as_the_gateway_wrote_it(
    flushed_ms: int, pointer_ns: int | None, began: bool
) -> None:
    written = (MOMENT + flushed_ms) * 1_000_000
    pointer = None if pointer_ns is None else FileIdentity(1, 9, 9, written + pointer_ns)
    trail = TRAIL._replace(identity=FileIdentity(1, 1, 1, written))

    assert replace(SEEN, pointer=pointer).began_after(trail, End(MOMENT, "success")) is began


GROWN = FileIdentity(1, 2, 4, MOMENT * 1_000_000 + 1)


@pytest.mark.parametrize(
    "over",
    [
        {"row": replace(SEEN.row, started_at=MOMENT + 1)},
        {"row": replace(SEEN.row, session_id="b")},
        {"trails": (TRAIL._replace(identity=GROWN),)},
        {"trails": (TRAIL._replace(path="b.trajectory.jsonl"),)},
        {"trails": ()},
        {"transcript": GROWN},
        {"transcript": None},
        {"pointer": GROWN},
        {"pointer": None},
        {"lock": None},
    ],
)
def test_whatever_happens_to_a_session_it_looks_otherwise(over: dict[str, Any]) -> None:
    assert replace(SEEN, **over).fingerprint != SEEN.fingerprint


@pytest.mark.parametrize(
    "over",
    [
        {"row": replace(SEEN.row, updated_at=MOMENT + 1)},
        {"lock": TranscriptLock(2, None)},
        {"watched": 10.0},
        {"calm": None},
        {"gateway": Gateway("absent")},
        {"children": ("agent:main:subagent:1",)},
    ],
)
def test_what_happens_elsewhere_does_not_make_a_session_look_otherwise(over: dict[str, Any]) -> None:
    """A heartbeat moves `updatedAt` of every row; others come and go."""
    assert replace(SEEN, **over).fingerprint == SEEN.fingerprint


def test_nothing_is_taken_for_granted_that_was_not_looked_at() -> None:
    """What a value says when nobody said anything: never that something is proven, seen or over."""
    end, trail, seen, verdict = End(MOMENT, None), Trail("p", "a", FILE), Evidence(Row("k")), Verdict("working", "")  # type: ignore[arg-type]

    assert (end.aborted, end.external_abort, end.timed_out, end.compaction, end.yielded) == (False,) * 5
    assert (end.run_id, end.session_id, end.session_key, end.error) == (None,) * 4
    assert (trail.events, trail.end, trail.torn, trail.full, trail.problem, trail.open_runs) == (
        (), None, False, False, None, None,
    )  # fmt: skip
    assert (seen.trails, seen.children, seen.lock, seen.transcript, seen.pointer, seen.trail_problem) == (
        (), (), None, None, None, None,
    )  # fmt: skip
    assert (seen.gateway, seen.watched, seen.witnessed) == (Gateway("unknown", None, ""), 0.0, False)
    assert (verdict.settlement, verdict.due_at, verdict.ripe) == (None, None, False)
    row = Row("k")
    assert (row.family, row.parents, row.recovery, row.guards) == ((), (), (), ())
    assert {getattr(row, name) for name in Row.__slots__[1:9]} == {None}
    assert (row.problem, Event("x", 1).run_id, Event("x", 1).session_id, Event("x", 1).session_key) == (None,) * 4


def test_the_four_fields_stand_in_the_order_in_which_the_gateway_writes_them() -> None:
    assert list(Settlement("killed", 5, 4, True).as_fields().items()) == [
        ("status", "killed"),
        ("endedAt", 5),
        ("runtimeMs", 4),
        ("abortedLastRun", True),
    ]


def test_a_person_may_force_what_has_stopped_or_never_began_and_nothing_that_somebody_is_at() -> None:
    assert {code for code in Code if code in FORCEABLE} == {"stuck", "ending", "orphaned", "silent", "never_started"}
