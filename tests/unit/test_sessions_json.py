"""The grammar of `sessions.json`: what becomes a row, what keeps a store or a row from being judged."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from app.domain.model import Row
from app.openclaw.sessions_json import StoreProblem, read_rows
from tests.world import RECORDINGS, STUCK_KEY, STUCK_SESSION_ID, STUCK_STARTED_AT

KEY = "agent:main:main"
RUNNING = '"sessionId": "s-1", "status": "running", "startedAt": 1795327557860'


def store(row: str, key: str = f'"{KEY}"') -> bytes:
    return f"{{\n  {key}: {{{row}}}\n}}".encode()


def one(row: str, key: str = f'"{KEY}"') -> Row:
    (found,) = read_rows(store(row, key))
    return found


def of(*, escaped: bool = True, **values: Any) -> Row:
    row = {"sessionId": "s-1", "status": "running", "startedAt": 1, **values}
    return one(json.dumps(row, ensure_ascii=escaped)[1:-1])


def test_the_real_stuck_row_is_projected_field_by_field() -> None:
    file = RECORDINGS / "provider-error-stuck/agents/main/sessions/sessions.json"
    (row,) = read_rows(file.read_bytes())

    assert (row.key, row.session_id, row.status) == (STUCK_KEY, STUCK_SESSION_ID, "running")
    assert (row.started_at, row.ended_at, row.runtime_ms) == (STUCK_STARTED_AT, None, None)
    assert row.aborted_last_run is False
    assert row.updated_at is not None
    assert 0 <= row.updated_at - STUCK_STARTED_AT <= 1_000, "the gateway stamps it some 20 ms after the start"
    assert row.session_file is not None
    assert row.session_file.endswith(f"/agents/main/sessions/{STUCK_SESSION_ID}.jsonl")
    assert (row.family, row.parents, row.recovery, row.problem) == ((), (), (), None)


@pytest.mark.parametrize("escaped", [True, False])
def test_every_field_that_a_verdict_needs_is_projected(escaped: bool) -> None:
    row = of(
        escaped=escaped,
        status="running",
        startedAt=1_795_327_557_860.9,
        endedAt=1_795_327_558_006,
        runtimeMs=146,
        abortedLastRun=False,
        updatedAt=1_795_327_557_881,
        sessionFile="/home/a/é.jsonl",
        usageFamilySessionIds=["s-0", "s-1", 7, "s-9"],
        spawnedBy="agent:main:ü",
        parentSessionKey="agent:main:b",
    )
    assert row == Row(
        key=KEY,
        session_id="s-1",
        status="running",
        started_at=1_795_327_557_860,
        ended_at=1_795_327_558_006,
        runtime_ms=146,
        aborted_last_run=False,
        updated_at=1_795_327_557_881,
        session_file="/home/a/é.jsonl",
        family=("s-0", "s-9"),
        parents=("agent:main:ü", "agent:main:b"),
    )


@pytest.mark.parametrize("value", [None, True, "1795327557860", [1], {"ms": 1}])
def test_a_time_that_is_no_number_is_no_time(value: object) -> None:
    assert of(startedAt=value).started_at is None


def test_an_empty_object_is_a_store_without_rows() -> None:
    assert read_rows(b" {\n} \n") == ()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b" \r\n\t ", "empty"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"{}"', "not_an_object"),
        (b"\0" * 4096, "not_an_object"),
        (b"{", "not_json"),
        (store(RUNNING)[:-1], "not_json"),
        (store(RUNNING)[:40], "not_json"),
        (store(RUNNING) + b"}", "not_json"),
        (store(RUNNING) + store(RUNNING), "not_json"),
        (store(RUNNING) + b"\0", "not_json"),
        (store(RUNNING + ","), "not_json"),
        (b'{"a": {},}', "not_json"),
        (store("'sessionId': 's-1'"), "not_json"),
        (store('"sessionId": "s\n1"'), "not_json"),
        (b'{"a": {} /* a comment */}', "not_json"),
        (store(f'{RUNNING}, "cost": NaN'), "not_json"),
        (store(f'{RUNNING}, "usage": {{"cost": [-Infinity]}}'), "not_json"),
        (b"\xef\xbb\xbf" + store(RUNNING), "not_json"),
        (store(RUNNING).decode().encode("utf-16"), "not_utf8"),
        (store(RUNNING).replace(b"s-1", b"s-\xff"), "not_utf8"),
        # A lone surrogate as raw bytes is no UTF-8; Node writes it as an escape.
        (store(RUNNING).replace(b"s-1", b"\xed\xa0\xbd"), "not_utf8"),
        (store(RUNNING)[:-2] + b"\xc3", "not_utf8"),
        (b'{"a": {"status": "done", "label": "\xff"}}', "not_utf8"),
        (b'{"a": {}, "b": {}, "a": {}}', "duplicate_keys"),
        (b'{"a": {}, "\\u0061": {}}', "duplicate_keys"),
        ('{"agent:main:é": {}, "agent:main:\\u00e9": {}}'.encode(), "duplicate_keys"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "not_json"),
    ],
)
def test_a_store_that_cannot_be_read_has_a_word_for_it(data: bytes, code: str) -> None:
    with pytest.raises(StoreProblem) as caught:
        read_rows(data)

    assert caught.value.code == code
    assert caught.value.detail


@pytest.mark.parametrize("length", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_character_that_lies_across_a_chunk_is_whole(length: int) -> None:
    head = f'{{"{KEY}": {{"sessionId": "s-1", "status": "running", "label": "'.encode()
    data = head + b"x" * (length - len(head)) + "é".encode() + b'", "startedAt": 7}}'

    (row,) = read_rows(data)

    assert (row.started_at, row.problem) == (7, None)


@pytest.mark.parametrize(
    ("number", "ms"),
    [
        ("9007199254740991", 2**53 - 1),
        ("9007199254740992", 2**53),
        ("1e400", 2**53),
        ("9" * 400, 2**53),
        ("9" * 5_000, 2**53),
        ("1.795327557860e12", 1_795_327_557_860),
        ("-1", -1),
        ("0", 0),
    ],
)
def test_a_number_of_any_length_is_read_and_a_huge_one_lies_in_the_future(number: str, ms: int) -> None:
    """JSON.parse takes all of these; 2**53 ms is the year 287396."""
    row = one(f'"sessionId": "s-1", "status": "running", "startedAt": {number}')

    assert (row.started_at, row.problem) == (ms, None)


@pytest.mark.parametrize(
    ("session_id", "valid"),
    [
        ("d3e9c2be-6fc1-49a5-b885-f84b423d462f", True),
        ("a.b:c@d_E-9", True),
        ("a" * 255, True),
        ("a" * 256, False),
        ("", False),
        ("-a", False),
        ("a/b", False),
        ("../a", False),
        ("a\n", False),
        ("é", False),
        ("\ud83d", False),
        (7, False),
        (None, False),
    ],
)
def test_a_running_row_needs_a_session_id_that_openclaw_would_keep(session_id: object, valid: bool) -> None:
    row = of(sessionId=session_id)

    assert row.session_id == (session_id if valid else None)
    assert row.problem == (None if valid else "its row has no valid sessionId")
    assert of(sessionId=session_id, status="done").problem is None, "a settled row is nobody's problem"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (RUNNING, False),
        (f'{RUNNING}, "label": 1, "label": 1', True),
        (f'"status": "done", {RUNNING}', True),
        (f'{RUNNING}, "st\\u0061tus": "running"', True),
        (f'{RUNNING}, "é": 1, "\\u00e9": 2', True),
        (f'{RUNNING}, "é": 1, "É": {"9" * 5000}', False),
        (f'{RUNNING}, "inner": {{"x": 1, "x": 2}}', False),
        (f'{RUNNING}, "status": "done"', False),
    ],
)
def test_a_running_row_that_names_a_field_twice_is_not_judged(row: str, problem: bool) -> None:
    assert (one(row).problem is not None) is problem


@pytest.mark.parametrize("value", ["null", "7", '"running"', "[]"])
def test_a_row_that_is_no_object_is_named_and_the_others_are_read(value: str) -> None:
    first, second = read_rows(f'{{"a": {value}, "b": {{{RUNNING}}}}}'.encode())

    assert (first.key, first.status, first.problem) == ("a", None, "its row is not an object")
    assert (second.key, second.status, second.problem) == ("b", "running", None)


@pytest.mark.parametrize(
    ("field", "value", "recovering"),
    [
        ("abortedLastRun", True, True),
        ("abortedLastRun", False, False),
        ("subagentRecovery", {"automaticAttempts": 1}, True),
        ("restartRecoveryRuns", [{"runId": "r"}], True),
        ("restartRecoveryRuns", [], False),
        ("pendingFinalDelivery", True, True),
        ("pendingFinalDelivery", False, False),
        ("pendingFinalDeliveryText", "a reply", False),
    ],
)
def test_fields_by_which_openclaw_recovers_a_session_are_noticed(field: str, value: object, recovering: bool) -> None:
    assert of(**{field: value}).recovery == ((field,) if recovering else ())


@pytest.mark.parametrize("field", ["restartRecoveryDeliveryRunId", "restartRecoveryForceSafeTools"])
def test_fields_that_2026_7_keeps_while_a_turn_runs_guard_it_and_recover_nothing(field: str) -> None:
    assert (of(**{field: "r"}).guards, of(**{field: "r"}).recovery) == ((field,), ())
    assert of(**{field: None}).guards == ()


@pytest.mark.parametrize("key", ["agent:main:größe", "agent:main:日本語", "agent:main:😀", "agent:main:Ã©"])
@pytest.mark.parametrize("status", ["running", "done"])
def test_a_key_in_any_script_is_read_raw_and_escaped(key: str, status: str) -> None:
    row = f'"sessionId": "s-1", "status": "{status}"'

    assert one(row, json.dumps(key)).key == key
    assert one(row, json.dumps(key, ensure_ascii=False)).key == key


def test_a_key_that_is_a_lone_surrogate_is_shown_and_not_judged() -> None:
    row = one(RUNNING, '"agent:main:\\ud83d"')

    assert (row.key, row.status) == ("agent:main:?", None)
    assert row.problem == "its session key is not valid Unicode"


def strings(value: object) -> list[str]:
    if isinstance(value, tuple):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(
    "row",
    [
        f'{RUNNING}, "label": "cut in an emoji \\ud83d"',
        f'{RUNNING}, "label": "é \\ude00"',
        f'{RUNNING}, "sessionFile": "\\ud83d.jsonl"',
        f'{RUNNING}, "spawnedBy": "agent:\\ud83d"',
        f'{RUNNING}, "usageFamilySessionIds": ["\\ud83d"]',
        f'{RUNNING}, "restartRecovery\\ud83d": 1',
        '"sessionId": "s-1", "status": "\\ud83d"',
    ],
)
def test_a_lone_surrogate_in_a_row_harms_nobody_who_shows_it(row: str) -> None:
    """Node writes one for a string cut inside an emoji; a value that holds one cannot be sent as UTF-8."""
    found = one(row)

    assert (found.session_id, found.problem) == ("s-1", None)
    for field in fields(found):
        for text in strings(getattr(found, field.name)):
            assert text.encode("utf-8")
