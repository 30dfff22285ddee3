"""What was seen in the cluster for one resource, and read-only helpers over plain objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.readiness import Heard

CLAIM, JOB, DEPLOYMENT, SERVICE, POD = "PersistentVolumeClaim", "Job", "Deployment", "Service", "Pod"
BUDGET, REVISION, CONFIG_MAP = "PodDisruptionBudget", "ControllerRevision", "ConfigMap"
CHILD_KINDS = (CLAIM, CONFIG_MAP, JOB, DEPLOYMENT, REVISION, SERVICE, BUDGET, POD)
"""The kinds that are watched beside the resource itself."""


@dataclass(frozen=True)
class Observed:
    """A resource and its children, by kind and name; within a kind the oldest come first.

    heard is what the pods' servers said, by the pod's uid; nothing before they were asked.
    """

    em: EmbeddingModel
    children: Mapping[str, Mapping[str, Body]]
    heard: Heard = field(default_factory=dict)

    def of(self, kind: str) -> Mapping[str, Body]:
        """Returns the children of a kind by name."""
        return self.children.get(kind, {})

    def having(self, kind: str, bodies: Iterable[Body]) -> Self:
        """Returns the view with these objects of a kind beside, or instead of, those of the same name."""
        changed = {**self.of(kind), **{body["metadata"]["name"]: body for body in bodies}}
        return replace(self, children={**self.children, kind: changed})

    @property
    def claims(self) -> Mapping[str, Body]:
        """The claims by name."""
        return self.of(CLAIM)

    @property
    def jobs(self) -> Mapping[str, Body]:
        """The Jobs by name."""
        return self.of(JOB)

    @property
    def deployments(self) -> Mapping[str, Body]:
        """The Deployments by name."""
        return self.of(DEPLOYMENT)

    @property
    def services(self) -> Mapping[str, Body]:
        """The Services by name."""
        return self.of(SERVICE)

    @property
    def pods(self) -> tuple[Body, ...]:
        """The pods, oldest first."""
        return tuple(self.of(POD).values())

    def pods_of(self, owner: Body) -> tuple[Body, ...]:
        """Returns the pods that a Job controls."""
        return tuple(pod for pod in self.pods if controlled_by(pod, owner["metadata"]["uid"]))

    def pods_with(self, labels: Mapping[str, str]) -> tuple[Body, ...]:
        """Returns the pods that carry all of these labels and are not being removed."""
        return tuple(
            pod
            for pod in self.pods
            if labels.items() <= (pod["metadata"].get("labels") or {}).items()
            and "deletionTimestamp" not in pod["metadata"]
        )


def observed(em: EmbeddingModel, children: Mapping[str, Iterable[Body]]) -> Observed:
    """Returns the view of a resource's children; of two objects of one name the younger counts.

    A watch that was cut off for long can leave an object in the index that is gone; its successor has another
    uid. What only carries the labels (a stranger, or what is left of a predecessor of this name) is no child.
    """
    return Observed(
        em,
        {
            kind: _by_name(
                body
                for body in children.get(kind, ())
                if kind == POD or controlled_by(body, em.uid) or retained(body, em)
            )
            for kind in CHILD_KINDS
        },
    )


def retained(body: Body, em: EmbeddingModel) -> bool:
    """Returns whether an object is a claim that a resource of this name and model keeps, or has left.

    Where the revision is followed there may be one for each commit; while nobody knows which it means, none
    of them is taken for one of before.
    """
    metadata, mark = body["metadata"], annotation(body, naming.RETAINED_ANNOTATION)
    is_ours = metadata["name"] == naming.claim(em)
    is_ours |= em.source.commit is not None and mark == naming.retained_as(em)
    return (
        body["kind"] == CLAIM
        and is_ours
        and (metadata.get("labels") or {}).get(naming.MODEL_LABEL) == em.name
        and mark is not None
        and controller(body) is None
    )


def controlled_by(body: Body, uid: str) -> bool:
    """Returns whether the object's controller is the one with this uid."""
    owner = controller(body)
    return owner is not None and owner.get("uid") == uid


def controller(body: Body) -> Body | None:
    """Returns the owner reference of the object's controller, None where it has none."""
    for reference in body["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Body = reference
            return found
    return None


def condition(body: Body, kind: str) -> Body | None:
    """Returns a condition of an object's status, None where it is not there."""
    for item in (body.get("status") or {}).get("conditions") or ():
        if item.get("type") == kind:
            found: Body = item
            return found
    return None


def is_true(body: Body, kind: str) -> bool:
    """Returns whether the object has this condition with status True."""
    found = condition(body, kind)
    return found is not None and found.get("status") == "True"


def annotation(body: Body, name: str) -> str | None:
    """Returns an annotation's text, None where it is not there."""
    text: str | None = (body["metadata"].get("annotations") or {}).get(name)
    return text


def timestamp(text: Any) -> datetime | None:
    """Returns an API timestamp (RFC 3339, UTC) as an aware datetime, None for what is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def created(body: Body) -> datetime:
    """Returns when an object was made."""
    return timestamp(body["metadata"].get("creationTimestamp")) or datetime.min.replace(tzinfo=UTC)


def stamp(now: datetime) -> str:
    """Returns a time the way the API writes it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _by_name(bodies: Iterable[Body]) -> dict[str, Body]:
    ordered = sorted(
        bodies,
        key=lambda body: (body["metadata"].get("creationTimestamp") or "", body["metadata"]["name"]),
    )
    return {body["metadata"]["name"]: body for body in ordered}
