"""What the gateway itself says goes into the verdict: a veto, and the shorter window where it rules a retry out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.model import Claim, Code, End, FileIdentity, Gateway, Liveness, Trail, Verdict
from tests.unit.test_verdict import ABSENT, ALIVE, NOW, UNKNOWN, an_end, ended_trail, open_trail, verdict

ACTIVE = Liveness(True, False, NOW)
INACTIVE = Liveness(False, False, NOW)
IDLE = Liveness(False, True, NOW)
BY_PLUGIN = Liveness(False, False, NOW, by_plugin=True)
HOUR = 3_600.0

EVERY_END = [
    an_end(HOUR),
    an_end(HOUR, "error"),
    an_end(HOUR, "error", aborted=True, external_abort=True),
    an_end(HOUR, "error", timed_out=True),
    an_end(HOUR, "cleanup"),
    an_end(HOUR, "interrupted"),
    an_end(HOUR, "error", compaction=True),
]


@pytest.mark.parametrize("end", EVERY_END)
@pytest.mark.parametrize("gateway", [ALIVE, ABSENT, UNKNOWN])
def test_an_active_run_is_a_veto_whatever_the_end_says_and_the_processes_show(end: End, gateway: Gateway) -> None:
    judged = verdict(ended_trail(end, registered=True), liveness=ACTIVE, gateway=gateway)

    assert (judged.code, judged.settlement, judged.due_at, judged.ripe) == (Code.WORKING, None, None, False)
    assert judged.reason == "the gateway says that a run of it is active"


def test_an_active_run_is_a_veto_to_forcing_too() -> None:
    assert verdict(open_trail(2 * HOUR)).code is Code.SILENT
    assert verdict(open_trail(2 * HOUR), liveness=ACTIVE).code is Code.WORKING
    assert verdict(open_trail(2 * HOUR), gateway=ABSENT, liveness=ACTIVE).code is Code.WORKING


def window(end: End, liveness: Liveness, *, registered: bool = True, calm: float | None = 1e9) -> float:
    """The seconds after which a row with this end is stuck and ripe, and a millisecond before them is not."""

    def at(age: float) -> Verdict:
        moved = end._replace(ts=NOW - round(age * 1000))
        asked = None if liveness.asked_at is None else NOW - round(age * 1000) + (liveness.asked_at - NOW)
        said = replace(liveness, asked_at=asked)
        return verdict(ended_trail(moved, registered=registered), liveness=said, calm=calm, watched=age)

    for seconds in (30.0, 120.0, 1_200.0):
        if at(seconds).ripe:
            assert at(seconds).code is Code.STUCK
            assert (at(seconds - 0.001).code, at(seconds - 0.001).ripe) == (Code.ENDING, False)
            return seconds
    raise AssertionError("never ripe")


@pytest.mark.parametrize("calm", [1e9, None], ids=["quiet", "busy"])
@pytest.mark.parametrize(
    "end",
    [an_end(0, "error"), an_end(0, "cleanup"), an_end(0, "error", timed_out=True), an_end(0, "error", compaction=True)],
)
@pytest.mark.parametrize(
    ("liveness", "registered"), [(INACTIVE, True), (IDLE, True), (IDLE, False), (BY_PLUGIN, False)]
)
def test_where_the_gateway_rules_a_retry_out_30_seconds_are_enough(
    end: End, liveness: Liveness, registered: bool, calm: float | None
) -> None:
    assert window(end, liveness, registered=registered, calm=calm) == 30


@pytest.mark.parametrize(
    ("liveness", "registered"),
    [
        (INACTIVE, False),
        (Liveness(), True),
        (Liveness(None, True, NOW), True),
        (Liveness(False, True, None), True),
        (Liveness(False, True, NOW - 1), True),
        (Liveness(None, False, NOW, by_plugin=True), True),
    ],
    ids=["a run that it does not register", "not asked", "not told", "no time", "asked before the end", "not known"],
)
@pytest.mark.parametrize(
    ("end", "calm", "seconds"),
    [
        (an_end(0, "error"), 1e9, 120),
        (an_end(0, "error"), None, 1_200),
        (an_end(0, "error", compaction=True), 1e9, 1_200),
    ],
)
def test_an_answer_that_proves_nothing_leaves_the_windows_as_they_are(
    end: End, calm: float | None, seconds: int, liveness: Liveness, registered: bool
) -> None:
    assert window(end, liveness, registered=registered, calm=calm) == seconds


def test_an_answer_of_the_very_moment_of_the_end_counts() -> None:
    assert Liveness(False, False, 5).rules_out(End(5, "error"), registered=True) is True
    assert Liveness(False, False, 4).rules_out(End(5, "error"), registered=True) is False


def test_of_a_gateway_that_nobody_asked_nothing_is_known_and_a_run_is_not_registered_unless_it_is_seen_to_be() -> None:
    unasked = Liveness()

    assert (unasked.active, unasked.idle, unasked.asked_at, unasked.why) == (None, False, None, "not asked")
    assert (unasked.by_plugin, unasked.runs) == (False, None)
    assert Trail("t.trajectory.jsonl", "t", FileIdentity(1, 1, 1, 1)).registered is False


def test_a_success_has_its_30_seconds_with_any_answer_but_a_veto() -> None:
    for liveness in (Liveness(), INACTIVE, IDLE):
        assert window(an_end(0), liveness, registered=False) == 30


# --- what its own books say ---

ITS_OWN, ELSEWHERE = Claim("task_runs", outlives=False), Claim("worker_session_placements", outlives=True)


@pytest.mark.parametrize("claim", [ITS_OWN, ELSEWHERE])
@pytest.mark.parametrize("gateway", [ALIVE, UNKNOWN, Gateway("running", NOW - 1_000)])
@pytest.mark.parametrize("end", EVERY_END)
def test_a_claim_is_a_veto_while_its_gateway_may_run(end: End, gateway: Gateway, claim: Claim) -> None:
    judged = verdict(ended_trail(end, registered=True), claims=(claim,), gateway=gateway, liveness=IDLE)
    assert (judged.code, judged.settlement, judged.ripe) == (Code.WORKING, None, False)


def test_a_claim_of_a_gateway_that_is_gone_is_none_unless_a_worker_elsewhere_made_it() -> None:
    ended = ended_trail(an_end(HOUR))
    assert verdict(ended, claims=(ITS_OWN,), gateway=ABSENT).code is Code.STUCK
    assert verdict(ended, claims=(ITS_OWN, ELSEWHERE), gateway=ABSENT).reason == (
        "somebody still works on it, by worker_session_placements in the gateway's state database"
    )
