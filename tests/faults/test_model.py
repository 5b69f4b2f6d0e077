"""Anything in any order: the ten invariants of a repair hold after every step (tests/faults/model).

What the machine found is written out below it, as the steps that it took.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.model.calls import Happening
from tests.faults.model.checks import Checks
from tests.faults.model.machine import KEYS, Machine
from tests.faults.model.oddities import STORE_ODDITIES, UNREADABLE

FIRST, SECOND = KEYS[:2]


@seed(1)
class TheSameEachTime(Machine):
    """The bounded form: every run of it takes the same steps."""


def test_the_ten_invariants_hold_whatever_happens_in_whatever_order(soak: bool) -> None:
    chosen = settings(
        max_examples=150 if soak else 45,
        stateful_step_count=50 if soak else 20,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=(Phase.generate,),
    )
    Checks.tally.clear()
    run_state_machine_as_test(Machine if soak else TheSameEachTime, settings=chosen)
    print(dict(Checks.tally))
    for what in (
        "versions of ours that stood",
        "settle applied",
        "undo applied",
        "crossed",
        "again",
        "found open",
        "together",
    ):
        assert Checks.tally[what] > 0, f"{what}: never seen, so the machine does not get far enough to prove anything"


@pytest.fixture
def state() -> Iterator[Machine]:
    """The machine in hand; when the steps are done it looks whether all comes to rest."""
    machine = Machine()
    machine.begins()
    yield machine
    machine.teardown()


@pytest.mark.parametrize("what", [f"turns {kind}" for kind in STORE_ODDITIES])
def test_a_store_that_turns_odd_in_the_last_instant_stays_as_it_turned(state: Machine, what: str) -> None:
    state.settles("first", plan=(Happening(what, "exchange"),))


@pytest.mark.parametrize("call", ["unlink", "utime"])
def test_a_new_turn_behind_a_kill_does_not_make_a_repair_that_stood_one_that_changed_nothing(
    state: Machine, call: str
) -> None:
    state.a_person_settles("first", plan=(Happening("kill", call, after=True),))
    state.a_person_settles("first", end="compaction")


def test_a_lease_that_the_kernel_took_away_is_no_failure_of_a_pass(state: Machine) -> None:
    state.settles("first", plan=(Happening("EIO", "let in", times=9),))


def test_a_write_from_memory_before_anybody_could_read_ours_is_found_by_the_looks(state: Machine) -> None:
    state.a_person_settles(
        "first", end="error", plan=(Happening("loads", "read", after=True), Happening("counts", "let in", key=FIRST))
    )


def test_a_read_while_ours_is_verified_sees_what_the_gateway_wrote(state: Machine) -> None:
    crossing = Happening("counts", "exchange", key=SECOND)
    state.settles("first", plan=(crossing, Happening("loads", "exchange", after=True)))
    state.the_gateway("notes", SECOND)


def test_a_write_in_the_instant_in_which_a_crossing_is_tidied_up_behind_a_kill_stays(state: Machine) -> None:
    crossing, death = Happening("begins_turn", "exchange", key=FIRST), Happening("kill", "exchange", after=True)
    state.settles("first", plan=(crossing, death))
    state.passes("first", plan=(Happening("resets", "exchange", key=SECOND),))


def test_a_crossing_that_a_kill_left_is_taken_back_by_the_next_pass(state: Machine) -> None:
    crossing, death = Happening("counts", "exchange", key=SECOND), Happening("kill", "exchange", after=True)
    state.settles("first", plan=(crossing, death))


def test_a_write_that_comes_out_of_the_put_back_behind_a_kill_is_kept_though_it_be_the_newest(state: Machine) -> None:
    """Found on 22 November 2026: it was deleted, since what went in was taken for what came out."""
    crossing, death = Happening("counts", "exchange", key=FIRST), Happening("kill", "link")
    state.loses_a_race("first", at="exchange", plan=(crossing, death))
    state.passes("first", plan=(Happening("counts", "exchange", key=FIRST),))


def test_a_store_that_is_odd_for_days_behind_a_kill_is_tidied_up_when_it_is_right_again(state: Machine) -> None:
    """Found on 22 November 2026: after nine hours nobody came back for what the kill had left."""
    crossing, death = Happening("deletes_row", "exchange", key=FIRST), Happening("kill", "exchange", nth=3)
    state.loses_a_race("first", at="exchange", plan=(crossing, death), what="notes")
    state.something_turns_odd("pipe")


@pytest.mark.parametrize("odd", UNREADABLE)
def test_a_store_that_turns_unreadable_while_somebody_waits_in_a_crossing_stays_as_it_turned(
    state: Machine, odd: str
) -> None:
    crossing, waits = Happening("counts", "exchange", key=SECOND), Happening("notes", "link", key=SECOND)
    state.settles("first", plan=(crossing, waits, Happening(f"turns {odd}", "exchange", nth=3, after=True)))


@pytest.mark.parametrize("turns", [("lease", True), ("exchange", False)], ids=["held shut", "exchanged"])
@pytest.mark.parametrize(
    "dies", [Happening("kill", "lease", 2), Happening("kill", "exchange", 2)], ids=["lease", "exchange"]
)
def test_a_second_name_that_comes_in_the_last_instant_before_a_kill_keeps_what_it_named(
    state: Machine, turns: tuple[str, bool], dies: Happening
) -> None:
    state.settles("first", plan=(Happening("turns second name", turns[0], after=turns[1]), dies))


@pytest.mark.parametrize("odd", ["half", "empty"])
def test_a_clock_that_was_set_back_while_the_store_was_torn_shortens_no_window(state: Machine, odd: str) -> None:
    state.something_turns_odd(odd)
    state.the_clock_is_set(-4_000.0)
    state.passes("first")
    state.something_turns_odd(odd)
    state.settles("first", end="error")


@pytest.mark.parametrize("death", [(), (Happening("kill", "exchange", 2),)], ids=["lives", "dies"])
def test_a_turn_that_begins_as_a_person_forces_its_row_is_never_called_settled(
    state: Machine, death: tuple[Happening, ...]
) -> None:
    crossing = Happening("begins_turn", "exchange", key=FIRST)
    state.a_person_settles("first", end="error", force=True, plan=(crossing, *death))


@pytest.mark.parametrize("after", [False, True])
def test_a_reset_that_crosses_ours_outlasts_a_kill_at_its_put_back(state: Machine, after: bool) -> None:
    crossing = Happening("resets", "exchange", key=FIRST)
    state.settles("first", plan=(crossing, Happening("kill", "exchange", 2, after=after)))


def test_a_crossing_that_another_clawmend_comes_upon_before_it_is_tidied_up_leaves_nothing(state: Machine) -> None:
    state.starts("stranger")
    state.settles("stranger", SECOND, plan=(Happening("counts", "exchange", key=FIRST), Happening("kill", "truncate")))
    state.starts("partner")
    state.settles("partner")
