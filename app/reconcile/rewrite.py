"""From an intent to its outcome: the audit knows each step before it is taken (design, section 3).

1. write the intent into the audit;
2. wait for a quiet store; read it; make the new version of exactly these bytes; write the plan into the audit;
3. publish (app.openclaw.publish); where the gateway wrote meanwhile, its version stays and we begin again at 2;
4. write the outcome into the audit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.model import FileIdentity
from app.domain.splice import CannotSplice, Edit, FieldEdit
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.gateway_plugin import Order
from app.openclaw.paths import DATABASE_NAME, StoreTarget, agents_root
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
from app.reconcile.hands import FILE, Hand
from app.reconcile.leftovers import anything_left
from app.settings import Settings

MOST_TRIES = 3


class Stop(Exception):
    """Ends an attempt whose intent is written; becomes its outcome."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What an attempt makes of the text that it finds: a whole file, or one row's entry in a database."""

    base: bytes
    new: bytes
    edit: Edit
    note: dict[str, Any]
    """Columns of the audit that follow from it."""
    order: Order | None = None
    """The same for the plugin inside the gateway; None where it is not to do it."""
    hand: Hand = FILE
    """Who may write it, by what was just found."""


OtherHand = Callable[[StoreTarget, Attempt, Callable[[], Rewrite]], Attempt | None]
"""Carries out an attempt that is open, and closes it; None where the store is to be written after all."""


class Rewriter:
    """Any number of threads; the folder's lock lets one write at a time."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog) -> None:
        self._settings = settings
        self._clock = clock
        self._audit = audit
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
        inside: OtherHand | None = None,
    ) -> Attempt:
        """Open `attempt`, make of the store what `rewrite` says, close it. The folder's lock is held by the caller.

        `inside`, a better hand, goes first. Raises StoreBusy (the attempt is then closed as `refused`) and
        AuditUnavailable.
        """

        def of_now() -> Rewrite:
            return rewrite(StoreBytes(*folder.read(target.name, self._settings.store_max_bytes)))

        self._audit.open(attempt)
        if inside is not None and (by_it := inside(target, attempt, of_now)) is not None:
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
                if plan.edit.empty:
                    raise Stop(Outcome.SUPERSEDED, "the row already says so")
                self._audit.change(
                    attempt.id,
                    edit=[asdict(change) for change in plan.edit.fields],
                    base_sha256=hashlib.sha256(base.data).hexdigest(),
                    new_sha256=hashlib.sha256(plan.new).hexdigest(),
                    **plan.note,
                )
                change = Change(base, plan.new, attempt.id)
                try:
                    done = publish(folder, target.name, change, allow_rename=self._settings.weak_stores == "rename")
                except StoreChanged:
                    continue
                if isinstance(done, Published):
                    mode = done.mode
                    if done.identity is not None:
                        self.left[target.path] = done.identity
                    break
                crossings += 1
            else:
                raise Stop(Outcome.REFUSED, f"the gateway wrote to the store {MOST_TRIES} times in between")
            outcome, why = Outcome.APPLIED, None
        except Stop as stop:
            outcome, why = stop.outcome, str(stop)
        except StoreBusy as error:
            busy, outcome, why = error, Outcome.REFUSED, str(error)
        except (NoExchange, WriteFailed, FileProblem, StoreProblem, CannotSplice) as error:
            outcome, why = Outcome.REFUSED, str(error)
        except (NotDurable, VersionsKept) as error:
            outcome, why = Outcome.UNKNOWN, str(error)
        now = self._clock.now()
        more_looks = outcome in (Outcome.APPLIED, Outcome.UNKNOWN) or anything_left(folder, attempt)
        self._audit.change(
            attempt.id,
            outcome=outcome,
            outcome_reason=why,
            mode=mode,
            crossings=crossings,
            decided_at=now,
            finished_at=None if more_looks else now,
        )
        if busy is not None:
            raise busy
        return self._audit.get(attempt.id) or attempt


def target_of(attempt: Attempt) -> StoreTarget:
    """The store of an attempt, as it was found then."""
    path = attempt.store_path
    folder, _, name = path.rpartition("/")
    return StoreTarget(
        attempt.state_dir,
        attempt.agent_id,
        path,
        agents_root(path) or folder,
        "database" if name == DATABASE_NAME else "file",
    )


def edit_of(attempt: Attempt) -> Edit:
    """What an attempt did to its row."""
    return Edit(attempt.session_key, tuple(FieldEdit(**change) for change in attempt.edit))


def reversed_edit(edit: Edit) -> Edit:
    """What an undo did to the row."""
    return Edit(edit.key, tuple(FieldEdit(c.name, c.after, c.before) for c in reversed(edit.fields)))
