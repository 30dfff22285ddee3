"""Secrets and ConfigMaps that the serving pods wait for, by the field of the spec that names them. Pure."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from embedding_operator.api import EmbeddingModel
from embedding_operator.cache.advice import HUB, URL
from embedding_operator.health.pods import UNMOUNTED, Problem


class _Reference(NamedTuple):
    """An entry of a Secret or a ConfigMap, and the field that names it."""

    kind: str
    name: str
    key: str
    field: str


def named(em: EmbeddingModel, problem: Problem) -> Problem:
    """Returns the problem of a serving pod; what is missing by the field that names it."""
    if problem.reason not in (UNMOUNTED, "CreateContainerConfigError"):
        return problem
    for ref in _mounted(em) if problem.reason == UNMOUNTED else _variables(em):
        # such as: secret "a" not found, couldn't find key b in Secret ns/a, non-existent secret key: b
        name = re.escape(ref.name)
        words = rf'{ref.kind} ("{name}"|\S+/{name}(\s|$)|key: {re.escape(ref.key)}(\s|$))'
        if re.search(words, problem.message, re.IGNORECASE):
            what = f"{ref.kind} {ref.name} with key {ref.key}, which {ref.field} names"
            message = f"{problem.message.rstrip('. ')}. Make {what}, in namespace {em.namespace}"
            return replace(problem, reason=f"Missing{ref.kind}", message=message)
    return problem


def _mounted(em: EmbeddingModel) -> Iterator[_Reference]:
    if (key := em.server.api_key) is not None:
        yield _Reference("Secret", key.name, key.key, "spec.server.apiKeySecretRef")
    if em.cache.per_replica and (bundle := em.source.way.ca_bundle) is not None:
        yield _Reference("ConfigMap", bundle.name, bundle.key, f"{_way(em)}.caBundleRef")


def _variables(em: EmbeddingModel) -> Iterator[_Reference]:
    if em.cache.per_replica and (token := em.source.way.token) is not None:
        yield _Reference("Secret", token.name, token.key, f"{_way(em)}.tokenSecretRef")
    for item in em.env:
        source = item.get("valueFrom") or {}
        for kind in ("Secret", "ConfigMap"):
            ref = source.get(f"{kind[0].lower()}{kind[1:]}KeyRef")
            if ref and not ref.get("optional"):
                yield _Reference(kind, ref["name"], ref["key"], f"spec.env (variable {item['name']})")


def _way(em: EmbeddingModel) -> str:
    return URL if em.source.url else HUB
