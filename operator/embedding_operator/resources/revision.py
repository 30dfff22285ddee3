"""What is kept of a set's pod templates, and the Deployment that is made from one of them."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.resources.meta import metadata
from embedding_operator.sets.revisions import Choice, Version


def revision(
    em: EmbeddingModel, deployment: str, version: Version, options: str = "", before: Body | None = None
) -> dict[str, Any]:
    """Returns the ControllerRevision of a template of this Deployment.

    options is the content of the ConfigMap that the template mounts. before is the revision as it is: the API
    server lets nobody change what it holds.
    """
    held = {"template": version.template} | ({"options": options} if options else {})
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(
            em, naming.revision(deployment, version.digest), "serving", annotations=version.notes
        ),
        "revision": version.number,
        "data": before["data"] if before else held,
    }


def made_from(deployment: Body, choice: Choice) -> dict[str, Any]:
    """Returns the Deployment with the pod template that was chosen, and a note of which it is."""
    noted = {**deployment["metadata"]["annotations"], naming.TEMPLATE_ANNOTATION: choice.current}
    return {
        **deployment,
        "metadata": {**deployment["metadata"], "annotations": noted},
        "spec": {**deployment["spec"], "template": choice.template},
    }
