"""Threads that wait for one commit share it, and none of them is told of another's trouble, or too early."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from app.audit.log import AuditUnavailable, make_engine
from app.audit.shared_commit import SharedCommit
from tests.api.conftest import wait_until
from tests.world import World, attempts, by_a_person

PATIENCE = 30.0


class Notes:
    """A table of numbers, and a shared commit whose transactions are counted; any of them may be held up."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._engine = make_engine(f"sqlite:///{file}")
        with self._engine.begin() as connection:
            connection.execute(text("create table notes (n integer primary key)"))
        self.begun = 0
        self.broken: set[int] = set()
        """Transactions whose commit fails, by their number."""
        self.interrupted: set[int] = set()
        """Those in which whoever leads is interrupted."""
        self.shared = SharedCommit(self._begin)
        self.threads = ThreadPoolExecutor(20)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        self.begun += 1
        number = self.begun
        with self._engine.begin() as connection:
            yield connection
            if number in self.broken:
                raise OSError(f"transaction {number} fails")
            if number in self.interrupted:
                raise KeyboardInterrupt

    def add(self, n: int) -> None:
        self.shared.write(lambda connection: connection.execute(text(f"insert into notes values ({n})")))

    def there(self) -> list[int]:
        """What has been committed, as another connection sees it."""
        connection = sqlite3.connect(self.file)
        try:
            return [n for (n,) in connection.execute("select n from notes order by n")]
        finally:
            connection.close()

    @contextmanager
    def one_under_way(self) -> Iterator[None]:
        """A commit is led, by another thread, for as long as this lasts."""
        began, go_on = threading.Event(), threading.Event()

        def held(_: Connection) -> None:
            began.set()
            assert go_on.wait(PATIENCE)

        leader = self.threads.submit(self.shared.write, held)
        assert began.wait(PATIENCE)
        try:
            yield
        finally:
            go_on.set()
            leader.result(PATIENCE)

    def queue(self, *numbers: int) -> list[Future[None]]:
        """Threads that come one after the other while a commit is led."""
        asked = []
        for n in numbers:
            before = len(self.shared._waiting)
            asked.append(self.threads.submit(self.add, n))
            wait_until(lambda before=before: len(self.shared._waiting) > before, f"{n} is queued")  # type: ignore[misc]
        return asked

    def close(self) -> None:
        self.threads.shutdown()
        self._engine.dispose()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path / "notes.db")
    yield made
    made.close()


def test_those_who_wait_for_a_commit_share_the_next_one(notes: Notes) -> None:
    with notes.one_under_way():
        asked = notes.queue(1, 2, 3, 4, 5)
        assert notes.there() == []
    for each in asked:
        each.result(PATIENCE)
    assert notes.there() == [1, 2, 3, 4, 5]
    assert notes.begun == 2


def test_alone_it_is_one_transaction_for_each(notes: Notes) -> None:
    for n in (1, 2, 3):
        notes.add(n)
        assert (notes.there()[-1], notes.begun) == (n, n)


def test_an_error_alone_is_raised_and_nothing_is_tried_twice(notes: Notes) -> None:
    notes.add(1)
    with pytest.raises(IntegrityError):
        notes.add(1)
    assert notes.begun == 2
    notes.add(2)
    assert notes.there() == [1, 2]


def test_an_error_is_its_own_callers_and_what_the_others_wrote_stands(notes: Notes) -> None:
    notes.add(3)
    with notes.one_under_way():
        first, twice, last = notes.queue(2, 3, 4)
    first.result(PATIENCE)
    last.result(PATIENCE)
    with pytest.raises(IntegrityError):
        twice.result(PATIENCE)
    assert notes.there() == [2, 3, 4]


def test_a_shared_commit_that_fails_is_made_for_each_by_itself(notes: Notes) -> None:
    notes.broken = {2}
    with notes.one_under_way():
        asked = notes.queue(1, 2, 3)
    for each in asked:
        each.result(PATIENCE)
    assert notes.there() == [1, 2, 3]
    assert notes.begun == 1 + 1 + 3


def test_where_the_disk_goes_on_failing_each_is_told(notes: Notes) -> None:
    notes.broken = set(range(2, 99))
    with notes.one_under_way():
        asked = notes.queue(1, 2, 3)
    said = sorted(str(each.exception(PATIENCE)) for each in asked)
    assert said == [f"transaction {number} fails" for number in (3, 4, 5)]
    assert notes.there() == []


def test_who_leads_and_is_interrupted_takes_nobody_with_it(notes: Notes) -> None:
    notes.interrupted = {2}
    with notes.one_under_way():
        asked = notes.queue(1, 2, 3)
    errors = [each.exception(PATIENCE) for each in asked]
    assert sorted(map(type, errors), key=str) == sorted([KeyboardInterrupt, type(None), type(None)], key=str)
    assert notes.there() == [n for n, error in zip((1, 2, 3), errors, strict=True) if error is None]


def test_of_many_threads_each_returns_once_its_own_part_is_committed_and_all_are_there(notes: Notes) -> None:
    start = threading.Barrier(16)

    def many(thread: int) -> None:
        start.wait(PATIENCE)
        for n in range(thread * 100, thread * 100 + 25):
            notes.add(n)
            assert n in notes.there(), "it returned before its part was committed"

    for each in [notes.threads.submit(many, thread) for thread in range(16)]:
        each.result(PATIENCE)
    assert notes.there() == [n for thread in range(16) for n in range(thread * 100, thread * 100 + 25)]
    assert notes.begun < 16 * 25, "some were shared"


def test_of_intents_that_share_a_commit_one_that_is_there_already_is_refused_and_the_others_are_written(
    world: World,
) -> None:
    world.stuck()
    reconciler = world.reconciler()
    made, audit = by_a_person(reconciler), reconciler.audit
    start = threading.Barrier(8)

    def intent(number: int) -> str:
        new = made if number == 0 else replace(made, id=audit.next_id(world.clock.now()))
        start.wait(PATIENCE)
        try:
            audit.open(new)
        except AuditUnavailable as error:
            return str(error)
        found = audit.get(new.id)
        return "written" if found == new else "not there"

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(intent, range(8)))
    assert said[1:] == ["written"] * 7
    assert "UNIQUE" in said[0]
    assert len(attempts(reconciler)) == 8
