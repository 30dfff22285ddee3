"""A reconciler on an in-memory cluster, and the moves that kubelet and the controllers would make."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from embedding_operator import api, naming, status
from embedding_operator.api import Key
from embedding_operator.reconcile import Outcome, Reconciler
from tests.unit.operator import samples
from tests.unit.operator.fakes import Clock, FakeCache, FakeCluster, FakeServers

KEY = Key("default", "minilm")


class World:
    """One EmbeddingModel called minilm and everything around it."""

    def __init__(self, *, image_volumes: bool = False, **spec: Any) -> None:
        self.image_volumes = image_volumes
        self.clock = Clock()
        self.cluster = FakeCluster(self.clock)
        self.cache = FakeCache(self.cluster)
        self.servers = FakeServers()
        self.restart_operator()
        self.cluster.put(samples.model_body(**spec))

    def restart_operator(self) -> None:
        runtime = replace(samples.RUNTIME, image_volumes=self.image_volumes)
        self.reconciler = Reconciler(self.cluster, self.cache, self.servers, runtime, self.clock)

    def reconcile(self, *, fresh: bool = False) -> Outcome:
        return asyncio.run(self.reconciler(KEY, fresh=fresh))

    def settle(self) -> None:
        """Reconciles until nothing is written any more."""
        for _ in range(8):
            self.cluster.requests.clear()
            self.reconcile()
            if not self.cluster.writes():
                return
        raise AssertionError("the operator writes without end")

    # --- what it looks like from outside

    @property
    def em(self) -> dict[str, Any]:
        return self.cluster.find(api.KIND, KEY.name)

    def condition(self, kind: str) -> tuple[str, str, str]:
        for item in self.em["status"]["conditions"]:
            if item["type"] == kind:
                return item["status"], item["reason"], item["message"]
        raise AssertionError(f"no condition {kind}")

    def ready(self) -> tuple[str, str]:
        return status.ready(self.em["status"])[:2]

    def serving(self) -> str:
        found: str = self.cluster.find("Service")["spec"]["selector"][naming.FINGERPRINT_LABEL]
        return found

    def names(self, kind: str) -> list[str]:
        return sorted(body["metadata"]["name"] for body in self.cluster.all(kind))

    # --- what others do

    def change(self, **spec: Any) -> None:
        self.em["spec"] |= spec
        self.em["metadata"]["generation"] += 1

    def job(self) -> dict[str, Any]:
        em = api.parse(self.em, image_volumes=self.image_volumes)
        return self.cluster.find("Job", naming.job(em))

    def job_pod(
        self, suffix: str = "0", job: dict[str, Any] | None = None, **pod_status: Any
    ) -> dict[str, Any]:
        """The job controller makes a pod of this Job, or the prefetch's; kubelet gives it this status."""
        job = job or self.job()
        labels = job["spec"]["template"]["metadata"]["labels"]
        owner = {
            "kind": "Job",
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
            "controller": True,
        }
        pod = samples.pod(f"{job['metadata']['name']}-{suffix}", **pod_status)
        pod["metadata"] |= {"labels": labels, "ownerReferences": [owner]}
        return self.cluster.put(pod)

    def end_job(
        self,
        result: dict[str, Any] | None,
        *,
        well: bool,
        suffix: str = "0",
        job: dict[str, Any] | None = None,
    ) -> None:
        """The pod of this Job, or the prefetch's, ends with this termination message, and the Job with it."""
        job = job or self.job()
        terminated = {"exitCode": 0 if well else 3, "message": json.dumps(result) if result else ""}
        self.job_pod(
            suffix,
            job,
            phase="Succeeded" if well else "Failed",
            containerStatuses=samples.container_status(naming.PREFETCH_CONTAINER, {"terminated": terminated}),
        )
        job["status"] = {
            "conditions": [
                {
                    "type": "Complete" if well else "Failed",
                    "status": "True",
                    "lastTransitionTime": self.clock.stamp(),
                }
            ]
        }

    def prefetched(self, **result: Any) -> None:
        """The first reconcile makes the Job, and it ends well."""
        self.reconcile()
        self.end_job(samples.ok(**result), well=True)

    def roll(self, name: str | None = None, *, ready: int | None = None) -> None:
        """The deployment controller brings all (or this many) pods of a Deployment up."""
        body = self.cluster.find("Deployment", name)
        replicas = body["spec"]["replicas"]
        up = replicas if ready is None else ready
        body["status"] = {
            "observedGeneration": body["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": up,
            "availableReplicas": up,
        }

    def serve(self, **result: Any) -> None:
        """From nothing to Ready."""
        self.prefetched(**result)
        self.settle()
        self.roll()
        self.settle()
        self.clock.advance(10)
        assert self.ready() == ("True", "Ready")

    def server_pod(self, name: str, fingerprint: str = samples.FINGERPRINT, **pod_status: Any) -> None:
        pod = samples.pod(name, **pod_status)
        pod["metadata"]["labels"] = naming.labels("minilm", "serving") | naming.selector(
            "minilm", fingerprint
        )
        self.cluster.put(pod)
