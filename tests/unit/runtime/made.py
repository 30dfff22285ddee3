"""Small models made on the spot, whose every answer can be computed by hand.

The embedding model looks each token up in a table; the reranker adds up a weight for each token of the
document. The tokenizer splits at spaces and knows WORDS.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

WIDTH = 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "quickly", "slowly"]
VOCABULARY = {word: index for index, word in enumerate(SPECIAL + WORDS)}
CLS, SEP = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]

Array = NDArray[np.float32]


def ids(text: str) -> list[int]:
    """The ids of a text without special tokens."""
    return [VOCABULARY.get(word, VOCABULARY["[UNK]"]) for word in text.split()]


def table() -> Array:
    """The embedding model's token vectors, float32 [vocabulary, WIDTH]."""
    return np.random.default_rng(7).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)


def weights() -> Array:
    """The reranker's token weights, float32 [vocabulary]."""
    return np.linspace(-2, 2, len(VOCABULARY), dtype=np.float32)


def embedding(text: str) -> Array:
    """The mean-pooled, normalised vector that the embedding model gives for a text."""
    mean = table()[[CLS, *ids(text), SEP]].mean(axis=0)
    row: Array = mean / np.linalg.norm(mean)
    return row


def logit(document: str) -> float:
    """The reranker's logit for a document, whatever the query."""
    return float(weights()[[*ids(document), SEP]].sum())


def write_embedder(
    folder: Path, *, max_tokens: int = 16, external: bool = False, modules: bool = True
) -> Path:
    """An embedding model as a sentence-transformers repository."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", WIDTH])]
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, {"table": table()}, external=external)
    _write_tokenizer(folder)
    _write_json(
        folder / "config.json", {"architectures": ["BertModel"], "model_type": "bert", "pad_token_id": 0}
    )
    if modules:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        listed = [
            {"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()
        ]
        _write_json(folder / "modules.json", listed)
        _write_json(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
        _write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False}
        )
    return folder


def write_pooled(folder: Path) -> Path:
    """An embedding model whose graph gives one vector for each text and nothing else."""
    write_embedder(folder)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    outputs = [_value("sentence_embedding", TensorProto.FLOAT, ["b", WIDTH])]
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, {"table": table()})
    return folder


def write_sparse(folder: Path, *, modules: bool = True, transformer: str = "Transformer") -> Path:
    """A masked language model: `table` times its transpose are the logits of each token."""
    write_embedder(folder, modules=False)
    if modules:
        package = "sentence_transformers.sparse_encoder.models"
        kinds = {"": transformer, "1_SpladePooling": "SpladePooling"}
        listed = [{"type": f"{package}.{kind}", "path": path} for path, kind in kinds.items()]
        _write_json(folder / "modules.json", listed)
        pooling = {"pooling_strategy": "max", "activation_function": "relu"}
        _write_json(folder / "1_SpladePooling/config.json", pooling)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "words"], ["logits"]),
    ]
    outputs = [_value("logits", TensorProto.FLOAT, ["b", "s", len(VOCABULARY)])]
    tensors: dict[str, NDArray[Any]] = {"table": table(), "words": np.ascontiguousarray(table().T)}
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, tensors)
    return folder


def sparse(text: str) -> dict[int, float]:
    """What the sparse model gives for a text: weight by word."""
    logits = table()[[CLS, *ids(text), SEP]] @ table().T
    weights = np.log1p(np.maximum(logits, 0)).max(axis=0)
    return {word: float(weight) for word, weight in enumerate(weights) if weight > 0}


def write_decoder(folder: Path, *, positions: bool = True, memory: bool = True) -> Path:
    """An embedding model that reads from left to right: the vector of a token is the sum of `table` over all
    tokens up to it, each counted with its place where the graph has `positions`; of a text the last one's.
    """
    write_embedder(folder)
    _write_json(folder / "1_Pooling/config.json", {"pooling_mode_lasttoken": True})
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("Cast", ["position_ids"], ["places"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["places", "last"], ["place"]),
        helper.make_node("Add", ["place", "one"], ["counted"]),
        helper.make_node("Mul", ["each", "counted"] if positions else ["each", "one"], ["weighed"]),
        helper.make_node("CumSum", ["weighed", "axis"], ["sums"]),
        helper.make_node("ReduceSum", ["past_key_values.0.key"], ["before"], keepdims=0),
        helper.make_node("Add", ["sums", "before"] if memory else ["sums", "none"], ["last_hidden_state"]),
    ]
    nodes = nodes if positions else [nodes[0], *nodes[4:]]
    nodes = nodes if memory else [*nodes[:-2], nodes[-1]]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", WIDTH])]
    tensors: dict[str, NDArray[Any]] = {
        "table": table(),
        "last": np.array([2], dtype=np.int64),
        "axis": np.array(1, dtype=np.int64),
        "one": np.ones(1, dtype=np.float32),
        "none": np.zeros(1, dtype=np.float32),
    }
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, tensors)
    return folder


def read_from_the_left(text: str, *, positions: bool = True) -> Array:
    """What the decoder gives for a text."""
    rows = table()[[CLS, *ids(text), SEP]]
    places = np.arange(1, len(rows) + 1, dtype=np.float32)[:, None]
    total = (rows * places if positions else rows).sum(axis=0)
    row: Array = total / np.linalg.norm(total)
    return row


YES, NO = VOCABULARY["green"], VOCABULARY["blue"]
TEMPLATE = """{%- for message in messages if message.role == "system" -%}
    {{ message.content + " " }}
{%- endfor -%}
red {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }} cat {{ messages
    | selectattr("role", "eq", "document") | map(attribute="content") | first }} bird
{%- if add_generation_prompt %} runs{% endif %}"""


def write_judge(folder: Path, *, modules: bool = True, plain: bool = True) -> Path:
    """A reranker that is a language model: the logits after a token are the sum of `table` over all tokens up
    to it, times the transpose of it; not as a `plain` product if so wanted.
    """
    write_embedder(folder, modules=False)
    _write_json(folder / "config.json", {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    if modules:
        package = "sentence_transformers"
        listed = [
            {"type": f"{package}.base.modules.transformer.Transformer", "path": ""},
            {"type": f"{package}.cross_encoder.modules.logit_score.LogitScore", "path": "1_LogitScore"},
        ]
        _write_json(folder / "modules.json", listed)
        _write_json(folder / "1_LogitScore/config.json", {"true_token_id": YES, "false_token_id": NO})
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("CumSum", ["each", "axis"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "words"], ["logits" if plain else "half"]),
    ]
    nodes += [] if plain else [helper.make_node("Add", ["half", "half"], ["logits"])]
    outputs = [_value("logits", TensorProto.FLOAT, ["b", "s", len(VOCABULARY)])]
    tensors: dict[str, NDArray[Any]] = {
        "table": table(),
        "words": np.ascontiguousarray(table().T) / (1 if plain else 2),
        "axis": np.array(1, dtype=np.int64),
    }
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, tensors)
    return folder


def judged(query: str, document: str, instruction: str = "") -> float:
    """The judge's score."""
    hidden = table()[ids(f"{instruction} red {query} cat {document} bird runs")].sum(axis=0)
    return float(hidden @ table()[YES] - hidden @ table()[NO])


def write_reranker(folder: Path, *, max_tokens: int = 16, labels: int = 1) -> Path:
    """A cross-encoder repository."""
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["each"]),
        helper.make_node("Cast", ["token_type_ids"], ["document"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["each", "document"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "axis"], ["logits"], keepdims=1),
    ]
    outputs = [_value("logits", TensorProto.FLOAT, ["b", 1])]
    tensors: dict[str, NDArray[Any]] = {"weights": weights(), "axis": np.array([1], dtype=np.int64)}
    _write_graph(folder / "onnx/model.onnx", nodes, outputs, tensors)
    _write_tokenizer(folder)
    _write_json(folder / "tokenizer_config.json", {"model_max_length": max_tokens})
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(label): f"LABEL_{label}" for label in range(labels)},
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    _write_json(folder / "config.json", config)
    return folder


def write_slow_to_load(folder: Path, nodes: int) -> Path:
    """An embedding model whose graph is so long that creating its session takes its time."""
    write_embedder(folder)
    chain = [helper.make_node("Gather", ["table", "input_ids"], ["x0"])]
    chain += [helper.make_node("Add", [f"x{n}", "table_row"], [f"x{n + 1}"]) for n in range(nodes)]
    chain.append(helper.make_node("Identity", [f"x{nodes}"], ["last_hidden_state"]))
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", WIDTH])]
    tensors = {"table": table(), "table_row": np.zeros(WIDTH, dtype=np.float32)}
    _write_graph(folder / "onnx/model.onnx", chain, outputs, tensors)
    return folder


def write_slow_to_run(folder: Path, products: int, width: int = 512) -> Path:
    """An embedding model that spends its time in `products` matrix products per token."""
    write_embedder(folder, max_tokens=512)
    chain = [helper.make_node("Gather", ["table", "input_ids"], ["x0"])]
    chain += [helper.make_node("MatMul", [f"x{n}", "rotation"], [f"x{n + 1}"]) for n in range(products)]
    chain.append(helper.make_node("Identity", [f"x{products}"], ["last_hidden_state"]))
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", width])]
    random = np.random.default_rng(3)
    tensors = {
        "table": random.normal(size=(len(VOCABULARY), width)).astype(np.float32),
        "rotation": np.roll(np.eye(width, dtype=np.float32), 1, axis=0),
    }
    _write_graph(folder / "onnx/model.onnx", chain, outputs, tensors)
    return folder


def write_huge(folder: Path) -> Path:
    """An embedding model whose token vectors are larger than any address space."""
    write_embedder(folder)
    chain = [
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["thin"]),
        helper.make_node("Expand", ["thin", "shape"], ["last_hidden_state"]),
    ]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", "w"])]
    tensors: dict[str, NDArray[Any]] = {
        "last": np.array([2], dtype=np.int64),
        "shape": np.array([1, 1, 1 << 48], dtype=np.int64),
    }
    _write_graph(folder / "onnx/model.onnx", chain, outputs, tensors)
    return folder


def write_unsteady(folder: Path) -> Path:
    """An embedding model that gives other token vectors every time."""
    write_embedder(folder)
    chain = [
        helper.make_node("Gather", ["table", "input_ids"], ["known"]),
        helper.make_node("RandomNormalLike", ["known"], ["noise"]),
        helper.make_node("Add", ["known", "noise"], ["last_hidden_state"]),
    ]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", WIDTH])]
    _write_graph(folder / "onnx/model.onnx", chain, outputs, {"table": table()})
    return folder


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]], *, kind: str = "F32") -> None:
    """A safetensors file that holds these tensors as numbers of this kind."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in tensors.items():
        numbers = _KINDS[kind](value).tobytes()
        head[name] = {
            "dtype": kind,
            "shape": value.shape,
            "data_offsets": [len(data), len(data) + len(numbers)],
        }
        data += numbers
    said = json.dumps(head).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(said).to_bytes(8, "little") + said + data)


_KINDS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "F64": lambda value: value.astype("<f8"),
    "F32": lambda value: value.astype("<f4"),
    "F16": lambda value: value.astype("<f2"),
    "BF16": lambda value: (value.astype("<f4").view("<u4") >> 16).astype("<u2"),
    "I8": lambda value: value.astype("<i1"),
}


def cache(home: Path, model: str, commit: str, folder: Path) -> None:
    """Lay `folder` out as the hub's cache under HF_HOME=`home`, as `main` of `model`: `commit`."""
    repository = home / "hub" / ("models--" + model.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)


def _value(name: str, kind: int, shape: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _write_graph(
    path: Path,
    nodes: list[Any],
    outputs: list[Any],
    tensors: dict[str, NDArray[Any]],
    *,
    external: bool = False,
) -> None:
    used = {name for node in nodes for name in node.input}
    known = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    names = [name for name in known if name in used]
    inputs = [_value(name, TensorProto.INT64, ["b", "s"]) for name in names]
    past = [name for name in sorted(used) if name.startswith("past_key_values")]
    inputs += [_value(name, TensorProto.FLOAT, ["b", 2, "earlier", 8]) for name in past]
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "made", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    location = f"{path.name}_data"
    onnx.save(model, path, save_as_external_data=external, location=location, size_threshold=0)


def _write_tokenizer(folder: Path) -> None:
    """With a truncation and a padding of its own, as many repositories have: the recipe's must win."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
