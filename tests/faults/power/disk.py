"""Small images of real file systems: made, mounted, copied at the instant of a power cut."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_PART = 1 << 18
_BTRFS_START_SYNC = 0x8008_9418
_BTRFS_WAIT_SYNC = 0x4008_9416
_WRITE_AND_WAIT = 7


class CannotMount(Exception):
    """`mount` or `mkfs` failed; says why."""


class NeverStill(Exception):
    """The file system kept writing by itself, so that no instant could be copied."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system, as small as it can be made. Its own timer is set so late that only an fsync writes."""

    name: str
    package: str
    mkfs: tuple[tuple[str, ...], ...]
    """The first that works is used: not every version knows every option."""
    options: str
    size: int

    @property
    def kind(self) -> str:
        return self.name.split()[0]


_MKFS_EXT4 = (("mkfs.ext4", "-q", "-F", "-b", "4096"),)
DISKS = (
    Disk("ext4", "e2fsprogs", _MKFS_EXT4, "loop,commit=300", 24 * MIB),
    Disk("ext4 noauto_da_alloc", "e2fsprogs", _MKFS_EXT4, "loop,commit=300,noauto_da_alloc", 24 * MIB),
    Disk(
        "xfs",
        "xfsprogs",
        (("mkfs.xfs", "-q", "-f", "--unsupported"), ("mkfs.xfs", "-q", "-f")),
        "loop,nouuid",
        64 * MIB,
    ),
    Disk("btrfs", "btrfs-progs", (("mkfs.btrfs", "-q", "-f"),), "loop,commit=300", 128 * MIB),
)


def missing(disk: Disk, folder: Path) -> str | None:
    """What is missing here to cut the power of `disk`; None when nothing is."""
    if os.geteuid() != 0:
        return "a power cut is tried on loop devices, which only root may mount: sudo make test-faults"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices: modprobe loop, or a machine (not a container) with them"
    program = disk.mkfs[0][0]
    if shutil.which(program) is None:
        return f"{program} is missing: apt-get install {disk.package}"
    with suppress(FileExistsError):
        (folder / "mnt").mkdir()
    try:
        image = format_image(disk, folder / "probe.img")
        with mounted(disk, image, folder / "mnt"):
            return None
    except CannotMount as error:
        return f"no image of {disk.name} can be mounted here ({error}): a kernel with {disk.kind} and loop devices"
    finally:
        (folder / "probe.img").unlink(missing_ok=True)


def format_image(disk: Disk, image: Path, size: int = 0) -> Path:
    """A new, empty image of `disk`. Raises CannotMount."""
    said = ""
    for command in disk.mkfs:
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(max(size, disk.size if "--unsupported" in command or disk.kind != "xfs" else 320 * MIB))
        done = subprocess.run([*command, str(image)], check=False, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return image
        said = done.stderr.strip()
    raise CannotMount(said)


@contextmanager
def mounted(disk: Disk, image: Path, at: Path) -> Iterator[Path]:
    """`image` mounted at `at`; unmounted and detached whatever happens. Raises CannotMount."""
    command = ["mount", "-t", disk.kind, "-o", disk.options, str(image), str(at)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise CannotMount(done.stderr.strip())
    loop = loop_device(at)
    try:
        yield at
    finally:
        unmount(at, loop)


def loop_device(at: Path) -> Path:
    """The loop device that `mount` has made for us, as /sys has it."""
    found = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", "--mountpoint", str(at)], capture_output=True, text=True, check=True
    )
    return Path("/sys/block", Path(found.stdout.strip()).name)


def unmount(at: Path, loop: Path) -> None:
    """The loop device was made by `mount`, so it goes away with the mount: as soon as nobody looks at it any more."""
    gone = subprocess.run(["umount", str(at)], check=False, capture_output=True, text=True, timeout=60)
    if gone.returncode != 0 and os.path.ismount(at):
        subprocess.run(["umount", "--lazy", str(at)], capture_output=True, timeout=60, check=True)
        raise AssertionError(f"something still holds a file of the image: {gone.stderr.strip()}")
    deadline = time.monotonic() + 20
    while _backed_by(loop).startswith(str(at.parent)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _backed_by(loop: Path) -> str:
    try:
        return (loop / "loop" / "backing_file").read_text()
    except OSError:
        return ""


def flush(at: Path) -> None:
    """Everything on this file system, and on no other, is on the disk."""
    subprocess.run(["sync", "-f", str(at)], check=True, timeout=60)


def bystander(disk: Disk, at: Path) -> None:
    """Another process syncs a file of its own: the journal is forced, with whatever of ours is in it."""
    fd = os.open(at / "bystander", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"x" * 100)
        os.fsync(fd)
        if disk.kind == "btrfs":  # an fsync there logs its own file only; this is what comes every 30 s
            transaction = ctypes.c_uint64()
            fcntl.ioctl(fd, _BTRFS_START_SYNC, transaction)
            fcntl.ioctl(fd, _BTRFS_WAIT_SYNC, transaction)
    finally:
        os.close(fd)


def flusher(fds: list[int]) -> None:
    """The kernel writes out bytes, as it does by itself after a while: no journal and no name goes with them."""
    for fd in fds:
        if _sync_file_range(fd, 0, 0, _WRITE_AND_WAIT) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _load_sync_file_range() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).sync_file_range
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_sync_file_range = _load_sync_file_range()


@dataclass(frozen=True, slots=True)
class Cut:
    """What a disk held at one instant."""

    image: Path
    digest: str


class Power:
    """Cuts the power of one mounted image: copies what has arrived on the disk so far."""

    def __init__(self, image: Path, at: Path, copies: Path) -> None:
        self._image = image
        self._copies = copies
        self._known: dict[str, Cut] = {}
        self._stat = loop_device(at) / "stat"

    def cut(self) -> Cut:
        """A copy of this instant: of two that are the same there is one. Raises NeverStill."""
        copy = self._copies / f"{len(self._known)}.img"
        for _ in range(50):
            writes, under_way = self._writes()
            digest = copy_image(self._image, copy)
            if under_way == "0" and self._writes() == (writes, "0"):
                break
        else:
            raise NeverStill(str(self._image))
        if digest in self._known:
            copy.unlink()
        return self._known.setdefault(digest, Cut(copy, digest))

    def _writes(self) -> tuple[str, str]:
        """Writes that the device has done, and requests that are under way."""
        fields = self._stat.read_text().split()
        return fields[4], fields[8]


def copy_image(image: Path, copy: Path) -> str:
    """Copy what was ever written of a sparse file; gives a digest of it."""
    digest = hashlib.sha256()
    source = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(source).st_size
        os.ftruncate(target, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(source, at, os.SEEK_HOLE)
            while at < end:
                part = os.pread(source, min(_PART, end - at), at)
                if part.strip(b"\0"):
                    digest.update(at.to_bytes(8, "little"))
                    digest.update(part)
                    os.pwrite(target, part, at)
                at += len(part)
    finally:
        os.close(source)
        os.close(target)
    return digest.hexdigest()
