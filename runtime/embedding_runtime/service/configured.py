"""The models that the settings name: the default of each task, and every name that stands for one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from embedding_runtime.model.wanted import Wanted
from embedding_runtime.settings import DEFAULT_RERANKING_MODEL, ServeSettings, Task, split_name


@dataclass(frozen=True)
class Configured:
    """`defaults`: loaded at start and kept, by task. `lazy`: defaults that are loaded on first use.

    `named`: every id and served name that the settings give, and the model that it means.
    """

    defaults: Mapping[Task, Wanted]
    lazy: Mapping[Task, Wanted]
    named: Mapping[str, Wanted]

    def default(self, task: Task) -> Wanted | None:
        """The model of requests that name none."""
        return self.defaults.get(task) or self.lazy.get(task)

    def served_names(self, name: str) -> tuple[str, ...]:
        """The other names of the model with this id."""
        return tuple(other for other, wanted in self.named.items() if wanted.name == name != other)


def configured(settings: ServeSettings) -> Configured:
    """What `settings` name. An empty default means none."""
    named: dict[str, Wanted] = {}
    for entry in settings.models:
        wanted = Wanted.of(entry)
        named.update(dict.fromkeys((wanted.name, *entry.served_names), wanted))
    defaults: dict[Task, Wanted] = {}
    meant: dict[Wanted, Wanted] = {}
    texts: list[tuple[Task, str | None]] = [
        ("embed", settings.default_embedding_model),
        ("rerank", settings.default_reranking_model),
    ]
    for task, text in texts:
        if text:
            base = _named(text, named)
            defaults[task] = meant[base] = _default(base, task, settings)
    # The names of an entry that became a default mean the default.
    named = {name: meant.get(wanted, wanted) for name, wanted in named.items()}
    for wanted in defaults.values():
        named.setdefault(wanted.name, wanted)
    lazy: dict[Task, Wanted] = {}
    if settings.default_reranking_model is None:
        lazy["rerank"] = named.get(DEFAULT_RERANKING_MODEL) or Wanted(DEFAULT_RERANKING_MODEL)
    return Configured(defaults, lazy, named)


def configured_models(settings: ServeSettings) -> list[Wanted]:
    """The models that are loaded at start."""
    return list(configured(settings).defaults.values())


def at_revision(wanted: Wanted, revision: str) -> Wanted:
    """The same model at another revision, whose fingerprint nobody has told."""
    return wanted if revision == wanted.revision else replace(wanted, revision=revision, fingerprint=None)


def _named(text: str, named: Mapping[str, Wanted]) -> Wanted:
    """The model of a default: a name of the file, an id or a variant's name, alone or with @revision."""
    if text in named:
        return named[text]
    name, revision = split_name(text)
    wanted = named.get(name) or Wanted(name)
    return at_revision(wanted, revision) if revision else wanted


def _default(wanted: Wanted, task: Task, settings: ServeSettings) -> Wanted:
    return replace(
        wanted,
        task=task,
        file=settings.model_file or wanted.file,
        precision="auto" if settings.model_file else wanted.precision,
        fingerprint=settings.expected_fingerprint or wanted.fingerprint,
    )
