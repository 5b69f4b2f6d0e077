"""What keeps the scheduler away from a session that is found stuck: an undo, repairs that fail, or that it flaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.audit.log import AuditLog
from app.audit.recent import Name, settled_since
from app.clock import Clock
from app.domain.flapping import Flapping, FlappingPolicy, flapping
from app.domain.model import Code
from app.reconcile.put_off import PutOff
from app.reconcile.report import Finding, StoreState
from app.settings import Settings

_MARKED = (Code.STUCK, Code.ENDING)


class Marks:
    """For one thread."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog, put_off: PutOff) -> None:
        self._policy = settings.flapping
        self._clock = clock
        self._audit = audit
        self._put_off = put_off

    def on(self, stores: Sequence[StoreState]) -> tuple[StoreState, ...]:
        """`stores` with a mark on every session that has one. Raises AuditUnavailable."""
        if not any(map(_has_any, stores)):
            return tuple(stores)
        return self._with(stores, flapping_now(self._audit, self._policy, self._clock.now()), held=True)

    def without_the_audit(self, stores: Sequence[StoreState]) -> tuple[StoreState, ...]:
        """The same where the audit does not answer, which nothing is settled without."""
        return self._with(stores, {}, held=False)

    def _with(self, stores: Sequence[StoreState], flaps: dict[Name, Flapping], *, held: bool) -> tuple[StoreState, ...]:
        def marked(finding: Finding) -> Finding:
            if finding.verdict.code not in _MARKED:
                return finding
            row = finding.evidence.row
            by = self._audit.hold(finding.target.path, row.key, row.session_id, row.started_at) if held else None
            put_off_until, flap = self._put_off.until(finding.name), flaps.get(finding.name)
            return replace(finding, held_by=by, put_off_until=put_off_until, flapping=flap)

        return tuple(replace(s, open=tuple(map(marked, s.open))) if _has_any(s) else s for s in stores)


def _has_any(store: StoreState) -> bool:
    return not store.codes.isdisjoint(_MARKED)


def flapping_now(audit: AuditLog, policy: FlappingPolicy, now: int) -> dict[Name, Flapping]:
    """Every session that flaps at `now` (epoch ms), by its store and key. Raises AuditUnavailable."""
    settled = settled_since(audit, now - round(policy.seconds * 1000))
    return {name: flap for name, at in settled.items() if (flap := flapping(at, policy, now)) is not None}
