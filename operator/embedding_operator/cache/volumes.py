"""On how many nodes a claim's volume can be used, and what follows for the pods that mount it: pure.

A ReadWriteOnce volume is attached to one node. Pods elsewhere would hang in ContainerCreating with a
multi-attach error, so all of them are made to share a node; a pod that comes up beside an old one needs that
too, and a template that followed the number of replicas would be rolled out by every scale-up: so the rule is
there for a single replica as well.
"""

from dataclasses import replace

from embedding_operator import fields, naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.health import pods
from embedding_operator.observed import Observed

ONE_NODE, ONE_POD = "ReadWriteOnce", "ReadWriteOncePod"
_MANY = ("ReadWriteMany", "ReadOnlyMany")


def as_it_is(em: EmbeddingModel, claim: Body | None) -> EmbeddingModel:
    """Returns the resource with how the claim of somebody else that the spec names can be used.

    Unchanged where the claim is not there: the narrowest is assumed then.
    """
    modes = (claim or {}).get("spec", {}).get("accessModes") or ()
    if not modes:
        return em
    widest = next((mode for mode in (*_MANY, ONE_NODE) if mode in modes), modes[0])
    return replace(em, cache=replace(em.cache, volume_access=widest))


def is_held_together(em: EmbeddingModel) -> bool:
    """Returns whether the pods get the rule that all of them share a node.

    Not where the spec has such rules of its own: the scheduler wants one pod that fits all of them.
    """
    return not _is_everywhere(em) and not _own_rules(em)


def note(em: EmbeddingModel) -> str:
    """Returns what several replicas mean for the volume, empty where they mean nothing."""
    if em.replicas < 2 or _is_everywhere(em):
        return ""
    name = naming.claim(em)
    other = "another claim" if em.existing_claim else "spec.cache.accessMode: ReadWriteMany"
    if em.cache.volume_access == ONE_POD:
        return f"claim {name} is {ONE_POD}: one pod can use it, not {em.replicas}; name {other}"
    spreading = f"to spread them, write {other}"
    if _own_rules(em):
        return (
            f"claim {name} is {ONE_NODE} and spec.scheduling.affinity.podAffinity has rules of its own: pods "
            f"that these put on another node than the volume's cannot start; {spreading}"
        )
    return (
        f"claim {name} is {ONE_NODE}: all {em.replicas} pods share the one node that its volume is attached "
        f"to, and a drain of that node takes all of them; {spreading}"
    )


def succession(seen: Observed) -> str:
    """Returns which claims the wanted one takes the place of since they cannot be changed, mostly none.

    Told as long as one of before is there: it serves until the new one is filled, and its pods have gone.
    """
    em, wanted = seen.em, naming.claim(seen.em)
    told = []
    for name, claim in seen.claims.items():
        differing = _differing(em, claim) if name != wanted and em.makes_claim else []
        if differing:
            told.append(f"{name}, whose {' and '.join(differing)} cannot be changed")
    if not told:
        return ""
    return f"Claim {wanted} takes the place of {'; '.join(told)}, and which goes when no pod uses it"


def _differing(em: EmbeddingModel, claim: Body) -> list[str]:
    """Returns the fields of a claim that the spec has otherwise, and that nobody can change."""
    spec = claim["spec"]
    # a class that the API server has filled in was not asked for
    asked = fields.owns(claim, naming.FIELD_MANAGER, "spec", "storageClassName")
    storage_class = spec.get("storageClassName") if asked else None
    differs = {
        "storageClassName": storage_class != em.cache.storage_class,
        "accessModes": spec.get("accessModes") != [em.cache.access_mode],
    }
    return [name for name, does in differs.items() if does]


def gives_way(seen: Observed, fingerprint: str) -> bool:
    """Returns whether a drain may take all pods of a set at once.

    Where they have to share a node, the successor of the first that a drain takes has no node before the last
    has gone: a budget that waits for it would hold the drain up for ever.
    """
    found = seen.pods_with(naming.selector(seen.em.name, fingerprint))
    problems = [pods.diagnosis(pod, naming.CONTAINER) for pod in found]
    waiting = [problem for problem in problems if problem and problem.reason == pods.UNSCHEDULABLE]
    # a pod beyond the wanted number, as of an update, is nobody's successor
    is_short = len(found) - len(waiting) < seen.em.replicas
    return is_held_together(seen.em) and bool(waiting) and is_short


def _is_everywhere(em: EmbeddingModel) -> bool:
    return em.claimless or em.cache.volume_access in _MANY


def _own_rules(em: EmbeddingModel) -> bool:
    given = (em.scheduling.affinity or {}).get("podAffinity") or {}
    return bool(given.get("requiredDuringSchedulingIgnoredDuringExecution"))
