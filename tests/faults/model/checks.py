"""When each invariant is asked: at every instant that anybody could see, behind every step, and when all is quiet."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from app.audit.log import AuditLog
from app.audit.models import Attempt
from app.reconcile.looks import MOST_LOOKS
from tests.faults.model import invariants as must
from tests.faults.model.record import Proof, Record, Standing
from tests.faults.model.rows import rows_of
from tests.faults.model.trails import SETTLED_AS
from tests.faults.model.world import DATABASES, ModelWorld


def at_an_instant(record: Record, live: bytes | None) -> list[str]:
    """I1, I2, I3 and I4, at a moment at which the store can be read; what is broken."""
    gateway = record.gateway
    try:
        version = must.i1_the_store_is_a_gateway_version_or_that_and_our_edit(gateway, live)
        if version is not None and live is not None:
            must.i2_not_a_byte_outside_the_four_fields_differs(version, live)
        must.i3_no_version_is_lost(gateway, live, record.kept())
        must.i4_a_deleted_store_stays_deleted(gateway, live)
    except AssertionError as error:
        return [str(error)]
    return []


class Checks:
    """Remembers what it has looked at, so that every standing and every outcome is judged once."""

    tally: ClassVar[Counter[str]] = Counter()
    """What was seen in all worlds together: a machine that never gets as far proves nothing."""

    def __init__(self, world: ModelWorld) -> None:
        self._world = world
        self._judged = 0
        self._applied: set[str] = set()
        self._settled: dict[str, Standing] = {}

    def behind_a_step(self, descriptors: int, *, by: str, whole_pass: bool) -> None:
        """I5, I6, I7, I9 and I10; and what was broken at an instant of the step."""
        world, record = self._world, self._world.record
        world.look()
        assert not record.broken, "; ".join(dict.fromkeys(record.broken))
        attempts = {name: world.attempts(name) for name in set(DATABASES.values())}
        every = [attempt for each in attempts.values() for attempt in each]
        for each in attempts.values():
            self._judge_standings(each)
        self._judged = len(record.stood)
        applied = [a for a in every if a.outcome == "applied" and a.id not in self._applied]
        must.i5_what_is_called_applied_is_on_the_disk(record, applied)
        self._applied |= {a.id for a in applied}
        must.i6_every_outcome_is_what_happened(record, every)
        if whole_pass:
            must.i6_no_attempt_is_left_open(attempts[DATABASES[by]])
        must.i10_on_doubt_nothing_is_written(world.oddities)
        must.i9_nothing_is_held_and_modes_are_kept(world.sessions, descriptors)

    def _judge_standings(self, attempts: list[Attempt]) -> None:
        for standing in self._world.record.stood[self._judged :]:
            theirs = [attempt for attempt in attempts if attempt.files_named == standing.named]
            if theirs:  # else it is of the other audit; I6 asks whether it is of any
                must.i7_no_row_changed_that_no_attempt_is_at(standing, theirs)
            for attempt in theirs:
                self._judge(standing, attempt, [a for a in attempts if a.id < attempt.id])

    def _judge(self, standing: Standing, attempt: Attempt, earlier: list[Attempt]) -> None:
        if attempt.kind == "settle":
            must.i7_what_was_settled_was_over(standing, attempt, clock_was_set=self._world.clock_was_set)
            must.i7_what_a_person_took_back_is_held(attempt, earlier)
            self._settled[attempt.id] = standing
        elif attempt.undo_of in self._settled:
            must.i7_what_was_undone_is_as_it_was(standing, attempt, self._settled[attempt.undo_of])

    def when_all_is_quiet(self) -> None:
        """I8, behind a time in which nobody but us did anything."""
        world = self._world
        for name in ("first", "stranger"):  # one on each database: nobody else brings its attempts to an end
            if not any(DATABASES[there] == DATABASES[name] for there in world.clawmends):
                world.start(name)
        self.run_until_nothing_is_due()
        self.pass_by_pass(3_700.0 + world.seconds_ahead())
        self.run_until_nothing_is_due()
        before = self._everything()
        self.pass_by_pass(4_000.0)
        assert self._everything() == before, "I8: a further pass wrote again"
        if world.oddities.of_the_store is None:
            attempts = [attempt for name in set(DATABASES.values()) for attempt in world.attempts(name)]
            must.i8_nothing_is_left_to_do(world.gateway, world.sessions, attempts, crashed=world.crashed)
            self._over_and_not_settled()

    def _over_and_not_settled(self) -> None:
        world = self._world
        rows = rows_of(world.record.note_live() or b"{}")
        for key, row in rows.items():
            if row.get("status") != '"running"':
                continue
            session_id, started_at = row["sessionId"].strip('"'), int(row["startedAt"])
            held = [
                one.reconciler.audit.hold(str(world.gateway.store), key, session_id, started_at)
                for one in world.clawmends.values()
            ]
            world.record.looked[session_id] = world.trails.tick
            over = _is_over(world.record, world.record.proof(key, rows), key, started_at)
            assert not over or all(held), f"I8: the turn of {key} is over, and nobody settled it"

    def count(self) -> None:
        world = self._world
        self.tally["worlds"] += 1
        self.tally["gateway writes"] += len(world.gateway.versions)
        self.tally["versions of ours that stood"] += len(world.record.stood)
        for attempt in (a for name in set(DATABASES.values()) for a in world.attempts(name)):
            self.tally[f"{attempt.kind} {attempt.outcome}"] += 1
            self.tally["crossed"] += attempt.crossings > 0
            self.tally["again"] += attempt.retry_of is not None
            self.tally["together"] += attempt.published_with is not None
            self.tally["found open"] += "found open" in (attempt.outcome_reason or "")

    def run_until_nothing_is_due(self) -> None:
        for _ in range(300):
            due = [self._pass(name) for name in list(self._world.clawmends)]
            later = [moment for moment in due if moment is not None]
            looks = any(self._to_look_at(one.reconciler.audit) for one in self._world.clawmends.values())
            if not later and not looks:
                return
            now = self._world.clock.now()
            self._world.clock.advance(max(0.02, (min(later, default=now + 5_000) - now) / 1000))
        raise AssertionError("I8: there is always something due")

    def _to_look_at(self, audit: AuditLog) -> list[Attempt]:
        """Those that come to an end by themselves: what waits for a store to be right again waits with it."""
        odd = self._world.oddities.of_the_store is not None
        return [a for a in audit.to_look_at() if not (odd and len(a.looks) >= MOST_LOOKS)]

    def pass_by_pass(self, seconds: float) -> None:
        for pause in (seconds, 5.0, 5.0):
            self._world.clock.advance(pause)
            for name in list(self._world.clawmends):
                self._pass(name)

    def _pass(self, name: str) -> int | None:
        descriptors = must.open_below(self._world.sessions)
        self._world.step(name, lambda one: one.run_pass(), ())
        self.behind_a_step(descriptors, by=name, whole_pass=True)
        return self._world.clawmends[name].reconciler.wake_at

    def _everything(self) -> object:
        world = self._world
        files = {}
        for path in world.sessions.iterdir():
            status = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            files[path.name] = (status.st_ino, status.st_mtime_ns, status.st_mode, data)
        return files, {name: world.attempts(name) for name in set(DATABASES.values())}


def _is_over(record: Record, proof: Proof, key: str, started_at: int) -> bool:
    """The turn has ended, and nothing is in doubt about it."""
    last, now = proof.last, record.gateway.clock.now()
    if last is None or last.end not in SETTLED_AS or proof.torn or not proof.regular or proof.open_runs:
        return False
    return last.key == key and started_at <= last.at <= now - 2_000_000 and started_at <= now
