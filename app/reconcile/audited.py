"""Whether the audit answers: where it does not, what needs it is left out, and nothing is settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.audit.log import AuditUnavailable


class Audited:
    """Any number of threads."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """Why the audit did not answer; None while it does."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """For what needs the audit: it ends where the audit does not answer, and that is remembered."""
        try:
            yield
        except AuditUnavailable as error:
            self.problem = str(error)
