"""What waits for the disk: tails that are not in the page cache, and a repair that must be on it before it counts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from app.audit.models import Outcome
from app.clock import SystemClock
from app.domain.splice import splice_rows
from app.openclaw.folder import Folder
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.publish import Change, Published, publish, read_for_writing
from app.openclaw.sessions_json import read_pieces, read_rows, spans_in
from app.openclaw.trails import TrailReader
from app.openclaw.trajectory import read_tail
from app.reconcile.asking import Ask
from app.reconcile.judging import AT_ONCE
from tests.bench.measure import Line, Measured, against, floor, timed
from tests.bench.passes import reconciler_on
from tests.faults.crowd import Crowd

COLD, AGENTS = 10_000, 50
HEAVY, WEIGHT = 400, 25_000
"""A store of 10 MB: so many rows, of which each holds so long a text."""
REPAIRS = 12


def lines(folder: Path) -> Iterator[Line]:
    yield from cold(folder / "cold")
    yield from published(folder / "published")


def cold(folder: Path) -> Iterator[Line]:
    """Every trajectory is one recorded turn; of the files, the bytes are forgotten, the names and sizes are not."""
    crowd = Crowd(folder / "state", SystemClock().now())
    turn = one_turn(crowd)
    agents: dict[str, list[str]] = {}
    for number in range(COLD):
        agent, name = f"a{number % AGENTS}", f"r{number}"
        crowd.at_work(agent, name, ago=100, before=turn)
        agents.setdefault(agent, []).append(f"{name}.trajectory.jsonl")
    crowd.write()
    os.sync()  # only what is on the disk can be forgotten
    names = [(str(crowd.sessions(agent)), name) for agent in agents for name in agents[agent]]
    rows = {agent: read_rows(crowd.store(agent).read_bytes()) for agent in agents}

    def all_tails() -> None:
        reader = TrailReader()
        for agent, own in agents.items():
            sessions = Place(str(crowd.state), str(crowd.sessions(agent)), "sessions.json")
            for at in range(0, len(own), AT_ONCE):
                with OpenPlaces() as places:
                    some = rows[agent][at : at + AT_ONCE]
                    reader.ask_ahead(some, places, sessions=sessions, state_dir=str(crowd.state))
                    for name in own[at : at + AT_ONCE]:
                        with places.opened(Place(sessions.root, sessions.folder, name)) as (fd, st):
                            assert read_tail(fd, st.st_size).lines

    states = count()

    def first_pass() -> float:
        place = folder / f"pass-{next(states)}"
        place.mkdir()
        reconciler = reconciler_on(place, crowd.state)
        seconds = forgotten(names, timed(reconciler.run_pass))()
        assert sum(len(found.evidence.trails) for found in reconciler.report.findings()) == COLD
        return seconds

    base, of = floor("cold", names=names, rounds=1), "their tails from the device, one behind the other, in C"
    size = f"{(len(turn)) / 1e3:.0f} KB"
    yield against(
        f"reading the tails of {COLD:,} trajectories of {size} that are not in the page cache",
        forgotten(names, timed(all_tails)),
        base,
        most=0.7,
        rounds=5,
        of=of,
    )
    whole = against("a first pass over those sessions, all running", first_pass, base, most=math.inf, rounds=2, of=of)
    yield replace(whole, goal="")


def published(folder: Path) -> Iterator[Line]:
    crowd = Crowd(folder / "state", SystemClock().now())
    for number in range(HEAVY):
        crowd.settled("main", f"s{number}", weight=WEIGHT)
    keys = iter([crowd.ended("main", f"e{number}", ago=600, weight=WEIGHT) for number in range(REPAIRS)])
    crowd.write()
    store = crowd.store("main")
    reconciler = reconciler_on(folder, crowd.state)
    reconciler.run_pass()
    stuck = {finding.key: finding for finding in reconciler.report.findings()}
    size, fields, tokens = store.stat().st_size, settled_fields(crowd), count()

    def publish_one() -> float:
        with Folder(str(store.parent)) as place:
            base = read_for_writing(place, store.name, size * 2)
            pieces, token = read_pieces(base.data), f"bench{next(tokens)}"  # by then the proof has read it

            def spliced() -> None:
                rows = {"agent:main:s7": {**fields, "endedAt": crowd.now + next(tokens)}}
                new, _ = splice_rows(base.data, rows, spans_in(base.data, pieces, rows))
                done = publish(place, store.name, Change(base, new, token), allow_rename=False)
                assert isinstance(done, Published) and done.mode == "exchange", done

            return timed(spliced)()

    def repair_one() -> float:
        finding = stuck[next(keys)]

        def settled() -> None:
            done = reconciler.repairer.settle(finding, Ask("cli", "bench", "a benchmark"))
            assert done.outcome == Outcome.APPLIED, done

        return timed(settled)()

    beside = folder / "floor"
    beside.mkdir()
    base, of = floor("publish", beside, size, rounds=1), "write, fsync, rename, fsync of those bytes, in C"
    yield against(
        f"publishing a repair in a store of {size / 1e6:.0f} MB: splice, write, fsync, exchange, fsync",
        publish_one,
        base,
        most=2,
        rounds=15,
        of=of,
    )
    whole = against(
        "that repair as a whole: found stuck twice, intent and outcome in the audit, published",
        repair_one,
        base,
        most=math.inf,
        rounds=REPAIRS - 1,
        of=of,
    )
    yield replace(whole, goal="")


def one_turn(crowd: Crowd) -> bytes:
    """A turn as it was recorded, up to its end."""
    lines = crowd.turns(190_000, first_ago=9_000, last_ago=200).splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if json.loads(line)["type"] == "session.started")
    return b"".join(lines[last:])


def settled_fields(crowd: Crowd) -> dict[str, str | int | bool]:
    return {"status": "failed", "endedAt": crowd.now, "abortedLastRun": False}


def forgotten(names: Iterable[tuple[str, str]], work: Measured) -> Measured:
    """`work`, the page cache emptied of these files before it."""

    def once() -> float:
        for folder, name in names:
            fd = os.open(f"{folder}/{name}", os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
        return work()

    return once
