"""A write to a database that is killed, or failed by the kernel, at its system calls in turn (strace does it).

After every single run the database, opened anew, has the old row or the new one, whole, in node and window alike. In
one of the three states a gateway has the database open all the while, and must see the same as who opens it anew.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.openclaw.replacement import Written
from tests.faults.crash.child import Child, Say
from tests.faults.crash.trace import BEGIN, EIO, END, ENOSPC, GO, KILL, Call, Trace, Watched, let_me_be_traced, why_not
from tests.stuck_rows import Stuck, stuck
from tests.world import World

_EVERY = {KILL: 2, EIO: 4, ENOSPC: 2}
"""The bounded form takes each so-many-th of the calls at the database and its log."""
_TRIES = 5

CLEAN, KILLED, BESIDE = "after a clean stop", "after a kill", "beside a gateway"


@dataclass
class Tally:
    """What one fault came to."""

    wrong: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {word}" for word, count in self.said.most_common())
        return f"{self.said.total()} runs, {len(self.wrong)} broken claims: {told}"


class Bench:
    """One database, brought back before every run."""

    def __init__(self, place: Path, state: str) -> None:
        place.mkdir()
        self.state = state
        self.world = World(place)
        self.row = stuck(self.world)
        self.folder = self.row.database.path.parent
        self.tallies: dict[str, Tally] = {}
        self._gateway: Child | None = None
        if state != CLEAN:
            _leave_a_log(self.row.database.path)
        self.aside = place / "aside"
        shutil.copytree(self.folder, self.aside)
        self.old = self.node()
        self.rest = self.row.rest()
        self.log = place / "strace.log"
        self.bring_back()
        assert self.row.write().kind == "written"
        self.new = self.node()

    def bring_back(self) -> None:
        self.end_the_gateway()
        shutil.rmtree(self.folder)
        shutil.copytree(self.aside, self.folder)
        if self.state == BESIDE:
            self._gateway = Child(lambda say: _gateway(self.row, say))
            assert self._gateway.hear() == {"status": "running"}, self._gateway.last

    def end_the_gateway(self) -> None:
        if self._gateway is not None:
            os.kill(self._gateway.pid, signal.SIGKILL)
            self._gateway.end()
            self._gateway = None

    def node(self) -> tuple[Any, ...]:
        return self.row.node()

    def run(self, call: Call | None, fault: str) -> tuple[Trace, Written | None]:
        """The trace, and what the process said; None when it was killed."""
        self.bring_back()
        signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
        child = Child(lambda say: _write(self.row, say))
        assert child.hear() == {"ready": True}, child.last
        self.log.unlink(missing_ok=True)
        watched = Watched(child.pid, self.log, call, fault)
        os.kill(child.pid, GO)
        said = child.hear()
        child.end()
        assert said is None or "raised" not in said, said
        return watched.ended(), Written(**said) if said else None

    def recorded(self) -> Trace:
        trace, said = self.run(None, KILL)
        assert said is not None and said.kind == "written", said
        return trace

    def hit(self, call: Call, fault: str) -> Written | None:
        for _ in range(_TRIES):
            trace, said = self.run(call, fault)
            if trace.killed if fault == KILL else trace.injected:
                return said
        raise AssertionError(f"{fault} at {call.name} ({call.ordinal}) {call.text[:200]} was not hit")

    def wrong(self, said: Written | None) -> str | None:
        """What is wrong with the database, opened anew, after a process that `said` this of it."""
        if self._gateway is not None:
            os.kill(self._gateway.pid, GO)
            seen = self._gateway.hear()
            if seen != {"status": self.node()[3], "wrote": True}:
                return f"the gateway sees {seen}"
        found = self.node()
        if found not in (self.old, self.new):
            return f"a row that nobody wrote: {found[1:]}"
        if said is not None and said.kind in ("written", "refused", "changed"):
            meant = self.new if said.kind == "written" else self.old
            if found != meant:
                return f"it said {said.kind} ({said.code}), and the row is {found[3]}"
        if self.row.pending() or self.row.rest() != self.rest:
            return "something else in the database is not as it was"
        if self.row.ask("PRAGMA integrity_check") != [("ok",)]:
            return "the database is damaged"
        if any(p.stat().st_mode & 0o077 for p in self.folder.iterdir()):
            return "a file may be read by others"
        again = self.row.write()
        if (again.kind, again.code) not in (("written", ""), ("changed", "already")):
            return f"it cannot be written afterwards: {again}"
        return None


def _write(row: Stuck, say: Say) -> None:
    logging.disable(logging.CRITICAL)
    let_me_be_traced()
    say({"ready": True})
    signal.sigwait({GO})
    _mark(BEGIN)
    said = row.write()
    _mark(END)
    say(asdict(said))


def _gateway(row: Stuck, say: Say) -> None:
    """It has the database open since before the write, and looks and writes after it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    query = "SELECT status FROM session_nodes WHERE session_key = ?"
    with closing(apsw.Connection(str(row.database.path))) as connection:
        connection.set_busy_timeout(5_000)
        ((status,),) = connection.execute(query, (row.what.key,))
        say({"status": status})
        signal.sigwait({GO})
        ((status,),) = connection.execute(query, (row.what.key,))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE session_key_contract SET updated_at = updated_at")
        connection.execute("COMMIT")
        say({"status": status, "wrote": connection.changes() == 1})
        signal.sigwait({GO})


def _mark(name: str) -> None:
    with suppress(OSError):
        os.stat(name)


def _leave_a_log(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("UPDATE session_nodes SET icon = icon")
        connection.execute("UPDATE session_nodes SET entry_valid = 1")
        connection.execute("DELETE FROM session_canonical_validation_pending")


@pytest.fixture(scope="module", params=[CLEAN, KILLED, BESIDE])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if (why := why_not()) is not None:
        pytest.skip(why)
    made = Bench(tmp_path_factory.mktemp("database") / "scene", request.param)
    yield made
    made.end_the_gateway()
    made.world.close()
    plugins = request.config.pluginmanager
    reporter: Any = plugins.get_plugin("terminalreporter")
    capture: Any = plugins.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        for fault, tally in made.tallies.items():
            reporter.write_line(f"  a write {made.state}, {fault}: {tally}")


@pytest.mark.parametrize("fault", [KILL, EIO, ENOSPC])
def test_at_any_call_it_leaves_the_old_row_or_the_new_one_and_says_nothing_that_is_not_true(
    bench: Bench, fault: str, soak: bool
) -> None:
    calls = [c for c in bench.recorded().calls if c.can(fault) and (soak or (c.at(bench.folder) and not c.inside))]
    tally = bench.tallies[fault] = Tally()
    for call in calls if soak else calls[:: _EVERY[fault]]:
        said = bench.hit(call, fault)
        wrong = bench.wrong(said)
        if wrong is not None:
            tally.wrong.append(f"{fault} at {call.name} ({call.ordinal}) {call.text[:200]}: {wrong}")
        tally.said[f"{said.kind} {said.code}".strip() if said else "killed"] += 1
    assert not tally.wrong, "\n".join([str(tally), *tally.wrong])
    assert tally.said.total() > 10, str(tally)


def test_what_is_said_to_be_written_has_been_brought_to_the_disk(bench: Bench) -> None:
    calls = bench.recorded().calls
    written = max(n for n, c in enumerate(calls) if c.name.startswith("pwrite") and "-wal>" in c.text)
    assert any("sync" in c.name and "-wal>" in c.text for c in calls[written:])
