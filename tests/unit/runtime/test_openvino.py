"""The OpenVINO backend: the same answers as ONNX Runtime's, in the precision that was asked for, or none."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest

from embedding_runtime.engine import choice
from embedding_runtime.engine.backend import Backend, Execution, Float32, Tokens
from embedding_runtime.engine.choice import candidates, make_backend
from embedding_runtime.engine.openvino_backend import OpenVinoBackend, precisions
from embedding_runtime.engine.probes import fault
from embedding_runtime.errors import (
    InternalError,
    PrecisionUnavailableError,
    ProviderUnavailableError,
    UnsupportedModelError,
)
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from tests.unit.runtime import made

OPENVINO = Execution("openvino", 2, "fp32", node="worker-7")


def _source(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, "m", None), None)


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    return _source(made.write_embedder(tmp_path / "model"))


@pytest.fixture
def prepared(tmp_path: Path, source: ModelSource) -> Prepared:
    return prepare(source, Target.of(source), [tmp_path / "prepared"])


def _tokens(text: str) -> Tokens:
    return Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32))


def _loaded(graph: Prepared, source: ModelSource, execution: Execution = OPENVINO) -> Backend:
    backend = make_backend(graph, source.recipe, execution)
    backend.load()
    return backend


@pytest.mark.parametrize("plain", [True, False])
def test_vectors_are_pooled_and_normalised_whatever_shares_the_batch(
    source: ModelSource, prepared: Prepared, plain: bool
) -> None:
    backend = _loaded(Prepared.as_it_is(source) if plain else prepared, source)
    assert (backend.provider, backend.precision, backend.fallback) == ("openvino", "fp32", None)
    assert backend.warm_up() == made.WIDTH
    texts = ["red cat", "blue dog runs quickly", "", "bird"]
    rows = backend.run([_tokens(text) for text in texts])
    np.testing.assert_allclose(rows, [made.embedding(text) for text in texts], atol=1e-6)
    np.testing.assert_allclose(backend.run([_tokens("bird")])[0], rows[3], atol=1e-6)
    assert rows.dtype == np.float32
    assert rows.flags.owndata


def test_batches_are_padded_to_few_lengths_of_which_no_vector_tells(
    source: ModelSource, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    infer = openvino.InferRequest.infer

    def remembering(request: object, feed: dict[str, Float32], **options: bool) -> object:
        shapes.append(feed["input_ids"].shape)
        return infer(request, feed, **options)

    backend = _loaded(prepared, source)
    monkeypatch.setattr(openvino.InferRequest, "infer", remembering)
    texts = ["bird", "red cat", "red cat runs", "blue dog runs quickly bird"]
    rows = [backend.run([_tokens(text)])[0] for text in texts]
    assert shapes == [(1, 4), (1, 4), (1, 8), (1, 8)]
    np.testing.assert_allclose(rows, [made.embedding(text) for text in texts], atol=1e-6)


def test_a_rerankers_rows_are_its_logits(tmp_path: Path) -> None:
    source = _source(made.write_reranker(tmp_path / "model"))
    backend = _loaded(prepare(source, Target.of(source), [tmp_path / "prepared"]), source)
    query, document = [made.CLS, *made.ids("red cat"), made.SEP], [*made.ids("dog runs"), made.SEP]
    types = np.array([0] * len(query) + [1] * len(document), dtype=np.uint8)
    rows = backend.run([Tokens(np.array(query + document, dtype=np.int32), types)])
    np.testing.assert_allclose(rows, [[made.logit("dog runs")]], rtol=1e-5)


def test_fp32_means_fp32(source: ModelSource, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[openvino.CompiledModel] = []
    compile_model = openvino.Core.compile_model

    def remembering(*arguments: object) -> openvino.CompiledModel:
        compiled.append(compile_model(*arguments))
        return compiled[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", remembering)
    for precision in sorted(precisions()):
        OpenVinoBackend(prepared, source.recipe, OPENVINO, precision).load()
    hints = [each.get_property("INFERENCE_PRECISION_HINT") for each in compiled]
    assert hints == [
        {"bf16": openvino.Type.bf16, "fp32": openvino.Type.f32}[name] for name in sorted(precisions())
    ]
    assert [each.get_property("INFERENCE_NUM_THREADS") for each in compiled] == [2] * len(compiled)


def test_nothing_that_reports_usage_is_imported() -> None:
    program = (
        "import embedding_runtime.engine.openvino_backend, sys; print(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_what_does_not_load_is_told(source: ModelSource) -> None:
    (source.folder / "broken.onnx").write_bytes(b"nonsense")
    broken = replace(Prepared.as_it_is(source), path=source.folder / "broken.onnx")
    with pytest.raises(UnsupportedModelError, match=r"OpenVINO cannot load broken\.onnx: ."):
        _loaded(broken, source)


def test_what_is_closed_runs_no_more(source: ModelSource, prepared: Prepared) -> None:
    backend = _loaded(prepared, source)
    backend.close()
    with pytest.raises(InternalError, match="not loaded"):
        backend.run([_tokens("bird")])


def test_rows_that_are_not_the_models_own_are_found_out(source: ModelSource, prepared: Prepared) -> None:
    backend = _loaded(prepared, source)
    assert fault(backend, prepared, "embed") is None

    class Turned:
        precision = "fp32"

        def run(self, texts: Sequence[Tokens]) -> Float32:
            return np.roll(backend.run(texts), 1, axis=1)

    turned: Backend = Turned()  # type: ignore[assignment]
    assert "vectors lie" in (fault(turned, prepared, "embed") or "")


@pytest.mark.parametrize(
    ("provider", "precision", "expected"),
    [
        ("auto", "fp32", ["cpu", "openvino"]),
        ("cpu", "fp32", ["cpu"]),
        ("openvino", "fp32", ["openvino"]),
        ("auto", "bf16", ["openvino"]),
        ("auto", "int8", ["cpu"]),
    ],
)
def test_the_backends_follow_what_is_asked(
    source: ModelSource, prepared: Prepared, provider: str, precision: str, expected: list[str]
) -> None:
    if precision not in {*precisions(), "int8"}:
        pytest.skip("this CPU has neither AMX nor AVX512-BF16")
    found = candidates(prepared, source.recipe, Execution(provider, 1, precision))
    assert [each.provider for each in found] == expected


@pytest.mark.parametrize(
    ("provider", "precision", "error", "message"),
    [
        ("openvino", "fp32", ProviderUnavailableError, "worker-7 has no OpenVINO"),
        ("auto", "bf16", PrecisionUnavailableError, "worker-7 cannot compute in bf16.*package openvino"),
    ],
)
def test_without_the_package_only_what_needs_it_is_refused(
    source: ModelSource,
    prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    precision: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert [each.provider for each in candidates(prepared, source.recipe, Execution("auto", 1))] == ["cpu"]
    with pytest.raises(error, match=message):
        candidates(prepared, source.recipe, Execution(provider, 1, precision, "worker-7"))


def test_a_cpu_without_bf16_is_named(
    source: ModelSource, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_runtime.engine.openvino_backend.precisions", lambda: frozenset({"fp32"}))
    with pytest.raises(PrecisionUnavailableError, match="worker-7 cannot compute in bf16: its CPU"):
        candidates(prepared, source.recipe, replace(OPENVINO, precision="bf16"))
