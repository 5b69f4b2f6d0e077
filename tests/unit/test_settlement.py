"""From an end to the four fields: the mapping of docs/reference/verdicts.md, and the ends that a real gateway wrote."""

from __future__ import annotations

import json

import pytest

from app.domain.model import SETTLED_FIELDS, End, FileIdentity, Row, Settlement
from app.domain.settlement import settle, target_status
from app.openclaw.trajectory import Tail, trail_of
from tests.world import RECORDINGS

STARTED = 1_795_327_557_860

ABORTED = {"aborted": True}
BY_USER = {"external_abort": True}
TIMED_OUT = {"timed_out": True}


@pytest.mark.parametrize(
    ("status", "flags", "target"),
    [
        ("success", {}, "done"),
        ("error", {}, "failed"),
        ("cleanup", {}, "failed"),
        ("interrupted", {}, "killed"),
        ("error", ABORTED, "killed"),
        ("cleanup", ABORTED, "killed"),
        ("error", BY_USER, "killed"),
        ("error", TIMED_OUT, "timeout"),
        ("cleanup", TIMED_OUT, "timeout"),
        ("interrupted", TIMED_OUT, "timeout"),
        # What a real timeout sets, and what a user's abort sets: only externalAbort tells them apart.
        ("error", {**ABORTED, **TIMED_OUT}, "timeout"),
        ("error", {**ABORTED, **TIMED_OUT, **BY_USER}, "killed"),
        ("interrupted", {**TIMED_OUT, **BY_USER}, "killed"),
    ],
)
def test_an_end_stands_for_one_status(status: str, flags: dict[str, bool], target: str) -> None:
    assert target_status(End(ts=STARTED, status=status, **flags)) == target


@pytest.mark.parametrize("flags", [{}, ABORTED, TIMED_OUT, {**ABORTED, **TIMED_OUT, **BY_USER}])
@pytest.mark.parametrize("status", [None, "", "Success", "completed", "cancelled", "failed", "running"])
def test_an_unknown_end_stands_for_nothing_whatever_its_flags(status: str | None, flags: dict[str, bool]) -> None:
    assert target_status(End(ts=STARTED, status=status, **flags)) is None


@pytest.mark.parametrize(
    ("recording", "target"),
    [
        ("success-done", "done"),
        ("drop-midstream", "done"),
        ("provider-error-stuck", "failed"),
        ("provider-5xx-failed", "failed"),
        ("timeout-after", "timeout"),
        ("abort-after", "killed"),
    ],
)
def test_the_ends_that_a_real_gateway_wrote_stand_for_what_happened(recording: str, target: str) -> None:
    (file,) = (RECORDINGS / recording).rglob("*.trajectory.jsonl")
    last_line = file.read_bytes().splitlines()[-1]

    end = trail_of("a trajectory", "a session", FileIdentity(1, 1, 1, 1), Tail((last_line,), False, 0)).end

    assert end is not None
    assert target_status(end) == target


def test_the_users_abort_is_recorded_as_an_error_that_timed_out() -> None:
    """Why externalAbort is looked at before the timeout flags: the recording has all of these at once."""
    (file,) = (RECORDINGS / "abort-after").rglob("*.trajectory.jsonl")
    data = json.loads(file.read_bytes().splitlines()[-1])["data"]

    assert (data["status"], data["aborted"], data["externalAbort"], data["timedOut"]) == ("error", True, True, True)


def test_the_four_fields_are_the_ends_time_and_what_follows_from_it() -> None:
    settlement = settle(Row("agent:main:main", started_at=STARTED), "failed", STARTED + 146)

    assert settlement == Settlement("failed", STARTED + 146, 146, False)
    assert settlement.as_fields() == {
        "status": "failed",
        "endedAt": STARTED + 146,
        "runtimeMs": 146,
        "abortedLastRun": False,
    }
    assert tuple(settlement.as_fields()) == SETTLED_FIELDS, "no other field is ever written"


@pytest.mark.parametrize(("started_at", "runtime"), [(STARTED, 0), (STARTED + 1, 0), (STARTED - 1, 1), (None, 0)])
def test_runtime_is_never_negative(started_at: int | None, runtime: int) -> None:
    settlement = settle(Row("agent:main:main", started_at=started_at), "done", STARTED)

    assert (settlement.ended_at, settlement.runtime_ms) == (STARTED, runtime)


@pytest.mark.parametrize(
    ("status", "aborted"), [("done", False), ("failed", False), ("timeout", False), ("killed", True)]
)
def test_only_killed_says_aborted_last_run(status: str, aborted: bool) -> None:
    assert settle(Row("agent:main:main", started_at=STARTED), status, STARTED).aborted_last_run is aborted


@pytest.mark.parametrize("status", ["running", "interrupted", "success", "DONE", ""])
def test_no_row_is_settled_to_what_is_no_terminal_status(status: str) -> None:
    with pytest.raises(ValueError, match="is not one of done, failed, timeout, killed"):
        settle(Row("agent:main:main", started_at=STARTED), status, STARTED)
