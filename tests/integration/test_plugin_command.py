"""`clawmend plugin`: OpenClaw's own command puts the plugin there and takes it away; ours looks whether it did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app.openclaw.plugin_install import FOLDER, own_version
from tests.command import Clawmend, one_line
from tests.peer import TOKEN, Peer
from tests.world import World

OPENCLAW = """#!{python}
import json, os, pathlib, shutil, sys

kind = os.environ.get("KIND", "2026.5.18")
state = pathlib.Path(os.environ["OPENCLAW_STATE_DIR"])
copy = state / "extensions" / "clawmend"
asked = sys.argv[1:]
with open(state / "asked", "a") as file:
    file.write(json.dumps(asked) + "\\n")
plugins, command, *rest = asked
assert plugins == "plugins"
if kind == "broken" and command != "inspect":
    print("a plugin of yours cannot be loaded")
    sys.exit("Error: the disk is full")
if command == "install":
    if kind == "2026.9.6" and "--accept-capabilities" not in rest:
        print("This plugin requires capability consent; rerun with --accept-capabilities")
        sys.exit(0)
    shutil.copytree(rest[0], copy, dirs_exist_ok=True)
elif command == "uninstall":
    shutil.rmtree(copy)
elif kind == "senseless":
    print("Config invalid", file=sys.stderr)
    sys.exit(1)
elif copy.exists():
    package = json.loads((copy / "package.json").read_text())
    print("warning: {{ this is no JSON")
    print(json.dumps({{"plugin": {{"id": "clawmend", "version": package["version"], "enabled": kind != "disabled",
                                 "rootDir": str(copy)}}}}))
else:
    print("Plugin not found: clawmend.", file=sys.stderr)
    sys.exit(1)
"""
"""What OpenClaw's command does, as far as we go by it; the real one is in tests/live."""


@dataclass
class Command(Clawmend):
    """`clawmend plugin`, with OpenClaw's command in PATH."""

    program: Path = Path()

    def __call__(self, *arguments: str | bytes, **env: str) -> subprocess.CompletedProcess[str]:
        return super().__call__("plugin", *arguments, **env)

    def refused(self, *arguments: str, **env: str) -> str:
        return one_line(self(*arguments, **env))

    @property
    def copy(self) -> Path:
        return self.world.state / "extensions" / "clawmend"

    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.world.state / "asked").read_text().splitlines()]


@pytest.fixture
def plugin(world: World) -> Command:
    program = world.folder / "bin" / "openclaw"
    program.parent.mkdir()
    program.write_text(OPENCLAW.format(python=sys.executable))
    program.chmod(0o755)
    return Command(world, f"{program.parent}:{os.environ['PATH']}", program)


def test_install_has_openclaw_copy_our_folder_and_says_what_to_do_next(plugin: Command) -> None:
    config = plugin.world.state / "openclaw.json"
    config.write_text("{}")
    done = plugin("install")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"installed: version {own_version()}\nrestart the gateway, which then loads it\n"
    assert plugin.asked() == [
        ["plugins", "install", str(FOLDER), "--force"],
        ["plugins", "inspect", "clawmend", "--json"],
    ]
    assert {f.name for f in plugin.copy.iterdir()} == {"index.js", "openclaw.plugin.json", "package.json", "README.md"}
    assert config.read_text() == "{}", "the configuration is OpenClaw's own"


def test_install_gives_consent_where_openclaw_asks_for_it(plugin: Command) -> None:
    assert plugin("install", KIND="2026.9.6").returncode == 0
    first, second, _ = plugin.asked()
    assert second == [*first, "--accept-capabilities"]


def test_openclaw_may_be_named_where_it_is_not_in_path(plugin: Command) -> None:
    elsewhere = plugin.world.folder / "elsewhere"
    plugin.program.rename(elsewhere)
    assert "--openclaw" in plugin.refused("install", PATH="/nowhere")
    assert str(plugin.program) in plugin.refused("install", "--openclaw", str(plugin.program))
    assert plugin("install", "--openclaw", str(elsewhere)).returncode == 0


@pytest.mark.parametrize("what", ["install", "remove"])
def test_what_openclaw_did_not_do_is_code_2_with_its_last_words(plugin: Command, what: str) -> None:
    if what == "remove":
        plugin("install")
    assert "Error: the disk is full" in plugin.refused(what, KIND="broken")


def test_what_openclaw_does_not_tell_is_code_2(plugin: Command) -> None:
    for what in ("install", "status", "remove"):
        assert "Config invalid" in plugin.refused(what, KIND="senseless")


def test_a_program_that_cannot_be_run_is_code_2(plugin: Command) -> None:
    plugin.program.write_text("#!/no/such/interpreter\n")
    assert "No such file" in plugin.refused("status")


def test_with_several_state_dirs_one_has_to_be_named(plugin: Command) -> None:
    both = f"{plugin.world.state}:{plugin.world.folder}"
    assert "CLAWMEND_STATE_DIR" in plugin.refused("install", CLAWMEND_STATE_DIR=both)


def test_remove_takes_it_away_and_is_content_where_it_is_not_there(plugin: Command) -> None:
    plugin("install")
    done = plugin("remove")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "removed")
    assert not plugin.copy.exists()
    again = plugin("remove")
    assert (again.returncode, again.stdout) == (0, "not installed\n")


def test_status_without_it_is_1(plugin: Command) -> None:
    done = plugin("status")
    assert (done.returncode, done.stdout) == (1, "not installed\n")


def test_status_of_one_that_is_switched_off_says_so(plugin: Command) -> None:
    plugin("install")
    done = plugin("status", KIND="disabled")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].endswith("but not enabled")


@pytest.mark.parametrize(("loaded", "code"), [(True, 0), (False, 1)])
def test_status_says_whether_the_gateway_that_runs_has_loaded_it(plugin: Command, loaded: bool, code: int) -> None:
    plugin("install")
    peer = Peer()
    if loaded:
        peer.load_plugin()
    try:
        done = plugin("status", CLAWMEND_GATEWAY=peer.url, CLAWMEND_GATEWAY_TOKEN=TOKEN)
    finally:
        peer.stop()
    installed, gateway = done.stdout.splitlines()
    assert (done.returncode, installed) == (code, f"installed: version {own_version()} in {plugin.copy}")
    assert ("has loaded it" in gateway, "restart it" in gateway) == (loaded, not loaded)


def test_status_without_a_gateway_says_that_it_does_not_know(plugin: Command) -> None:
    plugin("install")
    done = plugin("status", CLAWMEND_GATEWAY="ws://127.0.0.1:1")
    assert (done.returncode, "not known" in done.stdout) == (1, True)
    off = plugin("status")
    assert (off.returncode, "CLAWMEND_GATEWAY is off" in off.stdout) == (1, True)


# --- the folder that is shipped ---


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def test_the_plugin_is_one_small_file_without_an_import(plugin: Command) -> None:
    source = (FOLDER / "index.js").read_text()
    assert len(source.splitlines()) < 150
    assert not [line for line in source.splitlines() if line.lstrip().startswith("import ") or "require(" in line]
    assert manifest("package.json").keys() & {"dependencies", "scripts", "peerDependencies"} == set()


def test_its_manifests_agree_with_each_other_and_with_the_project(plugin: Command) -> None:
    package, openclaw = manifest("package.json"), manifest("openclaw.plugin.json")
    assert package["name"] == openclaw["id"] == "clawmend"
    assert package["version"] == openclaw["version"] == __version__
    assert package["openclaw"]["extensions"] == ["./index.js"]


def test_its_readme_fits_on_a_screen_and_names_every_method(plugin: Command) -> None:
    words = (FOLDER / "README.md").read_text()
    assert len(words.splitlines()) <= 50
    assert all(f"clawmend.{name}" in words for name in ("live", "settle", "undo"))
