"""What a reranker that is a language model reads: the question that a query and a document make."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from embedding_runtime.engine.backend import Tokens
from embedding_runtime.model.judging import Judge
from embedding_runtime.model.recipe import Side

Encode = Callable[[Sequence[str]], list[list[int]]]


class Questions:
    """The questions of one query; `encode` gives the token ids of texts, without special tokens of its own.

    `front` and `behind`: how many tokens there are before and behind a document, in which a document's first
    and last may have grown into theirs.
    """

    def __init__(self, judge: Judge, query: str, encode: Encode) -> None:
        self._judge, self._encode = judge, encode
        self._start = f"{judge.before}{query}{judge.between}"
        self._front, self._behind = encode([self._start, judge.behind])
        self.front, self.behind = len(self._front), len(self._behind)

    def tokens(self, documents: Sequence[str], most: int, side: Side) -> Iterator[tuple[Tokens, int]]:
        """For each document its question, of which the document is cut on a side to so many tokens in all;
        and how many there were.
        """
        texts = [f"{self._start}{document}{self._judge.behind}" for document in documents]
        for ids in self._encode(texts):
            kept = ids
            if len(ids) > most and side == "right":
                kept = ids[: most - self.behind] + self._behind
            elif len(ids) > most:
                kept = self._front + ids[len(ids) - (most - self.front) :]
            yield Tokens(np.array(kept, dtype=np.int32)), len(ids)
