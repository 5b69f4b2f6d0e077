"""What a real gateway wrote, looked at just after and long after: the verdict is the one that its story calls for.

The stories stand in recordings/2026.5.18/index.json.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from app.domain.model import Code, Gateway
from app.reconcile.scan import Scanner
from tests.world import (
    ABSENT,
    INDEX,
    RECORDINGS,
    STUCK,
    STUCK_KEY,
    UNKNOWN,
    World,
    attempts,
    finding_of,
    run_for,
    running_since,
)

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
AGES = {"just after": 2.0, "1 min": MINUTE, "10 min": 10 * MINUTE, "2 h": 2 * HOUR, "40 days": 40 * DAY}

IN_PROGRESS = {"abort-in-tool-running", "multi-turn-running-third", "success-running", "timeout-running"}
ORPHANED = {"sigterm-orphans"}
NOT_STARTED = {"provider-5xx-retrying", "two-agents-running"}


def story_calls_for(recording: str, age: float) -> Code:
    """By hand, from `what_happened` and the table of docs/reference/verdicts.md."""
    if recording == STUCK:  # an end with `error`: another attempt may follow for 120 s
        return Code.ENDING if age < 2 * MINUTE else Code.STUCK
    if recording in ORPHANED:
        return Code.ORPHANED
    if recording in IN_PROGRESS:
        return Code.WORKING if age < HOUR else Code.SILENT
    return Code.SETTLED


def last_moment(recording: str) -> int:
    """When the last thing happened that the recording tells of; for rows not started yet, their last write."""
    spoken = [r["last_event_ts"] for r in INDEX[recording]["rows"].values() if r["last_event_ts"]]
    if spoken:
        return max(round(datetime.fromisoformat(ts).timestamp() * 1000) for ts in spoken)
    stores = (RECORDINGS / recording).rglob("sessions.json")
    return max(row["updatedAt"] for store in stores for row in json.loads(store.read_bytes()).values())


def play(world: World, recording: str, age: float) -> int:
    """Copy `recording` so that it happened `age` seconds ago, the times of its files too; gives that moment."""
    moment = world.clock.now() - round(age * 1000)
    world.recording(recording, shift_ms=moment - last_moment(recording))
    for file in world.state.rglob("*"):
        os.utime(file, ns=(0, moment * 1_000_000))
    return moment


def files_of(state: Path) -> dict[str, str]:
    """By their digests: of large files that differ pytest would write out every byte, for minutes."""
    files = [file for file in state.rglob("*") if file.is_file()]
    return {str(file.relative_to(state)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def since_before(moment: int) -> Gateway:
    return running_since(moment - round(DAY * 1000))


def restarted(moment: int) -> Gateway:
    """Ten seconds later: a start that is closer than 5 s to the last sign is not told from it."""
    return running_since(moment + 10_000)


def gateways_of(recording: str, age: float) -> list[Callable[[int], Gateway]]:
    """The gateways that the story leaves possible."""
    if recording in ORPHANED:
        return [lambda _: ABSENT, *([restarted] if age > MINUTE / 2 else [])]
    return [since_before, lambda _: UNKNOWN]


def test_every_recording_is_told_of() -> None:
    assert {d.name for d in RECORDINGS.iterdir() if d.is_dir()} == set(INDEX)
    assert len(INDEX) == 18
    running = {name for name, story in INDEX.items() if any(r["status"] == "running" for r in story["rows"].values())}
    assert running == IN_PROGRESS | ORPHANED | {STUCK}
    started = {name for name, story in INDEX.items() if any(r["status"] for r in story["rows"].values())}
    assert set(INDEX) - started == NOT_STARTED


@pytest.mark.parametrize("age", AGES.values(), ids=AGES)
@pytest.mark.parametrize("recording", INDEX)
def test_the_verdict_is_the_one_that_the_story_calls_for(world: World, recording: str, age: float) -> None:
    moment = play(world, recording, age)
    before = files_of(world.state)

    for gateway_of in gateways_of(recording, age):
        world.gateway = gateway_of(moment)
        sight = Scanner(world.settings(), world.clock, world.env, lambda _: world.gateway).scan()

        assert [s.problem for s in sight.stores if s.problem] == sight.state_problems == []
        verdicts = {f.key: f.verdict.code for s in sight.stores for f in s.findings}
        assert verdicts == dict.fromkeys(INDEX[recording]["rows"], story_calls_for(recording, age))
    assert files_of(world.state) == before


def test_without_auto_repair_the_stuck_one_is_shown_and_not_written(world: World) -> None:
    play(world, STUCK, 2 * HOUR)
    before = files_of(world.state)
    reconciler = world.reconciler(auto_repair=False)

    report = run_for(reconciler, world.clock, 5 * HOUR, step=10 * MINUTE)

    assert (finding_of(report).verdict.code, finding_of(report).verdict.ripe) == (Code.STUCK, True)
    assert files_of(world.state) == before
    assert attempts(reconciler) == []


@pytest.mark.parametrize("recording", [name for name in INDEX if name != STUCK])
@pytest.mark.parametrize(
    "gateway_of",
    [since_before, restarted, lambda _: ABSENT, lambda _: UNKNOWN],
    ids=["alive", "restarted", "absent", "unknown"],
)
def test_whatever_is_known_of_the_gateway_no_other_recording_is_ever_written(
    world: World, recording: str, gateway_of: Callable[[int], Gateway]
) -> None:
    """Just after, then for two days and a half: every byte of the state dir stays, and no repair is even begun."""
    moment = play(world, recording, AGES["just after"])
    before = files_of(world.state)
    world.gateway = gateway_of(moment)
    reconciler = world.reconciler()

    run_for(reconciler, world.clock, 3 * MINUTE)
    run_for(reconciler, world.clock, 6 * HOUR, step=10 * MINUTE)
    report = run_for(reconciler, world.clock, 2 * DAY, step=6 * HOUR)

    assert files_of(world.state) == before
    assert attempts(reconciler) == []
    assert {f.verdict.code for f in report.findings()} <= {Code.SETTLED, Code.SILENT, Code.ORPHANED}


@pytest.mark.parametrize("age", AGES.values(), ids=AGES)
@pytest.mark.parametrize("gateway_of", [since_before, lambda _: ABSENT], ids=["alive", "absent"])
def test_the_stuck_one_is_settled_once_and_at_its_time(
    world: World, age: float, gateway_of: Callable[[int], Gateway]
) -> None:
    """The window counts from the end, and from when we began to watch: never earlier, and soon after both."""
    ended_at = play(world, STUCK, age)
    world.gateway = gateway_of(ended_at)
    window = 30.0 if world.gateway is ABSENT else 120.0
    before = files_of(world.state)
    reconciler = world.reconciler()
    wait = window - 1  # watched since now, and the end is older than that

    run_for(reconciler, world.clock, wait, step=1.0)
    assert files_of(world.state) == before
    run_for(reconciler, world.clock, 2.0, step=1.0)
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", ended_at)

    settled = files_of(world.state)
    assert {name for name in before if settled[name] != before[name]} == {"agents/main/sessions/sessions.json"}
    report = run_for(reconciler, world.clock, 5 * HOUR, step=10 * MINUTE)
    assert files_of(world.state) == settled
    assert [a.outcome for a in attempts(reconciler)] == ["applied"]
    assert finding_of(report, STUCK_KEY).verdict.code is Code.SETTLED
