"""After a repair: looking again, and finding out from the disk what became of an attempt that a crash left open.

A gateway write that began before ours may still overwrite us, so the row is looked at again about 1, 5 and 60 s later.
Whatever an attempt left in the folder is put away at the same time (app.reconcile.leftovers).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import rfc3339
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StoreTarget
from app.openclaw.quiet import StoreBusy, sole_writer
from app.reconcile.attempts import target_of
from app.reconcile.leftovers import Left, find_out, take_away
from app.reconcile.standing import what_stands

AFTER_SECONDS = (1.0, 5.0, 60.0)
MOST_LOOKS = 12
"""A file of ours that cannot be taken away is come back to, later each time: about 9 hours in all. A store that cannot
be read is come back to without an end, since nothing else tells what became of the attempt; so many looks are written.
"""


class Looker:
    """Takes the later looks. `take_due` gives the repairs that were found overwritten: they want repeating."""

    def __init__(self, clock: Clock, audit: AuditLog, store_max_bytes: int) -> None:
        self._clock = clock
        self._audit = audit
        self._limit = store_max_bytes

    def next_due(self, attempt: Attempt) -> int:
        """When (epoch ms) the next look at `attempt` is due."""
        taken = len(attempt.looks)
        step = AFTER_SECONDS[taken] if taken < len(AFTER_SECONDS) else AFTER_SECONDS[-1] * 2 ** (taken - 2)
        return (attempt.decided_at or attempt.opened_at) + round(step * 1000)

    def take_due(self) -> list[Attempt]:
        now = self._clock.now()
        due = []
        for attempt in self._audit.to_look_at():
            turned_back = now < (attempt.decided_at or attempt.opened_at)
            if now >= self.next_due(attempt) or turned_back:
                due.append(attempt)
        overwritten = []
        for attempts in _together(due):
            with suppress(StoreBusy):
                for attempt, now_is in self._look(attempts):
                    if now_is == Outcome.OVERWRITTEN != attempt.outcome and attempt.kind == "settle":
                        overwritten.append(attempt)
        return overwritten

    def finds_overwritten(self, attempt: Attempt) -> bool:
        """A look before its time, since a pass has found the row stuck again."""
        try:
            return attempt.kind == "settle" and (attempt, Outcome.OVERWRITTEN) in self._look([attempt])
        except StoreBusy:
            return False

    def resolve_left_open(self) -> int:
        """Give every attempt that a crash left open the outcome that the disk shows; how many were resolved.

        One that is under way in another process holds its folder's lock and is left alone.
        """
        return sum(self._resolve_together(attempts) for attempts in _together(self._audit.left_open()))

    def _resolve_together(self, attempts: list[Attempt]) -> int:
        """How many were resolved."""
        target = target_of(attempts[0])
        try:
            with Folder(target.folder, target.root) as folder, sole_writer(folder, self._clock, 0):
                current = [self._audit.get(attempt.id) for attempt in attempts]
                still_open = [attempt for attempt in current if attempt is not None and attempt.outcome is None]
                if not still_open:
                    return 0
                left = _left_beside(folder, target, still_open[0])
                for attempt in still_open:
                    found = what_stands(folder, target, attempt, self._limit)
                    outcome, why = _after_a_crash(attempt, found, left)
                    self._resolve(attempt, outcome, why)  # while no other Clawmend can be at it too
                take_away(folder, left)  # only now that what it told is written down; a look does what is left
                return len(still_open)
        except StoreBusy:
            return 0
        except (FileProblem, OSError) as error:
            for attempt in attempts:
                self._resolve(attempt, Outcome.UNKNOWN, f"found open at start; the store's folder: {error}")
            return len(attempts)

    def _resolve(self, attempt: Attempt, outcome: Outcome, why: str) -> None:
        self._audit.change(attempt.id, outcome=outcome, outcome_reason=why, decided_at=self._clock.now())

    def _look(self, attempts: list[Attempt]) -> list[tuple[Attempt, str]]:
        """One look at each, written into the audit while no other Clawmend can take it too; gives the outcomes as they
        are now.
        """
        target = target_of(attempts[0])
        try:
            with Folder(target.folder, target.root) as folder, sole_writer(folder, self._clock, 0):
                waiting = [attempt for attempt in attempts if self._waits(attempt)]
                if not waiting:
                    return []
                left = _left_beside(folder, target, waiting[0])
                noted = [(each, self._note(each, self._found(folder, target, each), left)) for each in waiting]
                all_of_it = take_away(folder, left)
                for attempt, outcome in noted:
                    self._finish(attempt, outcome, all_of_it=all_of_it)
                return noted
        except (FileProblem, OSError) as error:
            gone = getattr(error, "code", "") == "missing"
            return [(attempt, self._without_the_folder(attempt, gone=gone)) for attempt in attempts]

    def _waits(self, attempt: Attempt) -> bool:
        """Whether no other Clawmend has just taken this look."""
        current = self._audit.get(attempt.id)
        return current is not None and current.looks == attempt.looks and current.finished_at is None

    def _found(self, folder: Folder, target: StoreTarget, attempt: Attempt) -> str:
        newest = self._audit.latest_applied(attempt.store_path, attempt.session_key)
        changed_again = newest is not None and newest.id > attempt.id
        return "changed_again" if changed_again else what_stands(folder, target, attempt, self._limit)

    def _without_the_folder(self, attempt: Attempt, *, gone: bool) -> str:
        """A look that came to nothing, since nothing could be read."""
        if gone:
            outcome = self._note(attempt, "gone", Left())
            self._finish(attempt, outcome, all_of_it=True)
            return outcome
        if len(attempt.looks) < MOST_LOOKS:
            return self._note(attempt, "unreadable", Left())
        return attempt.outcome or Outcome.UNKNOWN  # said often enough; it is looked at until it can be read

    def _note(self, attempt: Attempt, found: str, left: Left) -> str:
        """Write down what was found, before that which tells it is taken away."""
        last = len(attempt.looks) + 1 >= len(AFTER_SECONDS)
        outcome, why = _after_a_look(attempt, found, left, last=last)
        if left.kept and (last or attempt.outcome == Outcome.UNKNOWN):
            outcome, why = Outcome.UNKNOWN, _is_kept(left)
        look = {"at": rfc3339(self._clock.now()), "found": found}
        self._audit.add_look(attempt.id, look, outcome=outcome, outcome_reason=why)
        return outcome

    def _finish(self, attempt: Attempt, outcome: str, *, all_of_it: bool) -> None:
        """No more looks, where this was the last."""
        taken = len(attempt.looks) + 1
        last = taken >= len(AFTER_SECONDS) or outcome == Outcome.OVERWRITTEN
        if last and (all_of_it or taken >= MOST_LOOKS):
            self._audit.change(attempt.id, finished_at=self._clock.now())


def _together(attempts: Iterable[Attempt]) -> Iterable[list[Attempt]]:
    """Parted by the files that they may have left: what these tell is told of all of them before any is taken away."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.files_named, []).append(attempt)
    return found.values()


def _left_beside(folder: Folder, target: StoreTarget, attempt: Attempt) -> Left:
    """What `attempt` left beside a file; beside a database there is never anything: the row itself tells."""
    return Left(was_live=False) if target.kind == "database" else find_out(folder, target.name, attempt)


def _after_a_look(attempt: Attempt, found: str, left: Left, *, last: bool) -> tuple[str, str | None]:
    outcome, why = attempt.outcome or Outcome.UNKNOWN, attempt.outcome_reason
    if found == "as_before" and outcome == Outcome.UNKNOWN and _under_way_elsewhere(attempt) and not last:
        return outcome, why  # whoever is slow may still have the order
    if found == "as_written" and outcome in (Outcome.UNKNOWN, Outcome.SUPERSEDED):
        return Outcome.APPLIED, "found on disk as it was to be written"
    if found == "as_before" and outcome == Outcome.UNKNOWN and left.was_live is False:
        return Outcome.REFUSED, f"the disk shows that nothing was written ({why})"
    if found == "as_before" and (outcome == Outcome.APPLIED or (outcome == Outcome.UNKNOWN and left.was_live)):
        return Outcome.OVERWRITTEN, "a gateway write that began before ours has put the row back"
    return outcome, why


def _after_a_crash(attempt: Attempt, found: str, left: Left) -> tuple[Outcome, str]:
    if left.kept:
        return Outcome.UNKNOWN, f"found open at start; {_is_kept(left)}"
    if found == "as_written":
        return Outcome.APPLIED, "found open at start; the disk shows that it was written"
    if _under_way_elsewhere(attempt):
        return Outcome.UNKNOWN, f"found open at start; another process may have got the order ({found})"
    if left.was_live is False:
        outcome = Outcome.REFUSED if found == "as_before" else Outcome.SUPERSEDED
        return outcome, f"found open at start; the disk shows that nothing was written ({found})"
    if left.was_live and found == "as_before":
        return Outcome.OVERWRITTEN, "found open at start; ours was live, and a gateway write has put the row back"
    if left.was_live:
        return Outcome.APPLIED, f"found open at start; ours was live, and the row has moved on ({found})"
    return Outcome.UNKNOWN, f"found open at start; the disk does not tell whether it was written ({found})"


def _under_way_elsewhere(attempt: Attempt) -> bool:
    """Whether another process than ours, which may outlast us, may have got the order to write."""
    return attempt.hand == "plugin" or (attempt.hand == "database" and attempt.new_sha256 is not None)


def _is_kept(left: Left) -> str:
    return f"a version that the gateway wrote is kept in {', '.join(left.kept)}"
