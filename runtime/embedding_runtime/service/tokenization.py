"""Text to tokens, as the recipe says, whatever truncation and padding the repository's tokenizer.json came
with.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from embedding_runtime.engine.backend import Tokens
from embedding_runtime.errors import CorruptModelError, QueryTooLongError
from embedding_runtime.model.recipe import Recipe


class Tokenization:
    """One model's tokenizer. Thread-safe: nothing changes after it is made."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._cutting = _read(path)
        if recipe.task == "embed":
            self._cutting.enable_truncation(recipe.max_tokens)
        else:
            self._cutting.enable_truncation(recipe.max_tokens, strategy="only_second")
            # A tokenizer is some megabytes: only rerankers need one that measures queries without cutting
            # them.
            self._measuring = _read(path)

    def embed(self, texts: Sequence[str]) -> list[Tokens]:
        """One Tokens per text, special tokens included, cut to the model's limit."""
        return [
            _tokens(encoding) for encoding in self._cutting.encode_batch_fast([*map(self._prepared, texts)])
        ]

    def pairs(self, query: str, documents: Sequence[str]) -> list[Tokens]:
        """One Tokens per (query, document); the document is cut to the model's limit, the query never.

        Raises QueryTooLongError when the query leaves no room for a single token of a document.
        """
        size = len(self._measuring.encode(query, add_special_tokens=False))
        room = self._recipe.max_tokens - self._measuring.num_special_tokens_to_add(is_pair=True)
        if size >= room:
            raise QueryTooLongError(
                f"the query has {size} tokens; {room - 1} is the most that leaves room for a document",
                param="query",
            )
        pairs = [(query, document) for document in documents]
        return [_tokens(encoding) for encoding in self._cutting.encode_batch_fast(pairs)]

    def _prepared(self, text: str) -> str:
        # In the order of sentence-transformers: prompt in front, then strip, then lower case.
        text = (self._recipe.prompt + text).strip()
        return text.lower() if self._recipe.lower_case else text


def _read(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CorruptModelError(f"{path.name} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokens(encoding: Encoding) -> Tokens:
    types = np.asarray(encoding.type_ids, dtype=np.uint8)
    return Tokens(np.asarray(encoding.ids, dtype=np.int32), types if types.any() else None)
