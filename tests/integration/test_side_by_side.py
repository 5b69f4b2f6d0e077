"""Sessions of several stores that fall due at once: settled side by side, and each as it would be alone."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt, Outcome
from app.domain.model import Code
from app.domain.splice import unsplice
from app.openclaw.paths import StoreTarget
from app.reconcile.attempts import edit_of
from app.reconcile.reconciler import Reconciler
from app.reconcile.settling import MOST_AT_ONCE
from tests.api.conftest import wait_until
from tests.faults.crowd import Crowd
from tests.world import World, attempts, run_pass

PATIENCE = 30.0
AGENTS = ("a", "b", "c")


class Town:
    """Agents, each with sessions that are due in the next pass; the later named of one agent are the older ones."""

    def __init__(self, world: World, agents: tuple[str, ...] = AGENTS, each: int = 4) -> None:
        self.world = world
        crowd = Crowd(world.state, world.clock.now())
        for agent in agents:
            for number in range(each):
                crowd.ended(agent, f"{agent}-{number}", ago=3_600 + 60 * number)
        crowd.write()
        self.agents = agents
        self.before = {agent: world.store(agent).read_bytes() for agent in agents}
        self.reconciler = world.reconciler()
        run_pass(self.reconciler)
        world.clock.advance(600)

    def statuses(self, agent: str) -> list[str]:
        return [row["status"] for row in self.world.rows(agent).values()]

    def settled(self, agent: str) -> bool:
        return set(self.statuses(agent)) == {"failed"}

    def of(self, agent: str) -> list[Attempt]:
        """The attempts at this agent's sessions, the oldest first."""
        return [a for a in attempts(self.reconciler) if a.agent_id == agent]


@pytest.fixture
def town(world: World) -> Town:
    return Town(world)


@contextmanager
def before_each_intent(reconciler: Reconciler, do: Callable[[list[Attempt]], None]) -> Iterator[None]:
    """`do` is called in the thread that is about to write the intents of one publishing."""
    opened = AuditLog.open
    with pytest.MonkeyPatch.context() as patch:

        def done_first(audit: AuditLog, *made: Attempt) -> None:
            do(list(made))
            opened(audit, *made)

        patch.setattr(AuditLog, "open", done_first)
        yield


def test_each_session_is_settled_once_in_its_stores_order_and_no_other_byte_moves(town: Town) -> None:
    report = run_pass(town.reconciler)

    assert report.with_code(Code.STUCK) == []
    for agent in AGENTS:
        assert [a.session_id for a in town.of(agent)] == [f"{agent}-{n}" for n in (3, 2, 1, 0)], "the oldest first"
        assert {a.outcome for a in town.of(agent)} == {Outcome.APPLIED}
        data = town.world.store(agent).read_bytes()
        assert data != town.before[agent]
        for attempt in town.of(agent):
            data = unsplice(data, edit_of(attempt))
        assert data == town.before[agent]
        assert [p.name for p in town.world.sessions(agent).iterdir() if p.name.startswith(".")] == []
    assert town.reconciler.repaired_total == 12


def test_a_store_that_blocks_does_not_hold_the_others(town: Town) -> None:
    held: list[str] = []

    def wait_for_the_others(made: list[Attempt]) -> None:
        if made[0].session_id == "b-3":
            wait_until(lambda: town.settled("a") and town.settled("c"), "the other stores are settled")
            held.append(made[0].session_id)

    with before_each_intent(town.reconciler, wait_for_the_others):
        run_pass(town.reconciler)
    assert held == ["b-3"]
    assert town.settled("b")


def test_never_two_at_once_in_one_store_and_no_more_than_that_in_all(world: World) -> None:
    town = Town(world, agents=tuple(f"x{number}" for number in range(MOST_AT_ONCE + 2)), each=2)
    lock, at_it, most = threading.Lock(), dict[str, str](), [0]
    all_at_it = threading.Barrier(MOST_AT_ONCE)
    changed = AuditLog.change

    def come(made: list[Attempt]) -> None:
        agent_id = made[0].agent_id
        with lock:
            assert agent_id not in at_it.values()
            at_it[made[0].id] = agent_id
            most[0] = max(most[0], len(at_it))
        if made[0].session_id in {f"x{number}-1" for number in range(MOST_AT_ONCE)}:
            all_at_it.wait(PATIENCE)

    def go(audit: AuditLog, *ids: str, **values: Any) -> None:
        changed(audit, *ids, **values)
        if "decided_at" in values:
            with lock:
                del at_it[ids[0]]

    with before_each_intent(town.reconciler, come), pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuditLog, "change", go)
        run_pass(town.reconciler)
    assert at_it == {}
    assert all(town.settled(agent) for agent in town.agents)
    assert most == [MOST_AT_ONCE]


def test_where_one_store_is_due_no_thread_is_made(world: World) -> None:
    town = Town(world, agents=("a",))
    threads: set[int] = set()
    with before_each_intent(town.reconciler, lambda _: threads.add(threading.get_ident())):
        run_pass(town.reconciler)
    assert threads == {threading.get_ident()}
    assert town.settled("a")


@pytest.mark.parametrize("together", [1, 2], ids=["by themselves", "in twos"])
def test_once_the_audit_fails_nothing_more_is_begun_until_it_answers(
    world: World, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reconcile.settling.MOST_TOGETHER", together)
    town = Town(world, each=4 * together)
    lock, intents = threading.Lock(), list[str]()
    first, second = 4 * together - 1, 3 * together - 1

    def fail_at_the_second(made: list[Attempt]) -> None:
        with lock:
            intents.append(made[0].session_id)
        if made[0].session_id == f"b-{second}":
            wait_until(lambda: {f"a-{second}", f"c-{second}"} <= set(intents), "the others are at their second")
            raise AuditUnavailable("a test says so")
        if made[0].session_id in (f"a-{second}", f"c-{second}"):
            wait_until(lambda: town.reconciler.audit_problem is not None, "the failure is known")

    with before_each_intent(town.reconciler, fail_at_the_second):
        run_pass(town.reconciler)
    assert town.reconciler.audit_problem == "a test says so"
    assert sorted(intents) == sorted(f"{agent}-{number}" for agent in AGENTS for number in (first, second))
    ended = [a.outcome for a in attempts(town.reconciler)]
    assert ended == [Outcome.APPLIED] * 5 * together, "what was under way is ended"

    run_pass(town.reconciler)
    assert town.reconciler.audit_problem is None
    assert all(town.settled(agent) for agent in AGENTS)


def test_a_store_that_somebody_is_at_is_left_and_the_others_are_settled(town: Town) -> None:
    fd = os.open(town.world.sessions("b"), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        run_pass(town.reconciler)
    finally:
        os.close(fd)
    assert (town.settled("a"), town.settled("c")) == (True, True)
    assert set(town.statuses("b")) == {"running"}
    assert town.reconciler.failing == 1, "the others of this store have time too"


def test_what_fails_is_put_off_in_each_store_and_told(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    for agent in AGENTS:
        os.link(town.world.store(agent), town.world.folder / f"{agent}-second-name")
    run_pass(town.reconciler)
    assert {a.outcome for a in attempts(town.reconciler)} == {Outcome.REFUSED}
    assert town.reconciler.failing == 12
    assert len([r for r in caplog.records if "could not be settled (1 times now)" in r.getMessage()]) == 12


def test_each_store_and_each_repair_is_a_sign_of_progress(town: Town) -> None:
    look = town.reconciler.progress
    run_pass(town.reconciler)
    assert town.reconciler.progress == 3 * look + 12, "one look before, and two looks and 12 repairs in this pass"


def test_stores_that_are_being_settled_are_no_read_to_give_up(town: Town) -> None:
    given_up: list[str | None] = []
    with before_each_intent(town.reconciler, lambda _: given_up.append(town.reconciler.abandon())):
        assert town.reconciler.run_pass() is not None
    assert given_up == [None] * 3
    assert all(town.settled(agent) for agent in AGENTS)


def test_a_pass_that_is_given_up_when_it_looks_again_has_settled_what_it_settled(town: Town) -> None:
    """The first store of the second look does not answer; the service gives the pass up meanwhile."""
    reconciler, scan, looks = town.reconciler, town.reconciler.scanner.scan, [0]

    def given_up(seen: Callable[[StoreTarget], None], skip: frozenset[str]) -> Any:
        looks[0] += 1
        if looks[0] == 1:
            return scan(seen, skip)

        def seen_and_given_up(target: StoreTarget) -> None:
            seen(target)
            reconciler.abandon()

        return scan(seen_and_given_up, skip)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler.scanner, "scan", given_up)
        assert reconciler.run_pass() is None
    assert len(attempts(reconciler)) == 12
    report = run_pass(reconciler)
    assert report.with_code(Code.STUCK) == []
    assert len(attempts(reconciler)) == 12


def test_an_error_of_ours_in_one_store_fails_the_pass_and_the_others_are_settled(town: Town) -> None:
    def fail(made: list[Attempt]) -> None:
        if made[0].agent_id == "b":
            raise ZeroDivisionError("a fault of ours")

    with before_each_intent(town.reconciler, fail), pytest.raises(ZeroDivisionError):
        town.reconciler.run_pass()
    assert (town.settled("a"), town.settled("c")) == (True, True)
    assert json.loads(town.world.store("b").read_bytes()) == json.loads(town.before["b"])
