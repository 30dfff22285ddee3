"""Which backend runs a graph. Nothing here loads one."""

from embedding_runtime.engine.backend import Backend, Execution
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.errors import PrecisionUnavailableError
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import Recipe


def make_backend(prepared: Prepared, recipe: Recipe, execution: Execution) -> Backend:
    """The backend for a graph, not yet loaded.

    Raises PrecisionUnavailableError, which names the machine, where it cannot compute in what is asked for.
    """
    if execution.precision == "bf16" and prepared.precision != "bf16":
        raise PrecisionUnavailableError(f"{execution.node} cannot compute in bf16; ask for another precision")
    if execution.precision == "fp16" and prepared.precision != "fp16":
        raise PrecisionUnavailableError(
            f"{execution.node} cannot compute in fp16 what is stored in {prepared.precision}; choose a "
            "repository with an fp16 file or ask for another precision"
        )
    return OnnxBackend(prepared, recipe, execution)
