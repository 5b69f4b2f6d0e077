"""Clawmend itself in a race: its own reconciler, pass after pass, with what it published watched from outside."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import SystemClock
from app.domain.model import Gateway
from app.openclaw import lease, swap
from app.openclaw import publish as publishing
from app.openclaw.folder import Folder
from app.reconcile import file_hand, put_off, together
from app.reconcile import looks as later_looks
from app.reconcile.reconciler import Reconciler
from app.settings import Settings
from tests.faults.race.tally import Line, Turn, untrue_lines

_LOOKS = (1.0, 5.0, 60.0)
_MOST_ROUNDS = 20
_MOST_SAMPLES = 20
_SHARE = 0.8
"""How many of the publishings of several rows wait for a gateway write, where any do."""


class LookingClock(SystemClock):
    """The machine's own time; set ahead only when nobody writes any more, so that the later looks need no waiting."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> int:
        return super().now() + round(self.ahead * 1000)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class OurRepair:
    """Settles what is stuck at once, without a window; what fails is tried again at once instead of 30 s later."""

    def __init__(
        self,
        state_dir: Path,
        database: Path,
        *,
        quiet: float,
        patience: float,
        linger_ms: float,
        cross_ms: float,
        looks: Sequence[float],
    ) -> None:
        settings = Settings(
            state_dir=(str(state_dir),),
            database_url=f"sqlite:///{database}",
            store_quiet_seconds=quiet,
            store_patience_seconds=patience,
            silent_after_seconds=1.0,  # how far back a trajectory is searched for open runs
            watch_files=False,
        ).model_copy(
            # A race settles the same rows again and again, which in life would be left to a person.
            update={"stale_after_seconds": 0.0, "flapping_settlements": 10**9, "breaker_repairs": 10**9}
        )
        if looks:
            later_looks.AFTER_SECONDS = tuple(looks)  # type: ignore[assignment]
        put_off.FIRST_DELAY = put_off.LONGEST_DELAY = 0.001
        logging.disable(logging.ERROR)
        self.clock = LookingClock()
        self.audit = AuditLog(settings.database_url)
        self.audit.migrate()
        unknown = Gateway("unknown", None, "a race says so")
        self._reconciler = Reconciler(settings, self.clock, self.audit, {"HOME": "/nonexistent"}, lambda _: unknown)
        self._published: list[tuple[str, list[Turn]]] = []
        """What went live: the id that its files were named by, and the turns that it settled."""
        self._crossed: list[int] = []
        """How many turns each version that a gateway write crossed was to settle."""
        self._windows: list[float] = []
        """For each publish that went live: ms between the read of the store and the exchange."""
        self._held: list[float] = []
        """For each of ours that was live: ms for which it was held shut."""
        if linger_ms:
            _linger_around_exchange(linger_ms)
        self._watch_publish(cross_ms)

    def repair_one(self) -> None:
        self._reconciler.run_pass()

    def take_later_looks(self) -> None:
        """The gateway writes no more: nothing is lost by letting the clock run ahead to each look."""
        for _ in range(_MOST_ROUNDS):
            for step in _LOOKS:
                self.clock.ahead += step
                self._reconciler.run_pass()
            if not self.audit.to_look_at() and not self.audit.left_open():
                return

    def result(self) -> dict[str, Any]:
        attempts = self._attempts()
        turn_of = {a.id: (a.session_key, a.started_at) for a in attempts}
        settled = [turns for _, turns in self._published]
        lines = [Line(a.files_named, turn_of[a.id], a.outcome) for a in attempts]
        by_outcome: dict[str, int] = {}
        for attempt in attempts:
            by_outcome[attempt.outcome or "open"] = by_outcome.get(attempt.outcome or "open", 0) + 1
        return {
            "published": [turn for turns in settled for turn in turns],
            "together": sum(len(turns) for turns in settled if len(turns) > 1),
            "crossed": len(self._crossed),
            "crossed_together": sum(number > 1 for number in self._crossed),
            "untrue": untrue_lines(self._published, lines)[:_MOST_SAMPLES],
            "noticed": [turn_of[a.id] for a in attempts if a.outcome == Outcome.OVERWRITTEN],
            "by_outcome": by_outcome,
            "kept": [a.outcome_reason for a in attempts if a.outcome == Outcome.UNKNOWN],
            "windows": self._windows,
            "held": self._held,
            "reasons": _counted(a.outcome_reason for a in attempts if a.outcome not in (Outcome.APPLIED, None)),
        }

    def _attempts(self) -> list[Attempt]:
        found: list[Attempt] = []
        before: str | None = None
        while True:
            page, before = self.audit.page(1_000, before)
            found += page
            if before is None:
                return found

    def _watch_publish(self, cross_ms: float) -> None:
        """Note what each publish came to. It is the real one that runs; most of those of several rows wait before their
        exchange up to so long for a gateway write to cross it.
        """
        publish, read, exchange = file_hand.publish, file_hand.read_for_writing, swap._renameat2
        let_in = lease.let_in
        assert exchange is not None
        moments = {"read": 0.0, "exchange": 0.0, "wait": 0.0}
        chance = random.Random(os.getpid())

        def reading(*given: Any) -> publishing.StoreBytes:
            moments["read"] = time.perf_counter()
            return read(*given)

        def exchanging(folder: int, ours: bytes, _: int, store: bytes, flags: int) -> int:
            if moments["wait"] and not moments["exchange"]:
                _wait_for_a_write(folder, store, moments["wait"])
            moments["exchange"] = moments["exchange"] or time.perf_counter()
            return exchange(folder, ours, folder, store, flags)

        def letting_in(fd: int) -> None:
            if moments["exchange"]:
                self._held.append((time.perf_counter() - moments["exchange"]) * 1000)
            let_in(fd)

        def publishes(folder: Folder, name: str, change: publishing.Change, *, allow_rename: bool) -> Any:
            turns = _turns_settled(change)
            moments["exchange"], moments["wait"] = 0.0, cross_ms if len(turns) > 1 and chance.random() < _SHARE else 0.0
            done = publish(folder, name, change, allow_rename=allow_rename)
            if isinstance(done, publishing.Published):
                self._published.append((change.token.partition(".")[0], turns))
                self._windows.append((moments["exchange"] - moments["read"]) * 1000)
            else:
                self._crossed.append(len(turns))
            return done

        file_hand.read_for_writing = together.read_for_writing = reading
        file_hand.publish = publishes
        swap._renameat2 = exchanging  # type: ignore[assignment]
        lease.let_in = letting_in


def _turns_settled(change: publishing.Change) -> list[Turn]:
    before, after = json.loads(change.base.data), json.loads(change.new)
    return [(key, row["startedAt"]) for key, row in after.items() if row != before[key]]


def _wait_for_a_write(folder: int, store: bytes, most_ms: float) -> None:
    deadline, before = time.perf_counter() + most_ms / 1000, os.stat(store, dir_fd=folder).st_ino
    while os.stat(store, dir_fd=folder).st_ino == before and time.perf_counter() < deadline:
        time.sleep(0.0005)


def _linger_around_exchange(most_ms: float) -> None:
    """Wait up to so long before and after each exchange of names, so that far more gateway writes cross it."""
    exchange = swap._renameat2
    assert exchange is not None
    chance = random.Random(os.getpid())

    def lingering(*given: Any) -> int:
        time.sleep(chance.random() * most_ms / 1000)
        done = exchange(*given)
        time.sleep(chance.random() * most_ms / 1000)
        return done

    swap._renameat2 = lingering  # type: ignore[assignment]


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        short = (word or "")[:80]
        counts[short] = counts.get(short, 0) + 1
    return counts
