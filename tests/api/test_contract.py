"""OpenAPI is the contract: the document is complete, its examples are real, and real answers are as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from app.api.app import create_app
from app.api.contract import CALLS, DETAILS
from app.api.openapi import text_of
from app.api.problems import MEDIA_TYPE, PROBLEMS
from tests.api.recorded import everything, media_type
from tests.world import World

COMMITTED = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
MAKE = "make openapi"


@pytest.fixture
def document(world: World) -> dict[str, Any]:
    return create_app(world.reconciler(), "a token that is not used").openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {o["operationId"]: o for methods in document["paths"].values() for o in methods.values()}


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def wrong(document: dict[str, Any], operation: str, answer: httpx.Response) -> list[str]:
    """What an answer has that the document does not say of it."""
    told = operations(document)[operation]["responses"].get(str(answer.status_code))
    where = f"{operation} {answer.status_code}"
    if told is None:
        return [f"{where} is not documented"]
    content = told["content"].get(media_type(answer))
    if content is None:
        return [f"{where}: {media_type(answer)} is not documented"]
    said = answer.json() if media_type(answer).endswith("json") else answer.text
    found = [
        f"{where}: {e.instance_path} {e.message}" for e in validator(document, content["schema"]).iter_errors(said)
    ]
    missing = {name for name, h in told.get("headers", {}).items() if h["required"]} - {
        name for name in told.get("headers", {}) if name in answer.headers
    }
    return found + [f"{where}: without {name}" for name in sorted(missing)]


def test_the_committed_document_is_that_of_the_code(document: dict[str, Any]) -> None:
    assert COMMITTED.read_text(encoding="utf-8") == text_of(document), f"make it again: {MAKE}"


def test_the_document_keeps_to_the_rules_of_openapi(document: dict[str, Any]) -> None:
    ids = operations(document)
    assert document["openapi"].startswith("3.1.")
    assert len(ids) == sum(len(methods) for methods in document["paths"].values()), "an operation's id is its own"
    calls = {(m, p) for p, methods in document["paths"].items() for m in methods}
    assert {(m, p) for m, p in calls if m != "head"} == set(CALLS)
    no_head = {"/breaker", "/events", "/metrics", "/repairs", "/webhooks/dead"}
    assert {p for m, p in calls if m == "head"} == {p for m, p in calls if m == "get"} - no_head
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    for name, operation in ids.items():
        for link in (k for r in operation["responses"].values() for k in r.get("links", {}).values()):
            parameters = {p["name"] for p in ids[link["operationId"]]["parameters"]}
            assert set(link["parameters"]) <= parameters, name


def test_every_call_says_what_it_is_for_and_every_parameter_too(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation.get("description"), name
        assert all(len(p["description"]) > 10 for p in operation.get("parameters", [])), name
        assert ("security" in operation) and all(r["description"] for r in operation["responses"].values())


def test_every_answer_has_an_example_that_is_as_its_schema_says(document: dict[str, Any]) -> None:
    without = []
    for name, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            for media, content in answer.get("content", {}).items():
                examples = [e["value"] for e in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                without += [] if examples else [f"{name} {status} {media}"]
                for example in examples:
                    validator(document, content["schema"]).validate(example)
    assert without == []


def test_every_error_of_the_api_is_in_the_document(document: dict[str, Any]) -> None:
    shown = {
        code
        for operation in operations(document).values()
        for answer in operation["responses"].values()
        for code in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    }
    of_the_console = {"foreign_form", "too_many_logins"}
    method = {"method_not_allowed"}
    assert shown == set(DETAILS) == set(PROBLEMS) - of_the_console - method


def test_real_answers_of_every_kind_are_as_the_document_says(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    found, called = [], set()
    verdicts = set()
    for _, (operation, answer) in everything(tmp_path / "answers"):
        called.add((operation, answer.status_code))
        found += wrong(document, operation, answer)
        if operation == "sessions" and answer.status_code == 200:
            verdicts.update(item["verdict"] for item in answer.json()["items"])
    assert found == []
    assert len(verdicts) == 10
    assert {status for _, status in called} >= {200, 400, 401, 404, 409, 412, 422}
