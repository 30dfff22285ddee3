"""The GPU's memory over a made management library."""

from dataclasses import dataclass
from typing import Any

import pytest

from embedding_runtime.engine.gpu import Gpu, Memory


@dataclass
class _Info:
    used: int
    total: int


class FakeNvml:
    """Two GPUs, the second one in use; counts how often it is initialised."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.initialised, self.asked = failure, 0, 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.initialised += 1
        if self.failure:
            raise self.failure

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return [_Info(10, 100), _Info(20, 200)][index]

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> Any:  # noqa: N802
        return {b"GPU-two": _Info(20, 200)}[uuid]

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return f"GPU of {handle.total}"

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        self.asked += 1
        return handle


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, Memory(10, 100)),
        ("", Memory(10, 100)),
        ("1", Memory(20, 200)),
        ("1,0", Memory(20, 200)),
        ("GPU-two", Memory(20, 200)),
    ],
)
def test_the_first_gpu_that_cuda_sees_is_the_one(visible: str | None, expected: Memory) -> None:
    nvml = FakeNvml()
    gpu = Gpu(lambda: nvml, visible)
    assert (gpu.memory(), gpu.memory()) == (expected, expected)
    assert gpu.name() == f"GPU of {expected.total}"
    assert (nvml.initialised, nvml.asked) == (1, 2)


@pytest.mark.parametrize(
    ("failure", "visible"), [(OSError("no driver"), None), (None, "7"), (None, "GPU-gone")]
)
def test_a_library_that_does_not_answer_is_asked_once(failure: Exception | None, visible: str | None) -> None:
    nvml = FakeNvml(failure)
    gpu = Gpu(lambda: nvml, visible)
    assert gpu.memory() is None
    assert gpu.memory() is None
    assert gpu.name() == "unknown"
    assert nvml.initialised == 1
