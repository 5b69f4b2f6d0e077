"""The image and the compose file: what their linters say, and that they share with the gateway what must be shared.

No container engine runs here: the image is built by nobody. tests/image/test_image.py runs its steps.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from app.probe import address
from tests.dockerfile import DOCKERFILE, TOP, context, health_check, of

COMPOSE = TOP / "deploy" / "compose" / "compose.yaml"
STATE, TEMPORARY = "/home/node/.openclaw", "/tmp"


def compose(**env: str) -> dict[str, Any]:
    """The file with its variables filled in, as compose does it."""
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: env.get(m[1]) or m[2], COMPOSE.read_text())
    assert "${" not in text
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Per place in the container, the volume that is there."""
    return {place: volume for volume, place in (v.split(":") for v in service["volumes"])}


# --- the image ---


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(tool), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_with_the_uv_of_the_lock_from_what_is_locked() -> None:
    (pinned,) = re.findall(r"^(uv==\S+) ", (TOP / "requirements-dev.lock").read_text(), re.M)
    steps = " ".join(of("RUN"))
    assert re.findall(r"\buv==[\d.]+", steps) == [pinned]
    installs = [s for run in of("RUN") for s in run.split("&&") if re.search(r"uv (pip install|build)", s)]
    assert len(installs) == 3
    assert all("--require-hashes" in s or {"--offline", "--no-deps"} <= set(s.split()) for s in installs)


def test_the_image_runs_as_the_gateways_user_and_writes_to_its_own_folder_only() -> None:
    (user,) = of("USER")
    assert user == "${CLAWMEND_UID}:${CLAWMEND_GID}"
    assert of("ARG")[1:] == ["CLAWMEND_UID=1000", "CLAWMEND_GID=1000"]
    assert of("VOLUME") == ['["/var/lib/clawmend"]']
    assert "XDG_STATE_HOME=/var/lib" in of("ENV")[-1]


def test_no_registry_is_named_and_the_base_image_names_its_version() -> None:
    images = [*of("FROM"), *(str(s["image"]) for s in compose()["services"].values())]
    assert of("ARG")[0] == "PYTHON=python:3.11-slim-bookworm"
    assert set(of("FROM")) == {"${PYTHON} AS build", "${PYTHON}"}
    assert not [image for image in images if re.match(r"[\w-]+\.[\w.-]+/", image)]


def test_the_build_sees_all_that_the_wheel_is_made_of_and_nothing_else(tmp_path: Path) -> None:
    seen = {str(file.relative_to(TOP)) for file in context()}
    for file in context():
        copy = tmp_path / file.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "dist").glob("clawmend-*.whl"))
    assert {"requirements.lock", "requirements-dev.lock"} <= seen
    assert not [name for name in seen if name.startswith((".git", ".venv", ".env", "docs", "tests/unit"))]


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({}, ("127.0.0.1", 8787)),
        ({"CLAWMEND_HOST": "0.0.0.0", "CLAWMEND_PORT": ""}, ("127.0.0.1", 8787)),
        ({"CLAWMEND_HOST": "::", "CLAWMEND_PORT": "9"}, ("::1", 9)),
        ({"CLAWMEND_HOST": "192.0.2.1"}, ("192.0.2.1", 8787)),
    ],
)
def test_the_health_check_asks_where_the_service_listens(env: dict[str, str], asked: tuple[str, int]) -> None:
    assert address(env) == asked


# --- compose ---


def test_the_compose_file_is_as_the_compose_specification_wants_it() -> None:
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose()))
    with pytest.raises(ValueError, match="nonsense"):
        compose_spec.PyCompose.from_yaml("services: {a: {image: x, nonsense: 1}}")


def test_the_two_share_processes_network_user_state_folder_and_temporary_folder() -> None:
    services = compose(OPENCLAW_UID="1234")["services"]
    gateway, ours = services["gateway"], services["clawmend"]
    assert gateway["user"] == ours["user"] == "1234:1000"
    for name in ("pid", "network_mode"):
        assert gateway[name] == ours[name] == "service:pod"
    assert mounts(gateway)[STATE] == mounts(ours)[STATE]
    assert mounts(gateway)[TEMPORARY] == mounts(ours)[TEMPORARY]
    assert gateway["environment"]["HOME"] == ours["environment"]["HOME"] == "/home/node"
    assert set(mounts(ours)) - set(mounts(gateway)) == {"/var/lib/clawmend"}
    assert set(compose()["volumes"]) == set(mounts(gateway).values()) | set(mounts(ours).values())


def test_it_is_published_on_loopback_only_and_reached_there() -> None:
    services = compose()["services"]
    published = services["pod"]["ports"]
    assert [p.rpartition(":")[0] for p in published] == ["127.0.0.1:18789", "127.0.0.1:8787"]
    assert not any("ports" in services[name] for name in ("gateway", "clawmend"))
    assert services["clawmend"]["environment"]["CLAWMEND_HOST"] == "0.0.0.0"


def test_our_containers_can_write_nowhere_but_to_their_volumes_and_gain_nothing() -> None:
    for name in ("pod", "clawmend"):
        service = compose()["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["build"]["dockerfile"] == "deploy/docker/Dockerfile"
        assert (COMPOSE.parent / service["build"]["context"]).resolve() == TOP
        assert set(service["build"]["args"]) <= {a.partition("=")[0] for a in of("ARG")}


def test_the_health_check_is_a_module_of_ours() -> None:
    assert health_check() == ["python", "-P", "-m", "app.probe", "/readyz"]
    assert "healthcheck" not in compose()["services"]["clawmend"], "the image's own"
