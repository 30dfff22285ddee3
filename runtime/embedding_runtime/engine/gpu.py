"""The GPU's memory, as NVIDIA's management library tells it. Nothing here needs a GPU to be imported."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from embedding_runtime.telemetry import logger

_log = logger("gpu")


class Nvml(Protocol):
    """As much of pynvml as is used."""

    def nvmlInit(self) -> None:  # noqa: N802  the library's own name, as are the others
        """Load the driver's library."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """A GPU by its place."""

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> Any:  # noqa: N802
        """A GPU, or a part of one, by its identifier."""

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        """`used` and `total`, in bytes."""


@dataclass(frozen=True)
class Memory:
    """Bytes in use by whichever process, and bytes in all."""

    used: int
    total: int


class Gpu:
    """The GPU that CUDA calls the first.

    `load` gives the library, and is called when the memory is first asked for. `visible` is
    CUDA_VISIBLE_DEVICES: CUDA counts what it lists, NVML counts everything.
    """

    def __init__(self, load: Callable[[], Nvml], visible: str | None = None) -> None:
        self._load, self._visible = load, (visible or "").partition(",")[0].strip()
        self._found: tuple[Nvml, Any] | None = None
        self._broken = False

    def memory(self) -> Memory | None:
        """The memory now, None where the library does not tell; it is asked no more after it failed once."""
        if self._broken:
            return None
        try:
            if self._found is None:
                self._found = self._find()
            library, handle = self._found
            info = library.nvmlDeviceGetMemoryInfo(handle)
            return Memory(int(info.used), int(info.total))
        except Exception as error:  # the library's own errors, and a library that cannot be loaded
            self._broken = True
            _log.warning("the GPU's memory cannot be read", error=str(error))
            return None

    def _find(self) -> tuple[Nvml, Any]:
        library = self._load()
        library.nvmlInit()
        if self._visible and not self._visible.isdigit():
            return library, library.nvmlDeviceGetHandleByUUID(self._visible.encode())
        return library, library.nvmlDeviceGetHandleByIndex(int(self._visible or 0))


def nvml() -> Nvml:
    """NVIDIA's library, which a server on CPUs has no use for."""
    return cast("Nvml", importlib.import_module("pynvml"))
