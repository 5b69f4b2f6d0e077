"""Nothing of a request is written into the log: a path holds session keys, and a probe comes every second."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.served import FROM_CHECKOUT, environment, served


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_request_leaves_a_line_in_the_log(tmp_path: Path, level: str) -> None:
    env = environment(tmp_path / "home", CLAWMEND_API_TOKEN="a-token-that-is-long-enough", CLAWMEND_LOG_LEVEL=level)
    with served(*FROM_CHECKOUT, "serve", "--demo", env=env, cwd=tmp_path) as service:
        client = httpx.Client(base_url=service.url, trust_env=False)
        with client:
            for path in ("/health", "/livez", "/readyz", "/metrics", "/problems/not_stuck"):
                assert client.get(path).status_code == 200
            token = {"authorization": "Bearer a-token-that-is-long-enough"}
            assert client.get("/sessions/a-name-in-a-path", headers=token).status_code == 404
            assert client.get("/sessions/a-name-in-a-path").status_code == 401
        said = service.said
    assert "Clawmend on http" in said
    for word in (
        "/livez",
        "/readyz",
        "/metrics",
        "/sessions/a-name",
        "a-name-in-a-path",
        "HTTP/1.1",
        '"GET',
        "127.0.0.1 -",
    ):
        assert word not in said, said
