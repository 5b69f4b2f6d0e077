"""Which sessions a pass settles, and in which order."""

from __future__ import annotations

from app.clock import Clock
from app.domain.model import Code
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.quiet import is_quiet
from app.reconcile.file_hand import FileHand
from app.reconcile.put_off import PutOff
from app.reconcile.report import Finding, Report
from app.settings import Settings


class Due:
    """For one thread. It remembers since when a store has not been quiet."""

    def __init__(self, settings: Settings, clock: Clock, file_hand: FileHand, put_off: PutOff) -> None:
        self._settings = settings
        self._clock = clock
        self._file_hand = file_hand
        self._put_off = put_off
        self._busy_since: dict[str, float] = {}

    def of(self, report: Report) -> list[Finding]:
        """Ripe sessions in quiet stores, the oldest first. A store that is never quiet is tried all the same; one in
        which another hand writes than the one for files need not be.
        """
        now = self._clock.monotonic()
        due: list[Finding] = []
        busy: set[str] = set()
        for finding in report.with_code(Code.STUCK):
            kept_away = finding.held_by or finding.unwritable or finding.flapping
            if kept_away or self._put_off.holds(finding.name) or not finding.verdict.ripe:
                continue
            path = finding.target.path
            if path in busy:
                continue
            if finding.hand.name == "file" and not self._quiet(finding.target):
                since = self._busy_since.setdefault(path, now)
                if now - since < self._settings.store_patience_seconds:
                    busy.add(path)
                    continue
            self._busy_since.pop(path, None)
            due.append(finding)
        return due

    def _quiet(self, target: StoreTarget) -> bool:
        quiet, ours = self._settings.store_quiet_seconds, self._file_hand.left.get(target.path)
        try:
            with Folder(target.folder, target.root) as folder:
                return is_quiet(folder, target.name, self._clock.now(), quiet, ours)
        except FileProblem:
            return False
