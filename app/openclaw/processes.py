"""Who is alive: processes by pid and start time, and the gateway that owns a state dir.

A pid alone proves nothing: pids are used again (their start time tells), a container counts its own, and from inside
one the processes outside cannot be seen at all. So "there is no gateway" is said only where every process of this
machine is in sight and the state dir lies on a local disk; everything less is "unknown".
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from app.clock import Clock
from app.domain.model import Gateway, TranscriptLock
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StateDir, default_state_dir, expand_home, home_dir
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.trajectory import parse_ts

_LIMIT = 64 << 10
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "zfs", "f2fs", "overlay", "bcachefs", "jfs"}
)
_OPENCLAW = ("openclaw", "clawdbot", "moltbot")
_RUNTIME_GATEWAY = re.compile(r"\b(node|bun|deno)\b.*\bgateway\b", re.S)
_STALE_LOCK_MS = 30 * 60 * 1000
"""After this time OpenClaw itself takes a lock for stale (session-write-lock-Bb-tL9Bo.js:20-26)."""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    start_ticks: int
    words: str
    """Its title and command line, for recognising it."""
    environ: Mapping[str, str] | None = None


def sees_all_processes() -> bool:
    """Whether a process that is not in /proc does not exist on this machine.

    The first process is root's: where it is not in sight, /proc is mounted with `hidepid=` (as systemd's `ProtectProc=`
    does it) and another user's gateway would not be either.
    """
    try:
        return os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE and start_ticks(1) is not None
    except OSError:
        return False


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None when there is no such process in sight."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def read_transcript_lock(transcript: Place, now: int, places: OpenPlaces) -> TranscriptLock | None:
    """The lock beside a transcript, judged as OpenClaw would; None when there is none (section 5)."""
    try:
        data, identity = places.read(transcript._replace(name=f"{transcript.name}.lock"), _LIMIT)
    except FileProblem as error:
        return None if error.code == "missing" else TranscriptLock(None, None)
    pid, ticks, _ = _owner(data, "starttime")
    if pid is None:
        return TranscriptLock(None, False if now - identity.mtime > _STALE_LOCK_MS else None)
    current = start_ticks(pid)
    if current is not None and (ticks is None or ticks == current):
        return TranscriptLock(pid, True)
    if _lives_in_a_container(pid, ticks):
        return TranscriptLock(pid, True)
    if sees_all_processes() or now - identity.mtime > _STALE_LOCK_MS:
        return TranscriptLock(pid, False)
    return TranscriptLock(pid, None)


def _lives_in_a_container(pid: int, ticks: int | None) -> bool:
    """Whether a process in sight is called `pid` in a pid namespace below ours: a container's lock names that one."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            called = next((w.split()[1:] for w in _read_proc(name, "status").splitlines() if w[:6] == "NSpid:"), [])
            if len(called) > 1 and called[-1] == str(pid) and ticks in (None, start_ticks(int(name))):
                return True
    return False


def find_gateway(state: StateDir, processes: tuple[Process, ...], *, boot_ms: int, hertz: int) -> Gateway:
    """The gateway of one state dir, from its singleton lock and from the processes in sight.

    "running since" is said only of the process that holds the lock, and means the earliest moment that speaks for it:
    its start by the kernel, its lock's `createdAt` (which a clock set since does not move), and the start of any other
    process that may work on this state dir.
    """
    if not is_local(state.path):
        return Gateway("unknown", None, "the state dir is not on a local disk: another machine may run its gateway")
    ours = [p for p in processes if _serves(p, state) is not False]
    pids = {p.pid for p in processes}
    locks = [lock for lock in _gateway_locks(state) if lock.pid in pids] if pids else []
    if locks:
        starts = [boot_ms + p.start_ticks * 1000 // hertz for p in processes if p in ours or p.pid == locks[0].pid]
        return Gateway("running", min([*starts, *(k.created_at for k in locks)]), f"process {locks[0].pid}")
    if ours:
        return Gateway("unknown", None, f"process {ours[0].pid} may be a gateway")
    if not sees_all_processes():
        return Gateway("unknown", None, "the processes of this machine are not all in sight (a container?)")
    return Gateway("absent", None, "no process on this machine works on this state dir")


class Bystanders:
    """Processes that are no gateway by the words they had: for whoever looks again and again. One thread at a time.

    A process may become another (exec, a title of its own). One that has just begun, as a gateway's wrapper has, is
    looked at each time (for `YOUNG` seconds), and none is taken for what it was for longer than `BELIEVED_FOR` seconds.
    """

    BELIEVED_FOR = 30.0
    YOUNG = 10.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        """By pid; by the monotonic clock."""

    def others(self, pids: list[str]) -> list[str]:
        """Of `pids`, which are all that there are now, those that must be looked at."""
        now = self._clock.monotonic()
        self._until = {pid: self._until[pid] for pid in pids if self._until.get(pid, 0.0) > now}
        return [pid for pid in pids if pid not in self._until]

    def add(self, pid: str) -> None:
        ticks = start_ticks(int(pid))
        alive_for = time.clock_gettime(time.CLOCK_BOOTTIME) - (ticks or math.inf) / os.sysconf("SC_CLK_TCK")
        if alive_for >= self.YOUNG:
            self._until[pid] = self._clock.monotonic() + self.BELIEVED_FOR


def running_gateway(state: StateDir, bystanders: Bystanders | None = None) -> Gateway:
    """The gateway of one state dir at this moment; with `bystanders`, who is known to be none is not looked at.

    Raises OSError where /proc cannot be read.
    """
    if not os.path.isdir("/proc/self"):
        return Gateway("unknown", None, "this system has no /proc to look for a gateway in")
    found = openclaw_processes(bystanders)
    boot_ms = boot_time_ms() if found else 0
    return find_gateway(state, found, boot_ms=boot_ms, hertz=os.sysconf("SC_CLK_TCK"))


def openclaw_processes(bystanders: Bystanders | None = None) -> tuple[Process, ...]:
    """Every process in sight that may be an OpenClaw gateway."""
    found = []
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    for name in pids if bystanders is None else bystanders.others(pids):
        words = _read_proc(name, "comm") + " " + _read_proc(name, "cmdline").replace("\0", " ")
        if not _may_be_openclaw(words):
            if bystanders is not None:
                bystanders.add(name)
            continue
        ticks = start_ticks(int(name))
        if ticks is not None and int(name) != os.getpid():
            # Paths of another mount namespace (a container) cannot be compared with ours.
            environ = _read_proc(name, "environ") if _same_mounts(name) else ""
            pairs = (item.partition("=") for item in environ.split("\0"))
            found.append(Process(int(name), ticks, words, {k: v for k, _, v in pairs if k} or None))
    return tuple(found)


def _may_be_openclaw(words: str) -> bool:
    # Not one expression that ignores case: over all processes it took half of what it takes to look for a gateway.
    lower = words.lower()
    return any(name in lower for name in _OPENCLAW) or ("gateway" in words and bool(_RUNTIME_GATEWAY.search(words)))


def _same_mounts(pid: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def boot_time_ms() -> int:
    with open("/proc/stat", "rb") as file:
        return next((int(line.split()[1]) * 1000 for line in file if line.startswith(b"btime")), 0)


def is_local(path: str) -> bool:
    """Whether `path` lies on a disk that no other machine writes to."""
    real = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", "rb", buffering=0) as file:
            return _file_system(real, file.read()) in _LOCAL
    except (OSError, IndexError):
        return False


@lru_cache(maxsize=8)
def _file_system(real: str, mounts: bytes) -> str:
    """The kind that `real` lies on, of `mounts` (mountinfo): asked in every pass, and they hardly ever change."""
    best, kind = "", ""
    for line in filter(None, mounts.decode("utf-8", "replace").split("\n")):
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def _serves(process: Process, state: StateDir) -> bool | None:
    """Whether `process` works on this state dir; None when its environment does not tell.

    Without OPENCLAW_STATE_DIR it may be any profile's of its home: `--profile` works after the start, unseen.
    """
    env = process.environ
    if env is None:
        return None
    ours, home = os.path.realpath(state.path), home_dir(env)
    given = (env.get("OPENCLAW_STATE_DIR") or "").strip()
    if given:
        path = expand_home(given, home)
        return os.path.realpath(path) == ours if os.path.isabs(path) else None
    word = (env.get("OPENCLAW_HOME") or "").strip()
    if word and not word.startswith(("/", "~")):
        return None
    beside = os.path.dirname(ours) == os.path.realpath(home) and os.path.basename(ours).startswith(
        (".openclaw", ".clawdbot")
    )
    return None if beside or ours == os.path.realpath(default_state_dir(env)) else False


@dataclass(frozen=True, slots=True)
class _GatewayLock:
    pid: int
    created_at: int


def _gateway_locks(state: StateDir) -> list[_GatewayLock]:
    """The gateway's singleton locks for this configuration, of a process that is still the one that wrote them."""
    locks = []
    own = f"openclaw-{os.getuid()}"
    digest = hashlib.sha256(state.config_path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    temps = dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/tmp"))  # noqa: S108
    places = [(temp, f"gateway.{digest}.lock") for temp in temps]
    places.append((os.path.join(state.path, "tmp"), "gateway.state.lock"))  # from 2026.8.1 on
    for temp, name in places:
        try:
            with Folder(os.path.join(temp, own)) as folder:
                data, identity = folder.read(name, _LIMIT)
        except FileProblem:
            continue
        pid, ticks, created_at = _owner(data, "startTime")
        if pid is not None and ticks is not None and start_ticks(pid) == ticks:
            locks.append(_GatewayLock(pid, created_at if created_at is not None else identity.mtime))
    return locks


def _owner(data: bytes, ticks_name: str) -> tuple[int | None, int | None, int | None]:
    """Pid, start ticks and creation time that a lock file names."""
    try:
        lock = json.loads(data)
    except (ValueError, RecursionError):
        return None, None, None
    if not isinstance(lock, dict):
        return None, None, None
    pid, ticks = lock.get("pid"), lock.get(ticks_name)
    valid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31
    return (pid if valid else None), (ticks if isinstance(ticks, int) else None), parse_ts(lock.get("createdAt"))


def _read_proc(pid: str, name: str) -> str:
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _LIMIT).decode("utf-8", "replace")  # one read is all of it: so the kernel writes these
    except OSError:
        return ""
    finally:
        os.close(fd)
