"""Which model a name in a request means, and what to say when it means none. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from embedding_runtime.errors import UnknownModelError, UnsupportedModelRequestError, WrongTaskError
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import Catalogue
from embedding_runtime.service.configured import Configured, at_revision
from embedding_runtime.settings import Task, is_variant, split_name

UNKNOWN = "unknown"

_KIND = {"embed": "embedding model", "rerank": "reranking model"}
_ARTICLE = {"embed": "an", "rerank": "a"}
_ENDPOINT = {"embed": "/embed", "rerank": "/rerank"}

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# A branch, a tag or a commit. Not refs/pr/1: anybody may propose files for a repository.
_REVISION = re.compile(r"(?!refs/)[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*")

# Looking for the nearest of many names costs milliseconds with long ones, and so many fit into a message.
_LONGEST_NAME, _MOST_NAMES = 150, 8
_SIMILAR = 0.6


@dataclass(frozen=True)
class Names:
    """The names that requests may use: those of the settings, and those that are allowed beside them.

    `patterns`: ALLOWED_MODELS, None where nothing was said; `catalogue`: the well-known models. Names in the
    cache change, so they are passed to each call, with their tasks where they are known.
    """

    configured: Configured
    patterns: tuple[str, ...] | None
    catalogue: Catalogue

    def needs_cache(self, name: str | None) -> bool:
        """Whether what the cache holds can matter for this name."""
        return name is not None and split_name(name)[0] not in self.configured.named

    def resolve(self, name: str | None, task: Task, cached: Mapping[str, Task | None]) -> Wanted:
        """The model that `name` means: an id, a variant's or a served name, each with or without @revision;
        None is the task's default.

        Raises UnknownModelError that tells the nearest name, WrongTaskError where the task is known,
        UnsupportedModelRequestError for a model of the catalogue that is not served.
        """
        if name is None:
            return self._default(task, cached)
        wanted = self._named(name, cached)
        if wanted is None:
            raise self._unknown(name, cached)
        known = wanted.task or self.catalogue.task(wanted.name) or cached.get(wanted.name)
        if known is not None:
            check_task(wanted.name, known, task)
        return wanted

    def is_asked_for_only(self, wanted: Wanted) -> bool:
        """Whether nothing but a request names this model, so that its absence is the client's mistake."""
        return (
            wanted not in self.configured.named.values() and wanted not in self.configured.defaults.values()
        )

    def label(self, name: str | None, task: Task, loaded: Collection[str]) -> str:
        """A model's id for a metric, `unknown` for one that is not served: clients choose no labels."""
        wanted = self.configured.default(task) if name is None else None
        if name is not None:
            wanted = self.configured.named.get(name) or self.configured.named.get(split_name(name)[0])
        if wanted is not None:
            return wanted.name
        ident = split_name(name or "")[0]
        return ident if ident in loaded else UNKNOWN

    def allowed(self, cached: Iterable[str]) -> set[str]:
        """The ids beside the configured ones that may be named, as far as they can be told."""
        ids = {entry.name for entry in self.catalogue.served()}
        for ident in cached:
            entry = self.catalogue.find(ident)
            if entry is None or entry.is_served:
                ids.add(ident)
        return {ident for ident in ids if self._matches(ident)}

    def _named(self, name: str, cached: Collection[str]) -> Wanted | None:
        if name in self.configured.named:
            return self.configured.named[name]
        ident, revision = split_name(name)
        if not _ID.fullmatch(ident.partition("@")[0]):
            return None
        if revision is not None and not _REVISION.fullmatch(revision):
            return None
        wanted = self.configured.named.get(ident)
        if wanted is not None:
            return None if wanted.folder else at_revision(wanted, revision or "main")
        entry = self.catalogue.find(ident)
        if entry is None and (is_variant(ident) or (self.patterns is None and ident not in cached)):
            return None
        if not self._matches(ident):
            return None
        if entry is not None and not entry.is_served:
            raise UnsupportedModelRequestError(entry.refusal, param="model")
        return at_revision(Wanted(ident), revision or "main")

    def _matches(self, ident: str) -> bool:
        return self.patterns is None or any(fnmatchcase(ident, pattern) for pattern in self.patterns)

    def _default(self, task: Task, cached: Collection[str]) -> Wanted:
        wanted = self.configured.default(task)
        if wanted is None:
            raise UnknownModelError(
                f"no {_KIND[task]} is configured; {self._served()}; name one in the request", param="model"
            )
        if wanted in self.configured.lazy.values() and not self._named(wanted.name, cached):
            raise UnknownModelError(
                f"no {_KIND[task]} is configured, and ALLOWED_MODELS leaves {wanted.name} out", param="model"
            )
        return wanted

    def _unknown(self, name: str, cached: Collection[str]) -> UnknownModelError:
        shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "..."
        return UnknownModelError(
            f"the model {shown!r} is not served here{self.hint(name, cached)}", param="model"
        )

    def hint(self, name: str, cached: Collection[str]) -> str:
        """What to add to a message about a name that means nothing: the nearest one, and what is served."""
        # Of a revision that is not there, the model itself is the nearest; of a model, another one.
        near = nearest(name, {*self.configured.named, *self.allowed(cached)} - {name})
        return (f"; the nearest is {near!r}" if near else "") + f"; {self._served()}"

    def _served(self) -> str:
        names = list(self.configured.named)
        if len(names) > _MOST_NAMES:
            return "GET /models lists what is served"
        return "served: " + (", ".join(names) or "nothing")


def check_task(name: str, known: Task, asked: Task) -> None:
    """Raise WrongTaskError, which names the right endpoint, where a model does another task."""
    if known != asked:
        raise WrongTaskError(
            f"{name} is {_ARTICLE[known]} {_KIND[known]}; ask it at {_ENDPOINT[known]}", param="model"
        )


def nearest(name: str, names: Collection[str]) -> str | None:
    """The name that is most like this one, upper and lower case being the same; None if none is."""
    if len(name) > _LONGEST_NAME:
        return None
    # Of an id, also the part behind the organisation: people leave it out.
    by_text: dict[str, str] = {}
    for each in sorted(names):
        by_text.setdefault(each.rpartition("/")[2].lower(), each)
    by_text |= {each.lower(): each for each in names}
    found = get_close_matches(split_name(name)[0].lower(), by_text, n=1, cutoff=_SIMILAR)
    return by_text[found[0]] if found else None
