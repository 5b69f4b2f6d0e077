"""Sessions of one store that fall due together: one publishing, and for each an attempt that tells the truth of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt, Trigger
from app.domain.model import Gateway, Liveness, Row
from app.domain.splice import splice
from app.openclaw.paths import StateDir, StoreTarget
from app.reconcile.asking import Ask
from app.reconcile.hands import FILE, Hand
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding
from app.reconcile.scan import Scanner
from app.reconcile.together import MOST_TOGETHER, Together, can_be_together
from tests.faults.crowd import Crowd
from tests.integration.test_publish import before_each_exchange, fail
from tests.integration.test_recovery import (
    Stage,
    after_the_exchange,
    after_the_unlink,
    before_the_exchange,
    before_the_temp,
    before_the_unlink,
    in_the_middle_of_the_temp,
)
from tests.world import ABSENT, UNKNOWN, World, attempts, run_for, run_pass, tree_unchanged

ASK = Ask(Trigger.SCHEDULER, "clawmend", "its window has passed")
NAMES = ("s0", "s1", "s2")


def key(name: str) -> str:
    return f"agent:main:{name}"


def crowded(world: World, *names: str, at_work: tuple[str, ...] = ("w",)) -> Crowd:
    crowd = Crowd(world.state, world.clock.now())
    for name in names or NAMES:
        crowd.ended("main", name, ago=3_600)
    for name in at_work:
        crowd.at_work("main", name, ago=10)
    crowd.write()
    return crowd


def due(world: World) -> tuple[Together, list[Finding], Reconciler]:
    """What a pass has seen to be ripe and would settle now, had it not been told to leave all as it is."""
    reconciler = world.reconciler(auto_repair=False)
    report = run_for(reconciler, world.clock, 1_500, step=300)
    found = [finding for finding in report.open() if finding.verdict.ripe]
    return together_of(reconciler), found, reconciler


def together_of(reconciler: Reconciler) -> Together:
    clock, hand = reconciler.clock, reconciler.repairer.file_hand
    return Together(reconciler.settings, clock, reconciler.audit, lambda: reconciler.scanner, hand)


def statuses(world: World) -> dict[str, str]:
    return {name.rpartition(":")[2]: row["status"] for name, row in world.rows().items()}


def files(world: World) -> list[str]:
    return sorted(p.name for p in world.sessions().glob(".clawmend*"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_falls_due_together_is_settled_by_one_publishing_with_an_attempt_for_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    before = world.store().read_bytes()
    exchanges: list[str] = []
    before_each_exchange(monkeypatch, *[lambda: exchanges.append("one")] * 9)
    reconciler = world.reconciler()

    run_for(reconciler, world.clock, 1_500, step=300)

    assert statuses(world) == {"s0": "failed", "s1": "failed", "s2": "failed", "w": "running"}
    assert exchanges == ["one"]
    made = attempts(reconciler)
    assert sorted(a.session_key for a in made) == [key(name) for name in NAMES]
    assert {(a.outcome, a.mode) for a in made} == {("applied", "exchange")}
    assert {a.published_with for a in made} == {made[0].published_with}
    assert made[0].published_with in {a.id for a in made}
    assert {(a.base_sha256, a.new_sha256) for a in made} == {(sha256(before), sha256(world.store().read_bytes()))}
    assert files(world) == []


def test_the_version_is_what_settling_one_after_the_other_would_have_made_to_the_byte(world: World) -> None:
    crowded(world)
    expected = world.store().read_bytes()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 1_500, step=300)

    for attempt in attempts(reconciler):
        expected, _ = splice(expected, attempt.session_key, attempt.after)
    assert world.store().read_bytes() == expected


def test_each_proof_is_its_own(world: World) -> None:
    crowd = crowded(world)
    with crowd.trajectory("main", "s1").open("ab") as file:
        file.write(crowd.end(key("s1"), "s1", 1_800))
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 1_500, step=300)

    made = {a.session_key: a for a in attempts(reconciler)}
    assert made[key("s1")].after["endedAt"] - made[key("s0")].after["endedAt"] == 1_800_000
    for name in NAMES:
        (trail,) = made[key(name)].evidence["trajectories"]
        assert trail["path"].endswith(f"/{name}.trajectory.jsonl")
        assert made[key(name)].before["status"] == "running"


def test_one_that_is_due_alone_is_settled_by_itself(world: World) -> None:
    crowded(world, "s0")
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 1_500, step=300)
    (attempt,) = attempts(reconciler)
    assert (attempt.outcome, attempt.published_with) == ("applied", None)


def test_not_too_many_share_one_publishing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(world, *(f"s{number}" for number in range(MOST_TOGETHER + 2)))
    reconciler = world.reconciler(breaker_repairs=1_000)
    run_for(reconciler, world.clock, 1_500, step=300)
    made = attempts(reconciler)
    shared = [sum(a.published_with == b.published_with for b in made) for a in made]
    assert sorted(set(shared)) == [2, MOST_TOGETHER]
    assert {a.outcome for a in made} == {"applied"}


def test_our_own_write_a_moment_ago_is_no_reason_to_leave_a_store_alone(world: World) -> None:
    crowded(world, "s0", "s1", "s2", "s3", at_work=())
    together, found, _ = due(world)
    assert [a.outcome for a in together.settle(found[:2], ASK)] == ["applied"] * 2
    world.clock.jump(world.store().stat().st_mtime - world.clock.now() / 1000)
    assert [a.outcome for a in together.settle(found[2:], ASK)] == ["applied"] * 2


def test_one_of_them_is_taken_back_and_the_others_stay_settled(world: World) -> None:
    crowded(world)
    before = world.rows()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 1_500, step=300)
    settled = world.rows()
    (repair,) = (a for a in attempts(reconciler) if a.session_key == key("s1"))

    assert reconciler.repairer.undo(repair, Ask(Trigger.API, "a test", "not over")).outcome == "applied"

    assert world.rows() == {**settled, key("s1"): before[key("s1")]}


def test_the_intents_and_plans_of_all_are_committed_before_the_store_is_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    together, found, _ = due(world)
    seen: list[list[Attempt]] = []

    def look() -> None:
        other = AuditLog(world.database_url)
        seen.append(other.left_open())
        other.dispose()

    before_each_exchange(monkeypatch, look)
    assert [a.outcome for a in together.settle(found, ASK)] == ["applied"] * 3

    (open_then,) = seen
    assert sorted(a.session_key for a in open_then) == [key(name) for name in NAMES]
    assert all(a.edit and a.base_sha256 and a.new_sha256 and a.published_with for a in open_then)


def test_one_whose_turn_went_on_since_the_pass_is_left_out_and_the_others_are_settled(world: World) -> None:
    crowd = crowded(world)
    together, found, reconciler = due(world)
    with crowd.trajectory("main", "s1").open("ab") as file:
        file.write(crowd.line(key("s1"), "s1", "prompt.submitted", 0))

    assert [a.session_key for a in together.settle(found, ASK)] == [key("s0"), key("s2")]

    assert statuses(world) == {"s0": "failed", "s1": "running", "s2": "failed", "w": "running"}
    assert len(attempts(reconciler)) == 2, "and no attempt at it is written down"


@pytest.mark.parametrize("left", [0, 1])
def test_where_fewer_than_two_are_left_nothing_is_done_and_nothing_is_written_down(world: World, left: int) -> None:
    crowded(world)
    together, found, reconciler = due(world)
    for name in NAMES[left:]:
        world.edit_row(key(name), startedAt=world.clock.now())
    world.clock.advance(5)

    with tree_unchanged(world.state):
        assert list(together.settle(found, ASK)) == []
        assert list(together.settle(found[:left], ASK)) == []
    assert attempts(reconciler) == []


def being_written(world: World) -> None:
    os.utime(world.store(), ns=(0, world.clock.now() * 1_000_000))


def a_link(world: World) -> None:
    world.store().rename(world.store().with_name("elsewhere"))
    world.store().symlink_to("elsewhere")


def a_second_name(world: World) -> None:
    os.link(world.store(), world.store().with_name("elsewhere"))


def no_json(world: World) -> None:
    world.write_store(b"{")


def a_linked_folder(world: World) -> None:
    world.sessions().rename(world.sessions().with_name("elsewhere"))
    world.sessions().symlink_to("elsewhere")


def gone(world: World) -> None:
    world.store().unlink()


@pytest.mark.parametrize("turns", [being_written, a_link, a_linked_folder, a_second_name, no_json, gone])
def test_a_store_that_is_not_to_be_written_now_is_left_to_the_repair_of_each(
    world: World, turns: Callable[[World], None]
) -> None:
    crowded(world)
    together, found, reconciler = due(world)
    turns(world)
    with tree_unchanged(world.state):
        assert list(together.settle(found, ASK)) == []
    assert attempts(reconciler) == []


def test_nobody_waits_for_another_clawmend_at_the_store(world: World) -> None:
    crowded(world)
    together, found, reconciler = due(world)
    now = world.clock.monotonic()
    fd = os.open(world.sessions(), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert list(together.settle(found, ASK)) == []
    finally:
        os.close(fd)
    assert (attempts(reconciler), world.clock.monotonic()) == ([], now)


@pytest.mark.parametrize("when", ["before our check", "before the exchange"])
def test_where_the_gateway_writes_in_between_its_version_stays_and_each_is_settled_by_itself(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    written: list[str] = []

    def writes(*_: object) -> None:
        if not written:
            written.append(when)
            world.edit_row(key("w"), model="the-gateway-wrote-this")

    if when == "before the exchange":
        before_each_exchange(monkeypatch, writes)
    else:
        real = AuditLog.open
        monkeypatch.setattr(AuditLog, "open", lambda log, *made: (real(log, *made), writes())[0])
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 1_500, step=300)

    assert statuses(world) == {"s0": "failed", "s1": "failed", "s2": "failed", "w": "running"}
    assert world.row(key("w"))["model"] == "the-gateway-wrote-this"
    together = [a for a in attempts(reconciler) if a.published_with]
    assert [(a.outcome, a.crossings, a.finished_at is not None) for a in together] == [
        ("refused", int(when == "before the exchange"), True)
    ] * 3
    assert {a.outcome_reason for a in together} == {
        "the gateway wrote to the store in between; each of the sessions is settled by itself"
    }
    alone = [a for a in attempts(reconciler) if not a.published_with]
    assert sorted((a.session_key, a.outcome) for a in alone) == [(key(name), "applied") for name in NAMES]
    assert files(world) == []


def test_where_the_disk_is_full_each_attempt_says_so_and_each_session_is_put_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    before = world.store().read_bytes()
    reconciler = world.reconciler()
    fail(monkeypatch, "write", errno.ENOSPC)
    run_for(reconciler, world.clock, 1_205, step=300)

    assert world.store().read_bytes() == before
    made = attempts(reconciler)
    assert {(a.outcome, a.outcome_reason) for a in made} == {
        ("refused", "the new version could not be written: No space left on device")
    }
    assert reconciler.failing == 3
    assert files(world) == []


def test_where_the_disk_does_not_confirm_all_of_them_are_unknown_until_the_looks_find_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    together, found, reconciler = due(world)
    real, synced = os.fsync, []

    def fsync(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 2:  # that of the folder
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        made = list(together.settle(found, ASK))
    assert {(a.outcome, a.outcome_reason) for a in made} == {
        ("unknown", "the folder could not be synced: Input/output error")
    }
    assert len(files(world)) == 1
    run_for(reconciler, world.clock, 120, step=2)

    assert {a.outcome for a in attempts(reconciler)} == {"applied"}
    assert all(a.finished_at for a in attempts(reconciler))
    assert files(world) == []


def test_without_the_audit_nothing_is_touched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(world)
    together, found, _ = due(world)

    def unavailable(*_: object) -> None:
        raise AuditUnavailable("a test says so")

    monkeypatch.setattr(AuditLog, "open", unavailable)
    with tree_unchanged(world.state), pytest.raises(AuditUnavailable):
        list(together.settle(found, ASK))


@pytest.mark.parametrize(
    ("stage", "outcome", "settled"),
    [
        (before_the_temp, "unknown", False),
        (in_the_middle_of_the_temp, "refused", False),
        (before_the_exchange, "refused", False),
        (after_the_exchange, "applied", True),
        (before_the_unlink, "applied", True),
        (after_the_unlink, "applied", True),
    ],
)
def test_killed_at_any_step_the_next_start_says_of_each_of_them_what_the_disk_says(
    world: World, stage: Stage, outcome: str, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that it comes to when the file that tells has told it of the first."""
    crowded(world)
    before = world.store().read_bytes()
    pid = os.fork()
    if pid == 0:
        try:
            together, found, _ = due(world)
            stage(monkeypatch, world)
            list(together.settle(found, ASK))
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it was killed in the middle"
    world.clock.advance(2_000)
    assert (world.store().read_bytes() != before) == settled
    reconciler = world.reconciler(auto_repair=False)
    run_pass(reconciler)

    assert [a.outcome for a in attempts(reconciler)] == [outcome] * 3
    assert files(world) == []
    assert (world.store().read_bytes() != before) == settled


def test_the_rows_that_a_look_is_to_come_for_are_left_to_it(world: World) -> None:
    """What was settled in this very turn a moment ago may have been overwritten: that is looked at first."""
    world.gateway = ABSENT
    crowded(world, at_work=())
    before = world.store().read_bytes()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 45, step=5)
    assert [len(a.looks) for a in attempts(reconciler)] == [2] * 3, "the third comes in a minute"
    world.write_store(before)
    run_for(reconciler, world.clock, 35, step=5)

    again = attempts(reconciler)[3:]
    assert sorted(a.session_key for a in again) == [key(name) for name in NAMES]
    assert all(a.retry_of and not a.published_with for a in again)


def test_what_another_hand_writes_is_not_put_together(world: World) -> None:
    crowded(world)
    _, found, _ = due(world)
    assert all(finding.hand == FILE and can_be_together(finding) for finding in found)
    by_plugin = replace(found[0].evidence, liveness=Liveness(by_plugin=True))
    assert not can_be_together(replace(found[0], evidence=by_plugin))
    assert not can_be_together(replace(found[0], hand=Hand("database")))


def test_what_another_hand_is_found_to_write_at_the_last_look_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    together, found, _ = due(world)
    judge = Scanner.judge_row

    def with_a_plugin(scanner: Scanner, target: StoreTarget, rows: tuple[Row, ...], name: str, **how: bool) -> object:
        finding = judge(scanner, target, rows, name, **how)
        return replace(finding, hand=Hand("plugin")) if finding and name == key("s1") else finding

    monkeypatch.setattr(Scanner, "judge_row", with_a_plugin)
    assert [a.session_key for a in together.settle(found, ASK)] == [key("s0"), key("s2")]
    assert world.row(key("s1"))["status"] == "running"


def test_a_gateway_that_has_come_back_since_the_pass_is_seen_before_anything_is_written(world: World) -> None:
    """An unsuccessful end is over after 30 s where nobody is there to try again; where its gateway is, after 120 s."""
    world.gateway = ABSENT
    crowded(world, at_work=())
    reconciler = world.reconciler(auto_repair=False)
    found = list(run_for(reconciler, world.clock, 60, step=20).open())
    assert [f.verdict.ripe for f in found] == [True] * 3
    world.gateway = Gateway("running", 1, "process 7")
    with tree_unchanged(world.state):
        assert list(together_of(reconciler).settle(found, ASK)) == []


def test_the_processes_are_looked_for_once_for_all_of_them(world: World) -> None:
    crowded(world)
    _, found, before = due(world)
    searches: list[str] = []

    def gateway_of(state: StateDir) -> Gateway:
        searches.append(state.path)
        return UNKNOWN

    reconciler = Reconciler(world.settings(auto_repair=False), world.clock, before.audit, world.env, gateway_of)
    run_for(reconciler, world.clock, 1_500, step=300)
    searches.clear()
    assert len(list(together_of(reconciler).settle(found, ASK))) == 3
    assert len(searches) == 1


def test_a_file_that_could_not_be_taken_away_is_come_back_for_and_each_attempt_says_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world)
    together, found, reconciler = due(world)
    with monkeypatch.context() as patch:
        fail(patch, "write", errno.ENOSPC)
        fail(patch, "unlink", errno.EIO, lambda name: str(name).startswith(".clawmend"))
        made = list(together.settle(found, ASK))
    assert [(a.outcome, a.finished_at) for a in made] == [("refused", None)] * 3
    assert len(files(world)) == 1

    run_for(reconciler, world.clock, 120, step=2)
    assert files(world) == []
    assert [(a.outcome, a.finished_at is not None) for a in attempts(reconciler)] == [("refused", True)] * 3
