"""Which execution provider runs, given what was asked for and what there is. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType

from embedding_runtime.errors import ProviderUnavailableError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# fp32 means fp32: TF32 would round the inputs of every product to 10 bits.
_CUDA_OPTIONS = MappingProxyType({"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})

# How ONNX Runtime's allocators, CUDA and the C++ library say that there is no room.
_OUT_OF_MEMORY = (
    "out of memory",
    "failed to allocate",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
    "available memory of",
)
_LONGEST = 300


@dataclass(frozen=True)
class Choice:
    """The provider to create the session with, and what to log when it is a fall-back that `auto` allows."""

    name: str
    fallback: str | None = None


def choose(wanted: str, available: Collection[str]) -> Choice:
    """The provider for `wanted` (auto, cpu, cuda) among what ONNX Runtime was built with.

    Raises ProviderUnavailableError for a CUDA that was asked for and is not there.
    """
    if wanted == "cpu":
        return Choice(CPU)
    if CUDA in available:
        return Choice(CUDA)
    if wanted == "cuda":
        raise ProviderUnavailableError(no_cuda("this build of ONNX Runtime has no CUDA provider"))
    return Choice(CPU, fallback="no CUDA provider in this build of ONNX Runtime")


def cuda_options(gpu_bytes: int | None = None, *, graphs: bool = False) -> dict[str, str]:
    """The CUDA provider's options: what the session's arena may hold, whether it can record graphs."""
    options = dict(_CUDA_OPTIONS)
    if gpu_bytes is not None:
        options["gpu_mem_limit"] = str(gpu_bytes)
    if graphs:
        options["enable_cuda_graph"] = "1"
    return options


def out_of_memory(told: str, provider: str) -> str | None:
    """The message for a failure that ONNX Runtime tells as `told`, None where it is not about memory."""
    told = " ".join(told.split())
    places = [at for words in _OUT_OF_MEMORY if (at := told.lower().find(words)) >= 0]
    if not places:
        return None
    if len(told) > _LONGEST:  # CUDA's come after half a kilobyte of C++ types
        told = told[max(0, min(places) - _LONGEST // 4) :][:_LONGEST]
    what = "CUDA out of memory" if provider == CUDA else "out of memory"
    return (
        f"{what}: {told}; set a smaller MAX_EMBEDDING_BATCH_SIZE (for a reranker MAX_RERANKING_BATCH_SIZE) "
        "or MAX_BATCH_TOKENS, or use a smaller model"
    )


def no_cuda(why: str) -> str:
    """The message for a CUDA that was asked for and cannot be had."""
    return (
        f"CUDA requested but not available: {why}; use the -cuda image on a node with an NVIDIA GPU and "
        "driver, or set ORT_EXECUTION_PROVIDER to cpu or auto"
    )
