"""A gateway on the wire whose rows live in a database (tests.peer has the one of files)."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

from tests.databases import AgentDatabase
from tests.peer import Peer


class DatabasePeer(Peer):
    """It lists, patches and changes rows as 2026.9.6 does; `says` goes over what it lists of each session."""

    def __init__(self, database: AgentDatabase) -> None:
        self.database = database
        self.says: dict[str, Any] = {"activeRunIds": []}
        self.path = str(database.path)
        self._rows = sqlite3.connect(database.path, check_same_thread=False)
        self._rows.execute("SELECT count(*) FROM session_nodes").fetchone()  # as a gateway has it: its log stays
        super().__init__(database.path)

    def stop(self) -> None:
        super().stop()
        self._rows.close()

    def list_sessions(self, params: dict[str, Any]) -> dict[str, Any]:
        with closing(sqlite3.connect(self.database.path)) as connection:
            rows = connection.execute("SELECT session_key, entry_json FROM session_nodes").fetchall()
        listed = [{"key": k, **json.loads(text), "hasActiveRun": k in self.active, **self.says} for k, text in rows]
        wanted = params.get("search")
        return {"path": self.path, "sessions": [r for r in listed if wanted in (None, r.get("sessionId"))]}

    def patch_session(self, params: dict[str, Any]) -> dict[str, Any]:
        """It sets `updatedAt` to now, whatever it is asked."""
        before = self.database.entry(params["key"])
        self.database.edit(params["key"], updatedAt=before["updatedAt"] + 1_000)
        return {"ok": True, "path": self.path, "key": params["key"], "entry": self.database.entry(params["key"])}

    def live(self, params: dict[str, Any]) -> dict[str, Any]:
        """The plugin names the file that the rows came from."""
        store = self.database.path.parents[1] / "sessions" / "sessions.json"
        return {**super().live(params), "store": str(store)}

    def settle_row(self, params: dict[str, Any]) -> dict[str, Any]:
        ended, status = params["endedAt"], params["status"]
        runtime = max(0, ended - params["expectedStartedAt"])
        run = self.database.entry(params["key"])["lifecycleRunId"]
        fields = {"status": status, "endedAt": ended, "runtimeMs": runtime, "abortedLastRun": status == "killed"}
        return self._change_row(params, {**fields, "lastRunId": run, "lifecycleRunId": None})

    def _change_row(self, params: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        before = self.database.entry(params["key"])
        self.database.edit(params["key"], **fields)
        after = self.database.entry(params["key"])
        told = {"sessions": True, "chat": True}
        was, now = ({n: entry[n] for n in fields if n in entry} for entry in (before, after))
        return {"applied": True, "reason": None, "before": was, "after": now, "told": told}
