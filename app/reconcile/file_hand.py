"""The hand that writes to a file, beside a gateway that may write to it too (design, section 3).

1. write the intent into the audit;
2. wait for a quiet store; read it; make the new version of exactly these bytes; write the plan into the audit;
3. publish (app.openclaw.publish); where the gateway wrote meanwhile, its version stays and we begin again at 2;
4. write the outcome into the audit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.model import FileIdentity
from app.domain.splice import CannotSplice
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.publish import (
    Change,
    NoExchange,
    NotDurable,
    Published,
    StoreBytes,
    StoreChanged,
    publish,
    read_for_writing,
)
from app.openclaw.quiet import StoreBusy, wait_until_quiet
from app.openclaw.sessions_json import StoreProblem
from app.openclaw.stepping_back import VersionsKept
from app.openclaw.swap import WriteFailed
from app.reconcile.attempts import OtherHand, Rewrite, Stop, write_outcome, write_plan
from app.reconcile.leftovers import anything_left
from app.settings import Settings

MOST_TRIES = 3


class FileHand:
    """Any number of threads; the folder's lock lets one write at a time."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog) -> None:
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self.modes: dict[str, str] = {}
        """How every store that we wrote was written: `exchange`, or `rename` for the weaker way."""
        self.left: dict[str, FileIdentity] = {}
        """Every store that we wrote, as we left it: our own write is no reason to wait."""

    def patience(self, trigger: str) -> float:
        """A person waits for the store; the scheduler has other stores to look at and comes again."""
        settings = self._settings
        return settings.store_quiet_seconds + 0.5 if trigger == "scheduler" else settings.store_patience_seconds

    def carry_out(
        self,
        folder: Folder,
        target: StoreTarget,
        attempt: Attempt,
        rewrite: Callable[[StoreBytes], Rewrite],
        better: OtherHand | None = None,
    ) -> Attempt:
        """Open `attempt`, make of the store what `rewrite` says, close it. The folder's lock is held by the caller.

        `better`, a better hand, goes first. Raises StoreBusy (the attempt is then closed as `refused`) and
        AuditUnavailable.
        """

        def of_now() -> Rewrite:
            return rewrite(StoreBytes(*folder.read(target.name, self._settings.store_max_bytes)))

        self._audit.open(attempt)
        if better is not None and (by_it := better(target, attempt, of_now)) is not None:
            return by_it
        crossings = 0
        mode = None
        busy: StoreBusy | None = None
        try:
            for _ in range(MOST_TRIES):
                wait_until_quiet(
                    folder,
                    target.name,
                    self._clock,
                    quiet=self._settings.store_quiet_seconds,
                    patience=self.patience(attempt.trigger),
                    ours=self.left.get(target.path),
                )
                try:
                    base = read_for_writing(folder, target.name, self._settings.store_max_bytes)
                except StoreChanged:
                    continue
                plan = rewrite(base)
                write_plan(self._audit, attempt, plan, new_sha256=hashlib.sha256(plan.new).hexdigest())
                try:
                    mode = self.put_in_place(folder, target, Change(base, plan.new, attempt.id))
                except StoreChanged:
                    continue
                if mode is not None:
                    break
                crossings += 1
            else:
                raise Stop(Outcome.REFUSED, f"the gateway wrote to the store {MOST_TRIES} times in between")
            outcome, why = Outcome.APPLIED, None
        except Stop as stop:
            outcome, why = stop.outcome, str(stop)
        except StoreBusy as error:
            busy, outcome, why = error, Outcome.REFUSED, str(error)
        except (FileProblem, StoreProblem, CannotSplice) as error:
            outcome, why = Outcome.REFUSED, str(error)
        done = write_outcome(
            self._audit,
            self._clock,
            attempt,
            outcome,
            why,
            left=anything_left(folder, attempt),
            mode=mode,
            crossings=crossings,
        )
        if busy is not None:
            raise busy
        return done

    def put_in_place(self, folder: Folder, target: StoreTarget, change: Change) -> str | None:
        """Publish, and remember how. Gives the mode; None where a write of the gateway crossed, which is live again.

        Raises StoreChanged, and Stop where it failed.
        """
        try:
            published = publish(folder, target.name, change, allow_rename=self._settings.weak_stores == "rename")
        except (NoExchange, WriteFailed, FileProblem) as error:
            raise Stop(Outcome.REFUSED, str(error)) from error
        except (NotDurable, VersionsKept) as error:
            raise Stop(Outcome.UNKNOWN, str(error)) from error
        if not isinstance(published, Published):
            return None
        self.modes[target.path] = published.mode
        if published.identity is not None:
            self.left[target.path] = published.identity
        return published.mode
