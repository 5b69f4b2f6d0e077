"""Beside the gateway's own writer: no write of it is lost, nobody reads nonsense, every overwritten repair is noticed.

The bounded form takes about 100 s. The long form (`--soak`) takes about half an hour and prints the table of
docs/explanation/safety.md; with `RACES_JSON=FILE` in the environment every result is written there as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.race.contest import Contest, Pace, race
from tests.faults.race.field import LARGE, MANY, MIDDLE, NODE, PACKAGE, SMALL
from tests.faults.race.tally import Result, table

pytestmark = pytest.mark.skipif(
    not (NODE.exists() and PACKAGE.is_dir()), reason="OpenClaw is not here: make test-faults installs it"
)

IN_BURSTS = {
    SMALL: Pace("bursts of 8, pauses to 40 ms", 8, 40),
    MIDDLE: Pace("bursts of 5, pauses to 100 ms", 5, 100),
    LARGE: Pace("bursts of 3, pauses to 1.5 s", 3, 1_500),
}
NOW_AND_THEN = Pace("bursts of 20, pauses to 6 s", 20, 6_000)

IN_GROUPS = Pace("bursts of 4, pauses to 300 ms", 4, 300)
TOGETHER = Contest(
    MANY,
    "ours",
    100_000,
    IN_GROUPS,
    most_seconds=7,
    turns_at_once=4,
    rest_ms=1_500,
    looks=(0.05, 0.15, 0.4),
    between_ms=30,
)
"""Rows get stuck four at a time, and by then no look at an earlier repair of them is to come."""
TOGETHER_CROSSED = replace(TOGETHER, cross_ms=300)

OURS = {
    "2 KB, full speed": Contest(SMALL, "ours", 2_000, most_seconds=6),
    "2 KB, bursts, slow exchange": Contest(SMALL, "ours", 2_000, IN_BURSTS[SMALL], most_seconds=8, linger_ms=5),
    "400 KB, bursts": Contest(MIDDLE, "ours", 500, IN_BURSTS[MIDDLE], most_seconds=6),
    "5 MB, bursts": Contest(LARGE, "ours", 50, IN_BURSTS[LARGE], most_seconds=8),
    "together": TOGETHER,
    "together, crossed": TOGETHER_CROSSED,
}
OURS_FOR_LONG = {
    "2 KB, full speed": Contest(SMALL, "ours", 100_000, most_seconds=3_600),
    "2 KB, bursts, slow exchange": Contest(SMALL, "ours", 20_000, IN_BURSTS[SMALL], most_seconds=120, linger_ms=5),
    "400 KB, bursts": Contest(MIDDLE, "ours", 20_000, IN_BURSTS[MIDDLE], most_seconds=120),
    "5 MB, bursts": Contest(LARGE, "ours", 2_000, IN_BURSTS[LARGE], most_seconds=120),
    "2 KB, bursts": Contest(SMALL, "ours", 20_000, IN_BURSTS[SMALL], most_seconds=120),
    "400 KB, full speed": Contest(MIDDLE, "ours", 100_000, most_seconds=300),
    "5 MB, full speed": Contest(LARGE, "ours", 100_000, most_seconds=200),
    "2 KB, now and then, as delivered": Contest(
        SMALL, "ours", 100_000, NOW_AND_THEN, most_seconds=300, quiet=1.0, patience=10.0
    ),
    "together": replace(TOGETHER, most_seconds=120),
    "together, crossed": replace(TOGETHER_CROSSED, most_seconds=120),
}
WITH_PAUSES = {
    SMALL: Pace("pauses to 5 ms", 1, 5),
    MIDDLE: Pace("pauses to 50 ms", 1, 50),
    LARGE: Pace("pauses to 0.5 s", 1, 500),
}
"""Beside a gateway at full speed a write in flight soon hides what a common fix has taken away."""
NAIVE = {size.name: Contest(size, "naive", 100_000, pace, most_seconds=5) for size, pace in WITH_PAUSES.items()}
VERIFY = Contest(SMALL, "verify_then_rename", 100_000, WITH_PAUSES[SMALL], most_seconds=8)
COMMON_FIX_SECONDS = 300
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
    results = sorted(done.values(), key=lambda r: r.repairer != "ours")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{table(results)}\n")
    if file := os.environ.get("RACES_JSON"):
        Path(file).write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")


@pytest.fixture(params=list(OURS_FOR_LONG))
def ours(request: pytest.FixtureRequest, run: Callable[[Contest], Result], *, soak: bool) -> Result:
    """Clawmend beside the gateway."""
    contest = (OURS_FOR_LONG if soak else OURS).get(request.param)
    if contest is None:
        pytest.skip("a race of the long form: make soak")
    return run(contest)


def test_no_write_that_the_gateway_acknowledged_is_lost(ours: Result) -> None:
    assert (ours.lost, ours.gateway_stepped_back, ours.gateway_found_no_row) == (0, 0, 0), ours.samples
    assert ours.published > 0


def test_nobody_reads_a_store_that_is_torn_or_missing_or_older_than_before(ours: Result) -> None:
    assert (ours.unparsable, ours.missing, ours.backwards, ours.strange) == (0, 0, 0, 0), ours.samples
    assert ours.reads > 0


def test_every_repair_that_the_gateway_overwrites_is_noticed_and_no_other(ours: Result) -> None:
    assert (ours.unnoticed, ours.falsely_noticed) == (0, 0)


def test_the_audit_says_of_each_repair_what_became_of_it(ours: Result) -> None:
    assert ours.untrue == ()


def test_several_rows_are_settled_together_over_and_over_and_gateway_writes_cross_that(
    run: Callable[[Contest], Result], *, soak: bool
) -> None:
    """Without this the races of rows that fall due together would say nothing of them."""
    races = OURS_FOR_LONG if soak else OURS
    assert run(races["together"]).together > 2 * TOGETHER.turns_at_once
    assert run(races["together, crossed"]).crossed_together > 0


def test_in_the_end_every_row_is_settled_and_nothing_of_ours_lies_about_that_the_audit_does_not_name(
    ours: Result,
) -> None:
    assert (ours.left_running, ours.litter) == (0, ()), ours.reasons


def is_caught(run: Callable[[Contest], Result], contest: Contest, *, soak: bool) -> bool:
    """Whether it loses a write in one of some rounds."""
    if soak:
        contest = replace(contest, most_seconds=COMMON_FIX_SECONDS)
    return any(run(replace(contest, writes=contest.writes + number)).lost > 0 for number in range(MOST_ROUNDS))


@pytest.mark.parametrize("size", list(NAIVE))
def test_a_repair_that_reads_and_renames_loses_writes(run: Callable[[Contest], Result], soak: bool, size: str) -> None:
    assert is_caught(run, NAIVE[size], soak=soak)


def test_a_repair_that_looks_once_more_before_its_rename_loses_writes_as_well(
    run: Callable[[Contest], Result], soak: bool
) -> None:
    """Its window is microseconds, so it may take some rounds."""
    assert is_caught(run, VERIFY, soak=soak)


def test_a_look_once_more_before_the_rename_on_the_other_sizes_is_measured(
    run: Callable[[Contest], Result], soak: bool
) -> None:
    if not soak:
        pytest.skip("a race of the long form: make soak")
    for size in (MIDDLE, LARGE):
        contest = Contest(size, "verify_then_rename", 100_000, WITH_PAUSES[size], COMMON_FIX_SECONDS)
        assert run(contest).acked > 0
