"""The catalogue: what is known of well-known models beside what their repositories say. The data is
catalogue.json.

A plain name means the hub repository of that name, with its own ONNX file and its own files for pooling,
normalisation, length and prompts. The catalogue fills in what such a repository lacks, and names one
substitute for where it has no weights that can be used. A variant, `<name>@fastembed-rs` or
`<name>@fastembed-py`, is what that library gives under the name: a repository, a file, a pooling and a
normalisation, whatever the repository's files say.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from embedding_runtime.settings import Task, is_variant

Kind = Literal["dense", "rerank", "sparse", "late_interaction", "image", "multi"]
Need = Literal[
    "safetensors", "sentence_embedding", "decoder", "task_adapters", "text_tower", "images", "own_weights"
]

KINDS: tuple[Kind, ...] = get_args(Kind)

# What the server can run: a model is served whose kind and whose needs are all in here.
SERVED_KINDS: frozenset[Kind] = frozenset({"dense", "rerank", "sparse"})
SERVED_NEEDS: frozenset[Need] = frozenset()

_TASKS: Mapping[Kind, Task] = {"dense": "embed", "rerank": "rerank", "sparse": "embed"}

_KIND_IS = {
    "dense": "a dense embedding model",
    "rerank": "a reranking model",
    "sparse": "a sparse embedding model",
    "late_interaction": "a late interaction model",
    "image": "an image embedding model",
    "multi": "a model of dense, sparse and multi-vector output",
}
_NEED_IS = {
    "safetensors": "no ONNX export of it is known",
    "sentence_embedding": "its vectors come from an output of the graph behind the token vectors",
    "decoder": "it is a decoder",
    "task_adapters": "its graph has an adapter for each task",
    "text_tower": "it is the text tower of an image model",
    "images": "it reads images",
    "own_weights": "its words' weights are not those of a masked language model",
}


@dataclass(frozen=True)
class FillIns:
    """What holds where a repository's own files do not say; None and () say nothing either.

    `pooling` and `normalize` where there is no modules.json, `max_length` (tokens, special ones included)
    where no sentence_*_config.json has one, `prompts` (name and text) where the repository has none,
    `matryoshka` (how many of a vector's first numbers the model was trained to be cut to) where config.json
    has none.
    """

    pooling: tuple[str, ...] | None = None
    normalize: bool | None = None
    max_length: int | None = None
    prompts: tuple[tuple[str, str], ...] = ()
    matryoshka: tuple[int, ...] = ()


NOTHING = FillIns()


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    `also`: other names of it. `license`: its identifier, None where it is not known. `source`: where what is
    said here is from. `repository` and `file`: of a variant where its weights are; of a plain name the
    substitute, and `file` alone the file in its own repository where exporters' usual names do not find it.
    `quantized`: how the file's weights are, in words; None at full precision. `needs`: what serving it takes
    beside its kind. `dimensions`: None for what gives no vector.
    """

    name: str
    kind: Kind
    license: str | None
    source: tuple[str, ...]
    also: tuple[str, ...] = ()
    description: str = ""
    dimensions: int | None = None
    repository: str | None = None
    file: str | None = None
    quantized: str | None = None
    fill_ins: FillIns = NOTHING
    needs: tuple[Need, ...] = ()

    @property
    def is_variant(self) -> bool:
        """Whether repository, file and what is in `fill_ins` hold whatever the repository says."""
        return is_variant(self.name)

    @property
    def is_served(self) -> bool:
        """Whether the server can run it."""
        return self.kind in SERVED_KINDS and SERVED_NEEDS.issuperset(self.needs)

    @property
    def task(self) -> Task | None:
        """What is asked of it where it is served, else None."""
        return _TASKS.get(self.kind) if self.is_served else None

    @property
    def refusal(self) -> str:
        """What to say to whoever asks for it where it is not served."""
        lacks = [_NEED_IS[need] for need in self.needs if need not in SERVED_NEEDS]
        why = f" ({', and '.join(lacks)})" if lacks else ""
        served = " and ".join(kind for kind in KINDS if kind in SERVED_KINDS)
        return (
            f"{self.name} is {_KIND_IS[self.kind]}{why}, which this server does not run yet; it runs "
            f"{served} models: GET /models lists them"
        )


class Catalogue:
    """The entries, by each of their names."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self._named = {name: entry for entry in entries for name in (entry.name, *entry.also)}

    def find(self, name: str) -> Entry | None:
        """The entry of a name without revision."""
        return self._named.get(name)

    def task(self, name: str) -> Task | None:
        """What the model of this name does, where it is served."""
        entry = self.find(name)
        return entry.task if entry else None

    def served(self) -> Iterator[Entry]:
        """The entries that the server can run."""
        return (entry for entry in self.entries if entry.is_served)


@cache
def catalogue() -> Catalogue:
    """The package's catalogue."""
    text = (
        resources.files("embedding_runtime.registry").joinpath("catalogue.json").read_text(encoding="utf-8")
    )
    listed: list[dict[str, Any]] = json.loads(text)["models"]
    return Catalogue(tuple(_entry(dict(values)) for values in listed))


def _entry(values: dict[str, Any]) -> Entry:
    fill_ins = FillIns(
        pooling=tuple(values.pop("pooling")) if "pooling" in values else None,
        normalize=values.pop("normalize", None),
        max_length=values.pop("max_length", None),
        prompts=tuple(values.pop("prompts", {}).items()),
        matryoshka=tuple(values.pop("matryoshka", ())),
    )
    values |= {name: tuple(values.get(name, ())) for name in ("also", "source", "needs")}
    return Entry(**values, fill_ins=fill_ins)
