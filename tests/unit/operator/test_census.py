"""What the nodes have and who holds it, counted once for all that wait."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.errors import ForbiddenError
from embedding_operator.health import census
from embedding_operator.health.census import Census, Node, Tenant, Unreadable
from embedding_operator.lookups.survey import Survey
from tests.unit.operator import samples
from tests.unit.operator.fakes import Clock, FakeCluster
from tests.unit.operator.world import World

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int, *, takes_pods: bool = True) -> Node:
    return Node(name, {GPU: Decimal(gpus), "cpu": Decimal(4)}, takes_pods)


def tenant(name: str, gpus: int, node: str = "a", model: str = "") -> Tenant:
    return Tenant("ns", name, model, node, {GPU: Decimal(gpus)} if gpus else {})


@pytest.mark.parametrize(
    ("counted", "count", "words"),
    [
        pytest.param(Census((), ()), 1, f"No node has {GPU}", id="none at all"),
        pytest.param(Census((node("a", 2),), ()), 1, f"The cluster has 2 {GPU}, 2 free", id="all free"),
        pytest.param(
            Census((node("a", 2), node("b", 1)), (tenant("x", 2), tenant("y", 0))),
            1,
            f"The cluster has 3 {GPU}, 1 free; held by pod ns/x (2)",
            id="a pod of somebody else",
        ),
        pytest.param(
            Census((node("a", 4),), (tenant("x", 1), tenant("p", 1, model="m"), tenant("q", 2, model="m"))),
            1,
            f"The cluster has 4 {GPU}, 0 free; held by EmbeddingModel ns/m (3), pod ns/x (1)",
            id="pods of a model are one holder, the largest first",
        ),
        pytest.param(
            Census((node("a", 1), node("b", 1)), ()),
            2,
            f"The cluster has 2 {GPU}, 2 free, at most 1 of them on one node, and a pod asks for 2",
            id="not together",
        ),
        pytest.param(
            Census((node("a", 1), node("b", 2, takes_pods=False)), (tenant("x", 1, "b"),)),
            1,
            f"The cluster has 3 {GPU} (2 on cordoned nodes), 1 free; held by pod ns/x (1)",
            id="a cordoned node has nothing free",
        ),
        pytest.param(
            Census((node("a", 9),), tuple(tenant(f"p{i}", 1) for i in range(9))),
            1,
            f"The cluster has 9 {GPU}, 0 free; held by pod ns/p0 (1), pod ns/p1 (1), pod ns/p2 (1), "
            "pod ns/p3 (1), pod ns/p4 (1) and 4 more",
            id="not everybody is named",
        ),
        pytest.param(
            Unreadable("nodes is forbidden"),
            1,
            f"How many {GPU} there are, and who holds them, cannot be told: nodes is forbidden",
            id="no right to count",
        ),
    ],
)
def test_who_holds_what_is_scarce(counted: Census | Unreadable, count: int, words: str) -> None:
    assert census.scarcity(counted, GPU, count) == words


def containers(*cpus: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [
        given if isinstance(given, dict) else {"resources": {"requests": {"cpu": given}}} for given in cpus
    ]


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        pytest.param({"containers": containers("100m", "1")}, "1.1", id="the sum of the containers"),
        pytest.param({"containers": [{}]}, None, id="nothing asked for"),
        pytest.param(
            {"containers": [{"resources": {"limits": {"cpu": "2"}}}]}, "2", id="a limit is a request too"
        ),
        pytest.param(
            {"containers": containers("1"), "initContainers": containers("3", "2")}, "3", id="a large start"
        ),
        pytest.param(
            {
                "containers": containers("1"),
                "initContainers": [{"restartPolicy": "Always", **containers("3")[0]}],
            },
            "4",
            id="a sidecar",
        ),
        pytest.param({"containers": containers("1"), "overhead": {"cpu": "250m"}}, "1.25", id="overhead"),
    ],
)
def test_a_pods_share_is_counted_as_the_scheduler_does(spec: dict[str, Any], cpu: str | None) -> None:
    found = census.requests(spec)
    assert found.get("cpu") == (None if cpu is None else Decimal(cpu))
    assert found["pods"] == 1


def test_a_pod_counts_from_its_node_to_its_end() -> None:
    body = samples.pod("p", phase="Running")
    assert census.tenant(body) is None
    body["spec"] = {"nodeName": "a", "containers": containers("1")}
    body["metadata"]["labels"] = naming.labels("minilm", "serving")
    found = census.tenant(body)
    assert found
    assert (found.namespace, found.model, found.node) == ("default", "minilm", "a")
    body["status"]["phase"] = "Succeeded"
    assert census.tenant(body) is None


def test_a_label_of_somebody_else_makes_no_model() -> None:
    body = samples.pod("p", phase="Running") | {"spec": {"nodeName": "a"}}
    body["metadata"]["labels"] = {naming.MODEL_LABEL: "minilm"}
    found = census.tenant(body)
    assert found
    assert found.model == ""


def test_one_count_serves_all_that_wait_for_a_while() -> None:
    clock = Clock()
    cluster = FakeCluster(clock)
    survey = Survey(cluster)

    async def looks() -> int:
        cluster.requests.clear()
        await asyncio.gather(*(survey.census(clock()) for _ in range(5)))
        return len(cluster.requests)

    assert asyncio.run(looks()) == 1
    clock.advance(19)
    assert asyncio.run(looks()) == 0
    clock.advance(1)
    assert asyncio.run(looks()) == 1


def waiting_for_a_gpu() -> World:
    world = World(gpu=samples.GPU, replicas=1)
    world.cluster.hosts = ["a"]
    world.cluster.counted = Census((node("a", 1),), (tenant("other-1", 1, model="other"),))
    world.prefetched()
    world.settle()
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    world.server_pod("minilm-abababab-x", phase="Pending", conditions=samples.unscheduled(words))
    world.settle()
    return world


def test_scheduled_says_who_holds_the_gpus_beside_the_schedulers_own_words() -> None:
    world = waiting_for_a_gpu()
    assert world.condition("Scheduled") == (
        "False",
        "Unschedulable",
        "1 of 1 pods: cannot be scheduled: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu. "
        "The cluster has 1 nvidia.com/gpu, 0 free; held by EmbeddingModel ns/other (1)",
    )
    assert world.reconcile().look_again == 20


def test_it_is_counted_again_after_a_while_and_never_where_nothing_waits() -> None:
    world = waiting_for_a_gpu()
    world.cluster.counted = ForbiddenError("nodes is forbidden", status=403)
    world.clock.advance(20)
    world.settle()
    assert world.condition("Scheduled")[2].endswith("cannot be told: nodes is forbidden")
    world.cluster.remove("Pod", "minilm-abababab-x")
    world.roll()
    world.clock.advance(60)
    world.settle()
    world.reconcile()
    assert ("list", "Node", "census") not in world.cluster.requests
