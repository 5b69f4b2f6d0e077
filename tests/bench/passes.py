"""What a pass costs: with nothing changed, with one row changed, and with every trajectory cold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from app.audit.log import AuditLog
from app.clock import SystemClock
from app.openclaw.folder import Folder, identity_of
from app.openclaw.trajectory import read_tail, trail_of
from app.reconcile.reconciler import Reconciler
from app.settings import Settings
from tests.bench.changing import of_one_row
from tests.bench.measure import Line, against, floor, timed
from tests.faults.crowd import FULL, Crowd

AGENTS, ROWS, RUNNING = 50, 200, 20
"""50 stores of 200 sessions, of which 20 run."""
BIG_ROWS = 480
BIG_WEIGHT = 120_000


def lines(folder: Path) -> Iterator[Line]:
    yield unchanged(folder / "unchanged")
    yield one_row(folder / "one-row")
    yield last_event(folder / "last-event")


def reconciler_on(folder: Path, state: Path) -> Reconciler:
    """As `clawmend serve` builds it, with nobody to ask and nothing to settle."""
    settings = Settings(
        state_dir=(str(state),), database_url=f"sqlite:///{folder}/audit.db", auto_repair=False, gateway="off"
    )
    audit = AuditLog(settings.database_url)
    audit.migrate()
    return Reconciler(settings, SystemClock(), audit, os.environ)


def unchanged(folder: Path) -> Line:
    crowd = Crowd(folder / "state", SystemClock().now())
    names = []
    for agent in (f"a{number}" for number in range(AGENTS)):
        names.append((str(crowd.sessions(agent)), "sessions.json"))
        for number in range(ROWS - RUNNING):
            crowd.settled(agent, f"{agent}-s{number}", weight=600)
        for number in range(RUNNING):
            crowd.at_work(agent, f"{agent}-r{number}", ago=100)
            names.append((str(crowd.sessions(agent)), f"{agent}-r{number}.trajectory.jsonl"))
    crowd.write()
    reconciler = reconciler_on(folder, crowd.state)
    reconciler.run_pass()
    found = list(reconciler.report.findings())
    assert len(found) == AGENTS * ROWS, len(found)
    return against(
        f"a pass with nothing changed: {AGENTS} stores, {AGENTS * ROWS:,} sessions, {AGENTS * RUNNING:,} running",
        timed(reconciler.run_pass),
        floor("stat", names=names, rounds=21),
        most=3,
        rounds=15,
        of=f"{len(names):,} fstatat in C",
    )


def one_row(folder: Path) -> Line:
    crowd = Crowd(folder / "state", SystemClock().now())
    for number in range(BIG_ROWS):
        crowd.settled("main", f"s{number}", weight=BIG_WEIGHT)
    crowd.at_work("main", "r", ago=100)
    crowd.write()
    store = crowd.store("main")
    reconciler = reconciler_on(folder, crowd.state)
    reconciler.run_pass()
    change = of_one_row(store)

    def changed() -> None:
        change()
        before = reconciler.scanner.bytes_read
        reconciler.run_pass()
        assert reconciler.scanner.bytes_read - before >= store.stat().st_size

    return against(
        f"a pass after one row of a store of {store.stat().st_size / 1e6:.0f} MB has changed",
        timed(changed),
        floor("read", store),
        most=2,
        rounds=5,
        of="reading that file, in C",
    )


def last_event(folder: Path) -> Line:
    """1,000 trajectories of 10 MiB, of which one has the bytes: what is read of each is its tail."""
    crowd = Crowd(folder / "state", SystemClock().now())
    crowd.sessions("main").mkdir(parents=True)
    body = crowd.recorder_stopped(folder)
    names = []
    for number in range(100):
        os.link(body, crowd.trajectory("main", f"t{number}"))
        names.append((str(crowd.sessions("main")), f"t{number}.trajectory.jsonl"))
    assert body.stat().st_size == FULL

    def all_tails() -> None:
        with Folder(str(crowd.sessions("main"))) as place:
            for where, name in names:
                with place.opened(name) as (fd, st):
                    tail = read_tail(fd, st.st_size)
                trail = trail_of(f"{where}/{name}", "t", identity_of(st), tail)
                assert trail.last is not None

    return against(
        "the last event of a trajectory of 10 MiB, warm (of 100)",
        timed(all_tails),
        floor("tail", names=names, rounds=21),
        most=2,
        rounds=25,
        of="open, fstat, pread of 4 KiB, close in C",
    )
