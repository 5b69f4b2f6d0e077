"""Clawmend itself in a race: its own reconciler, pass after pass, with what it published watched from outside."""

from __future__ import annotations

import logging
import os
import random
import time
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
from app.reconcile.reconciler import Reconciler
from app.settings import Settings

_LOOKS = (1.0, 5.0, 60.0)
_MOST_ROUNDS = 20


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

    def __init__(self, state_dir: Path, database: Path, *, quiet: float, patience: float, linger_ms: float) -> None:
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
        put_off.FIRST_DELAY = put_off.LONGEST_DELAY = 0.001
        logging.disable(logging.ERROR)
        self.clock = LookingClock()
        self.audit = AuditLog(settings.database_url)
        self.audit.migrate()
        unknown = Gateway("unknown", None, "a race says so")
        self._reconciler = Reconciler(settings, self.clock, self.audit, {"HOME": "/nonexistent"}, lambda _: unknown)
        self._published: list[str] = []
        """The ids that their files were named by."""
        self._crossed = 0
        self._windows: list[float] = []
        """For each publish that went live: ms between the read of the store and the exchange."""
        self._held: list[float] = []
        """For each of ours that was live: ms for which it was held shut."""
        if linger_ms:
            _linger_around_exchange(linger_ms)
        self._watch_publish()

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
        ids: dict[str, list[str]] = {}
        for attempt in attempts:
            ids.setdefault(attempt.files_named, []).append(attempt.id)
        by_outcome: dict[str, int] = {}
        for attempt in attempts:
            by_outcome[attempt.outcome or "open"] = by_outcome.get(attempt.outcome or "open", 0) + 1
        return {
            "published": [turn_of[attempt_id] for named in self._published for attempt_id in ids[named]],
            "crossed": self._crossed,
            "noticed": [turn_of[a.id] for a in attempts if a.outcome == Outcome.OVERWRITTEN],
            "by_outcome": by_outcome,
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

    def _watch_publish(self) -> None:
        """Note what each publish came to. It is the real one that runs."""
        publish, read, exchange = file_hand.publish, file_hand.read_for_writing, swap._renameat2
        let_in = lease.let_in
        assert exchange is not None
        moments = {"read": 0.0, "exchange": 0.0}

        def reading(*given: Any) -> publishing.StoreBytes:
            moments["read"] = time.perf_counter()
            return read(*given)

        def exchanging(*given: Any) -> int:
            moments["exchange"] = moments["exchange"] or time.perf_counter()
            return exchange(*given)

        def letting_in(fd: int) -> None:
            if moments["exchange"]:
                self._held.append((time.perf_counter() - moments["exchange"]) * 1000)
            let_in(fd)

        def publishes(folder: Folder, name: str, change: publishing.Change, *, allow_rename: bool) -> Any:
            moments["exchange"] = 0.0
            done = publish(folder, name, change, allow_rename=allow_rename)
            if isinstance(done, publishing.Published):
                self._published.append(change.token.partition(".")[0])
                self._windows.append((moments["exchange"] - moments["read"]) * 1000)
            else:
                self._crossed += 1
            return done

        file_hand.read_for_writing = together.read_for_writing = reading
        file_hand.publish = publishes
        swap._renameat2 = exchanging  # type: ignore[assignment]
        lease.let_in = letting_in


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
