"""Shapes of messages that could not be delivered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.api.schemas.base import Moment, Shape


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
