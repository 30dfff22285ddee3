"""The modules between pooling and normalisation: read, and the same inside a graph and outside."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.errors import CorruptModelError, UnsupportedModelError
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.layers import Layer
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import Recipe, read_recipe
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH
from embedding_runtime.model.source import open_source
from embedding_runtime.registry.cache import find_folder
from tests.unit.runtime import made

Array = NDArray[np.float32]

RANDOM = np.random.default_rng(5)
WEIGHT, SECOND, BIAS = (RANDOM.normal(size=size).astype(np.float32) for size in [(6, 4), (4, 6), (6,)])
GAMMA, BETA = (RANDOM.normal(size=4).astype(np.float32) for _ in range(2))
TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def _repository(folder: Path, *modules: tuple[str, dict[str, Any], dict[str, Array]]) -> Path:
    """An embedder whose pooling is followed by these modules: name, configuration, tensors."""
    made.write_embedder(folder)
    listed = json.loads((folder / "modules.json").read_text())[:2]
    for at, (name, config, tensors) in enumerate(modules, 2):
        home = folder / f"{at}_{name}"
        listed.append({"type": f"sentence_transformers.models.{name}", "path": home.name})
        home.mkdir()
        if config:
            (home / "config.json").write_text(json.dumps(config))
        if tensors:
            made.write_safetensors(home / "model.safetensors", tensors)
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def _dense(activation: str = TANH, **tensors: Array) -> tuple[str, dict[str, Any], dict[str, Array]]:
    named = {name.replace("_", "."): value for name, value in tensors.items()}
    return "Dense", {"activation_function": activation, "bias": "linear.bias" in named}, named


UNIT = ("Normalize", dict[str, Any](), dict[str, Array]())
NORM = ("LayerNorm", {"dimension": 4}, {"norm.weight": GAMMA, "norm.bias": BETA})


def _mean(text: str) -> Array:
    row: Array = made.table()[[made.CLS, *made.ids(text), made.SEP]].mean(axis=0)
    return row


def _unit(row: Array) -> Array:
    unit: Array = row / np.linalg.norm(row)
    return unit


def _gelu(row: Array) -> Array:
    return np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in row], dtype=np.float32)


def _normed(row: Array) -> Array:
    normed: Array = (row - row.mean()) / np.sqrt(row.var() + 1e-5) * GAMMA + BETA
    return normed


CASES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("a bias", (_dense(linear_weight=WEIGHT, linear_bias=BIAS),), lambda x: np.tanh(WEIGHT @ x + BIAS)),
    ("no bias", (_dense(IDENTITY, linear_weight=WEIGHT), UNIT), lambda x: _unit(WEIGHT @ x)),
    (
        "the unit first",
        (UNIT, _dense("torch.nn.modules.activation.ReLU", linear_weight=WEIGHT)),
        lambda x: np.maximum(WEIGHT @ _unit(x), 0),
    ),
    (
        "two of them",
        (_dense(linear_weight=WEIGHT), _dense("torch.nn.GELU", linear_weight=SECOND), UNIT),
        lambda x: _unit(_gelu(SECOND @ np.tanh(WEIGHT @ x))),
    ),
    ("a layer's normalisation", (NORM, _dense(linear_weight=WEIGHT)), lambda x: np.tanh(WEIGHT @ _normed(x))),
]


def _run(graph: Prepared, recipe: Recipe, text: str) -> Array:
    backend = OnnxBackend(graph, recipe, Execution("cpu", 1))
    backend.load()
    tokens = Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32))
    beside = Tokens(np.array([made.CLS, *made.ids("cat dog bird runs quickly"), made.SEP], dtype=np.int32))
    row: Array = backend.run([tokens, beside])[0]
    return row


@pytest.mark.parametrize(
    ("modules", "expected"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_each_is_done_as_its_formula_says(tmp_path: Path, modules: Any, expected: Any, opset: int) -> None:
    folder = _repository(tmp_path / "model", *modules)
    path = folder / "onnx/model.onnx"
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    recipe = read_recipe(folder, "m")
    rewrite(path, recipe, tmp_path, repository=folder)
    for graph in (
        Prepared(path, "fp32", True, None, "plain", folder),
        Prepared(tmp_path / GRAPH, "fp32", False, None, "prepared"),
    ):
        np.testing.assert_allclose(
            _run(graph, recipe, "red cat"), expected(_mean("red cat")), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("square", [True, False])
def test_a_residual_is_added(tmp_path: Path, square: bool) -> None:
    weight = WEIGHT[:4] if square else WEIGHT
    name, config, tensors = _dense(linear_weight=weight)
    if not square:
        tensors["residual.weight"] = WEIGHT + 1
    folder = _repository(tmp_path / "model", (name, {**config, "use_residual": True}, tensors))
    recipe = read_recipe(folder, "m")
    rewrite(folder / "onnx/model.onnx", recipe, tmp_path, repository=folder)
    mean = _mean("blue bird")
    expected = np.tanh(weight @ mean) + (mean if square else (WEIGHT + 1) @ mean)
    for graph in (
        Prepared(folder / "onnx/model.onnx", "fp32", True, None, "plain", folder),
        Prepared(tmp_path / GRAPH, "fp32", False, None, "prepared"),
    ):
        np.testing.assert_allclose(_run(graph, recipe, "blue bird"), expected, rtol=1e-5, atol=1e-6)


def test_a_last_normalize_is_the_recipes_own_and_no_layer(tmp_path: Path) -> None:
    recipe = read_recipe(_repository(tmp_path, UNIT, _dense(linear_weight=WEIGHT), UNIT), "m")
    assert recipe.normalize
    assert recipe.layers == (Layer("unit"), Layer("dense", "3_Dense/model.safetensors", "tanh"))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_fingerprint_is_of_the_layers_too(tmp_path: Path) -> None:
    def found(name: str, *modules: Any) -> str:
        return open_source(find_folder(_repository(tmp_path / name, *modules), "m", None), None).fingerprint

    one = found("one", _dense(linear_weight=WEIGHT))
    assert found("same", _dense(linear_weight=WEIGHT)) == one
    assert found("moved", UNIT, _dense(linear_weight=WEIGHT)) != one
    assert found("other numbers", _dense(linear_weight=WEIGHT + 1)) != one
    assert found("other function", _dense(IDENTITY, linear_weight=WEIGHT)) != one


@pytest.mark.parametrize(
    ("module", "error", "said"),
    [
        (_dense(), UnsupportedModelError, "no 2_Dense/model.safetensors.*save it anew"),
        (
            _dense("torch.nn.modules.activation.ELU", linear_weight=WEIGHT),
            UnsupportedModelError,
            "activation.*ELU",
        ),
        (_dense("evil.os.system", linear_weight=WEIGHT), UnsupportedModelError, "evil.os.system"),
        (("Dense", {}, {"linear.weight": WEIGHT}), CorruptModelError, "2_Dense, whose config.json"),
        (
            ("Dense", {"module_input_name": "token_embeddings"}, {"linear.weight": WEIGHT}),
            UnsupportedModelError,
            "token_embeddings",
        ),
    ],
)
def test_what_is_not_served_is_said(tmp_path: Path, module: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        read_recipe(_repository(tmp_path, module), "m")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weight": WEIGHT}, "no linear.weight"),
        ({"linear.weight": WEIGHT, "linear.bias": GAMMA}, "another width"),
        ({"linear.weight": SECOND}, "vectors of 6 numbers.*gives 4"),
    ],
)
def test_weights_that_do_not_fit_are_said(tmp_path: Path, tensors: Any, said: str) -> None:
    folder = _repository(tmp_path, ("Dense", {"activation_function": TANH}, tensors))
    graph = Prepared(folder / "onnx/model.onnx", "fp32", True, None, "plain", folder)
    with pytest.raises(CorruptModelError, match=said):
        _run(graph, read_recipe(folder, "m"), "red")


def test_a_graph_that_gives_vectors_has_done_what_its_modules_say(tmp_path: Path) -> None:
    folder = _repository(tmp_path, _dense(linear_weight=WEIGHT))
    path = folder / "onnx/model.onnx"
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.node.append(
        onnx.helper.make_node("ReduceMean", ["last_hidden_state"], ["row"], axes=[1], keepdims=0)
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, ["b", 4]))
    onnx.save(model, path)
    graph = Prepared(path, read_facts(path).precision, True, None, "plain", folder)
    assert _run(graph, read_recipe(folder, "m"), "red").shape == (4,)


def test_numbers_that_were_rounded_are_read(tmp_path: Path) -> None:
    recipe = read_recipe(_repository(tmp_path / "model", _dense(linear_weight=WEIGHT)), "m")
    for kind in ("F16", "BF16", "F64"):
        made.write_safetensors(
            tmp_path / "model/2_Dense/model.safetensors", {"linear.weight": WEIGHT}, kind=kind
        )
        path = tmp_path / "model/onnx/model.onnx"
        row = _run(Prepared(path, "fp32", True, None, "plain", tmp_path / "model"), recipe, "red")
        np.testing.assert_allclose(
            row, np.tanh(WEIGHT @ _mean("red")), atol=0.02 if kind == "BF16" else 0.003
        )
