"""Killed at every step: the next pass finds out from the disk what became of the attempt, and tidies up."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt
from app.openclaw import swap
from app.openclaw.folder import Folder
from tests.integration.test_publish import before_each_exchange, fail
from tests.world import STUCK_KEY, World, attempts, run_for, run_pass

OTHER = "agent:main:other"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(patch: pytest.MonkeyPatch, call: str, when: Callable[..., bool]) -> None:
    real = getattr(os, call)

    def dying(*args: Any, **named: Any) -> Any:
        if when(*args):
            die()
        return real(*args, **named)

    patch.setattr(os, call, dying)


def ours(name: object, *_: object) -> bool:
    return isinstance(name, str) and name.startswith(".clawmend-")


def before_the_temp(patch: pytest.MonkeyPatch, _: World) -> None:
    die_before(patch, "open", ours)


def in_the_middle_of_the_temp(patch: pytest.MonkeyPatch, _: World) -> None:
    real = os.write

    def dying(fd: int, data: memoryview) -> int:
        real(fd, data[: len(data) // 2])
        die()
        return 0

    patch.setattr(os, "write", dying)


def before_the_exchange(patch: pytest.MonkeyPatch, _: World) -> None:
    before_each_exchange(patch, die)


def after_the_exchange(patch: pytest.MonkeyPatch, _: World) -> None:
    real = swap.exchange

    def dying(folder: Folder, one: str, other: str) -> None:
        real(folder, one, other)
        die()

    patch.setattr(swap, "exchange", dying)


def before_the_unlink(patch: pytest.MonkeyPatch, _: World) -> None:
    die_before(patch, "unlink", ours)


def after_the_unlink(patch: pytest.MonkeyPatch, _: World) -> None:
    real = os.unlink

    def dying(name: str, *, dir_fd: int | None = None) -> None:
        real(name, dir_fd=dir_fd)
        if ours(name):
            die()

    patch.setattr(os, "unlink", dying)


def gateway_write(world: World, **fields: object) -> None:
    rows = world.rows()
    rows.setdefault(OTHER, {"sessionId": "o"}).update(fields)
    world.write_store(json.dumps(rows, indent=2, ensure_ascii=False).encode())


def before_the_put_back(patch: pytest.MonkeyPatch, world: World) -> None:
    before_each_exchange(patch, lambda: gateway_write(world, first=1), die)


def after_the_put_back(patch: pytest.MonkeyPatch, world: World) -> None:
    real, count = swap.exchange, 0

    def dying(folder: Folder, one: str, other: str) -> None:
        nonlocal count
        count += 1
        if count == 1:
            gateway_write(world, first=1)
        real(folder, one, other)
        if count == 2:
            die()

    patch.setattr(swap, "exchange", dying)


def when_ours_says_it_with_spaces_at_its_end(patch: pytest.MonkeyPatch, world: World) -> None:
    before_each_exchange(patch, lambda: gateway_write(world, first=1))
    die_before(patch, "ftruncate", lambda *_: True)


def when_ours_says_it(patch: pytest.MonkeyPatch, world: World) -> None:
    before_each_exchange(patch, lambda: gateway_write(world, first=1))
    die_before(patch, "unlink", ours)


def before_ours_says_it(patch: pytest.MonkeyPatch, world: World) -> None:
    before_each_exchange(patch, lambda: gateway_write(world, first=1))
    die_before(patch, "posix_fallocate", lambda *_: True)


Stage = Callable[[pytest.MonkeyPatch, World], None]


def killed(world: World, stage: Stage, patch: pytest.MonkeyPatch) -> bytes:
    """A Clawmend in a process of its own is killed while it settles; gives the store as it was before."""
    world.stuck()
    before = world.store().read_bytes()
    pid = os.fork()
    if pid == 0:
        try:
            reconciler = world.reconciler()
            run_for(reconciler, world.clock, 115, step=23)
            stage(patch, world)
            run_for(reconciler, world.clock, 30)
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it was killed in the middle"
    world.clock.advance(150)
    return before


def found_again(world: World) -> Attempt:
    reconciler = world.reconciler()
    run_pass(reconciler)
    (attempt,) = attempts(reconciler)
    return attempt


def files(world: World) -> list[str]:
    return sorted(p.name for p in world.sessions().iterdir() if p.name.startswith((".clawmend", "sessions.json")))


def test_killed_before_anything_of_ours_was_there_the_audit_does_not_guess(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks the same when ours was live, everything was tidied up, and the gateway has put the row back."""
    before = killed(world, before_the_temp, monkeypatch)
    attempt = found_again(world)
    assert (attempt.outcome, "does not tell" in (attempt.outcome_reason or "")) == ("unknown", True)
    assert (world.store().read_bytes(), files(world)) == (before, ["sessions.json"])


@pytest.mark.parametrize("stage", [in_the_middle_of_the_temp, before_the_exchange])
def test_killed_before_the_exchange_the_old_store_stands_and_the_attempt_is_refused(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = killed(world, stage, monkeypatch)
    assert world.store().read_bytes() == before
    attempt = found_again(world)
    assert (attempt.outcome, "nothing was written" in (attempt.outcome_reason or "")) == ("refused", True)
    assert (world.store().read_bytes(), files(world)) == (before, ["sessions.json"])


@pytest.mark.parametrize("stage", [after_the_exchange, before_the_unlink, after_the_unlink])
def test_killed_after_the_exchange_the_new_store_stands_and_the_attempt_is_applied(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = killed(world, stage, monkeypatch)
    new = world.store().read_bytes()
    assert new != before
    attempt = found_again(world)
    assert attempt.outcome == "applied"
    assert (world.store().read_bytes(), files(world)) == (new, ["sessions.json"])
    assert {n: world.row()[n] for n in attempt.after if n in world.row()} == {
        n: v for n, v in attempt.after.items() if v is not None
    }


@pytest.mark.parametrize("stage", [before_the_put_back, after_the_put_back])
def test_killed_in_a_crossing_the_gateways_version_is_live_afterwards(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(world, stage, monkeypatch)
    attempt = found_again(world)
    assert (world.row()["status"], world.row(OTHER)) == ("running", {"sessionId": "o", "first": 1})
    assert (attempt.outcome, files(world)) == ("refused", ["sessions.json"])


def test_a_gateway_that_wrote_on_ours_after_the_kill_keeps_its_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(world, before_the_put_back, monkeypatch)
    gateway_write(world, second=2)
    live = world.store().read_bytes()
    attempt = found_again(world)
    assert world.store().read_bytes() == live
    there = [json.loads((world.sessions() / name).read_bytes()).get(OTHER, {}) for name in files(world)]
    assert {"first", "second"} <= {field for row in there for field in row}
    assert attempt.outcome == "unknown"


@pytest.mark.parametrize("stage", [when_ours_says_it_with_spaces_at_its_end, when_ours_says_it])
@pytest.mark.parametrize("goes_on", ["at once", "not"])
def test_killed_when_ours_says_what_the_gateway_wrote_nothing_is_left_for_a_person(
    world: World, stage: Stage, goes_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for ours has read the gateway's own version, so what it then writes is built on that."""
    killed(world, stage, monkeypatch)
    if goes_on == "at once":
        gateway_write(world, second=2)
    live = world.store().read_bytes()
    assert (found_again(world).outcome, files(world)) == ("refused", ["sessions.json"])
    assert world.store().read_bytes() == live


def test_killed_when_ours_says_a_later_version_than_crossed_it_what_crossed_is_not_kept_beside_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(patch: pytest.MonkeyPatch, world: World) -> None:
        when_ours_says_it_with_spaces_at_its_end(patch, world)
        real = os.rename

        def rename(*names: Any, **folders: Any) -> None:
            real(*names, **folders)
            if ours(*names):
                gateway_write(world, second=2)

        patch.setattr(os, "rename", rename)

    killed(world, twice, monkeypatch)
    assert (found_again(world).outcome, files(world)) == ("refused", ["sessions.json"])
    assert world.row(OTHER) == {"sessionId": "o", "first": 1, "second": 2}


@pytest.mark.parametrize("changes", [True, False], ids=["and changes it", "and changes nothing"])
def test_killed_before_ours_says_it_and_a_gateway_that_waited_writes_ours_what_crossed_is_kept_and_named(
    world: World, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(world, before_ours_says_it, monkeypatch)
    crossed = world.store().read_bytes()
    (back,) = world.sessions().glob(".clawmend-*.tmp.back")
    (kept,) = world.sessions().glob(".clawmend-*.tmp.kept")
    world.write_store(back.read_bytes())
    if changes:
        gateway_write(world, second=2)
    live = world.store().read_bytes()
    attempt = found_again(world)
    world.clock.advance(3_600)
    after = found_again(world)
    assert (world.store().read_bytes(), kept.read_bytes(), files(world)) == (
        live,
        crossed,
        [kept.name, "sessions.json"],
    )
    for each in (attempt, after):
        assert (each.outcome, kept.name in (each.outcome_reason or "")) == ("unknown", True)


def test_a_version_that_was_put_back_and_came_to_lie_twice_is_kept_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(world, before_the_put_back, monkeypatch)
    (temp,) = world.sessions().glob(".clawmend-*.tmp")
    assert temp.with_name(f"{temp.name}.kept").exists()
    gateway_write(world, second=2)
    found_again(world)
    assert files(world) == [temp.name, "sessions.json"]


@pytest.mark.parametrize("stage", [before_the_exchange, before_the_unlink, after_the_put_back])
def test_an_outcome_that_cannot_be_written_down_is_found_out_again_by_the_next_start(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells it is there until it is written."""
    before = killed(world, stage, monkeypatch)
    there = files(world)
    if stage is before_the_unlink:
        world.write_store(before)  # so that only what lies beside tells that ours was live
        gateway_write(world, second=2)

    def no_room(*_: object, **__: object) -> None:
        raise AuditUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "change", no_room)
        run_pass(world.reconciler())
    assert len(there) >= 2
    assert files(world) == there
    assert found_again(world).outcome == ("overwritten" if stage is before_the_unlink else "refused")
    assert files(world) == ["sessions.json"]


def test_a_write_that_replaced_ours_after_the_kill_is_not_called_nothing_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = killed(world, after_the_exchange, monkeypatch)
    world.write_store(before)
    attempt = found_again(world)
    assert (attempt.outcome, files(world)) == ("overwritten", ["sessions.json"])


@pytest.mark.parametrize("left", [0, 0.5], ids=["nothing", "half"])
def test_a_version_that_a_power_cut_tore_never_takes_the_place_of_the_store(
    world: World, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway syncs nothing: of the version that we displaced, only a part may have reached the disk."""
    before = killed(world, after_the_exchange, monkeypatch)
    live = world.store().read_bytes()
    (torn,) = world.sessions().glob(".clawmend-*.tmp")
    torn.write_bytes(before[: round(len(before) * left)])
    attempt = found_again(world)
    run_for(world.reconciler(), world.clock, 90)
    assert world.store().read_bytes() == live
    assert (torn.exists(), attempt.outcome) == ((True, "unknown") if left else (False, "applied"))


def test_the_running_attempt_of_another_process_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stuck()
    before = world.store().read_bytes()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:

            def wait() -> None:
                os.write(tell, b"!")
                signal.pause()

            reconciler = world.reconciler()
            run_for(reconciler, world.clock, 115, step=23)
            before_each_exchange(monkeypatch, wait)
            run_for(reconciler, world.clock, 30)
        finally:
            os._exit(3)
    assert os.read(told, 1) == b"!"
    try:
        world.clock.advance(150)
        there = files(world)
        attempt = found_again(world)
        assert (attempt.outcome, attempt.looks, files(world)) == (None, [], there)
        assert len(there) == 2
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert found_again(world).outcome == "refused"
    assert (world.store().read_bytes(), files(world)) == (before, ["sessions.json"])


def test_a_folder_that_turned_read_only_does_not_stop_the_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(world, before_the_exchange, monkeypatch)
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EROFS, ours)
        assert found_again(world).outcome is not None
    run_for(world.reconciler(), world.clock, 90)
    assert files(world) == ["sessions.json"]


def test_an_attempt_whose_store_is_gone_says_so_and_brings_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(world, before_the_exchange, monkeypatch)
    world.store().unlink()
    attempt = found_again(world)
    assert (attempt.outcome, "gone" in (attempt.outcome_reason or "")) == ("superseded", True)
    assert STUCK_KEY not in json.dumps(files(world))
    assert not world.store().exists()
