"""The recipe: everything beside the weights that shapes a vector, read from the repository's own files.

The rules are sentence-transformers' own: modules.json lists the steps; without it a model is mean-pooled and
not normalised. A classifier with one label is a cross-encoder, which gives one logit per pair.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError
from embedding_runtime.settings import POOLINGS, Task

_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}

# Models whose position table begins after the padding id: a table of 514 rows holds 512 positions.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")

# transformers writes this for "no limit".
_NO_LIMIT = 10**6
_FALLBACK_MAX_TOKENS = 512


@dataclass(frozen=True)
class Overrides:
    """What MODELS_CONFIG says otherwise than the repository; None means as the repository says."""

    max_length: int | None = None
    pooling: tuple[str, ...] | None = None
    normalize: bool | None = None
    prompts: tuple[tuple[str, str], ...] | None = None
    default_prompt_name: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How texts become tokens and token vectors become one vector.

    `pooling` is empty for a cross-encoder. `max_tokens` counts special tokens. `assumed` says that the
    repository gave no pooling, so sentence-transformers' default was taken.
    """

    task: Task
    tokenizer: str
    max_tokens: int
    pad_id: int
    pooling: tuple[str, ...] = ()
    normalize: bool = False
    lower_case: bool = False
    prompt: str = ""
    assumed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the wire and the fingerprint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**values, "pooling": tuple(values["pooling"])})


def read_recipe(folder: Path, model: str) -> Recipe:
    """The recipe of the repository in `folder`; `model` names it in messages.

    Raises UnsupportedModelError for a head or module that is not served, CorruptModelError for unreadable
    files.
    """
    modules = _modules(folder, model)
    transformer = folder / _path(modules, "Transformer")
    config = _json(transformer / "config.json", model)
    tokenizer_config = _json(transformer / "tokenizer_config.json", model)
    tokenizer = transformer / "tokenizer.json"
    if not tokenizer.is_file():
        raise UnsupportedModelError(f"{model} has no tokenizer.json")
    pad_id = _pad_id(config, _json(tokenizer, model))
    name = tokenizer.relative_to(folder).as_posix()
    if _is_classifier(config):
        _check_one_label(config, model)
        limit = _max_tokens(None, config, tokenizer_config)
        return Recipe(task="rerank", tokenizer=name, max_tokens=limit, pad_id=pad_id)
    bert = _sentence_bert(transformer, model)
    return Recipe(
        task="embed",
        tokenizer=name,
        max_tokens=_max_tokens(bert.get("max_seq_length"), config, tokenizer_config),
        pad_id=pad_id,
        pooling=_pooling(folder / _path(modules, "Pooling"), model) if modules else ("mean",),
        normalize="Normalize" in modules,
        lower_case=bool(bert.get("do_lower_case", False)),
        prompt=_default_prompt(_json(folder / "config_sentence_transformers.json", model)),
        assumed=not modules,
    )


def _json(path: Path, model: str) -> dict[str, Any]:
    """A file's JSON object; an absent file is an empty one."""
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"{model}: {path.name} cannot be read: {error}") from error


def _modules(folder: Path, model: str) -> dict[str, str]:
    """Module name to its folder, in order. Empty without modules.json."""
    listed = cast("list[dict[str, Any]]", _json(folder / "modules.json", model) or [])
    modules = {str(entry["type"]).rpartition(".")[2]: str(entry.get("path", "")) for entry in listed}
    unknown = [
        name for name in modules if name not in ("Transformer", "Pooling", "Normalize", "CrossEncoder")
    ]
    if unknown:
        raise UnsupportedModelError(f"{model} has modules that are not served: {', '.join(unknown)}")
    if len(modules) != len(listed) or (modules and "Transformer" not in modules):
        raise UnsupportedModelError(f"{model} has an unusual modules.json: {', '.join(modules)}")
    return modules


def _path(modules: Mapping[str, str], name: str) -> str:
    return modules.get(name, "")


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or [])


def _check_one_label(config: Mapping[str, Any], model: str) -> None:
    # transformers' own default, when neither key is there, is two labels.
    labels = len(config["id2label"]) if "id2label" in config else int(config.get("num_labels", 2))
    if labels != 1:
        raise UnsupportedModelError(
            f"{model} is a classifier with {labels} labels, not a reranker: a reranker has one label"
        )


def _pooling(folder: Path, model: str) -> tuple[str, ...]:
    config = _json(folder / "config.json", model)
    if not config or folder.name == "":
        raise UnsupportedModelError(f"{model}: modules.json names a pooling whose config.json is not there")
    named = config.get("pooling_mode")
    if named is not None:
        modes = [named] if isinstance(named, str) else list(named)
    else:
        modes = [mode for mode in POOLINGS if config.get(_POOLING_KEYS[mode], False)]
    if not modes or not set(modes) <= set(POOLINGS):
        raise UnsupportedModelError(f"{model} asks for a pooling that is not served: {modes or config}")
    if config.get("include_prompt", True) is False:
        raise UnsupportedModelError(f"{model} leaves its prompt out of the pooling, which is not served")
    return tuple(mode for mode in POOLINGS if mode in modes)


def _sentence_bert(folder: Path, model: str) -> dict[str, Any]:
    """sentence_bert_config.json, or the same under another architecture's name."""
    for path in sorted(folder.glob("sentence_*_config.json")):
        return _json(path, model)
    return {}


def _default_prompt(config: Mapping[str, Any]) -> str:
    name = config.get("default_prompt_name")
    return str((config.get("prompts") or {}).get(name, "")) if name else ""


def _max_tokens(stated: object, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int:
    """The stated limit, else the tokenizer's; never more than the model has positions for."""
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    candidates = [stated if isinstance(stated, int) else tokenizer_config.get("model_max_length"), positions]
    limits = [int(value) for value in candidates if isinstance(value, int | float) and 0 < value < _NO_LIMIT]
    return min(limits, default=_FALLBACK_MAX_TOKENS)


def _pad_id(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    padding = tokenizer.get("padding") or {}
    value = config.get("pad_token_id", padding.get("pad_id"))
    return value if isinstance(value, int) else 0
