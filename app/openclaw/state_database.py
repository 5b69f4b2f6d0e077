"""The database of a state dir, `state/openclaw.sqlite`: what a gateway knows beside its agents' databases."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from app.openclaw.database import DatabaseIdentity, identify, opened_read_only
from app.openclaw.folder import FileProblem, Folder

STATE_DATABASE = "openclaw.sqlite"


def state_folder(state_dir: str) -> Folder:
    """Where it is. Raises FileProblem."""
    return Folder(os.path.join(state_dir, "state"), state_dir)


def identify_state_database(state_dir: str) -> DatabaseIdentity | None:
    """None where it is not there. Raises FileProblem."""
    with state_folder(state_dir) as folder:
        return identify(folder, STATE_DATABASE)


@contextmanager
def opened_state_database(state_dir: str) -> Iterator[sqlite3.Connection]:
    """A connection for one short look. Raises FileProblem, which names the database, also of what the block raises."""
    try:
        with state_folder(state_dir) as folder, opened_read_only(folder, STATE_DATABASE) as (connection, _):
            yield connection
    except FileProblem as problem:
        raise FileProblem(problem.code, f"the state database: {problem.detail}") from None
