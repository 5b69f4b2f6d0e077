"""One repair, one undo: the intent first, then the store, then the outcome (design, section 3).

1. nobody else of us writes to this folder (a lock on the folder itself, which leaves no file);
2. judge on the bytes that stand there now; a dry run ends here with the plan;
3. write the intent into the audit;
4. wait for a quiet store; read it; judge AGAIN on exactly these bytes; splice; write the plan into the audit;
5. publish (app.openclaw.publish); where the gateway wrote meanwhile, its version stays and we begin again at 4;
6. write the outcome into the audit. The later looks are app.reconcile.looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import describe_evidence, describe_fields
from app.domain.model import FORCEABLE, Code, FileIdentity, Row, Settlement
from app.domain.settlement import settle
from app.domain.splice import CannotSplice, Edit, FieldEdit, splice, unsplice
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget, agents_root
from app.openclaw.publish import (
    Change,
    NoExchange,
    NotDurable,
    Published,
    StoreBusy,
    StoreBytes,
    StoreChanged,
    VersionsKept,
    WriteFailed,
    publish,
    read_for_writing,
    sole_writer,
    wait_until_quiet,
)
from app.openclaw.sessions_json import StoreProblem, read_rows
from app.reconcile.report import Finding
from app.reconcile.scan import Scanner
from app.settings import Settings

MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks for a repair or an undo, and how."""

    trigger: str
    actor: str
    reason: str
    dry_run: bool = False
    force: bool = False
    target_status: str | None = None
    retry_of: str | None = None
    """The attempt whose result was overwritten; it is repeated at once."""

    @property
    def by_person(self) -> bool:
        return self.trigger != "scheduler"


class NotStuck(Exception):
    """The session is not one that may be settled; `finding` is what it was found to be (None: it is gone)."""

    def __init__(self, why: str, finding: Finding | None) -> None:
        super().__init__(why)
        self.finding = finding


class CannotUndo(Exception):
    """The row has moved on since the repair, or the repair changed nothing."""


class StoreUnfit(Exception):
    """The store is one that we never write to; nothing was done."""


class _Stop(Exception):
    """Ends an attempt whose intent is written; becomes its outcome."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """What an attempt makes of the bytes that it finds."""

    new: bytes
    edit: Edit
    note: dict[str, Any]
    """Columns of the audit that follow from it."""


class Repairer:
    """Settles rows and takes it back. Any number of threads; the folder's lock lets one write at a time."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog, scanner: Callable[[], Scanner]) -> None:
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._scanner = scanner
        self.left: dict[str, FileIdentity] = {}
        """Every store that we wrote, as we left it: our own write is no reason to wait."""

    def settle(self, finding: Finding, ask: Ask) -> Attempt:
        """Settle one session; a dry run gives the attempt as it would be, without an id in the audit.

        Raises NotStuck, StoreUnfit, StoreBusy (its attempt is then closed as `refused`) and AuditUnavailable; any other
        failure is the outcome of the attempt.
        """
        with ExitStack() as stack:
            folder = self._enter(stack, finding.target, ask.trigger)
            now_found = self._look(folder, finding)
            settlement = self._agree(now_found, finding, ask)
            attempt = self._intent(now_found, settlement, ask)
            if ask.dry_run:
                return attempt

            def rewrite(base: StoreBytes) -> _Rewrite:
                again = self._scanner().judge_row(finding.target, base.data, finding.key)
                try:
                    fields = self._agree(again, finding, ask)
                except NotStuck as error:
                    raise _Stop(Outcome.SUPERSEDED, str(error)) from None
                new, edit = splice(base.data, finding.key, fields.as_fields())
                evidence = describe_evidence(again.evidence, self._settings.policy) if again else {}
                note: dict[str, Any] = {"after": fields.as_fields(), "evidence": evidence}
                if again is not None:
                    note["before"] = describe_fields(again.evidence.row)
                return _Rewrite(new, edit, note)

            return self._carry_out(folder, finding.target, attempt, rewrite)

    def undo(self, repair: Attempt, ask: Ask) -> Attempt:
        """Give the row back as it was before `repair`. Raises CannotUndo, StoreUnfit, StoreBusy, AuditUnavailable."""
        if repair.kind != "settle" or repair.outcome != Outcome.APPLIED:
            raise CannotUndo(f"attempt {repair.id} did not settle a row, so there is nothing to take back")
        latest = self._audit.latest_applied(repair.store_path, repair.session_key)
        if latest is None or latest.id != repair.id:
            raise CannotUndo(f"this row has been changed again since, by attempt {latest.id if latest else 'unknown'}")
        target = target_of(repair)
        edit = edit_of(repair)
        with ExitStack() as stack:
            folder = self._enter(stack, target, ask.trigger)
            self._as_we_left_it(_row_in(folder, target, repair.session_key, self._settings.store_max_bytes), repair)
            attempt = replace(
                _blank(repair, self._audit.next_id(self._clock.now()), self._clock.now(), ask),
                kind="undo",
                before=repair.after,
                after=repair.before,
                undo_of=repair.id,
            )
            if ask.dry_run:
                return attempt

            def rewrite(base: StoreBytes) -> _Rewrite:
                try:
                    rows = {r.key: r for r in read_rows(base.data)}
                    self._as_we_left_it(rows.get(repair.session_key), repair)
                    new = unsplice(base.data, edit)
                except CannotUndo as error:
                    raise _Stop(Outcome.SUPERSEDED, str(error)) from None
                return _Rewrite(new, reversed_edit(edit), {})

            return self._carry_out(folder, target, attempt, rewrite)

    def _patience(self, trigger: str) -> float:
        """A person waits for the store; the scheduler has other stores to look at and comes again."""
        settings = self._settings
        return settings.store_quiet_seconds if trigger == "scheduler" else settings.store_patience_seconds

    def _enter(self, stack: ExitStack, target: StoreTarget, trigger: str) -> Folder:
        try:
            folder = stack.enter_context(Folder(target.folder, target.root))
        except FileProblem as error:
            raise StoreUnfit(f"the store's folder: {error.detail}") from None
        stack.enter_context(sole_writer(folder, self._clock, self._patience(trigger)))
        return folder

    def _look(self, folder: Folder, finding: Finding) -> Finding | None:
        target = finding.target
        try:
            data, _ = folder.read(target.name, self._settings.store_max_bytes)
            return self._scanner().judge_row(target, data, finding.key)
        except (FileProblem, StoreProblem) as error:
            raise StoreUnfit(f"the store: {error.detail}") from None

    def _agree(self, found: Finding | None, seen: Finding, ask: Ask) -> Settlement:
        """What to settle `found` to, if that is still the session that was `seen`. Raises NotStuck."""
        if found is None:
            raise NotStuck("its row is gone", None)
        row, was = found.evidence.row, seen.evidence.row
        if (row.session_id, row.started_at) != (was.session_id, was.started_at):
            raise NotStuck("another turn has begun in this session", found)
        verdict = found.verdict
        if verdict.code is Code.STUCK and not ask.force:
            if not (ask.by_person or verdict.ripe or ask.retry_of):
                raise NotStuck("its window has not passed yet", found)
            if verdict.settlement is None:
                raise NotStuck(verdict.reason, found)
            return verdict.settlement
        if not ask.force or verdict.code not in FORCEABLE:
            raise NotStuck(f"it is {verdict.code}: {verdict.reason}", found)
        if ask.target_status is None:
            raise NotStuck("force must name the status to settle it to", found)
        ended_at = verdict.settlement.ended_at if verdict.settlement else _last_sign(found)
        return settle(row, ask.target_status, ended_at)

    def _intent(self, found: Finding | None, settlement: Settlement, ask: Ask) -> Attempt:
        if found is None:
            raise NotStuck("its row is gone", None)
        row, now = found.evidence.row, self._clock.now()
        return Attempt(
            id=self._audit.next_id(now),
            kind="settle",
            opened_at=now,
            state_dir=found.target.state_dir,
            store_path=found.target.path,
            agent_id=found.agent_id,
            session_key=row.key,
            session_id=row.session_id or "",
            started_at=row.started_at,
            trigger=ask.trigger,
            actor=ask.actor,
            reason=ask.reason,
            verdict=found.verdict.code,
            verdict_reason=found.verdict.reason,
            before=describe_fields(row),
            after=settlement.as_fields(),
            evidence=describe_evidence(found.evidence, self._settings.policy),
            forced=ask.force,
            retry_of=ask.retry_of,
        )

    def _carry_out(
        self, folder: Folder, target: StoreTarget, attempt: Attempt, rewrite: Callable[[StoreBytes], _Rewrite]
    ) -> Attempt:
        self._audit.open(attempt)
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
                    patience=self._patience(attempt.trigger),
                    ours=self.left.get(target.path),
                )
                base = read_for_writing(folder, target.name, self._settings.store_max_bytes)
                plan = rewrite(base)
                if plan.edit.empty:
                    raise _Stop(Outcome.SUPERSEDED, "the row already says so")
                self._audit.change(
                    attempt.id,
                    edit=[asdict(change) for change in plan.edit.fields],
                    base_sha256=hashlib.sha256(base.data).hexdigest(),
                    new_sha256=hashlib.sha256(plan.new).hexdigest(),
                    **plan.note,
                )
                token = attempt.id if not crossings else f"{attempt.id}.try{crossings}"  # each try keeps its quarantine
                change = Change(base, plan.new, plan.edit, token)
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
                raise _Stop(Outcome.REFUSED, f"the gateway wrote to the store {MOST_TRIES} times in between")
            outcome, why = Outcome.APPLIED, None
        except _Stop as stop:
            outcome, why = stop.outcome, str(stop)
        except StoreBusy as error:
            busy, outcome, why = error, Outcome.REFUSED, str(error)
        except (NoExchange, WriteFailed, FileProblem, StoreProblem, CannotSplice) as error:
            outcome, why = Outcome.REFUSED, str(error)
        except (NotDurable, VersionsKept) as error:
            outcome, why = Outcome.UNKNOWN, str(error)
        now = self._clock.now()
        more_looks = outcome in (Outcome.APPLIED, Outcome.UNKNOWN) or crossings > 0
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

    @staticmethod
    def _as_we_left_it(row: Row | None, repair: Attempt) -> None:
        if row is None:
            raise CannotUndo("its row is gone")
        if (row.session_id, row.started_at) != (repair.session_id, repair.started_at):
            raise CannotUndo("another turn has begun in this session since the repair")
        if describe_fields(row) != repair.after:
            raise CannotUndo("the row has been changed since the repair")


def target_of(attempt: Attempt) -> StoreTarget:
    """The store of an attempt, as it was found then."""
    folder = attempt.store_path.rpartition("/")[0]
    return StoreTarget(
        attempt.state_dir, attempt.agent_id, attempt.store_path, agents_root(attempt.store_path) or folder
    )


def edit_of(attempt: Attempt) -> Edit:
    """What an attempt did to its row."""
    return Edit(attempt.session_key, tuple(FieldEdit(**change) for change in attempt.edit))


def reversed_edit(edit: Edit) -> Edit:
    """What an undo did to the row."""
    return Edit(edit.key, tuple(FieldEdit(c.name, c.after, c.before) for c in reversed(edit.fields)))


def _row_in(folder: Folder, target: StoreTarget, key: str, limit: int) -> Row | None:
    try:
        data, _ = folder.read(target.name, limit)
        return next((r for r in read_rows(data) if r.key == key), None)
    except (FileProblem, StoreProblem) as error:
        raise StoreUnfit(f"the store: {error.detail}") from None


def _blank(like: Attempt, attempt_id: str, now: int, ask: Ask) -> Attempt:
    """A new attempt on the same row as `like`."""
    return Attempt(
        id=attempt_id,
        kind=like.kind,
        opened_at=now,
        state_dir=like.state_dir,
        store_path=like.store_path,
        agent_id=like.agent_id,
        session_key=like.session_key,
        session_id=like.session_id,
        started_at=like.started_at,
        trigger=ask.trigger,
        actor=ask.actor,
        reason=ask.reason,
        verdict=like.verdict,
        verdict_reason=like.verdict_reason,
        before=like.before,
        after=like.after,
    )


def _last_sign(found: Finding) -> int:
    """When anything was last heard of a session that has no end."""
    signs = [t.last.ts for t in found.evidence.trails if t.last]
    return max([found.evidence.row.started_at or 0, *signs])
