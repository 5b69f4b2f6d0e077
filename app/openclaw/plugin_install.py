"""The companion plugin in an OpenClaw: put there, looked for and taken away by OpenClaw's own command, which alone
changes its configuration (spec/companion-plugin.md, "Install").
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.openclaw.parse import word
from app.openclaw.paths import StateDir

PLUGIN = "clawmend"
FOLDER = Path(__file__).resolve().parent.parent / "companion"
_PATIENCE = 300.0
"""Seconds for one command of OpenClaw; a small machine needs twenty."""


class PluginProblem(Exception):
    """OpenClaw's command is not there, or did not do it; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What OpenClaw says of the plugin."""

    enabled: bool
    version: str
    path: str


class PluginInstaller:
    """OpenClaw's command for one state dir. Everything raises PluginProblem."""

    def __init__(self, state: StateDir, env: Mapping[str, str], program: str | None = None) -> None:
        """`program` is the path of the command `openclaw`, else it is looked for in `PATH`."""
        found = shutil.which(program or "openclaw", path=env.get("PATH"))
        if found is None:
            where = f"at {program}" if program else "in PATH; give its path with --openclaw"
            raise PluginProblem(f"there is no command `openclaw` {where}")
        self._program = found
        self._env = {
            **env,
            "OPENCLAW_STATE_DIR": state.path,
            "OPENCLAW_CONFIG_PATH": state.config_path,
            "NO_COLOR": "1",
        }

    def install(self) -> Installed:
        """Copy it into the state dir, over an older one."""
        command = ("install", str(FOLDER), "--force")
        said = self._run(*command)
        if "--accept-capabilities" in said.stdout + said.stderr:  # 2026.9.6 asks for consent in words of its own
            said = self._run(*command, "--accept-capabilities")
        installed = self.look()
        if installed is None or not installed.enabled or installed.version != own_version():
            raise PluginProblem(f"openclaw plugins install did not do it: {_last_words(said)}")
        return installed

    def look(self) -> Installed | None:
        """None where it is not installed."""
        said = self._run("inspect", PLUGIN, "--json")
        found = _object_in(said.stdout).get("plugin")
        if isinstance(found, dict) and found.get("id") == PLUGIN:
            path = word(found.get("rootDir")) or os.path.dirname(word(found.get("source")) or "")
            return Installed(found.get("enabled") is True, word(found.get("version")) or "", path)
        if "not found" in (said.stdout + said.stderr).lower():
            return None
        raise PluginProblem(f"openclaw plugins inspect does not tell: {_last_words(said)}")

    def remove(self) -> None:
        said = self._run("uninstall", PLUGIN, "--force")
        if self.look() is not None:
            raise PluginProblem(f"openclaw plugins uninstall did not do it: {_last_words(said)}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603  (the operator's own command)
                [self._program, "plugins", *arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PluginProblem(f"openclaw plugins {arguments[0]} does not come back") from None
        except OSError as error:
            raise PluginProblem(f"{self._program} cannot be run: {error.strerror}") from None


def own_version() -> str:
    """The version of the plugin that we bring."""
    return str(json.loads((FOLDER / "package.json").read_bytes())["version"])


def _object_in(text: str) -> dict[str, Any]:
    """The JSON object in what a command printed; warnings may stand in lines before it."""
    try:
        found = json.loads(text[f"\n{text}".index("\n{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last_words(said: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (said.stderr or said.stdout).splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it said nothing, and ended with code {said.returncode}"
