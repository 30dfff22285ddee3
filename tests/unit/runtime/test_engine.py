"""Pooling, threads, providers, and the ONNX Runtime backend on made models."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import structlog

from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.cuda_backend import CudaBackend
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.pooling import normalize, pool
from embedding_runtime.engine.providers import CPU, CUDA, choose, out_of_memory
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.errors import CorruptModelError, OutOfMemoryError, ProviderUnavailableError
from embedding_runtime.metrics import resident_bytes
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import read_recipe
from embedding_runtime.settings import POOLINGS
from tests.unit.runtime import made

# One text of two tokens, padded to three; and one of three.
TOKENS = np.array([[[1, -2], [3, 4], [99, 99]], [[1, 0], [2, 0], [6, -3]]], dtype=np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], dtype=np.int32)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1, -2], [1, 0]]),
        ("max", [[3, 4], [6, 0]]),
        ("mean", [[2, 1], [3, -1]]),
        ("mean_sqrt_len", [[4 / 2**0.5, 2 / 2**0.5], [9 / 3**0.5, -3 / 3**0.5]]),
        ("weightedmean", [[7 / 3, 2], [23 / 6, -1.5]]),
        ("splade", np.log([[4, 5], [7, 1]])),
        ("lasttoken", [[3, 4], [6, -3]]),
    ],
)
def test_each_pooling_leaves_the_padding_out(mode: str, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(pool(TOKENS, MASK, [mode]), expected, rtol=1e-6)


def test_several_poolings_are_concatenated() -> None:
    assert pool(TOKENS, MASK, POOLINGS).shape == (2, 2 * len(POOLINGS))


def test_rows_become_unit_vectors_and_zero_stays_zero() -> None:
    rows = normalize(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "75000", "cpu/cpu.cfs_period_us": "100000"}, 0.75),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_cgroups_quota_limits_the_cpus(
    tmp_path: Path, files: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_limit(tmp_path) == (4 if expected is None else expected)


@pytest.mark.parametrize(("wanted", "limit", "expected"), [(None, 2.9, 2), (None, 0.5, 1), (7, 2.0, 7)])
def test_threads_are_whole_cpus_unless_told(wanted: int | None, limit: float, expected: int) -> None:
    assert thread_count(wanted, limit) == expected


@pytest.mark.parametrize(
    ("wanted", "available", "expected", "falls_back"),
    [
        ("cpu", [CPU, CUDA], CPU, False),
        ("cuda", [CUDA, CPU], CUDA, False),
        ("auto", [CUDA, CPU], CUDA, False),
        ("auto", [CPU], CPU, True),
    ],
)
def test_the_provider_follows_what_is_asked_and_there(
    wanted: str, available: list[str], expected: str, falls_back: bool
) -> None:
    choice = choose(wanted, available)
    assert choice.name == expected
    assert (choice.fallback is not None) is falls_back


def test_no_memory_is_seen_behind_half_a_kilobyte_of_types() -> None:
    # As onnxruntime-gpu words it: core/providers/cuda/cuda_call.cc.
    where = (
        "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, "
    )
    types = "[with ERRTYPE = cudaError; bool THRW = true; SUCCTYPE = cudaError; std::string_view = ...] " * 4
    told = (
        f"{where}{types}\nCUDA failure 2: out of memory ; GPU=0 ; hostname=node ; expr=cudaMalloc(&p, size);"
    )
    message = out_of_memory(told, CUDA)
    assert message is not None
    assert "CUDA failure 2: out of memory ; GPU=0" in message
    assert len(message) < 500


def test_fp32_means_fp32_on_a_gpu_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(
            self, path: str, options: object, providers: list[tuple[str, dict[str, str]]], **_: object
        ) -> None:
            asked.append(providers[0])
            raise RuntimeError("no driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(CorruptModelError):
        _backend(made.write_embedder(tmp_path), "cuda").load()
    name, options = asked[0]
    assert (name, options["use_tf32"]) == (CUDA, "0")


def test_a_cuda_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        ProviderUnavailableError, match=r"CUDA requested but not available.*ORT_EXECUTION_PROVIDER"
    ):
        choose("cuda", [CPU])


@pytest.mark.parametrize(
    ("told", "provider", "expected"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", CUDA, "CUDA out of memory: CUDA failure 2"),
        (
            "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
            CUDA,
            "CUDA out",
        ),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", CUDA, "CUDA out of memory"),
        ("std::bad_alloc", CPU, "out of memory: std::bad_alloc"),
        ("Non-zero status code returned while running Gather node", CUDA, None),
    ],
)
def test_a_failure_for_lack_of_memory_says_what_to_set(
    told: str, provider: str, expected: str | None
) -> None:
    message = out_of_memory(told, provider)
    if expected is None:
        assert message is None
    else:
        assert message is not None
        assert message.startswith(expected)
        assert "MAX_EMBEDDING_BATCH_SIZE" in message


def _backend(folder: Path, provider: str = "cpu") -> OnnxBackend:
    graph = Prepared(folder / "onnx/model.onnx", "fp32", plain=True, note=None, key="made")
    kind = CudaBackend if provider == "cuda" else OnnxBackend
    return kind(graph, read_recipe(folder, "m"), Execution(provider, 1))


def _tokens(text: str) -> Tokens:
    return Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32))


@pytest.mark.parametrize("external", [False, True])
def test_vectors_are_pooled_and_normalised_whatever_shares_the_batch(tmp_path: Path, external: bool) -> None:
    backend = _backend(made.write_embedder(tmp_path, external=external))
    backend.load()
    assert (backend.provider, backend.warm_up()) == ("cpu", made.WIDTH)
    texts = ["red cat", "blue dog runs quickly", "", "bird"]
    rows = backend.run([_tokens(text) for text in texts])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [made.embedding(text) for text in texts], atol=1e-6)
    np.testing.assert_allclose(backend.run([_tokens("bird")])[0], rows[3], atol=1e-6)


def test_a_rerankers_rows_are_its_logits(tmp_path: Path) -> None:
    backend = _backend(made.write_reranker(tmp_path))
    backend.load()
    query, document = [made.CLS, *made.ids("red cat"), made.SEP], [*made.ids("dog runs"), made.SEP]
    types = np.array([0] * len(query) + [1] * len(document), dtype=np.uint8)
    rows = backend.run([Tokens(np.array(query + document, dtype=np.int32), types)])
    np.testing.assert_allclose(rows, [[made.logit("dog runs")]], rtol=1e-5)


def test_a_graph_that_does_not_load_is_told(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path)
    (folder / "onnx/model.onnx").write_bytes(b"nonsense")
    with pytest.raises(CorruptModelError, match=r"cannot load model\.onnx"):
        _backend(folder).load()


@pytest.mark.parametrize(
    ("provider", "event", "level", "fallback"),
    [
        ("cuda", "CUDA requested but not available, falling back to CPU", "warning", True),
        ("auto", None, None, False),
        ("cpu", None, None, False),
    ],
)
def test_only_a_cuda_that_was_asked_for_is_missed(
    tmp_path: Path, provider: str, event: str | None, level: str | None, fallback: bool
) -> None:
    backend = _backend(made.write_embedder(tmp_path), provider)
    with structlog.testing.capture_logs() as lines:
        backend.load()
    assert backend.provider == "cpu"
    assert (backend.fallback is not None) is fallback
    assert [(line["event"], line["log_level"]) for line in lines] == ([(event, level)] if event else [])
    assert all("CUDA" in line["reason"] for line in lines)
    np.testing.assert_allclose(backend.run([_tokens("bird")]), [made.embedding("bird")], atol=1e-6)


def test_running_out_of_memory_says_what_to_set(tmp_path: Path) -> None:
    backend = _backend(made.write_huge(tmp_path))
    backend.load()
    with pytest.raises(OutOfMemoryError, match=r"out of memory: .*MAX_EMBEDDING_BATCH_SIZE") as caught:
        backend.run([_tokens("bird")])
    assert not caught.value.permanent


def test_what_is_closed_gives_its_memory_back(tmp_path: Path) -> None:
    backend = _backend(made.write_slow_to_run(tmp_path, products=40, width=1024))
    backend.load()
    backend.warm_up()
    before = resident_bytes()
    backend.close()
    assert before - resident_bytes() > 3 << 20
