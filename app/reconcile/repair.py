"""One repair, one undo: the intent first, then the store, then the outcome (design, section 3).

1. nobody else of us writes to this folder (a lock on the folder itself, which leaves no file);
2. judge on the bytes that stand there now; a dry run ends here with the plan;
3. from the intent to the outcome it is one of our hands (app.reconcile.hands), which asks us to judge AGAIN on the very
   bytes that it is about to replace; the later looks are app.reconcile.looks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import describe_evidence, describe_fields
from app.domain.entry import entry_edit, restored_entry, settled_entry
from app.domain.model import Row, Settlement
from app.domain.splice import splice_rows, unsplice
from app.openclaw.database_row import read_entry
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.gateway_plugin import Order, order_to_settle
from app.openclaw.paths import StoreTarget
from app.openclaw.publish import StoreBytes
from app.openclaw.quiet import sole_writer
from app.openclaw.sessions_json import StoreProblem
from app.reconcile.asking import Ask, CannotUndo, NotStuck, StoreUnfit, agree, as_we_left_it
from app.reconcile.attempts import (
    Rewrite,
    Stop,
    edit_of,
    intent_to_settle,
    intent_to_undo,
    reversed_edit,
    target_of,
)
from app.reconcile.database_hand import DatabaseHand
from app.reconcile.file_hand import FileHand
from app.reconcile.hands import Hand
from app.reconcile.plugin_hand import PluginHand
from app.reconcile.report import Finding
from app.reconcile.scan import Scanner
from app.reconcile.standing import LastRead, row_in
from app.reconcile.telling import Teller
from app.settings import Settings


class Repairer:
    """Settles rows and takes it back. Any number of threads; the folder's lock lets one write at a time."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        audit: AuditLog,
        scanner: Callable[[], Scanner],
        *,
        teller: Teller | None = None,
        plugin_hand: PluginHand | None = None,
    ) -> None:
        """`teller` tells the gateway of what a person asks for; of the scheduler's repairs a pass tells at its end.
        `plugin_hand` is the better hand, where the gateway has our plugin.
        """
        self._plugin_hand = plugin_hand
        self._settings = settings
        self._teller = teller
        self._clock = clock
        self._audit = audit
        self._scanner = scanner
        self.file_hand = FileHand(settings, clock, audit)
        self._database_hand = DatabaseHand(clock, audit)

    def settle(self, finding: Finding, ask: Ask) -> Attempt:
        """Settle one session; a dry run gives the attempt as it would be, without an id in the audit.

        Raises NotStuck, StoreUnfit, StoreBusy (its attempt is then closed as `refused`) and AuditUnavailable; any other
        failure is the outcome of the attempt.
        """
        with ExitStack() as stack:
            folder = self._enter(stack, finding.target, ask.trigger)
            last = LastRead()
            now_found, settlement = agree(self._look(folder, finding, ask, last), finding, ask)
            if now_found.unwritable:
                raise StoreUnfit(now_found.unwritable)
            now = self._clock.now()
            attempt = intent_to_settle(
                self._audit.next_id(now), now, now_found, settlement, ask, policy=self._settings.policy
            )
            if ask.dry_run:
                return attempt

            def rewrite(base: StoreBytes) -> Rewrite:
                again = self._scanner().judge_row(finding.target, last.rows(base.data), finding.key)
                return self._settled(again, base.data, finding, ask, last)

            def rewrite_entry() -> Rewrite:
                again, text = self._scanner().judge_entry(finding.target, finding.key) or (None, b"")
                return self._settled(again, text, finding, ask, last)

            better = self._plugin_hand.carry_out if self._plugin_hand and _order(now_found, settlement) else None
            if finding.target.kind == "database":
                done = self._database_hand.carry_out(finding.target, attempt, rewrite_entry, better)
            else:
                done = self.file_hand.carry_out(folder, finding.target, attempt, rewrite, better)
        return self._told(done, ask)

    def _settled(self, again: Finding | None, base: bytes, seen: Finding, ask: Ask, last: LastRead) -> Rewrite:
        """`base` with the row settled, if `again`, what was found on it, is still the session that was `seen`; `last`
        knows where in a file it stands. Raises Stop, CannotSplice.
        """
        try:
            found, fields = agree(again, seen, ask)
        except NotStuck as error:
            raise Stop(Outcome.SUPERSEDED, str(error)) from None
        row = found.evidence.row
        if seen.target.kind == "database":
            new = settled_entry(base, fields, row.run_id or "")
            edit = entry_edit(seen.key, base, new)
        else:
            new, (edit,) = splice_rows(base, {seen.key: fields.as_fields()}, last.spans(base, [seen.key]))
        note: dict[str, Any] = {
            "before": describe_fields(row),
            "after": fields.as_fields(),
            "evidence": describe_evidence(found.evidence, self._settings.policy),
        }
        return Rewrite(base, new, edit, note, _order(found, fields), found.hand)

    def undo(self, repair: Attempt, ask: Ask) -> Attempt:
        """Give the row back as it was before `repair`. Raises CannotUndo, StoreUnfit, StoreBusy, AuditUnavailable."""
        if repair.kind != "settle" or repair.outcome != Outcome.APPLIED:
            raise CannotUndo(f"attempt {repair.id} did not settle a row, so there is nothing to take back")
        target = target_of(repair)
        edit = edit_of(repair)
        with ExitStack() as stack:
            folder = self._enter(stack, target, ask.trigger)
            latest = self._audit.latest_applied(repair.store_path, repair.session_key)
            if latest is None or latest.id != repair.id:
                by = f"by attempt {latest.id}" if latest else "or found overwritten"
                raise CannotUndo(f"this row has been changed again since, {by}")
            row = as_we_left_it(self._row_in(folder, target, repair.session_key), repair)
            if target.kind == "database":
                self._writable(target, row, repair.agent_id)
            now = self._clock.now()
            attempt = intent_to_undo(self._audit.next_id(now), now, repair, ask)
            if ask.dry_run:
                return attempt
            last = LastRead()

            def rewrite(base: StoreBytes) -> Rewrite:
                rows = {r.key: r for r in last.rows(base.data)}
                hand, order = self._to_undo(target, rows.get(repair.session_key), repair)
                restored = unsplice(base.data, edit, last.spans(base.data, [edit.key]))
                return Rewrite(base.data, restored, reversed_edit(edit), {}, order, hand)

            def rewrite_entry() -> Rewrite:
                row, text = read_entry(folder, target.name, repair.session_key) or (None, b"")
                hand, order = self._to_undo(target, row, repair)
                new = restored_entry(text, edit)
                return Rewrite(text, new, entry_edit(repair.session_key, text, new), {}, order, hand)

            better = self._plugin_hand.carry_out if self._plugin_hand else None
            if target.kind == "database":
                done = self._database_hand.carry_out(target, attempt, rewrite_entry, better)
            else:
                done = self.file_hand.carry_out(folder, target, attempt, rewrite, better)
        return self._told(done, ask)

    def _to_undo(self, target: StoreTarget, row: Row | None, repair: Attempt) -> tuple[Hand, Order | None]:
        """Who may take `repair` back from the row as it stands now, and the order where that is the plugin. Raises
        Stop, FileProblem.
        """
        try:
            row = as_we_left_it(row, repair)
        except CannotUndo as error:
            raise Stop(Outcome.SUPERSEDED, str(error)) from None
        hand = self._scanner().hand_now(target, row, repair.agent_id)
        if hand.name != "plugin" or self._plugin_hand is None:
            return hand, None
        return hand, self._plugin_hand.order_to_undo(row, repair.agent_id, edit_of(repair))

    def _told(self, attempt: Attempt, ask: Ask) -> Attempt:
        if self._teller is None or not ask.by_person or attempt.outcome != Outcome.APPLIED:
            return attempt
        with suppress(AuditUnavailable):  # it is done and written down: a later pass tells, if that can be
            return self._teller.tell(attempt)
        return attempt

    def _enter(self, stack: ExitStack, target: StoreTarget, trigger: str) -> Folder:
        try:
            folder = stack.enter_context(Folder(target.folder, target.root))
        except FileProblem as error:
            raise StoreUnfit(f"the store's folder: {error.detail}") from None
        stack.enter_context(sole_writer(folder, self._clock, self.file_hand.patience(trigger)))
        return folder

    def _look(self, folder: Folder, finding: Finding, ask: Ask, last: LastRead) -> Finding | None:
        target = finding.target
        try:
            if target.kind == "database":
                found = self._scanner().judge_entry(target, finding.key)
                return found[0] if found is not None else None
            data, _ = folder.read(target.name, self._settings.store_max_bytes)
            return self._scanner().judge_row(target, last.rows(data), finding.key, processes_now=ask.by_person)
        except (FileProblem, StoreProblem) as error:
            raise StoreUnfit(f"the store: {error.detail}") from None

    def _writable(self, target: StoreTarget, row: Row, agent_id: str) -> None:
        """Raises StoreUnfit where none of our hands can write to the row now."""
        try:
            hand = self._scanner().hand_now(target, row, agent_id)
        except FileProblem as error:
            raise StoreUnfit(f"the store: {error.detail}") from None
        if hand.why_not:
            raise StoreUnfit(hand.why_not)

    def _row_in(self, folder: Folder, target: StoreTarget, key: str) -> Row | None:
        try:
            return row_in(folder, target, key, self._settings.store_max_bytes)
        except (FileProblem, StoreProblem) as error:
            raise StoreUnfit(f"the store: {error.detail}") from None


def _order(found: Finding, settlement: Settlement) -> Order | None:
    """What the plugin is to do; None where it did not answer for this row."""
    if not found.evidence.liveness.by_plugin:
        return None
    evidence = found.evidence
    return order_to_settle(evidence.row, found.agent_id, settlement.status, settlement.ended_at, evidence.ended_run)
