"""Where the trajectories and the transcript of one row are, and what their tails say (sections 4 and 5)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from app.domain.model import FileIdentity, Row, Trail
from app.openclaw.folder import FileProblem, identity_of
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.trajectory import FIRST_BLOCK, read_runs, read_tail, trail_of

FAMILY_LOOKED_AT = 8
_POINTER_LIMIT = 64 << 10
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Trails:
    """What was found for one row."""

    trails: tuple[Trail, ...] = ()
    problem: str | None = None
    transcript: FileIdentity | None = None
    place: Place | None = None
    """Where the transcript is, or would be."""
    pointer: FileIdentity | None = None


class Lost(Exception):
    """The trajectory cannot be looked for; the message is the reason."""


class TrailReader:
    """Finds and reads trails; keeps what it read of a file until the file changes."""

    def __init__(self, trajectory_dir: str | None = None, silent_after: float = 3_600.0) -> None:
        """`silent_after`: seconds after which a run that says nothing more is no longer taken for open."""
        self._trajectory_dir = trajectory_dir
        self._silent_ms = round(silent_after * 1000)
        self._known: dict[str, Trail] = {}
        self.bytes_read = 0

    def forget_all_but(self, paths: set[str]) -> None:
        self._known = {path: trail for path, trail in self._known.items() if path in paths}

    def ask_ahead(self, rows: Iterable[Row], places: OpenPlaces, *, sessions: Place, state_dir: str) -> None:
        """Ask the disk for every tail of `rows` that is not known yet: it brings many at once in a third of the time
        that it takes to wait for one after the other. Reads nothing itself, and leaves every problem to `read`.
        """
        for row in rows:
            try:
                transcript = transcript_place(row.session_id or "", row.session_file, sessions, state_dir)
            except Lost:
                continue
            for file in self._usual_places(transcript, row.session_id or ""):
                if file.path not in self._known:
                    places.ask(file, FIRST_BLOCK)

    def read(self, row: Row, places: OpenPlaces, *, sessions: Place, state_dir: str) -> Trails:
        """The trails of `row`, whose store is `sessions`. Never raises for what is on disk."""
        transcript: FileIdentity | None = None
        here: Place | None = None
        pointer: FileIdentity | None = None
        trails: list[Trail] = []
        try:
            for session_id in (row.session_id or "", *reversed(row.family[-FAMILY_LOOKED_AT:])):
                current = session_id == row.session_id
                place = transcript_place(session_id, row.session_file if current else None, sessions, state_dir)
                if current:
                    here = place
                    transcript = _identity(place, places, "transcript")
                    with suppress(Lost):  # a pointer that is no regular file is none
                        pointer = _identity(_pointer_place(place), places)
                pointed = _pointer(_pointer_place(place), session_id, places) if pointer or not current else None
                for file in self._candidates(place, session_id, state_dir, pointed, places):
                    trail = self._trail(file, session_id, places)
                    if trail is not None:
                        trails.append(self._with_open_runs(file, trail, row, places))
        except Lost as lost:
            return Trails((), str(lost), transcript, here)
        return Trails(tuple(trails), None, transcript, here, pointer)

    def _usual_places(self, transcript: Place, session_id: str) -> list[Place]:
        base = transcript.name.removesuffix(".jsonl")
        places = [Place(transcript.root, transcript.folder, f"{base}.trajectory.jsonl")]
        if self._trajectory_dir:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", session_id)[:120]
            name = name if re.search(r"[A-Za-z0-9]", name) else "session"
            places.append(Place(self._trajectory_dir, self._trajectory_dir, f"{name}.jsonl"))
        return places

    def _candidates(
        self, transcript: Place, session_id: str, state_dir: str, pointed: str | None, places: OpenPlaces
    ) -> list[Place]:
        usual = self._usual_places(transcript, session_id)
        sibling = usual[0]
        if pointed is None or _same_place(pointed, sibling) or any(_is(pointed, p) for p in usual):
            return usual
        for root in (state_dir, self._trajectory_dir):
            if root and _inside(pointed, root):
                place = Place(root, os.path.dirname(pointed), os.path.basename(pointed))
                if _identity(place, places) is None and _identity(sibling, places) is not None:
                    raise Lost("its trajectory pointer names a file that is not there")
                return [*usual, place]
        raise Lost("its trajectory pointer leads out of the state dir (set OPENCLAW_TRAJECTORY_DIR if that is meant)")

    def _with_open_runs(self, place: Place, trail: Trail, row: Row, places: OpenPlaces) -> Trail:
        """`trail` with the runs that are still open in it: looked for only where its end may close the row's turn."""
        if trail.end is None or trail.open_runs is not None or trail.end.ts < (row.started_at or 0):
            return trail
        try:
            with places.opened(place) as (fd, st):
                if identity_of(st) != trail.identity:
                    return trail._replace(torn=True)  # it is being written at this moment
                runs = read_runs(fd, st.st_size, trail.end.ts - self._silent_ms, trail.end.run_id)
        except FileProblem as error:
            raise Lost(f"its trajectory cannot be used: {error.detail}") from None
        self.bytes_read += runs.bytes_read
        trail = trail._replace(open_runs=runs.open, registered=runs.registered)
        self._known[place.path] = trail
        return trail

    def _trail(self, place: Place, session_id: str, places: OpenPlaces) -> Trail | None:
        known = self._known.get(place.path)
        try:
            if known is not None:
                identity = places.identity(place)
                if identity is None:
                    return None
                if known.identity == identity and known.session_id == session_id:
                    return known
            with places.opened(place) as (fd, st):
                identity = identity_of(st)
                tail = read_tail(fd, st.st_size)
        except FileProblem as error:
            if error.code == "missing":
                return None
            raise Lost(f"its trajectory cannot be used: {error.detail}") from None
        self.bytes_read += tail.bytes_read
        trail = trail_of(place.path, session_id, identity, tail)
        self._known[place.path] = trail
        return trail


def transcript_place(session_id: str, session_file: str | None, sessions: Place, state_dir: str) -> Place:
    """The transcript of a session. `sessionFile` counts when it lies in this sessions folder, or in a sibling agent's,
    by its path or by its shape `agents/<id>/sessions/<file>` (a state dir may be mounted elsewhere than the gateway
    sees it); otherwise it is `<sessionId>.jsonl` (paths-RbVDOqFp.js:60-149).
    """
    if session_file and "\0" not in session_file:
        folder, _, name = session_file.strip().rpartition(os.sep)
        if folder != sessions.folder or name in ("", ".", ".."):
            folder, name = os.path.split(os.path.normpath(session_file.strip()))
        if name not in ("", ".", ".."):
            if folder in ("", sessions.folder) or _is(folder, sessions):
                return Place(sessions.root, sessions.folder, name)
            parts = folder.split(os.sep)
            ours = sessions.folder.split(os.sep)
            if parts[-3::2] == ["agents", "sessions"] and ours[-3::2] == ["agents", "sessions"]:
                return Place(sessions.root, os.sep.join([*ours[:-2], parts[-2], "sessions"]), name)
            agents = os.path.join(state_dir, "agents")
            if parts[-3::2] == ["agents", "sessions"] and _inside(folder, agents):
                return Place(agents, os.path.join(agents, parts[-2], "sessions"), name)
    if not _SAFE_ID.match(session_id):
        raise Lost("its sessionId is no file name and its row names no transcript")
    return Place(sessions.root, sessions.folder, f"{session_id}.jsonl")


def _pointer_place(transcript: Place) -> Place:
    base = transcript.name.removesuffix(".jsonl")
    return Place(transcript.root, transcript.folder, f"{base}.trajectory-path.json")


def _pointer(place: Place, session_id: str, places: OpenPlaces) -> str | None:
    """The `runtimeFile` of a valid pointer file for this session, else None (cleanup-DnX0TMkW.js:33-43)."""
    try:
        data, _ = places.read(place, _POINTER_LIMIT)
        pointer = json.loads(data)
    except (FileProblem, ValueError, RecursionError):
        return None
    if not isinstance(pointer, dict) or pointer.get("traceSchema") != "openclaw-trajectory-pointer":
        return None
    file = pointer.get("runtimeFile")
    if pointer.get("sessionId") != session_id or not isinstance(file, str) or not os.path.isabs(file):
        return None
    return None if "\0" in file else os.path.normpath(file)


def _same_place(pointed: str, sibling: Place) -> bool:
    """The pointer names the sibling, though perhaps as another machine or container sees it."""
    tail = os.path.join(*sibling.folder.split(os.sep)[-3:], sibling.name)
    return pointed.endswith(os.sep + tail)


def _is(path: str, place: Place) -> bool:
    return os.path.realpath(path) in (os.path.realpath(place.path), os.path.realpath(place.folder))


def _inside(path: str, root: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(root).rstrip(os.sep) + os.sep)


def _identity(place: Place, places: OpenPlaces, what: str = "trajectory") -> FileIdentity | None:
    try:
        return places.identity(place)
    except FileProblem as error:
        if error.code == "missing":
            return None
        raise Lost(f"its {what} cannot be used: {error.detail}") from None
