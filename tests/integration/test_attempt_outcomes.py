"""From an intent to its outcome: whatever goes wrong in between, the record says what is true of the store."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from app.audit.models import Attempt, Outcome
from app.domain.model import FileIdentity
from app.domain.splice import CannotSplice, Edit, FieldEdit, splice
from app.openclaw import publish as protocol
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.publish import NoExchange, NotDurable, Published, StoreBytes
from app.openclaw.quiet import StoreBusy
from app.openclaw.sessions_json import StoreProblem
from app.openclaw.stepping_back import VersionsKept
from app.openclaw.swap import WriteFailed
from app.reconcile import file_hand
from app.reconcile.attempts import Rewrite, Stop, edit_of, reversed_edit, target_of
from app.reconcile.file_hand import FileHand
from app.reconcile.hands import FILE
from app.reconcile.reconciler import Reconciler
from tests.integration.test_publish import before_each_exchange, fail, without_exchange
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

SETTLED: dict[str, str | int | bool] = {"status": "failed", "endedAt": 7, "runtimeMs": 6}
Plan = Callable[[StoreBytes], Rewrite]


def settle(base: StoreBytes) -> Rewrite:
    note = {"after": SETTLED, "evidence": {"seen": True}}
    return Rewrite(base.data, *splice(base.data, STUCK_KEY, SETTLED), note, None, FILE)


class Hand:
    """The hand for files, its folder, and an attempt that is made anew for each try."""

    def __init__(self, world: World, **over: Any) -> None:
        self.world = world
        self.reconciler: Reconciler = world.reconciler(**over)
        self.file_hand: FileHand = self.reconciler.repairer.file_hand
        self.target = StoreTarget(str(world.state), "main", str(world.store()), str(world.state / "agents"))
        self.folder = Folder(self.target.folder, self.target.root)

    def carry_out(self, plan: Plan = settle, trigger: str = "cli") -> Attempt:
        now = self.world.clock.now()
        attempt = Attempt(
            self.reconciler.audit.next_id(now), "settle", now, str(self.world.state), str(self.world.store()), "main",
            STUCK_KEY, STUCK_SESSION_ID, 1, trigger, "a person", "a reason", "stuck", "it ended", {}, {},
        )  # fmt: skip
        return self.file_hand.carry_out(self.folder, self.target, attempt, plan)

    def last(self) -> Attempt:
        return self.reconciler.audit.page(1)[0][0]


@pytest.fixture
def hand(world: World) -> Iterator[Hand]:
    world.stuck()
    made = Hand(world)
    with made.folder:
        yield made


def other_write(world: World) -> Callable[[], None]:
    """A gateway write that leaves our row alone, and is as old as a quiet store."""
    numbers = iter(range(100))

    def write() -> None:
        rows = world.rows()
        rows["agent:main:other"] = {"sessionId": "o", "updatedAt": next(numbers)}
        world.write_store(json.dumps(rows, indent=2, ensure_ascii=False).encode())

    return write


def test_an_applied_attempt_knows_its_plan_its_bytes_and_when_it_was_decided(hand: Hand) -> None:
    base = hand.world.store().read_bytes()

    made = hand.carry_out()

    new = hand.world.store().read_bytes()
    assert (made.outcome, made.outcome_reason, made.mode, made.crossings) == ("applied", None, "exchange", 0)
    assert hand.file_hand.modes == {hand.target.path: "exchange"}
    assert (made.base_sha256, made.new_sha256) == (hashlib.sha256(base).hexdigest(), hashlib.sha256(new).hexdigest())
    assert (made.after, made.evidence) == (SETTLED, {"seen": True})
    assert (made.decided_at, made.finished_at) == (hand.world.clock.now(), None)
    assert edit_of(made) == splice(base, STUCK_KEY, SETTLED)[1]


def test_the_intent_and_the_plan_are_in_the_audit_before_the_store_is_touched(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = StoreBytes(hand.world.store().read_bytes(), FileIdentity(0, 0, 0, 0))

    def plan(read: StoreBytes) -> Rewrite:
        known = hand.last()
        assert (known.outcome, known.edit, known.new_sha256) == (None, [], None)
        return settle(read)

    def look() -> None:
        known = hand.last()
        assert (known.outcome, known.decided_at, len(known.edit)) == (None, None, 3)
        assert known.base_sha256 == hashlib.sha256(hand.world.store().read_bytes()).hexdigest()
        assert known.new_sha256 == hashlib.sha256(settle(base).new).hexdigest()

    before_each_exchange(monkeypatch, look)
    assert hand.carry_out(plan).outcome == "applied"


def test_a_row_that_already_says_so_is_superseded_and_not_written(hand: Hand) -> None:
    before = hand.world.store().stat()

    made = hand.carry_out(lambda base: Rewrite(base.data, base.data, Edit(STUCK_KEY, ()), {}, None, FILE))

    assert (made.outcome, made.outcome_reason, made.mode) == ("superseded", "the row already says so", None)
    assert made.decided_at == made.finished_at == hand.world.clock.now()
    assert (hand.world.store().stat().st_ino, hand.world.store().stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


def by_name(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Stop(Outcome.SUPERSEDED, "why"), "superseded"),
        (Stop(Outcome.REFUSED, "why"), "refused"),
        (FileProblem("missing", "why"), "refused"),
        (StoreProblem("unparsable", "why"), "refused"),
        (CannotSplice("why"), "refused"),
    ],
    ids=by_name,
)
def test_each_failure_to_plan_is_an_outcome_with_its_reason(hand: Hand, error: Exception, outcome: str) -> None:
    def plan(_: StoreBytes) -> Rewrite:
        raise error

    made = hand.carry_out(plan)

    assert (made.outcome, made.outcome_reason, made.mode, made.crossings) == (outcome, "why", None, 0)
    assert made.decided_at == made.finished_at == hand.world.clock.now()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NoExchange("why"), "refused"),
        (WriteFailed("why"), "refused"),
        (FileProblem("hard_link", "why"), "refused"),
        (NotDurable("why"), "unknown"),
        (VersionsKept("why"), "unknown"),
    ],
    ids=by_name,
)
def test_each_failure_to_publish_is_an_outcome_with_its_reason(
    hand: Hand, error: Exception, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(*_: Any, **__: Any) -> Published:
        raise error

    monkeypatch.setattr(file_hand, "publish", publish)
    made = hand.carry_out()

    assert (made.outcome, made.outcome_reason, made.mode, made.crossings) == (outcome, "why", None, 0)
    assert made.decided_at == hand.world.clock.now()
    assert made.finished_at == (None if outcome == "unknown" else made.decided_at), "what is unknown is looked at again"


def test_a_store_that_is_never_quiet_closes_the_attempt_and_is_told_to_the_caller(hand: Hand) -> None:
    (hand.world.sessions() / ".fs-safe-replace.1.x.tmp").touch()

    with pytest.raises(StoreBusy, match="has been writing to this store for 10 s without a pause"):
        hand.carry_out()

    made = hand.last()
    assert (made.outcome, made.outcome_reason) == (
        "refused",
        "the gateway has been writing to this store for 10 s without a pause",
    )
    assert made.finished_at == made.decided_at == hand.world.clock.now() == made.opened_at + 10_000


@pytest.mark.parametrize(("trigger", "seconds"), [("scheduler", 2.5), ("cli", 7.0), ("api", 7.0)])
def test_a_person_waits_for_a_quiet_store_longer_than_the_scheduler(world: World, trigger: str, seconds: float) -> None:
    world.stuck()
    hand = Hand(world, store_quiet_seconds=2, store_patience_seconds=7)
    (world.sessions() / ".fs-safe-replace.1.x.tmp").touch()
    began = world.clock.mono
    with hand.folder, pytest.raises(StoreBusy):
        hand.carry_out(trigger=trigger)
    assert seconds <= world.clock.mono - began < seconds + 0.11
    assert hand.file_hand.patience(trigger) == seconds


@pytest.mark.parametrize("times", [1, 2, 3])
def test_writes_that_cross_ours_are_counted_and_after_three_it_is_given_up(
    hand: Hand, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = other_write(hand.world)
    before_each_exchange(monkeypatch, *[write, None] * times)

    made = hand.carry_out()

    assert made.crossings == times
    assert (made.outcome, made.outcome_reason, made.mode) == (
        ("refused", "the gateway wrote to the store 3 times in between", None)
        if times == 3
        else ("applied", None, "exchange")
    )
    assert hand.world.rows()["agent:main:other"]["updatedAt"] == times - 1
    assert hand.world.row()["status"] == ("running" if times == 3 else "failed")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_writes_between_our_read_and_our_check_are_no_crossings_and_after_three_it_is_given_up(
    hand: Hand, times: int
) -> None:
    write, left = other_write(hand.world), [None] * times

    def plan(base: StoreBytes) -> Rewrite:
        if left:
            left.pop()
            write()
        return settle(base)

    made = hand.carry_out(plan)

    assert made.crossings == 0
    assert (made.outcome, made.outcome_reason, made.mode, hand.world.row()["status"]) == (
        ("refused", "the gateway wrote to the store 3 times in between", None, "running")
        if times == 3
        else ("applied", None, "exchange", "failed")
    )


@pytest.mark.parametrize("times", [1, 2, 3])
def test_writes_while_we_read_are_no_crossings_and_after_three_it_is_given_up(
    hand: Hand, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, real, asked = other_write(hand.world), os.fstat, 0

    def fstat(fd: int) -> os.stat_result:
        nonlocal asked
        asked += 1
        if asked % 3 == 0 and asked <= 3 * times:  # the look at owner and names, after the bytes were read
            write()
        return real(fd)

    monkeypatch.setattr(os, "fstat", fstat)
    made = hand.carry_out()

    assert (made.outcome, made.mode, made.crossings, hand.world.row()["status"]) == (
        ("refused", None, 0, "running") if times == 3 else ("applied", "exchange", 0, "failed")
    )


def test_the_file_of_every_try_names_the_attempt(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[str] = []
    write = other_write(hand.world)

    def look() -> None:
        beside.extend(path.name for path in hand.world.sessions().glob(".clawmend-*"))

    before_each_exchange(monkeypatch, lambda: (look(), write()), None, look)
    made = hand.carry_out()
    assert (made.outcome, made.crossings) == ("applied", 1)
    assert beside == [f".clawmend-{made.id}.tmp"] * 2


def test_what_crossed_one_try_and_cannot_be_taken_away_ends_the_tries(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second name would be in the way of the next one's."""
    before_each_exchange(monkeypatch, other_write(hand.world))
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EIO, lambda name: name.endswith(".kept"))
        made = hand.carry_out()
    kept = f".clawmend-{made.id}.tmp.kept"
    assert (made.outcome, made.outcome_reason) == ("refused", f"the disk fails, and {kept} cannot be taken away")
    assert made.finished_at is None, "a look takes it away"
    assert (hand.world.sessions() / kept).read_bytes() == hand.world.store().read_bytes()


def test_the_plan_that_the_audit_keeps_is_the_one_of_the_last_try(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    before_each_exchange(monkeypatch, other_write(hand.world))

    made = hand.carry_out()

    assert made.new_sha256 == hashlib.sha256(hand.world.store().read_bytes()).hexdigest()


def test_where_no_exchange_is_to_be_had_the_setting_decides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stuck()
    without_exchange(monkeypatch)
    strict, weak = Hand(world), Hand(world, weak_stores="rename")
    with strict.folder, weak.folder:
        refused, made = strict.carry_out(), weak.carry_out()
    assert (refused.outcome, refused.mode) == ("refused", None)
    assert "CLAWMEND_WEAK_STORES=rename" in (refused.outcome_reason or "")
    assert (made.outcome, made.mode) == ("applied", "rename")


@pytest.mark.parametrize(("call", "when"), [("unlink", "our file stays"), ("listdir", "nobody can tell")])
def test_a_refused_attempt_that_may_have_left_a_file_is_come_back_to(
    hand: Hand, call: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hand.world.sessions() / ".clawmend-another.tmp").touch()
    with monkeypatch.context() as patch:
        if call == "unlink":
            without_exchange(patch)
            fail(patch, call, errno.EROFS)
            made = hand.carry_out()
        else:

            def plan(_: StoreBytes) -> Rewrite:
                fail(patch, call, errno.EIO)
                raise CannotSplice("why")

            made = hand.carry_out(plan)
    assert (made.outcome, made.finished_at) == ("refused", None), when
    assert bool(list(hand.world.sessions().glob(f".clawmend-{made.id}*"))) is (call == "unlink")


def test_a_refused_attempt_that_left_nothing_is_over_whatever_another_one_left(hand: Hand) -> None:
    (hand.world.sessions() / ".clawmend-another.tmp").touch()

    def plan(_: StoreBytes) -> Rewrite:
        raise CannotSplice("why")

    made = hand.carry_out(plan)
    assert (made.outcome, made.finished_at) == ("refused", hand.world.clock.now())


def test_our_own_write_a_moment_ago_is_not_waited_for(hand: Hand) -> None:
    hand.carry_out()
    assert hand.file_hand.left == {str(hand.world.store()): hand.folder.identity("sessions.json")}
    began = hand.world.clock.mono

    again = hand.carry_out(
        lambda base: Rewrite(base.data, *splice(base.data, STUCK_KEY, {"status": "done"}), {}, None, FILE)
    )

    assert (again.outcome, hand.world.clock.mono) == ("applied", began)


def test_a_gateway_write_right_after_ours_is_not_taken_for_ours(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    real = protocol.publish

    def publish(*given: Any, **named: Any) -> object:
        done = real(*given, **named)
        assert isinstance(done, Published)
        return Published(done.mode, None)

    monkeypatch.setattr(file_hand, "publish", publish)
    assert hand.carry_out().outcome == "applied"
    assert hand.file_hand.left == {}


def test_a_disk_that_does_not_confirm_leaves_the_outcome_to_the_looks(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "fsync", errno.EIO, lambda fd: fd == hand.folder.fd)

    made = hand.carry_out()

    assert (made.outcome, made.mode, made.finished_at) == ("unknown", None, None)
    assert hand.world.row()["status"] == "failed"


def test_a_store_above_the_limit_or_with_a_second_name_is_refused(world: World) -> None:
    world.stuck()
    size = world.store().stat().st_size
    small, usual = Hand(world, store_max_bytes=size - 1), Hand(world)
    with small.folder, usual.folder:
        assert small.carry_out().outcome_reason == f"it has {size} bytes; the limit is {size - 1}"
        world.store().with_name("second").hardlink_to(world.store())
        assert usual.carry_out().outcome_reason == "it has a second name; replacing one would part the two"


def test_the_edit_of_an_undo_is_the_edit_turned_round() -> None:
    edit = Edit("k", (FieldEdit("status", '"running"', '"done"'), FieldEdit("endedAt", None, "1", ',"endedAt":1')))

    assert reversed_edit(edit) == Edit(
        "k", (FieldEdit("endedAt", "1", None), FieldEdit("status", '"done"', '"running"'))
    )


@pytest.mark.parametrize(
    ("store", "root", "kind"),
    [
        ("/state/agents/main/sessions/sessions.json", "/state/agents", "file"),
        ("/state/agents/main/agent/openclaw-agent.sqlite", "/state/agents", "database"),
        ("/elsewhere/store.json", "/elsewhere", "file"),
    ],
)
def test_the_store_of_an_attempt_is_found_again_as_it_was(
    store: str, root: str, kind: Literal["file", "database"]
) -> None:
    attempt = Attempt(
        "id", "settle", 1, "/state", store, "work", "k", "s", 1, "cli", "a", "r", "stuck", "it ended", {}, {}
    )
    assert target_of(attempt) == StoreTarget("/state", "work", store, root, kind)
