"""Messages to webhooks: those that wait, those that could not be delivered, and which were sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, delete, func, insert, select, update

from app.audit.log import AuditLog
from app.audit.models import METADATA

MESSAGES = Table(
    "webhook_messages",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("receiver", String(64), nullable=False),
    Column("host", Text, nullable=False),
    Column("type", String(32), nullable=False),
    Column("about", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(8), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("tries", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("why", Text),
    Index("ix_webhook_messages_state_receiver", "state", "receiver"),
)


class State(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one receiver, as the table has it. Times are epoch ms."""

    id: str
    receiver: str
    """Which of the URLs, by its digest: a URL may hold a secret."""
    host: str
    type: str
    about: str
    """What it tells of: two messages of one type about the same are the same news."""
    body: str
    """The JSON that is sent; empty once it was, since it names a session."""
    state: str
    made_at: int
    tries: int
    next_at: int
    """When it is to be tried next."""
    why: str | None = None
    """Why the last try failed."""


class Outbox:
    """Any number of threads. Every call is one committed transaction and raises AuditUnavailable."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def put(self, messages: Iterable[Message], most: int) -> None:
        """Add messages. Where more than `most` then wait for one receiver, the oldest of them are dead."""
        rows = [asdict(message) for message in messages]
        if not rows:
            return
        with self._audit.write() as connection:
            connection.execute(insert(MESSAGES), rows)
            for receiver in {row["receiver"] for row in rows}:
                waiting = _in_state(State.WAITING) & (MESSAGES.c.receiver == receiver)
                newest = select(MESSAGES.c.id).where(waiting).order_by(MESSAGES.c.id.desc()).limit(most)
                dead = {"state": State.DEAD, "why": f"more than {most} messages were waiting for this receiver"}
                connection.execute(update(MESSAGES).where(waiting, MESSAGES.c.id.not_in(newest)).values(**dead))

    def next_for(self, receiver: str) -> Message | None:
        """The one that is to be tried first."""
        query = select(MESSAGES).where(_in_state(State.WAITING), MESSAGES.c.receiver == receiver)
        with self._audit.read() as connection:
            row = connection.execute(query.order_by(MESSAGES.c.next_at, MESSAGES.c.id).limit(1)).first()
        return Message(**row._asdict()) if row is not None else None

    def change(self, message_id: str, **values: Any) -> None:
        with self._audit.write() as connection:
            connection.execute(update(MESSAGES).where(MESSAGES.c.id == message_id).values(**values))

    def send_again(self, message_id: str | None, now: int) -> int:
        """Let a dead one be tried anew, or all of them (None); how many there were."""
        dead = _in_state(State.DEAD) if message_id is None else _in_state(State.DEAD) & (MESSAGES.c.id == message_id)
        values = {"state": State.WAITING, "tries": 0, "next_at": now}
        with self._audit.write() as connection:
            return connection.execute(update(MESSAGES).where(dead).values(**values)).rowcount

    def give_up_all_but(self, receivers: list[str]) -> None:
        """What waits for others is dead: their URLs are no longer set."""
        others = _in_state(State.WAITING) & MESSAGES.c.receiver.not_in(receivers)
        with self._audit.write() as connection:
            connection.execute(update(MESSAGES).where(others).values(state=State.DEAD, why="its URL is no longer set"))

    def dead(self, limit: int, before: str | None = None) -> tuple[list[Message], str | None]:
        """Those that could not be delivered, the newest first, and the cursor of the next page."""
        query = select(MESSAGES).where(_in_state(State.DEAD)).order_by(MESSAGES.c.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(MESSAGES.c.id < before)
        with self._audit.read() as connection:
            found = [Message(**row._asdict()) for row in connection.execute(query)]
        return found[:limit], (found[limit - 1].id if len(found) > limit else None)

    def counts(self) -> Counter[str]:
        """How many there are, by state."""
        query = select(MESSAGES.c.state, func.count().label("number")).group_by(MESSAGES.c.state)
        with self._audit.read() as connection:
            return Counter({row.state: row.number for row in connection.execute(query)})

    def known(self) -> set[tuple[str, str, str]]:
        """Receiver, type and about of every message that is remembered."""
        with self._audit.read() as connection:
            return {
                tuple(row) for row in connection.execute(select(MESSAGES.c.receiver, MESSAGES.c.type, MESSAGES.c.about))
            }

    def forget(self, most: int) -> None:
        """Keep the newest of those that were sent, and of the dead: `most` of each."""
        with self._audit.write() as connection:
            for state in (State.SENT, State.DEAD):
                newest = select(MESSAGES.c.id).where(_in_state(state)).order_by(MESSAGES.c.id.desc()).limit(most)
                connection.execute(delete(MESSAGES).where(_in_state(state), MESSAGES.c.id.not_in(newest)))


def _in_state(state: State) -> Any:
    return MESSAGES.c.state == state
