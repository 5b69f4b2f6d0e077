"""Looking at the sessions from the command line: one pass that only looks, and the gateways to ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cli.failures import Failure
from app.cli.progress import Progress

if TYPE_CHECKING:
    from app.reconcile.reconciler import Reconciler
    from app.reconcile.report import Finding, Report
    from app.reconcile.scan import Scanner
    from app.settings import Settings

LINK_PATIENCE = 2.0
"""Seconds for the gateways to answer before it goes on without them."""


def looker(settings: Settings, scanner: Scanner | None = None) -> Callable[[], Report]:
    """Looks at every session each time that it is called; what has not changed since is not read again."""
    from app.cli.flaps import with_flapping
    from app.clock import SystemClock
    from app.reconcile.report import Report
    from app.reconcile.scan import Scanner

    clock = SystemClock()
    scanner = scanner or Scanner(settings, clock, os.environ)
    number = 0

    def look() -> Report:
        nonlocal number
        number += 1
        began = clock.now()
        with Progress() as progress:
            sight = scanner.scan(progress)
        stores, problems = with_flapping(settings, sight.stores, clock.now()), tuple(sight.state_problems)
        return Report(number, began, clock.now(), stores, problems, scanner.bytes_read)

    return look


def only_one(report: Report, name: str) -> Finding:
    """The one session that answers to `name`. Raises Failure."""
    found = report.find(name)
    if not found:
        raise Failure("not_found", f"no session has the id or key {name}")
    if len(found) > 1:
        keys = ", ".join(f.key for f in found)
        raise Failure(
            "ambiguous", f"{len(found)} sessions answer to {name}: {keys}; give a key, or one CLAWMEND_STATE_DIR"
        )
    return found[0]


@contextmanager
def linked(reconciler: Reconciler) -> Iterator[Reconciler]:
    """With the links to the gateways up, or known not to come up."""
    if reconciler.links is None:
        yield reconciler
        return
    reconciler.links.start()
    try:
        reconciler.links.wait_until_settled(LINK_PATIENCE)
        yield reconciler
    finally:
        reconciler.links.stop()
