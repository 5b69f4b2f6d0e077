"""After a repair: looking again, and finding out from the disk what became of an attempt that a crash left open.

A gateway write that began before ours may still overwrite us, so the row is looked at again about 1, 5 and 60 s later.
Whatever an attempt left in the folder (its new version, or a displaced one) is put away
here too, and only when it is known to be an ancestor of what is live.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import describe_fields, rfc3339
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.publish import OWN_PREFIX, WriteFailed, exchange, sync_file
from app.openclaw.quiet import StoreBusy, sole_writer
from app.openclaw.sessions_json import StoreProblem, read_rows
from app.reconcile.rewrite import target_of

AFTER_SECONDS = (1.0, 5.0, 60.0)
_ANY_SIZE = 1 << 40
_NOTHING = hashlib.sha256(b"").hexdigest()


class Looker:
    """Takes the later looks. `take_due` gives the repairs that were found overwritten: they want repeating."""

    def __init__(self, clock: Clock, audit: AuditLog, store_max_bytes: int) -> None:
        self._clock = clock
        self._audit = audit
        self._limit = store_max_bytes

    def next_due(self, attempt: Attempt) -> int:
        """When (epoch ms) the next look at `attempt` is due."""
        step = AFTER_SECONDS[min(len(attempt.looks), len(AFTER_SECONDS) - 1)]
        return (attempt.decided_at or attempt.opened_at) + round(step * 1000)

    def take_due(self) -> list[Attempt]:
        now = self._clock.now()
        overwritten = []
        for attempt in self._audit.to_look_at():
            turned_back = now < (attempt.decided_at or attempt.opened_at)
            if now < self.next_due(attempt) and not turned_back:
                continue
            with suppress(StoreBusy):
                now_is = self._look(attempt)
                if now_is == Outcome.OVERWRITTEN != attempt.outcome and attempt.kind == "settle":
                    overwritten.append(attempt)
        return overwritten

    def finds_overwritten(self, attempt: Attempt) -> bool:
        """A look before its time, since a pass has found the row stuck again."""
        try:
            return attempt.kind == "settle" and self._look(attempt) == Outcome.OVERWRITTEN
        except StoreBusy:
            return False

    def resolve_left_open(self) -> int:
        """Give every attempt that a crash left open the outcome that the disk shows; how many were resolved.

        One that is under way in another process holds its folder's lock and is left alone.
        """
        resolved = 0
        for attempt in self._audit.left_open():
            target = target_of(attempt)
            try:
                with Folder(target.folder, target.root) as folder, sole_writer(folder, self._clock, 0):
                    current = self._audit.get(attempt.id)
                    if current is None or current.outcome is not None:
                        continue
                    kept, exchanged = _put_away(folder, target.name, current)
                    outcome, why = _after_a_crash(
                        self._found(folder, target.name, current), kept=kept, exchanged=exchanged
                    )
            except StoreBusy:
                continue
            except (FileProblem, OSError) as error:
                outcome, why = Outcome.UNKNOWN, f"found open at start; the store's folder: {error}"
            self._audit.change(attempt.id, outcome=outcome, outcome_reason=why, decided_at=self._clock.now())
            resolved += 1
        return resolved

    def _look(self, attempt: Attempt) -> str:
        """One look, written into the audit; gives the outcome as it is now."""
        target = target_of(attempt)
        now = self._clock.now()
        last = len(attempt.looks) + 1 >= len(AFTER_SECONDS)
        kept = False
        try:
            with Folder(target.folder, target.root) as folder, sole_writer(folder, self._clock, 0):
                current = self._audit.get(attempt.id)
                if current is None or current.looks != attempt.looks or current.finished_at is not None:
                    return attempt.outcome or Outcome.UNKNOWN  # another Clawmend has just taken this look
                kept, _ = _put_away(folder, target.name, attempt)
                newest = self._audit.latest_applied(attempt.store_path, attempt.session_key)
                changed_again = newest is not None and newest.id > attempt.id
                found = "changed_again" if changed_again else self._found(folder, target.name, attempt)
        except (FileProblem, OSError) as error:
            found = "gone" if getattr(error, "code", "") == "missing" else "unreadable"
        look = {"at": rfc3339(now), "found": found}
        outcome, why = _after_a_look(attempt, found)
        if last and kept:
            outcome, why = Outcome.UNKNOWN, f"a version that the gateway wrote is kept in {OWN_PREFIX}{attempt.id}.*"
        done = last or outcome == Outcome.OVERWRITTEN
        self._audit.add_look(attempt.id, look, outcome=outcome, outcome_reason=why, finished_at=now if done else None)
        return outcome

    def _found(self, folder: Folder, name: str, attempt: Attempt) -> str:
        """`as_written`, `as_before`, `moved_on`, `gone` or `unreadable`."""
        try:
            data, _ = folder.read(name, self._limit)
            row = next((r for r in read_rows(data) if r.key == attempt.session_key), None)
        except FileProblem as error:
            return "gone" if error.code == "missing" else "unreadable"
        except StoreProblem:
            return "unreadable"
        if row is None:
            return "gone"
        same_turn = (row.session_id, row.started_at) == (attempt.session_id, attempt.started_at)
        if same_turn and describe_fields(row) == attempt.after:
            return "as_written"
        if same_turn and describe_fields(row) == attempt.before:
            return "as_before"
        return "moved_on"


def _after_a_look(attempt: Attempt, found: str) -> tuple[str, str | None]:
    outcome, why = attempt.outcome or Outcome.UNKNOWN, attempt.outcome_reason
    if found == "as_written" and outcome in (Outcome.UNKNOWN, Outcome.SUPERSEDED):
        return Outcome.APPLIED, "found on disk as it was to be written"
    if found == "as_before" and outcome == Outcome.UNKNOWN:
        return Outcome.REFUSED, f"the disk shows that nothing was written ({why})"
    if found == "as_before" and outcome == Outcome.APPLIED:
        return Outcome.OVERWRITTEN, "a gateway write that began before ours has put the row back"
    return outcome, why


def _after_a_crash(found: str, *, kept: bool, exchanged: bool) -> tuple[Outcome, str]:
    if kept:
        return Outcome.UNKNOWN, "found open at start; a version that the gateway wrote is kept beside the store"
    match found:
        case "as_written":
            return Outcome.APPLIED, "found open at start; the disk shows that it was written"
        case "as_before" if exchanged:
            return Outcome.OVERWRITTEN, "found open at start; ours was live, and a gateway write has put the row back"
        case "as_before":
            return Outcome.REFUSED, "found open at start; the disk shows that nothing was written"
        case "unreadable":
            return Outcome.UNKNOWN, "found open at start; the store cannot be read"
    return Outcome.SUPERSEDED, f"found open at start; the row has moved on ({found})"


def _put_away(folder: Folder, name: str, attempt: Attempt) -> tuple[bool, bool]:
    """Unlink what this attempt left of its own and of its ancestors. Gives whether a gateway version had to stay, and
    whether the version that we had read lay there: then ours was live once.
    """
    exchanged = False
    left = [n for n in folder.names() if n.startswith(f"{OWN_PREFIX}{attempt.id}")]
    kept = any(not n.endswith(".tmp") for n in left)
    for ours in sorted(n for n in left if n.endswith(".tmp")):
        digest, live, whole = _sha256(folder, ours), _sha256(folder, name), _is_whole(folder, ours)
        if whole and digest not in (attempt.new_sha256, attempt.base_sha256) and live == attempt.new_sha256:
            with suppress(OSError, WriteFailed):
                exchange(folder, ours, name)  # killed between the exchange and putting the gateway's version back
                sync_file(folder, name)
                digest, live = _sha256(folder, ours), _sha256(folder, name)
        exchanged = exchanged or digest == attempt.base_sha256
        torn_by_us = not whole and live != attempt.new_sha256
        if digest in (attempt.new_sha256, attempt.base_sha256, live, _NOTHING) or torn_by_us:
            with suppress(OSError):  # of a disk that fails now; a later look comes by
                os.fsync(folder.fd)
                os.unlink(ours, dir_fd=folder.fd)
        else:
            kept = True
    return kept, exchanged


def _is_whole(folder: Folder, ours: str) -> bool:
    """Whether a file of ours parses. One that does not was torn while we wrote it; or, where ours is live already, it
    is a gateway version that a power cut took the end of: never put back, and kept.
    """
    try:
        read_rows(folder.read(ours, _ANY_SIZE)[0])
    except (StoreProblem, FileProblem):
        return False
    return True


def _sha256(folder: Folder, name: str) -> str | None:
    try:
        return hashlib.sha256(folder.read(name, _ANY_SIZE)[0]).hexdigest()
    except FileProblem:
        return None
