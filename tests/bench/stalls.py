"""What answers cost while a big store is read: that is a thread's work, but holds up what the event loop has to do."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from app.clock import SystemClock
from tests.bench.load import wrk
from tests.bench.measure import Line, percentile, spoken
from tests.faults.crowd import Crowd
from tests.integration.served import environment, served

ROWS, WEIGHT = 650, 120_000
SECONDS = 15
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def lines(folder: Path) -> Iterator[Line]:
    crowd = Crowd(folder / "state", SystemClock().now())
    for number in range(ROWS):
        crowd.settled("main", f"s{number}", weight=WEIGHT)
    crowd.write()
    store, notes, home = crowd.store("main"), folder / "notes.json", folder / "home"
    env = environment(home, CLAWMEND_STATE_DIR=str(crowd.state))
    with served(sys.executable, "-m", "tests.bench.watched", str(notes), str(store), env=env, cwd=home) as service:
        passes = service.get("/health")["checks"]["passes"]["number"]
        began = time.monotonic()
        said = wrk("--latency", f"-d{SECONDS}s", f"{service.url}/health")
        ended = time.monotonic()
        passes = service.get("/health")["checks"]["passes"]["number"] - passes
    half, most = _latency(said, "50"), _latency(said, "99")
    late = [lag for moment, lag in json.loads(notes.read_text()) if began <= moment <= ended]
    worst = percentile(late, 0.999)
    what = f"while a store of {store.stat().st_size / 1e6:.0f} MB changes in one row and is read, over and over"
    often = f"{passes} passes in {SECONDS} s"
    ratio = most / half
    yield Line(
        f"p99 of `GET /health` {what}", f"its p50: {spoken(half)} ({often})", spoken(most), ratio, "<= 3x", ratio <= 3
    )
    shown = f"of {len(late):,} wakings ({often}), p50 {spoken(percentile(late, 0.5))}"
    yield Line(f"event-loop lag, p99.9, {what}", shown, spoken(worst), None, "<= 50 ms", worst <= 0.05)


def _latency(said: str, share: str) -> float:
    """Seconds, of a line such as `     99%    1.20ms`."""
    found = re.search(rf"^ +{share}% +([0-9.]+)(us|ms|s)$", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1]) * _UNITS[found[2]]
