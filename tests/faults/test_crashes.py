"""A repair that is killed, or failed by the kernel, at each of its system calls in turn (strace injects the fault).

After every single run: the store is, byte for byte, the version before, ours, or the gateway's; nothing of ours lies
about after the next start; the audit says what the disk says; and in the end the session is settled as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.crash.crew import Crew, Order, crew
from tests.faults.crash.sweep import AFTER_CALL
from tests.faults.crash.trace import EIO, ENOSPC, GATEWAY_TOLD, KILL, why_not

_THINGS = ("settle", "undo", "look", "last look", "crossing", "read crossing", "pass", "together")
_SPARSE = {
    KILL: {"settle": (1, 24), "undo": (2, 12), "look": (2, 8), "crossing": (2, 48), "pass": (24, 48)},
    EIO: {"settle": (1, 24), "undo": (2, 12), "look": (2, 8), "crossing": (3, 48), "pass": (24, 48)},
    ENOSPC: {"settle": (1, 2), "undo": (2, 4), "look": (1, 2), "crossing": (2, 4), "pass": (4, 8)},
}
"""What the bounded form takes of the calls at the store's folder, and of all others: each so-many-th."""
_READ_CROSSING = {KILL: (1, 24), EIO: (2, 48), ENOSPC: (1, 2)}
_TOGETHER = {KILL: (3, 48), EIO: (6, 96), ENOSPC: (2, 8)}
_OF_A_RECOVERY = (12, 48)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Crew]:
    if (why := why_not()) is not None:
        pytest.skip(why)
    with crew(tmp_path_factory.mktemp("crash")) as made:
        yield made
    plugins = request.config.pluginmanager
    reporter: Any = plugins.get_plugin("terminalreporter")
    capture: Any = plugins.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        for line in made.table():
            reporter.write_line(f"  {line}")


def order(thing: str, fault: str, *, soak: bool, goes_on: bool = False) -> Order:
    if soak:
        return Order(thing, fault, goes_on)
    again = {"last look": _SPARSE[fault]["look"], "read crossing": _READ_CROSSING[fault], "together": _TOGETHER[fault]}
    sparse = {**_SPARSE[fault], **again}
    store, others = sparse.get(thing, _OF_A_RECOVERY)
    since = GATEWAY_TOLD if thing.endswith("crossing") else ""  # until then it is a plain repair
    return Order(thing, fault, goes_on, store, others, since)


def nothing_is_wrong(workers: Crew, *orders: Order) -> None:
    for each in orders:
        tally = workers.carry_out(each)
        assert not tally.violations, f"{each}: {tally}\n{tally.story()}"
        assert tally.runs > 0, f"{each}: {tally}"


@pytest.mark.parametrize("thing", _THINGS)
def test_killed_at_any_call_it_leaves_the_old_or_the_new_store_and_the_next_start_tells_the_truth(
    thing: str, workers: Crew, soak: bool
) -> None:
    nothing_is_wrong(workers, order(thing, KILL, soak=soak))


@pytest.mark.parametrize("fault", [EIO, ENOSPC])
@pytest.mark.parametrize("thing", _THINGS)
def test_failed_at_any_call_it_ends_in_an_outcome_that_is_true_and_goes_on(
    thing: str, fault: str, workers: Crew, soak: bool
) -> None:
    nothing_is_wrong(workers, order(thing, fault, soak=soak, goes_on=True))


@pytest.mark.parametrize("fault", [EIO, ENOSPC])
@pytest.mark.parametrize("thing", _THINGS)
def test_failed_at_any_call_the_next_start_finds_out_what_became_of_it(
    thing: str, fault: str, workers: Crew, soak: bool
) -> None:
    if not soak:
        pytest.skip("the long form only (--soak); here the process itself goes on")
    nothing_is_wrong(workers, order(thing, fault, soak=soak))


@pytest.mark.parametrize("fault", [KILL, EIO, ENOSPC])
@pytest.mark.parametrize("thing", ["settle", "crossing", "read crossing", "undo", "together"])
def test_a_recovery_that_is_broken_off_at_any_call_is_ended_by_the_next_one(
    thing: str, fault: str, workers: Crew, soak: bool
) -> None:
    if thing not in ("settle", "crossing") and not soak:
        pytest.skip("the long form only (--soak)")
    crashed = workers.carry_out(order(thing, KILL, soak=soak))
    left_open = [index for state, index in sorted(crashed.states.items()) if "None" in " ".join(state)]
    assert left_open, f"no crash left an attempt open: {crashed}"
    for index in left_open:
        nothing_is_wrong(workers, order(f"{thing}{AFTER_CALL}{index}", fault, soak=soak, goes_on=fault != KILL))


def test_this_harness_finds_what_is_wrong_with_a_repair_that_writes_over_the_store(workers: Crew) -> None:
    tally = workers.carry_out(Order("naive", KILL, others_every=1_000, since="O_TRUNC"))
    assert "at once the store is empty" in tally.violations, tally.story()
