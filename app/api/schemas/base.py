"""What every shape is, and words that many have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
