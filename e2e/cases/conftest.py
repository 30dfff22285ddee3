"""The cluster that the cases run on, and a namespace for each module of cases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cases.kubectl import Kubectl, client_pod

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "embedding-operator-e2e"
BRING_UP_SECONDS = 40 * 60
CASE_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the cases more time than other tests; bringing the cluster up has a bound of its own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(CASE_SECONDS, func_only=True))


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Kubectl:
    """Bring the cluster up, or find it up, with this checkout's images in it."""
    command = [sys.executable, "-m", "e2e.cluster", "up", "--name", CLUSTER]
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=BRING_UP_SECONDS, check=False
        )
    assert done.returncode == 0, f"{' '.join(command[1:])} failed: what it printed says why"
    told = json.loads(done.stdout.splitlines()[-1])
    return Kubectl(f"{told['path']}/kubectl", told["kubeconfig"], f"{told['runtime_image']}-cpu")


@pytest.fixture(scope="module")
def kubectl(cluster: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """Return kubectl in a namespace of the module's own, with a client pod in it."""
    namespace = "case-" + Path(request.node.path).parent.name.replace("_", "-")
    cluster("delete", "namespace", namespace, "--ignore-not-found", "--timeout=60s")
    cluster("create", "namespace", namespace)
    inside = cluster.within(namespace)
    inside.wait("the default service account", lambda: inside.get("serviceaccount", "default"))
    inside.apply(client_pod(cluster.runtime_image))
    inside("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    yield inside
    cluster("delete", "namespace", namespace, "--wait=false")
