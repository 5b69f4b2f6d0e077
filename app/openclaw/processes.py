"""Who is alive: processes by pid and start time, and the gateway that owns a state dir.

A pid alone proves nothing: pids are used again (their start time tells), and from inside a container the processes
outside cannot be seen at all. So "there is no gateway" is said only where every process of this machine is in sight
and the state dir lies on a local disk; everything less is "unknown".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.model import Gateway, TranscriptLock
from app.openclaw.folder import FileProblem, Folder
from app.openclaw.paths import StateDir, default_state_dir
from app.openclaw.trails import Place

_LIMIT = 64 << 10
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "zfs", "f2fs", "overlay", "bcachefs", "jfs"}
)
_OPENCLAW = re.compile(r"openclaw|clawdbot|moltbot", re.I)
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
    """Whether a process that is not in /proc does not exist on this machine."""
    try:
        return os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None when there is no such process in sight."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def read_transcript_lock(transcript: Place, now: int) -> TranscriptLock | None:
    """The lock beside a transcript, judged as OpenClaw would; None when there is none (section 5)."""
    try:
        with Folder(transcript.folder, transcript.root) as folder:
            data, identity = folder.read(f"{transcript.name}.lock", _LIMIT)
    except FileProblem as error:
        return None if error.code == "missing" else TranscriptLock(None, None)
    pid, ticks = _owner(data, "starttime")
    if pid is None:
        return TranscriptLock(None, False if now - identity.mtime > _STALE_LOCK_MS else None)
    current = start_ticks(pid)
    if current is not None and (ticks is None or ticks == current):
        return TranscriptLock(pid, True)
    if sees_all_processes() or now - identity.mtime > _STALE_LOCK_MS:
        return TranscriptLock(pid, False)
    return TranscriptLock(pid, None)


def find_gateway(state: StateDir, processes: tuple[Process, ...], *, boot_ms: int, hertz: int) -> Gateway:
    """The gateway of one state dir, from its lock file and from the processes in sight."""

    def started(p: Process) -> int:
        return boot_ms + p.start_ticks * 1000 // hertz

    ours = [p for p in processes if _serves(p, state) is not False]
    by_lock = {p.pid for p in ours} & set(_lock_pids(state))
    known = [p for p in ours if p.pid in by_lock or _serves(p, state)]
    if known:
        return Gateway("running", min(started(p) for p in ours), f"process {known[0].pid}")
    if ours:
        return Gateway("unknown", None, f"process {ours[0].pid} may be a gateway")
    if not sees_all_processes():
        return Gateway("unknown", None, "the processes of this machine are not all in sight (a container?)")
    if not is_local(state.path):
        return Gateway("unknown", None, "the state dir is not on a local disk")
    return Gateway("absent", None, "no OpenClaw process runs on this machine")


def running_gateway(state: StateDir) -> Gateway:
    """The gateway of one state dir at this moment. Raises OSError where /proc cannot be read."""
    if not os.path.isdir("/proc/self"):
        return Gateway("unknown", None, "this system has no /proc to look for a gateway in")
    return find_gateway(state, openclaw_processes(), boot_ms=boot_time_ms(), hertz=os.sysconf("SC_CLK_TCK"))


def openclaw_processes() -> tuple[Process, ...]:
    """Every process in sight that may be an OpenClaw gateway."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        words = _read_proc(name, "comm") + " " + _read_proc(name, "cmdline").replace("\0", " ")
        if not _OPENCLAW.search(words) and not _RUNTIME_GATEWAY.search(words):
            continue
        ticks = start_ticks(int(name))
        if ticks is not None and int(name) != os.getpid():
            pairs = (item.partition("=") for item in _read_proc(name, "environ").split("\0"))
            found.append(Process(int(name), ticks, words, {k: v for k, _, v in pairs if k} or None))
    return tuple(found)


def boot_time_ms() -> int:
    with open("/proc/stat", "rb") as file:
        return next((int(line.split()[1]) * 1000 for line in file if line.startswith(b"btime")), 0)


def is_local(path: str) -> bool:
    """Whether `path` lies on a disk that no other machine writes to."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                mount = left.split()[4].replace("\\040", " ")
                inside = real == mount or real.startswith(mount.rstrip("/") + "/")
                if inside and len(mount) >= len(best):
                    best, kind = mount, right.split()[0]
    except (OSError, IndexError):
        return False
    return kind in _LOCAL


def _serves(process: Process, state: StateDir) -> bool | None:
    """Whether `process` works on this state dir; None when its environment cannot be read."""
    if process.environ is None:
        return None
    return os.path.realpath(default_state_dir(process.environ)) == os.path.realpath(state.path)


def _lock_pids(state: StateDir) -> list[int]:
    """Pids in the gateway's singleton locks for this configuration, still the process that wrote them (section 1)."""
    pids = []
    digest = hashlib.sha256(state.config_path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    for temp in dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/tmp")):  # noqa: S108
        try:
            with Folder(os.path.join(temp, f"openclaw-{os.getuid()}")) as folder:
                data, _ = folder.read(f"gateway.{digest}.lock", _LIMIT)
        except FileProblem:
            continue
        pid, ticks = _owner(data, "startTime")
        if pid is not None and (current := start_ticks(pid)) is not None and ticks in (None, current):
            pids.append(pid)
    return pids


def _owner(data: bytes, ticks_name: str) -> tuple[int | None, int | None]:
    try:
        lock = json.loads(data)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(lock, dict):
        return None, None
    pid, ticks = lock.get("pid"), lock.get(ticks_name)
    valid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31
    return (pid if valid else None), (ticks if isinstance(ticks, int) else None)


def _read_proc(pid: str, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
