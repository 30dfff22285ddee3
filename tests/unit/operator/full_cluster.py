"""A cluster with so many GPUs and no more.

What scheduler, kubelet and the Deployment controller do there, second by second. The controller's rules are
those of a rolling update in kubernetes/kubernetes pkg/controller/deployment/rolling.go.
"""

import json
from decimal import Decimal
from typing import Any

from embedding_operator import naming
from embedding_operator.health import census
from embedding_operator.health.census import Census, Node
from embedding_operator.observed import condition, is_true, timestamp
from tests.unit.operator import samples
from tests.unit.operator.world import World

LOADS, GRACE = 8, 6
"""Seconds from its node until a pod is ready, and from its deletion until its GPU is free."""

BAD = "registry.example/never-ready:1"
NODE = "gpu-node"
WORDS = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


class FullCluster(World):
    """least: how few pods were ready behind the Service at any second since it was last set.

    words are the scheduler's where it has none left.
    """

    def __init__(self, gpus: int, words: str = WORDS, **spec: Any) -> None:
        super().__init__(**{"gpu": samples.GPU, **spec})
        self.gpus, self.words = gpus, words
        self.cluster.hosts = self.cluster.device_hosts = [NODE]
        self.least = 0
        self.serial = 0
        self.progress: dict[str, tuple[Any, float]] = {}
        self.pods_of_others = 0

    def start(self) -> None:
        """From nothing to Ready."""
        self.prefetched()
        self.run(30)
        assert self.ready() == ("True", "Ready"), self.em["status"]["conditions"]
        self.least = self.answering()

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self._controllers()
            self.reconcile()
            self._controllers()
            self.least = min(self.least, self.answering())

    def run_until(self, what: str, seconds: int = 400) -> None:
        """Until Ready, or Progressing, has this reason."""
        for _ in range(seconds):
            if what in (self.ready()[1], self.condition("Progressing")[1]):
                return
            self.run(1)
        raise AssertionError(f"no {what} after {seconds} s: {self.em['status']['conditions']}")

    def answering(self) -> int:
        """Ready pods behind the Service."""
        if not self.cluster.all("Service"):
            return 0
        selector = self.cluster.find("Service")["spec"]["selector"].items()
        pods = [pod for pod in self._alive() if selector <= pod["metadata"]["labels"].items()]
        return sum(is_true(pod, "Ready") for pod in pods)

    def pods_with_image(self, image: str) -> int:
        return sum(pod["spec"]["image"] == image for pod in self._alive())

    # --- what the cluster does

    def _alive(self, deployment: str = "") -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.cluster.all("Pod")
            if "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["labels"][naming.COMPONENT_LABEL] == "serving"
            and deployment in ("", pod["spec"]["deployment"])
        ]

    def _controllers(self) -> None:
        self._end()
        for deployment in self.cluster.all("Deployment"):
            self._roll(deployment)
        self._collect()
        self._schedule()
        self._load()
        for deployment in self.cluster.all("Deployment"):
            self._count(deployment)
        self.cluster.counted = self._census()

    def _end(self) -> None:
        for pod in self.cluster.all("Pod"):
            gone = timestamp(pod["metadata"].get("deletionTimestamp"))
            if gone is not None and (self.clock() - gone).total_seconds() >= GRACE:
                self.cluster.remove("Pod", pod["metadata"]["name"])

    def _collect(self) -> None:
        names = self.names("Deployment")
        for pod in self._alive():
            if pod["spec"]["deployment"] not in names:
                self._delete(pod)

    def _roll(self, deployment: dict[str, Any]) -> None:
        spec, name = deployment["spec"], deployment["metadata"]["name"]
        rules = spec["strategy"]["rollingUpdate"]
        pods, wanted = self._alive(name), spec["replicas"]
        template = json.dumps(spec["template"], sort_keys=True)
        new = [pod for pod in pods if pod["spec"]["template"] == template]
        old = [pod for pod in pods if pod["spec"]["template"] != template]
        if len(new) > wanted:
            for pod in sorted(new, key=_worth)[: len(new) - wanted]:
                self._delete(pod)
            return
        room = wanted + rules["maxSurge"] - len(pods)
        for _ in range(min(room, wanted - len(new))):
            self._create(deployment, template)
        least = wanted - rules["maxUnavailable"]
        unready = sum(not is_true(pod, "Ready") for pod in new)
        may = len(pods) - least - unready
        sick = [pod for pod in old if not is_true(pod, "Ready")][: max(0, may)]
        for pod in sick:
            self._delete(pod)
        ready = [pod for pod in pods if is_true(pod, "Ready")]
        if may > 0 and len(ready) > least:
            for pod in [pod for pod in old if pod in ready][: len(ready) - least]:
                self._delete(pod)

    def _create(self, deployment: dict[str, Any], template: str) -> None:
        self.serial += 1
        made = json.loads(template)
        pod = samples.pod(
            f"{deployment['metadata']['name']}-{self.serial:04}", phase="Pending", conditions=[]
        )
        pod["metadata"]["labels"] = made["metadata"]["labels"]
        pod["spec"] = {
            "deployment": deployment["metadata"]["name"],
            "template": template,
            "image": made["spec"]["containers"][0]["image"],
            "containers": made["spec"]["containers"],
        }
        self.cluster.put(pod)

    def _delete(self, pod: dict[str, Any]) -> None:
        if "nodeName" in pod["spec"]:
            pod["metadata"]["deletionTimestamp"] = self.clock.stamp()
        else:
            self.cluster.remove("Pod", pod["metadata"]["name"])

    def _schedule(self) -> None:
        for pod in sorted(self._alive(), key=lambda pod: pod["metadata"]["name"].rpartition("-")[2]):
            if "nodeName" in pod["spec"]:
                continue
            held = sum("nodeName" in pod["spec"] for pod in self.cluster.all("Pod"))
            if held + self.pods_of_others < self.gpus:
                pod["spec"]["nodeName"] = NODE
                pod["status"]["conditions"] = [self._condition("PodScheduled", "True")]
            elif not pod["status"]["conditions"]:
                pod["status"]["conditions"] = [self._condition("PodScheduled", "False", self.words)]

    def _load(self) -> None:
        for pod in self._alive():
            placed = condition(pod, "PodScheduled") or {}
            since = timestamp(placed.get("lastTransitionTime"))
            if placed.get("status") != "True" or since is None or pod["spec"]["image"] == BAD:
                continue
            if (self.clock() - since).total_seconds() >= LOADS and not is_true(pod, "Ready"):
                pod["status"]["conditions"].append(self._condition("Ready", "True"))

    def _count(self, deployment: dict[str, Any]) -> None:
        template = json.dumps(deployment["spec"]["template"], sort_keys=True)
        pods = self._alive(deployment["metadata"]["name"])
        ready = sum(is_true(pod, "Ready") for pod in pods)
        new = sum(pod["spec"]["template"] == template for pod in pods)
        counts = {
            "replicas": len(pods), "updatedReplicas": new, "readyReplicas": ready, "availableReplicas": ready
        }  # fmt: skip
        uid, now = deployment["metadata"]["uid"], self.clock().timestamp()
        seen, since = self.progress.get(uid, (None, now))
        if seen != (template, counts):
            since = now
        self.progress[uid] = (template, counts), since
        complete = len(pods) == new == ready == deployment["spec"]["replicas"]
        late = now - since > deployment["spec"]["progressDeadlineSeconds"] and not complete
        deployment["status"] = counts | {
            "observedGeneration": deployment["metadata"]["generation"],
            "conditions": [
                {
                    "type": "Progressing",
                    "status": "False" if late else "True",
                    "reason": "ProgressDeadlineExceeded" if late else "ReplicaSetUpdated",
                }
            ],
        }

    def _condition(self, kind: str, status: str, message: str = "") -> dict[str, str]:
        found = {"type": kind, "status": status, "lastTransitionTime": self.clock.stamp()}
        return found | ({"message": message} if message else {})

    def _census(self) -> Census:
        has = {"cpu": 64, "memory": 2**40, "pods": 110, samples.GPU["resourceName"]: self.gpus}
        node = Node(NODE, {str(name): Decimal(amount) for name, amount in has.items()}, takes_pods=True)
        tenants = [census.tenant(pod) for pod in self.cluster.all("Pod")]
        return Census((node,), tuple(tenant for tenant in tenants if tenant is not None))


def _worth(pod: dict[str, Any]) -> tuple[bool, bool]:
    """What a ReplicaSet removes first sorts first."""
    return "nodeName" in pod["spec"], is_true(pod, "Ready")
