"""After an end that may be retried: others at work, open runs, newer attempts, and who is known to be gone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from app.domain.model import Code, Gateway, Policy, Trail
from tests.unit.test_verdict import (
    ABSENT,
    ALIVE,
    EARLIER,
    NOW,
    POLICY,
    UNKNOWN,
    an_end,
    ended_trail,
    file,
    open_trail,
    row,
    verdict,
)

HOURS = 3_600.0


@pytest.mark.parametrize(
    ("calm", "ripe", "due_in"),
    [
        (math.inf, True, 120 - HOURS),
        (120.0, True, 0),
        (119.999, False, 0.001),
        (0.0, False, 120),
    ],
)
def test_an_unsuccessful_end_waits_until_the_others_have_rested_for_a_window(
    calm: float, ripe: bool, due_in: float
) -> None:
    judged = verdict(ended_trail(an_end(HOURS, "error")), calm=calm, watched=HOURS)

    assert (judged.code, judged.ripe, judged.due_at) == (Code.STUCK, ripe, NOW + round(due_in * 1000))


@pytest.mark.parametrize(("watched", "ripe"), [(119.999, False), (120.0, True)])
def test_calm_before_we_looked_counts_for_nothing(watched: float, ripe: bool) -> None:
    assert verdict(ended_trail(an_end(HOURS, "error")), calm=math.inf, watched=watched).ripe is ripe


@pytest.mark.parametrize(("age", "watched", "code", "ripe"), [
    (1_199.999, HOURS, Code.ENDING, False),
    (1_200, HOURS, Code.STUCK, True),
    (HOURS, 1_199.999, Code.STUCK, False),
    (HOURS, 1_200, Code.STUCK, True),
])  # fmt: skip
def test_while_another_session_is_at_work_an_unsuccessful_end_waits_20_minutes(
    age: float, watched: float, code: Code, ripe: bool
) -> None:
    judged = verdict(ended_trail(an_end(age, "error")), calm=None, watched=watched)

    assert (judged.code, judged.ripe) == (code, ripe)


def test_an_end_that_smells_of_compaction_does_not_wait_for_the_others() -> None:
    judged = verdict(ended_trail(an_end(HOURS, "error", compaction=True)), calm=0.0, watched=1_200.0)

    assert (judged.code, judged.ripe) == (Code.STUCK, True)


@pytest.mark.parametrize("calm", [None, 0.0])
@pytest.mark.parametrize(
    ("status", "gateway"), [("success", ALIVE), ("success", UNKNOWN), ("error", ABSENT), ("cleanup", ABSENT)]
)
def test_others_do_not_matter_to_a_success_or_where_the_gateway_is_gone(
    status: str, gateway: Gateway, calm: float | None
) -> None:
    judged = verdict(ended_trail(an_end(30, status)), gateway=gateway, calm=calm, watched=30.0)

    assert (judged.code, judged.ripe) == (Code.STUCK, True)


@pytest.mark.parametrize(
    ("policy", "compaction", "window"),
    [
        (Policy(stale_after=500), False, 500),
        (Policy(error_quiet=500), False, 500),
        (Policy(stale_after=2_000), True, 2_000),
        (Policy(error_quiet=2_000), True, 2_000),
        (Policy(compaction_quiet=2_000), True, 2_000),
    ],
)
def test_the_longest_of_the_settings_that_apply_is_the_window(policy: Policy, compaction: bool, window: int) -> None:
    def code(age: float) -> Code:
        return verdict(ended_trail(an_end(age, "error", compaction=compaction)), policy=policy).code

    assert (code(window - 0.001), code(window)) == (Code.ENDING, Code.STUCK)


def open_run(ago: float) -> tuple[tuple[str, int], ...]:
    return (("another", NOW - round(ago * 1000)),)


@pytest.mark.parametrize(
    ("ago", "gateway", "code"),
    [
        (0, ALIVE, Code.WORKING),
        (3_599.999, ALIVE, Code.WORKING),
        (3_600, ALIVE, Code.STUCK),
        (3_599.999, UNKNOWN, Code.WORKING),
        (60, ABSENT, Code.STUCK),
        (600, Gateway("running", NOW - 600_000 + 5_001), Code.STUCK),
        (600, Gateway("running", NOW - 600_000 + 5_000), Code.WORKING),
    ],
)
def test_another_run_in_the_same_trajectory_keeps_the_turn_open_for_an_hour_or_as_long_as_its_gateway(
    ago: float, gateway: Gateway, code: Code
) -> None:
    trail = ended_trail(an_end(ago), open_runs=open_run(ago))

    assert verdict(trail, gateway=gateway).code is code


def test_every_open_run_counts_not_only_the_first() -> None:
    runs = (*open_run(3_600), *open_run(60))

    assert verdict(ended_trail(an_end(30), open_runs=runs)).code is Code.WORKING


@pytest.mark.parametrize("runs", [None, ()])
def test_no_open_run_keeps_nothing_open(runs: tuple[tuple[str, int], ...] | None) -> None:
    assert verdict(ended_trail(an_end(60), open_runs=runs)).code is Code.STUCK


@pytest.mark.parametrize(("pointer", "code"), [(59.999, Code.WORKING), (60, Code.STUCK), (61, Code.STUCK)])
def test_a_pointer_that_is_newer_than_the_end_means_that_a_newer_attempt_has_begun(pointer: float, code: Code) -> None:
    assert verdict(ended_trail(an_end(60)), pointer=file(pointer)).code is code


def test_an_open_trajectory_counts_from_the_very_moment_at_which_the_turn_was_accepted() -> None:
    end, started = ended_trail(an_end(60)), NOW - 600_000
    for at, code in ((600, Code.WORKING), (600.001, Code.STUCK)):
        assert verdict(end, open_trail(at, EARLIER), row=row(started_at=started)).code is code


def test_an_ended_trajectory_beside_the_latest_one_keeps_nothing_open() -> None:
    other = ended_trail(an_end(120, session_id=EARLIER))

    assert verdict(ended_trail(an_end(60)), other, row=row(family=(EARLIER,))).code is Code.STUCK


def test_an_empty_trajectory_beside_the_latest_one_keeps_nothing_open() -> None:
    assert verdict(ended_trail(an_end(60)), Trail("empty", EARLIER, file(5))).code is Code.STUCK


@pytest.mark.parametrize(
    "over", [{"row": row(guards=("restartRecoveryX",))}, {"row": row(recovery=("abortedLastRun",))}]
)
def test_a_row_that_OpenClaw_keeps_for_itself_is_never_proposed(over: dict[str, Any]) -> None:
    judged = verdict(ended_trail(an_end(HOURS)), **over)

    assert (judged.code, judged.settlement, judged.due_at, judged.ripe) == (Code.RECOVERING, None, None, False)


def test_what_was_seen_to_change_is_no_older_than_it_was_watched_and_no_younger_than_its_end() -> None:
    """The wall clock may have jumped either way between the end and now."""
    for age, watched, shown in ((HOURS, 40.0, "40 s"), (40.0, HOURS, "40 s")):
        assert f"success {shown} ago" in verdict(ended_trail(an_end(age)), watched=watched, witnessed=True).reason
    assert "success 60 min ago" in verdict(ended_trail(an_end(HOURS)), watched=40.0, witnessed=False).reason


@pytest.mark.parametrize("ts", [NOW + 5_000, NOW + 5_001])
def test_any_event_of_the_future_makes_the_whole_trajectory_worthless_not_only_the_last(ts: int) -> None:
    end = an_end(60)
    trail = ended_trail(end)
    early = trail.events[0]._replace(type="prompt.submitted", ts=ts)

    code = verdict(trail._replace(events=(early, *trail.events))).code

    assert code is (Code.STUCK if ts == NOW + 5_000 else Code.UNPROVABLE)


def test_the_windows_are_those_of_the_settings_page_where_nobody_has_set_them() -> None:
    assert (
        Policy(
            stale_after=30,
            error_quiet=120,
            compaction_quiet=1_200,
            silent_after=3_600,
            never_started_after=600,
            torn_patience=60,
            future_slack=5,
            settle_subagents=False,
        )
        == POLICY
    )


@pytest.mark.parametrize(("transcript_ago", "code"), [(4.0, Code.WORKING), (-5.0, Code.WORKING), (-5.001, Code.SILENT)])
def test_a_transcript_that_was_just_written_is_a_sign_of_life_and_one_of_the_future_is_none(
    transcript_ago: float, code: Code
) -> None:
    assert verdict(open_trail(HOURS), transcript=file(transcript_ago)).code is code


@pytest.mark.parametrize(("ended_ago", "code"), [(10.0, Code.WORKING), (HOURS, Code.SILENT)])
def test_any_trajectory_of_the_conversation_gives_a_sign_of_life_not_only_the_open_one(
    ended_ago: float, code: Code
) -> None:
    trails = open_trail(HOURS + 10), ended_trail(an_end(ended_ago, session_id=EARLIER))

    assert verdict(*trails, row=row(family=(EARLIER,))).code is code


def test_an_empty_trajectory_beside_an_open_one_says_nothing() -> None:
    assert verdict(open_trail(60), Trail("empty", EARLIER, file(5))).code is Code.WORKING
