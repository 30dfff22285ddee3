"""What the HTTP routes ask for: embeddings of texts, documents scored for a query, and how the server is."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.errors import TooManyInputsError
from embedding_runtime.service.catalogue import Catalogue, ready_card
from embedding_runtime.service.client import EngineClient
from embedding_runtime.service.configured import configured_models
from embedding_runtime.service.state import EngineState, ModelCard
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import ServeSettings, Task

# Below this many characters tokenising takes less time than handing it to a thread and back.
_INLINE_CHARACTERS = 2_000


@dataclass(frozen=True)
class Embeddings:
    """`rows` float32 [n, dimensions] in the order of the texts; `tokens` that went through the model."""

    card: ModelCard
    rows: Float32
    tokens: int


@dataclass(frozen=True)
class Ranking:
    """(index of the document, score between 0 and 1), best first."""

    card: ModelCard
    ranked: list[tuple[int, float]]
    tokens: int


@dataclass(frozen=True)
class Health:
    """`status` is ready, loading or failed; `reason` and `message` say what it is that is missing."""

    status: str
    reason: str
    message: str
    cards: tuple[ModelCard, ...]


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

    async def embed(self, texts: Sequence[str], model: str | None) -> Embeddings:
        """Embed texts.

        Raises RequestError and ServingError.
        """
        slot, card, tokenization = await self._model(model, "embed", len(texts), "input")
        tokens = await _tokenize(lambda: tokenization.embed(texts), sum(map(len, texts)))
        rows = await self._client.submit(slot, tokens)
        return Embeddings(card, rows, sum(map(len, tokens)))

    async def rerank(self, query: str, documents: Sequence[str], model: str | None) -> Ranking:
        """Score every document for the query.

        Raises RequestError and ServingError.
        """
        slot, card, tokenization = await self._model(model, "rerank", len(documents), "documents")
        characters = len(query) * len(documents) + sum(map(len, documents))
        tokens = await _tokenize(lambda: tokenization.pairs(query, documents), characters)
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
                return Health("failed", getattr(error, "code", "InternalError"), str(error), cards)
        return Health("ready", "", "", cards)

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


def ranked(logits: Float32) -> list[tuple[int, float]]:
    """(index, sigmoid of the logit), best first; equal scores keep the documents' order."""
    wide = logits.astype(np.float64)
    # The two branches of the stable form: neither ever takes the exponential of a large positive number.
    small = np.exp(-np.abs(wide))
    scores = np.where(wide >= 0, 1 / (1 + small), small / (1 + small))
    order = np.argsort(-wide, kind="stable")
    return [(int(index), float(scores[index])) for index in order]
