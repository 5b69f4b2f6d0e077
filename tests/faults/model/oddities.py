"""A store or a trajectory that is not what it should be, for a while: a link, a second name, half a file."""

from __future__ import annotations

import os
from pathlib import Path

STORE_ODDITIES = ("link", "second name", "half", "empty", "no object", "pipe", "folder")
UNREADABLE = ("half", "empty", "no object")


class Oddities:
    def __init__(self, sessions: Path, elsewhere: Path) -> None:
        self._sessions = sessions
        self._store = sessions / "sessions.json"
        self._elsewhere = elsewhere
        self._elsewhere.mkdir()
        self.of_the_store: str | None = None
        self.as_turned: object = None
        """The store as it was then."""
        self.linked: set[str] = set()
        """Names of the trajectories that are links."""

    def turn_store(self, kind: str) -> None:
        self.of_the_store = kind
        self._turn(kind)
        self.as_turned = self.seen()

    def _turn(self, kind: str) -> None:
        aside = self._elsewhere / "store"
        if kind == "second name":
            os.link(self._store, aside)
            return
        data = self._store.read_bytes()
        os.rename(self._store, aside)
        if kind == "link":
            os.symlink(aside, self._store)
        elif kind == "pipe":
            os.mkfifo(self._store, 0o600)
        elif kind == "folder":
            self._store.mkdir()
        else:
            self._store.write_bytes({"half": data[: len(data) // 2], "empty": b"", "no object": b"[]"}[kind])
            self._store.chmod(0o600)

    def is_parted(self) -> bool:
        """Whether the store was given a second name, and another file is the store now."""
        aside = self._elsewhere / "store"
        return self.of_the_store == "second name" and not (self._store.exists() and self._store.samefile(aside))

    def forget_second_name(self) -> bytes:
        """What the second name says; it is the store's no more."""
        aside = self._elsewhere / "store"
        data = aside.read_bytes()
        aside.unlink()
        self.of_the_store = None
        return data

    def turn_store_back(self) -> None:
        aside = self._elsewhere / "store"
        if self.of_the_store == "second name":
            aside.unlink()
        else:
            if self.of_the_store == "folder":
                self._store.rmdir()
            else:
                self._store.unlink()
            os.rename(aside, self._store)
        self.of_the_store = None

    def link_trajectory(self, path: Path) -> None:
        if path.exists() and path.name not in self.linked:
            os.rename(path, self._elsewhere / path.name)
            os.symlink(self._elsewhere / path.name, path)
            self.linked.add(path.name)

    def unlink_trajectories(self) -> None:
        for name in self.linked:
            (self._sessions / name).unlink()
            os.rename(self._elsewhere / name, self._sessions / name)
        self.linked = set()

    def seen(self) -> list[tuple[object, ...]]:
        """The store as it is, and what lies in its place elsewhere."""
        found: list[tuple[object, ...]] = []
        for path in (self._store, self._elsewhere / "store"):
            if not os.path.lexists(path):
                found.append(("gone",))
                continue
            status = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            # Ours may be moved away, or named twice, before we have touched it: its time may change, wherever it lies.
            ours = path != self._store or self.of_the_store == "second name"
            found.append((status.st_ino, status.st_mode, 0 if ours else status.st_mtime_ns, data))
        return found
