"""A real OpenClaw gateway in a home of its own: from npm, on loopback, with token auth."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

TOP = Path(__file__).parents[2]
NODE = TOP / ".gateways" / "bin"
TOKEN = "a-token-for-live-tests-only"
AGENTS = ("main", "beta")
PATIENCE = 400.0
"""Seconds for a gateway to become ready on a machine that is busy: about 5 on one that is not."""
_STOPS_WITHIN = 120.0
"""Seconds for one to stop, on the same: about 1. One that is killed instead leaves its rows otherwise."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Gateway:
    """Made in `home`, which must be empty; `start` it, `end` it at last."""

    version: str
    home: Path
    model_port: int
    control_ui: bool = False
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.home / ".openclaw"

    @property
    def in_sqlite(self) -> bool:
        """Whether this version keeps its rows in a database; its configuration differs in two names."""
        return tuple(map(int, self.version.split("."))) >= (2026, 8, 1)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{NODE}:{os.environ['PATH']}",
            "TMPDIR": str(self.home / "tmp"),
            "OPENCLAW_STATE_DIR": str(self.state),
            "OPENCLAW_CONFIG_PATH": str(self.state / "openclaw.json"),
            "OPENCLAW_SKIP_CHANNELS": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
        }

    @property
    def program(self) -> Path:
        return TOP / ".gateways" / self.version / "node_modules" / "openclaw" / "openclaw.mjs"

    def start(self) -> None:
        """Until it is ready. Raises RuntimeError with the end of its log."""
        if not self.state.exists():
            self.settle_in()
        log = (self.home / "gateway.log").open("ab")
        self.process = subprocess.Popen(
            [str(NODE / "node"), str(self.program), "gateway", "run", "--port", str(self.port)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        self.end(signal.SIGKILL)
        raise RuntimeError(f"the gateway is not ready:\n{(self.home / 'gateway.log').read_text()[-3000:]}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        self.process = None

    def store(self, agent: str = "main") -> dict[str, Any]:
        path = self.state / "agents" / agent / "sessions" / "sessions.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def ends(self, agent: str, session_id: str) -> list[dict[str, Any]]:
        """Every `session.ended` of one session, the oldest first."""
        path = self.state / "agents" / agent / "sessions" / f"{session_id}.trajectory.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["type"] == "session.ended"]

    def settle_in(self) -> None:
        """Its folders and its configuration; nothing is started."""
        self.state.mkdir(mode=0o700, parents=True)
        (self.home / "tmp").mkdir()
        for agent in AGENTS:
            (self.home / f"ws-{agent}").mkdir()
            (self.home / f"ws-{agent}" / "AGENTS.md").write_text("# a workspace for tests\n")
        self.configure()

    def configure(self) -> None:
        """Write the configuration as this version takes it, over another version's."""
        path = self.state / "openclaw.json"
        path.write_text(json.dumps(self._config(), indent=2))
        path.chmod(0o600)

    def _config(self) -> dict[str, Any]:
        model = {"id": "fake-1", "name": "Fake", "reasoning": False, "input": ["text"], "maxTokens": 4096}
        free = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
        provider = {
            "baseUrl": f"http://127.0.0.1:{self.model_port}/v1",
            "apiKey": "none",
            "api": "openai-completions",
            "models": [{**model, "cost": free, "contextWindow": 200_000}],
        }
        catalog = {"catalogRefresh" if self.in_sqlite else "pricing": {"enabled": False}}
        agents = [{"id": a, "default": a == "main", "workspace": str(self.home / f"ws-{a}")} for a in AGENTS]
        return {
            "gateway": {
                "mode": "local",
                "port": self.port,
                "bind": "loopback",
                "auth": {"mode": "token", "token": TOKEN},
                "controlUi": {"enabled": self.control_ui},
                "tailscale": {"mode": "off"},
            },
            "update": {"checkOnStart": False, "auto": {"enabled": False}},
            "discovery": {"mdns": {"mode": "off"}},
            "models": {"mode": "replace", **catalog, "providers": {"fake": provider}},
            "agents": {
                "defaults": {
                    "model": {"primary": "fake/fake-1"},
                    "skipBootstrap": True,
                    "timeoutSeconds": 300,
                    "heartbeat": {"every": "0m"},
                    "maxConcurrent": 60,
                    **({} if self.in_sqlite else {"memorySearch": {"enabled": False}}),
                },
                "list": agents,
            },
            "tools": {"exec": {"security": "full", "ask": "off"}},
            "cron": {"enabled": True},
            "browser": {"enabled": False},
        }
