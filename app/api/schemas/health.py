"""Shapes of what a load balancer asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.api.schemas.base import Moment, Shape, Word


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
