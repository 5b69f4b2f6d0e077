"""What a finding was when somebody looked at it, in 32 hex digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.fingerprint import fingerprint_of
from app.domain.model import (
    Claim,
    Code,
    End,
    Event,
    Evidence,
    FileIdentity,
    Gateway,
    Liveness,
    Row,
    Settlement,
    Trail,
    TranscriptLock,
    Verdict,
)

NOW = 1_800_000_000_000
FILE = FileIdentity(1, 2, 3, NOW * 1_000_000)
ROW = Row("agent:main:main", "a", "running", started_at=NOW - 10_000, updated_at=NOW)
TRAIL = Trail("a.trajectory.jsonl", "a", FILE, (Event("session.ended", NOW),), End(NOW, "error", session_id="a"))
SEEN = Evidence(ROW, (TRAIL,), transcript=FILE, pointer=FILE, children=("one", "two"), gateway=Gateway("running", NOW))
STUCK = Verdict(Code.STUCK, "it ended 3 min ago", Settlement("failed", NOW, 10_000, False), due_at=NOW, ripe=False)
IS = fingerprint_of(SEEN, STUCK)


@pytest.mark.parametrize(
    "over",
    [
        {"row": replace(ROW, started_at=NOW)},
        {"row": replace(ROW, session_id="b")},
        {"row": replace(ROW, key="agent:main:other")},
        {"row": replace(ROW, recovery=("abortedLastRun",))},
        {"trails": (TRAIL._replace(identity=FILE._replace(size=4)),)},
        {"trails": (TRAIL._replace(problem="it cannot be read"),)},
        {"trails": ()},
        {"transcript": None},
        {"pointer": None},
        {"lock": TranscriptLock(7, True)},
        {"children": ("one",)},
        {"gateway": Gateway("absent")},
        {"gateway": Gateway("running", NOW + 1)},
        {"claims": (Claim("tasks", outlives=True),)},
        {"claims_problem": "the state database cannot be read"},
        {"trail_problem": "the trajectory cannot be looked for"},
    ],
    ids=str,
)
def test_it_changes_with_what_was_found(over: dict[str, Any]) -> None:
    assert fingerprint_of(replace(SEEN, **over), STUCK) != IS


@pytest.mark.parametrize(
    "over",
    [{"code": Code.ENDING}, {"settlement": None}, {"settlement": Settlement("done", NOW, 10_000, False)}],
    ids=str,
)
def test_it_changes_with_the_verdict_and_with_what_would_be_written(over: dict[str, Any]) -> None:
    assert fingerprint_of(SEEN, replace(STUCK, **over)) != IS


@pytest.mark.parametrize(
    "over",
    [
        {"watched": 30.0},
        {"witnessed": True},
        {"calm": None},
        {"liveness": Liveness(active=False, asked_at=NOW, why="asked")},
        {"children": ("two", "one")},
        {"row": replace(ROW, updated_at=NOW + 1)},
        {"gateway": Gateway("running", NOW, "said in other words")},
    ],
    ids=str,
)
def test_it_stays_while_only_the_clock_goes_on_or_the_gateway_is_asked(over: dict[str, Any]) -> None:
    later = replace(STUCK, reason="it ended 4 min ago", due_at=NOW + 1, ripe=True)
    assert fingerprint_of(replace(SEEN, **over), later) == IS


def test_a_claim_that_went_with_its_gateway_does_not_count() -> None:
    gone = replace(SEEN, gateway=Gateway("absent"))
    claimed = replace(gone, claims=(Claim("tasks", outlives=False),))
    assert fingerprint_of(claimed, STUCK) == fingerprint_of(gone, STUCK)


def test_half_an_emoji_in_a_row_has_one_too() -> None:
    assert len(fingerprint_of(replace(SEEN, row=replace(ROW, session_file="\ud83d")), STUCK)) == 32
