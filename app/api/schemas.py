"""The shapes of the answers, for the documentation only: what is sent is serialised once, by app.api.views.

No field may be missing, and none be there that is not named here: tests/api/test_contract.py holds real answers against
these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.audit.models import Outcome, Trigger
from app.domain.model import Code

Moment = Annotated[
    str,
    Field(
        json_schema_extra={"format": "date-time"},
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="RFC 3339, UTC, with milliseconds",
    ),
]
Word = Literal["pass", "warn", "fail"]


class Shape(BaseModel):
    """All of its fields are there, and no others."""

    model_config = ConfigDict(extra="forbid")


class Named(Shape):
    """Which session it is."""

    session_key: str
    session_id: str | None
    agent_id: str
    state_dir: str


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


class Fields(Shape):
    """The four fields of a row, as OpenClaw has them (epoch milliseconds)."""

    status: str | None
    endedAt: int | float | None
    runtimeMs: int | float | None
    abortedLastRun: bool | None


class Look(Shape):
    """What a later look at the row has found: docs/explanation/repair.md."""

    at: Moment | None
    found: str


class Told(Shape):
    """What came of telling the gateway: docs/explanation/gateway.md."""

    at: Moment | None
    answer: Literal["as_repaired", "otherwise", "not_told"]
    why: str | None


class Repair(Shape):
    """One attempt to change a row."""

    id: str | None = Field(description="null in a dry run", json_schema_extra={"format": "uuid"})
    dry_run: bool
    kind: Literal["settle", "undo"]
    session_key: str
    session_id: str
    agent_id: str
    state_dir: str
    store_path: str
    outcome: Outcome | None = Field(description="null while it is open, and in a dry run")
    outcome_reason: str | None
    trigger: Trigger
    actor: str
    reason: str
    forced: bool
    verdict: Code
    verdict_reason: str
    before: Fields
    after: Fields
    hand: Literal["file", "database", "plugin"]
    mode: Literal["exchange", "rename"] | None
    crossings: int
    opened_at: Moment | None
    decided_at: Moment | None
    finished_at: Moment | None
    looks: list[Look]
    told: Told | None
    undo_of: str | None
    retry_of: str | None
    evidence: Evidence | NoEvidence | None = Field(description="null where only the change is told of")


class RepairList(Shape):
    """A page of the attempts, the newest first."""

    items: list[Repair]
    next: str | None = Field(description="the `cursor` of the next page", json_schema_extra={"format": "uuid"})


class PlainProblem(Shape):
    """A problem (RFC 9457) without members of its own: docs/reference/errors.md."""

    type: str
    title: str
    status: int
    detail: str
    next: str


class LeftOut(Named):
    """A session that is settled by its own name only."""

    why: str


class BulkItem(Named):
    """What came of one session: its repair or the problem."""

    repair: Repair | None
    problem: PlainProblem | None


class BulkAnswer(Shape):
    """What came of each session, and what was left."""

    dry_run: bool
    items: list[BulkItem]
    summary: dict[str, int]
    not_tried: list[Named]
    stopped: PlainProblem | None
    left_out: list[LeftOut]
    more: int


class Breaker(Shape):
    """The breaker as it stands, or as it was closed last."""

    open: bool
    opened_at: Moment | None
    reason: str | None
    waiting: int
    closed_at: Moment | None
    closed_by: str | None
    close_reason: str | None


class DeadMessage(Shape):
    """A message that could not be delivered; `payload` is as docs/reference/webhook.schema.json has it."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    type: str
    host: str
    made_at: Moment | None
    tries: int
    why: str | None
    payload: dict[str, Any]


class DeadList(Shape):
    """A page of the messages that could not be delivered, the newest first."""

    items: list[DeadMessage]
    next: str | None = Field(description="the `cursor` of the next page", json_schema_extra={"format": "uuid"})


class Resent(Shape):
    """A message that is tried anew."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    state: Literal["waiting"]


class PassesCheck(Shape):
    """Whether passes come."""

    status: Word
    number: int
    seconds_since_last: float | None


class AuditCheck(Shape):
    """Whether the audit database answers."""

    status: Word


class StoresCheck(Shape):
    """How many stores can be read; `problems` counts the codes of the others."""

    status: Word
    readable: int
    problems: dict[str, int]


class SessionsCheck(Shape):
    """How many sessions need a look."""

    status: Word
    stuck: int
    flapping: int
    unprovable: int


class GatewayCheck(Shape):
    """`links` counts the links by how they stand."""

    status: Word
    links: dict[str, int]
    ready: int | None
    plugins: int | None


class RepairsCheck(Shape):
    """Whether repairs are made, and how many fail."""

    status: Word
    automatic: bool
    failing: int


class BreakerCheck(Shape):
    """Whether the breaker is open."""

    status: Word
    open: bool
    since: Moment | None
    reason: str | None
    waiting: int


class Checks(Shape):
    """Every check by name."""

    passes: PassesCheck
    audit: AuditCheck
    stores: StoresCheck
    sessions: SessionsCheck
    gateway: GatewayCheck
    repairs: RepairsCheck
    breaker: BreakerCheck


class Health(Shape):
    """How it is, in counts only."""

    status: Word
    stuck: int
    repaired_total: int
    last_pass_at: Moment | None
    checks: Checks


class Status(Shape):
    """How it is, in a word."""

    status: Word


class DraftCheck(BaseModel):
    """One measure, as draft-inadarei-api-health-check-06 has it."""

    model_config = ConfigDict(extra="forbid")

    componentType: Literal["component", "datastore", "system"]
    status: Word
    time: Moment
    observedValue: float | None = None
    observedUnit: str | None = None


class DraftHealth(Shape):
    """Health in the shape of draft-inadarei-api-health-check-06; `checks` by `component:measurement`."""

    status: Word
    version: str
    releaseId: str
    serviceId: Literal["clawmend"]
    description: str
    checks: dict[str, list[DraftCheck]]
