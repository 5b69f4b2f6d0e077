"""What a user gets: a wheel that works away from the checkout, lock files, and a `make` that needs only Python."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from app.demo import RECORDINGS
from tests.integration.served import PATIENCE, TOP, environment, run, served
from tests.world import RECORDINGS as RECORDED
from tests.world import World

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
MAKE = shutil.which("make")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out), env=dict(os.environ), cwd=TOP
    )
    assert build.returncode == 0, build.stderr
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed without a network into a folder of its own."""
    site = tmp_path_factory.mktemp("site")
    command = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site), str(wheel))
    done = run(sys.executable, *command, env=dict(os.environ), cwd=site)
    assert done.returncode == 0, done.stderr
    return site


def away(installed: Path, tmp_path: Path, **more: str) -> dict[str, str]:
    return environment(tmp_path / "newcomer", PYTHONPATH=str(installed), **more)


# --- the wheel ---


def test_the_wheel_has_the_migrations_and_the_demo_recordings_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        stuck = "provider-error-stuck/agents/main/sessions/sessions.json"
        assert archive.read(f"app/_recordings/{stuck}") == (RECORDED / stuck).read_bytes()

    def files(folder: Path, packed: str, top: Path) -> set[str]:
        found = (f.relative_to(top) for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        return {f"{packed}/{f.as_posix()}" for f in found}

    expected = files(TOP / "app", "app", TOP / "app") | files(TOP / "alembic", "app/_alembic", TOP / "alembic")
    for name in RECORDINGS:
        expected |= files(RECORDED / name, "app/_recordings", RECORDED)
    assert names == expected


def test_the_installed_command_says_its_version_and_runs_its_own_modules(installed: Path, tmp_path: Path) -> None:
    env = away(installed, tmp_path)
    done = run(str(installed / "bin" / "clawmend"), "--version", env=env, cwd=tmp_path)
    assert done.stdout == f"clawmend {PROJECT['project']['version']}\n"
    where = (
        "import app, app.demo, app.audit.migrate as m; print(app.__file__, app.demo.recordings_folder(), m._scripts())"
    )
    told = run(sys.executable, "-c", where, env=env, cwd=tmp_path)
    assert [Path(p).relative_to(installed).parts[0] for p in told.stdout.split()] == ["app"] * 3


def test_the_installed_command_finds_the_stuck_session_of_a_recording(
    installed: Path, tmp_path: Path, world: World
) -> None:
    world.stuck()
    env = away(installed, tmp_path, CLAWMEND_STATE_DIR=str(world.state))
    done = run(str(installed / "bin" / "clawmend"), "scan", env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "1 sessions in 1 stores, 1 running, 1 stuck"


def test_the_installed_service_serves_the_demo_with_a_migrated_audit(installed: Path, tmp_path: Path) -> None:
    command = (str(installed / "bin" / "clawmend"), "serve", "--demo")
    with served(*command, env=away(installed, tmp_path), cwd=tmp_path) as service:
        demo = tmp_path / "newcomer" / ".local" / "state" / "clawmend" / "demo"
        token = (demo / "token").read_text().strip()
        assert service.get("/health")["status"] in ("pass", "warn")
        sessions = service.get("/sessions", token)
        assert (sessions["count"], sessions["problems"]) == (3, [])
        assert service.get("/repairs", token) == {"items": [], "next": None}
    assert "Traceback" not in service.said


def test_a_port_that_is_taken_ends_the_start_with_code_2_and_one_line_of_ours(installed: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = away(installed, tmp_path, CLAWMEND_PORT=port)
        done = run(str(installed / "bin" / "clawmend"), "serve", env=env, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("clawmend: "))
    assert port in line


# --- the lock files ---


def pins(name: str) -> dict[str, set[str]]:
    """Per `name==version` of a lock file, its hashes."""
    blocks = re.split(r"\n(?=\S)", (TOP / name).read_text())
    return {b.split()[0]: set(re.findall(r"--hash=sha256:([0-9a-f]{64})", b)) for b in blocks if not b.startswith("#")}


def test_every_pin_has_hashes_and_the_tests_run_on_the_pins_that_users_get() -> None:
    for_users, for_tests = pins("requirements.lock"), pins("requirements-dev.lock")
    assert all(for_users.values())
    assert all(for_tests.values())
    assert {pin: for_tests.get(pin) for pin in for_users} == for_users


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_every_dependency_of_the_project_is_locked(lock: str, wanted: list[str]) -> None:
    locked = {pin.partition("==")[0] for pin in pins(lock)}
    assert {re.split(r"[<>=\[ ]", w)[0] for w in wanted} - locked == set()


@pytest.mark.parametrize(
    "name", ["Makefile", ".ci/run", "requirements.lock", "requirements-dev.lock", "pyproject.toml"]
)
def test_no_registry_is_named(name: str) -> None:
    assert re.findall(r"https?://|--(?:extra-)?index-url|--find-links", (TOP / name).read_text()) == []


# --- make ---

PYTHON = """#!/bin/sh
case "$*" in
  *ensurepip*) test -e "$FAKES/python-venv" ;;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  -m*) echo "$*" >> said ;;
  *) exec "$REAL" "$@" ;;
esac
"""
VENV_PACKAGE = f"python3.{sys.version_info.minor}-venv"


class Machine:
    """A machine whose only Python lacks ensurepip, as Debian's does without its venv package."""

    def __init__(self, folder: Path) -> None:
        self.fakes = folder / "bin"
        self.clone = folder / "clone"
        self.fakes.mkdir()
        self.clone.mkdir()
        for name in ("Makefile", "requirements.lock"):
            shutil.copy(TOP / name, self.clone)
        for tool in ("mkdir", "cp", "touch", "env"):
            (self.fakes / tool).symlink_to(shutil.which(tool) or tool)

    def has(self, name: str, script: str) -> None:
        (self.fakes / name).write_text(script)
        (self.fakes / name).chmod(0o755)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        assert MAKE is not None
        env = {"PATH": str(self.fakes), "FAKES": str(self.fakes), "REAL": sys.executable}
        return subprocess.run(
            [MAKE, target], env=env, cwd=self.clone, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def commands(self) -> list[str]:
        """What was asked of the Python in .venv since the last time."""
        said = self.clone / "said"
        lines = said.read_text().splitlines() if said.exists() else []
        said.unlink(missing_ok=True)
        return [" ".join(line.split()[:3]) for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if MAKE is None:
        pytest.skip("this machine has no make")
    return Machine(tmp_path)


def lines_for_a_person(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("make:")]


def test_make_says_in_one_line_that_python_is_missing(machine: Machine) -> None:
    machine.has("python3", "#!/bin/sh\nexit 1\n")  # one that is too old
    done = machine.make("run")
    assert done.returncode != 0
    (line,) = lines_for_a_person(done)
    assert "Python 3.11 or newer" in line


def test_make_says_the_one_command_to_type_when_it_may_not_install_the_venv_package(machine: Machine) -> None:
    machine.has("python3", PYTHON)
    machine.has("id", "#!/bin/sh\necho 1000\n")
    machine.has("sudo", "#!/bin/sh\nexit 1\n")  # asks for a password
    machine.has("apt-get", "#!/bin/sh\nexit 0\n")
    done = machine.make("run")
    assert done.returncode != 0
    (line,) = lines_for_a_person(done)
    assert line.endswith(f"sudo apt-get install {VENV_PACKAGE}")
    assert not (machine.clone / ".venv").exists()


def test_make_run_installs_the_venv_package_as_root_then_once_what_is_locked_and_again_when_the_lock_changes(
    machine: Machine,
) -> None:
    machine.has("python3", PYTHON)
    machine.has("id", "#!/bin/sh\necho 0\n")
    package = f'#!/bin/sh\ncase "$*" in *"install"*" {VENV_PACKAGE}") touch "$FAKES/python-venv" ;; esac\n'
    machine.has("apt-get", package)
    serve, install = "-m app.cli serve", "-m pip install"

    assert machine.make("run").returncode == 0
    assert machine.commands() == [install, serve]
    assert machine.make("run").returncode == 0
    assert machine.commands() == [serve]
    later = (machine.clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(machine.clone / "requirements.lock", (later, later))
    assert machine.make("run").returncode == 0
    assert machine.commands() == [install, serve]
