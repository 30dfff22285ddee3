"""The container engine: docker or podman. Makes it available and asks it simple things."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

from e2e.cluster.host import REACH_SECONDS
from e2e.cluster.plan import Plan
from e2e.cluster.process import CommandError, Log, answer, succeeds
from e2e.cluster.state import State
from e2e.cluster.steps import Step
from e2e.cluster.versions import KIND_NODE

# what a pull prints as soon as the registry has answered for the image
ANSWERED = (
    "Pulling from",
    "Pulling fs layer",
    "Getting image source signatures",
    "Copying blob",
    "Writing manifest",
)
CLIENT_PACKAGES = ("docker-cli",)


@dataclass(frozen=True)
class Engine:
    """`program` is docker or podman; `buildkit` tells whether docker's client can build with BuildKit."""

    program: str
    buildkit: bool

    @property
    def environment(self) -> dict[str, str]:
        """What the scripts, kind and docker's client are to find in their environment."""
        found = {"ENGINE": self.program, "DOCKER_BUILDKIT": "1" if self.buildkit else "0"}
        found["BUILDX_NO_DEFAULT_ATTESTATIONS"] = "1"  # kind cannot load an image that has them
        if self.program == "podman":
            found["KIND_EXPERIMENTAL_PROVIDER"] = "podman"
        return found

    def reference(self, image: str) -> str:
        """Return the image's name as a node's kubelet understands it; podman would prefix `localhost/`."""
        return f"docker.io/library/{image}" if self.program == "podman" and "/" not in image else image

    def has_image(self, image: str) -> bool:
        """Tell whether the engine's store holds the image."""
        return succeeds([self.program, "image", "inspect", self.reference(image)])

    def pull(self, image: str, log: Log) -> bool:
        """Pull an image; return False when no registry answers for it within 3 seconds.

        Raises:
            CommandError: a registry answered, and then the pull failed.
        """
        log.say(f"$ {self.program} pull {image}")
        with log.path.open("ab") as stream:
            pulling = subprocess.Popen(
                [self.program, "pull", image], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
            deadline = time.monotonic() + REACH_SECONDS
            while pulling.poll() is None and not self._answered(log):
                if time.monotonic() > deadline:
                    pulling.kill()
                time.sleep(0.1)
            status = pulling.wait()
        if status and self._answered(log):
            raise CommandError(f"{self.program} pull {image}: exit status {status}")
        return status == 0

    @staticmethod
    def _answered(log: Log) -> bool:
        text = "\n".join(log.tail(50))
        return any(words in text for words in ANSWERED)


def engine_steps(plan: Plan, state: State) -> list[Step]:
    """Return the steps after which the container engine answers; none where it does already."""
    steps = []
    if plan.packages:
        title = f"apt: {' '.join(plan.packages)}"
        steps.append(Step("packages", title, lambda log: install(plan.packages, log)))
    if plan.start:
        title = "docker" if plan.start == "systemd" else "containerd and dockerd"
        steps.append(
            Step(
                "docker",
                f"start {title}",
                lambda log: start(plan, state, log),
                lambda: running(plan.engine),
                ("packages",),
                f"see the daemons' logs in {state.root / 'docker'}",
            )
        )
    return steps


def install(packages: tuple[str, ...], log: Log) -> None:
    """Install packages with apt."""
    log.run(["apt-get", "update"])
    # newer releases of the distributions have docker's client in a package of its own
    split = [
        name for name in CLIENT_PACKAGES if "docker.io" in packages and succeeds(["apt-cache", "show", name])
    ]
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages, *split]
    log.run(command, env={"DEBIAN_FRONTEND": "noninteractive"})


def start(plan: Plan, state: State, log: Log) -> None:
    """Start docker, with systemd or by ourselves."""
    if plan.start == "systemd":
        log.run(["systemctl", "start", "docker"])
        return
    shim = ["shim"] if plan.shim else []
    log.run(["bash", KIND_NODE / "start-docker.sh", state.root / "docker", *shim])


def running(program: str) -> bool:
    """Tell whether the engine answers."""
    return succeeds([program, "version"])


def containers(program: str, cluster: str) -> dict[str, str]:
    """Return the states (`running`, `exited`, ...) of a kind cluster's node containers by name."""
    label = f"label=io.x-k8s.kind.cluster={cluster}"
    listed = answer([program, "ps", "-a", "--filter", label, "--format", "{{.Names}} {{.State}}"])
    return {name: state for name, _, state in (line.partition(" ") for line in listed.splitlines())}
