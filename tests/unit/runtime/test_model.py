"""Recipe, graph facts, fingerprint: read from a repository's own files."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from embedding_runtime.errors import (
    CorruptModelError,
    FingerprintMismatchError,
    TaskMismatchError,
    UnsupportedModelError,
)
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.recipe import Overrides, Recipe, read_recipe, read_task
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find, find_folder
from embedding_runtime.registry.reference import ModelRef
from tests.unit.runtime import made

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def _source(tmp_path: Path, folder: Path, **options: Any) -> ModelSource:
    made.cache(tmp_path, "org/name", COMMIT, folder)
    return open_source(find(tmp_path / "hub", ModelRef("org/name"), None), **{"task": None, **options})


def test_an_embedding_repository_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(made.write_embedder(tmp_path, max_tokens=256), "m")
    assert recipe == Recipe(
        task="embed", tokenizer="tokenizer.json", max_tokens=256, pad_id=0, pooling=("mean",), normalize=True
    )
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("transformer", ["Transformer", "MLMTransformer"])
def test_a_sparse_encoder_is_told_by_its_modules(tmp_path: Path, transformer: str) -> None:
    recipe = read_recipe(made.write_sparse(tmp_path, transformer=transformer), "m")
    assert (recipe.kind, recipe.pooling, recipe.normalize, recipe.assumed) == (
        "sparse",
        ("splade",),
        False,
        False,
    )
    other = {"pooling_strategy": "sum", "activation_function": "relu"}
    (tmp_path / "1_SpladePooling/config.json").write_text(json.dumps(other))
    with pytest.raises(UnsupportedModelError, match="SpladePooling sum with relu; only max with relu"):
        read_recipe(tmp_path, "m")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (Overrides(pooling=("splade", "mean")), "goes with no other one"),
        (Overrides(pooling=("splade",), normalize=True), "nor with normalize: true"),
    ],
)
def test_what_makes_no_sparse_model_is_refused(tmp_path: Path, overrides: Overrides, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        read_recipe(made.write_sparse(tmp_path, modules=False), "m", overrides)


def test_without_modules_json_the_default_of_sentence_transformers_holds(tmp_path: Path) -> None:
    recipe = read_recipe(made.write_embedder(tmp_path, modules=False), "m")
    assert (recipe.pooling, recipe.normalize, recipe.assumed) == (("mean",), False, True)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "max"}, ("max",)),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, ("mean_sqrt_len",)),
        ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}, ("mean",)),
    ],
)
def test_pooling_is_the_one_that_is_configured(
    tmp_path: Path, config: dict[str, Any], expected: tuple[str, ...]
) -> None:
    _change(made.write_embedder(tmp_path) / "1_Pooling/config.json", **config)
    assert read_recipe(tmp_path, "m").pooling == expected


@pytest.mark.parametrize(
    ("bert", "tokenizer", "config", "expected"),
    [
        ({"max_seq_length": 256}, {"model_max_length": 512}, {"max_position_embeddings": 512}, 256),
        ({"max_seq_length": None}, {"model_max_length": 384}, {"max_position_embeddings": 512}, 384),
        ({"max_seq_length": None}, {"model_max_length": 10**30}, {"max_position_embeddings": 128}, 128),
        ({"max_seq_length": 1024}, {}, {"max_position_embeddings": 512}, 512),
        (
            {"max_seq_length": 514},
            {},
            {"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1},
            512,
        ),
        ({"max_seq_length": None}, {}, {}, 512),
    ],
)
def test_the_limit_is_the_stated_one_within_the_models_positions(
    tmp_path: Path, bert: dict[str, Any], tokenizer: dict[str, Any], config: dict[str, Any], expected: int
) -> None:
    made.write_embedder(tmp_path)
    _change(tmp_path / "sentence_bert_config.json", **bert)
    _change(tmp_path / "tokenizer_config.json", **tokenizer)
    _change(tmp_path / "config.json", **config)
    assert read_recipe(tmp_path, "m").max_tokens == expected


def test_a_pooling_may_leave_the_prompt_out_which_is_another_space(tmp_path: Path) -> None:
    before = open_source(find_folder(made.write_embedder(tmp_path), "m", None), None)
    assert before.recipe.pools_prompt
    _change(tmp_path / "1_Pooling/config.json", include_prompt=False)
    after = open_source(find_folder(tmp_path, "m", None), None)
    assert not after.recipe.pools_prompt
    assert after.fingerprint != before.fingerprint
    assert Recipe.from_json(json.loads(json.dumps(after.recipe.to_json()))) == after.recipe


def test_the_limit_may_have_its_newer_names(tmp_path: Path) -> None:
    made.write_embedder(tmp_path)
    for name, limit in (("tokenizer_args", 9), ("processor_kwargs", 7)):
        _change(tmp_path / "sentence_bert_config.json", **{name: {"model_max_length": limit}})
        assert read_recipe(tmp_path, "m").max_tokens == limit


def test_the_first_configuration_that_sentence_transformers_looks_for_is_taken(tmp_path: Path) -> None:
    made.write_embedder(tmp_path)
    (tmp_path / "sentence_albert_config.json").write_text('{"max_seq_length": 5}')
    assert read_recipe(tmp_path, "m").max_tokens == 16
    (tmp_path / "sentence_bert_config.json").rename(tmp_path / "sentence_xlm-roberta_config.json")
    assert read_recipe(tmp_path, "m").max_tokens == 5
    (tmp_path / "sentence_albert_config.json").unlink()
    assert read_recipe(tmp_path, "m").max_tokens == 16


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, "lasttoken"),
        ({"architectures": ["Qwen3ForCausalLM"], "is_causal": False}, "mean"),
        ({"architectures": []}, "mean"),
    ],
)
def test_without_modules_json_a_language_models_last_token_is_taken(
    tmp_path: Path, config: dict[str, Any], pooling: str
) -> None:
    _change(made.write_embedder(tmp_path, modules=False) / "config.json", **config)
    assert read_recipe(tmp_path, "m").pooling == (pooling,)


def test_the_default_prompt_is_part_of_the_recipe(tmp_path: Path) -> None:
    made.write_embedder(tmp_path)
    prompts = {"query": "query: ", "passage": "passage: "}
    _change(tmp_path / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="passage")
    assert read_recipe(tmp_path, "m").prompt == "passage: "


def test_a_classifier_with_one_label_is_a_reranker(tmp_path: Path) -> None:
    recipe = read_recipe(made.write_reranker(tmp_path, max_tokens=24), "m")
    assert (recipe.task, recipe.max_tokens, recipe.pooling) == ("rerank", 24, ())


def test_a_classifier_with_more_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="classifier with 3 labels, not a reranker"):
        read_recipe(made.write_reranker(tmp_path, labels=3), "m")


def test_a_module_that_is_not_served_is_named(tmp_path: Path) -> None:
    modules = made.write_embedder(tmp_path) / "modules.json"
    listed = [
        *json.loads(modules.read_text()),
        {"type": "sentence_transformers.models.LSTM", "path": "3_LSTM"},
    ]
    modules.write_text(json.dumps(listed))
    with pytest.raises(UnsupportedModelError, match="LSTM"):
        read_recipe(tmp_path, "m")


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json"])
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    (made.write_embedder(tmp_path) / name).write_text("{")
    with pytest.raises(CorruptModelError, match="cannot be read"):
        read_recipe(tmp_path, "m")


@pytest.mark.parametrize("external", [False, True])
def test_a_graphs_facts_are_read_from_its_bytes(tmp_path: Path, external: bool) -> None:
    facts = read_facts(made.write_embedder(tmp_path, external=external) / "onnx/model.onnx")
    assert facts.precision == "fp32"
    assert facts.external == (("model.onnx_data",) if external else ())


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x05ab"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(CorruptModelError, match=r"model\.onnx cannot be read"):
        read_facts(path)


@pytest.mark.parametrize("location", ["../secrets", "/etc/passwd", "a/../../b"])
def test_a_graph_may_not_reach_outside_its_folder(tmp_path: Path, location: str) -> None:
    path = made.write_embedder(tmp_path, external=True) / "onnx/model.onnx"
    graph = onnx.load(path, load_external_data=False)
    entry = next(entry for entry in graph.graph.initializer[0].external_data if entry.key == "location")
    entry.value = location
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(CorruptModelError, match="outside its folder"):
        read_facts(path)


def test_a_source_knows_all_of_its_bytes(tmp_path: Path) -> None:
    source = _source(tmp_path, made.write_embedder(tmp_path / "r", external=True))
    assert len(source.fingerprint) == 64
    assert source.bytes == sum(path.stat().st_size for path in source.folder.rglob("*") if path.is_file())


def test_missing_external_data_is_told(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "r", external=True)
    (folder / "onnx/model.onnx_data").unlink()
    with pytest.raises(CorruptModelError, match=r"model\.onnx_data, which is not there"):
        _source(tmp_path, folder)


def test_the_fingerprint_follows_content_not_names(tmp_path: Path) -> None:
    first = _source(tmp_path / "1", made.write_embedder(tmp_path / "1/r"))
    moved = made.write_embedder(tmp_path / "2/r")
    (moved / "onnx/model.onnx").rename(moved / "model.onnx")
    assert _source(tmp_path / "2", moved).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 15}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("tokenizer.json", {"version": "1.1"}),
    ],
)
def test_the_fingerprint_changes_with_whatever_shapes_a_vector(
    tmp_path: Path, file: str, values: dict[str, Any]
) -> None:
    first = _source(tmp_path / "1", made.write_embedder(tmp_path / "1/r"))
    other = made.write_embedder(tmp_path / "2/r")
    _change(other / file, **values)
    assert _source(tmp_path / "2", other).fingerprint != first.fingerprint


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskMismatchError, match="is a reranker"):
        _source(tmp_path, made.write_reranker(tmp_path / "r"), task="embed")


def test_another_fingerprint_than_expected_is_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(
        FingerprintMismatchError, match=f"expected fingerprint {'e' * 64}, found [0-9a-f]{{64}}"
    ):
        _source(tmp_path, made.write_embedder(tmp_path / "r"), expected_fingerprint="e" * 64)


def test_what_is_said_otherwise_goes_before_the_repository(tmp_path: Path) -> None:
    made.write_embedder(tmp_path)
    _change(tmp_path / "config.json", max_position_embeddings=128)
    overrides = Overrides(max_length=100, pooling=("mean", "cls"), normalize=False)
    recipe = read_recipe(tmp_path, "m", overrides)
    assert (recipe.max_tokens, recipe.pooling, recipe.normalize) == (100, ("cls", "mean"), False)


@pytest.mark.parametrize(("kind", "positions"), [("bert", 512), ("xlm-roberta", 510)])
def test_a_maximum_length_over_the_positions_is_refused_with_both_numbers(
    tmp_path: Path, kind: str, positions: int
) -> None:
    made.write_embedder(tmp_path)
    _change(tmp_path / "config.json", max_position_embeddings=512, model_type=kind, pad_token_id=1)
    assert read_recipe(tmp_path, "m", Overrides(max_length=positions)).max_tokens == positions
    with pytest.raises(UnsupportedModelError, match=f"max_length {positions + 1} .* {positions} positions"):
        read_recipe(tmp_path, "m", Overrides(max_length=positions + 1))


def test_prompts_are_the_repositorys_and_those_that_are_said(tmp_path: Path) -> None:
    made.write_embedder(tmp_path)
    own = {"query": "query: ", "passage": "passage: "}
    _change(tmp_path / "config_sentence_transformers.json", prompts=own, default_prompt_name="query")
    recipe = read_recipe(tmp_path, "m", Overrides(prompts=(("query", "q "), ("code", "c "))))
    assert dict(recipe.prompts) == {"query": "q ", "passage": "passage: ", "code": "c "}
    assert recipe.prompt == "q "
    assert read_recipe(tmp_path, "m", Overrides(default_prompt_name="passage")).prompt == "passage: "
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(UnsupportedModelError, match=r"no prompt 'x' .* query, passage"):
        read_recipe(tmp_path, "m", Overrides(default_prompt_name="x"))


def test_a_reranker_has_no_pooling_to_override(tmp_path: Path) -> None:
    made.write_reranker(tmp_path)
    assert read_recipe(tmp_path, "m", Overrides(max_length=8)).max_tokens == 8
    with pytest.raises(UnsupportedModelError, match=r"is a reranker, for which .* pooling, normalize"):
        read_recipe(tmp_path, "m", Overrides(pooling=("cls",), normalize=True))


def test_overrides_enter_the_fingerprint_and_empty_prompts_do_not(tmp_path: Path) -> None:
    plain = _source(tmp_path / "a", made.write_embedder(tmp_path / "one"))
    folder = made.write_embedder(tmp_path / "two")
    _change(folder / "config_sentence_transformers.json", prompts={"query": "", "document": ""})
    empty = _source(tmp_path / "b", folder)
    assert empty.fingerprint == plain.fingerprint
    assert [name for name, _ in empty.recipe.prompts] == ["query", "document"]
    for overrides in (
        Overrides(max_length=8),
        Overrides(pooling=("cls",)),
        Overrides(normalize=False),
        Overrides(prompts=(("query", "q "),)),
    ):
        folder = made.write_embedder(tmp_path / f"each{hash(overrides)}")
        changed = _source(tmp_path / f"c{hash(overrides)}", folder, overrides=overrides)
        assert changed.fingerprint != plain.fingerprint


def test_a_task_is_told_by_the_small_files(tmp_path: Path) -> None:
    assert read_task(made.write_embedder(tmp_path / "a")) == "embed"
    assert read_task(made.write_reranker(tmp_path / "b")) == "rerank"
    assert read_task(made.write_reranker(tmp_path / "c", labels=3)) is None
    assert read_task(tmp_path / "nothing") is None
    broken = made.write_embedder(tmp_path / "d")
    (broken / "config.json").write_text("[1")
    assert read_task(broken) is None
