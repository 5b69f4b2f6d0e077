"""The list of the agents' databases that a state dir's own database keeps (spec 2026.9.6, section 2.1)."""

from __future__ import annotations

import os
import sqlite3

from app.openclaw.config import normalize_agent_id
from app.openclaw.database import DatabaseIdentity, identify, opened_read_only
from app.openclaw.folder import FileProblem
from app.openclaw.paths import DATABASE_NAME, StoreTarget
from app.openclaw.state_database import STATE_DATABASE, state_folder

_MOST = 1_000


class AgentDatabasesReader:
    """Remembers each list until its database changes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[DatabaseIdentity, tuple[StoreTarget, ...]]] = {}

    def listed(self, state_dir: str) -> tuple[StoreTarget, ...]:
        """The agents' databases that a gateway has opened and that lie elsewhere than by default.

        A state dir without such a list gives none: its agents' databases are where they are by default. Raises
        FileProblem for a list that cannot be read: then nobody knows.
        """
        try:
            with state_folder(state_dir) as folder:
                identity = identify(folder, STATE_DATABASE)
                known = self._known.get(state_dir)
                if identity is None or (known is not None and known[0] == identity):
                    return known[1] if identity is not None and known is not None else ()
                with opened_read_only(folder, STATE_DATABASE) as (connection, identity):
                    found = _targets(state_dir, connection)
        except FileProblem as error:
            if error.code == "missing":
                return ()
            raise FileProblem(error.code, f"the list of the agents' databases: {error.detail}") from None
        self._known[state_dir] = (identity, found)
        return found


def _targets(state_dir: str, connection: sqlite3.Connection) -> tuple[StoreTarget, ...]:
    if not connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'agent_databases'"
    ).fetchone():
        return ()
    rows = connection.execute(f"SELECT agent_id, path FROM agent_databases LIMIT {_MOST}").fetchall()  # noqa: S608
    agents = os.path.join(state_dir, "agents")
    found = []
    for agent_id, raw in rows:
        if not (isinstance(agent_id, bytes) and isinstance(raw, bytes)) or b"\0" in raw:
            continue
        path = os.path.normpath(os.path.join(state_dir, os.fsdecode(raw)))
        folder, name = os.path.split(path)
        by_default = os.path.basename(folder) == "agent" and os.path.dirname(os.path.dirname(folder)) == agents
        if name == DATABASE_NAME and not by_default and path.isprintable():
            agent = normalize_agent_id(agent_id.decode("utf-8", "replace"))
            found.append(StoreTarget(state_dir, agent, path, folder, "database"))
    return tuple(found)
