"""Folder, clock, gateway and the Clawmends beside it; and one step of a Clawmend with all that happens in it."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import CannotUndo, NotStuck, StoreUnfit
from app.reconcile.reconciler import Reconciler
from tests.faults.model.calls import Calls, Happening
from tests.faults.model.gateway import Blocked, GatewaySide
from tests.faults.model.oddities import UNREADABLE, Oddities
from tests.faults.model.record import Record
from tests.faults.model.rows import rows_of
from tests.faults.model.trails import Trails
from tests.world import World

STORE_MOVES = ("counts", "notes", "begins_turn", "ends_turn", "deletes_row", "resets")
DATABASES = {"first": "own", "partner": "own", "stranger": "other"}
"""The Clawmends that there may be, and the audit database of each."""
_MEMORY = "/dev/shm"
Act = Callable[[Reconciler], object]


@dataclass
class Clawmend:
    reconciler: Reconciler
    born: float


class ModelWorld:
    """Everything that a step needs. A step never raises for what the world does; what is broken is in `record`."""

    def __init__(self) -> None:
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="clawmend-model-", dir=memory))
        self.world = World(self.folder)
        self.clock = self.world.clock
        self.sessions = self.world.sessions()
        self.sessions.mkdir(parents=True)
        self.trails = Trails(self.sessions, self.clock)
        self.gateway = GatewaySide(self.sessions, self.clock, self.trails)
        self.record = Record(self.gateway)
        self.oddities = Oddities(self.sessions, self.folder / "elsewhere")
        self.clawmends: dict[str, Clawmend] = {}
        self.waiting: list[tuple[Happening, int | None]] = []
        """What the gateway's queue still has to do, and the file that its first wait is for."""
        self.clock_was_set = False
        self.faulted = False
        self.crashed = False
        """Ever: one of ours was killed, or the disk failed it."""
        self._calls: Calls | None = None
        self._heir: int | None = None
        (self.folder / "db").mkdir()
        for name in set(DATABASES.values()):
            (self.folder / "db" / f"{name}.db").write_bytes(_empty_audit())
        self.readers = {name: AuditLog(self._url(name)) for name in set(DATABASES.values())}

    def close(self) -> None:
        self.world.close()
        for reader in self.readers.values():
            reader.dispose()
        for _, pin in self.waiting:
            if pin is not None:
                os.close(pin)
        shutil.rmtree(self.folder)

    # --- Clawmends ---------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        made = self.world.reconciler(database_url=self._url(DATABASES[name]))
        self.clawmends[name] = Clawmend(made, self.clock.monotonic())

    def _url(self, name: str) -> str:
        return f"sqlite:///{self.folder / 'db' / name}.db"

    def attempts(self, name: str) -> list[Attempt]:
        """All attempts of a database, the oldest first."""
        return list(reversed(self.readers[name].page(10_000)[0]))

    def step(self, name: str, act: Act, plan: tuple[Happening, ...]) -> None:
        """Let `act` be done by this Clawmend, with what happens meanwhile."""
        self._do(name, act, plan)
        self._catch_up()

    def killed_step(self, name: str, act: Act, plan: tuple[Happening, ...]) -> None:
        """The same in a process of its own, which is killed at the latest when it is done."""
        self.crashed = True
        odd = self.oddities.of_the_store
        for each in self.clawmends.values():
            each.reconciler.audit.dispose()
        for reader in self.readers.values():
            reader.dispose()
        inherit, hand_on = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(inherit)
            self._heir = hand_on
            try:
                self._do(name, act, plan)
            except BaseException as error:  # noqa: BLE001  (told to the parent)
                self.record.broken.append(f"a pass failed: {error!r}")
            self._die()
        os.close(hand_on)
        with os.fdopen(inherit, "rb") as file:
            self._inherit(file.read())
        os.waitpid(pid, 0)
        del self.clawmends[name]
        if odd is None and self.oddities.is_parted():
            # A second name that came in our last instant (docs/explanation/repair.md, not promised).
            assert self.oddities.forget_second_name() in [version.data for version in self.gateway.versions]
        self._catch_up()

    def _do(self, name: str, act: Act, plan: tuple[Happening, ...]) -> None:
        one, record = self.clawmends[name], self.record
        record.by, record.born, record.step_began = name, one.born, self.clock.monotonic()
        record.step_tick = self.trails.tick
        record.step_rows = {} if self.oddities.of_the_store else rows_of(record.note_live() or b"{}")
        self._calls = calls = Calls(record, plan, self._move, self.look)
        try:
            with calls.between():
                act(one.reconciler)
        except (NotStuck, CannotUndo, StoreUnfit, StoreBusy):
            pass
        finally:
            self._calls = None
        self.faulted = calls.faulted
        self.crashed = self.crashed or self.faulted

    def seconds_ahead(self) -> float:
        """How far the newest time on the disk lies in the future, since the clock was set back."""
        times = [line.at for lines in self.trails.lines.values() for line in lines]
        times += [turn.started_at for turn in self.gateway.turns.values() if turn.started_at]
        return max(0.0, (max(times, default=0) - self.clock.now()) / 1000)

    # --- what happens in between -------------------------------------------------------------------------------------

    def _move(self, happening: Happening) -> None:
        what, key = happening.what, happening.key
        if what == "kill":
            if self._heir is not None:
                self._die()
        elif what == "another pass":
            self._nested_pass(happening)
        elif what.startswith("appends"):
            self.append(what, key)
        elif what.startswith("turns "):
            self._turn_odd(what[6:])
        elif self.waiting:
            self.waiting.append((happening, None))
        else:
            try:
                self.store_move(what, key)
            except Blocked as blocked:
                self.waiting.append((happening, blocked.pin))

    def store_move(self, what: str, key: str) -> None:
        """Something that the gateway does in its queue. Raises Blocked."""
        if self.oddities.of_the_store:
            return
        if what == "deletes store":
            self.gateway.delete_store()
        elif what == "loads":
            if self.gateway.loaded is None:
                self.gateway.load()
        else:
            self.gateway.write(what, key)
            if what == "begins_turn":
                self.trails.begin(self.gateway.turns[key].session_id, key)

    def append(self, what: str, key: str) -> None:
        """`appends`, `appends half` an event, or `appends <an end>`."""
        turn = self.gateway.turns.get(key)
        if turn is None:
            return
        word = what.removeprefix("appends").strip()
        end = word if word not in ("", "half", "run") else None
        turn.open, turn.changed = end is None, self.clock.monotonic()
        if word == "run":
            self.trails.begin(turn.session_id, key)
        else:
            kind = "session.ended" if end else "model.completed"
            self.trails.append(turn.session_id, key, kind, end, half=word == "half")

    def _turn_odd(self, kind: str) -> None:
        """Somebody replaces the store by something that it should not be."""
        if self.gateway.exists and not self.oddities.of_the_store and not self.record.is_shut():
            self.oddities.turn_store(kind)

    def _nested_pass(self, happening: Happening) -> None:
        others = [n for n in self.clawmends if n != self.record.by]
        if self._calls is not None and self.record.is_shut():
            self.waiting.append((happening, None))  # it waits for the store's file, as the gateway does
        elif others and self._calls is not None:
            other = self.clawmends[others[0]]
            with self._calls.nested():
                self.record.by, self.record.born = others[0], other.born
                other.reconciler.run_pass()

    def _catch_up(self) -> None:
        waiting, self.waiting = self.waiting, []
        for happening, pin in waiting:
            if pin is not None and self.oddities.of_the_store in UNREADABLE:
                os.close(pin)  # it may have waited for a store that somebody has made unreadable meanwhile
                continue
            if pin is not None:
                self.gateway.load(pin)
            if happening.what == "another pass":
                continue  # the next pass of any Clawmend is the same
            if happening.what != "loads":
                self.store_move(happening.what, happening.key)
        self.look()

    def look(self) -> None:
        """Look at the store as anybody may, and hold it against the model."""
        if not self.oddities.of_the_store:
            self.record.broken += self.check(self.record.note_live())

    check: Callable[[bytes | None], list[str]]

    # --- a killed process and its heir -------------------------------------------------------------------------------

    def _die(self) -> None:
        assert self._heir is not None
        waiting = [(happening, None) for happening, _ in self.waiting]
        with os.fdopen(self._heir, "wb") as file:
            pickle.dump((*(_without(part) for part in self._parts()), waiting), file)
        os.kill(os.getpid(), signal.SIGKILL)

    def _inherit(self, data: bytes) -> None:
        *states, self.waiting = pickle.loads(data)
        for part, state in zip(self._parts(), states, strict=True):
            vars(part).update(state)

    def _parts(self) -> tuple[object, ...]:
        return self.clock, self.trails, self.gateway, self.record, self.oddities


def _without(part: object) -> dict[str, Any]:
    """What a part knows, without the other parts that it points to."""
    return {n: v for n, v in vars(part).items() if n not in ("clock", "trails", "gateway", "shut")}


@cache
def _empty_audit() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        audit = AuditLog(f"sqlite:///{folder}/own/audit.db")
        audit.migrate()
        audit.dispose()
        return Path(folder, "own", "audit.db").read_bytes()
