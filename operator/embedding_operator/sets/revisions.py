"""Which pod template a set gets: the one that the spec asks for, or the last that became ready. Pure.

Every template that became ready is kept as a ControllerRevision, and so is one that did not, with the reason.
Whether it did is the Deployment controller's own judgement: it counts the time, also while we are down.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from embedding_operator import naming
from embedding_operator.api import Body
from embedding_operator.health.pods import Problem
from embedding_operator.observed import REVISION, Observed, annotation, condition
from embedding_operator.sets import privileges

KEPT = 3
"""How many templates that became ready are kept for each set."""


@dataclass(frozen=True)
class Failure:
    """Why a template did not become ready. retry is the retry annotation's value when it was given up."""

    reason: str
    message: str
    retry: str


@dataclass(frozen=True)
class Version:
    """A template that a set had; the larger the number, the later. failure is None where it became ready.

    options is the content of the ConfigMap that it mounts, which nobody could work out again from a later
    spec; empty where it was not there.
    """

    digest: str
    number: int
    template: Body
    failure: Failure | None = None
    options: str = ""

    @property
    def notes(self) -> dict[str, str]:
        """The annotations of its ControllerRevision."""
        if self.failure is None:
            return {}
        return {naming.FAILURE_ANNOTATION: json.dumps(asdict(self.failure), sort_keys=True)}


@dataclass(frozen=True)
class Choice:
    """What a set's pods are made from now.

    record: what to keep as a revision before that. failure: why this is not what the spec asks for, or why
    what the spec asks for stays though it does not become ready (then rolled_back is False). abandoned: the
    set gets no pods any more, since it did not become ready and another one serves.
    """

    template: Body
    current: str
    wanted: str
    last_good: str | None
    record: Version | None
    failure: Failure | None
    abandoned: bool = False

    @property
    def held_back(self) -> bool:
        """Whether the pods are made from an older template, since the wanted one has to wait."""
        return self.failure is None and self.current != self.wanted

    @property
    def rolled_back(self) -> bool:
        """Whether the pods are made from an older template, since the wanted one failed."""
        return self.failure is not None and self.current != self.wanted


def digest(template: Body) -> str:
    """Returns 8 hex digits of a template's content."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def history(seen: Observed, deployment: str) -> tuple[Version, ...]:
    """Returns the templates that are kept of a Deployment, the latest last."""
    found = []
    for name, body in seen.of(REVISION).items():
        data = body.get("data") or {}
        template, short = data.get("template"), name.rpartition("-")[2]
        if name.rpartition("-")[0] == deployment and isinstance(template, Mapping):
            number, options = body.get("revision", 0), str(data.get("options") or "")
            found.append(Version(short, number, template, _failure(body), options))
    return tuple(sorted(found, key=lambda version: (version.number, version.digest)))


def permitted(seen: Observed, allowed: Collection[str]) -> Observed:
    """Returns the view without the kept templates whose privileges an administrator no longer allows.

    They are no way around that: nothing goes back to them. They stay for the day that they are allowed again.
    """
    known = {
        name: body
        for name, body in seen.of(REVISION).items()
        if privileges.held((body.get("data") or {}).get("template")) <= set(allowed)
    }
    return replace(seen, children={**seen.children, REVISION: known})


def kept_options(seen: Observed, deployment: str, digest: str) -> str:
    """Returns the content of the ConfigMap that a kept template mounts, empty where it is not known."""
    return next((v.options for v in history(seen, deployment) if v.digest == digest), "")


def last_good(known: Sequence[Version]) -> Version | None:
    """Returns the latest template that became ready."""
    return next((version for version in reversed(known) if version.failure is None), None)


def choose(
    desired: Body,
    known: Sequence[Version],
    deployment: Body | None,
    *,
    complete: bool,
    retry: str,
    why: Problem | None,
    patient: bool = False,
    stands_in: bool = False,
) -> Choice:
    """Returns what to make the pods of a set from.

    desired is what the spec asks for. deployment is what is there; complete: all of its pods are ready, and
    it has some. retry is what the user's annotation says now. why: what is the matter with the pods.
    patient: what is late is not given up yet. stands_in: another set serves as long as this one does not.
    """
    wanted, applied = digest(desired), applied_in(deployment)
    number = max((version.number for version in known), default=0) + 1
    good, record = last_good(known), None
    if complete and deployment is not None and applied is not None and (not good or good.digest != applied):
        good = record = Version(
            applied, number, desired if applied == wanted else _template(deployment), failure=None
        )
    older = good if good is not None and good.digest != wanted else None
    given_up = next(
        (v.failure for v in known if v.digest == wanted and v.failure and v.failure.retry == retry), None
    )
    overdue = applied == wanted and deployment is not None and not patient and _overdue(deployment)
    late = _why(why, retry) if overdue else None
    if stands_in and good is None and (given_up or late):
        kept = None if late is None else Version(wanted, number, desired, late)
        return Choice(desired, wanted, wanted, None, kept, given_up or late, abandoned=True)
    if older is None or (given_up is None and late is None):
        return Choice(desired, wanted, wanted, good.digest if good else None, record, late)
    if given_up is None:
        record = Version(wanted, number, desired, late)
    return Choice(older.template, older.digest, wanted, older.digest, record, given_up or late)


def keep(choice: Choice, deployment: Body, known: Sequence[Version]) -> Choice:
    """Returns the choice with the template that a Deployment has, until the chosen one may take its place."""
    applied = applied_in(deployment)
    template = next((version.template for version in known if version.digest == applied), None)
    return replace(choice, template=template or _template(deployment), current=applied or choice.current)


def hold(desired: Body, known: Sequence[Version]) -> Choice:
    """Returns what to make the pods of a set from that the spec no longer asks for: what it had."""
    good = last_good(known)
    template = good.template if good else desired
    current = digest(template)
    return Choice(template, current, current, good.digest if good else None, None, None)


def outdated(seen: Observed, wanted: Mapping[str, str]) -> list[str]:
    """Returns the names of revisions that nothing goes back to. wanted: digest by the Deployment's name."""
    kept = set()
    for deployment, current in wanted.items():
        known = history(seen, deployment)
        good = [version for version in known if version.failure is None][-KEPT:]
        refused = [version for version in known if version.failure and version.digest == current]
        kept |= {naming.revision(deployment, version.digest) for version in [*good, *refused]}
    return [name for name in seen.of(REVISION) if name not in kept]


def applied_in(deployment: Body | None) -> str | None:
    """Returns the digest of the template that a Deployment was given, None where there is no Deployment."""
    if deployment is None:
        return None
    return annotation(deployment, naming.TEMPLATE_ANNOTATION) or digest(_template(deployment))


def _template(deployment: Body) -> dict[str, Any]:
    template: Body = deployment["spec"]["template"]
    metadata = {k: v for k, v in template["metadata"].items() if k != "creationTimestamp"}
    return {**template, "metadata": metadata}


def _overdue(deployment: Body) -> bool:
    """Returns whether the Deployment's newest template used up its time. It is not judged while unseen."""
    found = condition(deployment, "Progressing") or {}
    seen = (deployment.get("status") or {}).get("observedGeneration", 0)
    return seen >= deployment["metadata"].get("generation", 0) and (
        (found.get("status"), found.get("reason")) == ("False", "ProgressDeadlineExceeded")
    )


def _why(why: Problem | None, retry: str) -> Failure:
    if why is None:
        return Failure("ProgressDeadlineExceeded", "its pods did not become ready", retry)
    return Failure(why.reason, why.message, retry)


def _failure(body: Body) -> Failure | None:
    text = annotation(body, naming.FAILURE_ANNOTATION)
    if text is None:
        return None
    try:
        return Failure(**json.loads(text))
    except (ValueError, TypeError):
        return Failure("ProgressDeadlineExceeded", "its pods did not become ready", "")
