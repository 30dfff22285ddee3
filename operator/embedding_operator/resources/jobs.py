"""What the Jobs that fetch a model, or only ask for it, have in common."""

from collections.abc import Mapping
from typing import Any

from embedding_operator import naming

PERMANENT_FAILURE, TRANSIENT_FAILURE = 3, 4
"""Exit codes of a prefetch that has told why (the runtime's contract): no retry can mend the first."""

PREFETCH_RETRY_SECONDS = 300
"""How long a prefetch tries again by itself before its pod counts as failed."""


def _copying(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rule for a copy that has failed: when to try again depends on its words."""
    names = [container["name"] for container in template.get("initContainers", ())]
    if naming.COPY_CONTAINER not in names:
        return []
    codes = {"containerName": naming.COPY_CONTAINER, "operator": "NotIn", "values": [0]}
    return [{"action": "FailJob", "onExitCodes": codes}]


def spec(labels: Mapping[str, str], template: dict[str, Any]) -> dict[str, Any]:
    """Returns a Job's spec for a pod with these labels and this spec.

    Kubernetes repeats what ended without a word; what told why is repeated when the operator says so.
    """
    return {
        "backoffLimit": 6,
        "podFailurePolicy": {
            "rules": [
                # whether and when to try again is then decided by what it told, such as a Retry-After
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": naming.PREFETCH_CONTAINER,
                        "operator": "In",
                        "values": [PERMANENT_FAILURE, TRANSIENT_FAILURE],
                    },
                },
                # an eviction or a drain is no failure of the prefetch
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                *_copying(template),
            ]
        },
        "template": {"metadata": {"labels": dict(labels)}, "spec": template},
    }
