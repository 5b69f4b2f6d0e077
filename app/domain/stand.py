"""Whether a database may be written to, by what is known of its gateway (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.model import Gateway


@dataclass(frozen=True, slots=True)
class Stand:
    """How a writer stands to the gateway. The table in docs/explanation/sqlite-writing.md explains each code."""

    live: bool | None
    """It runs, and nothing runs in it for this session; False: it is stopped; None: nothing may be written."""
    code: str = ""
    detail: str = ""


def stand(gateway: Gateway, active: bool | None, runs: tuple[str, ...] | None, *, live_allowed: bool) -> Stand:
    """What may be done, by what the gateway itself says of the session now (`hasActiveRun`, `activeRunIds`), or None.

    An answer is worth more than the processes in sight: the gateway may be one in a container.
    """
    if gateway.state == "absent" and active is None and runs is None:
        return Stand(False)
    if active or runs:
        return Stand(None, "gateway_active", "the gateway says that a run of this session is active")
    if active is None or runs is None:
        why = "does not say that nothing runs" if gateway.state == "running" else f"may run: {gateway.reason}"
        return Stand(None, "gateway_unsure", f"the gateway {why}")
    if not live_allowed:
        return Stand(
            None, "gateway_live", "the gateway runs, and its database is to be written to only while it is stopped"
        )
    return Stand(True)
