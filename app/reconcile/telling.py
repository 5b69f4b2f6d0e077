"""Telling the gateway of a row that we have written, so that it tells those who watch (design, section 5)."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import rfc3339
from app.domain.model import Row
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.sessions_json import StoreProblem
from app.reconcile.attempts import target_of
from app.reconcile.standing import is_as_written, row_in
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks


class Teller:
    """Any number of threads. Raises AuditUnavailable."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog, links: GatewayLinks) -> None:
        self._clock = clock
        self._audit = audit
        self._links = links
        self._limit = settings.store_max_bytes
        self._injects = settings.free_sending_tab == "inject"
        self._lock = threading.Lock()
        """A pass and a request may come to tell of one repair at the same time."""

    def tell_all(self) -> None:
        """Whatever was written in the last minute and is not told yet."""
        for attempt in self._audit.to_look_at():
            if attempt.outcome == Outcome.APPLIED and self._wants_telling(attempt):
                self.tell(attempt)

    def _wants_telling(self, attempt: Attempt) -> bool:
        state = self._links.states().get(attempt.state_dir)
        again = attempt.told is not None and attempt.told["answer"] == "not_told"
        return attempt.told is None or (again and state is not None and state.code == "up")

    def tell(self, attempt: Attempt) -> Attempt:
        """Tell of `attempt`, if its row still stands as it was written: the call would bring back one that is gone."""
        with self._lock:
            return self._tell(self._audit.get(attempt.id) or attempt)

    def _tell(self, attempt: Attempt) -> Attempt:
        row = self._as_written(attempt) if self._wants_telling(attempt) else None
        if row is None:
            return attempt
        say = None
        if self._injects and attempt.kind == "settle" and attempt.after["status"] != "done":
            say = f"This turn ended as {attempt.after['status']}, and the gateway had missed it. (Clawmend)"
        told = self._links.tell(target_of(attempt), row, attempt.agent_id, attempt.after, say=say)
        note = {"at": rfc3339(self._clock.now()), "answer": told.answer, "why": told.why}
        self._audit.change(attempt.id, told=note)
        return replace(attempt, told=note)

    def _as_written(self, attempt: Attempt) -> Row | None:
        target = target_of(attempt)
        try:
            with Folder(target.folder, target.root) as folder:
                row = row_in(folder, target, attempt.session_key, self._limit)
        except (FileProblem, StoreProblem):
            return None
        return row if row is not None and is_as_written(row, attempt) else None
