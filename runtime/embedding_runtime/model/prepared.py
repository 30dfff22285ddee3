"""The graph that is run: the repository's own, or one that was made of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from embedding_runtime.model.precision import computed_in
from embedding_runtime.model.source import ModelSource
from embedding_runtime.settings import Precision

# What a prepared graph calls its outputs: float32 [b, d]; [b], the vectors' lengths before they were made
# unit vectors; [b, s, h]; and a cross-encoder's [b, 1].
VECTOR, NORM, TOKENS, LOGITS = "vector", "norm", "tokens", "logits"

# Graphs beside a prepared one that a GPU may run faster, by the file's name.
VARIANTS = ("starts", "packed")


@dataclass(frozen=True)
class Target:
    """What to make of a model: its weights in this precision, which is theirs, or fp16 or int8 of 32 bits."""

    precision: str

    @classmethod
    def of(cls, source: ModelSource, wanted: Precision = "auto") -> Self:
        """What to make of a source that is to be computed so; bf16 is computed from the weights as they are.

        Raises PrecisionUnavailableError where the weights do not allow it.
        """
        precision = computed_in(wanted, source.precision)
        return cls(precision if precision in ("fp16", "int8") else source.precision)


@dataclass(frozen=True)
class Prepared:
    """What a backend loads.

    `plain`: the repository's own graph, whose token vectors are still to be pooled and normalised; else a
    graph with the int32 inputs `input_ids`, `attention_mask` and, where the model has them,
    `token_type_ids`, and where prompts are left out of the pooling `pooling_mask`, each [b, s], and the
    outputs above. `precision`: fp32, fp16, bf16 or int8, whichever
    most weights have. `note`: why the plain graph runs although a prepared one was wanted. `key`: names the
    content, so that what was found out about one graph is not taken for another's. `repository`: the model's
    folder, where the weights of the recipe's layers lie. `unfused`: what of its architecture should be fused
    in it and is not.
    """

    path: Path
    precision: str
    plain: bool
    note: str | None
    key: str
    repository: Path = Path()
    unfused: str | None = None

    def variants(self) -> "Iterator[tuple[str, Prepared]]":
        """The graphs beside this one that do the same by other kernels, which only a GPU has."""
        for name in VARIANTS:
            path = self.path.with_name(f"{name}.onnx")
            if not self.plain and path.is_file():
                yield name, replace(self, path=path)

    @classmethod
    def as_it_is(cls, source: ModelSource, note: str | None = None) -> Self:
        """The repository's own graph."""
        return cls(
            source.graph_path, source.precision, True, note, f"plain-{source.fingerprint}", source.folder
        )
