"""Rerankers that are language models: they read a question made of query and document, and the logits of a
word for yes and one for no are the score.

As sentence-transformers has them: the module LogitScore, or, without modules.json, a ForCausalLM whose chat
template asks for a query and a document. The template is rendered once, with marks in their places, so that
what stands before, between and behind them is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError
from embedding_runtime.model.modules import Modules, read_json

_QUERY, _DOCUMENT = "\ue000query\ue001", "\ue000document\ue001"
_TEMPLATE = "chat_template.jinja"
_YES, _NO = "yes", "no"


@dataclass(frozen=True)
class Judge:
    """The texts around a query and the document behind it, and the token ids of yes and no, whose logits'
    difference is the score; without a no the one of yes is it.
    """

    before: str
    between: str
    behind: str
    yes: int
    no: int | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Self | None:
        """The inverse of `dataclasses.asdict`."""
        return None if values is None else cls(**values)


def read_judge(
    folder: Path, modules: Modules, config: Mapping[str, Any], tokenizer: Mapping[str, Any], model: str
) -> Judge | None:
    """How the model in `folder` judges; None where it is no such model. `tokenizer`: its tokenizer.json.

    Raises UnsupportedModelError, CorruptModelError.
    """
    is_decoder = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or [])
    if modules and not modules.is_judge:
        return None
    if not modules and not is_decoder:
        return None
    home = folder / modules.transformer
    template = _template(home, model)
    asks = "query" in template and "document" in template
    if not modules and not asks:
        return None
    if not asks:
        raise UnsupportedModelError(
            f"{model} has no chat template that asks for a query and a document, which its LogitScore needs"
        )
    said = read_json(folder / modules.folder("LogitScore") / "config.json", model) if modules else {}
    prompts = read_json(folder / "config_sentence_transformers.json", model)
    words = _words(tokenizer)
    yes, no = said.get("true_token_id", words.get(_YES)), said.get("false_token_id", words.get(_NO))
    if not isinstance(yes, int) or not (isinstance(no, int) or (no is None and "true_token_id" in said)):
        raise UnsupportedModelError(
            f"{model} is a language model whose tokenizer has no tokens {_YES!r} and {_NO!r}: it cannot judge"
        )
    return Judge(*_around(template, _instruction(prompts), model), yes, no)


def _template(home: Path, model: str) -> str:
    path = home / _TEMPLATE
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CorruptModelError(f"{model}: {_TEMPLATE} cannot be read: {error}") from error
    said = read_json(home / "tokenizer_config.json", model).get("chat_template")
    if isinstance(said, list):  # several, by name
        said = next((each.get("template") for each in said if each.get("name") == "default"), None)
    return said if isinstance(said, str) else ""


def _instruction(config: Mapping[str, Any]) -> str:
    prompts = config.get("prompts") or {}
    return str(prompts.get(config.get("default_prompt_name") or "") or "")


def _around(template: str, instruction: str, model: str) -> tuple[str, str, str]:
    """What a rendered template has before the query, between it and the document, and behind that."""
    messages = [{"role": "query", "content": _QUERY}, {"role": "document", "content": _DOCUMENT}]
    if instruction:
        messages.insert(0, {"role": "system", "content": instruction})
    # Imported here: the HTTP processes read no template, and would hold it all the same.
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers sets it up; what a repository says must not run anything.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        text = environment.from_string(template).render(messages=messages, add_generation_prompt=True)
    except jinja2.TemplateError as error:
        raise UnsupportedModelError(f"{model}: its chat template cannot be rendered: {error}") from error
    before, query, rest = text.partition(_QUERY)
    between, document, behind = rest.partition(_DOCUMENT)
    if not query or not document or _QUERY in behind or _DOCUMENT in behind:
        raise UnsupportedModelError(
            f"{model}: its chat template does not have the query and then the document, each once"
        )
    return before, between, behind


def _words(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The ids of a tokenizer's words, where its model has them by name."""
    words = (tokenizer.get("model") or {}).get("vocab")
    return words if isinstance(words, dict) else {}
