"""The EmbeddingModel resource as typed values. Defaults and validation are the CRD's; no decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

GROUP = "inference.semantic-explorer.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "EmbeddingModel"
PLURAL = "embeddingmodels"

Body = Mapping[str, Any]
"""A Kubernetes object as plain mappings, the way it travels as JSON."""


class Key(NamedTuple):
    """Which resource: what the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Source:
    """spec.model: what to fetch."""

    id: str
    revision: str
    task: str
    file: str | None


@dataclass(frozen=True)
class Gpu:
    """spec.gpu: how many devices of which kind each pod gets."""

    count: int
    resource_name: str
    runtime_class: str | None


@dataclass(frozen=True)
class CacheSpec:
    """spec.cache: the claim that holds the model's files."""

    size: str
    storage_class: str | None
    access_mode: str


@dataclass(frozen=True)
class EmbeddingModel:
    """One resource. body is the object that it was read from, for its status and managedFields."""

    key: Key
    uid: str
    generation: int
    deleting: bool
    source: Source
    replicas: int
    gpu: Gpu | None
    cache: CacheSpec
    resources: Body | None
    image: str | None
    body: Body

    @property
    def name(self) -> str:
        """metadata.name, which the names of all children derive from."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """metadata.namespace, where all children live."""
        return self.key.namespace

    @property
    def provider(self) -> str:
        """What computes: cpu or cuda."""
        return "cuda" if self.gpu else "cpu"

    @property
    def status(self) -> Body:
        """The status as last seen; empty before the first write."""
        status: Body = self.body.get("status") or {}
        return status


def key_of(body: Body) -> Key:
    """Returns the key of an EmbeddingModel object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def parse(body: Body) -> EmbeddingModel:
    """Returns the typed view of an object that the API server has validated and defaulted.

    The defaults are repeated here for the fields that the schema defaults, since an object stored before
    a default existed is read without it.
    """
    metadata, spec = body["metadata"], body["spec"]
    model, cache, gpu = spec["model"], spec.get("cache") or {}, spec.get("gpu")
    return EmbeddingModel(
        key=key_of(body),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        source=Source(
            model["id"], model.get("revision", "main"), model.get("task", "auto"), model.get("file")
        ),
        replicas=spec.get("replicas", 1),
        gpu=None
        if gpu is None
        else Gpu(gpu.get("count", 1), gpu.get("resourceName", "nvidia.com/gpu"), gpu.get("runtimeClassName")),
        cache=CacheSpec(
            cache.get("size", "5Gi"), cache.get("storageClassName"), cache.get("accessMode", "ReadWriteOnce")
        ),
        resources=spec.get("resources"),
        image=spec.get("image"),
        body=body,
    )
