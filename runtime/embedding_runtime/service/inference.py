"""What the HTTP routes ask for: embeddings of texts, documents scored for a query, and how the server is."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.errors import TooManyInputsError
from embedding_runtime.service.answers import Embeddings, Health, Listed, Ranked, Ranking
from embedding_runtime.service.catalogue import Catalogue, ready_card
from embedding_runtime.service.client import EngineClient
from embedding_runtime.service.configured import configured_models
from embedding_runtime.service.prompts import prompt
from embedding_runtime.service.state import EngineState, ModelCard
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import ServeSettings, Task

# Below this many characters tokenising takes less time than handing it to a thread and back.
_INLINE_CHARACTERS = 2_000


class Inference:
    """One HTTP process's view of the server."""

    def __init__(self, settings: ServeSettings, socket_path: str) -> None:
        self._max_inputs = settings.max_inputs_per_request
        self.catalogue = Catalogue(configured_models(settings))
        self._client = EngineClient(socket_path, self._learn)
        self._tokenizers: dict[ModelCard, asyncio.Task[Tokenization]] = {}

    async def run(self) -> None:
        """Stay connected to the engine until cancelled."""
        await self._client.run()

    async def embed(
        self,
        texts: Sequence[str],
        model: str | None,
        *,
        truncate: bool = True,
        prompt_name: str | None = None,
        input_type: str | None = None,
    ) -> Embeddings:
        """Embed texts.

        Raises RequestError and ServingError.
        """
        slot, card, tokenization = await self._model(model, "embed", len(texts), "input")
        text = prompt(card.recipe, prompt_name, input_type)
        tokens = await _tokenize(
            lambda: tokenization.embed(texts, prompt=text, truncate=truncate), sum(map(len, texts))
        )
        rows = await self._client.submit(slot, tokens)
        return Embeddings(card, rows, sum(map(len, tokens)))

    async def rerank(
        self, query: str, documents: Sequence[str], model: str | None, *, truncate: bool = True
    ) -> Ranking:
        """Score every document for the query.

        Raises RequestError and ServingError.
        """
        slot, card, tokenization = await self._model(model, "rerank", len(documents), "documents")
        characters = len(query) * len(documents) + sum(map(len, documents))
        tokens = await _tokenize(lambda: tokenization.pairs(query, documents, truncate=truncate), characters)
        logits = await self._client.submit(slot, tokens)
        return Ranking(card, ranked(logits[:, 0]), sum(map(len, tokens)))

    def health(self) -> Health:
        """Whether every configured model can answer now, and if not, why."""
        state = self._client.state
        if state is None:
            return Health(
                "loading", "EngineUnavailable", "the engine process is starting or being restarted", ()
            )
        cards = tuple(model.card for model in state.models if model.card)
        if worst := state.worst:
            message = worst.message or f"{worst.id} is loading"
            return Health(worst.state, worst.reason, message, cards)
        for card in cards:
            task = self._tokenizers[card]
            if not task.done():
                return Health("loading", "Loading", f"the tokenizer of {card.id} is loading", cards)
            if not task.cancelled() and (error := task.exception()):
                return Health("load_failed", getattr(error, "code", "InternalError"), str(error), cards)
        return Health("ready", "", "", cards)

    async def models(self) -> list[Listed]:
        """What a request may name now, default models first."""
        return [
            Listed(card.id, (), card.recipe.task, "ready", True, card=card) for card in self.health().cards
        ]

    def label(self, name: str | None, task: Task) -> str:
        """The model's id for a metric, `unknown` for a name that is not served: clients choose no labels."""
        return self.catalogue.label(name, task)

    async def _model(
        self, name: str | None, task: Task, count: int, param: str
    ) -> tuple[int, ModelCard, Tokenization]:
        slot = self.catalogue.slot(name, task, self._client.state)
        if count > self._max_inputs:
            raise TooManyInputsError(
                f"{param} has {count} entries; one request may hold {self._max_inputs}", param=param
            )
        card = ready_card(slot, self._client.state)
        return slot, card, await asyncio.shield(self._tokenizers[card])

    def _learn(self, state: EngineState) -> None:
        """Start reading the tokenizer of every model that became ready."""
        for model in state.models:
            if model.card and model.card not in self._tokenizers:
                card = model.card
                reading = asyncio.to_thread(Tokenization, card.tokenizer_path, card.recipe)
                self._tokenizers[card] = asyncio.create_task(reading)


async def _tokenize(call: Callable[[], list[Tokens]], characters: int) -> list[Tokens]:
    return call() if characters < _INLINE_CHARACTERS else await asyncio.to_thread(call)


def ranked(logits: Float32) -> list[Ranked]:
    """The documents by the sigmoid of their logits, best first; equal scores keep the documents' order."""
    wide = logits.astype(np.float64)
    # The two branches of the stable form: neither ever takes the exponential of a large positive number.
    small = np.exp(-np.abs(wide))
    scores = np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    order = np.argsort(-wide, kind="stable")
    return [Ranked(int(index), float(scores[index]), float(wide[index])) for index in order]
