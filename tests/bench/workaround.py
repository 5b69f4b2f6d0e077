"""The floor of a scan: how a script of the community finds stuck sessions. It reads all, each time that it is asked.

A row that says `running` though the last end of an attempt in its trajectory is younger than the row: it is stuck.
"""

import json
import sys
from datetime import datetime
from pathlib import Path


def stuck(state: Path) -> list[str]:
    found = []
    for store in sorted(state.glob("agents/*/sessions/sessions.json")):
        sessions = json.loads(store.read_text())
        ended = {}
        for path in store.parent.glob("*.trajectory.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["type"] == "session.ended":
                    ended[path.name.removesuffix(".trajectory.jsonl")] = event["ts"]
        for key, row in sessions.items():
            ts = ended.get(row["sessionId"])
            if row.get("status") == "running" and ts and milliseconds(ts) > row.get("startedAt", 0):
                found.append(key)
    return found


def milliseconds(ts: str) -> float:
    return datetime.fromisoformat(ts.replace("Z", "+00:00")).timestamp() * 1000


if __name__ == "__main__":
    for key in stuck(Path(sys.argv[1])):
        print(key)
