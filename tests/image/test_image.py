"""The steps of deploy/docker/Dockerfile, run without an engine: what they make is started as another user and asked.

Needs the package index, as a build of the image does. Left out: the base image, and the step that makes the user.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerfile import TOP, context, health_check, instructions, of

pytestmark = pytest.mark.image
PATIENCE = 300.0
SOMEBODY = 23_456
PLACES = ("/opt/clawmend", "/src", "/wheels", "/var/lib", "/home/node")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The image's root folder as far as the steps fill it; readable for everybody, as an image is."""
    folder = Path(tempfile.mkdtemp(prefix="clawmend-image-"))
    folder.chmod(0o755)
    try:
        build(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def python_for_everybody() -> str | None:
    """An interpreter that another user may run; None where there is none but ours, below a home."""
    for name in (sys.executable, "/usr/bin/python3"):
        command = [name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(command, cwd="/", check=False, **as_somebody()).returncode == 0:  # type: ignore[call-overload]
                return name
        except OSError:
            continue
    return None


def as_somebody() -> dict[str, int]:
    """For subprocess: as another user, where we may."""
    return {"user": SOMEBODY, "group": SOMEBODY} if os.getuid() == 0 else {}


def inside(root: Path, words: str) -> str:
    """A command of the image with its absolute paths below `root`."""
    return re.sub(rf"(?<![\w.])({'|'.join(PLACES)})(?=[/\s]|$)", lambda m: f"{root}{m[1]}", words)


def build(root: Path) -> None:
    tools = root / "usr-local"
    subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
    python = python_for_everybody() or pytest.skip("no Python of this machine may be run by another user")
    env = {**os.environ, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}", "UV_PYTHON": python}
    for word, arguments in instructions():
        if word == "FROM" and arguments == "${PYTHON}":
            break
        if word == "ENV":
            env |= dict(pair.split("=", 1) for pair in arguments.split())
        elif word == "COPY" and arguments == ". /src":
            for file in context():
                copy = root / "src" / file.relative_to(TOP)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        elif word == "COPY":
            name, place = arguments.split()
            copy = Path(inside(root, place))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, copy)
        elif word == "RUN":
            done = subprocess.run(
                ["/bin/sh", "-e", "-c", inside(root, arguments)],
                cwd=root,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"


def container_env(root: Path, port: int) -> dict[str, str]:
    """The environment of the image, and nothing of this process's own."""
    env = {"PATH": os.defpath, "CLAWMEND_PORT": str(port), "CLAWMEND_GATEWAY": "off"}
    for pair in of("ENV")[-1].split():
        name, _, value = pair.partition("=")
        env[name] = ":".join(inside(root, part) for part in value.replace("$PATH", env["PATH"]).split(":"))
    return env


def test_what_the_steps_make_serves_as_another_user_and_is_healthy(root: Path) -> None:
    state = root / "home" / "node" / ".openclaw" / "agents" / "main" / "sessions"
    state.mkdir(parents=True)
    (state / "sessions.json").write_text("{}")
    own = root / "var" / "lib" / "clawmend"
    own.mkdir(parents=True, mode=0o700)
    user = as_somebody()
    if user:
        for path in (own, root / "home" / "node", *(root / "home" / "node").rglob("*")):
            os.chown(path, SOMEBODY, SOMEBODY)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = container_env(root, port)
    program = shutil.which("clawmend", path=env["PATH"])
    assert program == str(root / "opt" / "clawmend" / "bin" / "clawmend")
    check = [str(root / "opt" / "clawmend" / "bin" / health_check()[0]), *health_check()[1:]]

    def healthy() -> bool:
        return subprocess.run(check, cwd="/", env=env, capture_output=True, check=False, **user).returncode == 0  # type: ignore[call-overload]

    assert not healthy()
    with subprocess.Popen([program, "serve"], cwd="/", env=env, stderr=subprocess.PIPE, text=True, **user) as service:  # type: ignore[call-overload]
        deadline = time.monotonic() + PATIENCE
        while not healthy() and service.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        well = healthy()
        service.terminate()
        said = service.communicate(timeout=PATIENCE)[1]
    assert well, said
    assert {p.name for p in own.iterdir()} >= {"audit.db", "token"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in own.iterdir())
    assert not list((root / "opt").rglob("*.pyc.*")), "nothing is written into the image"
