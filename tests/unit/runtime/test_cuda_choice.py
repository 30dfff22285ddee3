"""What a model is computed in, and by which kernels, where there is a GPU: a whole load, on the CPU."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from bench.shapes import Shape, lay_out
from embedding_runtime.engine import cuda_backend
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.gpu import Gpu
from embedding_runtime.engine.providers import CPU, CUDA
from embedding_runtime.errors import PrecisionUnavailableError
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.pulse import Pulse
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service import loading
from embedding_runtime.service.loading import OnnxLoading
from embedding_runtime.settings import Precision, ServeSettings
from tests.unit.runtime import made
from tests.unit.runtime.test_gpu import FakeNvml

pytestmark = pytest.mark.timeout(240)


class Pretended(ort.InferenceSession):  # type: ignore[misc]
    """A session that says it runs on CUDA, and runs on the CPU, which lacks the kernels of two variants."""

    def __init__(
        self, path: str, options: Any, providers: Any, enable_fallback: int, disabled_optimizers: Any = ()
    ) -> None:
        assert not disabled_optimizers or list(providers) == [CPU]  # on a GPU what is fused is faster
        super().__init__(path, options, [CPU], enable_fallback=enable_fallback)
        self._says = [each[0] if isinstance(each, tuple) else each for each in providers]

    def get_providers(self) -> list[str]:
        return self._says


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    home = tmp_path_factory.mktemp("bert")
    lay_out(Shape(2, 64, 2, positions=64), made.write_embedder(home / "tokenizer"), home / "model")
    return open_source(find_folder(home / "model", "m", None), None)


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxLoading:
    """Loading on a machine with a GPU, or so it seems."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", Pretended)
    monkeypatch.setattr(cuda_backend, "_placed", lambda _: [])
    monkeypatch.setattr(loading, "trial", lambda _: None)
    monkeypatch.setattr("embedding_runtime.engine.choice.trial", lambda _: None)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NODE_NAME", "worker-7")
    return OnnxLoading(ServeSettings.load(), Pulse.create(tmp_path / "pulse"), Gpu(FakeNvml))


def _wanted(precision: Precision) -> Wanted:
    return Wanted("m", precision=precision)


def test_on_a_gpu_32_bits_become_16_and_what_gives_no_rows_is_left_out(
    loads: OnnxLoading, source: ModelSource
) -> None:
    loaded = loads.build(_wanted("auto"), source)
    card = loaded.card
    assert (card.provider, card.precision, card.prepared, card.fallback) == ("cuda", "fp16", True, None)
    assert isinstance(loaded.backend, OnDevice)
    assert (loaded.backend.variant, loaded.backend.overlaps) == ("lengths", True)
    loaded.backend.close()


def test_fp32_is_computed_in_fp32_where_it_is_asked_for(loads: OnnxLoading, source: ModelSource) -> None:
    loaded = loads.build(_wanted("fp32"), source)
    assert (loaded.card.provider, loaded.card.precision, loaded.card.prepared) == ("cuda", "fp32", True)
    loaded.backend.close()


def test_halves_that_move_too_far_give_way_unless_they_were_asked_for(
    loads: OnnxLoading, source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loading, "fault", lambda backend, *_: "far away" if backend.precision == "fp16" else None
    )
    card = loads.build(_wanted("auto"), source).card
    assert (card.provider, card.precision, card.prepared) == ("cuda", "fp32", False)
    assert "far away" in (card.unprepared or "")
    with pytest.raises(PrecisionUnavailableError, match="CUDA on worker-7 is not used: far away"):
        loads.build(_wanted("fp16"), source)


def test_a_gpu_that_does_not_work_is_told_where_only_it_could(
    loads: OnnxLoading, source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "trial", lambda _: "no driver")
    with pytest.raises(
        PrecisionUnavailableError, match="worker-7 cannot compute in fp16: its GPU cannot be used: no driver"
    ):
        loads.build(_wanted("fp16"), source)
