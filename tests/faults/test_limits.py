"""What Clawmend may cost, whatever it looks at: memory, and bytes that are read.

Memory and bytes are no timings: a claim that does not hold fails here. Each stands in docs/explanation/safety.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from app.audit.models import Outcome, Trigger
from app.clock import SystemClock
from app.domain.model import Code
from app.reconcile.asking import Ask
from tests.faults.crowd import FULL, Crowd, write_store
from tests.faults.meter import MIB, Meter
from tests.faults.services import clawmends, until
from tests.world import World, attempts, finding_of, run_for, run_pass

AT_REST = 100 * 10**6
"""Bytes of memory of a service that has nothing to look at. Measured: 84 MB."""
OF_A_STORE = 1.4
"""How often a store stands in memory while it is read. Measured: 1.05 (its bytes); with rows of 1 MB 1.25."""
OF_A_STORE_REPAIRED = 6.0
"""The same while one of its rows is settled. Measured: 4.9."""
OF_A_ROW = 2_000
"""Bytes that stay in memory for each row. Measured: 800 for a settled one, 1,500 for one that runs."""
OF_A_TAIL = 8 << 10
"""Bytes read of a trajectory without an end, and of what lies beside it. Measured: 4,096."""
OF_A_LINE = 3 * MIB
"""Bytes read of a trajectory with a line that is too long, however long. Measured: 1.4 MB."""
PERSON = Ask(Trigger.CLI, "a test", "a test says so")


@pytest.fixture
def crowd(world: World) -> Crowd:
    return Crowd(world.state, world.clock.now())


# Memory


def test_a_store_of_80_mb_stands_in_memory_once_while_it_is_read_and_not_at_all_afterwards(tmp_path: Path) -> None:
    aside = Crowd(tmp_path / "aside", SystemClock().now())
    rows = 650
    for number in range(rows - 1):
        aside.settled("main", f"s-{number}", weight=120_000)
    key = aside.ended("main", "stuck", ago=3_600, weight=120_000)
    aside.write()
    size = aside.store("main").stat().st_size
    assert size > 78 * 10**6
    state = tmp_path / "openclaw"
    (state / "agents").mkdir(parents=True)
    settings = {
        "CLAWMEND_GATEWAY": "off",
        "CLAWMEND_STATE_DIR": str(state),
        "CLAWMEND_DATABASE_URL": f"sqlite:///{tmp_path}/audit.db",
        "CLAWMEND_AUTO_REPAIR": "false",
    }
    with clawmends(tmp_path, settings) as (service,):
        meter = Meter(service.process.pid)
        at_rest = meter.resident
        assert at_rest < AT_REST
        meter.forget_the_peak()
        shutil.move(aside.state / "agents" / "main", state / "agents" / "main")
        until(lambda: service.verdicts([key]) == {"stuck"}, "the store is read")
        assert meter.peak - at_rest < OF_A_STORE * size + OF_A_ROW * rows
        assert meter.resident - at_rest < size / 2

        meter.forget_the_peak()
        assert service.http.post(f"/sessions/{key}/repair").json()["outcome"] == "applied"
        assert meter.peak - at_rest < OF_A_STORE_REPAIRED * size + OF_A_ROW * rows


def test_white_space_around_a_store_costs_no_further_copy_of_it(world: World, crowd: Crowd) -> None:
    for number in range(40):
        crowd.settled("main", f"s-{number}", weight=MIB)
    crowd.write()
    data = b" \n" + world.store().read_bytes() + b"\n "
    world.write_store(data)
    reconciler, meter = world.reconciler(), Meter()
    before = meter.resident
    meter.forget_the_peak()
    run_pass(reconciler)
    assert meter.peak - before < OF_A_STORE * len(data)


def test_10_000_sessions_of_50_agents_are_judged_rightly_and_read_once(world: World, crowd: Crowd) -> None:
    """200 of them run: a quarter each is stuck, at work, silent, and at the end of its recorder's room."""
    content = crowd.recorder_stopped(world.folder)
    wanted = {Code.SETTLED: 9_800}
    for agent in (f"agent-{number:02d}" for number in range(50)):
        crowd.ended(agent, "stuck", ago=7_200)
        crowd.at_work(agent, "at-work", ago=10)
        crowd.at_work(agent, "silent", ago=7_200)
        crowd.full(agent, "full", content)
        for number in range(196):
            crowd.settled(agent, f"s-{number}")
    wanted |= dict.fromkeys((Code.STUCK, Code.WORKING, Code.SILENT, Code.UNPROVABLE), 50)
    crowd.write()
    stores = [file.stat().st_size for file in world.state.rglob("sessions.json")]
    reconciler, meter = world.reconciler(), Meter()
    before, read_before = meter.resident, meter.bytes_read
    meter.forget_the_peak()

    report = run_pass(reconciler)

    assert meter.bytes_read - read_before < sum(stores) + 200 * OF_A_TAIL
    assert meter.peak - before < OF_A_STORE * max(stores) + 10_000 * OF_A_ROW
    assert Counter(finding.verdict.code for finding in report.findings()) == wanted
    read_before = meter.bytes_read
    run_pass(reconciler)
    assert meter.bytes_read - read_before < 100_000, "where nothing has changed, nothing is read"


# Trajectories


def test_of_full_trajectories_only_the_tails_are_read(world: World, crowd: Crowd, soak: bool) -> None:
    """Every name leads to the same 10 MiB: what counts is how much of them is asked for."""
    content = crowd.recorder_stopped(world.folder)
    count = 1_000
    for number in range(count):
        crowd.full("main", f"s-{number}", content)
    crowd.write()
    reconciler, meter = world.reconciler(), Meter()
    before, read_before = meter.resident, meter.bytes_read
    meter.forget_the_peak()
    report = run_pass(reconciler)
    assert {f.verdict.code for f in report.findings()} == {Code.UNPROVABLE}
    assert meter.bytes_read - read_before < crowd.store("main").stat().st_size + count * OF_A_TAIL
    assert meter.peak - before < OF_A_STORE * crowd.store("main").stat().st_size + count * 10 * OF_A_ROW


def test_behind_an_end_a_full_trajectory_is_read_back_by_an_hour_and_once(
    world: World, crowd: Crowd, soak: bool
) -> None:
    """Each has 10 MiB of its own, the last hour of them a tenth."""
    body = crowd.turns(FULL, first_ago=10 * 3_600, last_ago=10)
    count = 1_000 if soak else 10
    for number in range(count):
        crowd.ended("main", f"s-{number}", ago=5, before=body)
    crowd.write()
    reconciler, meter = world.reconciler(), Meter()
    before, read_before = meter.resident, meter.bytes_read
    meter.forget_the_peak()
    run_pass(reconciler)
    read = (meter.bytes_read - read_before - crowd.store("main").stat().st_size) / count
    assert FULL * 0.09 < read < FULL * 0.12
    assert meter.peak - before < 8 * MIB + count * 10 * OF_A_ROW
    read_before = meter.bytes_read
    run_pass(reconciler)
    assert meter.bytes_read - read_before < 10_000
    shutil.rmtree(world.state)  # 10 GB in the long form, which pytest would keep


@pytest.mark.parametrize("where", ["at the end", "before the end"])
def test_of_a_line_of_50_mb_a_bounded_part_is_read(world: World, crowd: Crowd, where: str) -> None:
    line = b'{"traceSchema":"openclaw-trajectory","type":"x","data":"' + b"x" * 50_000_000 + b'"}\n'
    key = crowd.ended("main", "s", ago=7_200, before=line if where == "before the end" else b"")
    crowd.write()
    if where == "at the end":
        with crowd.trajectory("main", "s").open("ab") as file:
            file.write(line)
    reconciler, meter = world.reconciler(), Meter()
    before, read_before = meter.resident, meter.bytes_read
    meter.forget_the_peak()
    verdict = finding_of(run_pass(reconciler), key).verdict
    word = "full" if where == "before the end" else "longer than any event"
    assert (verdict.code, word in verdict.reason) == (Code.UNPROVABLE, True)
    assert meter.bytes_read - read_before < OF_A_LINE
    assert meter.peak - before < 4 * OF_A_LINE


# Hostile sizes


def test_a_store_beyond_the_limit_is_not_read_and_the_others_are_judged(world: World, crowd: Crowd) -> None:
    key = crowd.ended("main", "s", ago=7_200)
    crowd.write()
    huge = world.store("huge")
    huge.parent.mkdir(parents=True)
    huge.touch()
    os.truncate(huge, (512 << 20) + 1)
    reconciler, meter = world.reconciler(), Meter()
    read_before = meter.bytes_read
    report = run_pass(reconciler)
    assert [p.code for p in report.problems()] == ["too_large"]
    assert finding_of(report, key).verdict.code is Code.STUCK
    assert meter.bytes_read - read_before < 1 * MIB


def test_one_row_of_100_000_is_settled_and_the_others_stay_to_the_byte(world: World, crowd: Crowd, soak: bool) -> None:
    count = 100_000 if soak else 20_000
    key = crowd.ended("main", "s", ago=7_200)
    crowd.write()
    rest = (f'"agent:main:{n}": {{"sessionId": "s-{n}", "status": "done"}}' for n in range(count))
    own = crowd.store("main").read_text().removeprefix("{").removesuffix("}")
    write_store(crowd.store("main"), [own.strip(), *rest])
    before = hashlib.sha256(crowd.store("main").read_bytes()).digest()
    reconciler, meter = world.reconciler(auto_repair=False, store_quiet_seconds=0), Meter()
    resident = meter.resident
    report = run_pass(reconciler)
    assert meter.resident - resident < (count + 1) * OF_A_ROW
    attempt = reconciler.repairer.settle(finding_of(report, key), PERSON)
    assert attempt.outcome == Outcome.APPLIED
    reconciler.repairer.undo(attempt, PERSON)
    assert hashlib.sha256(crowd.store("main").read_bytes()).digest() == before


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (10_000, "{number:08x}-0000-4000-8000-000000000000.trajectory.jsonl"),
        (5_000, ".clawmend-{number:08x}-0000-7000-8000-000000000000.tmp"),
        (5_000, ".clawmend-{number:08x}-0000-7000-8000-000000000000.tmp.kept"),
        (5_000, ".fs-safe-replace.{number}.tmp"),
    ],
)
def test_in_a_folder_of_thousands_of_files_a_session_is_settled_and_none_of_them_is_touched(
    world: World, crowd: Crowd, soak: bool, count: int, name: str
) -> None:
    key = crowd.ended("main", "s", ago=7_200)
    crowd.write()
    folder = world.sessions()
    for number in range(count if soak else count // 5):
        (folder / name.format(number=number)).write_bytes(b"%d" % number)
    there = others(crowd)
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.clock.advance(1_300)
    run_for(reconciler, world.clock, 90, step=30)
    assert world.row(key)["status"] == "failed"
    assert [(a.outcome, len(a.looks)) for a in attempts(reconciler)] == [(Outcome.APPLIED, 3)]
    assert others(crowd) == there


def others(crowd: Crowd) -> dict[str, tuple[int, ...]]:
    """Every file beside the store of main, as it was last written."""
    found = {file.name: file.stat() for file in crowd.sessions("main").iterdir() if file != crowd.store("main")}
    return {name: (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) for name, st in found.items()}
