"""What only a GPU can show: `make bench-gpu` on a machine with one."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from bench.shapes import Shape, lay_out
from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.calibration import calibrate, clock_of
from embedding_runtime.engine.choice import candidates
from embedding_runtime.engine.cuda_backend import CudaBackend
from embedding_runtime.engine.gpu import Gpu, nvml
from embedding_runtime.engine.probes import fault
from embedding_runtime.errors import OutOfMemoryError
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.service.rescue import rescued
from tests.unit.runtime import made

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

SHAPE = Shape(layers=4, hidden=256, heads=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    home = tmp_path_factory.mktemp("bert")
    lay_out(SHAPE, made.write_embedder(home / "tokenizer"), home / "model")
    return open_source(find_folder(home / "model", "m", None), None)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def graph(
    request: pytest.FixtureRequest, source: ModelSource, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    found = prepare(source, Target(request.param), [tmp_path_factory.mktemp("prepared")])
    assert not found.plain, found.note
    return found


def _loaded(backend: CudaBackend) -> CudaBackend:
    backend.load()
    backend.warm_up()
    return backend


@pytest.fixture
def backends(graph: Prepared, source: ModelSource) -> Iterator[list[CudaBackend]]:
    """Every way to run the graph on the GPU."""
    found = candidates(graph, source.recipe, Execution("cuda", 1, graph.precision))
    gpus = [_loaded(each) for each in found if isinstance(each, CudaBackend)]
    yield gpus
    for each in gpus:
        each.close()


def _texts(*lengths: int) -> list[Tokens]:
    random = np.random.default_rng(3)
    return [Tokens(random.integers(1000, 20000, length).astype(np.int32)) for length in lengths]


def _least_cosine(rows: Float32, others: Float32) -> float:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(axis=1) / lengths).min())


def test_every_node_runs_on_the_gpu_and_every_way_gives_the_models_rows(
    backends: list[CudaBackend], graph: Prepared, source: ModelSource
) -> None:
    expected = ["lengths"] if graph.precision == "fp32" else ["lengths", "starts", "packed"]
    assert [each.variant for each in backends] == expected
    for backend in backends:
        assert (backend.provider, backend.fallback, backend.overlaps) == ("cuda", None, True), backend.variant
        assert fault(backend, graph, source.recipe.task) is None, backend.variant


def test_a_text_alone_and_in_company_gives_the_same_row(backends: list[CudaBackend], graph: Prepared) -> None:
    texts = _texts(*[3, 7, 15, 30, 64, 100, 128, 200] * 8)
    for backend in backends:
        together = backend.run(texts)
        alone = np.concatenate([backend.run([text]) for text in texts])
        least = 0.99998 if graph.precision == "fp16" else 1 - 1e-6
        assert _least_cosine(together, alone) > least, backend.variant


def test_single_texts_run_as_recorded_graphs(backends: list[CudaBackend]) -> None:
    for backend in backends:
        assert (backend._graphs is not None) is (backend.variant != "packed"), backend.variant


def test_batches_overlap_and_keep_their_rows(backends: list[CudaBackend]) -> None:
    for backend in backends:
        batches = [_texts(*[length] * 32) for length in (16, 128, 64)]
        wanted = [backend.run(texts) for texts in batches]
        pending = [backend.start(texts) for texts in batches]
        for wait, rows in zip(pending, wanted, strict=True):
            np.testing.assert_allclose(wait(), rows, atol=1e-3)


def test_what_a_batch_costs_can_be_measured(backends: list[CudaBackend], source: ModelSource) -> None:
    for backend in backends:
        costs = calibrate(backend, source.recipe.max_tokens, clock=clock_of("cuda", 1))
        assert costs.best_tokens >= 1024, backend.variant


def test_a_batch_that_does_not_fit_is_split_and_the_server_goes_on(
    graph: Prepared, source: ModelSource
) -> None:
    limit = 192 * 2**20
    backend = _loaded(
        CudaBackend(graph, source.recipe, Execution("cuda", 1, graph.precision, gpu_bytes=limit))
    )
    texts = _texts(*[512] * 512)
    with pytest.raises(OutOfMemoryError):
        backend.run(texts)
    narrowed: list[int] = []
    run = partial(backend.run_with, extras=())
    rows = rescued(partial(run, texts), run, backend, texts, lambda: False, narrowed.append).rows
    assert rows.shape == (512, SHAPE.hidden)
    assert narrowed
    backend.close()


def test_memory_that_a_large_batch_took_is_given_back(graph: Prepared, source: ModelSource) -> None:
    gpu = Gpu(nvml)
    backend = _loaded(CudaBackend(graph, source.recipe, Execution("cuda", 1, graph.precision)))
    backend.run(_texts(*[512] * 64))
    before = gpu.memory()
    backend.shrink()
    after = gpu.memory()
    assert before is not None
    assert after is not None
    assert after.used < before.used
    backend.close()


def test_the_plain_graph_runs_too(source: ModelSource) -> None:
    backend = CudaBackend(Prepared.as_it_is(source), source.recipe, Execution("cuda", 1))
    backend.load()
    backend.warm_up()
    assert (backend.provider, backend.overlaps) == ("cuda", False)
    assert backend.run(_texts(5, 9)).shape == (2, SHAPE.hidden)
    backend.close()


def test_the_gpu_is_named() -> None:
    assert Gpu(nvml).name() != "unknown"
