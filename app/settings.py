"""Every setting, read from `CLAWMEND_*` and a `.env` file; docs/reference/settings.md and .env.example name each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from app.domain.breaker import BreakerPolicy
from app.domain.flapping import FlappingPolicy
from app.domain.model import Policy
from app.domain.signing import key_of

PREFIX = "CLAWMEND_"
_PREFIX = PREFIX.lower()
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


WEBHOOK_EVENTS = ("findings", "repairs", "failures", "flapping", "breaker")


class SettingsError(Exception):
    """A setting is wrong; the message is one line that names it."""


class Settings(BaseModel):
    """Durations are seconds, sizes bytes. What is not given has its default: `load_settings` reads what is set."""

    model_config = ConfigDict(extra="forbid")

    state_dir: tuple[str, ...] = ()
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65_535)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    api_token: SecretStr | None = None
    auth: Literal["token", "off"] = "token"
    repairs_per_minute: int = Field(default=60, ge=1, le=6_000)
    auto_repair: bool = True
    settle_subagents: bool = False
    flapping_settlements: int = Field(default=3, ge=1, le=1_000)
    flapping_minutes: float = Field(default=60.0, gt=0, le=1_440, allow_inf_nan=False)
    breaker_repairs: int = Field(default=250, ge=1, le=1_000_000)
    breaker_minutes: float = Field(default=10.0, gt=0, le=1_440, allow_inf_nan=False)
    weak_stores: Literal["refuse", "rename"] = "refuse"
    database_writes: Literal["idle", "stopped", "off"] = "idle"
    scan_interval_seconds: float = Field(default=5.0, ge=0.1, le=3_600, allow_inf_nan=False)
    stale_after_seconds: float = Field(default=30.0, ge=1, le=86_400, allow_inf_nan=False)
    error_quiet_seconds: _Seconds = 120.0
    compaction_quiet_seconds: _Seconds = 1_200.0
    silent_after_seconds: _Seconds = 3_600.0
    never_started_seconds: _Seconds = 600.0
    store_quiet_seconds: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False)
    store_patience_seconds: float = Field(default=10.0, ge=0, le=300, allow_inf_nan=False)
    store_timeout_seconds: _Seconds = 10.0
    store_max_bytes: int = Field(default=512 << 20, ge=1 << 10)
    watch_files: bool = True
    gateway: str = "auto"
    gateway_token: SecretStr | None = None
    free_sending_tab: Literal["off", "inject"] = "off"
    webhook_urls: tuple[str, ...] = Field(default=(), repr=False)
    webhook_secret: SecretStr | None = None
    webhook_events: tuple[str, ...] = WEBHOOK_EVENTS
    webhook_names: Literal["keep", "leave_out"] = "keep"
    webhook_http: Literal["loopback", "anywhere"] = "loopback"
    webhook_timeout_seconds: float = Field(default=10.0, gt=0, le=60, allow_inf_nan=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("state_dir", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        """A list of folders, parted by `:` or `,`; one folder whose name has such a sign in it is taken whole."""
        if not isinstance(value, str):
            return value
        if not value.isprintable():
            raise ValueError("a folder's name must be Unicode, without control characters")
        if Path(value).expanduser().is_dir():
            return (value,)
        return tuple(part.strip() for part in value.replace(",", os.pathsep).split(os.pathsep) if part.strip())

    @field_validator("webhook_urls", mode="before")
    @classmethod
    def _urls(cls, value: object) -> object:
        return tuple(w.strip() for w in value.split(",") if w.strip()) if isinstance(value, str) else value

    @field_validator("webhook_urls")
    @classmethod
    def _urls_of_the_web(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
                raise ValueError("addresses parted by `,`: https://host/path, without a name and password in them")
        return tuple(dict.fromkeys(value))

    @field_validator("webhook_events")
    @classmethod
    def _known_events(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if set(value) - set(WEBHOOK_EVENTS):
            raise ValueError(f"words of {', '.join(WEBHOOK_EVENTS)}, parted by `,`")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            key_of(value.get_secret_value())
        return value

    @field_validator("allowed_hosts", "cors_origins", "webhook_events", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(w.strip().lower() for w in value.split(",") if w.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is written https://host or http://host:port, with no path")
        return value

    @field_validator("api_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (len(word := value.get_secret_value()) < 16 or not word.isascii() or " " in word):
            raise ValueError("a token has at least 16 ASCII characters and no space")
        return value

    @field_validator("gateway")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if value not in ("auto", "off") and not value.startswith(("ws://", "wss://")):
            raise ValueError("auto, off, or the gateway's address: ws://… or wss://…")
        return value

    @field_validator("database_url")
    @classmethod
    def _a_file_or_a_server(cls, value: str) -> str:
        if value and ("://" not in value or value in ("sqlite://", "sqlite:///:memory:")):
            raise ValueError("an SQLAlchemy URL such as sqlite:////var/lib/clawmend/audit.db (in memory is not enough)")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Settings:
        if self.auth == "off" and not self.binds_to_loopback:
            raise ValueError("CLAWMEND_AUTH=off is for loopback only; CLAWMEND_HOST is not")
        if self.gateway not in ("auto", "off") and len(self.state_dir) > 1:
            raise ValueError(
                "CLAWMEND_GATEWAY is one gateway's address, and CLAWMEND_STATE_DIR names several state dirs"
            )
        if self.webhook_urls and self.webhook_secret is None:
            raise ValueError("CLAWMEND_WEBHOOK_URLS needs CLAWMEND_WEBHOOK_SECRET, by which receivers know us")
        plain = [parts for url in self.webhook_urls if (parts := urlsplit(url)).scheme == "http"]
        if any(not _is_loopback(parts.hostname) for parts in plain) and self.webhook_http != "anywhere":
            raise ValueError("CLAWMEND_WEBHOOK_URLS must be https, or on this machine (CLAWMEND_WEBHOOK_HTTP=anywhere)")
        if not self.database_url:
            self.database_url = f"sqlite:///{own_state_folder(os.environ) / 'audit.db'}"
        return self

    @property
    def binds_to_loopback(self) -> bool:
        return _is_loopback(self.host)

    @property
    def policy(self) -> Policy:
        return Policy(
            stale_after=self.stale_after_seconds,
            error_quiet=self.error_quiet_seconds,
            compaction_quiet=self.compaction_quiet_seconds,
            silent_after=self.silent_after_seconds,
            never_started_after=self.never_started_seconds,
            settle_subagents=self.settle_subagents,
        )

    @property
    def flapping(self) -> FlappingPolicy:
        return FlappingPolicy(self.flapping_settlements, self.flapping_minutes * 60)

    @property
    def breaker(self) -> BreakerPolicy:
        return BreakerPolicy(self.breaker_repairs, self.breaker_minutes * 60)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read them from the environment and `.env`. Raises SettingsError with one line."""
    try:
        return Settings.model_validate(_given(os.environ, _in_file(Path(".env"))))
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{PREFIX}{'_'.join(str(p) for p in first['loc'][:1])}".upper() if first["loc"] else ""
        word = first["msg"].removeprefix("Value error, ")
        secret = name in ("CLAWMEND_API_TOKEN", "CLAWMEND_GATEWAY_TOKEN", "CLAWMEND_DATABASE_URL")
        secret = secret or name.startswith("CLAWMEND_WEBHOOK_")
        given = f" (it is {str(first['input'])[:80]!r})" if name and not secret else ""
        raise SettingsError(f"{name}: {word}{given}" if name else word) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"the file .env is not UTF-8: {error.reason}") from None


def _given(env: Mapping[str, str], file: Mapping[str, str | None]) -> dict[str, str]:
    """What is set, by field, in capitals or not: `env` goes before `file`, and an empty value counts as none."""
    lines = [(name.lower(), value) for source in (file, env) for name, value in source.items() if value]
    values = {name.removeprefix(_PREFIX): value for name, value in lines if name.startswith(_PREFIX)}
    return {name: value for name, value in values.items() if name in Settings.model_fields}


def _in_file(path: Path) -> dict[str, str | None]:
    if not path.exists():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415  (few have such a file, and the command starts often)

    return dotenv_values(path, encoding="utf-8")


def unknown_settings(env: Mapping[str, str]) -> list[str]:
    """Names in the environment that look like ours and are not: most likely misspelt."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(name for name in env if name.startswith(PREFIX) and name not in known)


def own_state_folder(env: Mapping[str, str]) -> Path:
    """Where our own files are: `$XDG_STATE_HOME/clawmend`, else `~/.local/state/clawmend`."""
    base = env.get("XDG_STATE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "clawmend"
