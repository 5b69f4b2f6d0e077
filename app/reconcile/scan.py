"""Looking at every store once: what changed is read, the rest is remembered."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from app.clock import Clock
from app.domain.model import RUNNING, Code, Gateway, Policy, Row
from app.openclaw.folder import FileProblem
from app.openclaw.notices import Notices
from app.openclaw.paths import StateDir, StoreTarget, expand_home, home_dir
from app.openclaw.sessions_json import StoreProblem
from app.openclaw.trails import TrailReader
from app.reconcile.hands import Hand
from app.reconcile.judging import OVER, Children, Judging
from app.reconcile.places import Places
from app.reconcile.report import Finding, Problem, StoreState
from app.reconcile.resting import Resting, Spell, shortest
from app.reconcile.stores import LEFT_OVER, Known, Stores, known_of
from app.reconcile.unmoved import Unmoved
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

_AT_WORK = (Code.WORKING, Code.WAITING, Code.RECOVERING)
_PENDING_MS = 600_000
"""A child row without a status counts as waiting to run for this long after its last write."""


@dataclass(slots=True)
class Sight:
    """What one pass sees."""

    stores: list[StoreState] = field(default_factory=list)
    state_problems: list[tuple[str, Problem]] = field(default_factory=list)


class Scanner:
    """Finds stores and judges their rows. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        env: Mapping[str, str],
        gateway_of: Callable[[StateDir], Gateway] | None = None,
        links: GatewayLinks | None = None,
    ) -> None:
        """`gateway_of`: how to find the gateway of a state dir; by default among the processes of this machine.
        `links` to ask the gateways by; None asks nobody.
        """
        self._lock = threading.RLock()
        self._gateway_given = gateway_of
        self._links = links
        self._settings = settings
        self._clock = clock
        self._env = env
        self._policy: Policy = settings.policy
        self._looked_at: set[str] = set()
        self._found: list[tuple[Finding, ...]] = []
        """All that ran in the last pass, store by store."""
        self._shown: dict[str, tuple[Known, tuple[Finding, ...], StoreState]] = {}
        """By path: what was last known of the store, its rows that run, and how both were shown."""
        self._unmoved: Unmoved | None = None
        trajectory_dir = (env.get("OPENCLAW_TRAJECTORY_DIR") or "").strip()
        self._elsewhere = os.path.abspath(expand_home(trajectory_dir, home_dir(env))) if trajectory_dir else None
        """Where trajectories are too: of a name that comes there no store's folder tells."""
        self._trails = TrailReader(self._elsewhere, settings.silent_after_seconds)
        self._resting = Resting(clock, self._policy)
        self._notices = Notices(clock)
        self._stores = Stores(clock, self._policy, settings.store_max_bytes, self._trails, self._notices)
        self._places = Places(settings, env, self._stores.listed)
        self._judging = Judging(settings, clock, env, self._stores, gateway_of=gateway_of, links=links)

    @property
    def state_dirs(self) -> tuple[StateDir, ...]:
        return self._places.state_dirs

    @property
    def bytes_read(self) -> int:
        """Bytes of stores and trajectories that were read so far."""
        return self._stores.bytes_read + self._trails.bytes_read

    def scan(self, seen: Callable[[StoreTarget], None] = lambda _: None, skip: frozenset[str] = frozenset()) -> Sight:
        """Judge every row. `seen` is told of each store before anything of it is read; those in `skip` are left out."""
        with self._lock:
            return self._scan(seen, skip)

    def _scan(self, seen: Callable[[StoreTarget], None], skip: frozenset[str]) -> Sight:
        self._notices.begin()
        targets, problems = self._places.targets()
        self._judging.gateways = {}
        if not skip and (unmoved := self._unmoved) is not None and self._still(unmoved, targets):
            self._note_work(targets, unmoved.at_work)
            return Sight(list(unmoved.stores), problems)
        self._unmoved = None
        if (paths := {target.path for target in targets}) != self._looked_at:
            self._stores.wake()
            self._shown.clear()
        self._looked_at = paths
        sight = Sight(state_problems=problems)
        looked: list[tuple[StoreTarget, Known | Problem]] = []
        for target in targets:
            if target.path in skip:
                looked.append((target, Problem("not_answering", "reading it has not come back; it is left out")))
                continue
            seen(target)
            known = self._stores.look(target, in_a_pass=True)
            if known is not None:
                looked.append((target, known))
        children = self._children(looked)
        running: list[tuple[Finding, ...]] = []
        for target, known in looked:
            if isinstance(known, Problem):
                sight.stores.append(StoreState(target, problem=known))
                continue
            seen(target)
            running.append(self._running(target, known, children))
            sight.stores.append(self._shown_as(target, known, running[-1]))
        at_work = frozenset(s.target.state_dir for s in sight.stores if not s.codes.isdisjoint(_AT_WORK))
        self._note_work(targets, at_work)
        sight.stores = [s if s.codes.isdisjoint(OVER) else self._judging.calmed(s) for s in sight.stores]
        if running != self._found:
            found = [finding for findings in running for finding in findings]
            self._judging.watches.forget_all_but({f.name for f in found})
            self._trails.forget_all_but({t.path for f in found for t in f.evidence.trails})
        elif not skip and (spell := self._spell(targets, sight.stores)) is not None:
            self._unmoved = Unmoved(targets, dict(self._judging.gateways), spell, list(sight.stores), at_work)
        self._found = running  # what is the same value next time is known by being the same object
        return sight

    def _still(self, unmoved: Unmoved, targets: list[StoreTarget]) -> bool:
        """Whether this pass would see what that one saw."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return self._notices.told_of_nothing and unmoved.still(targets, now, monotonic, self._judging.gateway)

    def _note_work(self, targets: list[StoreTarget], at_work: frozenset[str]) -> None:
        for state_dir in {target.state_dir for target in targets}:
            self._judging.watches.note_work(state_dir, at_work=state_dir in at_work)

    def _spell(self, targets: list[StoreTarget], stores: list[StoreState]) -> Spell | None:
        """For how long all of this stands while no notice comes; None where something must be looked at each time."""
        if not all(self._stores.stands_by_word(target) for target in targets):
            return None
        spells = [Spell(0, math.inf, math.inf)]
        for store in stores:
            known = self._stores.known(store.target.path)
            if known is not None and not known.open_rows:
                continue
            stamp = self._notices.stamp(store.target.root, (store.target.folder,))
            spell = self._resting.spell(store.target.path, stamp)
            if spell is None:
                return None
            spells.append(spell)
        return shortest(spells)

    def _shown_as(self, target: StoreTarget, known: Known, running: tuple[Finding, ...]) -> StoreState:
        """One store as the report has it: as in the pass before, where nothing of it has changed."""
        before = self._shown.get(target.path)
        if before is not None and before[0] is known and before[1] is running:
            return before[2]
        shown = StoreState(target, known.identity, known.doubt, (*running, *known.odd), known.settled)
        self._shown[target.path] = known, running, shown
        return shown

    def judge_row(
        self, target: StoreTarget, rows: tuple[Row, ...], key: str, *, processes_now: bool = True
    ) -> Finding | None:
        """Judge one row of a store of which exactly these `rows` have just been read; None when it is not there.

        Without `processes_now` the last pass's word is taken for the gateway's processes: all is judged once more.
        Raises StoreProblem and FileProblem.
        """
        row = next((r for r in rows if r.key == key), None)
        if row is None:
            return None
        with self._lock:
            if self._stores.left_over(target):
                raise StoreProblem("sqlite_store", LEFT_OVER)
            if processes_now:
                self._judging.gateways.pop(target.state_dir, None)
            return self._judge_now(target, row, known_of(target, rows, self._policy))

    def judge_entry(self, target: StoreTarget, key: str) -> tuple[Finding, bytes] | None:
        """Judge one row of a database as it stands now, with the text that it was read from; None when it is not there.

        The text is empty where the row does not run. Raises FileProblem.
        """
        with self._lock:
            known = self._stores.look(target)
            if isinstance(known, Problem):
                raise FileProblem(known.code, known.detail)
            if known is None:
                return None
            row = next((r for r in known.open_rows if r.key == key), None)
            if row is None:
                settled = next((f for f in (*known.settled, *known.odd) if f.key == key), None)
                return (settled, b"") if settled is not None else None
            self._judging.gateways.pop(target.state_dir, None)
            return self._judge_now(target, row, known), known.entries.get(key, b"")

    def _judge_now(self, target: StoreTarget, row: Row, own: Known) -> Finding:
        """Judge `row`, of which the store has just been read, and ask the gateway now."""
        looked: list[tuple[StoreTarget, Known | Problem]] = [(target, own)]
        for other in self._places.targets()[0]:
            if other.path != target.path and other.state_dir == target.state_dir:
                # A session that works for this row may run in another agent's store. What the last pass saw there
                # is good enough; a store that has appeared since is looked at now.
                seen = other.path in self._looked_at
                known = self._stores.known(other.path) if seen else self._stores.look(other)
                if known is not None:
                    looked.append((other, known))
        return self._judging.judged_now(target, row, self._children(looked))

    def hand_now(self, target: StoreTarget, row: Row, agent_id: str) -> Hand:
        """Who can write to `row` at this moment, whatever it is found to be. Raises FileProblem."""
        with self._lock:
            self._judging.gateways.pop(target.state_dir, None)
            if target.kind == "database" and isinstance(seen := self._stores.look(target), Problem):
                raise FileProblem(seen.code, seen.detail)
            return self._judging.hand_now(target, row, agent_id)

    def successor(self, without: str) -> Scanner:
        """A scanner that remembers what this one does but for the store at `without`, whose read never comes back."""
        heir = Scanner(self._settings, self._clock, self._env, self._gateway_given, self._links)
        heir._judging.watches, heir._looked_at = self._judging.watches.copy(), set(self._looked_at)
        heir._stores.take_over(self._stores, without)
        return heir

    def _running(self, target: StoreTarget, known: Known, children: Children) -> tuple[Finding, ...]:
        """The rows of one store that run: judged, or as they were found where nothing can have changed."""
        rest = self._stores.rest(target.path)
        if rest is None or not known.open_rows or self._elsewhere:
            return tuple(self._judging.judged(target, known.open_rows, children))
        gateway = self._judging.gateway(target.state_dir)
        parents = {key for state_dir, key in children if state_dir == target.state_dir}
        # The first pass may be the only one: it does not ask to be told of what comes behind it.
        stamp = self._notices.stamp(target.root, (target.folder,)) if self._found else None
        kept = self._resting.of(target.path, rest, gateway, parents, len(known.open_rows), stamp=stamp)
        if all(kept):
            return cast(tuple[Finding, ...], kept)
        changed = [row for old, row in zip(kept, known.open_rows, strict=True) if old is None]
        judged = iter(self._judging.judged(target, changed, children))
        found = tuple(old or next(judged) for old in kept)
        self._resting.keep(target, rest, gateway, found, stamp)
        return found

    def _children(self, looked: list[tuple[StoreTarget, Known | Problem]]) -> Children:
        children: dict[tuple[str, str], list[str]] = {}
        now = self._clock.now()
        for target, known in looked:
            for parent, row in known.children if isinstance(known, Known) else ():
                if row.status == RUNNING or now - (row.updated_at or 0) < _PENDING_MS:
                    children.setdefault((target.state_dir, parent), []).append(row.key)
        return children
