from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.entry import entry_edit, entry_of, restored_entry, settled_entry
from app.domain.model import Settlement
from app.domain.splice import CannotSplice, Edit, FieldEdit

RUN = "19586d3d-54c6-48ef-9c7c-000000000000"
DONE = Settlement("done", 2_000, 900, False)
RUNNING: dict[str, Any] = {
    "sessionId": "a",
    "updatedAt": 1_500,
    "abortedLastRun": False,
    "status": "running",
    "startedAt": 1_100,
    "lifecycleRunId": RUN,
    "model": "fake-1",
}

ANOTHER_RUN = "this run does not keep the row running"
NOT_IDENTIFIED = "the entry has no sessionId or no updatedAt"


def text(**over: Any) -> bytes:
    """A running entry as Node writes it; None takes a field away."""
    entry = {name: value for name, value in {**RUNNING, **over}.items() if value is not None}
    return json.dumps(entry, separators=(",", ":")).encode()


def test_a_settled_entry_is_in_the_order_in_which_the_gateway_itself_writes_it() -> None:
    assert settled_entry(text(), DONE, RUN) == (
        b'{"sessionId":"a","updatedAt":2000,"abortedLastRun":false,"status":"done","startedAt":1100,"endedAt":2000,'
        b'"runtimeMs":900,"lastRunId":"' + RUN.encode() + b'","model":"fake-1"}'
    )


def test_every_other_byte_of_the_entry_stays_what_it_was() -> None:
    odd = b'"prompt":"\\ud83d \xc3\xa9 \\u00e9 /\\/","n":[1.0,1e3,123456789012345678901234567890],"":{}'
    before = text()[:-1] + b"," + odd + b"}"
    after = settled_entry(before, DONE, RUN)
    assert after.endswith(b',"model":"fake-1",' + odd + b"}")


def test_updated_at_does_not_go_back() -> None:
    assert entry_of(settled_entry(text(updatedAt=9_000), DONE, RUN)).updated_at == 9_000


def test_the_columns_follow_from_the_text() -> None:
    after = entry_of(settled_entry(text(sessionId="\xe9"), Settlement("killed", 2_000, 900, True), RUN))
    columns = (after.session_id, after.status, after.updated_at, after.started_at, after.ended_at, after.run_id)
    assert columns == ("\xe9", "killed", 2_000, 1_100, 2_000, None)


def test_an_interrupted_entry_is_a_failed_one_in_its_column() -> None:
    assert entry_of(text(status="interrupted")).status == "failed"


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"lifecycleRunId": "another"}, ANOTHER_RUN),
        ({"lifecycleRunId": None}, ANOTHER_RUN),
        ({"status": "done"}, ANOTHER_RUN),
        ({"endedAt": 1_200}, "the row runs on by intent: it has an endedAt"),
        ({"updatedAt": 0}, "the row waits for a reset of the session (its updatedAt is 0)"),
        ({"lastRunId": "another"}, "the row names a last run while one is under way"),
        ({"sessionId": None}, NOT_IDENTIFIED),
        ({"sessionId": ""}, NOT_IDENTIFIED),
        ({"sessionId": 7}, NOT_IDENTIFIED),
        ({"updatedAt": None}, NOT_IDENTIFIED),
        ({"status": "queued"}, "the entry has a status that its column does not know"),
        ({"status": 3}, "the entry has a status that its column does not know"),
        ({"startedAt": 1.5}, "the entry's startedAt is not a time in whole milliseconds"),
        ({"startedAt": True}, "the entry's startedAt is not a time in whole milliseconds"),
        ({"startedAt": 1 << 53}, "the entry's startedAt is not a time in whole milliseconds"),
        ({"endedAt": "soon"}, "the entry's endedAt is not a time in whole milliseconds"),
        ({"updatedAt": -1}, "the entry's updatedAt is not a time in whole milliseconds"),
    ],
)
def test_an_entry_that_this_run_does_not_keep_running_is_not_settled(over: dict[str, Any], why: str) -> None:
    with pytest.raises(CannotSplice) as refused:
        settled_entry(text(**over), DONE, RUN)
    assert str(refused.value) == why


def test_the_first_millisecond_of_all_is_a_time_as_any_other() -> None:
    assert entry_of(settled_entry(text(updatedAt=1, startedAt=0), DONE, RUN)).started_at == 0
    assert entry_of(text(startedAt=(1 << 53) - 1)).started_at == (1 << 53) - 1


def test_an_entry_is_what_its_text_says() -> None:
    assert entry_of(text()).text == text()
    assert entry_of(text()).run_id == RUN
    assert entry_of(text(lifecycleRunId=7)).run_id is None


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        text()[:-1],
        text() + b"x",
        text()[:-1] + b',"a":' + b"[" * 100_000 + b"}",
        text(sessionId="x").replace(b'"x"', b'"\xff"'),
    ],
)
def test_an_entry_that_does_not_parse_is_refused(torn: bytes) -> None:
    with pytest.raises(CannotSplice, match=r"^the entry cannot be changed: ."):
        settled_entry(torn, DONE, RUN)


def test_an_entry_that_does_not_parse_has_no_edit() -> None:
    for before, after in ((text(), b"{"), (b"{", text())):
        with pytest.raises(CannotSplice, match=r"^the entry cannot be changed: ."):
            entry_edit("k", before, after)


def test_an_entry_that_names_a_field_twice_is_refused() -> None:
    twice = text()[:-1] + b',"model":"fake-2"}'
    for refused in (lambda: entry_of(twice), lambda: entry_edit("k", text(), twice)):
        with pytest.raises(CannotSplice, match=r"^the entry names a field twice$"):
            refused()


# --- taken back ---

ODD = b',"prompt":"\\ud83d \xc3\xa9 \\u00e9 /\\/","n":[1.0,1e3],"":{}}'


@pytest.mark.parametrize("before", [text(), text()[:-1] + ODD, text(abortedLastRun=None), text(runtimeMs=1)])
def test_a_settlement_that_is_taken_back_gives_every_byte_back(before: bytes) -> None:
    after = settled_entry(before, DONE, RUN)
    assert restored_entry(after, entry_edit("k", before, after)) == before


def test_the_edit_of_a_settlement_names_the_fields_and_the_run_by_their_texts() -> None:
    edit = entry_edit("k", text(), settled_entry(text(), DONE, RUN))
    assert edit.key == "k"
    assert {c.name: (c.before, c.after) for c in edit.fields} == {
        "status": ('"running"', '"done"'),
        "endedAt": (None, "2000"),
        "runtimeMs": (None, "900"),
        "updatedAt": ("1500", "2000"),
        "lifecycleRunId": (f'"{RUN}"', None),
        "lastRunId": (None, f'"{RUN}"'),
    }


def settled(**over: Any) -> bytes:
    """The settled entry, written to since."""
    entry = {**json.loads(settled_entry(text(), DONE, RUN)), **over}
    return json.dumps({n: v for n, v in entry.items() if v is not None}, separators=(",", ":")).encode()


EDIT = entry_edit("k", text(), settled_entry(text(), DONE, RUN))


def test_what_has_been_written_since_stays_and_so_does_its_time() -> None:
    restored = json.loads(restored_entry(settled(updatedAt=7_000, label="named"), EDIT))
    assert restored == {**RUNNING, "updatedAt": 7_000, "label": "named"}


@pytest.mark.parametrize(
    "over",
    [
        {"status": "failed"},
        {"endedAt": 2_001},
        {"runtimeMs": None},
        {"lastRunId": "another"},
        {"lastRunId": None},
        {"lifecycleRunId": "a-new-run"},
    ],
)
def test_a_field_that_is_no_longer_what_the_repair_wrote_refuses_it(over: dict[str, Any]) -> None:
    with pytest.raises(
        CannotSplice, match=r"^(status|endedAt|runtimeMs|lastRunId) is no longer what the repair wrote$"
    ):
        restored_entry(settled(**over), EDIT)


@pytest.mark.parametrize(
    "run",
    [
        (FieldEdit("lastRunId", '"a"', '"b"'),),
        (FieldEdit("lifecycleRunId", '"b"', None),),
        (FieldEdit("lifecycleRunId", '"b"', None), FieldEdit("lastRunId", '"a"', '"b"')),
        (FieldEdit("lifecycleRunId", '"b"', '"c"'), FieldEdit("lastRunId", None, '"b"')),
    ],
)
def test_an_edit_of_the_run_that_is_no_settlement_is_not_taken_back(run: tuple[FieldEdit, ...]) -> None:
    with pytest.raises(CannotSplice, match=r"^the repair has not left the run of the turn as a settlement does$"):
        restored_entry(settled(), Edit("k", run))


def test_an_edit_without_a_run_is_taken_back_as_it_is() -> None:
    edit = Edit("k", (FieldEdit("status", '"running"', '"done"'),))
    assert json.loads(restored_entry(settled(), edit))["status"] == "running"
