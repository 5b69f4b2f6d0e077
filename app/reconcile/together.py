"""Several rows of one store settled by one publishing: what falls due together is proven on the same bytes.

Only what the scheduler settles, in files. Each session keeps an attempt of its own, with its own proof; of the files
that a crash may leave beside the store all of them have the same (`Attempt.published_with`). It is tried once: whatever
comes in between leaves each of them to be settled by itself, as ever (app.reconcile.repair).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.model import Row, Settlement
from app.domain.splice import CannotSplice, splice_rows
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.publish import Change, StoreChanged, read_for_writing
from app.openclaw.quiet import StoreBusy, is_quiet, sole_writer
from app.openclaw.sessions_json import StoreProblem, read_pieces, rows_of, spans_in
from app.reconcile.asking import Ask, NotStuck, agree
from app.reconcile.attempts import Stop, intent_to_settle, write_outcomes
from app.reconcile.file_hand import FileHand
from app.reconcile.hands import FILE
from app.reconcile.leftovers import anything_left
from app.reconcile.report import Finding
from app.reconcile.scan import Scanner
from app.settings import Settings

MOST_TOGETHER = 32
"""Sessions. The first of them was proven as long before the store is replaced as it takes to prove the others."""
_IN_BETWEEN = "the gateway wrote to the store in between; each of the sessions is settled by itself"


class Together:
    """Any number of threads; the folder's lock lets one write at a time."""

    def __init__(
        self, settings: Settings, clock: Clock, audit: AuditLog, scanner: Callable[[], Scanner], hand: FileHand
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._scanner = scanner
        self._hand = hand

    def settle(self, found: Sequence[Finding], ask: Ask) -> list[Attempt]:
        """Settle what was `found` in one store, MOST_TOGETHER at most, as far as it still stands so; gives the attempts
        at it, each of which is closed. Where fewer than two can be settled at this moment there are none.

        Raises AuditUnavailable.
        """
        if len(found) < 2:
            return []
        target = found[0].target
        try:
            with Folder(target.folder, target.root) as folder, sole_writer(folder, self._clock, 0):
                planned = self._planned(folder, target, found, ask)
                return self._carried_out(folder, target, *planned) if planned else []
        except (FileProblem, StoreProblem, StoreBusy, StoreChanged, CannotSplice):
            return []  # settled by itself each of them says what is wrong

    def _planned(
        self, folder: Folder, target: StoreTarget, found: Sequence[Finding], ask: Ask
    ) -> tuple[Change, list[Attempt]] | None:
        """The new version of the store as it stands now, and the intents that it carries out, with their plans."""
        quiet, ours = self._settings.store_quiet_seconds, self._hand.left.get(target.path)
        if not is_quiet(folder, target.name, self._clock.now(), quiet, ours):
            return None
        base = read_for_writing(folder, target.name, self._settings.store_max_bytes)
        pieces = read_pieces(base.data)
        proven = self._proven(target, rows_of(pieces), found, ask)
        if len(proven) < 2:
            return None
        rows = {again.key: fields.as_fields() for again, fields in proven}
        new, edits = splice_rows(base.data, rows, spans_in(base.data, pieces, rows))
        now = self._clock.now()
        ids = self._audit.next_ids(now, len(proven))
        base_sha256, new_sha256 = (hashlib.sha256(data).hexdigest() for data in (base.data, new))
        attempts = [
            replace(
                intent_to_settle(attempt_id, now, again, fields, ask, policy=self._settings.policy),
                edit=[asdict(change) for change in edit.fields],
                base_sha256=base_sha256,
                new_sha256=new_sha256,
                published_with=ids[0],
            )
            for attempt_id, (again, fields), edit in zip(ids, proven, edits, strict=True)
        ]
        return Change(base, new, ids[0]), attempts

    def _proven(
        self, target: StoreTarget, rows: tuple[Row, ...], found: Sequence[Finding], ask: Ask
    ) -> list[tuple[Finding, Settlement]]:
        """What of these rows, all that the store has, is still as it was `found`, and not for another hand, with what
        to settle it to.
        """
        proven: list[tuple[Finding, Settlement]] = []
        for finding in found:
            # One search for the gateway's processes, begun after these bytes were read, does for all of them.
            again = self._scanner().judge_row(target, rows, finding.key, processes_now=not proven)
            with suppress(NotStuck):
                found_again, fields = agree(again, finding, ask)
                if can_be_together(found_again):
                    proven.append((found_again, fields))
        return proven

    def _carried_out(
        self, folder: Folder, target: StoreTarget, change: Change, attempts: list[Attempt]
    ) -> list[Attempt]:
        self._audit.open(*attempts)
        mode, crossings, outcome, why = None, 0, Outcome.APPLIED, None
        try:
            mode = self._hand.put_in_place(folder, target, change)
            if mode is None:
                outcome, why, crossings = Outcome.REFUSED, _IN_BETWEEN, 1
        except StoreChanged:
            outcome, why = Outcome.REFUSED, _IN_BETWEEN
        except Stop as stop:
            outcome, why = stop.outcome, str(stop)
        left = anything_left(folder, attempts[0])
        return write_outcomes(
            self._audit, self._clock, attempts, outcome, why, left=left, mode=mode, crossings=crossings
        )


def can_be_together(finding: Finding) -> bool:
    """Whether the hand for files writes to it, and no other first."""
    return finding.hand == FILE and not finding.evidence.liveness.by_plugin
