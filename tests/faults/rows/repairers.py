"""The second process of a race for rows: one of those who repair.

    python -m tests.faults.rows.repairers '{"who": "ours", "state_dir": DIR, "database": FILE, "keys": [...]}'

Settles rows, and takes half of that back, until its input ends; then says what it did, and what came of each write.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from app.domain.entry import entry_edit, entry_of, restored_entry, settled_entry
from app.domain.model import RUNNING, Settlement
from app.domain.splice import Edit
from app.openclaw.database_process import replace_in_a_process
from app.openclaw.database_row import read_entry
from app.openclaw.database_write import _write
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.replacement import Replacement, Written
from tests.faults.rows.field import TURN_MS
from tests.faults.rows.hand import QuickHand

_LIVE_SECONDS = 0.05
"""As app.reconcile.database_hand gives it beside a gateway that runs."""

Hand = Callable[[str, bytes, bytes], Written]
"""Key, text before, text after."""
Read = Callable[[str], bytes]
"""The text of a row's entry. Raises FileProblem."""


@dataclass
class Repairer:
    """`hand` is what is told from another: judging and splicing are ours in each."""

    keys: list[str]
    hand: Hand
    read: Read
    settled: int = 0
    undone: int = 0
    came_of_it: Counter[str] = field(default_factory=Counter)
    held_ms: list[float] = field(default_factory=list)
    _edits: dict[str, Edit] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def work_on_one(self) -> None:
        key = self._random.choice(self.keys)
        try:
            text = self.read(key)
        except FileProblem as problem:
            self.came_of_it[f"not read, {problem.code}"] += 1
            return
        entry = entry_of(text)
        if entry.status == RUNNING:
            assert entry.started_at is not None and entry.run_id is not None
            done = Settlement("done", entry.started_at + TURN_MS, TURN_MS, False)
            after = settled_entry(text, done, entry.run_id)
            if self._carry_out(key, text, after):
                self.settled += 1
                self._edits[key] = entry_edit(key, text, after)
        elif key in self._edits and self._random.random() < 0.5:
            self.undone += self._carry_out(key, text, restored_entry(text, self._edits.pop(key)))

    def _carry_out(self, key: str, before: bytes, after: bytes) -> bool:
        said = self.hand(key, before, after)
        self.came_of_it[f"{said.kind} {said.code}".strip()] += 1
        if said.held_ms is not None:
            self.held_ms.append(said.held_ms)
        return said.kind == "written"


@contextmanager
def hand_of(who: str, state_dir: str, database: str) -> Iterator[tuple[Hand, Read]]:
    """`ours`: the writer in a process that stays; `ours, as delivered`: a new process for each write. Others read by
    the connection by which they write: another one that closes would take its locks from it, and its index.
    """

    def order(key: str, before: bytes, after: bytes) -> Replacement:
        return Replacement(state_dir, state_dir, database, key, before, after, True, _LIVE_SECONDS)

    def read(key: str) -> bytes:
        with Folder(str(Path(database).parent)) as folder:
            found = read_entry(folder, Path(database).name, key)
        assert found is not None
        return found[1]

    with ExitStack() as stack:
        if who == "ours":
            quick = QuickHand(stack)
            yield lambda *given: quick(order(*given)), read
        elif who == "ours, as delivered":
            yield lambda *given: replace_in_a_process(order(*given), time.time_ns() // 1_000_000), read
        else:
            connection = stack.enter_context(closing(apsw.Connection(database)))
            connection.set_busy_timeout(1_000)
            yield lambda *given: _common_fix(connection, who, *given), lambda key: _now(connection, key, _TEXT)[0]


_TEXT = "CAST(entry_json AS BLOB)"


def _now(connection: apsw.Connection, key: str, what: str) -> tuple[Any, ...]:
    return connection.execute(f"SELECT {what} FROM session_nodes WHERE session_key = ?", (key,)).fetchall()[0]


def _common_fix(connection: apsw.Connection, who: str, key: str, before: bytes, after: bytes) -> Written:
    """Every statement of ours, in one transaction, and all that is different is what is compared, and when."""
    try:
        if who == "looks once more" and _now(connection, key, _TEXT)[0] != before:
            return Written("changed")
        connection.execute("BEGIN IMMEDIATE")
        judged = entry_of(before)
        if who == "compares updated_at" and _now(connection, key, "updated_at, status") != (
            judged.updated_at,
            judged.status,
        ):
            connection.execute("ROLLBACK")
            return Written("changed")
        _write(connection, key, entry_of(after))
        connection.execute("COMMIT")
    except apsw.BusyError:
        return Written("refused", "busy")
    return Written("written")


def main(given: dict[str, Any]) -> None:
    over, begin = threading.Event(), threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        begin.set()
        sys.stdin.read()
        over.set()

    with hand_of(given["who"], given["state_dir"], given["database"]) as (hand, read):
        threading.Thread(target=wait, daemon=True).start()
        repairer = Repairer(given["keys"], hand, read)
        print(json.dumps({"ready": True}), flush=True)
        begin.wait()
        while not over.is_set():
            repairer.work_on_one()
        told = {"settled": repairer.settled, "undone": repairer.undone, "held_ms": sorted(repairer.held_ms)}
        print(json.dumps({**told, "came_of_it": repairer.came_of_it}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
