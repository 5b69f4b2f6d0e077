"""Beside a gateway that writes the same rows of a database: no write of it is lost, and nobody reads half a row.

The bounded form takes a minute or two. The long form (`--soak`) takes a quarter of an hour and prints the table of
docs/explanation/safety.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.faults.race.contest import FULL_SPEED, Pace
from tests.faults.race.field import NODE
from tests.faults.rows.contest import Contest, Result, race, table
from tests.faults.rows.field import MIDDLE, SMALL

pytestmark = pytest.mark.skipif(not NODE.exists(), reason="Node is not here: make test-faults installs it")

WITH_PAUSES = Pace("pauses to 5 ms", 1, 5)
IN_BURSTS = Pace("bursts of 20, pauses to 100 ms", 20, 100)
NOW_AND_THEN = Pace("bursts of 4, pauses to 2 s", 4, 2_000)
_UNTIL_TIME_IS_UP = 10_000_000

OURS = {
    "small, full speed": Contest(SMALL, "ours", _UNTIL_TIME_IS_UP, FULL_SPEED, 4),
    "small, with pauses": Contest(SMALL, "ours", _UNTIL_TIME_IS_UP, WITH_PAUSES, 4),
    "middle, in bursts": Contest(MIDDLE, "ours", _UNTIL_TIME_IS_UP, IN_BURSTS, 4),
    "small, now and then, as delivered": Contest(SMALL, "ours, as delivered", _UNTIL_TIME_IS_UP, NOW_AND_THEN, 20),
}
OURS_FOR_LONG = {
    "small, full speed": replace(OURS["small, full speed"], most_seconds=120),
    "small, with pauses": replace(OURS["small, with pauses"], most_seconds=120),
    "middle, in bursts": replace(OURS["middle, in bursts"], most_seconds=90),
    "small, now and then, as delivered": replace(OURS["small, now and then, as delivered"], most_seconds=120),
    "middle, full speed": Contest(MIDDLE, "ours", _UNTIL_TIME_IS_UP, FULL_SPEED, 90),
}
COMMON_FIXES = ("compares nothing", "looks once more", "compares updated_at")
COMMON_FIX_SECONDS = 40
MOST_ROUNDS = 6


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Contest], Result]]:
    """Runs each race once, however many tests ask for it; shows the table of all in the end."""
    done: dict[Contest, Result] = {}

    def once(contest: Contest) -> Result:
        if contest not in done:
            done[contest] = race(contest, tmp_path_factory.mktemp("race"))
        return done[contest]

    yield once
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{table(list(done.values()))}\n")


@pytest.fixture(params=list(OURS_FOR_LONG))
def ours(request: pytest.FixtureRequest, run: Callable[[Contest], Result], *, soak: bool) -> Result:
    """Our writer beside the gateway."""
    contest = (OURS_FOR_LONG if soak else OURS).get(request.param)
    if contest is None:
        pytest.skip("a race of the long form: make soak")
    return run(contest)


def test_no_write_that_the_gateway_acknowledged_is_lost_and_none_is_locked_out(ours: Result) -> None:
    assert (ours.lost, ours.stepped_back, ours.locked) == (0, 0, 0), ours.samples
    assert ours.acked > 0


def test_nobody_reads_a_row_that_is_not_whole_or_that_went_back(ours: Result) -> None:
    assert (ours.corrupt, ours.backwards) == (0, 0), ours.samples
    assert ours.reads > 0


def test_what_was_committed_is_what_the_gateway_and_we_say_that_we_wrote_and_nothing_else(ours: Result) -> None:
    assert ours.unaccounted == {}
    assert ours.settled > 0


def test_a_write_that_came_to_nothing_says_why(ours: Result) -> None:
    assert set(ours.came_of_it) <= {
        "written",
        "changed changed",
        "refused busy",
        "refused too_slow",
        "not read, unsteady",
    }


def test_the_database_is_undamaged_and_its_log_is_still_the_gateways(ours: Result) -> None:
    assert (ours.integrity, ours.same_log) == ("ok", True)


@pytest.mark.parametrize("fix", COMMON_FIXES)
def test_a_write_that_does_not_compare_the_whole_entry_in_its_transaction_loses_gateway_writes(
    run: Callable[[Contest], Result], soak: bool, fix: str
) -> None:
    """All else is as ours is: so these races would see it if ours lost one. It may take some rounds."""
    seconds = COMMON_FIX_SECONDS if soak else 4
    rounds = (Contest(SMALL, fix, _UNTIL_TIME_IS_UP + n, WITH_PAUSES, seconds) for n in range(MOST_ROUNDS))
    caught = next((result for result in map(run, rounds) if result.lost > 0), None)
    assert caught is not None
    assert caught.unaccounted["a write that takes another back"] > 0
