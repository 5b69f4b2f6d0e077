"""Where OpenClaw keeps its sessions: state dirs, agents, stores, as OpenClaw itself resolves them (section 1)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.openclaw.config import SessionConfig, normalize_agent_id
from app.openclaw.parse import word

STORE_NAME = "sessions.json"
DATABASE_NAME = "openclaw-agent.sqlite"
_USUAL = ((STORE_NAME, "sessions"), (DATABASE_NAME, "agent"))


@dataclass(frozen=True, slots=True)
class StateDir:
    """One OpenClaw state folder and the configuration file that belongs to it."""

    path: str
    config_path: str


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """One store that may be there."""

    state_dir: str
    agent_id: str | None
    """None for one store that all agents share; the agent then stands in the key."""
    path: str
    root: str
    """Below this folder no component of the path may be a link."""
    kind: Literal["file", "database"] = "file"

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0] or "/"  # of each store in each pass, and a third of what dirname takes

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def home_dir(env: Mapping[str, str]) -> str:
    """OpenClaw's effective home (home-dir-iZwpu-40.js:4-38)."""
    os_home = next((_set(env.get(n)) for n in ("HOME", "USERPROFILE") if _set(env.get(n))), None)
    os_home = os_home or os.path.expanduser("~")
    return os.path.abspath(expand_home(_set(env.get("OPENCLAW_HOME")) or os_home, os_home))


def expand_home(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def default_state_dir(env: Mapping[str, str]) -> str:
    """OPENCLAW_STATE_DIR, a profile's folder, ~/.openclaw, or the legacy ~/.clawdbot where only that exists."""
    home = home_dir(env)
    given = _set(env.get("OPENCLAW_STATE_DIR"))
    if given:
        return os.path.abspath(expand_home(given, home))
    profile = (env.get("OPENCLAW_PROFILE") or "").strip()
    if profile and profile.lower() != "default":
        return os.path.join(home, f".openclaw-{profile}")
    modern, legacy = os.path.join(home, ".openclaw"), os.path.join(home, ".clawdbot")
    return legacy if not os.path.exists(modern) and os.path.exists(legacy) else modern


def state_dir_of(path: str, env: Mapping[str, str]) -> StateDir:
    """`path` with its configuration file (paths-Cnwfh6dH.js, resolveConfigPath).

    OPENCLAW_CONFIG_PATH speaks for OpenClaw's own default only. Where none names the state dir, the legacy folder's
    configuration is used if the newer folder has none.
    """
    home = home_dir(env)
    path = os.path.abspath(expand_home(path, home))
    folders = [path]
    if path == default_state_dir(env):
        given = _set(env.get("OPENCLAW_CONFIG_PATH"))
        if given:
            return StateDir(path, os.path.abspath(expand_home(given, home)))
        named = _set(env.get("OPENCLAW_STATE_DIR"))
        if not named and path in (os.path.join(home, ".openclaw"), os.path.join(home, ".clawdbot")):
            folders = [os.path.join(home, ".openclaw"), os.path.join(home, ".clawdbot")]
    for folder in folders:
        for name in ("openclaw.json", "clawdbot.json"):
            if os.path.exists(os.path.join(folder, name)):
                return StateDir(path, os.path.join(folder, name))
    return StateDir(path, os.path.join(path, "openclaw.json"))


def find_stores(state: StateDir, config: SessionConfig, env: Mapping[str, str]) -> tuple[StoreTarget, ...]:
    """Every file store of one state dir, whether it is there yet or not: an agent may appear at any time.

    A folder below `agents/` that is a link is skipped, as OpenClaw does (targets-DGxp4nvt.js). A relative
    `session.store` resolves against the gateway's working folder, which we cannot know: raises ValueError.
    """
    template = config.store
    found: dict[str, StoreTarget] = {}
    if template is not None:
        expanded = expand_home(template, home_dir(env))
        if not os.path.isabs(expanded):
            raise ValueError(f"session.store is relative ({template}): only the gateway knows to what")
        if "{agentId}" not in expanded:
            path = os.path.normpath(expanded)
            return (StoreTarget(state.path, None, path, os.path.dirname(path)),)
        for agent in config.agent_ids:
            _add(found, _target(state, agent, os.path.normpath(expanded.replace("{agentId}", agent))))
    else:
        for agent in config.agent_ids:
            _add(
                found,
                _target(state, agent, os.path.join(state.path, "agents", agent, "sessions", STORE_NAME)),
            )
    roots = dict.fromkeys(
        [*(r for t in found.values() if (r := agents_root(t.path))), os.path.join(state.path, "agents")]
    )
    for root in roots:
        for name in _real_folders(root):
            agent = normalize_agent_id(name)
            if agent == "main" and name.lower() != "main":
                continue
            _add(found, _target(state, agent, os.path.join(root, name, "sessions", STORE_NAME)))
    return tuple(found.values())


def find_databases(state: StateDir, config: SessionConfig) -> tuple[StoreTarget, ...]:
    """Where each agent's database is, or would be, whatever `session.store` says (spec 2026.9.6, section 2.1)."""
    root = os.path.join(state.path, "agents")
    folders = dict.fromkeys([*config.agent_ids, *_real_folders(root)])
    return tuple(
        StoreTarget(
            state.path, normalize_agent_id(name), os.path.join(root, name, "agent", DATABASE_NAME), root, "database"
        )
        for name in folders
        if normalize_agent_id(name) != "main" or name.lower() == "main"
    )


def agents_root(store_path: str) -> str | None:
    """`…/agents` of a store at `…/agents/<id>/sessions/sessions.json` or `…/agents/<id>/agent/openclaw-agent.sqlite`;
    None for a store elsewhere.
    """
    folder, name = os.path.split(store_path)
    agent, kept_in = os.path.split(folder)
    root = os.path.dirname(agent)
    shaped = (name, kept_in) in _USUAL and os.path.basename(root) == "agents"
    return root if shaped else None


def _target(state: StateDir, agent: str, path: str) -> StoreTarget:
    return StoreTarget(state.path, agent, path, agents_root(path) or os.path.dirname(path))


def _add(found: dict[str, StoreTarget], target: StoreTarget) -> None:
    """Under one name however the store is spelt; links below the root keep theirs, and are refused when opened."""
    name = os.path.join(os.path.realpath(target.root), os.path.relpath(target.path, target.root))
    found.setdefault(name, target)


def _real_folders(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            names = (e.name for e in entries if e.is_dir(follow_symlinks=False))
            return sorted(n for n in names if n.isprintable())  # Node cannot open a name that is not Unicode
    except OSError:
        return []


def _set(value: str | None) -> str | None:
    word = (value or "").strip()
    return word if word and word not in ("undefined", "null") else None


def is_store(path: object, target: StoreTarget) -> bool:
    """Whether what a gateway says is the path of our store; it may say anything.

    Of a database it may also name the sessions.json that the rows came from, which then stands for it
    (session-sqlite-target-Dcog4O-M.mjs).
    """
    path = word(path)
    if path is None or "\0" in path:
        return False
    folder, name = os.path.split(path)
    if target.kind == "database" and (name, os.path.basename(folder)) == _USUAL[0]:
        path = os.path.join(os.path.dirname(folder), "agent", DATABASE_NAME)
    return os.path.realpath(path) == os.path.realpath(target.path)
