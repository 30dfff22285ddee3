"""Which files of a repository are needed to serve it. Pure: names in, names out."""

import re
from collections.abc import Iterable

from embedding_runtime.errors import UnsupportedModelError

_DEFAULT_GRAPHS = ("onnx/model.onnx", "model.onnx")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".h5", ".msgpack")

# The configuration that says how to tokenise, pool and normalise; also inside sentence-transformers' module
# folders (0_Transformer, 1_Pooling, ...).
_CONFIGURATION = re.compile(
    r"([0-9]+_\w+/)?"
    r"(config|tokenizer|tokenizer_config|special_tokens_map|sentence_[a-z]+_config)\.json"
    r"|modules\.json|config_sentence_transformers\.json"
)


def graph_file(names: Iterable[str], wanted: str | None, model: str) -> str:
    """The ONNX file to serve: the one asked for, else onnx/model.onnx, else model.onnx.

    Raises UnsupportedModelError that says what the repository holds instead.
    """
    present = set(names)
    if wanted:
        if wanted in present:
            return wanted
        others = ", ".join(sorted(name for name in present if name.endswith(".onnx"))) or "none"
        raise UnsupportedModelError(f"{model} has no file {wanted}; its ONNX files: {others}")
    for name in _DEFAULT_GRAPHS:
        if name in present:
            return name
    others = ", ".join(sorted(name for name in present if name.endswith(".onnx")))
    if others:
        raise UnsupportedModelError(
            f"{model} has neither onnx/model.onnx nor model.onnx; choose one of its files with MODEL_FILE: "
            f"{others}"
        )
    weights = ", ".join(sorted(name for name in present if name.endswith(_WEIGHTS))) or "no weights"
    raise UnsupportedModelError(
        f"{model} has no ONNX file (found: {weights}); only ONNX exports can be served: choose a repository "
        "that holds onnx/model.onnx"
    )


def external_data(names: Iterable[str], graph: str) -> list[str]:
    """The files beside `graph` that by their names hold its tensors: model.onnx_data, model.onnx.data, ..."""
    pattern = re.compile(re.escape(graph) + r"[._]data([._-]?\d+)?")
    return sorted(name for name in names if pattern.fullmatch(name))


def needed(names: Iterable[str], wanted: str | None, model: str) -> tuple[str, list[str]]:
    """The graph, and every file to have: graph, its external data, the configuration. Other precisions are
    left.

    Raises UnsupportedModelError.
    """
    present = sorted(set(names))
    graph = graph_file(present, wanted, model)
    if not any(name.rpartition("/")[2] == "tokenizer.json" for name in present):
        raise UnsupportedModelError(f"{model} has no tokenizer.json")
    configuration = [name for name in present if _CONFIGURATION.fullmatch(name)]
    return graph, [*configuration, *external_data(present, graph), graph]
