"""The command `clawmend`, as a person runs it beside a world: a process of its own, no service beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.world import World

TOP = Path(__file__).resolve().parents[1]


@dataclass
class Clawmend:
    """Runs in a folder without a `.env`, with no setting but the world's and those given. Never a traceback."""

    world: World
    path: str = os.environ["PATH"]

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": self.path,
            "HOME": str(self.world.folder / "home"),
            "PYTHONPATH": str(TOP),
            "CLAWMEND_STATE_DIR": str(self.world.state),
            "CLAWMEND_DATABASE_URL": self.world.database_url,
            "CLAWMEND_STORE_QUIET_SECONDS": "0.1",
            "CLAWMEND_STORE_PATIENCE_SECONDS": "0.5",
            "CLAWMEND_GATEWAY": "off",
        }

    def __call__(self, *arguments: str | bytes, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run(subprocess.PIPE, arguments, env)

    def into(self, output: IO[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """With its output going there."""
        return self._run(output, arguments, {})

    def _run(
        self, output: IO[str] | int, arguments: tuple[str | bytes, ...], env: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "app.cli", *arguments],
            cwd=self.world.folder,
            env={**self.env, **env},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a refusal says: exit code 2, one line on stderr, nothing on stdout."""
    assert (done.returncode, done.stdout) == (2, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("clawmend: ")
    return line
