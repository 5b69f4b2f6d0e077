"""Says on a terminal what a long scan is at; a short one says nothing."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from app.cli.screen import console, is_terminal, shown

if TYPE_CHECKING:
    from rich.status import Status
    from rich.text import Text

    from app.openclaw.paths import StoreTarget

_SHORT = 1.0
"""Seconds for which nobody needs to be told."""


class Progress:
    """Around a scan, which calls it with each store before reading it. On stderr, and only where that is a terminal."""

    def __init__(self, after: float = _SHORT) -> None:
        self._timer = threading.Timer(after, self._show) if is_terminal(sys.stderr) else None
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._at = "the state dirs"
        self._stores: set[str] = set()

    def __enter__(self) -> Progress:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._timer = None
            if self._status is not None:
                self._status.stop()

    def __call__(self, target: StoreTarget) -> None:
        with self._lock:
            self._stores.add(target.path)
            self._at = target.path
            if self._status is not None:
                self._status.update(self._words())

    def _show(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._status = console(sys.stderr).status(self._words())
                self._status.start()

    def _words(self) -> Text:
        from rich.text import Text

        return Text(f"looking at store {len(self._stores)}: {shown(self._at)}")
