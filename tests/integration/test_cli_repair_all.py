"""`clawmend repair --all`: many sessions by one command, each proven by itself."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import FAILED, add_row
from tests.command import Clawmend, one_line
from tests.world import World, attempts, tree_unchanged

OLDER, YOUNGER, CHILD, AT_WORK = "agent:main:a", "agent:main:b", "agent:main:subagent:c", "agent:main:d"


@pytest.fixture
def three_stuck(world: World) -> World:
    """An older one, a younger one, and a subagent's; beside them a session at work."""
    for key, ago in ((OLDER, 900), (YOUNGER, 800), (CHILD, 700)):
        add_row(world, key, key[-1], started_ago=1_000, events=(("session.ended", ago, FAILED),))
    add_row(world, AT_WORK, "d", started_ago=10, events=(("prompt.submitted", 5, {}),))
    return world


def statuses(world: World) -> dict[str, str]:
    return {key: row["status"] for key, row in world.rows().items()}


def test_it_says_what_it_would_do_and_writes_nothing_until_told_to(three_stuck: World, run: Clawmend) -> None:
    with tree_unchanged(three_stuck.state):
        done = run("repair", "--all")
    assert done.returncode == 1
    older, younger, left_out, total, hint = done.stdout.splitlines()
    assert older.startswith(f"would settle {OLDER}: status running -> ")
    assert younger.startswith(f"would settle {YOUNGER}: ")
    assert left_out.startswith(f"left out: {CHILD}: a subagent's row")
    assert total == "2 of 2 would be settled, 0 more match"
    assert "--apply" in hint


def test_with_apply_it_settles_what_is_proven_and_nothing_else(three_stuck: World, run: Clawmend) -> None:
    done = run("repair", "--all", "--apply", "--reason", "the morning after")
    assert done.returncode == 0, done.stderr
    assert statuses(three_stuck) == {OLDER: "failed", YOUNGER: "failed", CHILD: "running", AT_WORK: "running"}
    made = attempts(three_stuck.reconciler())
    assert [(a.session_key, a.outcome, a.trigger, a.reason) for a in made] == [
        (OLDER, "applied", "cli", "the morning after"),
        (YOUNGER, "applied", "cli", "the morning after"),
    ]


def test_max_takes_the_oldest_and_says_how_many_more_match(three_stuck: World, run: Clawmend) -> None:
    done = run("repair", "--all", "--apply", "--max", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert statuses(three_stuck)[OLDER] == "failed"
    assert statuses(three_stuck)[YOUNGER] == "running"
    said = json.loads(done.stdout)
    assert [item["session_key"] for item in said["items"]] == [OLDER]
    assert said["more"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--all", OLDER),
        ("--all", "--force", "done"),
        ("--verdict", "stuck", OLDER),
        ("--max", "3", OLDER),
        (),
        ("--all", "--verdict", "silent"),
        ("--all", "--max", "0"),
    ],
)
def test_what_does_not_go_together_is_2_and_one_line(three_stuck: World, run: Clawmend, words: tuple[str, ...]) -> None:
    with tree_unchanged(three_stuck.state):
        assert one_line(run("repair", "--apply", *words))
