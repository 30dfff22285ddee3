"""The Job that asks the hub what a revision means and how large the model is: it fetches nothing."""

from typing import Any

from embedding_operator import facts, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Failure
from embedding_operator.resources import hub, options, pod, scheduling
from embedding_operator.resources.jobs import PREFETCH_RETRY_SECONDS, spec
from embedding_operator.resources.meta import Runtime, metadata

SCRATCH = "/tmp"  # noqa: S108 - a path in the container


def job(
    em: EmbeddingModel,
    runtime: Runtime,
    name: str,
    revision: str,
    *,
    commit: str | None = None,
    attempt: int = 1,
    before: Failure | None = None,
) -> dict[str, Any]:
    """Returns the Job of this name, which asks for this revision.

    commit is what the revision meant before, where that is known; before is what the attempt before failed
    of.
    """
    container = {
        "name": naming.PREFETCH_CONTAINER,
        "image": f"{runtime.image}-cpu",
        "imagePullPolicy": runtime.pull_policy,
        "args": ["prefetch", "--resolve"],
        "env": pod.env(
            {
                "MODEL_ID": em.source.id,
                "MODEL_REVISION": revision,
                "MODEL_FILE": em.source.file,
                "MODELS_CONFIG": options.PATH if em.source.options else None,
                "HF_HOME": SCRATCH,
                "TERMINATION_MESSAGE_PATH": pod.TERMINATION_LOG,
                "PREFETCH_RETRY_SECONDS": str(PREFETCH_RETRY_SECONDS),
                "TMPDIR": SCRATCH,
                "LOG_LEVEL": runtime.log_level,
                "LOG_FORMAT": runtime.log_format,
            }
        )
        + hub.environment(em, runtime),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    }
    template = pod.pod_spec(container, models=None, read_only=True, scratch="64Mi", grace_seconds=10)
    template["restartPolicy"] = "Never"
    hub.mount_certificates(em, template)
    config = options.fetching(em)
    if config is not None:
        options.mount(template, config)
    template |= scheduling.placement(em, None)
    notes = {
        naming.ATTEMPT_ANNOTATION: str(attempt),
        naming.PLACEMENT_ANNOTATION: scheduling.digest(em, None),
        naming.COMMIT_ANNOTATION: commit or "",
        naming.PREVIOUS_ANNOTATION: facts.failure_text(before) if before else "",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(
            em, name, "prefetch", annotations={note: text for note, text in notes.items() if text}
        ),
        "spec": spec(naming.labels(em.name, "prefetch"), template),
    }
