"""What a person reads: each verdict's sentence, word for word, and how an age is rounded."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.model import Claim, Gateway, Policy, Trail, TranscriptLock
from tests.unit.test_verdict import (
    ABSENT,
    EARLIER,
    NOW,
    SESSION,
    an_end,
    ended_trail,
    file,
    open_trail,
    row,
    verdict,
)

RESTARTED = Gateway("running", NOW - 60_000)


@pytest.mark.parametrize(
    ("said", "trails", "over"),
    [
        ("settled: its status is done", (), {"row": row(status="done")}),
        ("settled: it has no status yet", (), {"row": row(status=None)}),
        (f"settled: its status is {'x' * 40}", (), {"row": row(status="x" * 41)}),
        ("recovering: OpenClaw is on it: a, b", (), {"row": row(recovery=("a", "b"))}),
        ("waiting: 1 session that work for it still run", (), {"children": ("a",)}),
        ("waiting: 2 sessions that work for it still run", (), {"children": ("a", "b")}),
        (
            "unprovable: the row runs without startedAt, so no end can be matched to it",
            (),
            {"row": row(started_at=None)},
        ),
        (
            "unprovable: the row carries a time in the future: a clock is wrong",
            (),
            {"row": row(started_at=NOW + 5_001, updated_at=None)},
        ),
        ("working: process 4711 holds the lock of its transcript", (), {"lock": TranscriptLock(4711, True)}),
        ("working: a process holds the lock of its transcript", (), {"lock": TranscriptLock(None, None)}),
        (
            "working: somebody still works on it, by task_runs in the gateway's state database",
            (ended_trail(an_end(60)),),
            {"claims": (Claim("task_runs", outlives=False), Claim("subagent_runs", outlives=False))},
        ),
        (
            "unprovable: who else works on it cannot be told: the state database: it is damaged",
            (ended_trail(an_end(60)),),
            {"claims_problem": "the state database: it is damaged"},
        ),
        (
            "working: its trajectory is being written at this moment",
            (open_trail(10, torn=True),),
            {},
        ),
        ("unprovable: its trajectory stops in the middle of a line", (open_trail(60, torn=True),), {}),
        (
            "unprovable: the trajectory carries a time in the future: a clock is wrong",
            (open_trail(-5.001),),
            {},
        ),
        ("working: the last event is prompt.submitted, 10 s ago", (open_trail(10),), {}),
        ("working: the last event is prompt.submitted, 0 s ago", (open_trail(-4),), {}),
        ("silent: the last event is prompt.submitted, and nothing has moved for 2 h", (open_trail(7_200),), {}),
        (
            "orphaned: the last event is prompt.submitted, and the gateway that ran it is gone",
            (open_trail(600),),
            {"gateway": ABSENT},
        ),
        (
            "orphaned: the last event is prompt.submitted, and the gateway that ran it has been restarted since",
            (open_trail(600),),
            {"gateway": RESTARTED},
        ),
        (
            "working: another trajectory of this conversation is still open, 60 s ago",
            (ended_trail(an_end(60)), open_trail(600, EARLIER)),
            {},
        ),
        (
            "working: a turn began after the last end, 1 s ago",
            (ended_trail(an_end(60)),),
            {"row": row(started_at=NOW - 1_000)},
        ),
        (
            "unprovable: the last end in its trajectory belongs to another sessionId",
            (ended_trail(an_end(60, session_id="another")),),
            {},
        ),
        (
            "unprovable: the end stands in an earlier trajectory and names no session key",
            (ended_trail(an_end(60, session_id=EARLIER, session_key=None)),),
            {"row": row(family=(EARLIER,))},
        ),
        (
            "unprovable: the last end in its trajectory belongs to another row with this sessionId",
            (ended_trail(an_end(60, session_key="agent:main:other")),),
            {},
        ),
        (
            "working: a newer attempt has begun since the last end, 60 s ago",
            (ended_trail(an_end(60)),),
            {"pointer": file(59)},
        ),
        (
            "working: another run in its trajectory is still open, 60 s ago",
            (ended_trail(an_end(60), open_runs=(("r", NOW - 61_000),)),),
            {},
        ),
        (
            "unprovable: the trajectory is full: events after its last end may have been dropped",
            (ended_trail(an_end(60), full=True),),
            {},
        ),
        (
            "waiting: the turn yielded: it waits for sessions that it has started",
            (ended_trail(an_end(60, yielded=True)),),
            {},
        ),
        ("unprovable: the end says paused, which is no outcome that we know", (ended_trail(an_end(60, "paused")),), {}),
        ("unprovable: the end says nothing, which is no outcome that we know", (ended_trail(an_end(60, None)),), {}),
        (
            "recovering: its turn ended with error, and OpenClaw keeps a, b",
            (ended_trail(an_end(3_600, "error")),),
            {"row": row(guards=("a", "b"))},
        ),
        (
            "stuck: its turn ended with success 60 s ago and nothing followed, but the row still says running",
            (ended_trail(an_end(60)),),
            {},
        ),
        (
            "stuck: its turn ended with success 60 s ago and nothing followed, but the row still says running; "
            "a subagent's row is settled by a person only",
            (ended_trail(an_end(60, session_key="agent:main:subagent:1")),),
            {"row": row(key="agent:main:subagent:1")},
        ),
        (
            "ending: its turn ended with success 12 s ago; it may still be settled within 30 s",
            (ended_trail(an_end(12)),),
            {},
        ),
        (
            "ending: its turn ended with success 0 s ago; it may still be settled within 0.5 s",
            (ended_trail(an_end(0.25)),),
            {"policy": Policy(stale_after=0.5)},
        ),
        ("unprovable: the trajectory is full: its end may never have been written", (open_trail(10, full=True),), {}),
        ("never_started: set running 2 h ago, and no transcript was ever written", (), {}),
        ("working: set running 60 s ago, nothing is written yet", (), {"row": row(started_at=NOW - 60_000)}),
        ("working: set running 0 s ago, nothing is written yet", (), {"row": row(started_at=NOW + 4_000)}),
        ("working: no trajectory yet; its transcript was written 60 s ago", (), {"transcript": file(60)}),
        (
            "orphaned: no trajectory tells of its turn, and the gateway that ran it is gone",
            (),
            {"transcript": file(60), "gateway": ABSENT},
        ),
        (
            "orphaned: no trajectory tells of its turn, and the gateway that ran it has been restarted since",
            (Trail("empty", SESSION, file(5)),),
            {"transcript": file(600), "gateway": RESTARTED},
        ),
        (
            "unprovable: it has no trajectory (a CLI or ACP backend, or recording is off): nothing to prove by",
            (),
            {"transcript": file(600)},
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_what_was_found(said: str, trails: tuple[Trail, ...], over: dict[str, Any]) -> None:
    judged = verdict(*trails, **over)

    assert f"{judged.code}: {judged.reason}" == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.6, "1 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (179, "2 min"),
        (180, "3 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (10_799, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
        (259_199, "2 d"),
        (259_200, "3 d"),
    ],
)
def test_an_age_is_told_in_one_unit_and_never_rounded_up_to_the_next(seconds: float, said: str) -> None:
    at = NOW - round(seconds * 1000)

    assert f"ended with success {said} ago" in verdict(ended_trail(an_end(seconds)), row=row(started_at=at)).reason
