"""From a prefetch's state to what the resource says about its cache: pure decisions."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator import naming, pods
from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Facts, Failure
from embedding_operator.prefetch import (
    UNMOUNTED,
    Done,
    Failed,
    Pending,
    Progress,
    Retrying,
    Running,
    State,
)

FIRST_RETRY = timedelta(seconds=60)
LONGEST_RETRY = timedelta(minutes=10)

_REASONS = {
    "resolving": "Resolving",
    "downloading": "Downloading",
    "inspecting": "Inspecting",
    "waiting": "WaitingForHub",
}

_HUB = "spec.model.source.hub"


@dataclass(frozen=True)
class Cached:
    """The Cached condition and status.cache. stuck: nothing will change by itself."""

    holds: bool
    reason: str
    message: str
    phase: str
    bytes: int | None = None
    total: int | None = None
    stuck: bool = False


def retry_at(failed: Failed) -> datetime:
    """Returns when a Job that gave up is made again: after 1, 2, 4, 8, 10 minutes, or as asked."""
    delay = min(LONGEST_RETRY, FIRST_RETRY * (1 << min(failed.attempt - 1, 8)))
    asked = timedelta(seconds=failed.failure.retry_after or 0)
    return failed.at + max(delay, asked)


def cached(em: EmbeddingModel, state: State, progress: Progress | None, known: Facts | None) -> Cached:
    """Returns what to say about the cache.

    known are the facts of a set that already serves this very source from a claim that is still the same one:
    it is filled, whatever became of the Job.
    """
    if known is not None and not isinstance(state, Done):
        return _known(em, state, known)
    match state:
        case Done(facts):
            return Cached(True, "Cached", _held(em, facts), "Cached", facts.bytes, facts.bytes)
        case Failed(failure):
            return _failed(em, state, failure)
        case Retrying(failure):
            again = "" if failure.permanent else " It is tried again within minutes."
            return Cached(False, failure.reason, f"{_words(em, failure)}{again}", "Waiting")
        case Pending(reason, message):
            return Cached(False, *_pending(em, reason, message), "Pending")
        case Running():
            return _running(em, progress)
        case _:
            return Cached(False, "Pending", "the prefetch Job is being created", "Pending")


def _known(em: EmbeddingModel, state: State, known: Facts) -> Cached:
    held, count = _held(em, known), known.bytes
    if isinstance(state, Failed):
        words = f"{held}; looking at it again failed: {_words(em, state.failure)}"
        return Cached(True, "CheckFailed", words, "Cached", count, count)
    words = f"{held}; the prefetch Job was removed and looks at it again"
    return Cached(True, "Checking", words, "Cached", count, count)


def _pending(em: EmbeddingModel, reason: str, message: str) -> tuple[str, str]:
    """Returns reason and message; a Secret or ConfigMap that the spec names and nobody made by its name."""
    token, bundle = em.source.hub.token, em.source.hub.ca_bundle
    if reason == "CreateContainerConfigError" and token and token.name in message:
        what = f"Secret {token.name} with key {token.key}, which {_HUB}.tokenSecretRef names"
        return "MissingSecret", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    if reason == UNMOUNTED and bundle and naming.CERTIFICATES_VOLUME in message:
        what = f"ConfigMap {bundle.name} with key {bundle.key}, which {_HUB}.caBundleRef names"
        return "MissingConfigMap", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    existing = em.cache.existing
    if reason == pods.UNSCHEDULABLE and existing and f'"{existing}" not found' in message:
        what = f"claim {existing}, which spec.cache.claimName names"
        return "MissingClaim", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    return reason, message


def _running(em: EmbeddingModel, progress: Progress | None) -> Cached:
    what = f"{em.source.id}@{em.source.revision}"
    if progress is None:
        return Cached(False, "Resolving", f"{what}: the prefetch Job has started", "Resolving")
    reason = _REASONS.get(progress.phase, "Downloading")
    phase = "Waiting" if reason == "WaitingForHub" else reason
    words = f"{what}: {progress.phase}"
    if progress.total:
        words += f", {size(progress.bytes)} of {size(progress.total)}"
    if reason == "WaitingForHub":
        words += f": {_fact(progress.message)}. {_advice(em, 'HubUnreachable')}"
    elif progress.message:
        words += f": {progress.message}"
    return Cached(False, reason, words, phase, progress.bytes, progress.total)


def _failed(em: EmbeddingModel, state: Failed, failure: Failure) -> Cached:
    if failure.permanent:
        again = f"To try again without a change of the spec, delete Job {naming.job(em)}."
        return Cached(False, failure.reason, f"{_words(em, failure)} {again}", "Failed", stuck=True)
    when = retry_at(state).strftime("%H:%M:%S UTC")
    return Cached(
        False,
        failure.reason,
        f"{_words(em, failure)} Attempt {state.attempt} gave up; the next one starts at {when}.",
        "Waiting",
    )


def _words(em: EmbeddingModel, failure: Failure) -> str:
    advice = _advice(em, failure.reason)
    if advice is None:
        return failure.message.rstrip(". ") + "."
    return f"{_fact(failure.message)}. {advice}"


def _fact(message: str) -> str:
    """Returns what happened, without what the runtime advises after it in terms of its own variables."""
    return message.split("; ", 1)[0].rstrip(". ")


def _advice(em: EmbeddingModel, reason: str) -> str | None:
    """Returns what to do about a failure in terms of the spec, None where its own words have to do."""
    token = em.source.hub.token
    secret = f"Secret {token.name}, key {token.key} ({_HUB}.tokenSecretRef)" if token else ""
    match reason:
        case "ModelNotFound" if token:
            return f"Correct spec.model.id, or put a token that may see the model into {secret}."
        case "ModelNotFound":
            return (
                f"Correct spec.model.id; a private model needs {_HUB}.tokenSecretRef, which names a Secret "
                "with a token that may see it."
            )
        case "RevisionNotFound":
            return "Correct spec.model.revision: a branch, a tag or a commit of that repository."
        case "AccessDenied" if token:
            return (
                f"Put a valid token into {secret}; for a gated model accept its conditions at the hub with "
                "the account that the token belongs to."
            )
        case "AccessDenied":
            return (
                f"The model is private or gated: name a Secret with a token that may read it in "
                f"{_HUB}.tokenSecretRef."
            )
        case "RateLimited":
            higher = "" if token else f"a token has a higher limit ({_HUB}.tokenSecretRef), "
            return f"Nothing has to be done; {higher}a mirror has a limit of its own ({_HUB}.endpoint)."
        case "HubUnreachable":
            return f"{_way(em)}; the network policies of namespace {em.namespace} must let the Job's pod out."
        case "UnsupportedModel":
            return "Choose a repository with ONNX weights, or name the file in spec.model.file."
        case "TaskMismatch":
            return "Correct spec.model.task, or write auto."
        case "DiskFull" if em.cache.existing:
            return f"Make claim {em.cache.existing} (spec.cache.claimName) larger, or name another one."
        case "DiskFull":
            return (
                f"Write a larger spec.cache.size than {em.cache.size}: it is tried again when the claim has "
                f"grown. Where its storage class cannot grow claims, delete claim {naming.claim(em)} then."
            )
        case _:
            return None


def _way(em: EmbeddingModel) -> str:
    """Returns which fields make the way to the hub: those that are set, and those that are mostly missing."""
    hub = em.source.hub
    own = f"{_HUB}.endpoint" if hub.endpoint else f"the operator's HF_ENDPOINT ({_HUB}.endpoint overrides it)"
    proxy = f"{_HUB}.proxy ({hub.proxy.url})" if hub.proxy else f"{_HUB}.proxy where there is one"
    bundle = "its certificate's authority" if hub.ca_bundle else "a certificate of an authority of your own"
    return f"Check {own}, {proxy}, and {_HUB}.caBundleRef for {bundle}"


def _held(em: EmbeddingModel, facts: Facts) -> str:
    weight = f", {size(facts.bytes)}" if facts.bytes is not None else ""
    return f"{facts.model}@{em.source.revision} is commit {facts.commit[:12]}{weight}, in claim {facts.claim}"


def size(count: int) -> str:
    """Returns a number of bytes for people, in decimal units."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
