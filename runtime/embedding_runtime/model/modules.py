"""What modules.json lists: the steps of a sentence-transformers model, in their order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError

# What may come after the pooling, in any order and number.
_AFTER = ("Dense", "LayerNorm", "Normalize")
_SERVED = ("Transformer", "MLMTransformer", "Pooling", "SpladePooling", "CrossEncoder", "LogitScore", *_AFTER)
_FIRST, _POOLING = ("Transformer", "MLMTransformer"), ("Pooling", "SpladePooling")


@dataclass(frozen=True)
class Module:
    """One step: the name of its class, and its folder inside the repository, which is empty for the top."""

    name: str
    folder: str


@dataclass(frozen=True)
class Modules:
    """The steps of a model; none where the repository has no modules.json."""

    listed: tuple[Module, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is a modules.json."""
        return bool(self.listed)

    def folder(self, name: str) -> str:
        """The folder of the step of this class; empty, the top, where there is none."""
        return next((each.folder for each in self.listed if each.name == name), "")

    @property
    def transformer(self) -> str:
        """The folder of the step that makes token vectors of tokens."""
        return next((each.folder for each in self.listed if each.name in _FIRST), "")

    @property
    def is_sparse(self) -> bool:
        """Whether a vector has a number for each word of the vocabulary."""
        return any(each.name == "SpladePooling" for each in self.listed)

    @property
    def is_judge(self) -> bool:
        """Whether two words' logits are a score."""
        return any(each.name == "LogitScore" for each in self.listed)

    @property
    def after_pooling(self) -> tuple[Module, ...]:
        """The steps that a vector goes through after it was pooled."""
        return tuple(each for each in self.listed if each.name in _AFTER)


def read_modules(folder: Path, model: str) -> Modules:
    """The steps of the repository in `folder`.

    Raises UnsupportedModelError for a step, or an order of steps, that is not served; CorruptModelError.
    """
    listed = cast("list[dict[str, Any]]", read_json(folder / "modules.json", model) or [])
    modules = tuple(
        Module(str(entry["type"]).rpartition(".")[2], str(entry.get("path", ""))) for entry in listed
    )
    names = [each.name for each in modules]
    if unknown := [name for name in names if name not in _SERVED]:
        raise UnsupportedModelError(f"{model} has modules that are not served: {', '.join(unknown)}")
    if names and not _is_served(names):
        raise UnsupportedModelError(f"{model} has an unusual modules.json: {', '.join(names)}")
    return Modules(modules)


def _is_served(names: Sequence[str]) -> bool:
    """Whether tokens become vectors, these become one, and only then something is made of that."""
    once = [name for name in names if name not in _AFTER]
    if len(once) != len(set(once)) or sum(name in _FIRST for name in once) != 1:
        return False
    for last in ("SpladePooling", "LogitScore"):
        if last in once:
            return len(names) == 2 and names[1] == last
    first = next((at for at, name in enumerate(names) if name in _AFTER), len(names))
    return not any(name in _FIRST or name in _POOLING for name in names[first:])


def read_json(path: Path, model: str) -> dict[str, Any]:
    """A file's JSON object; an absent file is an empty one.

    Raises CorruptModelError.
    """
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"{model}: {path.name} cannot be read: {error}") from error
