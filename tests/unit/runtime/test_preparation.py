"""Prepared graphs: made once, by a process of their own; checked; kept whole; never a reason not to serve."""

import fcntl
import json
import resource
import shutil
import stat
import subprocess
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.fusion import expected, expected_attention, fused_nodes, lost, unfused
from embedding_runtime.engine.likeness import noise_of, unlike
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.errors import DiskFullError
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.shelf import WEIGHTS, find, key
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service import preparation
from embedding_runtime.service.preparation import prepare
from tests.unit.runtime import made

FP32 = Target("fp32")
_BERT: dict[str, object] = {
    "num_hidden_layers": 2,
    "hidden_size": 4,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
}


def _source(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, "m", None), None)


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    return _source(made.write_embedder(tmp_path / "model"))


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)


def _vector(graph: Prepared, source: ModelSource, text: str) -> list[float]:
    backend = OnnxBackend(graph, source.recipe, Execution("cpu", 1))
    backend.load()
    ids = np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32)
    return list(backend.run([Tokens(ids)])[0])


def test_a_model_is_prepared_once_and_found_from_then_on(tmp_path: Path, source: ModelSource) -> None:
    first = prepare(source, FP32, [tmp_path / "prepared"])
    assert (first.plain, first.note, first.precision) == (False, None, "fp32")
    assert _vector(first, source, "red cat") == pytest.approx(made.embedding("red cat"), abs=1e-6)
    written = first.path.stat()
    assert prepare(source, FP32, [tmp_path / "prepared"]) == first
    assert first.path.stat() == written


def test_what_is_prepared_can_be_read_by_whoever_mounts_the_volume(real_models: Path, tmp_path: Path) -> None:
    source = _source(real_models / "sentence-transformers/all-MiniLM-L6-v2")
    folder = prepare(source, FP32, [tmp_path / "prepared"]).path.parent
    assert {path.name for path in folder.iterdir()} >= {"graph.onnx", "weights"}
    assert [path.name for path in folder.iterdir() if not path.stat().st_mode & stat.S_IROTH] == []


@pytest.mark.usefixtures("no_process")
def test_what_is_found_starts_no_process(tmp_path: Path, source: ModelSource) -> None:
    with pytest.raises(AssertionError, match="a process"):
        prepare(source, FP32, [tmp_path])


@pytest.mark.usefixtures("no_process")
def test_without_a_folder_the_models_own_graph_is_what_is_wanted(source: ModelSource) -> None:
    assert prepare(source, FP32, []) == Prepared.as_it_is(source)


def test_a_prepared_graph_beside_the_cache_is_only_read(tmp_path: Path, source: ModelSource) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    there = prepare(source, FP32, [shared])
    assert prepare(source, FP32, [own, shared]) == there
    assert not own.exists()


def test_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    source = _source(made.write_slow_to_run(tmp_path / "model", products=1, width=64))
    shared, own = tmp_path / "shared", tmp_path / "own"
    there = prepare(source, FP32, [shared])
    weights = there.path.with_name(WEIGHTS)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    beside = prepare(source, FP32, [own, shared])
    assert beside.path.is_relative_to(own)
    again = prepare(source, FP32, [shared])
    assert again == there
    assert weights.read_bytes() == whole


def test_one_that_fails_its_check_is_not_run_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(made.write_unsteady(tmp_path / "model"))
    graph = prepare(source, FP32, [tmp_path / "prepared"])
    assert graph.plain
    assert graph.path == source.graph_path
    assert graph.note is not None
    assert "vectors lie" in graph.note
    home = tmp_path / "prepared" / key(source, FP32)
    assert [path.name for path in home.iterdir()] == ["prepared.json"]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("made again"))
    assert prepare(source, FP32, [tmp_path / "prepared"]).note == graph.note


def test_where_nothing_can_be_written_the_models_own_graph_runs(tmp_path: Path, source: ModelSource) -> None:
    (tmp_path / "file").touch()
    graph = prepare(source, FP32, [tmp_path / "file" / "prepared"])
    assert graph.plain
    assert graph.note is not None
    assert "cannot write" in graph.note


def test_on_a_full_disk_the_models_own_graph_runs(
    tmp_path: Path, source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("no room")

    monkeypatch.setattr(preparation, "check_volume", full)
    assert prepare(source, FP32, [tmp_path]).note == "no room"


def test_a_disk_that_becomes_full_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of the process's files stands for the disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    source = _source(made.write_slow_to_run(tmp_path / "model", products=1, width=64))
    monkeypatch.setattr(subprocess, "run", partial(subprocess.run, preexec_fn=limit))
    graph = prepare(source, FP32, [tmp_path / "prepared"])
    assert graph.plain
    assert graph.note is not None
    assert "File too large" in graph.note
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def test_a_process_that_hangs_is_given_up(
    tmp_path: Path, source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_MOST_SECONDS", 0.01)
    assert "within" in str(prepare(source, FP32, [tmp_path]).note)


def test_what_a_killed_process_left_is_removed(tmp_path: Path, source: ModelSource) -> None:
    (tmp_path / ".making-x").mkdir()
    (tmp_path / ".making-x" / WEIGHTS).write_bytes(b"half")
    prepare(source, FP32, [tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "model") == [
        ".lock",
        key(source, FP32),
    ]


def test_two_servers_prepare_one_after_the_other(tmp_path: Path, source: ModelSource) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    graphs: list[Prepared] = []
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = [
            threading.Thread(target=lambda: graphs.append(prepare(source, FP32, [folder]))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert not graphs
    for thread in threads:
        thread.join(60)
    assert graphs[0] == graphs[1]
    assert not graphs[0].plain


def test_the_key_tells_apart_what_shapes_the_graph(tmp_path: Path, source: ModelSource) -> None:
    other = _source(made.write_reranker(tmp_path / "other"))
    assert len({key(source, FP32), key(other, FP32), key(source, Target("fp16"))}) == 3
    assert find([tmp_path], key(source, FP32)) is None


def test_a_manifest_that_is_none_is_no_prepared_graph(tmp_path: Path, source: ModelSource) -> None:
    home = tmp_path / key(source, FP32)
    home.mkdir()
    for content in ("", "[]", json.dumps({"files": 1}), json.dumps({"files": {"away": "0"}})):
        (home / "prepared.json").write_text(content)
        assert find([tmp_path], home.name) is None
    shutil.rmtree(home)


def test_a_prepared_graph_keeps_every_fusion(real_models: Path, tmp_path: Path) -> None:
    source = _source(real_models / "sentence-transformers/all-MiniLM-L6-v2")
    own = fused_nodes(source.graph_path)
    assert own == {"MultiHeadAttention": 6, "LayerNormalization": 13, "BiasGelu": 6}
    prepared = prepare(source, FP32, [tmp_path])
    assert fused_nodes(prepared.path) == own
    assert prepared.unfused is None
    assert expected(source.folder / "config.json") == {"LayerNormalization": 13, "GELU": 6}
    assert expected_attention(source.folder / "config.json") == {"MultiHeadAttention": 6}


def test_what_the_architecture_allows_and_the_graph_lacks_is_told(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "model")  # a table: nothing in it can be fused
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **_BERT}))
    for precision, told in (
        ("fp32", "2 of 2 GELU, 5 of 5 LayerNormalization"),
        ("fp16", "2 of 2 MultiHeadAttention"),
    ):
        graph = prepare(_source(folder), Target(precision), [tmp_path / "prepared"])
        assert (graph.plain, graph.unfused) == (False, told)
        assert prepare(_source(folder), Target(precision), [tmp_path / "prepared"]) == graph


def test_of_an_unknown_architecture_nothing_is_expected(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    assert not expected(config)
    assert not expected_attention(config)
    strange: list[object] = [{**_BERT, "model_type": "new"}, {"model_type": "bert"}, []]
    for said in strange:
        config.write_text(json.dumps(said))
        assert not expected(config)


def test_another_activation_than_gelu_is_not_expected(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**_BERT, "model_type": "bert", "hidden_act": "relu"}))
    assert expected(config) == {"LayerNormalization": 5}


def test_any_kind_of_fused_node_counts() -> None:
    wanted = Counter(LayerNormalization=5, GELU=2)
    fused = Counter(EmbedLayerNormalization=1, LayerNormalization=4, BiasGelu=1, FastGelu=1)
    assert unfused(wanted, fused) is None
    assert unfused(wanted, Counter(LayerNormalization=4, Gelu=2)) == "1 of 5 LayerNormalization"


def test_a_fusion_that_is_lost_is_named() -> None:
    assert lost(Counter(BiasGelu=6, Attention=2), Counter(BiasGelu=4)) == "2 Attention, 2 BiasGelu"
    assert lost(Counter(BiasGelu=6), Counter(BiasGelu=7)) == ""


@pytest.mark.parametrize(
    ("precision", "angle", "passes"),
    [
        ("fp32", 0.004, True),
        ("fp32", 0.005, False),
        ("fp16", 0.04, True),
        ("fp16", 0.05, False),
        ("bf16", 0.04, True),
        ("int8", 0.19, True),
        ("int8", 0.21, False),
    ],
)
def test_vectors_may_turn_by_as_much_as_their_precision_allows(
    precision: str, angle: float, passes: bool
) -> None:
    wanted = np.array([[3, 0], [0, 5]], dtype=np.float32)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=np.float32)
    assert (unlike(wanted @ turn, wanted, "embed", precision) is None) is passes


@pytest.mark.parametrize(("noise", "passes"), [(0.0, False), (0.02, True)])
def test_no_ranking_may_flip_beyond_the_precisions_bound_and_the_noise(noise: float, passes: bool) -> None:
    def row(angle: float) -> list[float]:
        return [float(np.cos(angle)), float(np.sin(angle))]

    # The second text is nearer to the first than the third is, by 0.03 of cosine; then the third is.
    wanted = np.array([row(0.0), row(0.80), row(-0.842)], dtype=np.float32)
    rows = np.array([row(0.0), row(0.83), row(-0.812)], dtype=np.float32)
    assert (unlike(rows, wanted, "embed", "int8", noise) is None) is passes
    assert "ranks texts otherwise" in str(unlike(rows, wanted, "embed", "int8")) or passes


def test_noise_is_what_scores_move_by_with_their_company() -> None:
    alone = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert noise_of(alone, alone, "embed") == 0
    moved = np.array([[1.0, 0.01], [0.0, 1.0]], dtype=np.float32)
    assert noise_of(moved, alone, "embed") == pytest.approx(0.01, rel=0.01)
    assert noise_of(alone[:, :1], moved[:, 1:], "rerank") == pytest.approx(0.231, abs=1e-3)


def test_vectors_of_another_length_are_unlike() -> None:
    wanted = np.ones((1, 4), dtype=np.float32)
    assert unlike(wanted * np.float32(0.5), wanted, "embed", "fp32") is not None
    assert unlike(wanted[:, :2], wanted, "embed", "fp32") is not None


def test_scores_may_move_by_as_much_as_their_precision_allows() -> None:
    wanted = np.array([[-9.0], [0.0], [2.0]], dtype=np.float32)
    assert unlike(wanted + np.float32(1e-5), wanted, "rerank", "fp32") is None
    assert "scores lie" in str(unlike(wanted + np.float32(1e-3), wanted, "rerank", "fp32"))
