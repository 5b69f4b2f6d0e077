"""The units of systemd: what systemd itself thinks of them, and that they take nothing that the service needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.settings import Settings
from tests.integration.served import FROM_CHECKOUT, PATIENCE, TOP, environment
from tests.world import World

DEPLOY = TOP / "deploy"
OF_THE_USER, OF_THE_SYSTEM = "clawmend.service", "clawmend@.service"
UNITS = [OF_THE_USER, OF_THE_SYSTEM]


def service(unit: str) -> dict[str, list[str]]:
    """The lines of [Service], per name."""
    found: dict[str, list[str]] = {}
    body = (DEPLOY / unit).read_text().partition("[Service]\n")[2].partition("\n[")[0]
    for line in body.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    command = [tool, "--no-pager", *words]
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    return done


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_the_unit(unit: str, tmp_path: Path) -> None:
    """It also looks whether the program is there; so the copy that it is shown names one that is."""
    (program,) = (line.split()[0] for line in service(unit)["ExecStart"])
    copy = tmp_path / unit
    copy.write_text((DEPLOY / unit).read_text().replace(program, "/bin/true"))
    whose = "--user" if unit == OF_THE_USER else "--system"
    done = analyze("verify", "--man=no", whose, str(copy), XDG_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("unit", "most"), [(OF_THE_USER, 6.3), (OF_THE_SYSTEM, 1.8)])
def test_the_exposure_that_systemd_reckons_stays_as_low_as_it_is(unit: str, most: float) -> None:
    done = analyze("security", "--offline=true", str(DEPLOY / unit))
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= most, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_is_hidden_by_which_a_gateway_is_recognised(unit: str) -> None:
    """Its lock in /tmp, its process in /proc; and in a user namespace, its environment."""
    hiding = {"PrivateTmp", "PrivateUsers", "PrivatePIDs", "ProtectProc", "ProcSubset", "PrivateNetwork", "DynamicUser"}
    in_a_namespace = {"ProtectSystem", "ReadWritePaths", "PrivateDevices", "PrivateMounts", "ProtectHome"}
    assert not hiding & set(service(unit))
    if unit == OF_THE_USER:
        assert not in_a_namespace & set(service(unit))


@pytest.mark.parametrize("unit", UNITS)
def test_the_watchdog_waits_for_many_passes_and_the_stop_for_the_last_one(unit: str) -> None:
    lines = service(unit)
    assert lines["Type"] == ["notify"]
    assert float(lines["WatchdogSec"][0]) > 10 * Settings.model_fields["scan_interval_seconds"].default
    assert float(lines["TimeoutStopSec"][0]) >= 30 + 5


def let_through(words: list[str]) -> set[str]:
    """The system calls of a `SystemCallFilter=`, as systemd reads its lines in their order."""
    listed = analyze("syscall-filter").stdout
    groups: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if re.match(r"(\x1b\[\S*?m)*@", line):
            name = re.sub(r"\x1b\[\S*?m", "", line).strip()
            groups[name] = []
        elif (word := re.sub(r"\x1b\[\S*?m", "", line).strip()) and not word.startswith("#") and groups:
            groups[name].append(word)

    def members(word: str) -> set[str]:
        return set().union(*(members(w) for w in groups[word])) if word.startswith("@") else {word}

    allowed = members("@default")
    for line in words:
        named = set().union(*(members(word) for word in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def traced(world: World) -> str:
    """Everything that a service asks of the kernel from its start to its end, with a repair in between."""
    strace = shutil.which("strace") or pytest.skip("strace is not installed")
    world.stuck(ended_ago=60)
    log = world.folder / "calls"
    env = environment(
        world.folder / "home",
        CLAWMEND_STATE_DIR=str(world.state),
        CLAWMEND_DATABASE_URL=world.database_url,
        CLAWMEND_PORT="0",
        CLAWMEND_ERROR_QUIET_SECONDS="1",
        CLAWMEND_STALE_AFTER_SECONDS="1",
    )
    command = [strace, "-f", "-qq", "-o", str(log), *FROM_CHECKOUT, "serve"]
    with subprocess.Popen(command, env=env, cwd=world.folder, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PATIENCE
        while world.row()["status"] == "running" and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
    if "ptrace" in said and "not permitted" in said:
        pytest.skip("this system lets nobody trace a process")
    assert world.row()["status"] == "failed", said
    return log.read_text(errors="replace")


def test_the_units_let_the_service_do_all_that_it_asks_of_the_kernel(world: World) -> None:
    """Its system calls, its sockets' families; and it makes no memory both writable and executable."""
    trace = traced(world)
    called = set(re.findall(r"^\d+ +(\w+)\(", trace, re.M))
    assert {"renameat2", "flock", "fcntl", "inotify_add_watch"} <= called, "what a repair and a watch are made of"
    families = set(re.findall(r"^\d+ +socket\((AF_\w+)", trace, re.M))
    executable = re.findall(r"^\d+ +(?:mprotect|pkey_mprotect|mmap)\(.*?(PROT_\S*EXEC\S*),", trace, re.M)
    changed = re.findall(r"^\d+ +(?:pkey_)?mprotect\(.*PROT_EXEC.*", trace, re.M)
    assert executable, "the libraries at least"
    assert [words for words in executable if "PROT_WRITE" in words] == changed == []
    for unit in UNITS:
        lines = service(unit)
        assert called - let_through(lines["SystemCallFilter"]) == set(), unit
        assert families <= set(lines["RestrictAddressFamilies"][0].split()), unit


def test_a_namespace_of_its_own_lets_it_write_where_it_must() -> None:
    places = service(OF_THE_SYSTEM)["ReadWritePaths"][0].split()
    assert places == ["/home/%i/.openclaw", "/home/%i/.local/state/clawmend"]
