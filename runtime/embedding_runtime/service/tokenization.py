"""Text to tokens, as the recipe says, whatever truncation and padding the repository's tokenizer.json came
with.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from embedding_runtime.engine.backend import Tokens
from embedding_runtime.errors import CorruptModelError, InputTooLongError, QueryTooLongError
from embedding_runtime.model.recipe import Recipe


class Tokenization:
    """One model's tokenizer. Thread-safe: what is made later is made twice at worst."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self._path, self._recipe = path, recipe
        self._cutting = _read(path)
        if recipe.task == "embed":
            self._cutting.enable_truncation(recipe.max_tokens)
        else:
            self._cutting.enable_truncation(recipe.max_tokens, strategy="only_second")

    @cached_property
    def _measuring(self) -> Tokenizer:
        """Cuts nothing. Some megabytes that only messages about lengths need."""
        return _read(self._path)

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, truncate: bool = True
    ) -> list[Tokens]:
        """One Tokens per text, special tokens included, cut to the model's limit.

        `prompt` goes in front of each text; None is the recipe's. Raises InputTooLongError, where nothing is
        to be cut.
        """
        prepared = [self._prepared(text, self._recipe.prompt if prompt is None else prompt) for text in texts]
        encodings = self._cutting.encode_batch_fast(prepared)
        if not truncate:
            for index, encoding in enumerate(encodings):
                if encoding.overflowing:
                    size = len(self._measuring.encode(prepared[index]))
                    raise self._too_long(f"input.{index}", size)
        return [_tokens(encoding) for encoding in encodings]

    def pairs(self, query: str, documents: Sequence[str], *, truncate: bool = True) -> list[Tokens]:
        """One Tokens per (query, document); the document is cut to the model's limit, the query never.

        Raises QueryTooLongError when the query leaves no room for a single token of a document,
        InputTooLongError where nothing is to be cut.
        """
        try:
            encodings = self._cutting.encode_batch_fast([(query, document) for document in documents])
        except Exception:  # the library raises bare Exception, also where a query leaves nothing to cut
            self._check_query(len(self._measuring.encode(query, add_special_tokens=False)))
            raise
        # Only a pair that fills the window can hold a query that does.
        full = next((pair for pair in encodings if len(pair) >= self._recipe.max_tokens), None)
        if full is not None:
            self._check_query(full.sequence_ids.count(0))
        if not truncate:
            for index, encoding in enumerate(encodings):
                if encoding.overflowing:
                    size = len(self._measuring.encode(query, documents[index]))
                    raise self._too_long(f"documents.{index}", size)
        return [_tokens(encoding) for encoding in encodings]

    def _check_query(self, size: int) -> None:
        room = self._recipe.max_tokens - self._cutting.num_special_tokens_to_add(is_pair=True)
        if size >= room:
            raise QueryTooLongError(
                f"the query has {size} tokens; {room - 1} is the most that leaves room for a document",
                param="query",
            )

    def _too_long(self, param: str, size: int) -> InputTooLongError:
        with_query = " with the query" if self._recipe.task == "rerank" else ""
        return InputTooLongError(
            f"{param} has {size} tokens{with_query}; the model takes {self._recipe.max_tokens}, special "
            "tokens included, and truncate is false",
            param=param,
        )

    def _prepared(self, text: str, prompt: str) -> str:
        # In the order of sentence-transformers: prompt in front, then strip, then lower case.
        text = (prompt + text).strip()
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
