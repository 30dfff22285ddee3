"""How tools that know nothing of us judge a resource: Argo CD by its script, kstatus by three conditions.

Argo CD's files are in upstream's layout, and judged as upstream's own test does. Their resources are what the
operator writes: after an intended change UPDATE_GOLDEN=1 pytest tests/unit/operator/test_health.py, then read
the diff. e2e/cases/kstatus has the same ones judged by kstatus itself.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

FOLDER = (
    Path(__file__).parents[3]
    / "manifests/argocd/resource_customizations/inference.semantic-explorer.io/EmbeddingModel"
)
TESTS = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]


JUDGED = ("Progressing", "Reconciling", "Stalled", "Ready")


def unseen(world: World) -> None:
    world.em["status"] = {"observedGeneration": -1}  # the schema's default


def downloading(world: World) -> None:
    world.reconcile()
    world.job_pod(
        phase="Running",
        containerStatuses=samples.container_status(naming.PREFETCH_CONTAINER, {"running": {}}),
    )
    world.reconcile()


def not_found(world: World) -> None:
    world.reconcile()
    world.end_job(samples.error("ModelNotFound", "no such model", permanent=True), well=False)
    world.settle()


def starting(world: World) -> None:
    world.prefetched()
    world.settle()


def ready(world: World) -> None:
    world.serve()


def changed(world: World) -> None:
    world.serve()
    world.change(replicas=3)


def scaling(world: World) -> None:
    changed(world)
    world.reconcile()


def rolled_back(world: World) -> None:
    world.serve()
    world.change(image="broken:1")
    world.settle()
    world.cluster.find("Deployment")["status"] |= {
        "observedGeneration": world.cluster.find("Deployment")["metadata"]["generation"],
        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
        "updatedReplicas": 1,
    }
    world.settle()


def scaled_to_zero(world: World) -> None:
    world.serve()
    world.change(replicas=0)
    world.settle()
    world.roll()
    world.settle()


def suspended(world: World) -> None:
    world.serve()
    world.change(suspend=True)
    world.settle()
    world.roll()
    world.settle()


def paused(world: World) -> None:
    world.serve()
    world.em["metadata"]["annotations"] = {naming.PAUSED_ANNOTATION: "true"}
    world.settle()


STATES: dict[str, Callable[[World], None]] = {
    state.__name__.replace("_", "-"): state
    for state in (
        unseen, downloading, not_found, starting, ready, changed, scaling, rolled_back, scaled_to_zero,
        suspended, paused,
    )
}  # fmt: skip


def resource(name: str) -> Any:
    """The part of the resource in one of the states that is judged."""
    world = World()
    STATES[name](world)
    body, status = world.em, dict(world.em["status"])
    conditions = [
        {field: item[field] for field in ("type", "status", "reason", "message")}
        for item in status.get("conditions", ())
        if item["type"] in JUDGED
    ]
    metadata = ("name", "namespace", "generation", "annotations")
    return {
        **{field: body[field] for field in ("apiVersion", "kind")},
        "metadata": {field: body["metadata"][field] for field in metadata if field in body["metadata"]},
        "spec": {
            field: body["spec"][field] for field in ("model", "replicas", "suspend") if field in body["spec"]
        },
        "status": {"observedGeneration": status["observedGeneration"]}
        | ({"conditions": conditions} if conditions else {}),
    }


def without_words(body: Any) -> Any:
    """The same without messages, which may change more often than what they mean."""
    if isinstance(body, dict):
        return {name: without_words(below) for name, below in body.items() if name != "message"}
    return [without_words(below) for below in body] if isinstance(body, list) else body


@pytest.mark.parametrize("name", STATES)
def test_the_scripts_resources_are_what_the_operator_writes(name: str) -> None:
    path, body = FOLDER / f"testdata/{name}.yaml", resource(name)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(yaml.safe_dump(body, sort_keys=False, width=1000))
    assert without_words(body) == without_words(yaml.safe_load(path.read_text()))


def test_every_state_is_judged() -> None:
    assert {Path(test["inputPath"]).stem for test in TESTS} == STATES.keys()
    assert {path.stem for path in (FOLDER / "testdata").glob("*")} == STATES.keys()


@pytest.mark.parametrize("test", TESTS, ids=lambda test: Path(test["inputPath"]).stem)
def test_argo_cd_judges_a_resource_rightly(test: Any) -> None:
    """See https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#way-2-contribute-a-custom-health-check."""
    lua = LuaRuntime()  # Argo CD's interpreter is of Lua 5.1 too
    lua.globals()["obj"] = lua.table_from(
        yaml.safe_load((FOLDER / test["inputPath"]).read_text()), recursive=True
    )
    found = lua.execute((FOLDER / "health.lua").read_text())
    assert dict(found) == test["healthStatus"]


@pytest.mark.parametrize("name", STATES)
def test_reconciling_and_stalled_exclude_each_other_and_ready(name: str) -> None:
    """A rule of kstatus: of the three at most one holds, and of a resource at work exactly one."""
    conditions = resource(name)["status"].get("conditions", ())
    found = [item["type"] for item in conditions if item["status"] == "True"]
    held = {"Reconciling", "Stalled", "Ready"} & set(found)
    assert len(held) == (0 if name in ("unseen", "suspended") else 1)
