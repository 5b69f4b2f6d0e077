"""What a gateway's certificate is held against (gateway-B06MGrRH.js:40-96, call-NAbH1Jz8.js:246-252).

OpenClaw signs its certificate itself, and its own command line asks for that very one: so do we. Of another machine's
gateway an authority that this machine trusts has to vouch.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from app.openclaw.folder import FileProblem, Folder
from app.openclaw.gateway_access import Access, NoAccess
from app.openclaw.paths import expand_home

_LIMIT = 1 << 20


def own_certificate(gateway: Mapping[str, Any], state_dir: str, home: str) -> str | None:
    """The certificate (PEM) of this machine's gateway, as its configuration (the block `gateway`) says; None without
    TLS. Raises NoAccess (`certificate`).
    """
    tls = gateway.get("tls")
    if not isinstance(tls, dict) or tls.get("enabled") is not True:
        return None
    given = tls.get("certPath")
    named = given.strip() if isinstance(given, str) else ""
    path = os.path.join(state_dir, expand_home(named, home) if named else "gateway/tls/gateway-cert.pem")
    try:
        with Folder(os.path.dirname(path)) as folder:
            data, _ = folder.read(os.path.basename(path), _LIMIT)
        pem = data.decode("ascii")
        _only(pem)
    except (FileProblem, ValueError, ssl.SSLError) as error:
        raise NoAccess("certificate", f"the gateway's own certificate, {path}, cannot be read: {error}") from None
    return pem


def trust(access: Access) -> ssl.SSLContext | None:
    """For a connection to `access`; None where that is not over TLS."""
    if not access.over_tls:
        return None
    return ssl.create_default_context() if access.certificate is None else _only(access.certificate)


def _only(pem: str) -> ssl.SSLContext:
    """Raises ValueError, SSLError where `pem` is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it names no host
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # one that an authority has signed is asked for all the same
    context.load_verify_locations(cadata=pem)
    return context
