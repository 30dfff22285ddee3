"""What the CUDA backend does that no GPU is needed for: the same code on ONNX Runtime's CPU provider."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from embedding_runtime.engine import cuda_backend
from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.binding import Bound, bucket, fill
from embedding_runtime.engine.cuda_backend import CudaBackend
from embedding_runtime.engine.cuda_graphs import Graphs
from embedding_runtime.engine.gate import Gate
from embedding_runtime.engine.gpu import present
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.pinned import ordinary, page_locked
from embedding_runtime.engine.placement import Placed, misplaced
from embedding_runtime.engine.providers import CPU, CUDA
from embedding_runtime.errors import InternalError, OutOfMemoryError
from embedding_runtime.model.prepared import VECTOR, Prepared
from embedding_runtime.model.recipe import Recipe, read_recipe
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH
from tests.unit.runtime import made

INPUTS = {"input_ids": np.int32, "attention_mask": np.int32}
_PLACED = cuda_backend._placed
ARENA = "BFCArena::AllocateRawInternal Available memory of 1024 is smaller than requested bytes of 4096"


class OnCpu(ort.InferenceSession):  # type: ignore[misc]
    """A session that says it runs on CUDA, and runs on the CPU. `refused`: what creating it fails with."""

    asked: list[dict[str, str]]
    refused: list[str]
    most_texts = 1000

    def __init__(
        self, path: str, options: Any, providers: Any, enable_fallback: int, disabled_optimizers: Any = ()
    ) -> None:
        assert not disabled_optimizers or list(providers) == [CPU]  # on a GPU what is fused is faster
        assert enable_fallback == 0
        OnCpu.asked.append(providers[0][1] if isinstance(providers[0], tuple) else {})
        if OnCpu.refused and isinstance(providers[0], tuple):
            raise RuntimeError(OnCpu.refused.pop(0))
        super().__init__(path, options, [CPU])
        self._says = [each[0] if isinstance(each, tuple) else each for each in providers]

    def get_providers(self) -> list[str]:
        return self._says

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        super().run_with_iobinding(iobinding, run_options)
        if iobinding.get_outputs()[0].shape()[0] > OnCpu.most_texts:
            raise RuntimeError(ARENA)


@pytest.fixture(autouse=True)
def _pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    OnCpu.asked, OnCpu.refused = [], []
    monkeypatch.setattr(OnCpu, "most_texts", 1000)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", OnCpu)
    monkeypatch.setattr(cuda_backend, "_placed", lambda _: [])


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Prepared, Recipe]:
    """A prepared graph of the made embedder."""
    folder = made.write_embedder(tmp_path / "model")
    recipe = read_recipe(folder, "m")
    rewrite(folder / "onnx/model.onnx", recipe, tmp_path)
    return Prepared(tmp_path / GRAPH, "fp32", plain=False, note=None, key="k"), recipe


@pytest.fixture
def backend(graph: tuple[Prepared, Recipe]) -> Iterator[CudaBackend]:
    found = CudaBackend(*graph, Execution("cuda", 1))
    found.load()
    found.warm_up()
    yield found
    found.close()


def _texts(*lengths: int) -> list[Tokens]:
    random = np.random.default_rng(0)
    return [Tokens(random.integers(4, 14, length).astype(np.int32)) for length in lengths]


def _wanted(graph: tuple[Prepared, Recipe], texts: list[Tokens]) -> Any:
    plain = OnnxBackend(*graph, Execution("cpu", 1))
    plain.load()
    return np.concatenate([plain.run([text]) for text in texts])


def test_batches_through_buffers_that_stay_give_what_a_session_gives(
    backend: CudaBackend, graph: tuple[Prepared, Recipe]
) -> None:
    assert (backend.provider, backend.overlaps, backend.fallback) == ("cuda", True, None)
    for lengths in ((3, 5, 16), (1,), (16,) * 40, (2, 2)):
        texts = _texts(*lengths)
        np.testing.assert_allclose(backend.run(texts), _wanted(graph, texts), atol=1e-6)


def test_batches_that_were_begun_together_keep_their_own_rows(
    backend: CudaBackend, graph: tuple[Prepared, Recipe]
) -> None:
    batches = [_texts(*lengths) for lengths in ((3, 9), (4,), (16, 2, 7), (5, 5))]
    pending = [backend.start(texts) for texts in batches]
    for texts, rows in zip(batches, [wait() for wait in pending], strict=True):
        np.testing.assert_allclose(rows, _wanted(graph, texts), atol=1e-6)


def test_a_backend_that_was_closed_can_be_loaded_again(
    backend: CudaBackend, graph: tuple[Prepared, Recipe]
) -> None:
    backend.close()
    assert not backend.overlaps
    with pytest.raises(InternalError, match="not loaded"):
        backend.run(_texts(3))
    backend.load()
    backend.warm_up()
    np.testing.assert_allclose(backend.run(_texts(3, 4)), _wanted(graph, _texts(3, 4)), atol=1e-6)


def test_no_memory_for_a_batch_is_told_as_that_and_the_next_one_runs(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnCpu, "most_texts", 2)
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory") as caught:
        backend.run(_texts(4, 4, 4))
    assert caught.value.retry_after
    backend.shrink()
    assert len(backend.run(_texts(4, 4))) == 2


def test_the_session_is_asked_for_graphs_true_fp32_and_the_memory_limit(
    graph: tuple[Prepared, Recipe],
) -> None:
    backend = CudaBackend(*graph, Execution("cuda", 1, gpu_bytes=2**30))
    backend.load()
    assert OnCpu.asked == [
        {
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
            "gpu_mem_limit": str(2**30),
            "enable_cuda_graph": "1",
        }
    ]


def test_a_graph_that_cannot_be_recorded_runs_without(graph: tuple[Prepared, Recipe]) -> None:
    OnCpu.refused = ["This session cannot use the graph capture feature as requested by the user"]
    backend = CudaBackend(*graph, Execution("cuda", 1))
    backend.load()
    assert [options.get("enable_cuda_graph") for options in OnCpu.asked] == ["1", None]
    assert (backend.provider, backend.fallback) == ("cuda", None)


def test_no_room_for_the_session_is_no_reason_to_run_on_the_cpu(graph: tuple[Prepared, Recipe]) -> None:
    OnCpu.refused = [ARENA]
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory"):
        CudaBackend(*graph, Execution("cuda", 1)).load()


@pytest.mark.parametrize(
    ("provider", "device", "told"), [("cuda", False, True), ("auto", True, True), ("auto", False, False)]
)
def test_a_cpu_that_nobody_asked_for_is_a_fall_back(
    graph: tuple[Prepared, Recipe], monkeypatch: pytest.MonkeyPatch, provider: str, device: bool, told: bool
) -> None:
    monkeypatch.setattr("embedding_runtime.engine.cuda_backend.present", lambda: device)
    OnCpu.refused = ["CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"]
    backend = CudaBackend(*graph, Execution(provider, 1))
    backend.load()
    assert backend.provider == "cpu"
    assert ("driver version is insufficient" in (backend.fallback or "")) is told
    backend.warm_up()
    assert not backend.overlaps
    assert len(backend.run(_texts(3, 4))) == 2


def test_a_node_that_computes_on_the_cpu_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_backend, "_placed", _PLACED)
    folder = made.write_reranker(tmp_path)  # its ReduceSum runs on the CPU here
    plain = Prepared(folder / "onnx/model.onnx", "fp32", plain=True, note=None, key="k")
    backend = CudaBackend(plain, read_recipe(folder, "m"), Execution("auto", 1))
    backend.load()
    assert backend.provider == "cuda"
    assert "no CUDA kernel for 1 of its nodes: ReduceSum" in (backend.fallback or "")


def test_only_what_is_about_shapes_may_run_on_the_cpu() -> None:
    fine = [Placed("a", "Shape", CPU), Placed("b", "Gather", CPU), Placed("c", "Attention", CUDA)]
    assert misplaced(fine) is None
    wrong = [Placed(f"layer{n}/attention", "Attention", CPU) for n in range(5)]
    assert misplaced([*fine, *wrong]) == (
        "ONNX Runtime has no CUDA kernel for 5 of its nodes: Attention layer0/attention, "
        "Attention layer1/attention, Attention layer2/attention and 2 more"
    )


def test_recorded_lengths_give_what_a_session_gives(graph: tuple[Prepared, Recipe]) -> None:
    prepared, recipe = graph
    session = ort.InferenceSession(str(prepared.path), ort.SessionOptions(), [CPU], enable_fallback=0)
    graphs = Graphs(session, INPUTS, VECTOR, made.WIDTH, recipe, device="cpu")
    graphs.record()
    for text in _texts(2, 16, 7):
        length = graphs.length([text])
        assert length == 16
        np.testing.assert_allclose(graphs.run(length, text), _wanted(graph, [text]), atol=1e-6)
    assert graphs.length(_texts(2, 3)) is None
    assert graphs.length(_texts(17)) is None


def test_lengths_are_padded_to_what_matrix_units_take_and_never_over_the_limit() -> None:
    assert [bucket(length, 500) for length in (1, 8, 9, 497, 500)] == [8, 8, 16, 500, 500]
    # A text that is longer than the limit, as tests and calibrations have them, keeps its length.
    assert bucket(20, 16) == 20


def test_buffers_are_kept_and_grow(graph: tuple[Prepared, Recipe]) -> None:
    given: list[int] = []

    def host(size: int) -> Any:
        given.append(size)
        return ordinary(size)

    prepared, recipe = graph
    session = ort.InferenceSession(str(prepared.path), ort.SessionOptions(), [CPU], enable_fallback=0)
    bound = Bound(session, INPUTS, VECTOR, made.WIDTH, host)
    for lengths in ((4,), (4,), (4, 4), (16,) * 4, (3,), (16,) * 4):
        bound.put(_texts(*lengths), recipe)
        bound.run()
    assert given == [32, 32, 16, 64, 64, 32, 256, 256, 64]


def test_without_cuda_buffers_are_ordinary_memory() -> None:
    block = page_locked()(1000)
    block[:] = 7
    assert int(block.sum()) == 7000
    assert block.ctypes.data % 4096 == 0


def test_one_alone_waits_for_those_inside_and_keeps_the_others_out() -> None:
    gate, seen, inside, leave = Gate(), [], threading.Event(), threading.Event()

    def together(name: str) -> None:
        with gate.together():
            seen.append(name)
            inside.set()
            assert leave.wait(10)

    def alone() -> None:
        with gate.alone():
            seen.append("alone")

    first = threading.Thread(target=together, args=("first",))
    first.start()
    assert inside.wait(10)
    other = threading.Thread(target=alone)
    other.start()
    while not gate._alone:  # it waits for the first now
        other.join(0.001)
    last = threading.Thread(target=together, args=("last",))
    last.start()
    leave.set()
    for thread in (first, other, last):
        thread.join(10)
    assert seen == ["first", "alone", "last"]


def test_a_gpu_is_there_where_the_driver_names_a_device(tmp_path: Path) -> None:
    assert not present(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not present(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert present(tmp_path)


def test_what_is_not_pooled_is_left_out_of_a_buffer() -> None:
    texts = [Tokens(np.array([2, 4, 9, 3], np.int32), unpooled=2), Tokens(np.array([2, 3], np.int32))]
    recipe = Recipe("embed", "tokenizer.json", 16, 0, ("mean",), pools_prompt=False)
    arrays = {name: np.full((2, 5), 9, np.int32) for name in ("attention_mask", "pooling_mask")}
    fill(texts, recipe, arrays)
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert arrays["pooling_mask"].tolist() == [[0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]
