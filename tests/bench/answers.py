"""What an answer costs: requests a second beside a raw ASGI application on the same server, both loaded by wrk."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from app.clock import SystemClock
from tests.bench import stalls
from tests.bench.load import wrk
from tests.bench.measure import Line, PerSecond, at_least
from tests.faults.crowd import Crowd
from tests.integration.served import FROM_CHECKOUT, Served, environment, served

SECONDS, ROUNDS = 2, 7
STUCK = 100
_TOKEN = "a-token-of-the-benchmark"
_RATE = re.compile(r"^Requests/sec: +([0-9.]+)$", re.MULTILINE)


def lines(folder: Path) -> Iterator[Line]:
    yield from requests(folder / "requests")
    yield from stalls.lines(folder / "stalls")


def requests(folder: Path) -> Iterator[Line]:
    """Of a service that has 100 stuck sessions to tell of, and settles none of them."""
    crowd = Crowd(folder / "state", SystemClock().now())
    for number in range(STUCK):
        crowd.ended("main", f"s{number}", ago=3_600)
    crowd.write()
    settings = {
        "CLAWMEND_STATE_DIR": str(crowd.state),
        "CLAWMEND_AUTO_REPAIR": "false",
        "CLAWMEND_API_TOKEN": _TOKEN,
    }
    folder.mkdir(exist_ok=True)
    raw_env, own_env = environment(folder / "raw"), environment(folder / "own", **settings)
    with (
        served(*_on_core(0), sys.executable, "-m", "tests.bench.raw", env=raw_env, cwd=folder / "raw") as raw,
        served(*_on_core(0), *FROM_CHECKOUT, "serve", env=own_env, cwd=folder / "own") as own,
    ):
        floor, of = _asking(raw, "/"), "raw ASGI on the same uvicorn"
        yield at_least("`GET /health`", _asking(own, "/health"), floor, least=0.45, rounds=ROUNDS, of=of)
        login = {"authorization": f"Bearer {_TOKEN}"}
        listed = httpx.get(own.url + "/sessions/stuck", headers=login, trust_env=False)
        assert len(listed.json()["items"]) == STUCK, listed.text
        stuck = _asking(own, "/sessions/stuck", login)
        yield at_least(f"`GET /sessions/stuck`, {STUCK} items", stuck, floor, least=0.2, rounds=ROUNDS, of=of)
        known = _asking(own, "/sessions/stuck", {**login, "if-none-match": listed.headers["etag"]})
        yield at_least("its 304", known, floor, least=0.4, rounds=ROUNDS, of=of)


def _asking(service: Served, path: str, headers: dict[str, str] | None = None) -> PerSecond:
    """From the other core."""
    shown = [f"-H{name}: {value}" for name, value in (headers or {}).items()]

    def once() -> float:
        said = wrk(f"-d{SECONDS}s", *shown, service.url + path, pinned=_on_core(1))
        rate = _RATE.search(said)
        assert rate is not None, said
        return float(rate[1])

    return once


def _on_core(number: int) -> list[str]:
    """Pinned, so that the servers do not take turns with their load; on a machine of one core they do."""
    pin = shutil.which("taskset")
    cores = sorted(os.sched_getaffinity(0))
    return [pin, "-c", str(cores[number])] if pin is not None and len(cores) > number and len(cores) > 1 else []
