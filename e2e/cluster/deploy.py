"""What is installed in the cluster: the CRD, the operator, and a hub mirror where there is no hub.

Each is a kustomize overlay over files that a user would apply as they are, generated into the cluster's state
folder and applied with `kubectl apply -k`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from e2e.cluster.images import OPERATOR
from e2e.cluster.kind import MODELS_MOUNT, Cluster
from e2e.cluster.process import CommandError, Log, answer
from e2e.cluster.state import ROOT, write_atomically

NAMESPACE = "embedding-operator-system"
DEPLOYMENT = "embedding-operator"
MIRROR = "hub-mirror"
MIRROR_URL = "http://hub-mirror.hub-mirror.svc"
CRD = "embeddingmodels.inference.semantic-explorer.io"
ROLLOUT_SECONDS = 120
CHECKOUT = "embedding-operator/checkout"  # the annotation that tells whose operator is installed

Object = dict[str, Any]


def _container_patch(
    name: str, namespace: str, container: Object, volumes: list[Object] | None = None
) -> Object:
    pod: Object = {"containers": [container], **({"volumes": volumes} if volumes else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": {"spec": pod}},
    }


def operator_overlay(base: str, operator_image: str, runtime_image: str, hub: str, checkout: str) -> Object:
    """Return the kustomization that sets the images and the hub; `runtime_image` is without `-cpu`."""
    settings = {"RUNTIME_IMAGE": runtime_image, "HF_ENDPOINT": hub}
    container = {
        "name": "operator",
        "env": [{"name": name, "value": value} for name, value in settings.items()],
    }
    repository, _, tag = operator_image.rpartition(":")
    patch = _container_patch(DEPLOYMENT, NAMESPACE, container)
    patch["metadata"]["annotations"] = {CHECKOUT: checkout}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [{"name": OPERATOR.repository, "newName": repository, "newTag": tag}],
        "patches": [{"patch": json.dumps(patch)}],
    }


def mirror_overlay(image: str, models_key: str) -> Object:
    """Return the kustomization of the hub mirror that serves one version of the models."""
    folder = {"path": f"{MODELS_MOUNT}/{models_key}", "type": "Directory"}
    patch = _container_patch(
        MIRROR, MIRROR, {"name": "mirror", "image": image}, [{"name": "models", "hostPath": folder}]
    )
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": MIRROR,
        "resources": ["hub-mirror.yaml"],
        "configMapGenerator": [{"name": MIRROR, "files": ["server.py"]}],
        "patches": [{"patch": json.dumps(patch)}],
    }


def operator(cluster: Cluster, operator_image: str, runtime_image: str, hub: str, log: Log) -> None:
    """Install the CRD and the operator of this checkout, and wait until the operator is ready."""
    folder = cluster.state.folder / "operator"
    folder.mkdir(parents=True, exist_ok=True)
    # kustomize takes relative paths only
    base = os.path.relpath(ROOT / "manifests" / "base", folder.resolve())
    overlay = operator_overlay(base, operator_image, runtime_image, hub, str(ROOT))
    _apply(cluster, folder, overlay, log)
    log.run(cluster.kubectl_command("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s"))
    roll_out(cluster, NAMESPACE, DEPLOYMENT, log)


def installed_from(cluster: Cluster) -> str:
    """Return the checkout whose operator the cluster runs, empty when there is none."""
    path = "jsonpath={.metadata.annotations." + CHECKOUT.replace(".", r"\.") + "}"
    try:
        return cluster.kubectl("get", "deployment", DEPLOYMENT, "-n", NAMESPACE, "-o", path)
    except CommandError:
        return ""


def mirror(cluster: Cluster, image: str, models_key: str, log: Log) -> None:
    """Install the hub mirror and wait until it serves."""
    folder = cluster.state.folder / "hub-mirror"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("hub-mirror.yaml"), folder)
    shutil.copy(ROOT / "e2e" / "mirror" / "server.py", folder)
    _apply(cluster, folder, mirror_overlay(image, models_key), log)
    roll_out(cluster, MIRROR, MIRROR, log)


def publish_models(models: Path, served: Path) -> None:
    """Show the models to the nodes: links to the same files in the folder that is mounted into each node."""
    target = served / models.name.removeprefix("models-")
    if target.exists():
        return
    served.mkdir(parents=True, exist_ok=True)
    fresh = served / f".{target.name}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(models, fresh, copy_function=os.link)
    fresh.rename(target)


def roll_out(cluster: Cluster, namespace: str, deployment: str, log: Log) -> None:
    """Wait until the Deployment is rolled out; if it is not in time, put into the log what explains it.

    Raises:
        CommandError: it is not ready within two minutes.
    """
    target = ["-n", namespace, f"deployment/{deployment}"]
    limit = f"--timeout={ROLLOUT_SECONDS}s"
    try:
        log.run(cluster.kubectl_command("rollout", "status", *target, limit), timeout=ROLLOUT_SECONDS + 30)
    except CommandError:
        for question in (
            ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
            ("get", "pods", "-n", namespace, "-o", "wide"),
            ("logs", *target, "--tail=30", "--all-containers"),
        ):
            log.say("$ kubectl " + " ".join(question))
            log.say(_told(cluster.kubectl_command(*question)))
        raise


def _told(command: list[str]) -> str:
    try:
        return answer(command)
    except CommandError as error:
        return str(error)


def _apply(cluster: Cluster, folder: Path, overlay: Object, log: Log) -> None:
    write_atomically(folder / "kustomization.yaml", json.dumps(overlay, indent=1))  # JSON is YAML
    log.run(cluster.kubectl_command("apply", "--server-side", "--force-conflicts", "-k", str(folder)))
