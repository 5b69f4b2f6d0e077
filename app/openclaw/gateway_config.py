"""From OpenClaw's configuration to a gateway: its address, what opens it, the certificate that it has to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.openclaw.config import ConfigProblem, read_gateway_config
from app.openclaw.gateway_access import Access, NoAccess, find_access
from app.openclaw.gateway_tls import own_certificate
from app.openclaw.paths import StateDir, default_state_dir, home_dir


def read_access(state: StateDir, env: Mapping[str, str], *, url: str | None, token: str | None) -> Access:
    """The gateway of `state`; `url` and `token` are ours and go first. Raises NoAccess.

    The environment says where OpenClaw's default state dir has its gateway, and of no other.
    """
    is_default = state.path == default_state_dir(env)
    try:
        config = read_gateway_config(state.config_path, env)
    except ConfigProblem as error:
        raise NoAccess("config_unreadable", str(error)) from None
    access = find_access(config, env if is_default else {}, url=url, token=token)
    if access.over_tls and access.is_here:
        access = replace(access, certificate=own_certificate(config, state.path, home_dir(env)))
    return access
