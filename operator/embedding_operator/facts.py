"""What a prefetch Job found out: the termination message's schema, and the same facts as kept on a
Deployment.

Reading the Job's life cycle is cache/prefetch.py's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from embedding_operator import naming
from embedding_operator.observed import Observed, annotation

_RARE = frozenset({"image", "folder", "foreign", "layers", "hidden", "heads"})
_SHAPE = ("layers", "hidden", "heads")


@dataclass(frozen=True)
class Facts:
    """What is in a claim and how it has to be served.

    file is the file that the spec asked for, None where the runtime chose. claim and job name where it lies
    and which Job read it; claim is empty where pods mount image, and where each fetches it for itself.
    options are those of spec.model (source.Source) that it was read with. folder is where it lies in a
    container that mounts the claim or the image, None for the layout of the hub's clients. foreign: the claim
    is somebody else's content, which nobody of ours may write to. layers, hidden (the width of a token's
    vector between them) and heads are the model's shape, None where the Job did not tell.
    """

    model: str
    commit: str
    fingerprint: str
    task: str
    dimensions: int | None
    max_tokens: int | None
    bytes: int | None
    precision: str | None
    file: str | None
    claim: str
    job: str
    options: str = ""
    folder: str | None = None
    foreign: bool = False
    image: str | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None

    def to_json(self) -> str:
        """Returns the facts as the annotation's text, with sorted keys: equal facts are equal text.

        What only some sources have is left out for the others.
        """
        found = {name: value for name, value in asdict(self).items() if value or name not in _RARE}
        return json.dumps(found, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Failure:
    """Why a prefetch did not work. retry_after is in seconds, None where nobody said."""

    reason: str
    message: str
    permanent: bool
    retry_after: float | None = None


@dataclass(frozen=True)
class Resolution:
    """What a revision means at its source: the commit, and the bytes to fetch, None where nobody says."""

    commit: str
    bytes: int | None


@dataclass(frozen=True)
class Request:
    """What a Job was asked for, and where it was to put it: completes a result to facts."""

    model: str
    file: str | None
    claim: str
    job: str
    options: str = ""
    folder: str | None = None
    foreign: bool = False
    image: str | None = None


def failure_text(failure: Failure) -> str:
    """Returns a failure as an annotation's text."""
    return json.dumps(asdict(failure), sort_keys=True, separators=(",", ":"))


def failure_from(text: str | None) -> Failure | None:
    """Returns the failure that such a text holds, None where it holds none that this version can read."""
    record = _record(text)
    try:
        return Failure(**record) if record else None
    except TypeError:
        return None


def told_failure(text: str | None) -> Failure | None:
    """Returns the failure that a termination message tells, None where it tells none."""
    record = _record(text)
    return _failure(record.get("error")) if record and record.get("status") == "error" else None


def from_annotation(text: str | None) -> Facts | None:
    """Returns the facts kept on a Deployment, None where there are none that this version can read."""
    record = _record(text)
    try:
        return Facts(**record) if record else None
    except TypeError:
        return None


def recorded(seen: Observed) -> dict[str, Facts]:
    """Returns what the Deployments say they serve, by fingerprint; the youngest last."""
    found: dict[str, Facts] = {}
    for body in seen.deployments.values():
        facts = from_annotation(annotation(body, naming.FACTS_ANNOTATION))
        if facts is not None and body["metadata"]["name"] == naming.deployment(seen.em, facts.fingerprint):
            found[naming.short(facts.fingerprint)] = facts
    return found


def from_result(text: str | None, request: Request) -> Facts | Resolution | Failure | None:
    """Returns what a termination message says, None where it is no result.

    The schema is the runtime's:
    {"status":"ok","model","commit","fingerprint","task","dimensions","maxTokens","bytes","precision",
    "shape":{"layers","hidden","heads"}},
    {"status":"resolved","model","commit","bytes"} or
    {"status":"error","error":{"class","message","permanent","retryAfter"}}.
    """
    record = _record(text)
    if not record:
        return None
    if record.get("status") == "error":
        return _failure(record.get("error"))
    commit, fingerprint, task = record.get("commit"), record.get("fingerprint"), record.get("task")
    if record.get("status") == "resolved" and isinstance(commit, str) and commit:
        return Resolution(commit, _integer(record.get("bytes")))
    if record.get("status") != "ok" or task not in ("embed", "rerank"):
        return None
    if not isinstance(commit, str) or not isinstance(fingerprint, str) or len(fingerprint) < 8:
        return None
    return Facts(
        model=str(record.get("model") or request.model),
        commit=commit,
        fingerprint=fingerprint,
        task=task,
        dimensions=_integer(record.get("dimensions")),
        max_tokens=_integer(record.get("maxTokens")),
        bytes=_integer(record.get("bytes")),
        precision=None if record.get("precision") is None else str(record["precision"]),
        file=request.file,
        claim=request.claim,
        job=request.job,
        options=request.options,
        folder=str(record.get("folder") or "") or request.folder,
        image=request.image,
        foreign=request.foreign,
        **_shape(record.get("shape")),
    )


def _shape(told: Any) -> dict[str, int]:
    """Returns the shape that a Job told, nothing where it did not tell all of it."""
    sizes = {name: _integer(told.get(name)) for name in _SHAPE} if isinstance(told, Mapping) else {}
    known = {name: size for name, size in sizes.items() if size is not None and size > 0}
    return known if len(known) == len(_SHAPE) else {}


def _failure(error: Any) -> Failure | None:
    if not isinstance(error, Mapping) or not error.get("class"):
        return None
    retry_after = error.get("retryAfter")
    return Failure(
        reason=str(error["class"]),
        message=str(error.get("message") or error["class"]),
        permanent=bool(error.get("permanent")),
        retry_after=float(retry_after) if isinstance(retry_after, int | float) else None,
    )


def _record(text: str | None) -> dict[str, Any] | None:
    try:
        record = json.loads(text) if text else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
