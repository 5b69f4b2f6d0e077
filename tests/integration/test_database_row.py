"""One row of a recorded database, read as it stands at this moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.domain.model import Row
from app.openclaw.database_row import read_entry
from app.openclaw.folder import FileProblem, Folder
from tests.databases import LOCKED_OUT, AgentDatabase, recorded
from tests.world import World


@pytest.fixture
def database(world: World) -> AgentDatabase:
    return recorded(world)


def read(database: AgentDatabase, key: str = LOCKED_OUT) -> tuple[Row, bytes] | None:
    with Folder(str(database.path.parent)) as folder:
        return read_entry(folder, database.path.name, key)


def test_a_row_is_read_with_the_very_text_that_it_was_read_from(database: AgentDatabase) -> None:
    text = json.dumps(database.entry() | {"label": "Grüße"}, ensure_ascii=False, indent=1)
    database.put(LOCKED_OUT, text, database.entry()["updatedAt"], "running")
    found = read(database)
    assert found is not None
    row, there = found
    assert there == text.encode()
    entry = database.entry()
    assert (row.key, row.status, row.session_id) == (LOCKED_OUT, "running", entry["sessionId"])
    assert (row.started_at, row.updated_at) == (entry["startedAt"], entry["updatedAt"])


def test_a_key_that_is_no_ascii_is_found_and_one_that_is_not_there_is_not(database: AgentDatabase) -> None:
    database.run("UPDATE session_nodes SET session_key = ? WHERE session_key = ?", "agent:main:Grüße", LOCKED_OUT)
    found = read(database, "agent:main:Grüße")
    assert found is not None and found[0].key == "agent:main:Grüße"
    assert read(database, LOCKED_OUT) is None


@pytest.mark.parametrize("text", ["[]", "{", "1", ""])
def test_a_row_that_is_no_object_cannot_be_read(database: AgentDatabase, text: str) -> None:
    database.put(LOCKED_OUT, text, 1, "running", certify=False)
    with pytest.raises(FileProblem) as raised:
        read(database)
    assert (raised.value.code, raised.value.detail) == ("database_unreadable", "its row is not an object")


def test_a_database_that_is_not_there_is_missing(tmp_path: Path) -> None:
    database = AgentDatabase(tmp_path)
    database.path.parent.mkdir(parents=True)
    with pytest.raises(FileProblem) as raised:
        read(database)
    assert raised.value.code == "missing"
