"""What a container's engine asks, of a service that runs and of one that does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.served import FROM_CHECKOUT, environment, run, served
from tests.world import World

PROBE = (sys.executable, "-P", "-m", "app.probe")


def test_a_service_that_answers_is_well_and_a_path_that_is_not_there_is_not(world: World, tmp_path: Path) -> None:
    world.recording("success-done")
    env = environment(tmp_path / "home", CLAWMEND_STATE_DIR=str(world.state), CLAWMEND_DATABASE_URL=world.database_url)
    with served(*FROM_CHECKOUT, "serve", env=env, cwd=tmp_path) as service:
        env["CLAWMEND_PORT"] = service.url.rpartition(":")[2]
        for path in ("/livez", "/readyz"):
            done = run(*PROBE, path, env=env, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
        wrong = run(*PROBE, "/sessions", env=env, cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("/sessions: 401 ")


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_where_nobody_answers_it_says_so_in_one_line(tmp_path: Path, host: str) -> None:
    done = run(
        *PROBE, "/livez", env=environment(tmp_path / "home", CLAWMEND_HOST=host, CLAWMEND_PORT="1"), cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["127.0.0.1:1 does not answer: [Errno 111] Connection refused"]
