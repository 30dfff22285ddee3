"""What the HTTP routes ask for: embeddings of texts, documents scored for a query, and how the server is."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Extra, Float32, Tokens
from embedding_runtime.errors import (
    NotReadyError,
    RuntimeFault,
    TooManyInputsError,
    UnknownModelError,
    UnloadedError,
    WrongTaskError,
)
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import catalogue
from embedding_runtime.service.answers import Embeddings, Health, Listed, Piece, Ranked, Ranking, Stage
from embedding_runtime.service.cached_names import CachedNames
from embedding_runtime.service.client import EngineClient
from embedding_runtime.service.configured import configured
from embedding_runtime.service.failures import as_answer
from embedding_runtime.service.health import health
from embedding_runtime.service.listing import listing
from embedding_runtime.service.names import Names, check_task
from embedding_runtime.service.policy.backlog import Priority, priority_of
from embedding_runtime.service.prompts import prompt
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from embedding_runtime.service.shaping import check_dimensions, check_outputs, extras, shaped, sparse
from embedding_runtime.service.state import EngineState, ModelCard
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.service.tokenizers import Tokenizers
from embedding_runtime.service.wire import Rows
from embedding_runtime.settings import ServeSettings, Task

# Below this many characters tokenising takes less time than handing it to a thread and back.
_INLINE_CHARACTERS = 2_000
# How often a request meets a model that was unloaded just then, before it is told.
_ATTEMPTS = 3


@dataclass(frozen=True)
class _Serving:
    """A loaded model as requests use it."""

    slot: int
    card: ModelCard
    tokenization: Tokenization


@dataclass(frozen=True)
class _Work:
    """What a request asks for: how its texts, of so many characters, become tokens; its class; and what is
    wanted of a model beside rows.
    """

    tokenize: Callable[[_Serving], list[Tokens]]
    characters: int
    priority: Priority
    extras: Callable[[Recipe], Sequence[Extra]] = lambda _: ()


class Inference:
    """One HTTP process's view of the server."""

    def __init__(self, settings: ServeSettings, socket_path: str) -> None:
        self._max_inputs = settings.max_inputs_per_request
        self._load_timeout = settings.model_load_timeout_secs
        self._allow_fallback = settings.allow_cpu_fallback
        self._offline = settings.hf_hub_offline
        self._names = Names(configured(settings), settings.allowed_patterns, catalogue())
        self._cached = CachedNames(settings.cache_dir, catalogue())
        self._client = EngineClient(socket_path, self._learn)
        self._tokenizers = Tokenizers(Path(socket_path).with_name("tokenizers.lock"))
        self._loaded: frozenset[str] = frozenset()
        # What requests named lately, for as long as the engine's state stays the same.
        self._serving: dict[tuple[str | None, Task], _Serving] = {}

    async def run(self) -> None:
        """Stay connected to the engine until cancelled."""
        await self._client.run()

    async def embed(self, query: EmbedQuery) -> Embeddings:
        """One vector for each input. Raises RequestError and ServingError."""
        inputs: Sequence[str] | Sequence[Sequence[int]] = query.token_ids or query.texts

        def tokenize(serving: _Serving) -> list[Tokens]:
            recipe = serving.card.recipe
            check_outputs(query, recipe, serving.card.id)
            check_dimensions(query, recipe, serving.card.dimensions)
            if query.token_ids:
                return serving.tokenization.given(query.token_ids, truncate=query.truncate)
            text = prompt(recipe, query.prompt_name, query.input_type)
            return serving.tokenization.embed(query.texts, prompt=text, truncate=query.truncate)

        self._check_count(len(inputs), "input")
        priority = query.priority or priority_of(len(inputs))
        work = _Work(tokenize, sum(map(len, inputs)), priority, lambda recipe: extras(query, recipe))
        card, tokens, rows, stages = await self._answer(query.model, "embed", work)
        found = Embeddings(card, shaped(rows, query, card.recipe), tokens, stages)
        if not rows.extras:
            return found
        return replace(
            found,
            sparse=sparse(rows.extras["sparse"]) if "sparse" in rows.extras else None,
            token_rows=rows.extras.get("tokens", ()),
        )

    async def rerank(self, query: RerankQuery) -> Ranking:
        """Score every document for the query. Raises RequestError, ServingError."""
        asked, documents = query.query, query.documents

        def tokenize(serving: _Serving) -> list[Tokens]:
            return serving.tokenization.pairs(asked, documents, truncate=query.truncate)

        self._check_count(len(documents), "documents")
        characters = len(asked) * len(documents) + sum(map(len, documents))
        work = _Work(tokenize, characters, query.priority or priority_of(len(documents)))
        card, tokens, rows, stages = await self._answer(query.model, "rerank", work)
        return Ranking(card, ranked(rows.values[:, 0]), tokens, stages)

    async def pieces(
        self, name: str | None, texts: Sequence[str], *, prompt_name: str | None = None, special: bool = True
    ) -> list[list[Piece]]:
        """The tokens of each text. Raises RequestError, ServingError."""
        self._check_count(len(texts), "inputs")
        serving = await self._any(name)
        front = prompt(serving.card.recipe, prompt_name, None) if prompt_name else ""
        return await asyncio.to_thread(serving.tokenization.pieces, texts, prompt=front, special=special)

    async def decoded(
        self, name: str | None, ids: Sequence[Sequence[int]], *, special: bool = False
    ) -> list[str]:
        """The text of each list of a model's token ids. Raises RequestError, ServingError."""
        self._check_count(len(ids), "ids")
        serving = await self._any(name)
        return await asyncio.to_thread(serving.tokenization.decoded, ids, special=special)

    async def _any(self, name: str | None) -> _Serving:
        """The model of this name whatever its task; without one, the default of the task that there is."""
        tasks = {card.recipe.task for card in self.health().cards} if name is None else set()
        try:
            return (await self._find(name, "rerank" if tasks == {"rerank"} else "embed"))[0]
        except WrongTaskError:
            return (await self._find(name, "rerank"))[0]

    def health(self) -> Health:
        """Whether every default model can answer now, and if not, why."""
        return health(self._client.state, self._tokenizers.trouble, allow_fallback=self._allow_fallback)

    async def models(self) -> list[Listed]:
        """What a request may name now, default models first."""
        cached = await self._cached.tasks()
        return listing(self._names, self._client.state, cached, offline=self._offline)

    def label(self, name: str | None, task: Task) -> str:
        """A model's id for metrics: configured or loaded, else `unknown`. To be asked after the answer."""
        return self._names.label(name, task, self._loaded)

    def _check_count(self, count: int, param: str) -> None:
        if count > self._max_inputs:
            raise TooManyInputsError(
                f"{param} has {count} entries; one request may hold {self._max_inputs}", param=param
            )

    async def _answer(
        self, name: str | None, task: Task, work: _Work
    ) -> tuple[ModelCard, int, Rows, tuple[Stage, ...]]:
        """The model, the number of tokens, the rows, and how long each stage took in the last attempt."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._attempt(name, task, work)
            except UnloadedError:
                self._serving.clear()
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, name: str | None, task: Task, work: _Work
    ) -> tuple[ModelCard, int, Rows, tuple[Stage, ...]]:
        clock = _Clock()
        serving = self._serving.get((name, task))
        stages = []
        if serving is None:
            serving, waited = await self._find(name, task)
            stages = [clock.stage("load")] if waited else []
            clock = _Clock()
        if work.characters < _INLINE_CHARACTERS:
            tokens = work.tokenize(serving)
        else:
            tokens = await asyncio.to_thread(work.tokenize, serving)
        stages.append(clock.stage("tokenize"))
        submitted = time.time()
        wanted = work.extras(serving.card.recipe)
        rows = await self._client.submit(serving.slot, tokens, work.priority, wanted)
        stages.append(Stage("queue", submitted, rows.queue))
        stages.append(Stage("compute", submitted + rows.queue, rows.compute))
        return serving.card, sum(map(len, tokens)), rows, tuple(stages)

    async def _find(self, name: str | None, task: Task) -> tuple[_Serving, bool]:
        """The model that a request names, loaded; and whether that had to be waited for.

        Raises UnloadedError where it is gone again already.
        """
        cached = await self._cached.tasks() if self._names.needs_cache(name) else {}
        wanted = self._names.resolve(name, task, cached)
        state = self._client.state
        known = state.find(wanted) if state else None
        waited = known is None or known.card is None
        if waited:
            await self._load(wanted)
            state = self._client.state
            known = state.find(wanted) if state else None
        if known is None or known.card is None:
            raise UnloadedError(f"{wanted.name} was unloaded meanwhile", retry_after=1)
        check_task(wanted.name, known.card.recipe.task, task)
        tokenization = await self._tokenizers.of(known, known.card)
        serving = _Serving(known.slot, known.card, tokenization)
        if state is self._client.state:
            self._serving[name, task] = serving
        return serving, waited

    async def _load(self, wanted: Wanted) -> None:
        """Wait for a model, for as long as a request may."""
        try:
            async with asyncio.timeout(self._load_timeout):
                await self._client.load(wanted)
        except TimeoutError:
            raise NotReadyError(f"{wanted.name} is still loading", retry_after=1) from None
        except RuntimeFault as error:
            answer = as_answer(error, wanted, only_asked_for=self._names.is_asked_for_only(wanted))
            if isinstance(answer, UnknownModelError):
                hint = self._names.hint(str(wanted.ref), await self._cached.tasks())
                answer = UnknownModelError(answer.message + hint, param="model")
            raise answer from error

    def _learn(self, state: EngineState | None) -> None:
        self._serving.clear()
        # While the engine is restarted, the models of a moment ago keep their names in metrics.
        if state is not None:
            self._tokenizers.learn(state)
            self._loaded = frozenset(model.name for model in state.models if model.card)


class _Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._epoch, self._monotonic = time.time(), time.perf_counter()

    def stage(self, name: str) -> Stage:
        """What took until now."""
        return Stage(name, self._epoch, time.perf_counter() - self._monotonic)


def ranked(logits: Float32) -> list[Ranked]:
    """The documents by the sigmoid of their logits, best first; equal scores keep the documents' order."""
    wide = logits.astype(np.float64)
    # The two branches of the stable form: neither ever takes the exponential of a large positive number.
    small = np.exp(-np.abs(wide))
    scores = np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    order = np.argsort(-wide, kind="stable")
    return [Ranked(int(index), float(scores[index]), float(wide[index])) for index in order]
