"""`clawmend serve`, whole, on whose event loop two tasks run besides: one asks to be woken every millisecond and notes
how late it is, one changes a row of a store and has a pass look at it, over and over.

python -m tests.bench.watched NOTES STORE: the notes (when, and how late: seconds of the monotonic clock) go to a file.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from socket import socket

from app import main
from app.reconcile.service import Service
from app.settings import load_settings
from tests.bench.changing import of_one_row

TICK = 0.001
NOTES: list[tuple[float, float]] = []


async def note_lateness() -> None:
    while True:
        wanted = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        woken = time.monotonic()
        NOTES.append((woken, woken - wanted))


async def keep_reading(service: Service, store: str) -> None:
    change = of_one_row(Path(store))
    while True:
        change()
        await service.next_pass()


class Watched(main.Server):
    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        service = self.config.app.state.service  # type: ignore[union-attr]
        self.tasks = [asyncio.create_task(t) for t in (note_lateness(), keep_reading(service, sys.argv[2]))]


if __name__ == "__main__":
    main.Server = Watched  # type: ignore[misc]
    main.serve(load_settings())
    Path(sys.argv[1]).write_text(json.dumps(NOTES))
