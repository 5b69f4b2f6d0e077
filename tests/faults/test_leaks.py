"""What Clawmend leaves behind: no descriptor, no thread, nothing in the audit, whatever it meets and however often."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.audit.log import AuditLog
from app.audit.models import Outcome, Trigger
from app.clock import SystemClock
from app.reconcile.asking import Ask, NotStuck, StoreUnfit
from app.reconcile.service import Service
from tests.faults.crowd import Crowd
from tests.faults.meter import Held, audit_bytes
from tests.world import World, attempts, finding_of, run_for, run_pass

TOP = Path(__file__).resolve().parents[2]
PERSON = Ask(Trigger.CLI, "a test", "a test says so")


@pytest.fixture
def crowd(world: World) -> Crowd:
    return Crowd(world.state, world.clock.now())


def hostile(world: World, crowd: Crowd) -> Callable[[int], None]:
    """Folders and stores that cannot be used, beside one that can; gives what to do before each pass."""
    crowd.ended("main", "stuck", ago=60)
    crowd.at_work("main", "at-work", ago=10)
    crowd.settled("second", "settled")
    crowd.write()
    agents = world.state / "agents"
    for name in ("linked-store", "fifo", "folder", "empty", "half"):
        (agents / name / "sessions").mkdir(parents=True)
    (agents / "linked-folder").mkdir()
    (agents / "linked-folder" / "sessions").symlink_to(crowd.sessions("main"))
    (agents / "a-file").mkdir()
    (agents / "a-file" / "sessions").touch()
    world.store("linked-store").symlink_to(world.store("second"))
    os.mkfifo(world.store("fifo"))
    world.store("folder").mkdir()
    world.store("empty").touch()
    world.store("half").write_bytes(b'{"agent:half:a": {"sessionId')
    os.mkfifo(crowd.sessions("main") / "at-work.trajectory-path.json")
    (crowd.sessions("main") / "stuck.jsonl.lock").mkdir()
    second, away = world.store("second"), world.folder / "away"

    def before(number: int) -> None:
        """The second store vanishes and comes back; the first is written anew now and then."""
        if number % 4 == 0:
            second.rename(away)
        elif number % 4 == 1:
            away.rename(second)
        elif number % 4 == 2:
            os.utime(world.store())

    return before


def test_a_thousand_passes_leave_nothing_open_and_write_nothing(world: World, crowd: Crowd, soak: bool) -> None:
    before = hostile(world, crowd)
    reconciler = world.reconciler(SystemClock(), scan_interval_seconds=3_600, error_quiet_seconds=86_400)

    async def passes() -> tuple[Held, Held]:
        service = Service(reconciler)
        await service.start()
        held: list[Held] = []
        for count in (20, 20_000 if soak else 1_000):
            number = reconciler.report.number
            for turn in range(count):
                before(turn)
                await service.next_pass()
            assert reconciler.report.number - number >= count
            while any(thread.name == "pass" for thread in threading.enumerate()):
                await asyncio.sleep(0.01)  # it has answered, and is about to end
            held.append(Held.now())
        await service.stop()
        return held[0], held[1]

    size = audit_bytes(world.folder / "own" / "audit.db")
    held, after = asyncio.run(passes())
    assert after == held
    assert audit_bytes(world.folder / "own" / "audit.db") == size
    assert attempts(reconciler) == []
    assert {p.code for p in reconciler.report.problems()} == {"symlink", "not_a_file", "empty", "not_json"}


def test_hundreds_of_repairs_of_undos_and_of_refusals_leave_nothing_open(
    world: World, crowd: Crowd, soak: bool
) -> None:
    key = crowd.ended("main", "s", ago=7_200)
    crowd.write()
    reconciler = world.reconciler(auto_repair=False, store_quiet_seconds=0)
    finding = finding_of(run_pass(reconciler), key)
    second_name = world.folder / "second-name"
    away = world.folder / "away"

    def round_of_all() -> None:
        repair = reconciler.repairer.settle(finding, PERSON)
        assert repair.outcome == Outcome.APPLIED
        with pytest.raises(NotStuck):
            reconciler.repairer.settle(finding, PERSON)
        assert reconciler.repairer.undo(repair, PERSON).outcome == Outcome.APPLIED
        os.link(world.store(), second_name)
        assert reconciler.repairer.settle(finding, PERSON).outcome == Outcome.REFUSED
        second_name.unlink()
        world.sessions().rename(away)
        with pytest.raises(StoreUnfit):
            reconciler.repairer.settle(finding, PERSON)
        away.rename(world.sessions())

    for _ in range(3):
        round_of_all()
    held = Held.now()
    for _ in range(2_000 if soak else 100):
        round_of_all()
    assert Held.now() == held
    assert [file.name for file in world.sessions().iterdir() if file.name.startswith(".")] == []


def test_a_repair_that_is_refused_every_time_grows_the_audit_by_its_back_off_and_not_by_the_pass(
    world: World, crowd: Crowd
) -> None:
    crowd.ended("main", "s", ago=7_200)
    crowd.write()
    os.link(world.store(), world.folder / "second-name")
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 8 * 3_600, step=90)
    found = attempts(reconciler)
    assert {a.outcome for a in found} == {Outcome.REFUSED}
    assert 7 < len(found) <= 7 + 8, "after 30 s, twice as long each time, then once an hour"


KILLED_WHILE_IT_MAKES_THE_AUDIT = """
import os, sys
from sqlalchemy import Engine, event
from app.audit.log import AuditLog

@event.listens_for(Engine, "before_cursor_execute")
def die(_connection, _cursor, statement, *_):
    if statement.strip().startswith(sys.argv[2]):
        os._exit(9)

AuditLog(sys.argv[1]).migrate()
"""


@pytest.mark.parametrize("step", ["CREATE TABLE alembic_version", "CREATE INDEX", "INSERT INTO alembic_version"])
def test_half_an_audit_database_is_never_left_behind(tmp_path: Path, step: str) -> None:
    """Killed at the first start of all; DDL is not in a transaction by itself."""
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_MAKES_THE_AUDIT, url, step], cwd=TOP, check=False)
    assert killed.returncode == 9
    audit = AuditLog(url)
    audit.migrate()
    assert audit.page(1) == ([], None)
    audit.dispose()
