"""What is made of safetensors gives what PyTorch gives with them (`tests/golden/small.py`)."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from embedding_runtime.engine.backend import Execution, Float32, Tokens, padded
from embedding_runtime.engine.fusion import fused_nodes
from embedding_runtime.engine.onnx_backend import OnnxBackend, open_session
from embedding_runtime.engine.probes import fault
from embedding_runtime.errors import (
    CacheUnwritableError,
    CorruptModelError,
    DiskFullError,
    UnsupportedModelError,
)
from embedding_runtime.model.architectures import architecture
from embedding_runtime.model.conversion import convert
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.recipe import read_task
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service import preparation
from embedding_runtime.service.preparation import instead, prepare
from embedding_runtime.service.tokenization import Tokenization
from tests.golden.texts import QUERIES, TEXTS
from tests.unit.runtime import made

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SMALL = GOLDEN / "small"
EMBEDDERS = ["BertModel", "shards", "prompt", "RobertaModel", "XLMRobertaModel", "CamembertModel"]
EMBEDDERS += ["DistilBertModel", "MPNetModel"]
FAMILIES = ["Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert", "MPNet"]


def _source(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, "m", None), None)


def _rows(graph: Prepared, source: ModelSource, texts: Sequence[Tokens]) -> Float32:
    backend = OnnxBackend(graph, source.recipe, Execution("cpu", 1))
    backend.load()
    return backend.run(texts)


def _both(source: ModelSource, texts: Sequence[Tokens], folder: Path) -> list[Float32]:
    """What the converted graph gives, and the prepared one that is made of it."""
    own = Prepared.as_it_is(source)
    own = replace(own, path=convert(source.graph_path, "m", folder / "own"))
    rewrite(own.path, source.recipe, folder, repository=source.folder)
    ready = Prepared(folder / GRAPH, "fp32", plain=False, note=None, key="")
    return [_rows(own, source, texts), _rows(ready, source, texts)]


def _alike(rows: Float32, golden: NDArray[np.float32]) -> None:
    assert rows.shape == golden.shape
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(golden, axis=1)
    assert ((rows * golden).sum(axis=1) / lengths).min() >= 0.99999
    # Vectors that are not normalised are compared at the length that they have.
    assert np.abs(rows - golden).max() <= 1e-5 * max(1.0, float(np.abs(golden).max()))


@pytest.mark.parametrize("name", EMBEDDERS)
def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, name: str) -> None:
    source = _source(SMALL / name)
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS)
    golden = np.load(SMALL / name / "expected.npz")["vectors"]
    for rows in _both(source, texts, tmp_path):
        _alike(rows, golden)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_cross_encoder(tmp_path: Path, family: str) -> None:
    folder = SMALL / f"{family}ForSequenceClassification"
    source = _source(folder)
    assert source.recipe.task == "rerank"
    tokenization = Tokenization(source.tokenizer_path, source.recipe)
    texts = [pair for query, documents in QUERIES for pair in tokenization.pairs(query, documents)]
    golden = np.load(folder / "expected.npz")["scores"]
    for rows in _both(source, texts, tmp_path):
        np.testing.assert_allclose(rows[:, 0], golden, atol=1e-4)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "MPNet"])
def test_logits_of_words_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    folder = SMALL / f"{family}ForMaskedLM"
    source = _source(folder)
    tokens = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS[:3])
    batch = padded(tokens, source.recipe)
    session = open_session(convert(source.graph_path, "m", tmp_path), ort.SessionOptions())
    feed = {each.name: getattr(batch, each.name).astype(np.int64) for each in session.get_inputs()}
    found = session.run(["logits"], feed)[0][batch.attention_mask == 1]
    np.testing.assert_allclose(found, np.load(folder / "expected.npz")["logits"], atol=1e-4)


@pytest.mark.parametrize("name", ["BertModel", "RobertaModel", "XLMRobertaModel", "DistilBertModel"])
def test_in_16_bits_each_attention_is_one_node(tmp_path: Path, name: str) -> None:
    source = _source(SMALL / name)
    own = convert(source.graph_path, "m", tmp_path / "own")
    rewrite(own, source.recipe, tmp_path, to="fp16", repository=source.folder)
    layers = 2
    kinds = [node.op_type for node in onnx.load(tmp_path / GRAPH, load_external_data=False).graph.node]
    assert (kinds.count("MultiHeadAttention"), kinds.count("Softmax")) == (layers, 0)
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS)
    rows = _rows(Prepared(tmp_path / GRAPH, "fp16", plain=False, note=None, key=""), source, texts)
    golden = np.load(SMALL / name / "expected.npz")["vectors"]
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(golden, axis=1)
    assert ((rows * golden).sum(axis=1) / lengths).min() > 0.9999


def test_weights_in_a_folder_of_their_own_are_found(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    (folder / "0_Transformer").mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "sentence_bert_config.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    source = _source(folder)
    assert source.graph == "0_Transformer/model.safetensors"
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS[:8])
    for rows in _both(source, texts, tmp_path):
        _alike(rows, np.load(SMALL / "BertModel/expected.npz")["vectors"][:8])


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_weights_of_16_bits_are_computed_in_32(tmp_path: Path, kind: str) -> None:
    folder = _copy(tmp_path / "model", "RobertaModel")
    weights = _tensors(folder)
    made.write_safetensors(folder / "model.safetensors", weights, kind=kind)
    source = _source(folder)
    assert source.precision == "fp32"
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS[:8])
    golden = np.load(SMALL / "RobertaModel/expected.npz")["vectors"][:8]
    for rows in _both(source, texts, tmp_path):
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(golden, axis=1)
        assert ((rows * golden).sum(axis=1) / lengths).min() > 0.999


def test_old_names_of_normalisations_are_known(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    renamed = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): each
        for name, each in _tensors(folder).items()
    }
    made.write_safetensors(folder / "model.safetensors", renamed)
    source = _source(folder)
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS[:8])
    for rows in _both(source, texts, tmp_path):
        _alike(rows, np.load(SMALL / "BertModel/expected.npz")["vectors"][:8])


def test_the_real_model_gives_its_vectors_and_is_fused(real_models: Path, tmp_path: Path) -> None:
    repository = real_models / "sentence-transformers/all-MiniLM-L6-v2"
    folder = tmp_path / "model"
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("onnx"))
    source = _source(folder)
    prepared = prepare(source, Target.of(source), [tmp_path / "prepared"])
    assert (prepared.plain, prepared.note) == (False, None)
    texts = Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS)
    _alike(_rows(prepared, source, texts), np.load(GOLDEN / "all-MiniLM-L6-v2.npy"))
    layers = 6
    fused = fused_nodes(prepared.path)
    assert fused["LayerNormalization"] == 2 * layers + 1
    assert fused["BiasGelu"] == fused["FusedMatMul"] == layers
    assert prepare(source, Target.of(source), [tmp_path / "prepared"]) == prepared
    assert sorted(each.name for each in prepared.path.parent.iterdir()) == [
        "graph.onnx",
        "prepared.json",
        "probes.npz",
        "weights",
    ]


def _copy(folder: Path, name: str) -> Path:
    shutil.copytree(SMALL / name, folder)
    return folder


def _tensors(folder: Path) -> dict[str, NDArray[Any]]:
    from embedding_runtime.model.tensors import Tensors

    return dict(Tensors(folder / "model.safetensors"))


def _configured(folder: Path, **said: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    return folder


def test_a_graph_that_cannot_be_prepared_leaves_the_converted_one(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    made.write_safetensors(folder / "4_Dense/model.safetensors", {"linear.weight": np.ones((3, 19))})
    source = _source(folder)
    prepared = prepare(source, Target.of(source), [tmp_path / "prepared"])
    assert prepared.plain
    assert prepared.note
    assert prepared.path.is_file()
    assert prepared.path.is_relative_to(tmp_path / "prepared")
    assert prepare(source, Target.of(source), [tmp_path / "prepared"]) == prepared


def test_what_leaves_its_prompt_out_is_prepared_and_compared_with_its_probes(tmp_path: Path) -> None:
    source = _source(SMALL / "prompt")
    prepared = prepare(source, Target.of(source), [tmp_path])
    assert (prepared.plain, prepared.note) == (False, None)
    backend = OnnxBackend(prepared, source.recipe, Execution("cpu", 1))
    backend.load()
    assert fault(backend, prepared, "embed") is None


def test_the_room_that_it_takes_is_looked_for_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    weights = _tensors(folder)
    made.write_safetensors(folder / "model.safetensors", weights, kind="F16")
    asked = []

    def full(_: Path, wanted: int, what: str) -> None:
        asked.append(wanted)
        raise DiskFullError(f"no room for {what}")

    monkeypatch.setattr(preparation, "check_volume", full)
    source = _source(folder)
    with pytest.raises(DiskFullError, match=r"m has no ONNX file.*no room for the prepared graph of m"):
        prepare(source, Target.of(source), [tmp_path / "prepared"])
    assert asked == [2 * 4 * sum(each.size for each in weights.values())]


def test_where_another_precision_does_not_run_the_exact_one_does(tmp_path: Path) -> None:
    source = _source(_copy(tmp_path / "model", "DistilBertModel"))
    found = instead(source, Target("int8"), "it does not run", [tmp_path / "prepared"])
    assert found is not None
    assert (found.precision, found.note, found.plain) == ("fp32", "it does not run", False)
    assert instead(source, Target("fp32"), "nor does this", [tmp_path / "prepared"]) is None


def test_without_a_folder_to_keep_it_in_nothing_is_converted(tmp_path: Path) -> None:
    source = _source(SMALL / "BertModel")
    with pytest.raises(UnsupportedModelError, match="PREPARED_CACHE_DIR"):
        prepare(source, Target.of(source), [])
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnwritableError, match=r"m has no ONNX file.*model\.safetensors"):
        prepare(source, Target.of(source), [tmp_path / "file/prepared"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"architectures": ["ElectraModel"]}, "architecture ElectraModel.*optimum-cli"),
        ({"architectures": ["BertLMHeadModel"]}, "architecture BertLMHeadModel"),
        ({"architectures": None}, "config.json does not name"),
        ({"hidden_act": "mish"}, "BertModel with the activation mish"),
        ({"position_embedding_type": "relative_key"}, "BertModel with relative positions"),
        ({"is_decoder": True}, "BertModel with a decoder"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path: Path, said: dict[str, object], message: str) -> None:
    folder = _configured(_copy(tmp_path / "model", "BertModel"), **said)
    with pytest.raises(UnsupportedModelError, match=message):
        _source(folder)
    assert read_task(folder) is None


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    weights = _tensors(folder)
    del weights["encoder.layer.1.output.dense.weight"]
    made.write_safetensors(folder / "model.safetensors", weights)
    source = _source(folder)
    with pytest.raises(UnsupportedModelError, match=r"encoder\.layer\.1\.output\.dense\.weight.*BertModel"):
        prepare(source, Target.of(source), [tmp_path / "prepared"])


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "model", "shards")
    (folder / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(CorruptModelError, match="model-00002-of-00004"):
        _source(folder)


@pytest.mark.parametrize("said", ["{}", "[]", "x", '{"weight_map": {"a": "../b.safetensors"}}'])
def test_an_index_that_is_none_is_refused(tmp_path: Path, said: str) -> None:
    folder = _copy(tmp_path / "model", "shards")
    (folder / "model.safetensors.index.json").write_text(said)
    with pytest.raises(CorruptModelError, match="index"):
        _source(folder)


CHANGES: list[Callable[[Path], object]] = [
    lambda folder: _configured(folder, layer_norm_eps=1e-5),
    lambda folder: _configured(folder, hidden_act="relu"),
    lambda folder: _configured(folder, num_attention_heads=6),
    lambda folder: made.write_safetensors(
        folder / "model.safetensors", {name: each + 1 for name, each in _tensors(folder).items()}
    ),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_is_of_all_that_shapes_the_graph(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = _copy(tmp_path / "model", "BertModel")
    before = _source(folder).fingerprint
    assert before == _source(_configured(folder, use_cache=False, dtype="float16")).fingerprint
    change(folder)
    assert _source(folder).fingerprint != before


def test_defaults_are_those_of_transformers() -> None:
    told = architecture({"architectures": ["XLMRobertaForSequenceClassification"]}, "m")
    assert (told.family, told.kind, told.layers, told.heads, told.pad_id) == (
        "roberta",
        "classifier",
        12,
        12,
        1,
    )
    assert architecture({"architectures": ["DistilBertModel"]}, "m").layers == 6


def test_what_can_be_converted_is_listed_with_its_task(tmp_path: Path) -> None:
    assert read_task(SMALL / "MPNetModel") == read_task(SMALL / "shards") == "embed"
    assert read_task(SMALL / "BertForSequenceClassification") == "rerank"
    folder = _copy(tmp_path / "model", "BertModel")
    (folder / "model.safetensors").unlink()
    assert read_task(folder) is None
