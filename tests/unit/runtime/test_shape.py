"""The sizes of a model's layers, read from its config.json under the names that architectures give them."""

import json
from pathlib import Path

import pytest

from embedding_runtime.model.shape import Shape, read_shape

BERT = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12}
DISTILBERT = {"n_layers": 6, "dim": 768, "n_heads": 12}
T5 = {"num_layers": 24, "d_model": 1024, "num_heads": 16}


@pytest.mark.parametrize(
    ("config", "shape"),
    [(BERT, Shape(6, 384, 12)), (DISTILBERT, Shape(6, 768, 12)), (T5, Shape(24, 1024, 16))],
)
def test_the_shape_is_known_by_every_name(tmp_path: Path, config: dict[str, int], shape: Shape) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert read_shape(path) == shape
    assert shape.to_json() == {"layers": shape.layers, "hidden": shape.hidden, "heads": shape.heads}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        json.dumps(BERT | {"hidden_size": "384"}),
        json.dumps(BERT | {"hidden_size": True}),
        json.dumps(BERT | {"num_attention_heads": 0}),
        json.dumps(BERT | {"num_hidden_layers": 2**40}),
    ],
)
def test_what_does_not_say_it_all_has_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert read_shape(path) is None


def test_a_model_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_shape(tmp_path / "config.json") is None
