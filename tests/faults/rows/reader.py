"""The third process of a race for rows: it reads every row without pause, and says what it saw.

    python -m tests.faults.rows.reader DATABASE

Each row must be whole: entry, columns and window tell of one turn, it is valid, and nothing waits to be validated.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

_QUERY = """
SELECT n.session_key, n.entry_json, n.entry_valid, n.updated_at, n.status,
       w.status, w.started_at, w.ended_at, w.updated_at, p.session_key
FROM session_nodes n
LEFT JOIN session_windows w ON w.session_id = n.current_session_id AND w.session_key = n.session_key
LEFT JOIN session_canonical_validation_pending p ON p.session_key = n.session_key
WHERE n.session_key LIKE 'agent:main:turn-%'
"""
_READS_A_CONNECTION = 50


@dataclass(slots=True)
class Seen:
    """What a reader has seen."""

    reads: int = 0
    corrupt: int = 0
    """A row that does not parse or is not whole, or a database that cannot be read."""
    backwards: int = 0
    """What a row counts went back."""
    samples: list[str] = field(default_factory=list)

    def see(self, row: tuple[Any, ...], last: dict[str, tuple[int, int]]) -> None:
        key, text, *columns = row
        try:
            entry = json.loads(text)
        except ValueError:
            self._corrupt(f"{key} does not parse")
            return
        at, status = entry["updatedAt"], entry["status"]
        started, ended = entry["startedAt"], entry.get("endedAt")
        if columns != [1, at, status, status, started, ended, at, None] or (status == "running") != (ended is None):
            self._corrupt(f"{key} says {status}, {started}, {ended}, {at}, and its columns {columns}")
        counts = (entry["counted"], entry["turn"])
        if any(now < was for now, was in zip(counts, last.get(key, counts), strict=True)):
            self.backwards += 1
            self.samples.append(f"{key} went from {last[key]} back to {counts}")
        last[key] = counts

    def _corrupt(self, what: str) -> None:
        self.corrupt += 1
        self.samples.append(what)


def main(path: str) -> None:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    seen, last = Seen(), dict[str, tuple[int, int]]()
    while not over.is_set():
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            for _ in range(_READS_A_CONNECTION):
                try:
                    rows = connection.execute(_QUERY).fetchall()
                except sqlite3.DatabaseError as error:
                    seen.corrupt += 1
                    seen.samples.append(str(error))
                    break
                seen.reads += 1
                for row in rows:
                    seen.see(row, last)
                if over.is_set():
                    break
    seen.samples = seen.samples[:20]
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
