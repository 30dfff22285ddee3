"""What sentence-transformers does to a vector between its pooling and its last normalisation: the modules
Dense, LayerNorm, and Normalize where it is not the last; and their weights.

`heads` does the same as nodes of a graph, `engine/ending.py` in numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError
from embedding_runtime.model.modules import Module, read_json
from embedding_runtime.model.tensors import Array, Tensors

Activation = Literal["identity", "tanh", "relu", "gelu"]

# torch.nn.LayerNorm's own.
EPSILON = 1e-5

_WEIGHTS, _PICKLED = "model.safetensors", "pytorch_model.bin"
_VECTOR = "sentence_embedding"


@dataclass(frozen=True)
class Layer:
    """One step. `file`: its weights, as a path inside the repository; empty for `unit`, which has none.
    `activation` and `residual`, whether its input is added to what it gives, are those of `dense`.
    """

    kind: Literal["dense", "norm", "unit"]
    file: str = ""
    activation: Activation = "identity"
    residual: bool = False


@dataclass(frozen=True)
class Weights:
    """A layer's float32 numbers. Of `dense`: `weight` [in, out], `bias` [out], and `residual` [in, out]
    where input and output differ in width; of `norm`: `weight` [width] and `bias` [width].
    """

    weight: Array
    bias: Array | None = None
    residual: Array | None = None


def read_layers(folder: Path, modules: Sequence[Module], model: str) -> tuple[Layer, ...]:
    """The layers that the modules after the pooling are, the last Normalize left out.

    Raises UnsupportedModelError for one that is not served, CorruptModelError.
    """
    layers = tuple(_layer(folder, each, model) for each in modules)
    return layers[:-1] if layers and layers[-1].kind == "unit" else layers


def _layer(folder: Path, module: Module, model: str) -> Layer:
    home = folder / module.folder
    config = read_json(home / "config.json", model) if module.folder else {}
    for key in ("module_input_name", "module_output_name"):
        if (config.get(key) or _VECTOR) != _VECTOR:
            raise UnsupportedModelError(
                f"{model}: {module.folder} is for {config[key]}, and only modules for whole texts are "
                "served after the pooling"
            )
    if module.name == "Normalize":
        return Layer("unit")
    if not config:
        raise CorruptModelError(
            f"{model}: modules.json names {module.folder}, whose config.json is not there"
        )
    if not (home / _WEIGHTS).is_file():
        raise UnsupportedModelError(
            f"{model} has no {module.folder}/{_WEIGHTS}, and {_PICKLED} is not read, since it may hold any "
            "program: load the model with sentence-transformers and save it anew, or choose a revision or a "
            "repository that has the weights so"
        )
    file = f"{module.folder}/{_WEIGHTS}"
    if module.name == "LayerNorm":
        return Layer("norm", file)
    return Layer("dense", file, _activation(config, module, model), bool(config.get("use_residual", False)))


def _activation(config: Mapping[str, Any], module: Module, model: str) -> Activation:
    # sentence-transformers' own default is Tanh.
    path = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = path.rpartition(".")[2].lower()
    if not path.startswith("torch.nn.") or name not in get_args(Activation):
        raise UnsupportedModelError(
            f"{model}: {module.folder} has the activation {path}, which is not served; those that are: "
            "Identity, Tanh, ReLU, GELU of torch.nn"
        )
    return cast("Activation", name)


def read_weights(layer: Layer, repository: Path) -> Weights:
    """The numbers of a layer that has some.

    Raises CorruptModelError where they are not there or do not fit together.
    """
    tensors = Tensors(repository / layer.file)
    names = ("norm.weight", "norm.bias") if layer.kind == "norm" else ("linear.weight", "linear.bias")
    weight, bias = (tensors.get(name) for name in names)
    residual = tensors.get("residual.weight") if layer.residual else None
    if weight is None or weight.ndim != (1 if layer.kind == "norm" else 2):
        raise CorruptModelError(f"{layer.file} holds no {names[0]} of a {layer.kind} layer")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise CorruptModelError(f"{layer.file} holds a {names[1]} of another width than {names[0]}")
    if layer.residual and residual is None and weight.shape[0] != weight.shape[-1]:
        raise CorruptModelError(f"{layer.file} holds no residual.weight")
    return Weights(weight.T, bias, None if residual is None else residual.T)
