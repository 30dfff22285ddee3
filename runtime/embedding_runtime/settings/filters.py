"""RUST_LOG's filters, `level,target=level,...`, which LOG_LEVEL takes too, mapped to our loggers. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

PACKAGE = "embedding_runtime"

ALLOWED = "off, error, warn, info, debug or trace, and target=level, separated by commas"

# The documented server's own target stands for all of ours.
_OURS = ("embedding_inference_api", "embedding-inference-api", PACKAGE)

_LEVELS = {
    "off": "CRITICAL",
    "error": "ERROR",
    "warn": "WARNING",
    "warning": "WARNING",
    "info": "INFO",
    "debug": "DEBUG",
    "trace": "DEBUG",
}
_TARGET = re.compile(r"[A-Za-z_][\w.:-]*")


@dataclass(frozen=True)
class LogFilter:
    """`root`: the level of what no target names; `targets`: logger name to level. Python's level names."""

    root: str = "INFO"
    targets: Mapping[str, str] = field(default_factory=dict)


def parse_filter(text: str) -> LogFilter:
    """The filter that `text` means; without a level for everything, the rest is heard from error on.

    `embedding_inference_api::api` is our logger `embedding_runtime.api`; a target that is none of ours keeps
    its name. Raises ValueError for what is neither a level nor target=level.
    """
    root, targets = "ERROR", {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        target, equals, level = (piece.strip() for piece in part.partition("="))
        if not equals and target.lower() in _LEVELS:
            root = _LEVELS[target.lower()]
        elif equals and _TARGET.fullmatch(target) and level.lower() in _LEVELS:
            targets[_logger(target)] = _LEVELS[level.lower()]
        else:
            raise ValueError(f"{part!r} is neither a level nor target=level")
    return LogFilter(root, targets)


def _logger(target: str) -> str:
    first, _, rest = target.replace("::", ".").partition(".")
    name = PACKAGE if first in _OURS else first
    return f"{name}.{rest}" if rest else name
