"""From whatever a machine has to a cluster with the operator in it: which steps there are, in which order."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property

from e2e.cluster import deploy, engine, images, plan, tools
from e2e.cluster.engine import Engine, engine_steps
from e2e.cluster.host import Host, look
from e2e.cluster.images import OPERATOR, RUNTIME, Image
from e2e.cluster.kind import Cluster
from e2e.cluster.plan import Cached, Plan, RefusedError
from e2e.cluster.process import Log
from e2e.cluster.session import Session
from e2e.cluster.source import THIRD_PARTY, Source, debootstrap_step
from e2e.cluster.state import ROOT
from e2e.cluster.steps import Step
from e2e.cluster.versions import BASE_IMAGE, NODE_IMAGE
from e2e.mirror import models


@dataclass(frozen=True)
class Ready:
    """A cluster with the operator in it; `runtime_image` is without `-cpu`, `hub` mirror or huggingface."""

    cluster: Cluster
    operator_image: str
    runtime_image: str
    hub: str

    def as_json(self) -> dict[str, str]:
        """Return what a program that called us wants to know."""
        return {
            "kubeconfig": str(self.cluster.state.kubeconfig),
            "path": str(self.cluster.state.binaries),
            "operator_image": self.operator_image,
            "runtime_image": self.runtime_image,
            "hub": self.hub,
        }


@dataclass(frozen=True)
class Chosen:
    """The images to build on, official or built here; the node image is empty when the cluster is up."""

    node_image: str
    base_image: str


class BringUp:
    """One run for one cluster."""

    def __init__(self, session: Session) -> None:
        self.state, self.runner, self.progress = session.state, session.runner, session.progress
        self.models = self.state.root / f"models-{models.key()}"

    def run(self) -> Ready:
        """Do what is missing and return the cluster.

        Raises:
            RefusedError: this machine lacks something; nothing was begun.
            StepError: a step failed.
        """
        self._prepare()
        if self.cluster.usable():
            self.runner.run([*self._tool_steps(), self._revival_step()])
        chosen = self._choose()
        folder = self.state.folder / "images"
        operator, runtime = (images.snapshot(p, chosen.base_image, folder) for p in (OPERATOR, RUNTIME))
        done = {outcome.name for outcome in self.runner.outcomes}
        steps = self._steps(chosen, operator, runtime)
        self.runner.run([step for step in steps if step.name not in done])
        hub = "huggingface" if self.host.hub else "mirror"
        return Ready(self.cluster, operator.name, runtime.name.removesuffix(RUNTIME.suffix), hub)

    @cached_property
    def host(self) -> Host:
        """What this machine has."""
        return look(self.state.root)

    @cached_property
    def engine(self) -> Engine:
        """The container engine of the plan."""
        return Engine(self.plan.engine, self.host.buildx)

    @cached_property
    def plan(self) -> Plan:
        """What to do to have a container engine."""
        return plan.decide(self.host)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster that is brought up."""
        return Cluster(self.state, self.engine)

    @cached_property
    def source(self) -> Source:
        """What would be built where no registry answers."""
        return Source(self.state.root, self.engine, self.host.distribution)

    def _prepare(self) -> None:
        """Say what is there and what will be done; refuse, or have a container engine."""
        self.progress.say(self.host.summary())
        os.environ.update(self.engine.environment)
        cached = self._cached()
        plan.check_disk(self.host.free, cached)
        for line in plan.announce(self.host, self.plan, cached):
            self.progress.say(f"  - {line}")
        self.runner.run(engine_steps(self.plan, self.state))

    def _cached(self) -> Cached:
        """Look at what earlier runs left; a stopped engine cannot be asked, its store counts as it was."""
        up = engine.running(self.plan.engine)
        stopped_cluster = not up and (self.state.folder / "kubeconfig").exists()
        node = up and (self.engine.has_image(NODE_IMAGE) or self.engine.has_image(self.source.node_image))
        base = up and (self.engine.has_image(BASE_IMAGE) or self.engine.has_image(self.source.base_image))
        return Cached(
            cluster=stopped_cluster or (up and self.cluster.usable()),
            node_image=node or stopped_cluster,
            programs=all(self.source.built(group) for group in (*THIRD_PARTY, "podnet")),
            base_image=base or self.source.base_root.exists(),
            models=self.host.hub or self.models.exists(),
        )

    def _choose(self) -> Chosen:
        """Take what is there, else what a registry has, else what can be built from source.

        Raises:
            RefusedError: none of the three.
        """
        wanted = {
            "base_image": (BASE_IMAGE, self.source.base_image),
            "node_image": (NODE_IMAGE, self.source.node_image),
        }
        chosen = {"node_image": ""} if self.cluster.usable() else {}
        for role, names in wanted.items():
            if there := next(filter(self.engine.has_image, names), None):
                chosen.setdefault(role, there)
        if left := [role for role in wanted if role not in chosen]:
            official, built = zip(*wanted.values(), strict=True)
            answers = self._registry_answers()
            if not answers and (reason := plan.source_refusal(self.host)):
                raise RefusedError(f"no image registry answers within 3 seconds, and {reason}.")
            chosen |= {
                role: dict(zip(wanted, official if answers else built, strict=True))[role] for role in left
            }
        return Chosen(**chosen)

    def _registry_answers(self) -> bool:
        """Find out by pulling the smaller of the two official images."""
        found: list[bool] = []
        step = Step(
            "registry",
            "look for an image registry",
            lambda log: found.append(self.engine.pull(BASE_IMAGE, log)),
        )
        self.runner.run([step])
        self.progress.say(
            f"  - {'a registry answers' if found[0] else 'no registry answers: images from source'}"
        )
        return found[0]

    def _steps(self, chosen: Chosen, operator: Image, runtime: Image) -> list[Step]:
        """Return everything from here to the operator; a step that two parts name is there once."""
        parts = [
            *self._tool_steps(),
            *self._node_image_steps(chosen.node_image),
            *self._base_image_steps(chosen.base_image),
            *self._product_steps(chosen.node_image, operator, runtime),
            *([] if self.host.hub else self._mirror_steps(runtime)),
        ]
        return list({step.name: step for step in parts}.values())

    def _tool_steps(self) -> list[Step]:
        """Return the steps that put kind and kubectl into the cluster's folder."""
        before: list[Step] = []
        if tools.fitting(self.host):
            programs = tools.on_path()
        elif self.host.downloads and not self.source.built("kind"):
            programs = tools.downloaded(self.state.root)
            before = [
                Step(
                    "downloads", "download kind and kubectl", lambda log: tools.download(self.state.root, log)
                )
            ]
        else:
            programs = {name: self.source.programs / name for name in ("kind", "kubectl")}
            before = self.source.program_steps(("kubernetes", "kind"), self.host.go)
        needs = tuple(step.name for step in before)
        return [
            *before,
            Step(
                "tools", "kind and kubectl", lambda _: tools.link(programs, self.state.binaries), needs=needs
            ),
        ]

    def _node_image_steps(self, image: str) -> list[Step]:
        if image == self.source.node_image:
            programs = self.source.program_steps((*THIRD_PARTY, "podnet"), self.host.go)
            node = [debootstrap_step(), self.source.root_fs_step("node"), self.source.node_image_step()]
            # what an image is made of is not needed again while the image is there
            return node[-1:] if self.engine.has_image(image) else [*programs, *node]
        return [self._pull_step("node-image", image)] if image else []

    def _base_image_steps(self, image: str) -> list[Step]:
        if image == self.source.base_image:
            steps = [debootstrap_step(), self.source.root_fs_step("base"), self.source.base_image_step()]
            return steps[-1:] if self.engine.has_image(image) else steps
        return [self._pull_step("base-image", image)]

    def _pull_step(self, name: str, image: str) -> Step:
        def run(log: Log) -> None:
            log.run([self.engine.program, "pull", image])

        return Step(name, f"pull {image}", run, lambda: self.engine.has_image(image))

    def _product_steps(self, node_image: str, operator: Image, runtime: Image) -> list[Step]:
        """Return the steps that build and load the images, make the cluster and install the operator."""
        built = (operator, runtime)
        hub = "" if self.host.hub else deploy.MIRROR_URL

        def load(log: Log) -> None:
            kind, nodes = self.state.binaries / "kind", self.cluster.workers()
            for image in built:
                images.load(image.name, self.state.cluster, nodes, kind, self.engine, log)

        def is_loaded() -> bool:
            return not any(images.missing(image.name, self.cluster.workers(), self.engine) for image in built)

        def install(log: Log) -> None:
            if (other := deploy.installed_from(self.cluster)) and other != str(ROOT):
                self.progress.say(f"  - the operator of {other} is replaced by this checkout's, {ROOT}")
            deploy.operator(self.cluster, operator.name, runtime.name.removesuffix(RUNTIME.suffix), hub, log)

        loaded_after = ("cluster", *(image.step for image in built))
        return [
            *map(self._build_step, built),
            *([self._cluster_step(node_image)] if node_image else []),
            Step("load", "load the images into the nodes", load, is_loaded, loaded_after),
            Step("operator", "install the CRD and the operator", install, needs=("load",)),
        ]

    def _build_step(self, image: Image) -> Step:
        return Step(
            image.step,
            f"image {image.name}",
            lambda log: images.build(image, self.engine, log),
            lambda: self.engine.has_image(image.name),
            ("base-image",),
            "look into the log; behind a company's proxy set PIP_CERT and PIP_INDEX_URL",
        )

    def _revival_step(self) -> Step:
        """Return the step after which the cluster that was found is up, or gone."""
        return Step(
            "found-cluster",
            f"the kind cluster {self.state.cluster} that is there",
            self.cluster.revive,
            self.cluster.healthy,
            ("tools",),
        )

    def _cluster_step(self, node_image: str) -> Step:
        name = self.state.cluster
        return Step(
            "cluster",
            f"kind cluster {name}",
            lambda log: self.cluster.make(node_image, log),
            needs=("node-image", "tools"),
            advice=f"python3 -m e2e.cluster down --name {name}, then run the same command again",
        )

    def _mirror_steps(self, runtime: Image) -> list[Step]:
        """Return the steps that fetch real models and serve them in the cluster."""
        served = self.state.served / models.key()

        def fetch(log: Log) -> None:
            log.run([sys.executable, "-m", "e2e.mirror.models", self.models], cwd=ROOT)
            deploy.publish_models(self.models, self.state.served)

        def install(log: Log) -> None:
            deploy.mirror(self.cluster, runtime.name, models.key(), log)

        return [
            Step("models", "real models for the hub mirror", fetch, served.exists),
            Step("mirror", "hub mirror in the cluster", install, needs=("load", "models")),
        ]
