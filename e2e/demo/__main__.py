"""`make demo`: a cluster, two models, and an application that uses them."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from pathlib import Path

from e2e.cluster.bringup import BringUp, Ready
from e2e.cluster.process import CommandError, Log
from e2e.cluster.progress import short
from e2e.cluster.session import Session, conduct
from e2e.cluster.state import ROOT, State, cache_root, write_atomically
from e2e.cluster.steps import Step
from e2e.demo.watch import until_ready

CLUSTER = "embedding-operator"
HERE = Path(__file__).resolve().parent
SAMPLES = ROOT / "manifests" / "samples"
CLIENT = "demo-client"
MODELS = ["minilm", "reranker"]
CLIENT_SECONDS = 180.0
PORTS = range(8090, 8190)


def demonstrate(session: Session) -> None:
    """Bring everything up, use it, and tell how to go on."""
    ready = BringUp(session).run()
    session.runner.run([_models_step(session, ready), _client_step(ready)])
    print(f"\n{ready.cluster.kubectl('get', 'embeddingmodels')}\n")
    print(ready.cluster.kubectl("logs", CLIENT))
    if ready.hub == "mirror":
        print("(a tiny reranker, trained for this project; where the hub answers, a known one is used)")
    print(farewell(ready), flush=True)
    session.summary()


def _models_step(session: Session, ready: Ready) -> Step:
    reranker = (HERE if ready.hub == "mirror" else SAMPLES) / "reranker.yaml"

    def run(log: Log) -> None:
        start = time.monotonic()
        log.run(ready.cluster.kubectl_command("apply", f"-f={SAMPLES / 'embedding.yaml'}", f"-f={reranker}"))

        def say(text: str) -> None:
            log.say(text)
            session.progress.say(f"      {time.monotonic() - start:4.0f} s  {text}")

        until_ready(ready.cluster, MODELS, log, say)

    return Step(
        "models-ready",
        "apply two EmbeddingModels and wait until they are ready",
        run,
        advice=f"KUBECONFIG={ready.cluster.state.kubeconfig} kubectl describe em",
    )


def _client_step(ready: Ready) -> Step:
    folder = ready.cluster.state.folder / CLIENT

    def run(log: Log) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("client.py", "sentences.txt", "reference.json", "client-pod.yaml"):
            shutil.copy(HERE / name, folder)
        write_atomically(folder / "kustomization.yaml", json.dumps(_overlay(f"{ready.runtime_image}-cpu")))
        kubectl = ready.cluster.kubectl_command
        log.run(kubectl("delete", "pod", CLIENT, "--ignore-not-found", "--grace-period=1"))
        log.run(kubectl("apply", "-k", str(folder)))
        _await_end(ready, log)

    return Step("client", "an application in a pod calls /embed and /rerank", run, needs=("models-ready",))


def _overlay(image: str) -> dict[str, object]:
    files = ["client.py", "sentences.txt", "reference.json"]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["client-pod.yaml"],
        "configMapGenerator": [{"name": CLIENT, "files": files, "options": {"disableNameSuffixHash": True}}],
        "images": [{"name": "client", "newName": image.split(":")[0], "newTag": image.split(":")[1]}],
    }


def _await_end(ready: Ready, log: Log) -> None:
    """Wait for the application's end.

    Raises:
        CommandError: it failed, or took longer than three minutes; its words are in the log.
    """
    deadline = time.monotonic() + CLIENT_SECONDS
    while True:
        phase = ready.cluster.kubectl("get", "pod", CLIENT, "-o", "jsonpath={.status.phase}")
        if phase == "Succeeded":
            return
        if phase == "Failed" or time.monotonic() > deadline:
            log.say(ready.cluster.kubectl("describe", "pod", CLIENT))
            log.say(ready.cluster.kubectl("logs", CLIENT))
            raise CommandError(f"the application's pod is {phase}")
        log.pause(0.5)


def farewell(ready: Ready) -> str:
    """Return how to go on."""
    state, port = ready.cluster.state, free_port()
    return f"""
Go on:
  export KUBECONFIG={short(state.kubeconfig)} PATH={short(state.binaries)}:$PATH
  kubectl get em                                    what is served, and where
  kubectl explain em.spec                           what can be said
  kubectl port-forward service/minilm {port}:80 &     reach it from here (port {port} is free now)
  curl -s localhost:{port}/embed -H 'Content-Type: application/json' -d '{{"input": ["hello world"]}}'
  make demo-clean                                   remove the cluster (make demo-purge: the caches too)
"""


def free_port() -> int:
    """Return the first port of a range that nobody listens on; 0, which lets kubectl choose, if none."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 0


if __name__ == "__main__":
    sys.exit(conduct(State(cache_root(), CLUSTER), "make demo", demonstrate))
