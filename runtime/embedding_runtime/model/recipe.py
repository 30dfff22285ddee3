"""The recipe: everything beside the weights that shapes a vector, read from the repository's own files.

The rules are sentence-transformers' own: modules.json lists the steps; without it, and where the catalogue
does not say either, a model is mean-pooled, or its last token is taken where tokens see only those before
them, and nothing is normalised. A classifier with one label is a cross-encoder, which gives one logit per
pair.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

from embedding_runtime.errors import ModelError, UnsupportedModelError
from embedding_runtime.model.architectures import architecture
from embedding_runtime.model.judging import Judge, read_judge
from embedding_runtime.model.layers import Layer, read_layers
from embedding_runtime.model.modules import Modules, read_json, read_modules
from embedding_runtime.registry.catalogue import NOTHING, FillIns
from embedding_runtime.settings import POOLINGS, Task

_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_SPLADE = ("splade",)

# What newer files call a pooling that has another name here.
_RENAMED = {"mean_sqrt_len_tokens": "mean_sqrt_len"}

# Models whose position table begins after the padding id: a table of 514 rows holds 512 positions.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")

# In the order in which sentence-transformers looks for them.
_SENTENCE_CONFIGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")

# transformers writes this for "no limit".
_NO_LIMIT = 10**6
_FALLBACK_MAX_TOKENS = 512


Side = Literal["left", "right"]
Kind = Literal["dense", "sparse", "cross_encoder"]


@dataclass(frozen=True)
class Overrides:
    """What MODELS_CONFIG says otherwise than the repository; None means as the repository says."""

    max_length: int | None = None
    pooling: tuple[str, ...] | None = None
    normalize: bool | None = None
    prompts: tuple[tuple[str, str], ...] | None = None
    default_prompt_name: str | None = None


AS_IT_IS = Overrides()


@dataclass(frozen=True)
class Recipe:
    """How texts become tokens and token vectors become one vector.

    `pooling` is empty for a cross-encoder, `splade` alone for a sparse model. `max_tokens` counts special
    tokens. `prompts` are name and text of what may go before a text, `prompt` the text that goes there
    unasked. `assumed` says that neither the repository nor the catalogue gave a pooling, so
    sentence-transformers' default was taken. `truncation_side`: where a text that is too long loses tokens.
    `matryoshka`: how many of a vector's first numbers it was trained to be cut to. `layers`: what is done to
    a vector after the pooling, before it is normalised. `judge`: how a reranker that is a language model is
    asked. `pools_prompt`: the tokens of a prompt are pooled as those of the text.
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
    prompts: tuple[tuple[str, str], ...] = ()
    truncation_side: Side = "right"
    matryoshka: tuple[int, ...] = ()
    layers: tuple[Layer, ...] = ()
    judge: Judge | None = None
    pools_prompt: bool = True

    @property
    def kind(self) -> Kind:
        """What it gives: a vector, a weight for each word of the vocabulary that matters, or a score."""
        if self.task == "rerank":
            return "cross_encoder"
        return "sparse" if self.pooling == _SPLADE else "dense"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the wire and the fingerprint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        prompts = tuple((name, text) for name, text in values.get("prompts", ()))
        lists = {name: tuple(values[name]) for name in ("pooling", "matryoshka") if name in values}
        layers = tuple(Layer(**layer) for layer in values.get("layers", ()))
        judge = Judge.from_json(values.get("judge"))
        return cls(**{**values, **lists, "prompts": prompts, "layers": layers, "judge": judge})


def read_recipe(
    folder: Path, model: str, overrides: Overrides = AS_IT_IS, fill_ins: FillIns = NOTHING
) -> Recipe:
    """The recipe of the repository in `folder`, with what is said otherwise; `model` names it in messages.

    `fill_ins`: what holds where the repository's own files do not say.

    Raises UnsupportedModelError for a head or module that is not served and for an override that the model
    cannot follow, CorruptModelError for unreadable files.
    """
    modules = read_modules(folder, model)
    transformer = folder / modules.transformer
    config = read_json(transformer / "config.json", model)
    tokenizer_config = read_json(transformer / "tokenizer_config.json", model)
    tokenizer = transformer / "tokenizer.json"
    if not tokenizer.is_file():
        raise UnsupportedModelError(f"{model} has no tokenizer.json")
    vocabulary = read_json(tokenizer, model)
    pad_id = _pad_id(config, vocabulary)
    name = tokenizer.relative_to(folder).as_posix()
    judge = read_judge(folder, modules, config, vocabulary, model)
    if judge or _is_classifier(config):
        if judge is None:
            _check_one_label(config, model)
        _check_reranker_overrides(overrides, model)
        limit = _max_tokens(fill_ins.max_length, config, tokenizer_config)
        limit = _limited(overrides.max_length, limit, config, model)
        side = _side(tokenizer_config, model)
        return Recipe("rerank", name, limit, pad_id, truncation_side=side, judge=judge)
    bert = _sentence_bert(transformer, model)
    limit = _max_tokens(_stated_limit(bert) or fill_ins.max_length, config, tokenizer_config)
    said = read_json(folder / "config_sentence_transformers.json", model)
    prompts, prompt = _prompts(
        {**said, "prompts": said.get("prompts") or dict(fill_ins.prompts)}, overrides, model
    )
    normalize = _normalizes(modules) if modules else bool(fill_ins.normalize)
    return Recipe(
        task="embed",
        tokenizer=name,
        max_tokens=_limited(overrides.max_length, limit, config, model),
        pad_id=pad_id,
        pooling=_chosen_pooling(folder, modules, config, overrides, fill_ins, model),
        normalize=normalize if overrides.normalize is None else overrides.normalize,
        lower_case=bool(bert.get("do_lower_case", False)),
        prompt=prompt,
        assumed=not modules and overrides.pooling is None and fill_ins.pooling is None,
        prompts=prompts,
        truncation_side=_side(tokenizer_config, model),
        matryoshka=_matryoshka(config) or fill_ins.matryoshka,
        layers=read_layers(folder, modules.after_pooling, model),
        pools_prompt=_pools_prompt(folder, modules, model),
    )


def read_task(folder: Path) -> Task | None:
    """What the model in `folder` does, by its small files alone; None where it cannot be served.

    Cheap enough for a listing of the whole cache, so it does not look into the weights: loading may still
    find that they are damaged. Raises nothing.
    """
    try:
        modules = read_modules(folder, folder.name)
        transformer = folder / modules.transformer
        if not (transformer / "tokenizer.json").is_file():
            return None
        config = read_json(transformer / "config.json", folder.name)
        if not any(folder.rglob("*.onnx")):
            architecture(config, folder.name)
            if not any(transformer.glob("model.safetensors*")):
                return None
        vocabulary = {} if modules else read_json(transformer / "tokenizer.json", folder.name)
        if read_judge(folder, modules, config, vocabulary, folder.name):
            return "rerank"
        if not _is_classifier(config):
            return "embed"
        _check_one_label(config, folder.name)
    except (ModelError, KeyError, TypeError, ValueError, AttributeError, OSError):
        return None
    return "rerank"


def _normalizes(modules: Modules) -> bool:
    """Whether the last step makes unit vectors."""
    return bool(modules.after_pooling) and modules.after_pooling[-1].name == "Normalize"


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or [])


def _reads_forward(config: Mapping[str, Any]) -> bool:
    """Whether a token is seen by those after it alone, so that only the last one knows the text."""
    named = config.get("architectures") or [""]
    return str(named[0]).endswith("ForCausalLM") and bool(config.get("is_causal", True))


def _check_one_label(config: Mapping[str, Any], model: str) -> None:
    # transformers' own default, when neither key is there, is two labels.
    labels = len(config["id2label"]) if "id2label" in config else int(config.get("num_labels", 2))
    if labels != 1:
        raise UnsupportedModelError(
            f"{model} is a classifier with {labels} labels, not a reranker: a reranker has one label"
        )


def _pooling(folder: Path, model: str) -> tuple[str, ...]:
    config = read_json(folder / "config.json", model)
    if not config or folder.name == "":
        raise UnsupportedModelError(f"{model}: modules.json names a pooling whose config.json is not there")
    named = config.get("pooling_mode")
    if named is not None:
        modes = [_RENAMED.get(mode, mode) for mode in ([named] if isinstance(named, str) else named)]
    else:
        modes = [mode for mode, key in _POOLING_KEYS.items() if config.get(key, False)]
    if not set(modes) <= set(POOLINGS):
        raise UnsupportedModelError(f"{model} asks for a pooling that is not served: {', '.join(modes)}")
    return tuple(modes) or ("mean",)


def _pools_prompt(folder: Path, modules: Modules, model: str) -> bool:
    config = read_json(folder / modules.folder("Pooling") / "config.json", model) if modules else {}
    return config.get("include_prompt", True) is not False


def _sentence_bert(folder: Path, model: str) -> dict[str, Any]:
    """sentence_bert_config.json, or the first under another architecture's name that says anything."""
    found = (read_json(folder / f"sentence_{name}_config.json", model) for name in _SENTENCE_CONFIGS)
    return next((each for each in found if each), {})


def _stated_limit(bert: Mapping[str, Any]) -> object:
    """The limit that sentence-transformers was told, under its new names or its old one; None where none."""
    for name in ("processor_kwargs", "tokenizer_args"):
        given = bert.get(name)
        if isinstance(given, dict) and given.get("model_max_length") is not None:
            return given["model_max_length"]
    return bert.get("max_seq_length")


def _prompts(
    config: Mapping[str, Any], overrides: Overrides, model: str
) -> tuple[tuple[tuple[str, str], ...], str]:
    """Every prompt, the repository's and then those of MODELS_CONFIG, and the text of the default one."""
    own = {str(name): str(text or "") for name, text in (config.get("prompts") or {}).items()}
    prompts = {**own, **dict(overrides.prompts or ())}
    name = overrides.default_prompt_name
    if name is not None and name not in prompts:
        raise UnsupportedModelError(
            f"{model} has no prompt {name!r} for default_prompt_name; it has: {', '.join(prompts) or 'none'}"
        )
    # A repository's own default that names nothing means none, as for sentence-transformers.
    return tuple(prompts.items()), prompts.get(name or str(config.get("default_prompt_name") or ""), "")


def _chosen_pooling(
    folder: Path,
    modules: Modules,
    config: Mapping[str, Any],
    overrides: Overrides,
    fill_ins: FillIns,
    model: str,
) -> tuple[str, ...]:
    wanted = overrides.pooling
    if wanted is not None:
        if "splade" in wanted and (wanted != _SPLADE or overrides.normalize):
            raise UnsupportedModelError(
                f"{model}: the pooling splade goes with no other one, nor with normalize: true"
            )
        return tuple(mode for mode in POOLINGS if mode in wanted)
    if modules.is_sparse:
        _check_splade(read_json(folder / modules.folder("SpladePooling") / "config.json", model), model)
        return _SPLADE
    if not modules:
        return fill_ins.pooling or (("lasttoken",) if _reads_forward(config) else ("mean",))
    return _pooling(folder / modules.folder("Pooling"), model)


def _check_splade(config: Mapping[str, Any], model: str) -> None:
    # sentence-transformers' own defaults are what is served.
    said = (config.get("pooling_strategy", "max"), config.get("activation_function", "relu"))
    if said != ("max", "relu"):
        raise UnsupportedModelError(
            f"{model} asks for the SpladePooling {said[0]} with {said[1]}; only max with relu is served"
        )


def _check_reranker_overrides(overrides: Overrides, model: str) -> None:
    given = {
        "pooling": overrides.pooling,
        "normalize": overrides.normalize,
        "prompts": overrides.prompts,
        "default_prompt_name": overrides.default_prompt_name,
    }
    if named := [name for name, value in given.items() if value is not None]:
        raise UnsupportedModelError(
            f"{model} is a reranker, for which MODELS_CONFIG cannot set {', '.join(named)}"
        )


def _max_tokens(stated: object, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int:
    """The stated limit, else the tokenizer's; never more than the model has positions for."""
    own = stated if isinstance(stated, int) else tokenizer_config.get("model_max_length")
    candidates = [own, _positions(config)]
    limits = [int(value) for value in candidates if isinstance(value, int | float) and 0 < value < _NO_LIMIT]
    return min(limits, default=_FALLBACK_MAX_TOKENS)


def _limited(wanted: int | None, own: int, config: Mapping[str, Any], model: str) -> int:
    """The limit that MODELS_CONFIG wants, which may be over the repository's, not over the positions."""
    positions = _positions(config)
    if wanted is not None and positions is not None and wanted > positions:
        raise UnsupportedModelError(
            f"{model}: max_length {wanted} is more than the {positions} positions that the model has"
        )
    return own if wanted is None else wanted


def _positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has positions for, where its configuration says so."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return positions


def _side(tokenizer_config: Mapping[str, Any], model: str) -> Side:
    side = tokenizer_config.get("truncation_side", "right")
    if side not in ("left", "right"):
        raise UnsupportedModelError(f"{model}: tokenizer_config.json has the truncation_side {side!r}")
    return cast("Side", side)


def _matryoshka(config: Mapping[str, Any]) -> tuple[int, ...]:
    """What a configuration says under the name that several families use."""
    said = config.get("matryoshka_dimensions")
    if not isinstance(said, list):
        return ()
    return tuple(sorted({int(each) for each in said if isinstance(each, int) and each > 0}))


def _pad_id(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    padding = tokenizer.get("padding") or {}
    value = config.get("pad_token_id", padding.get("pad_id"))
    return value if isinstance(value, int) else 0
