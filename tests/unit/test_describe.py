"""What a person is shown of a session: every value under its name, times as RFC 3339."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.domain.describe import describe_evidence, describe_fields, rfc3339
from app.domain.model import (
    Claim,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Liveness,
    Policy,
    Row,
    Trail,
    TranscriptLock,
)

AT = 1_795_327_558_006
SAID = "2026-11-22T06:05:58.006Z"
FILE = FileIdentity(1, 77, 4_096, AT * 1_000_000 + 999_999)
SHOWN_FILE = {"inode": 77, "size": 4_096, "modified_at": SAID}
POLICY = Policy(stale_after=1.5, error_quiet=2.5, compaction_quiet=3.5)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (AT, SAID),
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1_000, "1970-01-01T00:00:01.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, None),
        (-1, None),
        (None, None),
        (10**30, None),
    ],
)
def test_a_time_is_said_to_the_millisecond_or_not_at_all(ms: int | None, text: str | None) -> None:
    assert rfc3339(ms) == text


def test_a_time_is_said_in_UTC_wherever_the_machine_stands(zone: Callable[[str], None]) -> None:
    zone("Asia/Kathmandu")
    assert rfc3339(AT) == SAID


def test_everything_that_a_verdict_rested_on_is_shown_under_its_name() -> None:
    end = End(AT, "error", aborted=True, timed_out=True, compaction=True, run_id="r", session_id="s", error="overflow")
    trail = Trail(
        "p",
        "s",
        FILE,
        (Event("prompt.submitted", AT, "r", "s"),),
        end,
        torn=True,
        full=True,
        problem="no event",
        registered=True,
    )
    row = Row(
        "agent:main:main", "s", "running", AT, ended_at=AT, updated_at=AT,
        family=("earlier",), recovery=("abortedLastRun",), guards=("restartRecoveryX",),
    )  # fmt: skip
    evidence = Evidence(
        row, (trail,), "is a link", FILE, lock=TranscriptLock(4711, None), children=("child",),
        gateway=Gateway("running", AT, "process 12"),
        liveness=Liveness(False, True, AT, "hasActiveRun is false", by_plugin=True),
        claims=(Claim("task_runs", outlives=False), Claim("subagent_runs", outlives=True)), claims_problem="damaged",
        watched=12.34567, calm=1.23456,
    )  # fmt: skip

    assert describe_evidence(evidence, POLICY) == {
        "row": {
            "status": "running",
            "started_at": SAID,
            "ended_at": SAID,
            "updated_at": SAID,
            "recovery": ["abortedLastRun", "restartRecoveryX"],
            "family": ["earlier"],
        },
        "trajectories": [
            {
                "path": "p",
                "session_id": "s",
                "file": SHOWN_FILE,
                "last_events": [{"type": "prompt.submitted", "ts": SAID, "run_id": "r"}],
                "end": {
                    "ts": SAID,
                    "status": "error",
                    "aborted": True,
                    "external_abort": False,
                    "timed_out": True,
                    "compaction": True,
                    "run_id": "r",
                    "error": "overflow",
                },
                "registered": True,
                "torn": True,
                "full": True,
                "problem": "no event",
            }
        ],
        "trajectory_problem": "is a link",
        "transcript": SHOWN_FILE,
        "lock": {"pid": 4711, "live": None},
        "children": ["child"],
        "gateway": {"state": "running", "since": SAID, "reason": "process 12"},
        "liveness": {
            "active_run": False,
            "active_run_ids": None,
            "gateway_idle": True,
            "asked_at": SAID,
            "reason": "hasActiveRun is false",
            "by_plugin": True,
        },
        "claims": ["task_runs", "subagent_runs"],
        "claims_problem": "damaged",
        "watched_seconds": 12.346,
        "calm_seconds": 1.235,
        "windows": {"success": 1.5, "error": 2.5, "compaction": 3.5},
    }


def test_what_is_not_there_is_shown_as_null() -> None:
    bare = describe_evidence(Evidence(Row("k"), (Trail("p", "s", FILE),)), POLICY)

    assert (bare["lock"], bare["transcript"], bare["trajectories"][0]["end"]) == (None, None, None)


@pytest.mark.parametrize(("calm", "shown"), [(None, None), (0.0, 0.0), (10.0, 10.0), (100.0, 50.0), (math.inf, 50.0)])
def test_calm_is_shown_for_no_longer_than_was_watched(calm: float | None, shown: float | None) -> None:
    """Infinite where nobody else was ever seen: JSON has no word for that."""
    evidence = replace(Evidence(Row("k")), watched=50.0, calm=calm)

    assert describe_evidence(evidence, POLICY)["calm_seconds"] == shown


def test_the_four_fields_are_shown_as_OpenClaw_stores_them() -> None:
    row = Row("k", status="killed", started_at=1, ended_at=5, runtime_ms=4, aborted_last_run=True)
    shown: dict[str, Any] = {"status": "killed", "endedAt": 5, "runtimeMs": 4, "abortedLastRun": True}

    assert describe_fields(row) == shown
