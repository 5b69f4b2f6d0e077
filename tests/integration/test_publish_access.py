"""Who may write to a store: only a plain file of ours is replaced, and only by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.openclaw import publish as protocol
from app.openclaw.folder import FileProblem
from app.openclaw.quiet import StoreBusy, sole_writer
from tests.integration.test_publish import LIMIT, NAME, Store, store
from tests.world import HeldClock

__all__ = ["store"]


def _pipe(store: Store) -> None:
    store.path.unlink()
    os.mkfifo(store.path)


def _link(store: Store) -> None:
    store.path.rename(store.path.with_name("elsewhere.json"))
    store.path.symlink_to("elsewhere.json")


def _folder(store: Store) -> None:
    store.path.unlink()
    store.path.mkdir()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda s: os.link(s.path, s.path.with_name("second")), "hard_link"),
        (_pipe, "not_a_file"),
        (_link, "symlink"),
        (_folder, "not_a_file"),
        (lambda s: s.path.unlink(), "missing"),
    ],
    ids=["hard link", "FIFO", "symlink", "folder", "missing"],
)
def test_a_store_that_is_not_a_plain_file_is_refused(store: Store, make: Callable[[Store], None], code: str) -> None:
    make(store)
    with pytest.raises(FileProblem) as refused:
        protocol.read_for_writing(store.folder, NAME, LIMIT)
    assert refused.value.code == code


def test_a_store_of_another_user_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = store.path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(FileProblem) as refused:
        protocol.read_for_writing(store.folder, NAME, LIMIT)
    assert refused.value.code == "foreign_owner"


def test_only_one_process_writes_below_a_folder_and_a_killed_one_lets_go(store: Store) -> None:
    code = (
        "import sys\n"
        "from app.clock import SystemClock\n"
        "from app.openclaw.folder import Folder\n"
        "from app.openclaw.quiet import sole_writer\n"
        "with Folder(sys.argv[1]) as folder, sole_writer(folder, SystemClock(), 0):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    clock, began = HeldClock(), 1_000.0
    other = subprocess.Popen(
        [sys.executable, "-c", code, store.folder.path],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusy), sole_writer(store.folder, clock, 2.0):
            pytest.fail("both were let in")
        assert 2.0 <= clock.mono - began < 2.2, "it waited as long as it was told, and no longer"
        other.send_signal(signal.SIGKILL)
        other.wait()
        with sole_writer(store.folder, clock, 0):
            assert os.listdir(store.path.parent) == [NAME], "the lock leaves no file"
