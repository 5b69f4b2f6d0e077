"""Two Clawmends, or two hands of one, brought to the very instant in which they could hurt each other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.api.auth import load_or_make_token
from app.audit.models import Trigger
from app.clock import SystemClock
from app.domain.model import Code
from app.openclaw.folder import Folder
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import Ask, CannotUndo, NotStuck
from tests.faults.crowd import Crowd
from tests.faults.services import PATIENCE, at_once, until
from tests.integration.test_recovery import before_the_exchange, killed
from tests.world import STUCK_KEY, World, attempts, finding_of, run_for, run_pass

PERSON = Ask(Trigger.API, "a test", "a test says so")


def just_before(patch: pytest.MonkeyPatch, module: Any, call: str, when: Callable[..., bool], then: Any) -> None:
    """Run `then` when a system call is about to be made, the first time that it is one of those meant."""
    real, waiting = getattr(module, call), [then]

    def called(*args: Any, **named: Any) -> Any:
        if waiting and when(*args):
            waiting.pop()()
        return real(*args, **named)

    patch.setattr(module, call, called)


def just_after(patch: pytest.MonkeyPatch, module: Any, call: str, when: Callable[..., bool], then: Any) -> None:
    real, waiting = getattr(module, call), [then]

    def called(*args: Any, **named: Any) -> Any:
        result = real(*args, **named)
        if waiting and when(*args):
            waiting.pop()()
        return result

    patch.setattr(module, call, called)


def locks(_: int, how: int) -> bool:
    return bool(how & fcntl.LOCK_EX)


def unlocks(_: int, how: int) -> bool:
    return bool(how & fcntl.LOCK_UN)


def an_audit_of_its_own(world: World) -> dict[str, str]:
    return {"database_url": f"sqlite:///{world.folder / 'other' / 'audit.db'}"}


def test_while_one_is_at_a_store_another_neither_writes_nor_waits_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    one, other = world.reconciler(auto_repair=False), world.reconciler(auto_repair=False, **an_audit_of_its_own(world))
    found = [finding_of(run_pass(each)) for each in (one, other)]
    told: list[str] = []

    def meanwhile() -> None:
        with pytest.raises(StoreBusy) as busy:
            other.repairer.settle(found[1], PERSON)
        told.append(str(busy.value))

    just_before(monkeypatch, os, "fsync", lambda _: True, meanwhile)
    assert one.repairer.settle(found[0], PERSON).outcome == "applied"
    assert told == ["another Clawmend is writing to this store"]
    with pytest.raises(NotStuck):
        other.repairer.settle(found[1], PERSON)
    assert attempts(other) == []


def test_a_repair_that_is_under_way_is_left_alone_by_the_pass_of_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    one, other = world.reconciler(), world.reconciler()
    run_for(one, world.clock, 115, step=23)
    just_before(monkeypatch, os, "fsync", lambda _: True, lambda: run_pass(other))
    run_for(one, world.clock, 10)
    (attempt,) = attempts(one)
    assert (attempt.outcome, world.row()["status"]) == ("applied", "failed")


def test_a_pass_of_another_that_meets_ours_held_shut_waits_and_reads_the_settled_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    one, other = world.reconciler(auto_repair=False), world.reconciler(auto_repair=False, **an_audit_of_its_own(world))
    found = finding_of(run_pass(one))
    call, passes = fcntl.fcntl, []

    def waits_first(fd: int, what: int, *arguments: int) -> int:
        if (what, arguments) == (fcntl.F_SETLEASE, (fcntl.F_UNLCK,)) and not passes:
            passes.append(pool.submit(run_pass, other))
            until(lambda: call(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK, "the pass has come to the store")
        return call(fd, what, *arguments)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(fcntl, "fcntl", waits_first)
        assert one.repairer.settle(found, PERSON).outcome == "applied"
        report = passes[0].result(PATIENCE)
    assert report.problems() == []
    assert finding_of(report).verdict.code is Code.SETTLED


def test_a_store_that_another_is_at_holds_a_pass_up_once_and_not_for_each_of_its_sessions(world: World) -> None:
    crowd = Crowd(world.state, world.clock.now())
    for number in range(20):
        crowd.ended("main", f"s-{number}", ago=3_600)
    crowd.write()
    reconciler = world.reconciler()
    run_pass(reconciler)
    world.clock.advance(1_300)
    began = world.clock.monotonic()
    with Folder(str(world.sessions())) as folder:
        fcntl.flock(folder.fd, fcntl.LOCK_EX)
        run_pass(reconciler)
    assert world.clock.monotonic() - began < 5
    run_for(reconciler, world.clock, 60)
    assert {row["status"] for row in world.rows().values()} == {"failed"}


def comes_in_between(patch: pytest.MonkeyPatch, when: str, then: Callable[[], Any]) -> None:
    """The other one is there when the first is about to lock the folder, or the moment that it has unlocked it."""
    if when == "before the lock":
        just_before(patch, fcntl, "flock", locks, then)
    else:
        just_after(patch, fcntl, "flock", unlocks, then)


@pytest.mark.parametrize("when", ["before the lock", "after the lock"])
def test_each_look_is_taken_by_one_of_two(world: World, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    world.stuck()
    one, other = world.reconciler(), world.reconciler()
    run_for(one, world.clock, 120)
    assert [len(a.looks) for a in attempts(one)] == [0]
    world.clock.advance(1)
    comes_in_between(monkeypatch, when, lambda: run_pass(other))
    run_pass(one)
    assert [len(a.looks) for a in attempts(one)] == [1]


@pytest.mark.parametrize("when", ["before the lock", "after the lock"])
def test_what_a_crash_left_open_is_resolved_by_one_of_two(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    with monkeypatch.context() as patch:
        killed(world, before_the_exchange, patch)
    one, other = world.reconciler(auto_repair=False), world.reconciler(auto_repair=False)
    comes_in_between(monkeypatch, when, lambda: run_pass(other))
    run_pass(one)
    assert [r.message for r in caplog.records if "found open" in r.message] == [
        "1 repair attempts were found open and resolved from the disk"
    ]


def test_an_undo_that_waited_while_another_undid_and_a_person_settled_again_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    one, other = world.reconciler(auto_repair=False), world.reconciler(auto_repair=False)
    found = finding_of(run_pass(one))
    first = one.repairer.settle(found, PERSON)

    def meanwhile() -> None:
        other.repairer.undo(first, PERSON)
        other.repairer.settle(found, PERSON)

    just_before(monkeypatch, fcntl, "flock", locks, meanwhile)
    with pytest.raises(CannotUndo):
        one.repairer.undo(first, PERSON)
    assert ([a.kind for a in attempts(one)], world.row()["status"]) == (["settle", "undo", "settle"], "failed")


def test_two_that_make_the_token_at_once_have_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    made: list[tuple[str, bool]] = []

    def meanwhile() -> None:
        made.append(load_or_make_token(path))

    just_after(monkeypatch, os, "open", lambda _, flags, *__: bool(flags & os.O_EXCL), meanwhile)
    made.append(load_or_make_token(path))
    assert len({token for token, _ in made}) == 1
    assert [name.name for name in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize("undo", [False, True], ids=["settle", "undo"])
def test_of_many_threads_on_one_session_one_does_it_and_the_others_are_told(world: World, *, undo: bool) -> None:
    world.stuck()
    reconciler = world.reconciler(SystemClock(), auto_repair=False, store_quiet_seconds=0)
    found = finding_of(run_pass(reconciler))
    repairer = reconciler.repairer
    if undo:
        first = repairer.settle(found, PERSON)
        answers = at_once(*[lambda: repairer.undo(first, PERSON)] * 8)
    else:
        answers = at_once(*[lambda: repairer.settle(found, PERSON)] * 8, lambda: run_pass(reconciler))[:8]
    done = [a.outcome for a in answers if not isinstance(a, Exception)]
    told = [type(a) for a in answers if isinstance(a, Exception)]
    assert (done, told) == (["applied"], [CannotUndo if undo else NotStuck] * 7)
    assert len(attempts(reconciler)) == 1 + undo
    assert world.row()["status"] == ("running" if undo else "failed")


def test_threads_on_sessions_of_one_store_settle_each_of_them(world: World) -> None:
    crowd = Crowd(world.state, world.clock.now())
    keys = [crowd.ended("main", f"s-{number}", ago=3_600) for number in range(8)]
    crowd.write()
    reconciler = world.reconciler(SystemClock(), auto_repair=False, store_quiet_seconds=0)
    report = run_pass(reconciler)
    answers = at_once(*[lambda key=key: reconciler.repairer.settle(finding_of(report, key), PERSON) for key in keys])
    assert [getattr(a, "outcome", a) for a in answers] == ["applied"] * len(keys)
    assert {world.row(key)["status"] for key in keys} == {"failed"}
    assert STUCK_KEY not in world.rows()
