"""The GPU's name and memory, as NVIDIA's management library tells them.

Nothing here needs a GPU to be imported.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from embedding_runtime.telemetry import logger

_log = logger("gpu")
_T = TypeVar("_T")


class Nvml(Protocol):
    """As much of pynvml as is used."""

    def nvmlInit(self) -> None:  # noqa: N802  the library's own name, as are the others
        """Load the driver's library."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """A GPU by its place."""

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> Any:  # noqa: N802
        """A GPU, or a part of one, by its identifier."""

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        """Its product name."""

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
        return self._asked(_memory)

    def name(self) -> str:
        """Its product name, `unknown` where the library does not tell."""
        return self._asked(lambda library, handle: library.nvmlDeviceGetName(handle)) or "unknown"

    def _asked(self, question: Callable[[Nvml, Any], _T]) -> _T | None:
        if self._broken:
            return None
        try:
            if self._found is None:
                self._found = self._find()
            return question(*self._found)
        except Exception as error:  # the library's own errors, and a library that cannot be loaded
            self._broken = True
            _log.warning("the GPU cannot be asked", error=str(error))
            return None

    def _find(self) -> tuple[Nvml, Any]:
        library = self._load()
        library.nvmlInit()
        if self._visible and not self._visible.isdigit():
            return library, library.nvmlDeviceGetHandleByUUID(self._visible.encode())
        return library, library.nvmlDeviceGetHandleByIndex(int(self._visible or 0))


def _memory(library: Nvml, handle: Any) -> Memory:
    info = library.nvmlDeviceGetMemoryInfo(handle)
    return Memory(int(info.used), int(info.total))


def present(devices: Path = Path("/dev")) -> bool:
    """Whether this machine, or this container, was given an NVIDIA GPU: so the driver names its devices."""
    return any(path.name[6:].isdigit() for path in devices.glob("nvidia*")) or (devices / "dxg").exists()


def nvml() -> Nvml:
    """NVIDIA's library, which a server on CPUs has no use for."""
    return cast("Nvml", importlib.import_module("pynvml"))
