"""A state to try Clawmend on: recordings of a real gateway, their times moved to now."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.clock import SystemClock
from app.openclaw.paths import default_state_dir
from app.settings import Settings, own_state_folder

logger = logging.getLogger("clawmend")

RECORDINGS = ("success-done", "multi-turn-running-third", "provider-error-stuck")
STUCK_END_MS = 1_795_327_558_006
"""When the stuck recording's last turn ended."""
_AGO_MS = 40_000
_LABEL = "A DEMO, made by `clawmend serve`. It is made anew at every start; nothing here is yours.\n"
_EPOCH_MS = re.compile(rb"(?<![\d.])1795\d{9}(?![\d.])")
_ISO = re.compile(rb"2026-11-22T\d{2}:\d{2}:\d{2}\.\d{3}Z")


_claims: list[int] = []
"""The descriptor of the label of the demo that this process has made: locked for as long as it is open."""


class NotADemo(Exception):
    """Something else lies where the demo is made."""


def no_state_found(settings: Settings) -> bool:
    """No state dir is named, and OpenClaw's own is not there."""
    return not settings.state_dir and not os.path.isdir(default_state_dir(os.environ))


def demo_settings(settings: Settings) -> Settings:
    """`settings` turned to a fresh demo state, with an audit of its own.

    No gateway runs on the demo, which is what brings the window of an unsuccessful end to that of a successful one
    (design, section 5); where that cannot be seen from the processes, the setting says it here.
    """
    folder = own_state_folder(os.environ) / "demo"
    state = folder / "openclaw"
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "DEMO.txt").is_file():
            raise NotADemo(f"{folder} is not a demo of ours; move it away")
        if not _claimed(folder):
            raise NotADemo(f"a demo is running in {folder} already; stop it first")
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    (folder / "DEMO.txt").write_text(_LABEL)
    _claimed(folder)
    state.mkdir(mode=0o700)
    make_state(state, SystemClock().now() - _AGO_MS - STUCK_END_MS)
    settled = f"about {settings.stale_after_seconds:g} s from now" if settings.auto_repair else "when you ask for it"
    print(
        f"\n  DEMO: no OpenClaw state is looked at. This is a demo state in {state},\n"
        "  made from recordings of a real gateway (2026.5.18), their times moved to now. One session in it is\n"
        f"  really stuck; it is settled {settled}. Watch it:\n\n"
        f'    curl -H "Authorization: Bearer $(cat {folder / "token"})" '
        f"http://{settings.host}:{settings.port}/sessions/stuck\n",
        flush=True,
    )
    return settings.model_copy(
        update={
            "state_dir": (str(state),),
            "database_url": f"sqlite:///{folder / 'audit.db'}",
            "error_quiet_seconds": settings.stale_after_seconds,
            "compaction_quiet_seconds": settings.stale_after_seconds,
            "gateway": "off",
        }
    )


def _claimed(folder: Path) -> bool:
    """Lock the demo for the life of this process; False when another has it. A demo that was not finished is free."""
    while _claims:
        os.close(_claims.pop())
    try:
        label = os.open(folder / "DEMO.txt", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(label, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(label)
        return False
    _claims.append(label)
    return True


def make_state(state: Path, shift_ms: int) -> None:
    """One agent with the sessions of all RECORDINGS, every time in them moved by `shift_ms`."""
    rows: dict[str, object] = {}
    sessions = state / "agents" / "main" / "sessions"
    for name in RECORDINGS:
        copy_shifted(recordings_folder() / name, state, shift_ms)
        rows |= json.loads((sessions / "sessions.json").read_bytes())
    (sessions / "sessions.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False))


def copy_shifted(source: Path, state: Path, shift_ms: int) -> None:
    """Copy a recorded state dir, moving every time in it."""
    for file in sorted(source.rglob("*")):
        copy = state / file.relative_to(source)
        if file.is_dir():
            copy.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(shifted(file.read_bytes(), shift_ms))
            copy.chmod(0o600)


def shifted(data: bytes, shift_ms: int) -> bytes:
    """`data` with every recorded time moved: epoch milliseconds and RFC 3339."""

    def move_iso(match: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(match[0].decode()[:-1]).replace(tzinfo=UTC) + timedelta(milliseconds=shift_ms)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z".encode()

    return _ISO.sub(move_iso, _EPOCH_MS.sub(lambda m: str(int(m[0]) + shift_ms).encode(), data))


def recordings_folder() -> Path:
    """In an installed wheel the recordings lie in the package, in a checkout among the tests."""
    package = Path(__file__).resolve().parent
    packed = package / "_recordings"
    return packed if packed.is_dir() else package.parent / "tests" / "recordings" / "2026.5.18"
