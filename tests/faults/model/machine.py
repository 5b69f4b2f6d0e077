"""The machine: what the gateway, the clock, the disk, a person and up to three Clawmends do, in any order."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.audit.models import Trigger
from app.reconcile.asking import Ask
from app.reconcile.reconciler import Reconciler
from tests.faults.model.calls import CALLS, FAULTS, Happening
from tests.faults.model.checks import Checks, at_an_instant
from tests.faults.model.invariants import open_below
from tests.faults.model.oddities import STORE_ODDITIES
from tests.faults.model.trails import ENDS, SETTLED_AS
from tests.faults.model.world import DATABASES, STORE_MOVES, Act, ModelWorld

KEYS = ("agent:main:a", "agent:main:b", "agent:main:käse-😀")
_WRITES = ("counts", "notes", "begins_turn", "loads")
_CRUCIAL = ("temp", "write", "fsync", "lease", "check", "exchange", "exchange", "exchange", "fsync folder", "unlink")
_IN_A_CROSSING = ("exchange", "exchange", "link", "lease", "fsync folder", "allocate", "truncate", "let in", "unlink")
_OURS_IS_LIVE = ("exchange", "let in", "fsync folder", "utime", "unlink")

keys = st.sampled_from((KEYS[0], *KEYS))
ends = st.sampled_from(sorted(SETTLED_AS))
names = st.sampled_from(sorted(DATABASES))
store_moves = st.sampled_from((*_WRITES, *STORE_MOVES, *STORE_MOVES, "loads", "loads", "deletes store"))
appends = st.sampled_from(("appends", "appends half", "appends run", *(f"appends {end}" for end in sorted(ENDS))))
pauses = st.sampled_from((0.3, 2.0, 6.0, 29.0, 31.0, 61.0, 121.0, 1_201.0, 3_700.0))
calls = st.one_of(st.sampled_from(_CRUCIAL), st.sampled_from(CALLS))
ordinals = st.sampled_from((1, 1, 1, 1, 2, 2, 3, 4, 6))
happenings = st.builds(
    Happening,
    st.one_of(
        st.sampled_from(_WRITES),
        store_moves,
        appends,
        st.sampled_from(("another pass", "another pass", *(f"turns {kind}" for kind in STORE_ODDITIES))),
        st.sampled_from(sorted(FAULTS)),
    ),
    calls,
    nth=ordinals,
    after=st.booleans(),
    times=st.sampled_from((1, 1, 2, 50)),
    key=keys,
)
writes = st.sampled_from(("counts", "notes", "begins_turn", "resets", "deletes_row"))
crossings = st.tuples(
    st.builds(Happening, writes, st.just("exchange"), key=keys),
    st.builds(Happening, st.one_of(st.just("loads"), writes), calls, after=st.booleans(), key=keys),
    happenings,
)
overwrites = st.tuples(
    st.builds(Happening, st.just("loads"), st.sampled_from(("read", "temp", "fsync")), after=st.booleans()),
    st.builds(
        Happening, writes, st.sampled_from(("exchange", "let in", "utime", "unlink")), after=st.just(True), key=keys
    ),
)
kills = st.builds(Happening, st.just("kill"), calls, nth=ordinals, after=st.booleans())
killed_crossings = st.tuples(
    st.builds(Happening, writes, st.just("exchange"), key=keys),
    st.builds(Happening, st.just("kill"), st.sampled_from(_IN_A_CROSSING), nth=ordinals, after=st.booleans()),
)
plans = st.one_of(
    st.lists(happenings, max_size=4).map(tuple),
    crossings,
    overwrites,
    killed_crossings,
    st.tuples(kills),
    st.tuples(happenings, kills),
)
Plan = tuple[Happening, ...]


def a_pass(one: Reconciler) -> None:
    one.run_pass()


class Machine(RuleBasedStateMachine):
    """`first` and `partner` share an audit database, `stranger` has its own; all of them stand on one folder."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld()
        self.world.check = partial(at_an_instant, self.world.record)
        self.checks = Checks(self.world)
        self._sound = True

    @initialize(two=st.booleans())
    def begins(self, two: bool = False) -> None:
        for key in KEYS[:2]:
            self.the_gateway("begins_turn", key)
        self.the_gateway("ends_turn", KEYS[1])
        self.starts("first")
        if two:
            self.starts("partner")

    # --- the world ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.world.oddities.of_the_store)
    @rule(what=store_moves, key=keys)
    def the_gateway(self, what: str, key: str) -> None:
        self.world.store_move(what, key)
        self.world.look()

    @rule(what=st.one_of(appends, st.just("completes")), key=keys)
    def a_trajectory(self, what: str, key: str) -> None:
        turn = self.world.gateway.turns.get(key)
        if what != "completes":
            self.world.append(what, key)
        elif turn is not None:
            self.world.trails.complete(turn.session_id)

    @rule(what=st.sampled_from((*STORE_ODDITIES, "trajectory")), key=keys)
    def something_turns_odd(self, what: str, key: str = KEYS[0]) -> None:
        """Once more: all is right again."""
        world = self.world
        turn = world.gateway.turns.get(key)
        if world.oddities.of_the_store or world.oddities.linked:
            self._all_is_right_again()
        elif what == "trajectory" and turn is not None:
            world.oddities.link_trajectory(world.trails.path(turn.session_id))
        elif what != "trajectory" and world.gateway.exists:
            world.oddities.turn_store(what)

    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-4_000.0, -130.0, -3.0, 3.0, 130.0, 4_000.0)))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.clock.jump(seconds)
        self.world.clock_was_set = True

    # --- Clawmend ----------------------------------------------------------------------------------------------------

    @rule(name=names)
    def starts(self, name: str) -> None:
        """A Clawmend starts, or is started again."""
        self.world.start(name)

    @rule(name=names, plan=plans)
    def passes(self, name: str, plan: Plan = ()) -> None:
        self._step(name, a_pass, plan, whole_pass=True)

    @rule(name=names, key=keys, end=ends, plan=plans)
    def settles(self, name: str, key: str = KEYS[0], end: str = "success", plan: Plan = ()) -> None:
        """The bug that we are there for, and the pass that is to settle it once its window is over."""
        self._a_turn_goes_unsettled(key, end)
        self._step(name, a_pass, whole_pass=True)
        world = self.world
        report = world.clawmends[self._there(name)].reconciler.report
        due = max((f.verdict.due_at or 0 for f in report.find(key)), default=0)
        world.clock.advance(max(1.0, (due - world.clock.now()) / 1000))
        self._step(name, a_pass, plan, whole_pass=True)

    @rule(name=names, key=keys, end=ends, force=st.booleans(), plan=plans)
    def a_person_settles(
        self, name: str, key: str = KEYS[0], end: str = "success", force: bool = False, plan: Plan = ()
    ) -> None:
        self._a_turn_goes_unsettled(key, end)
        self._step(name, a_pass, whole_pass=True)
        self.world.clock.advance(130.0)
        ask = Ask(Trigger.API, "a person", "asked for", force=force, target_status="failed" if force else None)

        def settle(one: Reconciler) -> None:
            for finding in one.report.find(key):
                one.repairer.settle(finding, ask)

        self._step(name, settle, plan)

    @rule(name=names, plan=plans)
    def a_person_undoes(self, name: str, plan: Plan = ()) -> None:
        """The newest repair in its audit is taken back."""

        def undo(one: Reconciler) -> None:
            settled = [a for a in one.audit.page(100)[0] if a.kind == "settle"]
            if settled:
                one.repairer.undo(settled[0], Ask(Trigger.API, "a person", "asked for"))

        self._step(name, undo, plan)

    @rule(name=names, key=keys, meanwhile=st.none() | st.sampled_from(STORE_MOVES), plan=plans)
    def a_person_settles_and_undoes(self, name: str, key: str, meanwhile: str | None, plan: Plan) -> None:
        self.a_person_settles(name, key)
        if meanwhile is not None and not self.world.oddities.of_the_store:
            self.the_gateway(meanwhile, key)
        self.a_person_undoes(name, plan)

    @rule(
        name=names, key=keys, what=st.sampled_from(("counts", "notes")), at=st.sampled_from(_OURS_IS_LIVE), plan=plans
    )
    def loses_a_race(
        self, name: str, key: str = KEYS[0], what: str = "counts", at: str = "let in", plan: Plan = ()
    ) -> None:
        """The gateway had loaded the store before and puts the row back; `plan` is for when it is settled again."""
        stale = Happening("loads", "read", after=True), Happening(what, at, after=True, key=key)
        self.settles(name, key, plan=stale)
        self.world.clock.advance(2.0)
        self._step(name, a_pass, plan, whole_pass=True)

    def teardown(self) -> None:
        try:
            if self._sound:
                if self.world.oddities.of_the_store == "second name":  # such a store is tried and refused for ever
                    self._all_is_right_again()
                self.checks.when_all_is_quiet()
                if self.world.oddities.of_the_store or self.world.oddities.linked:
                    self._all_is_right_again()
                    self.checks.when_all_is_quiet()
                self.checks.count()
        finally:
            self.world.close()

    # --- one step ----------------------------------------------------------------------------------------------------

    def _step(self, name: str, act: Act, plan: Plan = (), *, whole_pass: bool = False) -> None:
        """One step of a Clawmend: of this one if it is there, else of any. A kill in the plan ends it."""
        self._sound, name = False, self._there(name)
        descriptors = open_below(self.world.sessions)
        killed = any(each.what == "kill" for each in plan)
        if killed:
            self.world.killed_step(name, act, plan)
        else:
            self.world.step(name, act, plan)
        whole = whole_pass and not killed and not self.world.faulted
        self.checks.behind_a_step(descriptors, by=name, whole_pass=whole)
        self._sound = True

    def _there(self, name: str) -> str:
        if not self.world.clawmends:
            self.world.start(name)
        return name if name in self.world.clawmends else next(iter(self.world.clawmends))

    def _a_turn_goes_unsettled(self, key: str, end: str) -> None:
        """A turn begins and ends, and its row is never written; no earlier run of the session is open."""
        world = self.world
        if not world.oddities.of_the_store:
            turn = world.gateway.turns.get(key)
            if turn is not None and world.trails.open_runs(turn.session_id):
                world.store_move("resets", key)
            world.store_move("begins_turn", key)
            world.append(f"appends {end}", key)
            world.look()

    def _all_is_right_again(self) -> None:
        if self.world.oddities.of_the_store:
            self.world.oddities.turn_store_back()
        self.world.oddities.unlink_trajectories()
        self.world.look()
