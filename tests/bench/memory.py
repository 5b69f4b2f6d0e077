"""What the service has in memory: with nothing to look at, and at the most while it reads a big state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from app.clock import SystemClock
from tests.bench.measure import Line
from tests.faults.crowd import Crowd
from tests.faults.meter import Meter
from tests.integration.served import FROM_CHECKOUT, environment, served

AGENTS, ROWS = 50, 187
BIG_ROWS, WEIGHT = 650, 120_000
"""50 agents with 187 sessions each and one with 650 in a store of 80 MB: 10,000."""
AT_REST = 90e6
PATIENCE = 120.0


def lines(folder: Path) -> Iterator[Line]:
    aside = Crowd(folder / "aside", SystemClock().now())
    for number in range(BIG_ROWS):
        aside.settled("big", f"big-{number}", weight=WEIGHT)
    for agent in (f"a{number}" for number in range(AGENTS)):
        for number in range(ROWS):
            aside.settled(agent, f"{agent}-s{number}", weight=600)
    aside.write()
    size = aside.store("big").stat().st_size
    count = BIG_ROWS + AGENTS * ROWS
    state, home = folder / "state", folder / "home"
    (state / "agents").mkdir(parents=True)
    settings = {"CLAWMEND_STATE_DIR": str(state), "CLAWMEND_AUTH": "off"}
    with served(*FROM_CHECKOUT, "serve", env=environment(home, **settings), cwd=home) as service:
        meter = Meter(service.pid)
        resting = meter.resident
        yield Line("memory at rest", "", _mb(resting), None, f"<= {_mb(AT_REST)}", resting <= AT_REST)
        meter.forget_the_peak()
        for agent in sorted((aside.state / "agents").iterdir()):
            shutil.move(agent, state / "agents" / agent.name)
        deadline = time.monotonic() + PATIENCE
        while service.get("/health")["checks"]["stores"]["readable"] < AGENTS + 1:
            assert time.monotonic() < deadline, service.said
            time.sleep(0.2)
        peak = meter.peak
        assert len(service.get("/sessions")["items"]) == count
    most = AT_REST + 2 * size
    what = f"memory while {count:,} sessions are read, of them {BIG_ROWS} in a store of {_mb(size)}"
    yield Line(what, "", _mb(peak), None, f"<= {_mb(AT_REST)} + 2x the store", peak <= most)


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
