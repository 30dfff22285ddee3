"""Keeps the resource's own claim as the spec wants it: makes it, grows it, and says what cannot be changed.

How large it is to be is sizing's, what a claim looks like is resources.cache's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator import naming
from embedding_operator.api import Body, Key
from embedding_operator.cache import sizing, volumes
from embedding_operator.cache.sizing import Size
from embedding_operator.errors import ForbiddenError, RejectedError
from embedding_operator.health import pods
from embedding_operator.observed import Observed
from embedding_operator.resources import cache
from embedding_operator.writer import Writer

ASK_AGAIN = timedelta(minutes=10)
"""How long a refusal to grow stands: the class may allow it by then, but is not asked at every look."""


@dataclass(frozen=True)
class _Refusal:
    claim: str
    size: str
    words: str
    until: datetime


class Claimer:
    """Applies the claims of all resources. What it keeps saves requests that would be refused again."""

    def __init__(self) -> None:
        self._refused: dict[Key, _Refusal] = {}

    def forget(self, key: Key) -> None:
        """Drops what is kept for a resource that is gone."""
        self._refused.pop(key, None)

    async def apply(self, seen: Observed, size: Size, writer: Writer, now: datetime) -> str:
        """Applies the claim of the wanted source and returns what is to be said about it, mostly nothing.

        Raises as Writer.ensure does, but not where a claim that is there may not grow: that is no reason to
        stop serving.
        """
        body = seen.claims.get(naming.claim(seen.em))
        grown = await self._grow(seen, size, body, writer, now)
        return ". ".join(words for words in (volumes.succession(seen), grown) if words)

    async def _grow(
        self, seen: Observed, size: Size, body: Body | None, writer: Writer, now: datetime
    ) -> str:
        known = self._refused.get(seen.em.key)
        if body is None or known is None or not _stands(known, body, size, now):
            self._refused.pop(seen.em.key, None)
            try:
                await writer.ensure(cache.claim(seen.em, size), body)
            except (ForbiddenError, RejectedError) as error:
                if body is None:
                    raise
                words = pods.clip(error.message)
                known = _Refusal(body["metadata"]["uid"], size.quantity, words, now + ASK_AGAIN)
                self._refused[seen.em.key] = known
            else:
                return sizing.growing(body) if body is not None else ""
        own = sizing.own(body)
        # what else is wanted of it does not wait for the size
        await writer.ensure(cache.claim(seen.em, own), body)
        return (
            f"The claim keeps its size, {own.quantity}: {known.words.rstrip('. ')}. Another "
            "spec.cache.storageClassName makes another claim"
        )


def _stands(known: _Refusal, claim: Body, size: Size, now: datetime) -> bool:
    return (known.claim, known.size) == (claim["metadata"]["uid"], size.quantity) and now < known.until
