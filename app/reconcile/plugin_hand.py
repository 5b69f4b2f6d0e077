"""The hand inside the gateway: the companion plugin changes the row, in the gateway's own queue (design, section 5).

1. judge on the bytes that stand there now; write the plan into the audit;
2. give the order: the plugin compares once more, and writes, in one step of the gateway;
3. write its answer into the audit. No answer is `unknown`, which the later looks resolve from the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import rfc3339
from app.domain.model import Row
from app.domain.splice import CannotSplice, Edit, FieldEdit
from app.openclaw.folder import FileProblem
from app.openclaw.gateway_plugin import Changed, NotReached, Order, Unanswered, order_to_undo
from app.openclaw.paths import StoreTarget
from app.openclaw.sessions_json import StoreProblem
from app.reconcile.attempts import Rewrite, Stop, write_outcome, write_plan

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

_MOVED_ON = ("missing", "session-id", "started-at", "not-running", "active-run", "changed")
"""Why the plugin changes nothing since the row is no longer one to change; any other reason is a refusal."""


class PluginHand:
    """Any number of threads. Raises AuditUnavailable."""

    def __init__(self, clock: Clock, audit: AuditLog, links: GatewayLinks) -> None:
        self._clock = clock
        self._audit = audit
        self._links = links

    def order_to_undo(self, row: Row, agent_id: str, edit: Edit) -> Order | None:
        return order_to_undo(row, agent_id, [_values(change) for change in _of_the_plugin(edit)])

    def carry_out(self, target: StoreTarget, attempt: Attempt, rewrite: Callable[[], Rewrite]) -> Attempt | None:
        """Carry out `attempt`, which is open, and close it; None where another hand has to."""
        done: dict[str, Any] = {}
        try:
            plan = rewrite()
            if plan.order is None:
                return None
            write_plan(self._audit, attempt, plan, hand="plugin")
            changed = self._links.change(target, plan.order)
            outcome, why = _outcome_of(changed, plan.edit)
            if outcome == Outcome.APPLIED:
                done["edit"] = _edit_of(changed)
            if changed.told and target.kind == "file":
                # of a database 2026.8.1 answers with a list that it remembers, until a row is patched: the teller does
                done["told"] = {"at": rfc3339(self._clock.now()), "answer": "as_repaired", "why": "by the plugin"}
        except NotReached:
            self._audit.change(attempt.id, hand=attempt.hand)
            return None
        except Stop as stop:
            outcome, why = stop.outcome, str(stop)
        except Unanswered as error:
            outcome, why = Outcome.UNKNOWN, str(error)
        except (FileProblem, StoreProblem, CannotSplice) as error:
            outcome, why = Outcome.REFUSED, str(error)
        return write_outcome(self._audit, self._clock, attempt, outcome, why, **done)


def _outcome_of(changed: Changed, edit: Edit) -> tuple[Outcome, str | None]:
    if not changed.applied:
        code = changed.reason.partition(" ")[0]
        outcome = Outcome.SUPERSEDED if code in _MOVED_ON else Outcome.REFUSED
        return outcome, f"the plugin changed nothing: {changed.reason or 'it does not say why'}"
    if any(_text(changed.after, change.name) != change.after for change in _of_the_plugin(edit)):
        return Outcome.UNKNOWN, "the plugin says that it has written something else"
    return Outcome.APPLIED, None


def _of_the_plugin(edit: Edit) -> list[FieldEdit]:
    """All but `updatedAt`, which is the gateway's affair where the gateway writes."""
    return [change for change in edit.fields if change.name != "updatedAt"]


def _edit_of(changed: Changed) -> list[dict[str, Any]]:
    """What the plugin did, as the audit keeps it: also fields that only a database has."""
    names = dict.fromkeys([*changed.before, *changed.after])
    edits = (FieldEdit(name, _text(changed.before, name), _text(changed.after, name)) for name in names)
    return [asdict(edit) for edit in edits if edit.before != edit.after]


def _text(fields: dict[str, Any], name: str) -> str | None:
    return json.dumps(fields[name]) if name in fields else None


def _values(change: FieldEdit) -> dict[str, Any]:
    texts = {"before": change.before, "after": change.after}
    return {"name": change.name, **{side: json.loads(text) for side, text in texts.items() if text is not None}}
