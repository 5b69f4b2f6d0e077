"""Hazards 17, 18, 20 and the lock of 25: real processes, in this pid namespace and in another."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Gateway
from app.openclaw.paths import StateDir
from app.openclaw.processes import running_gateway, sees_all_processes, start_ticks
from app.reconcile.reconciler import Reconciler
from tests.integration.test_hazards import HELD_FOR, left_alone, verdict
from tests.world import STUCK_SESSION_ID, World, attempts, run_for, tree_unchanged

Openclaw = Callable[..., "subprocess.Popen[bytes]"]
NAMESPACES = (("unshare", "--pid", "--fork", "--mount-proc"), ("unshare", "-r", "--pid", "--fork", "--mount-proc"))


@pytest.fixture
def openclaw(tmp_path: Path) -> Iterator[Openclaw]:
    """Starts processes whose title is `openclaw`, with an environment of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**env: str) -> subprocess.Popen[bytes]:
        env = {"HOME": str(tmp_path / "home"), **env}
        process = subprocess.Popen(["openclaw", "600"], executable="/bin/sleep", env=env)
        started.append(process)
        while not Path(f"/proc/{process.pid}/environ").read_bytes():
            pass  # the kernel says that it has begun before it has put its words in place
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def namespace() -> tuple[str, ...]:
    for command in NAMESPACES:
        try:
            if subprocess.run([*command, "true"], check=False, capture_output=True, timeout=10).returncode == 0:
                return command
        except FileNotFoundError:
            break
    pytest.skip("this system does not let us make a pid namespace")


def write_lock(world: World, pid: int, ticks: int | None) -> Path:
    """`<transcript>.lock` as the gateway writes it (spec 2026.5.18, section 5)."""
    lock = world.sessions() / f"{STUCK_SESSION_ID}.jsonl.lock"
    content = {"pid": pid, "createdAt": datetime.now(UTC).isoformat(), "starttime": ticks}
    lock.write_text(json.dumps({k: v for k, v in content.items() if v is not None}, indent=2) + "\n")
    return lock


def dead_process() -> tuple[int, int]:
    """The pid and start time of a process that is gone."""
    process = subprocess.Popen(["openclaw", "600"], executable="/bin/sleep")
    ticks = start_ticks(process.pid)
    process.kill()
    process.wait()
    assert ticks is not None
    return process.pid, ticks


INSIDE = """
import json, sys
from pathlib import Path
from app.openclaw.paths import StateDir
from app.openclaw.processes import running_gateway
from tests.integration.test_hazards import left_alone, verdict
from tests.integration.test_hazards_processes import write_lock
from tests.world import World
world = World(Path(sys.argv[1]))
world.stuck()
write_lock(world, int(sys.argv[2]), int(sys.argv[3]))
gateway = running_gateway(StateDir(str(world.state), str(world.state / "openclaw.json")))
print(json.dumps([*verdict(left_alone(world)), gateway.state]))
world.close()
"""


def test_hazard_17_a_lock_pid_from_another_pid_namespace(
    world: World, openclaw: Openclaw, namespace: tuple[str, ...]
) -> None:
    """In a container the gateway's pid means nothing: not to be seen is not to be dead, of the lock nor the gateway."""
    pid = openclaw().pid
    inner = world.folder / "inner"
    inner.mkdir()
    done = subprocess.run(
        [*namespace, sys.executable, "-c", INSIDE, str(inner), str(pid), str(start_ticks(pid))],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    code, reason, gateway = json.loads(done.stdout)
    assert (code, reason) == ("working", f"process {pid} holds the lock of its transcript")
    assert gateway == "unknown"


def test_hazard_18_a_pid_that_was_recycled_holds_no_lock(world: World, openclaw: Openclaw) -> None:
    """The pid is alive, its start time is another: the lock's owner is gone, and the lock stays OpenClaw's to clear."""
    world.stuck()
    pid = openclaw().pid
    lock = write_lock(world, pid, (start_ticks(pid) or 0) - 100)
    before = lock.read_bytes()
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert world.row()["status"] == "failed"
    assert lock.read_bytes() == before


@pytest.mark.parametrize("with_start_time", [True, False])
def test_hazard_18_a_pid_that_was_not_recycled_holds_its_lock(
    world: World, openclaw: Openclaw, with_start_time: bool
) -> None:
    """Without a start time in the lock a living pid cannot be told from a recycled one: left alone."""
    world.stuck()
    pid = openclaw().pid
    write_lock(world, pid, start_ticks(pid) if with_start_time else None)
    assert verdict(left_alone(world)) == ("working", f"process {pid} holds the lock of its transcript")


def test_hazard_25_the_cleanup_lock_is_held_until_its_process_is_gone(world: World, openclaw: Openclaw) -> None:
    world.stuck()
    process = openclaw()
    write_lock(world, process.pid, start_ticks(process.pid))
    assert verdict(left_alone(world))[0] == "working"

    process.kill()
    process.wait()
    if not sees_all_processes():
        pytest.skip("from inside a container a dead process cannot be told from one that is out of sight")
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert world.row()["status"] == "failed"


def test_hazard_18_a_dead_process_holds_no_lock(world: World) -> None:
    if not sees_all_processes():
        pytest.skip("from inside a container a dead process cannot be told from one that is out of sight")
    world.stuck()
    write_lock(world, *dead_process())
    run_for(world.reconciler(), world.clock, HELD_FOR, step=20)
    assert world.row()["status"] == "failed"


def test_hazard_20_two_profiles_on_one_home_do_not_answer_for_each_other(
    world: World, openclaw: Openclaw, tmp_path: Path
) -> None:
    """Both state dirs have the same key and sessionId. Only one has a gateway, so only the other's window is short."""
    if not sees_all_processes():
        pytest.skip("that there is no gateway can be told only where all processes are in sight")
    (tmp_path / "second").mkdir()
    other = World(tmp_path / "second")
    for each in (world, other):
        each.stuck()
    openclaw(OPENCLAW_STATE_DIR=str(world.state))
    settings = world.settings(state_dir=(str(world.state), str(other.state)))
    reconciler = Reconciler(settings, world.clock, world.reconciler().audit, world.env)

    with tree_unchanged(world.state):
        run_for(reconciler, world.clock, 60)
    assert (world.row()["status"], other.row()["status"]) == ("running", "failed")
    assert [a.state_dir for a in attempts(reconciler)] == [str(other.state)]
    assert len(reconciler.report.find(STUCK_SESSION_ID)) == 2, "one id, two sessions: told apart by their state dir"


@pytest.fixture
def lock_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[World, subprocess.Popen[bytes], int | None], Gateway]:
    """Writes the gateway's singleton lock as section 1 of the spec has it, and says who is then found to be running."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))

    def lock(world: World, process: subprocess.Popen[bytes], ticks: int | None) -> Gateway:
        state = StateDir(str(world.state), str(world.state / "openclaw.json"))
        folder = tmp_path / "tmp" / f"openclaw-{os.getuid()}"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(state.config_path.encode()).hexdigest()[:8]
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        content = {"pid": process.pid, "createdAt": created, "configPath": state.config_path, "startTime": ticks}
        (folder / f"gateway.{digest}.lock").write_text(json.dumps(content))
        return running_gateway(state)

    return lock


def test_hazard_18_a_recycled_pid_is_no_gateway(world: World, openclaw: Openclaw, lock_gateway: Any) -> None:
    process = openclaw(OPENCLAW_STATE_DIR=str(world.folder / "elsewhere"))
    ticks = start_ticks(process.pid)
    assert ticks is not None
    assert lock_gateway(world, process, ticks).state == "running"
    assert lock_gateway(world, process, ticks - 100).state != "running"


def test_hazard_20_of_two_gateways_on_one_state_dir_the_older_may_be_running_the_turn(
    world: World, openclaw: Openclaw, lock_gateway: Any
) -> None:
    """The start of the younger one, which holds the lock, proves nothing about a turn that the older one began."""
    env = {"OPENCLAW_STATE_DIR": str(world.state)}
    older = openclaw(**env)
    alone = lock_gateway(world, older, start_ticks(older.pid))
    younger = openclaw(**env)
    while start_ticks(younger.pid) == start_ticks(older.pid):
        younger = openclaw(**env)  # started within one tick of each other: once more
    both = lock_gateway(world, younger, start_ticks(younger.pid))
    assert alone.state == both.state == "running"
    assert both.since == alone.since


def test_hazard_20_a_gateway_of_another_home_is_not_ours(world: World, openclaw: Openclaw) -> None:
    openclaw(OPENCLAW_STATE_DIR=str(world.folder / "elsewhere"))
    found = running_gateway(StateDir(str(world.state), str(world.state / "openclaw.json")))
    assert found.state == ("absent" if sees_all_processes() else "unknown")
