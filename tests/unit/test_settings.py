"""Settings from the environment: what each may be, and one clear line for what it may not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings, SettingsError, load_settings, own_state_folder, unknown_settings

Set = Callable[..., None]

DEFAULTS: dict[str, Any] = {
    "state_dir": (),
    "host": "127.0.0.1",
    "port": 8787,
    "allowed_hosts": (),
    "cors_origins": (),
    "api_token": None,
    "auth": "token",
    "repairs_per_minute": 60,
    "auto_repair": True,
    "settle_subagents": False,
    "flapping_settlements": 3,
    "flapping_minutes": 60,
    "breaker_repairs": 250,
    "breaker_minutes": 10,
    "weak_stores": "refuse",
    "database_writes": "idle",
    "scan_interval_seconds": 5,
    "stale_after_seconds": 30,
    "error_quiet_seconds": 120,
    "compaction_quiet_seconds": 1_200,
    "silent_after_seconds": 3_600,
    "never_started_seconds": 600,
    "store_quiet_seconds": 1,
    "store_patience_seconds": 10,
    "store_timeout_seconds": 10,
    "store_max_bytes": 512 * 1024 * 1024,
    "watch_files": True,
    "gateway": "auto",
    "gateway_token": None,
    "free_sending_tab": "off",
    "webhook_urls": (),
    "webhook_secret": None,
    "webhook_events": ("findings", "repairs", "failures", "flapping", "breaker"),
    "webhook_names": "keep",
    "webhook_http": "loopback",
    "webhook_timeout_seconds": 10,
    "log_level": "info",
}

LIMITS = [
    # name, the least, just below it, the most, just above it
    ("port", "0", "-1", "65535", "65536"),
    ("scan_interval_seconds", "0.1", "0.09", "3600", "3601"),
    ("stale_after_seconds", "1", "0.99", "86400", "86401"),
    ("error_quiet_seconds", "0.001", "0", "86400", "86401"),
    ("compaction_quiet_seconds", "0.001", "0", "86400", "86401"),
    ("silent_after_seconds", "0.001", "0", "86400", "86401"),
    ("never_started_seconds", "0.001", "0", "86400", "86401"),
    ("repairs_per_minute", "1", "0", "6000", "6001"),
    ("flapping_settlements", "1", "0", "1000", "1001"),
    ("flapping_minutes", "0.001", "0", "1440", "1440.1"),
    ("breaker_repairs", "1", "0", "1000000", "1000001"),
    ("breaker_minutes", "0.001", "0", "1440", "1440.1"),
    ("webhook_timeout_seconds", "0.001", "0", "60", "60.1"),
    ("store_quiet_seconds", "0", "-0.1", "60", "60.1"),
    ("store_patience_seconds", "0", "-0.1", "300", "300.1"),
    ("store_timeout_seconds", "0.001", "0", "86400", "86401"),
    ("store_max_bytes", "1024", "1023", "1099511627776", None),
]

WRONG = [
    ("port", "http"),
    ("port", "87.5"),
    ("auth", "none"),
    ("auto_repair", "perhaps"),
    ("settle_subagents", "2"),
    ("watch_files", "often"),
    ("weak_stores", "write"),
    ("log_level", "loud"),
    ("scan_interval_seconds", "soon"),
    ("scan_interval_seconds", "nan"),
    ("stale_after_seconds", "inf"),
    ("error_quiet_seconds", "nan"),
    ("store_quiet_seconds", "nan"),
    ("database_url", "audit.db"),
    ("database_url", "sqlite://"),
    ("database_url", "sqlite:///:memory:"),
    ("state_dir", os.fsdecode(b"/home/caf\xe9")),
    ("gateway", "on"),
    ("gateway", "http://127.0.0.1:18789"),
    ("gateway", "127.0.0.1:18789"),
]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Sets `CLAWMEND_*` in an environment that has none of ours, in a folder without a `.env`."""
    for name in list(os.environ):
        if name.upper().startswith("CLAWMEND_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    def set_them(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"CLAWMEND_{name.upper()}", value)

    return set_them


def refusal() -> str:
    with pytest.raises(SettingsError) as error:
        load_settings()
    line = str(error.value)
    assert len(line.splitlines()) == 1, line
    assert len(line) < 300, line
    return line


def test_the_defaults_are_the_promised_ones(given: Set, tmp_path: Path) -> None:
    settings = load_settings().model_dump()
    assert settings.pop("database_url") == f"sqlite:///{tmp_path}/.local/state/clawmend/audit.db"
    assert settings == DEFAULTS


def test_an_empty_value_counts_as_none_given(given: Set) -> None:
    given(**dict.fromkeys([*DEFAULTS, "database_url"], ""))
    assert {name: value for name, value in load_settings().model_dump().items() if name in DEFAULTS} == DEFAULTS


def test_no_number_is_without_limits() -> None:
    numbers = {name for name, field in Settings.model_fields.items() if field.annotation in (int, float)}
    assert numbers == {name for name, *_ in LIMITS}


@pytest.mark.parametrize(("name", "least", "below", "most", "above"), LIMITS)
def test_a_number_keeps_its_limits(given: Set, name: str, least: str, below: str, most: str, above: str | None) -> None:
    for fits in (least, most):
        given(**{name: fits})
        assert getattr(load_settings(), name) == float(fits)
    for wrong in filter(None, (below, above)):
        given(**{name: wrong})
        assert refusal().startswith(f"CLAWMEND_{name.upper()}: ")


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(given: Set, name: str, value: str) -> None:
    given(**{name: value})
    assert refusal().startswith(f"CLAWMEND_{name.upper()}: ")


def test_a_wrong_value_is_shown_so_that_it_can_be_found(given: Set) -> None:
    given(port="80l80")
    assert "80l80" in refusal()


def test_of_two_wrong_values_one_is_named_at_a_time(given: Set) -> None:
    given(port="x", auth="x")
    assert refusal().count("CLAWMEND_") == 1


@pytest.mark.parametrize("token", ["hunter2", "x" * 15, " " * 40])
def test_a_token_that_is_none_is_refused_and_not_echoed(given: Set, token: str) -> None:
    given(api_token=token)
    line = refusal()
    assert line.startswith("CLAWMEND_API_TOKEN: ")
    assert token not in line


def test_a_token_of_sixteen_characters_is_taken_and_never_printed(given: Set) -> None:
    given(api_token="sixteen-letters!")
    settings = load_settings()
    assert isinstance(settings.api_token, SecretStr)
    assert settings.api_token.get_secret_value() == "sixteen-letters!"
    assert "sixteen-letters!" not in f"{settings!r} {settings}"


@pytest.mark.parametrize("word", ["auto", "off", "ws://127.0.0.1:18789", "wss://gateway.example"])
def test_the_gateway_is_found_left_alone_or_named(given: Set, word: str) -> None:
    given(gateway=word)
    assert load_settings().gateway == word


def test_one_gateways_address_does_not_go_with_several_state_dirs(given: Set) -> None:
    given(gateway="ws://127.0.0.1:18789", state_dir="/a:/b")
    assert "CLAWMEND_GATEWAY" in refusal()
    given(gateway="auto")
    assert load_settings().state_dir == ("/a", "/b")


def test_the_gateways_token_is_never_printed(given: Set) -> None:
    given(gateway_token="hunter2")
    settings = load_settings()
    assert settings.gateway_token is not None
    assert settings.gateway_token.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings}"


def test_a_database_url_that_is_none_is_refused_without_its_password(given: Set) -> None:
    given(database_url="postgresql:/clawmend:hunter2@db.example/audit")
    line = refusal()
    assert line.startswith("CLAWMEND_DATABASE_URL: ")
    assert "hunter2" not in line


def test_a_database_on_a_server_is_taken_as_it_is(given: Set) -> None:
    url = "postgresql+psycopg://clawmend@db.example/audit"
    given(database_url=url)
    assert load_settings().database_url == url


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("/a", ("/a",)),
        ("/a:/b", ("/a", "/b")),
        ("/a,/b", ("/a", "/b")),
        (" /a , /b :/c", ("/a", "/b", "/c")),
        (":/a::/b,", ("/a", "/b")),
        ("~/x:/a", ("~/x", "/a")),
    ],
)
def test_several_state_dirs_are_parted_by_colon_or_comma(given: Set, text: str, folders: tuple[str, ...]) -> None:
    given(state_dir=text)
    assert load_settings().state_dir == folders


def test_a_folder_whose_name_has_a_comma_or_colon_is_taken_whole(given: Set, tmp_path: Path) -> None:
    folder = tmp_path / "a, b:c"
    folder.mkdir()
    for text in (str(folder), "~/a, b:c"):
        given(state_dir=text)
        assert load_settings().state_dir == (text,)


def test_origins_are_a_list_of_schemes_hosts_and_ports(given: Set) -> None:
    given(cors_origins="https://Dash.Example, http://127.0.0.1:3000,http://[::1]:8080")
    assert load_settings().cors_origins == ("https://dash.example", "http://127.0.0.1:3000", "http://[::1]:8080")


@pytest.mark.parametrize("wrong", ["*", "dash.example", "https://dash.example/", "https://a b", "ftp://x", "null"])
def test_an_origin_that_is_none_is_refused_with_one_line(given: Set, wrong: str) -> None:
    given(cors_origins=wrong)
    with pytest.raises(SettingsError, match="CLAWMEND_CORS_ORIGINS: an origin is written"):
        load_settings()


def test_allowed_hosts_are_a_list_in_any_case(given: Set) -> None:
    given(allowed_hosts=" Box.Example, other ,,")
    assert load_settings().allowed_hosts == ("box.example", "other")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_auth_may_be_off_on_loopback(given: Set, host: str) -> None:
    given(auth="off", host=host)
    assert load_settings().auth == "off"


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "box.example", "localhost.example", "127.0.0.1.example"]
)
def test_auth_may_not_be_off_anywhere_else(given: Set, host: str) -> None:
    given(auth="off", host=host)
    line = refusal()
    assert "CLAWMEND_AUTH" in line
    assert "CLAWMEND_HOST" in line
    given(auth="token")
    assert load_settings().host == host


def test_the_environment_goes_before_the_file(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWMEND_PORT=9000\nCLAWMEND_LOG_LEVEL=debug\nOTHER=x\n")
    given(port="9001")
    settings = load_settings()
    assert (settings.port, settings.log_level) == (9001, "debug")


def test_a_line_of_the_file_is_written_as_for_a_shell(given: Set, tmp_path: Path) -> None:
    lines = ("# ours", "export CLAWMEND_PORT = 9000  # a port", "CLAWMEND_GATEWAY='off'", "CLAWMEND_LOG_LEVEL")
    (tmp_path / ".env").write_text("\n".join((*lines, 'CLAWMEND_STATE_DIR="${HOME}/é x"', "")))
    settings = load_settings()
    assert (settings.port, settings.gateway, settings.log_level) == (9000, "off", "info")
    assert settings.state_dir == (f"{tmp_path}/é x",)


def test_an_empty_value_in_the_environment_leaves_the_one_of_the_file(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWMEND_PORT=9000\nCLAWMEND_HOST=\n")
    given(port="")
    settings = load_settings()
    assert (settings.port, settings.host) == (9000, "127.0.0.1")


def test_a_wrong_value_in_the_file_is_refused_as_one_in_the_environment_is(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWMEND_PORT=80l80\n")
    assert refusal().startswith("CLAWMEND_PORT: ")
    (tmp_path / ".env").write_text("CLAWMEND_API_TOKEN=hunter2\n")
    assert "hunter2" not in refusal()


def test_a_name_in_small_letters_is_the_same_name(given: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("clawmend_port", "9000")
    (tmp_path / ".env").write_text("Clawmend_Log_Level=debug\nCLAWMEND_PORT=9001\n")
    settings = load_settings()
    assert (settings.port, settings.log_level) == (9000, "debug")


def test_a_folder_in_the_place_of_the_file_is_none(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings().port == 8787


def test_a_name_that_is_no_setting_stops_nothing(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWMEND_PROT=1\nPORT=2\nMODEL_CONFIG=3\nCLAWMEND_MODEL_CONFIG=4\n")
    given(prot="5")
    assert load_settings().port == 8787


def test_settings_that_a_program_makes_are_read_from_nowhere_else(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWMEND_PORT=9000\n")
    given(log_level="debug")
    settings = Settings(host="::1")
    assert (settings.host, settings.port, settings.log_level) == ("::1", 8787, "info")
    with pytest.raises(ValueError, match="prot"):
        Settings(prot=1)  # type: ignore[call-arg]


def test_a_file_that_is_no_text_is_refused_in_one_line(given: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CLAWMEND_HOST=\xff\xfe\n")
    assert ".env" in refusal()


def test_a_misspelt_setting_is_named_and_no_foreign_one_is() -> None:
    env = {
        "CLAWMEND_PROT": "1",
        "CLAWMEND_PORT": "1",
        "CLAWMEND_STALE_AFTER": "1",
        "OPENCLAW_HOME": "/x",
        "PATH": "/bin",
    }
    assert unknown_settings(env) == ["CLAWMEND_PROT", "CLAWMEND_STALE_AFTER"]


@pytest.mark.parametrize(
    ("env", "folder"),
    [({"XDG_STATE_HOME": "/var/state"}, "/var/state/clawmend"), ({"XDG_STATE_HOME": "relative"}, None), ({}, None)],
)
def test_our_own_files_lie_where_the_system_keeps_state(
    given: Set, tmp_path: Path, env: dict[str, str], folder: str | None
) -> None:
    assert own_state_folder(env) == Path(folder or f"{tmp_path}/.local/state/clawmend")


def test_the_windows_reach_the_policy_that_judges_by_them(given: Set) -> None:
    given(stale_after_seconds="31", error_quiet_seconds="121", compaction_quiet_seconds="1201")
    given(silent_after_seconds="3601", never_started_seconds="601", settle_subagents="true")
    policy = load_settings().policy
    windows = (policy.stale_after, policy.error_quiet, policy.compaction_quiet, policy.silent_after)
    assert windows == (31, 121, 1201, 3601)
    assert (policy.never_started_after, policy.settle_subagents) == (601, True)


KEY = "whsec_" + "a" * 44


def test_webhooks_need_a_secret_and_an_address_of_the_web(given: Set) -> None:
    given(webhook_urls="https://hooks.example/secret-path")
    assert "CLAWMEND_WEBHOOK_SECRET" in refusal()
    given(webhook_secret=KEY)
    assert load_settings().webhook_urls == ("https://hooks.example/secret-path",)
    for wrong in ("ftp://hooks.example", "hooks.example", "https://a:hunter2@hooks.example", "https:///hunter2"):
        given(webhook_urls=wrong)
        assert refusal().startswith("CLAWMEND_WEBHOOK_URLS: ")
        assert "hunter2" not in refusal()


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_" + "a" * 16, "whsec_" + "a" * 100, "whsec_ä"])
def test_a_webhooks_secret_that_is_no_key_is_refused_and_not_echoed(given: Set, secret: str) -> None:
    given(webhook_secret=secret)
    line = refusal()
    assert line.startswith("CLAWMEND_WEBHOOK_SECRET: ")
    assert secret == "whsec_" or secret not in line


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("http://127.0.0.1:9000/x", True),
        ("http://[::1]:9000/x", True),
        ("http://localhost/x", True),
        ("http://10.0.0.1/x", False),
        ("HTTP://hooks.example/x", False),
        ("http://localhost.example/x", False),
    ],
)
def test_without_tls_a_webhook_stays_on_this_machine_unless_it_may_not(given: Set, url: str, fits: bool) -> None:
    given(webhook_urls=url, webhook_secret=KEY)
    if fits:
        assert load_settings().webhook_urls == (url,)
    else:
        assert "https" in refusal()
        assert "/x" not in refusal()
        given(webhook_http="anywhere")
        assert load_settings().webhook_urls == (url,)


def test_only_known_events_are_asked_for(given: Set) -> None:
    given(webhook_events="repairs, flapping")
    assert load_settings().webhook_events == ("repairs", "flapping")
    given(webhook_events="everything")
    assert refusal().startswith("CLAWMEND_WEBHOOK_EVENTS: ")
