"""What strace tells of a process, and what it does to it at one system call.

`when=N` of strace counts per name and thread from the moment it attaches, so a point is named by both.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BEGIN = "clawmend-marker-begin"
END = "clawmend-marker-end"

KILL = "kill"
EIO = "EIO"
ENOSPC = "ENOSPC"

_INSIDE = re.compile(
    r"mmap|munmap|mremap|brk|madvise|mprotect|futex|clock_\w+|get(timeofday|pid|tid|e?[ug]id|random)|sched_yield|rt_sig\w+"
    r"|restart_syscall"
)
"""Changes nothing outside the process, and how often is the allocator's affair: killed at as well (the disk is then as
it is at the next call), but never failed, and not counted when two runs are compared."""

_USES_A_DISK = re.compile(
    r"open(at)?|p?(read|write)(v|64)?|f(data)?sync|rename(at2?)?|(un)?link(at)?|[fl]?stat|newfstatat|statx|fcntl|flock"
    r"|utimensat|ftruncate|fallocate|getdents64|f?access(at2?)?|readlink(at)?|f?chown|f?chmod|mkdir(at)?"
)
"""Failed with EIO. Not `close`, and not the giving up of a lock or a lease by `fcntl`: strace skips the call that it
fails, so the descriptor would stay open and the lock held, which the kernel never does. Not `lseek`, `dup`, `ioctl`,
`poll` and the like: they do not touch a disk."""

_ASKS_FOR_ROOM = re.compile(
    r"p?write(v|64)?|f(data)?sync|rename(at2?)?|(un)?link(at)?|utimensat|ftruncate|fallocate|mkdir(at)?"
)
"""Failed with ENOSPC, and `open` with O_CREAT. The rest never asks for room."""

GATEWAY_TOLD = "<pipe:"
"""Stands in the calls by which a test tells the gateway beside us what to do, and waits for it."""

_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: the `ordinal`-th of this `name` since strace attached."""

    name: str
    ordinal: int
    text: str

    @property
    def inside(self) -> bool:
        return _INSIDE.fullmatch(self.name) is not None or GATEWAY_TOLD in self.text

    def at(self, folder: Path) -> bool:
        """Whether it is about something below `folder`."""
        return f"{folder}/" in self.text or f"{folder}>" in self.text or f'{folder}"' in self.text

    def can(self, fault: str) -> bool:
        if fault == KILL:
            return True
        if "F_UNLCK" in self.text or END in self.text or GATEWAY_TOLD in self.text:
            return False
        if fault == EIO:
            return _USES_A_DISK.fullmatch(self.name) is not None
        return _ASKS_FOR_ROOM.fullmatch(self.name) is not None or "O_CREAT" in self.text


@dataclass(frozen=True, slots=True)
class Trace:
    """The main thread's calls, in order, from the begin marker (not in it) to the end marker (in it)."""

    calls: tuple[Call, ...]
    injected: bool
    """Whether a call was failed by strace between the markers."""
    killed: bool

    @property
    def outward(self) -> list[str]:
        """The names of the calls by which two runs are compared."""
        return [c.name for c in self.calls if not c.inside]


def parse(text: str, pid: int) -> Trace:
    counts: Counter[str] = Counter()
    calls: list[Call] = []
    begun = ended = injected = False
    for line in text.splitlines():
        match = _CALL.match(line)
        if match is None or int(match[1]) != pid:
            continue
        name, rest = match[2], match[3]
        counts[name] += 1
        if begun and not ended:
            calls.append(Call(name, counts[name], rest))
            injected = injected or "(INJECTED)" in rest
            ended = END in rest
        begun = begun or BEGIN in rest
    return Trace(tuple(calls), injected, f"{pid} +++ killed by SIGKILL" in re.sub(r" +", " ", text))


class Watched:
    """A process under strace from now on, to its end; with `fault`, that happens to it at `call`."""

    def __init__(self, pid: int, log: Path, call: Call | None = None, fault: str = KILL) -> None:
        self._pid = pid
        self._log = log
        how = "signal=KILL" if fault == KILL else f"error={fault}"
        inject = ["-e", f"inject={call.name}:{how}:when={call.ordinal}"] if call else []
        command = [_strace(), "-f", "-y", "-s", "0", "-o", str(log), *inject, "-p", str(pid)]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        said = self._strace.stderr.readline() if self._strace.stderr else b""
        if b"attached" not in said:
            self.ended()
            raise CannotTrace(said.decode(errors="replace").strip() or "strace says nothing")

    def ended(self) -> Trace:
        """What it did. The process has ended before."""
        try:
            self._strace.wait(10)
        except subprocess.TimeoutExpired:
            self._strace.kill()
            self._strace.wait()
        if self._strace.stderr:
            self._strace.stderr.close()
        return parse(self._log.read_text(errors="replace") if self._log.exists() else "", self._pid)


class CannotTrace(Exception):
    """strace could not attach."""


def _strace() -> str:
    return shutil.which("strace") or "strace"


@cache
def why_not() -> str | None:
    """Why no process can be traced here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    waiting = f"import sys; from {__name__} import let_me_be_traced as let; let(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probe:
        assert probe.stdin is not None and probe.stdout is not None
        try:
            probe.stdout.readline()
            tracer = Watched(probe.pid, Path(os.devnull))
        except (OSError, CannotTrace) as error:
            return f"strace may not attach to a process here: {error}"
        finally:
            probe.stdin.close()
            probe.wait(20)
        tracer.ended()
    return None


def let_me_be_traced() -> None:
    """Where Yama lets only parents trace, let anybody (the strace beside us) trace this process."""
    import ctypes

    pr_set_ptracer, anybody = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(pr_set_ptracer, anybody, 0, 0, 0)


GO = signal.SIGUSR1
