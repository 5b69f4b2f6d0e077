"""openclaw.json. Expected values: what includes-BMPFSevO.js and env-substitution-9nsc3cTc.js (2026.5.18) answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.openclaw.config import ConfigProblem, SessionConfig, read_config


def config(folder: Path, text: str, **files: str) -> Path:
    """A configuration file, with others beside it: `parts__one="..."` is parts/one.json5."""
    for name, content in files.items():
        file = folder / (name.replace("__", "/") + ".json5")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    folder.mkdir(exist_ok=True)
    path = folder / "openclaw.json"
    path.write_text(text)
    return path


def including(name: str) -> str:
    return "{$include: '" + name + "'}"


def read(path: Path, **env: str) -> SessionConfig:
    return read_config(str(path), env)


@pytest.mark.parametrize(
    "text",
    [
        '{"session": {"store": "/srv/x"}}',
        "{session: {store: '/srv/x'}}",
        "// a comment\n{session: /* another */ {store: '/srv/x',},}",
        "\ufeff{'session': {'store': '/srv/\\\nx'}}",
        "{session: {store: '/a'}, port: 0xF, share: +.5, no: Infinity, session: {store: '/srv/x'}}",
    ],
)
def test_json5_is_read_as_openclaw_reads_it(tmp_path: Path, text: str) -> None:
    assert read(config(tmp_path, text)).store == "/srv/x"


def test_no_configuration_means_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path / "openclaw.json") == SessionConfig(None, ("main",))


def test_a_configuration_that_is_a_link_is_read_as_openclaw_reads_it(tmp_path: Path) -> None:
    """Dotfile managers and Nix put a link there; io-DnGGugrj.js follows it, and includes stay beside the link."""
    kept = config(tmp_path / "dotfiles", including("./more.json5"))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "more.json5").write_text("{session: {store: '/srv/x'}}")
    (tmp_path / "state" / "openclaw.json").symlink_to(kept)
    assert read(tmp_path / "state" / "openclaw.json").store == "/srv/x"


@pytest.mark.parametrize(
    ("text", "store", "agents"),
    [
        ("{$include: './parts/one.json5', agents: {list: [{id: 'own'}]}}", "/one", ("two", "own")),
        ("{$include: ['./parts/two.json5', './parts/three.json5']}", "/three", ("two", "three")),
        ("{$include: './parts/two.json5', session: {store: '/own'}}", "/own", ("two",)),
        ("{agents: {$include: './parts/agents.json5'}, session: {store: '/x'}}", "/x", ("inner",)),
        ("{$include: '{folder}/parts/two.json5'}", "/two", ("two",)),
    ],
)
def test_includes_are_merged_lists_joined_and_the_nearer_word_stands(
    tmp_path: Path, text: str, store: str, agents: tuple[str, ...]
) -> None:
    path = config(
        tmp_path,
        text.replace("{folder}", str(tmp_path)),
        parts__one="{$include: 'two.json5', session: {store: '/one'}}",
        parts__two="{session: {store: '/two'}, agents: {list: [{id: 'two'}]}}",
        parts__three="{session: {store: '/three'}, agents: {list: [{id: 'three'}]}}",
        parts__agents="{list: [{id: 'inner'}]}",
    )
    assert read(path) == SessionConfig(store, agents)


@pytest.mark.parametrize("name", ["../outside.json5", "{tmp}/outside.json5", "./link.json5", "folder/outside.json5"])
def test_an_include_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.json5").write_text("{session: {store: '/stolen'}}")
    path = config(tmp_path / "state", including(name.replace("{tmp}", str(tmp_path))))
    (tmp_path / "state" / "link.json5").symlink_to(tmp_path / "outside.json5")
    (tmp_path / "state" / "folder").symlink_to(tmp_path)
    with pytest.raises(ConfigProblem, match="leads out"):
        read(path)


@pytest.mark.parametrize("text", ["5", "{}", "[1]", "null", "'./missing.json5'", "'a\\0b'", "'.'"])
def test_an_include_that_names_no_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigProblem):
        read(config(tmp_path, "{$include: " + text + "}"))


def test_ten_includes_deep_is_read_and_eleven_is_not(tmp_path: Path) -> None:
    chain = {f"d{n}": including(f"./d{n + 1}.json5") for n in range(1, 11)}
    path = config(tmp_path, including("./d2.json5"), **chain, d11="{session: {store: '/deep'}}")
    assert read(path).store == "/deep"
    with pytest.raises(ConfigProblem, match="10 deep"):
        read(config(tmp_path, including("./d1.json5")))


def test_a_cycle_of_includes_ends(tmp_path: Path) -> None:
    round_trip = "{$include: ['./openclaw.json', './openclaw.json', './two.json5']}"
    with pytest.raises(ConfigProblem):
        read(config(tmp_path, including("./two.json5"), two=round_trip))


@pytest.mark.parametrize(
    ("written", "env", "store"),
    [
        ("${A}/x", {"A": "/v"}, "/v/x"),
        ("$${A}/x", {"A": "/v"}, "${A}/x"),
        ("${a}/x", {"a": "/v"}, "${a}/x"),
        ("${A", {"A": "/v"}, "${A"),
        ("${A}${B}", {"A": "1", "B": "2"}, "12"),
        ("$$${A}", {"A": "v"}, "$${A}"),
        ("$${A}${A}", {"A": "v"}, "${A}v"),
        ("${A_1}", {"A_1": "k"}, "k"),
        ("${1A}", {"1A": "k"}, "${1A}"),
        ("${A}", {"A": "${B}", "B": "z"}, "${B}"),
    ],
)
def test_variables_are_put_in_as_openclaw_puts_them_in(
    tmp_path: Path, written: str, env: dict[str, str], store: str
) -> None:
    assert read(config(tmp_path, "{session: {store: '" + written + "'}}"), **env).store == store


@pytest.mark.parametrize("env", [{}, {"DATA": ""}])
def test_a_missing_variable_is_named(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(ConfigProblem, match="DATA"):
        read(config(tmp_path, "{session: {store: '${DATA}/x'}}"), **env)


@pytest.mark.parametrize(
    ("block", "env", "store"),
    [
        ("{vars: {DATA: '/srv'}}", {}, "/srv/x"),
        ("{DATA: '/srv'}", {}, "/srv/x"),
        ("{vars: {DATA: '/srv'}}", {"DATA": "/outer"}, "/outer/x"),
    ],
)
def test_a_variable_may_be_set_by_the_configuration_itself(
    tmp_path: Path, block: str, env: dict[str, str], store: str
) -> None:
    """state-dir-dotenv-CpqPih8R.js, applyConfigEnvVars, runs before the substitution."""
    assert read(config(tmp_path, "{env: " + block + ", session: {store: '${DATA}/x'}}"), **env).store == store


def test_a_missing_variable_that_has_no_part_in_the_store_does_not_matter(tmp_path: Path) -> None:
    path = config(tmp_path, "{channels: {token: '${SECRET}'}, session: {store: '/srv/x'}}")
    assert read(path).store == "/srv/x"


@pytest.mark.parametrize(
    ("text", "agents"),
    [
        ("{}", ("main",)),
        ("{agents: {list: []}}", ("main",)),
        ("{agents: {list: [{id: 'Alpha'}, {id: 'beta'}, {id: 'alpha'}]}}", ("alpha", "beta")),
        ("{agents: {list: [{id: 'a'}, {name: 'noid'}]}}", ("a", "main")),
        ("{agents: {list: [{id: 'a'}]}, acp: {defaultAgent: '  ', allowedAgents: ['*']}}", ("a",)),
        ("{acp: {defaultAgent: 'Codex', allowedAgents: ['*', 'Claude ', '', 'codex']}}", ("main", "codex", "claude")),
        (
            "{agents: {list: [{id: 'a', runtime: {type: 'acp'}},"
            " {id: 'b', runtime: {type: 'acp', acp: {agent: 'Gem ini'}}},"
            " {id: 'c', runtime: {type: 'embedded', acp: {agent: 'no'}}}]}}",
            ("a", "b", "c", "gem-ini"),
        ),
        ("{agents: {list: [null, 5, 'x']}, acp: [], session: 7}", ("main",)),
    ],
)
def test_the_agents_are_those_of_the_list_and_of_acp(tmp_path: Path, text: str, agents: tuple[str, ...]) -> None:
    """targets-DGxp4nvt.js, listConfiguredSessionStoreAgentIds; the last line only must not break."""
    assert read(config(tmp_path, text)) == SessionConfig(None, agents)


HOSTILE = {
    "empty": b"",
    "cut off": b"{session: {store: '/x'",
    "two values": b"{} {}",
    "an array": b"[]",
    "a number": b"5",
    "null": b"null",
    "not UTF-8": b"{session: {store: '/\xff'}}",
    "deep arrays": b"[" * 100_000,
    "deep objects": b"{a:" * 100_000 + b"1" + b"}" * 100_000,
    "five megabytes": b"{session: {store: '/x'}, pad: '" + b"x" * (5 << 20) + b"'}",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_broken_configuration_is_one_clear_problem(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "openclaw.json"
    path.write_bytes(data)
    with pytest.raises(ConfigProblem, match=r"openclaw\.json") as problem:
        read(path)
    assert len(str(problem.value)) < 400, "one line for a person"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_configuration_that_is_no_file_is_not_waited_for(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "openclaw.json")
    with pytest.raises(ConfigProblem, match="not a regular file"):
        read(tmp_path / "openclaw.json")


def test_an_include_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json5")
    with pytest.raises(ConfigProblem, match="not a regular file"):
        read(config(tmp_path, including("./pipe.json5")))
