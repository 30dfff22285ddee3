"""The overlays fit the manifests that they are laid over, and models are published without copies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import deploy
from e2e.cluster.images import OPERATOR
from e2e.cluster.state import ROOT


def patch_of(overlay: dict[str, Any]) -> dict[str, Any]:
    (entry,) = overlay["patches"]
    patch: dict[str, Any] = json.loads(entry["patch"])
    return patch


@pytest.fixture(scope="module")
def operator_base() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())
    return loaded


def test_the_operator_overlay_sets_images_and_hub() -> None:
    overlay = deploy.operator_overlay(
        "../base", "embedding-operator:0.1.0-abc", "embedding-runtime:0.1.0-def", "http://hub", "/here"
    )
    assert overlay["resources"] == ["../base"]
    assert overlay["images"] == [
        {"name": "embedding-operator", "newName": "embedding-operator", "newTag": "0.1.0-abc"}
    ]
    (container,) = patch_of(overlay)["spec"]["template"]["spec"]["containers"]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "RUNTIME_IMAGE": "embedding-runtime:0.1.0-def",
        "HF_ENDPOINT": "http://hub",
    }


def test_the_operator_patch_meets_the_manifest_that_it_patches(operator_base: dict[str, Any]) -> None:
    patch = patch_of(deploy.operator_overlay("base", "a:1", "b:1", "", "/here"))
    assert patch["metadata"]["name"] == operator_base["metadata"]["name"]
    (patched,), (original,) = (
        document["spec"]["template"]["spec"]["containers"] for document in (patch, operator_base)
    )
    assert patched["name"] == original["name"]
    assert original["image"].split(":")[0] == OPERATOR.repository
    assert {entry["name"] for entry in patched["env"]} <= {entry["name"] for entry in original["env"]}


def test_the_mirror_patch_meets_the_manifest_that_it_patches() -> None:
    manifest = Path(deploy.__file__).with_name("hub-mirror.yaml").read_text()
    _, deployment, service = yaml.safe_load_all(manifest)
    patch = patch_of(deploy.mirror_overlay("embedding-runtime:1-cpu", "0123"))
    assert patch["metadata"] == {key: deployment["metadata"][key] for key in ("name", "namespace")}
    pod, patched = deployment["spec"]["template"]["spec"], patch["spec"]["template"]["spec"]
    assert [c["name"] for c in patched["containers"]] == [c["name"] for c in pod["containers"]]
    assert {v["name"] for v in patched["volumes"]} < {v["name"] for v in pod["volumes"]}
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert f"http://{name}.{namespace}.svc" == deploy.MIRROR_URL


def test_published_models_are_the_same_files_not_copies(tmp_path: Path) -> None:
    model = tmp_path / "models-0123" / "organisation" / "name"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    served = tmp_path / "mirror"
    deploy.publish_models(tmp_path / "models-0123", served)
    deploy.publish_models(tmp_path / "models-0123", served)
    published = served / "0123" / "organisation" / "name" / "config.json"
    assert published.samefile(model / "config.json")
    assert [path.name for path in served.iterdir()] == ["0123"]
    shutil.rmtree(tmp_path / "models-0123")
    assert published.read_text() == "{}"
