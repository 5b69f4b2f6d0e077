"""The third process of a race: it opens and reads the store without pause, and says what it saw.

    python -m tests.faults.race.reader STORE

It goes on until its input ends. Every version that it sees must be the gateway's, or that with proper repairs in it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.race.field import COUNTER_KEY, TURN_MS

_MOST_SAMPLES = 20


@dataclass(slots=True)
class Seen:
    """What a reader has seen."""

    reads: int = 0
    unparsable: int = 0
    missing: int = 0
    backwards: int = 0
    """The counter, or a row's turn, went back: a gateway write was lost, or an old version was to be seen."""
    taken_back: int = 0
    """A row was settled and then was not, in the same turn: a repair was overwritten."""
    strange: int = 0
    """A version that neither the gateway nor a proper repair has made."""
    slowest_open_ms: float = 0.0
    held_opens: int = 0
    """Opens that took over a millisecond: on a busy machine not all of them waited for a repair."""
    samples: list[str] = field(default_factory=list)


class Watcher:
    """Compares each version with the one before."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.seen = Seen()
        self._last = first

    def see(self, rows: dict[str, Any]) -> None:
        last, self._last = self._last, rows
        if list(rows) != list(last):
            self._strange("rows came, went or moved")
            return
        for key, row in rows.items():
            before = last[key]
            if row == before:
                continue
            if key == COUNTER_KEY:
                self._compare(key, before.get("counted", 0), row.get("counted", 0))
            elif "turn" in row:
                self._see_turn(key, before, row)
            else:
                self._strange(f"{key} changed, which nobody writes to")

    def _see_turn(self, key: str, before: dict[str, Any], row: dict[str, Any]) -> None:
        self._compare(key, before["turn"], row["turn"])
        settled = row["status"] != "running"
        if row["startedAt"] == before["startedAt"] and before["status"] != "running" and not settled:
            self.seen.taken_back += 1
        end = (row.get("status"), row.get("endedAt"), row.get("runtimeMs"), row.get("abortedLastRun", False))
        proper = ("done", row["startedAt"] + TURN_MS, TURN_MS, False) if settled else ("running", None, None, False)
        if end != proper:
            self._strange(f"{key} says {end}")
        if row["note"] != before["note"] or row["sessionId"] != before["sessionId"]:
            self._strange(f"{key} changed where nobody writes")

    def _compare(self, key: str, before: int, now: int) -> None:
        if now < before:
            self.seen.backwards += 1
            self._sample(f"{key} went from {before} back to {now}")

    def _strange(self, what: str) -> None:
        self.seen.strange += 1
        self._sample(what)

    def _sample(self, what: str) -> None:
        if len(self.seen.samples) < _MOST_SAMPLES:
            self.seen.samples.append(what)


def read(store: str, seen: Seen) -> bytes | None:
    """One version as the gateway would read it; None when there is no store at this instant."""
    began = time.perf_counter()
    try:
        fd = os.open(store, os.O_RDONLY)
    except FileNotFoundError:
        seen.missing += 1
        return None
    took = (time.perf_counter() - began) * 1000
    seen.slowest_open_ms = max(seen.slowest_open_ms, took)
    seen.held_opens += took > 1
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def main(store: str) -> None:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    watcher = Watcher(json.loads(read(store, Seen()) or b""))
    seen = watcher.seen
    print(json.dumps({"ready": True}), flush=True)
    last = b""
    while not over.is_set():
        data = read(store, seen)
        seen.reads += 1
        if data is None or data == last:
            continue
        last = data
        try:
            rows = json.loads(data)
        except ValueError:
            seen.unparsable += 1
            continue
        watcher.see(rows)
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
