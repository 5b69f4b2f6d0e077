"""Shapes of sessions, of their evidence, and of the lists of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import Moment, Named, Shape
from app.domain.model import Code


class File(Shape):
    """A file as it was seen."""

    inode: int
    size: int
    modified_at: Moment | None


class LastEvent(Shape):
    """One of the last events of a trajectory."""

    type: str
    ts: Moment | None
    run_id: str | None


class End(Shape):
    """What a `session.ended` says."""

    ts: Moment | None
    status: str | None
    aborted: bool
    external_abort: bool
    timed_out: bool
    compaction: bool
    run_id: str | None
    error: str | None


class Trajectory(Shape):
    """A flight recorder of the session."""

    path: str
    session_id: str
    file: File | None
    last_events: list[LastEvent]
    end: End | None
    registered: bool
    torn: bool
    full: bool
    problem: str | None


class EvidenceRow(Shape):
    """The row as it was judged."""

    status: str | None
    started_at: Moment | None
    ended_at: Moment | None
    updated_at: Moment | None
    recovery: list[str]
    family: list[str]


class Lock(Shape):
    """Who holds the transcript."""

    pid: int | None
    live: bool


class GatewayProcess(Shape):
    """What is known of the gateway's process."""

    state: Literal["running", "absent", "unknown"]
    since: Moment | None
    reason: str


class Liveness(Shape):
    """What the gateway itself says of the session."""

    active_run: bool | None
    active_run_ids: list[str] | None
    gateway_idle: bool
    asked_at: Moment | None
    reason: str
    by_plugin: bool


class Windows(Shape):
    """Seconds of quiet that are waited for after each kind of end."""

    success: float
    error: float
    compaction: float


class Evidence(Shape):
    """All that a verdict rests on: docs/reference/verdicts.md."""

    row: EvidenceRow
    trajectories: list[Trajectory]
    trajectory_problem: str | None
    transcript: File | None
    lock: Lock | None
    children: list[str]
    gateway: GatewayProcess
    liveness: Liveness
    claims: list[str]
    claims_problem: str | None
    watched_seconds: float
    calm_seconds: float | None
    windows: Windows


class NoEvidence(Shape):
    """An undo rests on the repair that it takes back."""


class Issue(Shape):
    """A known issue of OpenClaw."""

    number: int
    url: str
    says: str


class Flapping(Shape):
    """It was settled too often: the scheduler leaves it alone."""

    times: int
    since: Moment | None
    until: Moment | None
    issue: Issue | None


class Session(Named):
    """A session with its verdict, without its evidence."""

    verdict: Code
    reason: str
    status: str | None
    target_status: str | None
    started_at: Moment | None
    ended_at: Moment | None
    stuck_for_seconds: float | None
    due_at: Moment | None
    held_by: str | None
    put_off_until: Moment | None
    unwritable: str | None
    flapping: Flapping | None
    fingerprint: str


class SessionWithEvidence(Session):
    """A session with its verdict and all that it rests on."""

    evidence: Evidence


class Scan(Shape):
    """The pass that an answer comes from."""

    number: int
    started_at: Moment | None
    finished_at: Moment | None
    duration_seconds: float | None
    stores: int
    problems: int


class StoreProblem(Shape):
    """A store or a state dir that cannot be judged: docs/reference/errors.md has each `code`."""

    state_dir: str
    store: str | None
    code: str
    detail: str


class StuckList(Shape):
    """A page of the stuck sessions, the oldest first."""

    count: int = Field(description="how many match, on all pages")
    items: list[SessionWithEvidence]
    next: str | None = Field(description="the `cursor` of the next page", json_schema_extra={"format": "cursor"})
    scan: Scan


class SessionList(Shape):
    """A page of the sessions, by store and key."""

    count: int = Field(description="how many match, on all pages")
    items: list[Session]
    next: str | None = Field(description="the `cursor` of the next page", json_schema_extra={"format": "cursor"})
    scan: Scan
    problems: list[StoreProblem]
