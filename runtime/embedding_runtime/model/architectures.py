"""The architectures whose safetensors can be made a graph (`model/conversion.py`): encoders like BERT, as
transformers has them, with the numbers of config.json that shape them. Pure.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedding_runtime.errors import NoWeightsError

Family = Literal["bert", "roberta", "distilbert", "mpnet"]
Kind = Literal["encoder", "classifier", "masked"]

# transformers' class, without what it is for, to the family whose names of tensors it has.
_FAMILIES: dict[str, Family] = {
    "Bert": "bert",
    "Roberta": "roberta",
    "XLMRoberta": "roberta",
    "Camembert": "roberta",
    "DistilBert": "distilbert",
    "MPNet": "mpnet",
}
_KINDS: dict[str, Kind] = {
    "Model": "encoder",
    "ForSequenceClassification": "classifier",
    "ForMaskedLM": "masked",
    "ForPreTraining": "encoder",
    "ForTokenClassification": "encoder",
    "ForQuestionAnswering": "encoder",
}
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": "tanh_gelu", "gelu_pytorch_tanh": "tanh_gelu"}

# What transformers takes where config.json does not say; a family's id of padding is also where its
# positions begin, except for the two that count from 0.
_PAD_IDS: dict[Family, int] = {"bert": 0, "roberta": 1, "distilbert": 0, "mpnet": 1}
_LAYERS: dict[Family, int] = {"bert": 12, "roberta": 12, "distilbert": 6, "mpnet": 12}
_HEADS = 12
_EPSILON = 1e-12
_NAMES = {
    "distilbert": {"layers": "n_layers", "heads": "n_heads", "activation": "activation"},
    "others": {
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "activation": "hidden_act",
    },
}


@dataclass(frozen=True)
class Architecture:
    """What is to be known of a model beside its tensors. `name`: transformers' class. `activation`: gelu,
    relu or tanh_gelu, the approximation by tanh. `tied`: words' logits are products with their own vectors.
    """

    name: str
    family: Family
    kind: Kind
    layers: int
    heads: int
    activation: str
    epsilon: float
    pad_id: int
    tied: bool

    def to_json(self) -> dict[str, Any]:
        """What shapes a vector, as plain values, for the fingerprint."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


def architecture(config: Mapping[str, Any], model: str) -> Architecture:
    """The architecture that config.json tells.

    Raises NoWeightsError, which names it, for one that cannot be converted.
    """
    named = config.get("architectures") or []
    name = str(named[0]) if named else ""
    found = _split(name)
    if found is None:
        told = f"the architecture {name}" if name else "an architecture that config.json does not name"
        raise _refused(f"{told}, which cannot be converted", model)
    family, kind = found
    keys = _NAMES.get(family, _NAMES["others"])
    activation = str(config.get(keys["activation"], "gelu"))
    unlike = {
        f"the activation {activation}": activation not in _ACTIVATIONS,
        "relative positions": config.get("position_embedding_type", "absolute") != "absolute",
        "a decoder": bool(config.get("is_decoder", False)),
    }
    if odd := [what for what, is_so in unlike.items() if is_so]:
        raise _refused(f"the architecture {name} with {', '.join(odd)}, which cannot be converted", model)
    pad_id = config.get("pad_token_id")
    return Architecture(
        name=name,
        family=family,
        kind=kind,
        layers=int(config.get(keys["layers"], _LAYERS[family])),
        heads=int(config.get(keys["heads"], _HEADS)),
        activation=_ACTIVATIONS[activation],
        epsilon=_EPSILON if family == "distilbert" else float(config.get("layer_norm_eps", _EPSILON)),
        pad_id=pad_id if isinstance(pad_id, int) else _PAD_IDS[family],
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def _split(name: str) -> tuple[Family, Kind] | None:
    """The family and the kind in the name of a class."""
    for prefix, family in _FAMILIES.items():
        kind = _KINDS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if kind is not None:
            return family, kind
    return None


def _refused(what: str, model: str) -> NoWeightsError:
    return NoWeightsError(
        f"{model} has no ONNX file, and {what}; those that can be: {', '.join(_FAMILIES)}. Choose a "
        "repository that holds onnx/model.onnx, or export this one (`optimum-cli export onnx`) and serve "
        "that folder"
    )
