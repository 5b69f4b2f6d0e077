"""A write to a database whose disk fails, or is watched: by a VFS of SQLite's that lays itself over the usual one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.openclaw.replacement import Written
from tests.stuck_rows import Stuck, stuck
from tests.world import World


class Disk(apsw.VFS):
    """`calls` has what was done to which file; the call named `fails` gives `error`, from its `after`-th on.

    `meanwhile` happens in the instant in which the database is opened, once all has been asked for the first time.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = ""
        self.after = 0
        self.meanwhile: Callable[[], None] | None = None
        self.error: Exception = apsw.IOError("the disk says no")
        super().__init__("watched", "unix", makedefault=True)

    def done(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fails and self.calls.count(call) > self.after:
            raise self.error

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if (happens := self.meanwhile) is not None and name is not None:
            self.meanwhile = None
            happens()
        return File(name, flags, self)


class File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: Disk) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._kind = "log" if path.endswith("-wal") else "database"
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.done(f"write {self._kind}")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.done(f"sync {self._kind}")
        super().xSync(flags)


@pytest.fixture
def row(world: World) -> Stuck:
    return stuck(world)


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.unregister()


def test_what_is_said_to_be_written_was_brought_to_the_disk_after_its_last_byte(row: Stuck, disk: Disk) -> None:
    assert row.write().kind == "written"
    log = [call for call in disk.calls if call.endswith("log")]
    assert log[-1] == "sync log"
    assert "write log" in log


def test_a_commit_that_the_disk_does_not_confirm_is_unknown(row: Stuck, disk: Disk) -> None:
    disk.fails, disk.after = "sync log", 1  # the first is that of the log's own beginning
    said = row.write()
    assert (said.kind, said.code, said.held_ms) == ("unknown", "commit_failed", None)
    assert said.detail.startswith("the disk did not confirm it: ")


def test_a_commit_that_is_told_to_wait_has_written_nothing(row: Stuck, disk: Disk) -> None:
    disk.fails, disk.after, disk.error = "sync log", 1, apsw.BusyError("somebody else has it")
    assert row.write() == Written("refused", "busy", "another process has held the write lock for a second")
    disk.fails = ""
    assert row.is_untouched()


def test_a_disk_without_room_for_the_log_leaves_the_row_as_it_was(row: Stuck, disk: Disk) -> None:
    disk.fails = "write log"
    said = row.write()
    assert said.kind in ("refused", "unknown")
    disk.fails = ""
    assert row.is_untouched()
    assert row.write().kind == "written"


def test_a_disk_that_fails_when_the_log_is_brought_in_does_not_take_back_what_was_said(row: Stuck, disk: Disk) -> None:
    disk.fails = "write database"
    assert row.write().kind == "written"
    assert disk.calls.count("write database") > 0
    disk.fails = ""
    assert row.node()[3] == "done"
    assert Path(f"{row.database.path}").stat().st_mode & 0o077 == 0


def test_a_maintenance_that_begins_while_it_is_opened_goes_first(row: Stuck, disk: Disk) -> None:
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    disk.meanwhile = lambda: row.state.run(lease, row.now + 60_000)
    assert row.write() == Written("refused", "maintenance", "OpenClaw's own maintenance works on the databases")
    assert row.is_untouched()


def test_a_database_whose_place_is_taken_while_it_is_opened_is_not_written_to(row: Stuck, disk: Disk) -> None:
    path = row.database.path

    def restore() -> None:
        beside = path.with_name("restored")
        beside.write_bytes(path.read_bytes())
        beside.chmod(0o600)
        beside.rename(path)

    disk.meanwhile = restore
    assert row.write() == Written("changed", "changed", "another file has taken the place of the database")
    assert row.is_untouched()


def test_a_database_that_is_gone_when_it_is_opened_is_not_made_anew(row: Stuck, disk: Disk) -> None:
    disk.meanwhile = row.database.path.unlink
    said = row.write()
    assert (said.kind, said.code) == ("refused", "database_unreadable")
    assert list(row.database.path.parent.iterdir()) == []
