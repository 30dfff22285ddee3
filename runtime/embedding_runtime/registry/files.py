"""Which files of a repository are needed to serve it. Pure: names in, names out."""

import re
from collections.abc import Iterable

from embedding_runtime.errors import NoWeightsError, UnsupportedModelError
from embedding_runtime.settings import Precision

# Where exporters put each precision, best first: transformers.js and optimum, then sentence-transformers,
# whose quantised files differ by the CPU they are best on and run on every one. Those have one scale for all
# texts of a batch, so that what is made of the exact file goes before them.
_GRAPHS = {
    "auto": ("model.onnx",),
    "fp32": ("model.onnx",),
    "bf16": ("model.onnx",),
    "fp16": ("model_fp16.onnx", "model_float16.onnx"),
    "int8": (
        "model.onnx",
        "model_int8.onnx",
        "model_quantized.onnx",
        "model_uint8.onnx",
        "model_quint8_avx2.onnx",
        "model_qint8_avx512_vnni.onnx",
        "model_qint8_avx512.onnx",
        "model_qint8_arm64.onnx",
    ),
}
# What a graph can be made of where there is none, best first; the indices name several files.
_CONVERTED = tuple(
    f"{folder}{file}"
    for folder in ("", "0_Transformer/")
    for file in ("model.safetensors", "model.safetensors.index.json")
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".h5", ".msgpack")

# The configuration that says how to tokenise, pool and normalise; also inside sentence-transformers' module
# folders (0_Transformer, 1_Pooling, ...).
_CONFIGURATION = re.compile(
    r"([0-9]+_\w+/)?"
    r"(config|tokenizer|tokenizer_config|special_tokens_map|sentence_[a-z-]+_config)\.json"
    r"|modules\.json|config_sentence_transformers\.json|chat_template\.jinja"
)
_INDEX = ".safetensors.index.json"
# The weights of what is done to a vector after the pooling.
_LAYERS = re.compile(r"[0-9]+_(Dense|LayerNorm)/model\.safetensors")


def graph_file(names: Iterable[str], wanted: str | None, model: str, precision: Precision = "auto") -> str:
    """The ONNX file to serve: the one asked for, else that of the precision, in `onnx/` before the top; the
    safetensors that one can be made of, where the repository has none at all.

    Raises UnsupportedModelError that says what the repository holds instead, NoWeightsError where it holds no
    ONNX file at all.
    """
    present = set(names)
    others = ", ".join(sorted(name for name in present if name.endswith(".onnx")))
    if wanted:
        if wanted in present:
            return wanted
        raise UnsupportedModelError(f"{model} has no file {wanted}; its ONNX files: {others or 'none'}")
    for name in (f"{folder}{file}" for file in _GRAPHS[precision] for folder in ("onnx/", "")):
        if name in present:
            return name
    if others and precision != "auto":
        raise UnsupportedModelError(
            f"{model} has no file of precision {precision} under a usual name; choose one of its files with "
            f"file: {others}"
        )
    if others:
        raise UnsupportedModelError(
            f"{model} has neither onnx/model.onnx nor model.onnx; choose one of its files with MODEL_FILE: "
            f"{others} (or with file or precision in MODELS_CONFIG)"
        )
    for name in _CONVERTED:
        if name in present:
            return name
    weights = ", ".join(sorted(name for name in present if name.endswith(_WEIGHTS))) or "no weights"
    raise NoWeightsError(
        f"{model} has neither an ONNX file nor model.safetensors (found: {weights}), and nothing else can be "
        "served: choose a repository that holds onnx/model.onnx"
    )


def external_data(names: Iterable[str], graph: str) -> list[str]:
    """The files beside `graph` that by their names hold its tensors: model.onnx_data, model.onnx.data, ...;
    and model-00001-of-00002.safetensors, ... of an index.
    """
    if graph.endswith(_INDEX):
        stem = re.escape(graph.removesuffix(_INDEX))
        return sorted(name for name in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.safetensors", name))
    pattern = re.compile(re.escape(graph) + r"[._]data([._-]?\d+)?")
    return sorted(name for name in names if pattern.fullmatch(name))


def needed(
    names: Iterable[str], wanted: str | None, model: str, precision: Precision = "auto"
) -> tuple[str, list[str]]:
    """The graph, and every file to have: graph, its external data, the configuration, the layers after
    the pooling. Other precisions are left.

    Raises UnsupportedModelError.
    """
    present = sorted(set(names))
    graph = graph_file(present, wanted, model, precision)
    if not any(name.rpartition("/")[2] == "tokenizer.json" for name in present):
        raise NoWeightsError(f"{model} has no tokenizer.json")
    beside = [name for name in present if _CONFIGURATION.fullmatch(name) or _LAYERS.fullmatch(name)]
    return graph, [*beside, *external_data(present, graph), graph]
