"""Two repairs as they are passed around, to be caught by the race: neither is part of Clawmend.

Both read the store, set four fields of one row, write the whole of it beside and rename that over it. The first looks
at nothing in between; the second renames only a store that is still the file it read.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.faults.race.field import TURN_MS


class CommonFix:
    """Settles one running row at a time. `published` has the turn of each, by key and `startedAt`."""

    def __init__(self, store: Path, *, verify: bool) -> None:
        self._store = store
        self._verify = verify
        self._beside = store.with_name("sessions.json.new")
        self._turn_of_rows = 0
        self.published: list[tuple[str, int]] = []
        self.given_up = 0

    def repair_one(self) -> None:
        try:
            before = self._identity()
            rows = json.loads(self._store.read_bytes())
        except (FileNotFoundError, ValueError):
            self.given_up += 1
            return
        running = [key for key, row in rows.items() if row.get("status") == "running"]
        if not running:
            time.sleep(0.0002)
            return
        self._turn_of_rows += 1
        key = running[self._turn_of_rows % len(running)]
        started_at = rows[key]["startedAt"]
        _settle(rows[key], started_at)
        self._beside.write_text(json.dumps(rows, indent=2))
        if self._verify and self._identity() != before:
            self.given_up += 1
            return
        self._beside.rename(self._store)
        self.published.append((key, started_at))

    def _identity(self) -> tuple[int, int, int, int]:
        st = os.stat(self._store)
        return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns


def _settle(row: dict[str, Any], started_at: int) -> None:
    row.update(status="done", endedAt=started_at + TURN_MS, runtimeMs=TURN_MS, abortedLastRun=False)
