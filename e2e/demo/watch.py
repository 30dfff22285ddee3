"""Follows EmbeddingModels to readiness by what their status says, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.cluster.kind import Cluster
from e2e.cluster.process import CommandError, Log

READY_SECONDS = 600.0
POLL_SECONDS = 0.5
# reasons of the Cached condition that no waiting changes
FINAL = {"ModelNotFound", "RevisionNotFound", "AccessDenied", "UnsupportedModel", "TaskMismatch", "DiskFull"}

Object = dict[str, Any]


@dataclass(frozen=True)
class View:
    """How far one model is; `words` are for people, `final` is a failure that will not mend itself."""

    name: str
    ready: bool
    words: str
    final: bool


def view(model: Object) -> View:
    """Return what a resource says of itself; a status of an older generation counts as no status."""
    name, status = model["metadata"]["name"], model.get("status", {})
    if status.get("observedGeneration") != model["metadata"].get("generation"):
        return View(name, False, "the operator has not looked at it yet", False)
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready, cached = conditions.get("Ready", {}), conditions.get("Cached", {})
    failure = cached if cached.get("reason") in FINAL else None
    shown = failure or ready
    words = f"{shown.get('reason', '?')}: {shown.get('message', '')}{_bytes(status.get('cache', {}))}"
    return View(name, ready.get("status") == "True", words, failure is not None)


def _bytes(cache: Object) -> str:
    done, total = cache.get("bytes"), cache.get("total")
    if cache.get("phase") != "Downloading" or not done or not total:
        return ""
    return f" ({done / 1e6:.0f} of {total / 1e6:.0f} MB)"


def until_ready(cluster: Cluster, names: list[str], log: Log, say: Callable[[str], None]) -> None:
    """Wait until all models are ready, saying each change.

    Raises:
        CommandError: one has failed for good, or is not ready within ten minutes; with what it says.
    """
    deadline, told = time.monotonic() + READY_SECONDS, dict[str, str]()
    while True:
        listed = json.loads(cluster.kubectl("get", "embeddingmodels", *names, "-o", "json"))
        views = [view(model) for model in listed.get("items", [listed])]
        for found in views:
            if told.get(found.name) != found.words:
                say(f"{found.name}: {found.words}")
                told[found.name] = found.words
        if failed := [found for found in views if found.final]:
            raise CommandError(f"{failed[0].name}: {failed[0].words}")
        if all(found.ready for found in views):
            return
        if time.monotonic() > deadline:
            late = ", ".join(found.name for found in views if not found.ready)
            raise CommandError(f"not ready within {READY_SECONDS:.0f} s: {late}")
        log.pause(POLL_SECONDS)
