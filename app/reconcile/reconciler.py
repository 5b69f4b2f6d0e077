"""One pass: look, settle what is due, look again at what was settled before; then the report is swapped in."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.audit.log import AuditLog, AuditUnavailable, Counted
from app.audit.models import Attempt, Outcome, Trigger
from app.clock import Clock
from app.domain.model import Code, Gateway
from app.openclaw.paths import StateDir, StoreTarget
from app.reconcile.audited import Audited
from app.reconcile.breaker import Breaker
from app.reconcile.due import Due
from app.reconcile.looks import Looker
from app.reconcile.marks import Marks
from app.reconcile.plugin_hand import PluginHand
from app.reconcile.put_off import PutOff
from app.reconcile.repair import Repairer
from app.reconcile.report import Finding, Report, StoreState
from app.reconcile.scan import Scanner
from app.reconcile.settling import Settling
from app.reconcile.telling import Teller
from app.reconcile.together import Together
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

logger = logging.getLogger("clawmend")

_OVER = (Code.STUCK, Code.ENDING)


class _Abandoned(Exception):
    """This pass was given up; what it still finds is of no use."""


class Reconciler:
    """Everything that a pass needs and remembers. `run_pass` runs in one thread at a time, the rest in any."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        audit: AuditLog,
        env: Mapping[str, str],
        gateway_of: Callable[[StateDir], Gateway] | None = None,
        *,
        links: GatewayLinks | None = None,
    ) -> None:
        """`links` to the gateways, which are the caller's to start and to stop; None: nobody is asked or told."""
        self.settings = settings
        self.clock = clock
        self.audit = audit
        self.links = links
        self.scanner = Scanner(settings, clock, env, gateway_of, links)
        self._teller = Teller(settings, clock, audit, links) if links else None
        plugin_hand = PluginHand(clock, audit, links) if links else None
        self.repairer = Repairer(
            settings, clock, audit, lambda: self.scanner, teller=self._teller, plugin_hand=plugin_hand
        )
        self.report = Report()
        self.attempts: Counter[Counted] = Counter()
        """What the audit has, as of the last pass."""
        self.failing = 0
        """How many sessions are put off because their repairs fail."""
        self.wake_at: int | None = None
        """When (epoch ms) the next thing falls due that a pass would do."""
        self.folders: frozenset[str] = frozenset()
        """Folders in which a change is worth a pass."""
        self.reading: tuple[str, float] | None = None
        """The store that the pass is at, and since when by the monotonic clock."""
        self.steps = 0
        """Stores that passes have come to."""
        self.skipped: set[str] = set()
        """Paths of stores from which a read has not come back."""
        self._audited = Audited()
        self._looker = Looker(clock, audit, settings.store_max_bytes)
        self._put_off = PutOff(clock)
        self._marks = Marks(settings, clock, audit, self._put_off)
        self.breaker = Breaker(settings, clock, audit)
        self._due = Due(settings, clock, self.repairer.file_hand, self._put_off)
        together = Together(settings, clock, audit, lambda: self.scanner, self.repairer.file_hand)
        self._settling = Settling(
            audit, self._audited, self.repairer, together, looker=self._looker, put_off=self._put_off
        )
        self._generation = 0

    def run_pass(self) -> Report | None:
        """Run one pass; None when it was abandoned meanwhile (see `abandon`)."""
        generation = self._generation
        overwritten = self._first_the_audit()
        report = self._look(generation)
        if report is None:
            return None
        self.report = report
        if self.audit_problem is None:
            due = self._let(report)
            stopped = self.breaker.is_open
            again = [a for a in overwritten if not (stopped and a.trigger == Trigger.SCHEDULER)]
            changed = self._settling.settle(report, due, again)
            self._tell()
            if changed:
                self._count()
                report = self._look(generation)
        if report is not None:
            self.report = report
            self.wake_at = self._next_due()
            self.folders = self._folders()
        return report

    def abandon(self) -> str | None:
        """Give up a pass whose read does not come back: its store is left out from now on. Gives the store's path."""
        reading = self.reading
        if reading is None:
            return None
        self._generation += 1
        self.skipped.add(reading[0])
        self.scanner = self.scanner.successor(reading[0])
        self.reading = None
        logger.error("reading a store does not come back; it is left out: %s", reading[0])
        return reading[0]

    @property
    def audit_problem(self) -> str | None:
        """Why the audit did not answer; nothing is settled until it does."""
        return self._audited.problem

    @property
    def progress(self) -> int:
        """Stores that passes have come to, and repairs that they have begun: while it grows, a long pass gets on."""
        return self.steps + self._settling.begun

    @property
    def repaired_total(self) -> int:
        """How many rows were settled, and stand so as far as we know."""
        return sum(n for by, n in self.attempts.items() if (by.kind, by.outcome) == ("settle", Outcome.APPLIED))

    def _count(self) -> None:
        with self._audited():
            self.attempts = self.audit.counts()

    def _tell(self) -> None:
        """Tell the gateways of what stands now: behind all repairs, since each telling makes the gateway write."""
        if self._teller is None:
            return
        with self._audited():
            self._teller.tell_all()

    def _next_due(self) -> int | None:
        now = self.clock.now()
        over = self.report.with_code(*_OVER)
        moments = [f.verdict.due_at for f in over if f.verdict.due_at and not (f.held_by or f.unwritable)]
        if self.audit_problem is None:
            with self._audited():
                moments += [self._looker.next_due(a) for a in self.audit.to_look_at()]
        moments += self._put_off.moments()
        moments += [f.flapping.until for f in over if f.flapping]
        later = [m for m in moments if m > now]
        return min(later, default=None)

    def _folders(self) -> frozenset[str]:
        there = {s.target.folder for s in self.report.stores if s.problem is None}
        unsure = {s.target.folder for s in self.report.stores if s.problem is not None}
        unsure |= {os.path.join(state.path, "agents") for state in self.scanner.state_dirs}
        return frozenset(there.union(folder for folder in unsure if os.path.isdir(folder)))

    def _first_the_audit(self) -> list[Attempt]:
        """Resolve what a crash left open, take the looks that are due; gives what was found overwritten."""
        try:
            self.audit.ping()
            resolved = self._looker.resolve_left_open()
            if resolved:
                logger.warning("%d repair attempts were found open and resolved from the disk", resolved)
            overwritten = self._looker.take_due()
            self.attempts = self.audit.counts()
        except AuditUnavailable as error:
            if self.audit_problem is None:
                logger.warning("no session is settled until the audit database answers: %s", error)
            self._audited.problem = str(error)
            return []
        self._audited.problem = None
        return overwritten

    def _look(self, generation: int) -> Report | None:
        started_at = self.clock.now()

        at = ""

        def seen(target: StoreTarget) -> None:
            nonlocal at
            if generation != self._generation:
                raise _Abandoned
            at = target.path
            self.steps += 1
            self.reading = (at, self.clock.monotonic())

        scanner = self.scanner
        try:
            sight = scanner.scan(seen, frozenset(self.skipped))
        except _Abandoned:
            sight = None
        if sight is None or generation != self._generation:
            self.skipped.discard(at)  # the read that was given up has come back
            return None
        self.reading = None
        marked: tuple[StoreState, ...] | None = None
        with self._audited():
            marked = self._marks.on(sight.stores) if self.audit_problem is None else None
        if marked is None:
            marked = self._marks.without_the_audit(sight.stores)
        report = Report(
            number=self.report.number + 1,
            started_at=started_at,
            finished_at=self.clock.now(),
            stores=marked,
            state_problems=tuple(sight.state_problems),
            bytes_read=scanner.bytes_read,
        )
        self.failing = self._put_off.forget_all_but(f.name for f in report.with_code(*_OVER))
        return report

    def _let(self, report: Report) -> list[Finding]:
        """What the scheduler settles in this pass. The breaker may be closed or opened by another Clawmend, too."""
        with self._audited():
            return self.breaker.let(self._due.of(report) if self.settings.auto_repair else [])
        return []
