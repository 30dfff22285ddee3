"""Names, the choice of files, and the cache."""

from pathlib import Path

import pytest

from embedding_runtime.errors import CorruptModelError, NotCachedError, UnsupportedModelError
from embedding_runtime.registry.cache import cached, find
from embedding_runtime.registry.files import external_data, graph_file, needed
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import Precision
from tests.unit.runtime import made

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# What a real repository holds (sentence-transformers/all-MiniLM-L6-v2), and what of it is needed.
REPOSITORY = [
    "1_Pooling/config.json", "README.md", "config.json", "config_sentence_transformers.json",
    "data_config.json", "model.safetensors", "modules.json", "onnx/model.onnx", "onnx/model_O1.onnx",
    "onnx/model_qint8_avx512.onnx", "openvino/openvino_model.bin", "pytorch_model.bin",
    "sentence_bert_config.json", "special_tokens_map.json", "tf_model.h5", "tokenizer.json",
    "tokenizer_config.json", "train_script.py", "vocab.txt",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", ModelRef("org/name", "main")),
        ("org/name@v1", ModelRef("org/name", "v1")),
        ("org/name@refs/pr/3", ModelRef("org/name", "refs/pr/3")),
        (f"name@{COMMIT}", ModelRef("name", COMMIT)),
        ("org/name@fastembed-rs", ModelRef("org/name@fastembed-rs", "main")),
        (f"org/name@fastembed-py@{COMMIT}", ModelRef("org/name@fastembed-py", COMMIT)),
        ("org/name@fastembed-rs2", ModelRef("org/name", "fastembed-rs2")),
    ],
)
def test_a_name_may_carry_a_revision(text: str, expected: ModelRef) -> None:
    assert ModelRef.parse(text) == expected
    assert str(expected) == text


def test_only_what_serving_needs_is_chosen() -> None:
    graph, files = needed(REPOSITORY, None, "m")
    assert graph == "onnx/model.onnx"
    assert set(files) == {
        "1_Pooling/config.json", "config.json", "config_sentence_transformers.json", "modules.json",
        "onnx/model.onnx", "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["model.onnx", "onnx/model.onnx"], None, "onnx/model.onnx"),
        (["model.onnx", "onnx/model_fp16.onnx"], None, "model.onnx"),
        (["model.onnx", "onnx/model_fp16.onnx"], "onnx/model_fp16.onnx", "onnx/model_fp16.onnx"),
        (["model.safetensors", "onnx/model.onnx"], None, "onnx/model.onnx"),
        (["model.safetensors", "2_Dense/model.safetensors"], None, "model.safetensors"),
        (["0_Transformer/model.safetensors"], None, "0_Transformer/model.safetensors"),
        (["model.safetensors.index.json"], None, "model.safetensors.index.json"),
    ],
)
def test_the_graph_is_the_wanted_one_or_the_usual_one(
    names: list[str], wanted: str | None, expected: str
) -> None:
    assert graph_file(names, wanted, "m") == expected


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["pytorch_model.bin"], None, "neither an ONNX file nor model.safetensors .found: pytorch_model.bin"),
        (["model.safetensors"], "model.onnx", "no file model.onnx; its ONNX files: none"),
        (["model.safetensors", "model_O4.onnx"], None, "MODEL_FILE: model_O4.onnx"),
        (["README.md"], None, "found: no weights"),
        (["onnx/model_fp16.onnx"], None, "MODEL_FILE: onnx/model_fp16.onnx"),
        (["onnx/model.onnx"], "onnx/model_int8.onnx", "its ONNX files: onnx/model.onnx"),
    ],
)
def test_a_repository_without_the_graph_is_refused_with_what_it_holds(
    names: list[str], wanted: str | None, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        graph_file(names, wanted, "m")


@pytest.mark.parametrize(
    ("names", "precision", "expected"),
    [
        (["onnx/model.onnx", "onnx/model_fp16.onnx"], "fp16", "onnx/model_fp16.onnx"),
        (["onnx/model.onnx", "onnx/model_fp16.onnx"], "fp32", "onnx/model.onnx"),
        (["onnx/model_quantized.onnx", "onnx/model_int8.onnx"], "int8", "onnx/model_int8.onnx"),
        (["onnx/model_quantized.onnx", "model.onnx"], "int8", "model.onnx"),
        (["onnx/model.onnx", "onnx/model_int8.onnx"], "bf16", "onnx/model.onnx"),
        (["model_quantized.onnx"], "int8", "model_quantized.onnx"),
        (
            ["onnx/model_qint8_avx512.onnx", "onnx/model_quint8_avx2.onnx"],
            "int8",
            "onnx/model_quint8_avx2.onnx",
        ),
    ],
)
def test_a_precision_chooses_the_file(names: list[str], precision: Precision, expected: str) -> None:
    assert graph_file(names, None, "m", precision) == expected


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "bf16", "int8"])
def test_any_precision_is_made_of_safetensors(precision: Precision) -> None:
    assert graph_file(["model.safetensors", "README.md"], None, "m", precision) == "model.safetensors"


def test_the_files_of_an_index_and_the_layers_after_the_pooling_are_needed() -> None:
    shards = [f"model-0000{at}-of-00002.safetensors" for at in (1, 2)]
    names = ["config.json", "tokenizer.json", "model.safetensors.index.json", *shards, "2_Dense/config.json"]
    names += ["2_Dense/model.safetensors", "3_LayerNorm/model.safetensors"]
    left = ["2_Dense/pytorch_model.bin", "other-00001-of-00002.safetensors", "x/model.safetensors"]
    graph, files = needed([*names, *left], None, "m")
    assert graph == "model.safetensors.index.json"
    assert sorted(files) == sorted(names)


def test_a_precision_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"precision fp16 .*: onnx/model.onnx, onnx/model_O1.onnx"
    ):
        graph_file(REPOSITORY[:9], None, "m", "fp16")


def test_a_revision_cannot_leave_the_repositorys_folder(tmp_path: Path) -> None:
    cache = _cached(tmp_path)
    (cache / "outside").write_text(COMMIT)
    for revision in ("../../outside", f"{cache}/outside"):
        with pytest.raises(NotCachedError):
            find(cache, ModelRef("org/name", revision), None)


def test_a_repository_without_tokenizer_json_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"no tokenizer\.json"):
        needed(["onnx/model.onnx", "vocab.txt"], None, "m")


def test_external_data_is_found_beside_its_graph_only() -> None:
    names = [
        "onnx/model.onnx_data",
        "onnx/model.onnx_data_1",
        "onnx/model.onnx.data",
        "onnx/model_fp16.onnx_data",
    ]
    assert external_data(names, "onnx/model.onnx") == sorted(names[:3])


def _cached(tmp_path: Path) -> Path:
    made.cache(tmp_path, "org/name", COMMIT, made.write_embedder(tmp_path / "repository", external=True))
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_cached_model_is_found_by_branch_and_by_commit(tmp_path: Path, revision: str) -> None:
    snapshot = find(_cached(tmp_path), ModelRef("org/name", revision), None)
    assert snapshot.commit == COMMIT
    assert snapshot.graph == "onnx/model.onnx"
    assert "onnx/model.onnx_data" in snapshot.files
    assert snapshot.bytes == sum((snapshot.folder / name).stat().st_size for name in snapshot.files)


@pytest.mark.parametrize("ref", ["other/name", "org/name@v2", f"org/name@{'f' * 40}"])
def test_what_is_not_cached_is_named_with_what_to_do(tmp_path: Path, ref: str) -> None:
    with pytest.raises(NotCachedError, match="prefetch"):
        find(_cached(tmp_path), ModelRef.parse(ref), None)


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    folder = _cached(tmp_path) / "models--org--name/snapshots" / COMMIT
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("../../blobs/gone")
    with pytest.raises(CorruptModelError, match=r"config\.json is a link to nothing"):
        find(tmp_path / "hub", ModelRef("org/name"), None)


def test_the_cache_lists_what_it_holds(tmp_path: Path) -> None:
    (model,) = cached(_cached(tmp_path))
    (revision,) = model.revisions
    assert (model.id, revision.commit, revision.names) == ("org/name", COMMIT, ("main",))
    assert "onnx/model.onnx_data" in revision.files
    assert revision.bytes == sum(path.stat().st_size for path in revision.folder.rglob("*") if path.is_file())
    assert cached(tmp_path / "nowhere") == []
