"""Who is alive, asked of real processes: locks of transcripts, and the gateway of a state dir."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.audit.log import AuditLog
from app.domain.model import Gateway, TranscriptLock
from app.openclaw.paths import StateDir
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.processes import (
    Bystanders,
    boot_time_ms,
    find_gateway,
    is_local,
    openclaw_processes,
    read_transcript_lock,
    sees_all_processes,
    start_ticks,
)
from app.openclaw.sessions_json import read_rows
from app.reconcile.reconciler import Reconciler
from tests.world import HeldClock, World, finding_of, run_pass

TOP = Path(__file__).parents[2]
HERTZ = os.sysconf("SC_CLK_TCK")
HALF_HOUR = 30 * 60 * 1000
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a waiting shell that calls itself `openclaw`, as a gateway does, with just this environment."""
    with ExitStack() as running:

        def begin(
            *words: str, program: str | Path = "/bin/sh", cwd: Path | None = None, answers: bool = True, **env: str
        ) -> subprocess.Popen[bytes]:
            pipe = subprocess.PIPE
            process = running.enter_context(
                subprocess.Popen(words or ("openclaw",), executable=program, env=env, cwd=cwd, stdin=pipe, stdout=pipe)
            )
            running.callback(process.kill)
            if answers:  # before it does, its words may not stand in /proc yet
                assert process.stdin and process.stdout
                process.stdin.write(b"echo here\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"here\n"
            return process

        yield begin


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    path = tmp_path / "home" / ".openclaw"
    path.mkdir(parents=True)
    return StateDir(str(path), str(path / "openclaw.json"))


def gateway(state: StateDir, *processes: subprocess.Popen[bytes]) -> Gateway:
    """What is found when only these processes run OpenClaw on this machine."""
    pids = {p.pid for p in processes}
    seen = tuple(p for p in openclaw_processes() if p.pid in pids)
    return find_gateway(state, seen, boot_ms=boot_time_ms(), hertz=HERTZ)


def nobody(state: StateDir) -> str:
    """What is to be said where no process is found: in a container, or on a network disk, nobody knows."""
    return "absent" if sees_all_processes() and is_local(state.path) else "unknown"


def take_gateway_lock(state: StateDir, pid: int, ticks: int | None, created_at: float) -> None:
    """As gateway-lock-BXavAMF0.js does: `<tmp>/openclaw-<uid>/gateway.<sha256 of the config's path, 8 digits>.lock`."""
    digest = hashlib.sha256(state.config_path.encode()).hexdigest()[:8]
    lock = Path(os.environ["TMPDIR"]) / f"openclaw-{os.getuid()}" / f"gateway.{digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    made = datetime.fromtimestamp(created_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    payload = {"pid": pid, "createdAt": made, "configPath": state.config_path, "startTime": ticks}
    lock.write_text(json.dumps({k: v for k, v in payload.items() if v is not None}, separators=(",", ":")))


# Looking for a gateway again and again


@dataclass
class Aging:
    """Bystanders on a clock that is held, to whom every process is as old as the test says."""

    bystanders: Bystanders
    clock: HeldClock

    def finds(self, process: subprocess.Popen[bytes]) -> bool:
        return process.pid in {p.pid for p in openclaw_processes(self.bystanders)}


@pytest.fixture
def aging(monkeypatch: pytest.MonkeyPatch) -> Aging:
    monkeypatch.setattr(Bystanders, "YOUNG", 0.0)
    clock = HeldClock()
    return Aging(Bystanders(clock), clock)


def takes_the_name_of_a_gateway(process: subprocess.Popen[bytes]) -> None:
    """By exec, as a wrapper does."""
    assert process.stdin and process.stdout
    process.stdin.write(b"exec -a openclaw sh\necho here\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"here\n"


def test_a_gateway_that_has_begun_since_is_found_and_one_that_has_ended_is_not(aging: Aging, start: Start) -> None:
    openclaw_processes(aging.bystanders)
    process = start()
    assert aging.finds(process)
    assert aging.finds(process)
    process.kill()
    process.wait()
    assert not aging.finds(process)


def test_a_process_that_becomes_a_gateway_is_found_half_a_minute_later_at_most(aging: Aging, start: Start) -> None:
    process = start("bash", program="/bin/bash")
    assert not aging.finds(process)
    takes_the_name_of_a_gateway(process)
    assert not aging.finds(process)
    assert process.pid in {p.pid for p in openclaw_processes()}
    aging.clock.advance(Bystanders.BELIEVED_FOR)
    assert aging.finds(process)


def test_a_process_that_has_just_begun_is_looked_at_each_time(start: Start) -> None:
    young = Aging(Bystanders(HeldClock()), HeldClock())
    process = start("bash", program="/bin/bash")
    assert not young.finds(process)
    takes_the_name_of_a_gateway(process)
    assert young.finds(process)


def test_a_pass_asks_who_there_is_and_a_repair_looks_at_all_of_them(
    world: World, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bystanders, "YOUNG", 0.0)
    world.stuck()
    process = start("bash", program="/bin/bash", HOME=world.env["HOME"], OPENCLAW_STATE_DIR=str(world.state))
    audit = AuditLog(world.database_url)
    audit.migrate()
    reconciler = Reconciler(world.settings(), world.clock, audit, world.env)
    found = finding_of(run_pass(reconciler))
    takes_the_name_of_a_gateway(process)
    passing, now = (
        finding_of(run_pass(reconciler)),
        reconciler.scanner.judge_row(found.target, read_rows(world.store().read_bytes()), found.key),
    )
    audit.dispose()
    assert now is not None
    assert str(process.pid) not in passing.evidence.gateway.reason
    assert str(process.pid) in now.evidence.gateway.reason


# The lock of a transcript


def lock_of(tmp_path: Path, content: object, *, age_ms: int = 0) -> TranscriptLock | None:
    lock = tmp_path / "s.jsonl.lock"
    data = content if isinstance(content, bytes) else (json.dumps(content, indent=2) + "\n").encode()
    lock.write_bytes(data)
    now = int(time.time() * 1000)
    os.utime(lock, ns=(0, (now - age_ms) * 1_000_000))
    return lock_beside(Place(str(tmp_path), str(tmp_path), "s.jsonl"), now)


def lock_beside(transcript: Place, now: int = 0) -> TranscriptLock | None:
    with OpenPlaces() as places:
        return read_transcript_lock(transcript, now, places)


def test_no_lock_is_no_lock(tmp_path: Path) -> None:
    here = Place(str(tmp_path), str(tmp_path), "s.jsonl")
    assert lock_beside(here) is None
    assert lock_beside(Place(str(tmp_path), str(tmp_path / "gone"), "s.jsonl")) is None


@pytest.mark.parametrize("age_ms", [0, 10 * HALF_HOUR])
def test_a_lock_of_a_living_process_is_live_however_old(tmp_path: Path, start: Start, age_ms: int) -> None:
    """OpenClaw reports a live owner's lock and never removes it (field-reports, D: one was held for 28 hours)."""
    pid = start().pid
    made = {"pid": pid, "createdAt": "2026-11-22T05:55:14.747Z"}
    assert lock_of(tmp_path, {**made, "starttime": start_ticks(pid)}, age_ms=age_ms) == TranscriptLock(pid, True)
    assert lock_of(tmp_path, made, age_ms=age_ms) == TranscriptLock(pid, True), "starttime is written on Linux only"


def test_a_lock_of_a_dead_process_is_dead_where_all_processes_are_seen(tmp_path: Path, start: Start) -> None:
    process = start()
    ticks = start_ticks(process.pid)
    process.kill()
    process.wait()
    lock = lock_of(tmp_path, {"pid": process.pid, "starttime": ticks})
    assert lock == TranscriptLock(process.pid, False if sees_all_processes() else None)


def test_a_pid_that_was_used_again_does_not_keep_a_lock_alive(tmp_path: Path, start: Start) -> None:
    pid = start().pid
    lock = lock_of(tmp_path, {"pid": pid, "starttime": (start_ticks(pid) or 0) - 1})
    assert lock == TranscriptLock(pid, False if sees_all_processes() else None)


MALFORMED = [b"", b"{", b"[1]", b"5", b"\xff", b"[" * 60_000, {}, {"pid": 0}, {"pid": -1}, {"pid": "1"}, {"pid": True}]


@pytest.mark.parametrize("content", [*MALFORMED, {"pid": 1.5}, {"pid": 2**31}])
def test_a_lock_that_names_nobody_may_be_anybodys_until_it_is_stale(tmp_path: Path, content: object) -> None:
    """After 30 minutes OpenClaw takes any lock for stale (session-write-lock-Bb-tL9Bo.js:20)."""
    assert lock_of(tmp_path, content) == TranscriptLock(None, None)
    assert lock_of(tmp_path, content, age_ms=HALF_HOUR) == TranscriptLock(None, None)
    assert lock_of(tmp_path, content, age_ms=HALF_HOUR + 1) == TranscriptLock(None, False)


def test_a_lock_that_is_a_link_or_a_pipe_may_be_anybodys(tmp_path: Path) -> None:
    here = Place(str(tmp_path), str(tmp_path), "s.jsonl")
    (tmp_path / "s.jsonl.lock").symlink_to(tmp_path / "elsewhere")
    assert lock_beside(here) == TranscriptLock(None, None)
    (tmp_path / "s.jsonl.lock").unlink()
    os.mkfifo(tmp_path / "s.jsonl.lock")
    assert lock_beside(here) == TranscriptLock(None, None)


def test_the_start_of_a_process_is_read_behind_whatever_it_calls_itself(tmp_path: Path, start: Start) -> None:
    program = tmp_path / "x) R 1 (1"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o700)
    ticks = start_ticks(start(program=program).pid)
    assert ticks is not None
    assert abs(boot_time_ms() + ticks * 1000 // HERTZ - time.time() * 1000) < 10_000


# The gateway of a state dir


def test_a_process_that_holds_the_gateways_lock_is_the_gateway_since_it_started(state: StateDir, start: Start) -> None:
    process = start(OPENCLAW_STATE_DIR=state.path)
    now = time.time()
    take_gateway_lock(state, process.pid, start_ticks(process.pid), now + 60)
    found = gateway(state, process)
    assert found.state == "running"
    assert str(process.pid) in found.reason
    assert found.since is not None
    assert abs(found.since - now * 1000) < 10_000

    take_gateway_lock(state, process.pid, start_ticks(process.pid), now - 3_600)
    assert gateway(state, process).since == int(now - 3_600) * 1000, "a clock set since does not move the lock"


def test_the_lock_in_its_own_state_dir_tells_the_gateway_from_2026_8_1_on(state: StateDir, start: Start) -> None:
    """As it was found beside 2026.8.1 and 2026.9.6: JSON, and blanks behind it."""
    process = start(OPENCLAW_STATE_DIR=state.path)
    lock = Path(state.path) / "tmp" / f"openclaw-{os.getuid()}" / "gateway.state.lock"
    lock.parent.mkdir(parents=True)
    payload = {"pid": process.pid, "createdAt": "2026-11-22T17:51:13.097Z", "startTime": start_ticks(process.pid)}
    lock.write_text(json.dumps(payload, indent=2) + "\n\t\t  \t\n")
    assert gateway(state, process).state == "running"


def test_a_process_of_this_state_dir_without_the_lock_may_be_its_gateway(state: StateDir, start: Start) -> None:
    assert gateway(state, start(OPENCLAW_STATE_DIR=state.path)).state == "unknown"
    assert gateway(state, start(HOME=str(Path(state.path).parent))).state == "unknown"


@pytest.mark.parametrize(
    ("words", "may_be"),
    [(("openclaw-gateway",), True), (("clawdbot",), True), (("node", "-s", "gateway"), True), (("node",), False)],
)
def test_a_gateway_is_known_by_its_words(start: Start, words: tuple[str, ...], may_be: bool) -> None:
    pid = start(*words).pid
    assert (pid in {p.pid for p in openclaw_processes()}) is may_be


def test_a_process_of_another_state_dir_is_not_ours(state: StateDir, start: Start, tmp_path: Path) -> None:
    assert gateway(state, start(OPENCLAW_STATE_DIR=str(tmp_path / "other"))).state == nobody(state)


def test_without_any_process_there_is_no_gateway_where_all_processes_are_seen(state: StateDir) -> None:
    assert gateway(state).state == nobody(state)


def test_a_lock_that_nobody_holds_any_more_is_no_gateway(state: StateDir, start: Start) -> None:
    process = start(OPENCLAW_STATE_DIR=state.path)
    take_gateway_lock(state, process.pid, (start_ticks(process.pid) or 0) - 1, time.time())
    assert gateway(state, process).state == "unknown", "its pid was used again, by a process that may be one"
    process.kill()
    process.wait()
    assert gateway(state, process).state == nobody(state)


def test_a_lock_whose_pid_belongs_to_no_openclaw_process_is_no_gateway(state: StateDir, start: Start) -> None:
    stranger = start("sh")
    take_gateway_lock(state, stranger.pid, start_ticks(stranger.pid), time.time())
    assert gateway(state, stranger).state == nobody(state)


@pytest.mark.parametrize(
    ("name", "env"),
    [
        (".openclaw-work", {}),
        (".openclaw", {"OPENCLAW_PROFILE": "work"}),
        (".openclaw", {"OPENCLAW_STATE_DIR": ".openclaw"}),
        (".openclaw", {"OPENCLAW_HOME": "."}),
    ],
    ids=["--profile in its hidden words", "a profile alone", "a relative state dir", "a relative home"],
)
def test_a_process_whose_environment_does_not_tell_its_state_dir_may_be_the_gateway(
    state: StateDir, start: Start, name: str, env: dict[str, str]
) -> None:
    """A gateway overwrites its command line with `openclaw`, and `--profile X` sets the state dir after the start
    (entry.js, profile-DmxPejo0.js); OPENCLAW_PROFILE alone leaves it at ~/.openclaw (paths-Cnwfh6dH.js).
    """
    home = Path(state.path).parent
    path = home / name
    process = start(HOME=str(home), cwd=home, **env)
    assert gateway(StateDir(str(path), str(path / "openclaw.json")), process).state == "unknown"


def test_a_gateway_in_a_container_may_be_ours_though_it_names_another_path(
    state: StateDir, start: Start, tmp_path: Path
) -> None:
    """A path of another mount namespace means another thing here: its /home/node/.openclaw may be our state dir."""
    inside, ready = tmp_path / "node", tmp_path / "ready"
    inside.mkdir()
    script = f": openclaw; mount --bind '{state.path}' '{inside}' && : >'{ready}' && read word"
    words = (shutil.which("unshare") or pytest.skip("no unshare"), "--mount", "/bin/sh", "-c", script)
    process = start(*words, program=words[0], answers=False, PATH=os.defpath, OPENCLAW_STATE_DIR=str(inside))
    deadline = time.monotonic() + 10
    while not ready.exists():
        if process.poll() is not None:
            pytest.skip("this user may not mount")
        assert time.monotonic() < deadline
    assert gateway(state, process).state == "unknown"


def test_from_inside_a_container_nobody_says_that_there_is_no_gateway(state: StateDir) -> None:
    code = (
        "from app.openclaw.processes import *\nfrom app.openclaw.paths import StateDir\n"
        f"print(sees_all_processes(), running_gateway(StateDir({state.path!r}, {state.config_path!r})).state)"
    )
    command = [
        shutil.which("unshare") or pytest.skip("no unshare"),
        "--pid",
        "--fork",
        "--mount-proc",
        sys.executable,
        "-c",
        code,
    ]
    answer = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("this user may not make a pid namespace")
    assert answer.stdout.split() == ["False", "unknown"]


def test_the_lock_of_a_process_in_a_container_is_live_though_it_names_a_pid_of_the_containers_own(
    tmp_path: Path,
) -> None:
    """Clawmend on the machine, its gateway in a container: pid 1 there is no pid 1 here."""
    unshare = shutil.which("unshare") or pytest.skip("no unshare")
    command = [unshare, "--pid", "--fork", "/bin/sh", "-c", "echo here; read word"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outside:
        assert outside.stdin and outside.stdout
        if outside.stdout.readline() != b"here\n":
            pytest.skip("this user may not make a pid namespace")
        (inside,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        lock = {"pid": 1, "starttime": start_ticks(int(inside))}
        assert lock_of(tmp_path, lock) == TranscriptLock(1, True)
        outside.stdin.close()
    assert lock_of(tmp_path, lock) == TranscriptLock(1, False if sees_all_processes() else None)


def test_where_other_users_processes_are_hidden_nobody_says_that_there_is_no_gateway() -> None:
    """`hidepid=` on /proc, or `ProtectProc=` in a unit: a gateway of root's would not be in sight."""
    tools = [shutil.which(t) or pytest.skip(f"no {t}") for t in ("unshare", "setpriv", "mount")]
    if os.getuid() != 0:
        pytest.skip("only root may mount /proc anew")
    code = "from app.openclaw.processes import *; print(sees_all_processes())"
    as_nobody = f"{tools[1]} --reuid 65534 --regid 65534 --clear-groups {sys.executable} -c '{code}'"
    for options, seen in (("hidepid=0", str(sees_all_processes())), ("hidepid=1", "False"), ("hidepid=2", "False")):
        script = f"{tools[2]} -t proc -o {options} proc /proc && {as_nobody}"
        command = [tools[0], "--mount", "/bin/sh", "-c", script]
        answer = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            pytest.skip(f"/proc cannot be mounted with {options}: {answer.stderr}")
        assert answer.stdout.strip() == seen, options


@pytest.mark.parametrize(("path", "local"), [("/proc", False), ("/sys/kernel", False), ("/dev/shm/not/there", True)])
def test_only_a_disk_of_this_machine_is_local(tmp_path: Path, path: str, local: bool) -> None:
    """/proc and /sys stand for every file system that is not known to be a disk; /dev/shm is a tmpfs."""
    if not Path("/dev/shm").is_mount():
        pytest.skip("an unusual machine")
    assert is_local(path) is local
    (tmp_path / "link").symlink_to(path)
    assert is_local(str(tmp_path / "link")) is local


def test_the_gateway_of_a_state_dir_elsewhere_may_run_on_another_machine(start: Start) -> None:
    assert gateway(StateDir("/proc/self", "/proc/self/openclaw.json")).state == "unknown"
