"""Which backends can run a graph, given what was asked for and what there is. Nothing here loads one."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embedding_runtime.engine.backend import Backend, Execution
from embedding_runtime.engine.cuda_backend import CudaBackend
from embedding_runtime.engine.onnx_backend import OnnxBackend, usable_providers
from embedding_runtime.engine.providers import CUDA
from embedding_runtime.engine.trial import trial
from embedding_runtime.errors import PrecisionUnavailableError, ProviderUnavailableError
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.settings import Precision

if TYPE_CHECKING:
    from embedding_runtime.engine.openvino_backend import OpenVinoBackend


def has_openvino() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


def computed_here(asked: Precision, weights: str, no_gpu: str | None, node: str) -> Precision:
    """What a model with such weights is computed in here, where `asked` is what was asked for: `auto` is
    fp16 of 32 bits on a GPU, else as the weights are. `no_gpu`: why there is none to compute on. Pure.

    Raises PrecisionUnavailableError where only a GPU could.
    """
    if weights == "fp32" and asked == "auto" and no_gpu is None:
        return "fp16"
    if weights == "fp32" and asked == "fp16" and no_gpu is not None:
        raise PrecisionUnavailableError(
            f"{node} cannot compute in fp16: {no_gpu}; ask for another precision, or choose a repository "
            "with an fp16 file"
        )
    return asked


def make_backend(prepared: Prepared, recipe: Recipe, execution: Execution) -> Backend:
    """The backend for a graph, the first of `candidates`.

    Raises as that.
    """
    return candidates(prepared, recipe, execution)[0]


def candidates(prepared: Prepared, recipe: Recipe, execution: Execution) -> list[Backend]:
    """The backends that can run a graph as was asked, none loaded; of several the fastest is to be found out.

    Raises ProviderUnavailableError, PrecisionUnavailableError, which name the machine.
    """
    wanted = execution.precision or prepared.precision
    if wanted == "fp16" and prepared.precision != "fp16":
        raise PrecisionUnavailableError(
            f"{execution.node} cannot compute in fp16 what is stored in {prepared.precision}; choose a "
            "repository with an fp16 file or ask for another precision"
        )
    found: list[Backend] = list(_openvino(prepared, recipe, execution, wanted))
    if not found or (execution.provider == "auto" and wanted != "bf16"):
        found = [*_onnx(prepared, recipe, execution), *found]
    return found


def _onnx(prepared: Prepared, recipe: Recipe, execution: Execution) -> Iterator[OnnxBackend]:
    """ONNX Runtime's, on a GPU where that was asked for or may be there."""
    asked = execution.provider
    if asked == "cuda" or (asked == "auto" and CUDA in usable_providers()):
        yield CudaBackend(prepared, recipe, execution)
        if trial(CUDA) is None:
            for name, other in prepared.variants():
                yield CudaBackend(other, recipe, execution, name)
    else:
        yield OnnxBackend(prepared, recipe, execution)


def _openvino(
    prepared: Prepared, recipe: Recipe, execution: Execution, wanted: str
) -> Iterator["OpenVinoBackend"]:
    """OpenVINO's backend where it was asked for, is needed for the precision, or may be faster."""
    asked = execution.provider == "openvino"
    if not has_openvino():
        if asked:
            raise ProviderUnavailableError(
                f"{execution.node} has no OpenVINO; install the package openvino, or set "
                "ORT_EXECUTION_PROVIDER to cpu or auto"
            )
        if wanted == "bf16":
            raise _no_bf16(execution, "that needs the package openvino")
        return
    if execution.provider in ("cpu", "cuda") or (CUDA in usable_providers() and not asked):
        if wanted == "bf16":
            raise _no_bf16(execution, f"ORT_EXECUTION_PROVIDER={execution.provider} does not; openvino may")
        return
    # Imported here: most installations do not have it, and it takes a third of a second.
    from embedding_runtime.engine.openvino_backend import OpenVinoBackend, precisions

    if wanted == "bf16" and wanted not in precisions():
        raise _no_bf16(execution, "its CPU has neither AMX nor AVX512-BF16")
    if wanted in ("fp32", "bf16") and prepared.precision == "fp32":
        yield OpenVinoBackend(prepared, recipe, execution, wanted)
    elif asked:
        raise PrecisionUnavailableError(
            f"{execution.node} cannot compute in {wanted} with OpenVINO; ask for fp32 or bf16, or set "
            "ORT_EXECUTION_PROVIDER to cpu or auto"
        )


def _no_bf16(execution: Execution, why: str) -> PrecisionUnavailableError:
    return PrecisionUnavailableError(f"{execution.node} cannot compute in bf16: {why}")
