"""The OpenAPI document: what FastAPI knows of the routes, and what app.api.contract says of their answers.

python -m app.api.openapi > docs/reference/openapi.json
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic.json_schema import models_json_schema

from app.api.contract import (
    CALLS,
    DETAILS,
    HEADERS_ANSWERED,
    HEADERS_SENT,
    PARAMETERS,
    PROBLEM_HEADERS,
    PROBLEM_MEMBERS,
    Call,
)
from app.api.problems import MEDIA_TYPE, PROBLEMS, problem_members

_REF = "#/components/schemas/"
_EVERY_CALL = ("forbidden_host", "too_large", "internal")
_EXAMPLES = Path(__file__).with_name("examples.json")
"""Real answers, by operation, status and media type, as tests/api/recorded.py has recorded them."""
_WRONG_VALUES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
        "required": ["where", "message"],
        "additionalProperties": False,
    },
}


def document_answers(app: FastAPI) -> None:
    """Have `app` tell of itself by `openapi_of`."""
    app.openapi = partial(_once, app)  # type: ignore[method-assign]


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, whose routes app.api.contract knows all. Raises KeyError for one that it does not."""
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components = made.setdefault("components", {})
    schemas = {
        name: schema
        for name, schema in components.get("schemas", {}).items()
        if name not in ("HTTPValidationError", "ValidationError")
    }
    models = {model: None for call in CALLS.values() for model in call.answers.values() if model is not None}
    _, shapes = models_json_schema([(model, "serialization") for model in models], ref_template=_REF + "{model}")
    schemas |= shapes["$defs"] | {"WrongValues": _WRONG_VALUES}
    schemas |= {_problem_name(code): _problem_schema(code) for code in sorted(_told())}
    examples = orjson.loads(_EXAMPLES.read_bytes())
    heads = {r.path_format for r in iter_route_contexts(app.routes) if "HEAD" in (r.methods or ())}
    for path, methods in made["paths"].items():
        for method, operation in [*methods.items()]:
            call = CALLS[method, path]
            _complete(operation, call, examples.get(call.operation, {}), schemas)
            if method == "get" and path in heads:
                methods["head"] = _head_of(operation)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "a token: docs/how-to/tokens.md"}
    }
    return made


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _once(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi_of(app)
    return app.openapi_schema


def _complete(operation: dict[str, Any], call: Call, examples: dict[str, Any], schemas: dict[str, Any]) -> None:
    operation["operationId"] = call.operation
    operation["security"] = [{"token": []}] if call.scope else []
    if call.scope:
        operation["description"] = (
            f"{operation.get('description', '')}\n\nNeeds a token with the scope `{call.scope}`."
        ).strip()
    for parameter in operation.get("parameters", []):
        parameter["description"] = PARAMETERS[parameter["name"].lower()]
        _without_null(parameter["schema"])
        if parameter["name"] == "code":
            parameter["schema"]["enum"] = list(PROBLEMS)
    for name in call.sent:
        said, schema = HEADERS_SENT[name]
        header = {"name": name, "in": "header", "required": False, "description": said, "schema": schema}
        operation.setdefault("parameters", []).append(header)
    operation["responses"] = _responses(call, examples, schemas)


def _without_null(schema: dict[str, Any]) -> None:
    """A parameter that is left out is not null: a query knows no null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1 and "anyOf" in schema:
        del schema["anyOf"]
        schema |= kinds[0]


def _responses(call: Call, examples: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": "what was asked for"}
    if call.headers:
        ok["headers"] = {name: _header(name) for name in call.headers}
    ok["content"] = _contents(call, examples.get("200", {}))
    responses = {"200": ok | {"links": _links(call)} if call.links else ok}
    if "If-None-Match" in call.sent:
        known = {name: _header(name) for name in call.headers}
        responses["304"] = {"description": "what If-None-Match names is still so", "headers": known}
    if call.fails:
        said = "Clawmend cannot do its work: `status` is `fail`"
        responses["503"] = {**ok, "description": said, "content": _contents(call, examples.get("503", {}))}
    by_status: dict[int, list[str]] = {}
    for code in PROBLEMS:
        if code in _problems_of(call):
            by_status.setdefault(PROBLEMS[code][0], []).append(code)
    for status, codes in by_status.items():
        responses[str(status)] = _refusal(codes, call, schemas)
    return dict(sorted(responses.items()))


def _problems_of(call: Call) -> tuple[str, ...]:
    return (*_EVERY_CALL, *call.problems, *(("unauthorized", "forbidden") if call.scope else ()))


def _told() -> set[str]:
    return {code for call in CALLS.values() for code in _problems_of(call)}


def _refusal(codes: list[str], call: Call, schemas: dict[str, Any]) -> dict[str, Any]:
    refs = [{"$ref": _REF + _problem_name(code, call)} for code in codes]
    for code in codes:
        schemas[_problem_name(code, call)] = _problem_schema(code, _members_of(code, call, schemas))
    examples = {code: {"summary": PROBLEMS[code][1], "value": problem_members(code, DETAILS[code])} for code in codes}
    answer: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {PROBLEMS[code][1]}" for code in codes),
        "content": {MEDIA_TYPE: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}, "examples": examples}},
    }
    headers = [PROBLEM_HEADERS[code] for code in codes if code in PROBLEM_HEADERS]
    if headers:
        answer["headers"] = {name: _header(name) for name in headers}
    return answer


def _members_of(code: str, call: Call, schemas: dict[str, Any]) -> dict[str, Any]:
    """What ended a call may carry what had come of it by then."""
    if call.carries is None or code not in ("too_many", "audit_unavailable"):
        return PROBLEM_MEMBERS.get(code, {})
    properties: dict[str, Any] = schemas[call.carries.__name__]["properties"]
    return properties


def _problem_name(code: str, call: Call | None = None) -> str:
    name = "Problem" + "".join(word.title() for word in code.split("_"))
    ended = call is not None and call.carries is not None and code in ("too_many", "audit_unavailable")
    return f"{name}Of{call.carries.__name__}" if call is not None and call.carries and ended else name


def _problem_schema(code: str, members: dict[str, Any] | None = None) -> dict[str, Any]:
    said = problem_members(code, DETAILS[code])
    fixed = {name: {"const": value} for name, value in said.items() if name != "detail"}
    own = PROBLEM_MEMBERS.get(code, {}) if members is None else members
    return {
        "type": "object",
        "description": PROBLEMS[code][1],
        "properties": {**fixed, "detail": {"type": "string"}, **own},
        "required": [*said],
        "additionalProperties": False,
    }


def _contents(call: Call, examples: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for media, model in call.answers.items():
        made[media] = {"schema": {"$ref": _REF + model.__name__} if model else {"type": "string"}}
        if media in examples:
            made[media]["example"] = examples[media]
    return made


def _header(name: str) -> dict[str, Any]:
    said, schema, always = HEADERS_ANSWERED[name]
    return {"description": said, "schema": schema, "required": always}


def _links(call: Call) -> dict[str, Any]:
    return {name: {"operationId": to, "parameters": {there: value}} for name, to, there, value in call.links}


def _head_of(operation: dict[str, Any]) -> dict[str, Any]:
    head = deepcopy(operation)
    head["operationId"] += "Head"
    head["summary"] += " (the headers only)"
    for response in head["responses"].values():
        response.pop("content", None)
        response.pop("links", None)
    return head
