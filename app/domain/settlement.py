"""From an end to the four fields that the gateway would have written."""

from __future__ import annotations

from app.domain.model import TERMINAL_STATUSES, End, Row, Settlement


def target_status(end: End) -> str | None:
    """The row status that an end stands for, or None when it is not known (design, section 2).

    OpenClaw stores a user's abort as `timeout` or `failed`; we say `killed`, which is what its own
    type means (docs/decisions/0003).
    """
    if end.status == "success":
        return "done"
    if end.status not in ("error", "interrupted", "cleanup"):
        return None
    if end.timed_out and not end.external_abort:
        return "timeout"
    if end.aborted or end.external_abort or end.status == "interrupted":
        return "killed"
    return "failed"


def settle(row: Row, status: str, ended_at: int) -> Settlement:
    """The fields for `row` ending as `status` at `ended_at` (epoch ms).

    Raises ValueError for a status that is not a terminal one.
    """
    if status not in TERMINAL_STATUSES:
        raise ValueError(f"{status!r} is not one of {', '.join(TERMINAL_STATUSES)}")
    started = row.started_at if row.started_at is not None else ended_at
    return Settlement(status, ended_at, max(0, ended_at - started), status == "killed")
