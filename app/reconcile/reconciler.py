"""One pass: look, settle what is due, look again at what was settled before; then the report is swapped in."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.audit.log import AuditLog, AuditUnavailable, Counted
from app.audit.models import Attempt, Outcome, Trigger
from app.clock import Clock
from app.domain.model import Code, Gateway
from app.openclaw.folder import FileProblem
from app.openclaw.paths import StateDir, StoreTarget
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import Ask, NotStuck, StoreUnfit
from app.reconcile.breaker import Breaker
from app.reconcile.due import Due
from app.reconcile.lanes import lanes, side_by_side
from app.reconcile.looks import Looker
from app.reconcile.marks import Marks
from app.reconcile.plugin_hand import PluginHand
from app.reconcile.put_off import PutOff
from app.reconcile.repair import Repairer
from app.reconcile.report import Finding, Report, StoreState
from app.reconcile.scan import Scanner
from app.reconcile.telling import Teller
from app.reconcile.together import MOST_TOGETHER, Together, can_be_together
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

logger = logging.getLogger("clawmend")

_OVER = (Code.STUCK, Code.ENDING)
_BY_ITSELF = Ask(Trigger.SCHEDULER, "clawmend", "its window has passed")
MOST_REPEATS = 3
"""How often a repair that the gateway overwrote is repeated before the session is put off."""
MOST_AT_ONCE = 8
"""Sessions that a pass settles side by side."""


class _Abandoned(Exception):
    """This pass was given up; what it still finds is of no use."""


class Reconciler:
    """Everything that a pass needs and remembers. `run_pass` runs in one thread at a time, which makes others where
    sessions of several stores are due; the rest in any.
    """

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
        self.audit_problem: str | None = None
        self.reading: tuple[str, float] | None = None
        """The store that the pass is at, and since when by the monotonic clock."""
        self.steps = 0
        """Stores that passes have come to, and repairs that they have begun: while it grows, a long pass gets on."""
        self.skipped: set[str] = set()
        """Paths of stores from which a read has not come back."""
        self._together = Together(settings, clock, audit, lambda: self.scanner, self.repairer.file_hand)
        self._looker = Looker(clock, audit, settings.store_max_bytes)
        self._put_off = PutOff(clock)
        self._marks = Marks(settings, clock, audit, self._put_off)
        self.breaker = Breaker(settings, clock, audit)
        self._due = Due(settings, clock, self.repairer.file_hand, self._put_off)
        self._occupied: set[str] = set()
        """Stores that somebody was at in this pass for longer than we wait: their other sessions have time too."""
        self._shared = threading.Lock()
        """For what several threads of one pass change: `steps` and what is put off."""
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
            self._occupied = set()
            repeated = {(a.store_path, a.session_key) for a in overwritten}
            due = [f for f in self._let(report) if f.name not in repeated]
            stopped = self.breaker.is_open
            changed = [self._repeat(a) for a in overwritten if not (stopped and a.trigger == Trigger.SCHEDULER)]
            changed.append(side_by_side(self._settle_in_order, lanes(due), MOST_AT_ONCE))
            self._tell()
            if any(changed):
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
    def repaired_total(self) -> int:
        """How many rows were settled, and stand so as far as we know."""
        return sum(n for by, n in self.attempts.items() if (by.kind, by.outcome) == ("settle", Outcome.APPLIED))

    @contextmanager
    def _audited(self) -> Iterator[None]:
        """Where the audit does not answer, that is remembered, and what needs it is left out."""
        try:
            yield
        except AuditUnavailable as error:
            self.audit_problem = str(error)

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
            self.audit_problem = str(error)
            return []
        self.audit_problem = None
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

    def _settle_in_order(self, lane: list[Finding]) -> bool:
        """Settle together what can be, the rest one behind the other, while the audit answers. True when anything
        changed.
        """
        done = self._settle_together(lane)
        changed = bool(done)
        for finding in lane:
            if self.audit_problem is not None:
                break
            if finding.name not in done and finding.target.path not in self._occupied:
                changed = self._settle(finding) or changed
        return changed

    def _settle_together(self, lane: list[Finding]) -> set[tuple[str, str]]:
        """Settle by one publishing what is due in one store, but for rows that a look at an earlier repair is to come
        for; the names of what needs nothing more.
        """
        done: set[tuple[str, str]] = set()
        by_store: dict[str, list[Finding]] = {}
        with self._audited():
            looked_at = {(a.store_path, a.session_key) for a in self.audit.to_look_at()}
            for finding in lane:
                if can_be_together(finding) and finding.name not in looked_at:
                    by_store.setdefault(finding.target.path, []).append(finding)
            for found in by_store.values():
                by_key = {finding.key: finding for finding in found}
                for at in range(0, len(found), MOST_TOGETHER):
                    if self.audit_problem is not None:
                        return done
                    for attempt in self._together.settle(found[at : at + MOST_TOGETHER], _BY_ITSELF):
                        with self._shared:
                            self.steps += 1
                        if attempt.outcome != Outcome.REFUSED:  # else each of them is tried by itself
                            done.add(by_key[attempt.session_key].name)
                            self._ended(by_key[attempt.session_key], attempt)
        return done

    def _settle(self, finding: Finding) -> bool:
        """Settle what is due. What we settled in this very turn a moment ago is looked at before it is done again."""
        row = finding.evidence.row
        try:
            earlier = self.audit.latest_applied(finding.target.path, row.key)
            turn = (row.session_id, row.started_at)
            if earlier and earlier.finished_at is None and (earlier.session_id, earlier.started_at) == turn:
                return self._repeat(earlier) if self._looker.finds_overwritten(earlier) else True
        except AuditUnavailable as error:
            self.audit_problem = str(error)
            return False
        return self._try(finding, _BY_ITSELF)

    def _repeat(self, attempt: Attempt) -> bool:
        """Settle again what the gateway has overwritten, a few times; then it counts as a failure."""
        repeats, earlier = 1, attempt
        while earlier.retry_of is not None and repeats < MOST_REPEATS:
            older = self.audit.get(earlier.retry_of)
            if older is None:
                break
            repeats, earlier = repeats + 1, older
        finding = next((f for f in self.report.find(attempt.session_key) if f.target.path == attempt.store_path), None)
        if finding is None or repeats >= MOST_REPEATS:
            if finding is not None:
                self._fail(finding, "the gateway keeps overwriting the repair")
            return False
        return self._try(finding, Ask(attempt.trigger, attempt.actor, f"again: {attempt.reason}", retry_of=attempt.id))

    def _try(self, finding: Finding, ask: Ask) -> bool:
        """Settle; a failure puts the session off. True when anything changed."""
        with self._shared:
            self.steps += 1
        try:
            attempt = self.repairer.settle(finding, ask)
        except NotStuck:
            return True
        except (StoreUnfit, StoreBusy, FileProblem) as error:
            if isinstance(error, StoreBusy):
                self._occupied.add(finding.target.path)
            self._fail(finding, str(error))
            return False
        except AuditUnavailable as error:
            self.audit_problem = str(error)
            logger.warning("no session is settled until the audit database answers: %s", error)
            return False
        self._ended(finding, attempt)
        return True

    def _ended(self, finding: Finding, attempt: Attempt) -> None:
        """Say how an attempt ended; a failure puts the session off."""
        if attempt.outcome == Outcome.APPLIED:
            logger.info("settled session %s: %s (attempt %s)", finding.session_id, attempt.after["status"], attempt.id)
        elif attempt.outcome != Outcome.SUPERSEDED:
            self._fail(finding, f"attempt {attempt.id} {attempt.outcome}: {attempt.outcome_reason}")

    def _fail(self, finding: Finding, why: str) -> None:
        """Put a session off, for longer each time, and say so."""
        with self._shared:
            failed = self._put_off.add(finding.name)
        logger.warning(
            "session %s could not be settled (%d times now), next try in %.0f s: %s",
            finding.session_id,
            failed.times,
            failed.delay,
            why,
        )
