"""From the moment at which a session may be settled to the moment at which it is: many in the same second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import SystemClock
from tests.bench.measure import Line, percentile, spoken
from tests.faults.crowd import Crowd
from tests.integration.served import FROM_CHECKOUT, environment, served

AGENTS, EACH = 10, 20
WINDOW = 5
"""Seconds. The windows of unsuccessful ends are brought to that of a successful one, as where a gateway rules retries
out; the breaker would rightly stop so many at its usual limit.
"""
PATIENCE = 120.0


def lines(folder: Path) -> Iterator[Line]:
    crowd = Crowd(folder / "state", SystemClock().now())
    keys = {
        (agent, name): crowd.at_work(agent, name, ago=1)
        for agent in (f"a{number}" for number in range(AGENTS))
        for name in (f"{agent}-s{number}" for number in range(EACH))
    }
    crowd.write()
    database = f"sqlite:///{folder}/audit.db"
    windows = ("STALE_AFTER", "ERROR_QUIET", "COMPACTION_QUIET")
    settings = {
        "CLAWMEND_STATE_DIR": str(crowd.state),
        "CLAWMEND_DATABASE_URL": database,
        "CLAWMEND_AUTH": "off",
        "CLAWMEND_BREAKER_REPAIRS": "1000000",
        **{f"CLAWMEND_{name}_SECONDS": str(WINDOW) for name in windows},
    }
    ends: dict[str, int] = {}
    home = folder / "home"
    with served(*FROM_CHECKOUT, "serve", env=environment(home, **settings), cwd=home) as service:
        for (agent, name), key in keys.items():
            ends[key] = SystemClock().now()
            with crowd.trajectory(agent, name).open("ab") as file:
                file.write(crowd.end(key, name, (crowd.now - ends[key]) / 1000))
        assert max(ends.values()) - min(ends.values()) < 1_000, "in the same second"
        deadline = time.monotonic() + PATIENCE
        while service.get("/health")["repaired_total"] < len(ends):
            assert time.monotonic() < deadline, service.said
            time.sleep(0.2)
    settled = {each.session_key: each for each in _settled(database)}
    assert settled.keys() == ends.keys()
    late = [((settled[key].decided_at or 0) - end) / 1000 - WINDOW for key, end in ends.items()]
    assert min(late) >= 0, "before its time"
    worst = percentile(late, 0.99)
    yield Line(
        f"from due (its end on disk, and the window of {WINDOW} s) to settled (the outcome is in the audit), p99 of "
        f"{len(ends)} sessions of {AGENTS} agents that fall due in the same second; the breaker's limit is raised",
        f"p50 {spoken(percentile(late, 0.5))}",
        spoken(worst),
        None,
        "<= 1 s",
        worst <= 1,
    )


def _settled(database: str) -> list[Attempt]:
    audit = AuditLog(database)
    try:
        return [each for each in audit.page(500)[0] if each.outcome == Outcome.APPLIED]
    finally:
        audit.dispose()
