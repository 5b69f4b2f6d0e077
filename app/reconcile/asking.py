"""What may be asked for: whether a session that was found may be settled, and whether a repair may be taken back."""

from __future__ import annotations

from dataclasses import dataclass

from app.audit.models import Attempt
from app.domain.describe import describe_fields
from app.domain.model import FORCEABLE, Code, Row, Settlement
from app.domain.settlement import settle
from app.reconcile.report import Finding


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
    only_if: frozenset[str] | None = None
    """Fingerprints: what is found must have one of them. `*` takes any, but there must be one. None: no condition."""

    @property
    def by_person(self) -> bool:
        return self.trigger != "scheduler"


class NotStuck(Exception):
    """The session is not one that may be settled; `finding` is what it was found to be (None: it is gone)."""

    def __init__(self, why: str, finding: Finding | None) -> None:
        super().__init__(why)
        self.finding = finding


class Changed(NotStuck):
    """The session is not any more what whoever asks has seen; `finding` is what it was found to be."""


class CannotUndo(Exception):
    """The row has moved on since the repair, or the repair changed nothing."""


class StoreUnfit(Exception):
    """The store is one that we never write to; nothing was done."""


def agree(found: Finding | None, seen: Finding, ask: Ask) -> tuple[Finding, Settlement]:
    """What to settle `found` to, if that is still the session that was `seen`. Raises NotStuck, Changed."""
    if ask.only_if is not None and (found is None or not ask.only_if & {"*", found.fingerprint}):
        said = f"it is {found.verdict.code}: {found.verdict.reason}" if found else "its row is gone"
        raise Changed(f"its fingerprint is another by now: {said}", found)
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
        return found, verdict.settlement
    if not ask.force or verdict.code not in FORCEABLE:
        raise NotStuck(f"it is {verdict.code}: {verdict.reason}", found)
    if ask.target_status is None:
        raise NotStuck("force must name the status to settle it to", found)
    ended_at = verdict.settlement.ended_at if verdict.settlement else _last_sign(found)
    return found, settle(row, ask.target_status, ended_at)


def as_we_left_it(row: Row | None, repair: Attempt) -> Row:
    """The row, if it stands as `repair` left it. Raises CannotUndo."""
    if row is None:
        raise CannotUndo("its row is gone")
    if (row.session_id, row.started_at) != (repair.session_id, repair.started_at):
        raise CannotUndo("another turn has begun in this session since the repair")
    if describe_fields(row) != repair.after:
        raise CannotUndo("the row has been changed since the repair")
    return row


def _last_sign(found: Finding) -> int:
    """When anything was last heard of a session that has no end."""
    signs = [t.last.ts for t in found.evidence.trails if t.last]
    return max([found.evidence.row.started_at or 0, *signs])
