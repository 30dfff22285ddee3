"""A model that is in the cache works: it loads and gives a finite answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedding_runtime.engine.backend import Execution
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.model.prepared import Target
from embedding_runtime.model.source import ModelSource
from embedding_runtime.prefetch.progress import Progress
from embedding_runtime.service.preparation import prepare
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import Precision
from embedding_runtime.telemetry import logger

_log = logger("prefetch")

_QUERY, _PROBE = "fox", "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True)
class Proven:
    """A model that was loaded and gave a finite answer; `width` of its rows."""

    source: ModelSource
    width: int


def prove(
    source: ModelSource,
    precision: Precision,
    threads: int | None,
    progress: Progress,
    prepared_dirs: Sequence[Path],
) -> Proven:
    """Prepare the model for those that serve it in this precision, load it and run a probe text through it,
    on the CPU.

    Raises ModelError, InternalError when its output is not finite.
    """
    progress("inspecting", f"loading {source.id} {source.graph}", source.bytes, source.bytes)
    if source.recipe.assumed and source.recipe.task == "embed":
        _log.warning(
            "no modules.json: pooled as sentence-transformers does then, not normalised", model=source.id
        )
    tokenization = Tokenization(source.tokenizer_path, source.recipe)
    embeds = source.recipe.task == "embed"
    tokens = tokenization.embed([_PROBE]) if embeds else tokenization.pairs(_QUERY, [_PROBE])
    execution = Execution("cpu", thread_count(threads, cpu_limit()))
    prepared = prepare(source, Target.of(source, precision), prepared_dirs)
    backend = OnnxBackend(prepared, source.recipe, execution)
    backend.load()
    try:
        return Proven(source, backend.run(tokens).shape[1])
    finally:
        backend.close()
