"""What a pod's server says of itself at /health/ready, as the runtime's docs/api.md describes it. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATH = "/health/ready"
LOADING, DRAINING, READY = "loading", "draining", "ready"
_STATES = frozenset({READY, LOADING, DRAINING, "exhausted", "load_failed"})
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
"""What may become the reason of a condition."""


@dataclass(frozen=True)
class Report:
    """One answer. state is the server's own word: ready, loading, exhausted, load_failed, draining.

    provider and precision are what a ready server computes with; fallback says why that is not what was asked
    for, empty where it is.
    """

    state: str
    reason: str = ""
    message: str = ""
    provider: str = ""
    precision: str = ""
    fallback: str = ""


@dataclass(frozen=True)
class Silence:
    """Why nothing was heard of a server, in words that stay the same while it is the same."""

    words: str


@dataclass(frozen=True)
class Setback:
    """What keeps a server from being asked, as its node has told it, in words that stay the same."""

    reason: str
    words: str


Told = Report | Silence | Setback
Heard = Mapping[str, Told]
"""What was heard last of a server, or about it, by the pod's uid."""


def report(code: int, text: bytes) -> Told:
    """Returns what an answer with this HTTP status says; Silence where it is none of a server of ours."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("status") not in _STATES:
        return Silence(f"it answers with HTTP {code} and no word that is known")
    if body["status"] == READY:
        return _ready(body.get("models"))
    reason = str(body.get("reason") or "")
    return Report(
        body["status"],
        reason if _WORD.fullmatch(reason) else "NotReady",
        str(body.get("message") or "it gives no reason"),
    )


def _ready(models: Any) -> Report:
    """Returns the report of a server by the first of its models: ours serve one."""
    first = models[0] if isinstance(models, list) and models else {}
    card = first if isinstance(first, dict) else {}
    return Report(
        READY,
        provider=str(card.get("provider") or ""),
        precision=str(card.get("precision") or ""),
        fallback=str(card.get("fallback") or ""),
    )
