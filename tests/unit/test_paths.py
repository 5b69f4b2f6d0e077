"""Where OpenClaw keeps its sessions. The tables are what the real functions of 2026.5.18 answered to these inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.openclaw.config import SessionConfig, normalize_agent_id
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import (
    StateDir,
    StoreTarget,
    agents_root,
    default_state_dir,
    find_databases,
    find_stores,
    home_dir,
    is_store,
    state_dir_of,
)

U = {"HOME": "/home/u"}


@pytest.mark.parametrize(
    ("env", "home"),
    [
        (U, "/home/u"),
        ({"HOME": "/home/u/../v"}, "/home/v"),
        ({**U, "OPENCLAW_HOME": "/srv/oc"}, "/srv/oc"),
        ({**U, "OPENCLAW_HOME": " /srv/oc/ "}, "/srv/oc"),
        ({**U, "OPENCLAW_HOME": "~"}, "/home/u"),
        ({**U, "OPENCLAW_HOME": "~/box"}, "/home/u/box"),
        ({**U, "OPENCLAW_HOME": "undefined"}, "/home/u"),
        ({**U, "OPENCLAW_HOME": "null"}, "/home/u"),
        ({**U, "OPENCLAW_HOME": "  "}, "/home/u"),
        ({"HOME": "null", "USERPROFILE": "/users/u"}, "/users/u"),
        ({"HOME": "", "USERPROFILE": "/users/u"}, "/users/u"),
        ({"HOME": "undefined", "USERPROFILE": "/users/u", "OPENCLAW_HOME": "~/x"}, "/users/u/x"),
    ],
)
def test_the_home_is_the_one_that_openclaw_takes(env: dict[str, str], home: str) -> None:
    """home-dir-iZwpu-40.js, resolveRequiredHomeDir."""
    assert home_dir(env) == home


def test_without_any_variable_the_home_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of-this-process")
    assert home_dir({}) == "/home/of-this-process"


@pytest.mark.parametrize(
    ("there", "env", "state"),
    [
        ([], {}, ".openclaw"),
        ([".openclaw"], {}, ".openclaw"),
        ([".clawdbot"], {}, ".clawdbot"),
        ([".openclaw", ".clawdbot"], {}, ".openclaw"),
        ([".clawdbot"], {"OPENCLAW_STATE_DIR": "   "}, ".clawdbot"),
        ([".clawdbot"], {"OPENCLAW_STATE_DIR": "~/s/../state"}, "state"),
        ([], {"OPENCLAW_STATE_DIR": "~"}, "."),
        ([], {"OPENCLAW_STATE_DIR": "/srv/state"}, "/srv/state"),
        ([], {"OPENCLAW_HOME": "~/inner"}, "inner/.openclaw"),
        ([], {"OPENCLAW_HOME": "~/inner", "OPENCLAW_STATE_DIR": "~/s"}, "inner/s"),
    ],
)
def test_the_state_dir_is_the_one_that_openclaw_takes(
    tmp_path: Path, there: list[str], env: dict[str, str], state: str
) -> None:
    """paths-Cnwfh6dH.js, resolveStateDir."""
    for name in there:
        (tmp_path / name).mkdir()
    assert default_state_dir({"HOME": str(tmp_path), **env}) == str(tmp_path / state)


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("work", ".openclaw-work"),
        ("Work", ".openclaw-Work"),
        (" dev ", ".openclaw-dev"),
        ("default", ".openclaw"),
        ("DEFAULT", ".openclaw"),
    ],
)
def test_a_profile_has_a_state_dir_of_its_own_unless_one_is_named(profile: str, name: str) -> None:
    """profile-DmxPejo0.js, applyCliProfileEnv: what `openclaw --profile X` sets."""
    assert default_state_dir({**U, "OPENCLAW_PROFILE": profile}) == f"/home/u/{name}"
    assert default_state_dir({**U, "OPENCLAW_PROFILE": profile, "OPENCLAW_STATE_DIR": "/srv/s"}) == "/srv/s"


@pytest.mark.parametrize(
    ("files", "env", "config"),
    [
        ([".openclaw/x"], {}, ".openclaw/openclaw.json"),
        ([".openclaw/clawdbot.json"], {}, ".openclaw/clawdbot.json"),
        ([".openclaw/clawdbot.json", ".openclaw/openclaw.json"], {}, ".openclaw/openclaw.json"),
        ([".openclaw/openclaw.json"], {"OPENCLAW_CONFIG_PATH": "~/x.json"}, "x.json"),
        ([".openclaw/openclaw.json", "s/x"], {"OPENCLAW_STATE_DIR": "~/s"}, "s/openclaw.json"),
        ([".clawdbot/x"], {}, ".clawdbot/openclaw.json"),
        ([".openclaw/x", ".clawdbot/clawdbot.json"], {}, ".clawdbot/clawdbot.json"),
        ([".openclaw/x", ".clawdbot/clawdbot.json"], {"OPENCLAW_STATE_DIR": "~/.openclaw"}, ".openclaw/openclaw.json"),
    ],
)
def test_the_configuration_is_the_file_that_openclaw_takes(
    tmp_path: Path, files: list[str], env: dict[str, str], config: str
) -> None:
    """paths-Cnwfh6dH.js, resolveConfigPath."""
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    env = {"HOME": str(tmp_path), **env}
    assert state_dir_of(default_state_dir(env), env).config_path == str(tmp_path / config)


def test_openclaw_config_path_speaks_for_the_default_state_dir_only(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "OPENCLAW_CONFIG_PATH": "/srv/x.json"}
    assert state_dir_of("~/other", env) == StateDir(f"{tmp_path}/other", f"{tmp_path}/other/openclaw.json")


@pytest.mark.parametrize(
    ("template", "path", "root"),
    [
        (None, "{state}/agents/work-horse/sessions/sessions.json", "{state}/agents"),
        ("{tmp}/d/{agentId}/s.json", "{tmp}/d/work-horse/s.json", "{tmp}/d/work-horse"),
        ("{tmp}/d/{agentId}/{agentId}.json", "{tmp}/d/work-horse/work-horse.json", "{tmp}/d/work-horse"),
        ("~/d/{agentId}/sessions.json", "{tmp}/home/d/work-horse/sessions.json", "{tmp}/home/d/work-horse"),
        ("{tmp}/agents/{agentId}/sessions/sessions.json", "{tmp}/agents/work-horse/sessions/sessions.json", None),
        ("{tmp}/d/../one.json", "{tmp}/one.json", "{tmp}"),
        ("~/one.json", "{tmp}/home/one.json", "{tmp}/home"),
    ],
)
def test_session_store_names_the_file_that_openclaw_takes(
    tmp_path: Path, template: str | None, path: str, root: str | None
) -> None:
    """paths-RbVDOqFp.js, resolveStorePath; links are refused below the agents folder, or the store's own."""

    def real(text: str) -> str:
        return text.replace("{tmp}", str(tmp_path)).replace("{state}", str(tmp_path / "state"))

    config = SessionConfig(template and real(template), (normalize_agent_id("Work Horse"),))
    (target,) = find_stores(_state(tmp_path), config, {"HOME": str(tmp_path / "home")})
    shared = template is not None and "{agentId}" not in template
    assert target == StoreTarget(
        str(tmp_path / "state"), None if shared else "work-horse", real(path), real(root or "{tmp}/agents")
    )


@pytest.mark.parametrize("template", ["rel/{agentId}.json", "one.json", "./{agentId}.json", "~other/{agentId}.json"])
def test_a_relative_store_is_refused_since_only_the_gateway_knows_to_what(tmp_path: Path, template: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        find_stores(_state(tmp_path), SessionConfig(template), U)


def test_one_store_for_all_agents_is_the_only_one_that_is_read(tmp_path: Path) -> None:
    """combined-store-gateway-DTxOYXKu.js: without {agentId} the gateway reads no other."""
    _agent(tmp_path / "state", "main")
    found = find_stores(_state(tmp_path), SessionConfig("/srv/one.json", ("main", "beta")), U)
    assert [(t.agent_id, t.path) for t in found] == [(None, "/srv/one.json")]


@pytest.mark.parametrize("template", [None, "/srv/one.json", "/srv/{agentId}.json", "rel/one.json"])
def test_each_agents_database_is_in_its_own_folder_wherever_the_files_are(tmp_path: Path, template: str | None) -> None:
    state = tmp_path / "state"
    for name in ("main", "Beta Team", "???"):
        _agent(state, name)
    (state / "agents" / "link").symlink_to(tmp_path)
    found = find_databases(_state(tmp_path), SessionConfig(template, ("main", "late")))
    assert {(t.agent_id, t.path) for t in found} == {
        (agent, str(state / "agents" / folder / "agent" / "openclaw-agent.sqlite"))
        for folder, agent in (("main", "main"), ("late", "late"), ("Beta Team", "beta-team"))
    }
    assert {(t.kind, t.root) for t in found} == {("database", str(state / "agents"))}


AGENTS = {"main": "main", "other": "other", "Beta Team": "beta-team", "UPPER": "upper"}
"""Folder below agents/ -> its agent. A folder `???` would be `main` by its name and is not: skipped. So are links."""


@pytest.mark.parametrize("configured", [("main",), ("outside",), ("work", "other"), ("other", "work")])
def test_the_agents_are_the_real_folders_as_openclaw_finds_them(tmp_path: Path, configured: tuple[str, ...]) -> None:
    """targets-DGxp4nvt.js, resolveAllAgentSessionStoreTargetsSync: the same four stores in every case."""
    state = tmp_path / "state"
    for name in (*AGENTS, "???"):
        _agent(state, name)
    _agent(tmp_path / "elsewhere", "main")
    (state / "agents" / "work").symlink_to(state / "agents" / "other")
    (state / "agents" / "outside").symlink_to(tmp_path / "elsewhere" / "agents" / "main")
    (state / "agents" / "file").write_text("")

    readable = [t.path for t in find_stores(_state(tmp_path), SessionConfig(None, configured), U) if _opens(t)]

    assert sorted(readable) == sorted(str(state / "agents" / n / "sessions" / "sessions.json") for n in AGENTS)


def test_folders_are_named_for_their_agent_and_a_link_is_none(tmp_path: Path) -> None:
    for name in AGENTS:
        _agent(tmp_path / "state", name)
    (tmp_path / "state/agents/link").symlink_to(tmp_path / "state/agents/other")
    found = find_stores(_state(tmp_path), SessionConfig(), U)
    assert {Path(t.folder).parent.name: t.agent_id for t in found} == AGENTS


def test_a_template_elsewhere_leaves_the_agents_folder_in_view(tmp_path: Path) -> None:
    """targets-DGxp4nvt.js: both the agents folder of the template and that of the state dir are searched."""
    _agent(tmp_path / "state", "old")
    _agent(tmp_path / "data", "new")
    template = str(tmp_path / "data/agents/{agentId}/sessions/sessions.json")
    found = find_stores(_state(tmp_path), SessionConfig(template), U)
    assert {t.path.removeprefix(f"{tmp_path}/").removesuffix("/sessions/sessions.json") for t in found} == {
        "data/agents/main",
        "data/agents/new",
        "state/agents/old",
    }


@pytest.mark.parametrize(
    ("store", "root"),
    [
        ("/x/agents/a/sessions/sessions.json", "/x/agents"),
        ("/agents/a/sessions/sessions.json", "/agents"),
        ("/x/agents/a/sessions/s.json", None),
        ("/x/agents/a/b/sessions.json", None),
        ("/x/bots/a/sessions/sessions.json", None),
    ],
)
def test_only_the_usual_shape_has_an_agents_folder(store: str, root: str | None) -> None:
    """paths-RbVDOqFp.js, resolveAgentsDirFromSessionStorePath."""
    assert agents_root(store) == root


@pytest.mark.parametrize(
    ("raw", "agent"),
    [
        *[("main", "main"), ("Main", "main"), (" Work ", "work"), ("work horse", "work-horse"), ("-x-", "x")],
        *[("___", "___"), ("_x", "_x"), ("x_y-z", "x_y-z"), ("9lives", "9lives"), ("a--b", "a--b"), ("a b\n", "a-b")],
        *[("a" * 64, "a" * 64), ("a" * 65, "a" * 64), ("a" * 63 + "-b", "a" * 63 + "-")],
        *[("", "main"), ("   ", "main"), ("???", "main"), ("日本", "main"), ("ÄÖ", "main"), ("--", "main")],
        *[("a.b.c", "a-b-c"), ("a/b", "a-b"), ("../x", "x"), ("a\0b", "a-b"), ("İstanbul", "i-stanbul")],
        *[("\u212a", "k"), ("\ufeffmain", "main")],
        *[(None, "main"), (5, "main")],
    ],
)
def test_an_agents_id_is_normalized_as_openclaw_does_it(raw: object, agent: str) -> None:
    """session-key-CQewiu8n.js, normalizeAgentId; what is no string is `main`."""
    assert normalize_agent_id(raw) == agent


@pytest.mark.parametrize(
    ("said", "kind", "is_ours"),
    [
        ("agents/a/agent/openclaw-agent.sqlite", "database", True),
        ("agents/a/sessions/sessions.json", "database", True),
        ("agents/b/sessions/sessions.json", "database", False),
        ("agents/b/agent/openclaw-agent.sqlite", "database", False),
        ("agents/a/other/sessions.json", "database", False),
        ("agents/a/sessions/sessions.json", "file", True),
        ("agents/a/agent/openclaw-agent.sqlite", "file", False),
        ("(multiple)", "database", False),
        ("a\0b", "database", False),
        (None, "database", False),
        (5, "file", False),
    ],
)
def test_a_gateway_may_name_a_database_by_the_file_that_its_rows_came_from(
    tmp_path: Path, said: object, kind: str, is_ours: bool
) -> None:
    own = {"file": "sessions/sessions.json", "database": "agent/openclaw-agent.sqlite"}[kind]
    path, root = tmp_path / "agents" / "a" / own, tmp_path / "agents"
    target = StoreTarget(str(tmp_path), "a", str(path), str(root), kind)  # type: ignore[arg-type]
    assert is_store(str(tmp_path / said) if isinstance(said, str) else said, target) is is_ours


@pytest.mark.parametrize("own", ["sessions/sessions.json", "agent/openclaw-agent.sqlite"])
def test_the_root_of_a_store_is_the_folder_of_the_agents_where_it_lies_below_one(own: str) -> None:
    assert agents_root(f"/x/agents/a/{own}") == "/x/agents"
    assert agents_root(f"/x/others/a/{own}") is None


def _state(tmp_path: Path) -> StateDir:
    return StateDir(str(tmp_path / "state"), str(tmp_path / "state" / "openclaw.json"))


def _agent(state: Path, name: str) -> None:
    store = state / "agents" / name / "sessions" / "sessions.json"
    store.parent.mkdir(parents=True)
    store.write_text("{}")


def _opens(target: StoreTarget) -> bool:
    try:
        with Folder(target.folder, target.root) as folder:
            return folder.identity(target.name) is not None
    except FileProblem as problem:
        assert problem.code in ("missing", "symlink")
        return False
