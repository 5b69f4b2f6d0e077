"""OpenClaw's configuration file, as far as it says where sessions are (spec 2026.5.18, section 1).

JSON5 with `$include` (below the file's own folder, ten deep) and `${VAR}`, from the environment or its own `env`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyjson5

from app.openclaw.folder import FileProblem, Folder

_LIMIT = 4 << 20
_DEEPEST = 10
_VARIABLE = re.compile(r"\$?\$\{([A-Z_][A-Z0-9_]*)\}")


class ConfigProblem(Exception):
    """The configuration is there and cannot be read: where the stores are is then not known."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What the configuration says about sessions."""

    store: str | None = None
    """`session.store`: a path with `{agentId}` in it, or one store for all."""
    agent_ids: tuple[str, ...] = ("main",)


def normalize_agent_id(raw: object) -> str:
    """OpenClaw's own rule (session-key-CQewiu8n.js:74-80)."""
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", word):
        return word
    return re.sub(r"[^a-z0-9_-]+", "-", word).strip("-")[:64] or "main"


def read_config(path: str, env: Mapping[str, str]) -> SessionConfig:
    """Read `path`; a file that is not there gives the defaults. Raises ConfigProblem."""
    config = _read(path)
    store = _table(config, "session").get("store")
    if not isinstance(store, str) or not store.strip():
        return SessionConfig(None, _agent_ids(config))
    return SessionConfig(_substitute(store.strip(), _variables(config, env)), _agent_ids(config))


def read_gateway_config(path: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The block `gateway` of `path`, its variables filled in; one that is not set stays as it stands there.

    Raises ConfigProblem.
    """
    config = _read(path)
    variables = _variables(config, env)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items()}
        try:
            return _substitute(value, variables) if isinstance(value, str) else value
        except ConfigProblem:
            return value

    return {name: filled(value) for name, value in _table(config, "gateway").items()}


def _read(path: str) -> dict[str, Any]:
    try:
        config = _load(path, os.path.dirname(path), 0)
    except FileNotFoundError:
        return {}
    if not isinstance(config, dict):
        raise ConfigProblem(f"{path} is not an object")
    return config


def _variables(config: dict[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    block = _table(config, "env")
    own = {k: v for k, v in {**block, **_table(block, "vars")}.items() if isinstance(v, str) and v.strip()}
    return {**own, **{k: v for k, v in env.items() if v}}


def _agent_ids(config: dict[str, Any]) -> tuple[str, ...]:
    listed = [a for a in _list(_table(config, "agents").get("list")) if isinstance(a, dict)]
    ids = dict.fromkeys(normalize_agent_id(a.get("id")) for a in listed) or {"main": None}
    acp = _table(config, "acp")
    wanted = [acp.get("defaultAgent"), *_list(acp.get("allowedAgents"))]
    for agent in listed:
        runtime = _table(agent, "runtime")
        if runtime.get("type") == "acp":
            wanted.append(_table(runtime, "acp").get("agent") or agent.get("id"))
    ids |= dict.fromkeys(normalize_agent_id(a) for a in wanted if isinstance(a, str) and a.strip() not in ("", "*"))
    return tuple(ids)


def _load(path: str, top: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ConfigProblem(f"{path}: included more than {_DEEPEST} deep")
    try:
        real = os.path.realpath(path)  # OpenClaw follows a link here, and so do those who keep their files elsewhere
        with Folder(os.path.dirname(real)) as folder:
            raw, _ = folder.read(os.path.basename(real), _LIMIT)
    except FileProblem as error:
        if error.code == "missing" and depth == 0:
            raise FileNotFoundError(path) from None
        raise ConfigProblem(f"{path}: {error.detail}") from None
    try:
        return _include(pyjson5.decode(raw.decode("utf-8")), path, top, depth)
    except (pyjson5.Json5Exception, ValueError, RecursionError) as error:
        said = error.args[0] if error.args else error
        raise ConfigProblem(f"{path} is not JSON5: {str(said)[:120]}") from None


def _include(value: Any, path: str, top: str, depth: int) -> Any:
    if isinstance(value, list):
        return [_include(v, path, top, depth) for v in value]
    if not isinstance(value, dict):
        return value
    rest = {k: _include(v, path, top, depth) for k, v in value.items() if k != "$include"}
    if "$include" not in value:
        return rest
    merged: Any = {}
    names = value["$include"]
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str):
            raise ConfigProblem(f"{path}: $include is not a file name")
        file = os.path.realpath(os.path.join(os.path.dirname(path), name))
        if os.path.commonpath([file, os.path.realpath(top)]) != os.path.realpath(top):
            raise ConfigProblem(f"{path}: $include leads out of the configuration's folder")
        merged = _merge(merged, _load(file, top, depth + 1))
    return _merge(merged, rest) if rest else merged


def _merge(target: Any, source: Any) -> Any:
    if isinstance(target, list) and isinstance(source, list):
        return [*target, *source]
    if isinstance(target, dict) and isinstance(source, dict):
        return {**target, **{k: _merge(target[k], v) if k in target else v for k, v in source.items()}}
    return source


def _substitute(text: str, env: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        value = env.get(match[1])
        if not value:
            raise ConfigProblem(f"session.store needs the environment variable {match[1]}, which is not set here")
        return value

    return _VARIABLE.sub(one, text)


def _table(value: dict[str, Any], name: str) -> dict[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
