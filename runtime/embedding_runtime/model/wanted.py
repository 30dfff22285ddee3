"""A model as it is asked for: where it comes from, and what of it is not as its repository says."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from embedding_runtime.model.recipe import AS_IT_IS, Overrides
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import ModelEntry, Precision, Task


@dataclass(frozen=True)
class Wanted:
    """One model to be had; hashable, so that it can be a key.

    `name`: the id without revision, which answers and metrics use. `revision`: of a hub repository. `task`:
    None for whichever the model does. `folder`: a local folder instead of a repository. `file` names the
    ONNX file, else `precision` chooses it, which also says what is computed in. `fingerprint`: the only one
    that is accepted.
    """

    name: str
    revision: str = "main"
    task: Task | None = None
    folder: Path | None = None
    file: str | None = None
    precision: Precision = "auto"
    overrides: Overrides = AS_IT_IS
    fingerprint: str | None = None

    @property
    def ref(self) -> ModelRef:
        """The repository and its revision."""
        return ModelRef(self.name, self.revision)

    def computed_in(self, precision: Precision) -> Self:
        """The same, in this precision where none is wanted."""
        return replace(self, precision=precision) if self.precision == "auto" else self

    @classmethod
    def of(cls, entry: ModelEntry) -> Self:
        """What an entry of MODELS_CONFIG asks for."""
        return cls(
            name=entry.name,
            revision=entry.wanted_revision,
            task=entry.task,
            folder=entry.path,
            file=entry.file,
            precision=entry.precision,
            overrides=Overrides(
                max_length=entry.max_length,
                pooling=entry.pooling,
                normalize=entry.normalize,
                prompts=tuple(entry.prompts.items()) or None,
                default_prompt_name=entry.default_prompt_name,
            ),
            fingerprint=entry.fingerprint,
        )
