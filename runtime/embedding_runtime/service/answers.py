"""What the HTTP side gets from `Inference`. Plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_runtime.engine.backend import Float32, Int32
from embedding_runtime.service.state import ModelCard, State
from embedding_runtime.settings import Task


@dataclass(frozen=True)
class Stage:
    """One stage of a request: load (only where it waited), tokenize, queue, compute.

    `started` in seconds since the epoch, `seconds` how long it took.
    """

    name: str
    started: float
    seconds: float


@dataclass(frozen=True)
class Sparse:
    """`indices` int32 [k], ascending, of the vocabulary's words, and their `weights`, float32 [k]."""

    indices: Int32
    weights: Float32


@dataclass(frozen=True)
class Embeddings:
    """`rows` float32 [n, dimensions] in the order of the texts, C-contiguous and little-endian; `tokens` that
    went through the model. `sparse`, of each text, is None where it was not asked for; `token_rows`, float32
    [its tokens, width] of each text, special ones included, are empty then, and `rows` have no dimensions
    where only others were asked for.
    """

    card: ModelCard
    rows: Float32
    tokens: int
    stages: tuple[Stage, ...] = ()
    sparse: tuple[Sparse, ...] | None = None
    token_rows: Sequence[Float32] = ()


@dataclass(frozen=True)
class Ranked:
    """One document: its index in the request, its score between 0 and 1, and the logit that it comes from."""

    index: int
    score: float
    logit: float


@dataclass(frozen=True)
class Ranking:
    """The documents, best first; `tokens` that went through the model."""

    card: ModelCard
    ranked: list[Ranked]
    tokens: int
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A token of a text: what it stands for, from `start` to before `stop` in characters; of a special one
    its name, and no place.
    """

    id: int
    text: str
    special: bool
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True)
class Health:
    """`status` is ready, loading, exhausted or load_failed; `reason` and `message` say what is missing.

    `cards`: the default models that are loaded.
    """

    status: str
    reason: str
    message: str
    cards: tuple[ModelCard, ...]


@dataclass(frozen=True)
class Source:
    """A repository that answers for a model of another name, and the ONNX file in it."""

    repository: str
    file: str


@dataclass(frozen=True)
class Listed:
    """A model that a request may name now. `card` and `memory_bytes` where it is loaded; `source` where
    another repository answers for its name.
    """

    name: str
    served_names: tuple[str, ...]
    task: Task
    state: State
    default: bool
    reason: str = ""
    message: str = ""
    card: ModelCard | None = None
    memory_bytes: int | None = None
    source: Source | None = None
