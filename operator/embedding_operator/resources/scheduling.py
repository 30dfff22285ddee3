"""Where pods may run: what the serving pods and the Job that fills their claim have in common.

The Job follows the pods' rules, since a claim on node-local storage is bound to the node that the Job ran on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.cache import volumes

HOSTNAME = "kubernetes.io/hostname"


def placement(em: EmbeddingModel, claim: str | None, hosts: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns the fields of a pod's spec that say where it may run, and with what its image is pulled.

    claim is what it mounts, None for nothing. hosts are the nodes (kubernetes.io/hostname) that it has to run
    on beside what the spec says, None any.
    """
    given = em.scheduling
    found: dict[str, Any] = {
        "nodeSelector": dict(given.node_selector),
        "tolerations": _tolerations(em),
        "affinity": dict(given.affinity or {}),
        "priorityClassName": given.priority_class,
        "imagePullSecrets": [{"name": name} for name in em.pull_secrets],
    }
    if hosts is not None:
        found["affinity"] = _on(hosts, found["affinity"])
    if claim is not None and volumes.is_held_together(em):
        found["affinity"] = _beside(claim, found["affinity"])
    return {name: value for name, value in found.items() if value}


def digest(em: EmbeddingModel, claim: str | None) -> str:
    """Returns 8 hex digits that tell one placement by the spec from another."""
    return hashlib.sha256(json.dumps(placement(em, claim), sort_keys=True).encode()).hexdigest()[:8]


def labels(em: EmbeddingModel, claim: str) -> dict[str, str]:
    """Returns the label by which pods that share a volume of one node find each other, empty for others."""
    return {naming.CLAIM_LABEL: naming.claim_label(claim)} if volumes.is_held_together(em) else {}


def spread(em: EmbeddingModel, selector: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns how the pods with these labels are spread: as the spec says, else over the nodes.

    Pods that have to share a node are not spread unless the spec says so.
    """
    given = em.scheduling.spread
    if given is None and volumes.is_held_together(em):
        return []
    if given is None:
        given = ({"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},)
    return [{**item, "labelSelector": {"matchLabels": dict(selector)}} for item in given]


def _tolerations(em: EmbeddingModel) -> list[dict[str, Any]]:
    """The spec's, and what lets a pod onto nodes that keep others away with a taint named like the GPU."""
    gpu = [{"key": em.gpu.resource_name, "operator": "Exists"}] if em.gpu else []
    return [*gpu, *(dict(item) for item in em.scheduling.tolerations if dict(item) not in gpu)]


def _on(hosts: Sequence[str], affinity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the affinity with the hosts as a further condition of every alternative that it allows."""
    host = {"key": HOSTNAME, "operator": "In", "values": sorted(hosts)}
    nodes = dict(affinity.get("nodeAffinity") or {})
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    alternatives: Sequence[Body] = required.get("nodeSelectorTerms") or ({},)
    terms = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), host]} for term in alternatives
    ]
    nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": nodes}


def _beside(claim: str, affinity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the affinity with the rule that pods which mount this claim share a node.

    The first of them fits everywhere, as the scheduler counts a pod among those that its own rule names.
    But where one waits and the last of the others goes, as in a drain, it does not look again for five
    minutes (https://github.com/kubernetes/kubernetes/issues/141354). It does so for a rule that keeps pods
    apart; ours can keep nothing apart, since no node has its label.
    """
    return {
        **affinity,
        "podAffinity": _requiring(affinity.get("podAffinity"), claim, HOSTNAME),
        "podAntiAffinity": _requiring(affinity.get("podAntiAffinity"), claim, naming.NO_NODE_LABEL),
    }


def _requiring(rules: Body | None, claim: str, topology: str) -> dict[str, Any]:
    term = {
        "labelSelector": {"matchLabels": {naming.CLAIM_LABEL: naming.claim_label(claim)}},
        "topologyKey": topology,
    }
    required = (rules or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return {**(rules or {}), "requiredDuringSchedulingIgnoredDuringExecution": [*required, term]}
