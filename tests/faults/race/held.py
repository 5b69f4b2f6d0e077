"""OpenClaw's module in our hand, so that an interleaving that takes luck in a race happens every time."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.race.field import COUNTER_KEY, NODE, PACKAGE

_HERE = Path(__file__).parent
_MOST_SECONDS = 60


class GatewayInHand:
    """A gateway that goes on only when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def comes_to(self, where: str) -> None:
        assert self._process.stdout
        assert json.loads(self._process.stdout.readline())["at"] == where

    def go_on(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def held_gateway(store: Path, held: str) -> Iterator[GatewayInHand]:
    """Held between what it has in hand and its look at the store's mtime."""
    with _started("held_gateway.mjs", store, held=held) as gateway:
        gateway.comes_to("held")
        yield gateway


@contextmanager
def told_gateway(store: Path) -> Iterator[GatewayInHand]:
    """Writes once for every two times that it goes on: `loaded`, `written`."""
    with _started("told_gateway.mjs", store) as gateway:
        gateway.comes_to("ready")
        yield gateway


@contextmanager
def _started(script: str, store: Path, **more: str) -> Iterator[GatewayInHand]:
    given = {"package": str(PACKAGE), "store": str(store), "counterKey": COUNTER_KEY, **more}
    env = {"HOME": str(store.parent), "PATH": os.environ["PATH"]}
    command = [str(NODE), str(_HERE / script), json.dumps(given)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    end = threading.Timer(_MOST_SECONDS, process.kill)
    end.start()
    try:
        yield GatewayInHand(process)
    finally:
        end.cancel()
        process.kill()
        with suppress(BrokenPipeError):
            process.communicate()
