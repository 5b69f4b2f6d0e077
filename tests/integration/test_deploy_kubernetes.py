"""The manifests: valid by Kubernetes' own schemas, and a sidecar that shares what must be shared.

There is no kustomize here: `built` reads a kustomization as it would, and stops at what it does not know.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.dockerfile import TOP, health_check, of

BASE = TOP / "deploy" / "kubernetes" / "base"
EXAMPLE = TOP / "deploy" / "kubernetes" / "overlays" / "example"
VERSIONS = ("1.29", "1.33", "1.37")
KNOWN = {"apiVersion", "kind", "resources", "labels", "namespace", "images", "secretGenerator", "patches"}
Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def merged(old: Any, patch: Any) -> Any:
    """A strategic merge: objects by key, lists of named things by name."""
    if isinstance(old, dict) and isinstance(patch, dict):
        return {**old, **{k: merged(old.get(k), v) for k, v in patch.items()}}
    if isinstance(old, list) and isinstance(patch, list) and all("name" in p for p in patch):
        names = {p["name"]: p for p in patch}
        assert set(names) <= {o["name"] for o in old}, "a patch of what is not there adds it"
        return [merged(o, names[o["name"]]) if o["name"] in names else o for o in old]
    return deepcopy(patch)


def built(folder: Path) -> list[Object]:
    """All objects of a kustomization."""
    (rules,) = documents(folder / "kustomization.yaml")
    assert set(rules) <= KNOWN
    objects: list[Object] = []
    for name in rules.get("resources", []):
        place = folder / name
        objects += built(place) if place.is_dir() else documents(place)
    for patch in (p for entry in rules.get("patches", []) for p in documents(folder / entry["path"])):
        same = [i for i, o in enumerate(objects) if named(o) == named(patch)]
        assert len(same) == 1, named(patch)
        objects[same[0]] = merged(objects[same[0]], patch)
    for secret in rules.get("secretGenerator", []):
        keys = [entry.partition("=")[0] for entry in secret["files"]]
        data = dict.fromkeys(keys, "c2VjcmV0")
        objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret["name"]}, "data": data})
    for image in rules.get("images", []):
        used = [c for o in objects for c in containers(o) if c["image"].rpartition(":")[0] == image["name"]]
        assert used, image
        for container in used:
            container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    if "namespace" in rules:
        for each in objects:
            if each["kind"] != "Namespace":
                each["metadata"]["namespace"] = rules["namespace"]
    return objects


def named(thing: Object) -> tuple[str, str]:
    return thing["kind"], thing["metadata"]["name"]


def containers(thing: Object) -> list[Object]:
    found: list[Object] = thing["spec"]["template"]["spec"]["containers"] if thing["kind"] == "Deployment" else []
    return found


@pytest.fixture
def pod() -> Object:
    (deployment,) = (o for o in built(EXAMPLE) if o["kind"] == "Deployment")
    found: Object = deployment["spec"]["template"]["spec"]
    return found


@pytest.fixture
def ours(pod: Object) -> Object:
    return next(c for c in pod["containers"] if c["name"] == "clawmend")


@pytest.fixture
def gateway(pod: Object) -> Object:
    return next(c for c in pod["containers"] if c["name"] == "gateway")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
def test_every_object_is_valid_by_the_strict_schema_of_kubernetes(folder: Path, version: str) -> None:
    objects = built(folder)
    assert len(objects) >= 3
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    wrong = deepcopy(next(o for o in objects if o["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["shareProcessNamespaces"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_overlay_puts_all_into_its_namespace_and_names_two_images(pod: Object) -> None:
    assert {o["metadata"].get("namespace") for o in built(EXAMPLE) if o["kind"] != "Namespace"} == {"openclaw"}
    assert len({c["image"] for c in pod["containers"]}) == 2
    assert not any(c["image"].endswith(":latest") for c in pod["containers"])


def test_the_sidecar_shares_processes_user_state_folder_and_temporary_folder(
    pod: Object, ours: Object, gateway: Object
) -> None:
    assert pod["shareProcessNamespace"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert all("runAsUser" not in c["securityContext"] for c in (ours, gateway))
    places = [{m["mountPath"]: m["name"] for m in c["volumeMounts"]} for c in (ours, gateway)]
    for shared in ("/home/node/.openclaw", "/tmp"):
        assert places[0][shared] == places[1][shared]
    homes = [e["value"] for c in (ours, gateway) for e in c["env"] if e["name"] == "HOME"]
    assert homes == ["/home/node", "/home/node"]
    assert set(places[0].values()) == {v["name"] for v in pod["volumes"]}


def test_every_claim_and_secret_that_is_used_is_there(pod: Object, ours: Object) -> None:
    there = {named(o) for o in built(EXAMPLE)}
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert {("PersistentVolumeClaim", c) for c in claims} <= there
    (key,) = (e["valueFrom"]["secretKeyRef"] for e in ours["env"] if e["name"] == "CLAWMEND_API_TOKEN")
    (secret,) = (o for o in built(EXAMPLE) if named(o) == ("Secret", key["name"]))
    assert key["key"] in secret["data"]


def test_only_one_pod_is_ever_at_a_state_folder() -> None:
    (deployment,) = (o for o in built(BASE) if o["kind"] == "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_the_probes_are_the_images_own_command_since_the_kubelet_does_not_reach_its_loopback(ours: Object) -> None:
    command = health_check()[:-1]
    paths = {name: ours[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: words[:-1] for name, words in paths.items()} == dict.fromkeys(paths, command)
    assert [paths[name][-1] for name in paths] == ["/livez", "/livez", "/readyz"]
    assert not [e for e in ours["env"] if e["name"] == "CLAWMEND_HOST"]


def test_a_clawmend_that_cannot_work_does_not_take_the_gateway_out_of_its_service() -> None:
    (deployment,) = (o for o in built(BASE) if o["kind"] == "Deployment")
    assert not any("readinessProbe" in c for c in containers(deployment) if c["name"] == "clawmend")


def test_the_sidecar_is_allowed_in_a_restricted_namespace_and_can_write_to_its_volumes_only(
    pod: Object, ours: Object
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert ours["securityContext"]["readOnlyRootFilesystem"] is True
    assert "memory" in ours["resources"]["limits"]
    assert "/var/lib/clawmend" in of("VOLUME")[0]
