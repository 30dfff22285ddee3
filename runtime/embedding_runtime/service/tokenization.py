"""Text to tokens, as the recipe says, whatever truncation and padding the repository's tokenizer.json came
with.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer, normalizers

from embedding_runtime.engine.backend import Tokens
from embedding_runtime.errors import (
    CorruptModelError,
    InputTooLongError,
    InvalidRequestError,
    QueryTooLongError,
    RequestTooLargeError,
)
from embedding_runtime.model.judging import Judge
from embedding_runtime.model.recipe import Recipe, Side
from embedding_runtime.service.answers import Piece
from embedding_runtime.service.queries import Truncate
from embedding_runtime.service.questions import Questions

# The library's encodings take some 400 bytes a token, and hold all of a text, also what is cut off. So texts
# are encoded some at a time, and of a text that is far too long only as much as settles what is kept.
_CHARACTERS_AT_A_TIME = 262_144
_CHARACTERS_PER_TOKEN = 16
_GROWTH = 8
# Of which all tokens can be told: each takes a few hundred bytes.
_MOST_CHARACTERS = 1_048_576
# Of which every tokenizer knows some part.
_ANY_WORDS = "0 a é 語"
# Tokens beyond the limit that show that the end of what was read cannot have moved what is kept.
_MARGIN = 128


class Tokenization:
    """One model's tokenizer. Thread-safe: what is made later is made twice at worst."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._whole = _read(path, lower_case=recipe.lower_case)
        self._cutting = {recipe.truncation_side: self._cut_on(self._whole, recipe.truncation_side)}

    @cached_property
    def _measuring(self) -> Tokenizer:
        """Cuts nothing."""
        return self._again()

    def _again(self) -> Tokenizer:
        """Another tokenizer of the same vocabulary, which may take hundreds of megabytes and a second to
        read.
        """
        own = self._whole
        again = Tokenizer(own.model)
        again.normalizer, again.pre_tokenizer = own.normalizer, own.pre_tokenizer
        again.post_processor = own.post_processor
        again.add_tokens(list(own.get_added_tokens_decoder().values()))
        again.encode_special_tokens = own.encode_special_tokens
        return again

    def _cut_on(self, tokenizer: Tokenizer, side: Side) -> Tokenizer:
        strategy = "longest_first" if self._recipe.task == "embed" else "only_second"
        tokenizer.enable_truncation(self._recipe.max_tokens, strategy=strategy, direction=side)
        return tokenizer

    def _cutter(self, side: Side) -> Tokenizer:
        if side not in self._cutting:
            self._cutting[side] = self._cut_on(self._again(), side)
        return self._cutting[side]

    def _side(self, truncate: Truncate) -> Side:
        return truncate if truncate in ("left", "right") else self._recipe.truncation_side

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, truncate: Truncate = "model"
    ) -> list[Tokens]:
        """One Tokens per text, special tokens included, cut to the model's limit.

        `prompt` goes in front of each text; None is the recipe's. Raises InputTooLongError, where nothing is
        to be cut.
        """
        front = self._recipe.prompt if prompt is None else prompt
        unpooled = 0 if self._recipe.pools_prompt or not front else self._leading(front)
        side = self._side(truncate)
        tokens: list[Tokens] = []
        for some in _portions(texts):
            whole = [front + text for text in some]
            read = self._settling(whole, side)
            for encoding, text in zip(self._cutter(side).encode_batch_fast(read), whole, strict=True):
                if encoding.overflowing and truncate == "never":
                    raise self._too_long(f"input.{len(tokens)}", self._length(text))
                tokens.append(_tokens(encoding, typed=self._typed, unpooled=unpooled))
        return tokens

    def _leading(self, prompt: str) -> int:
        """The tokens that a prompt takes, special ones in front included: counted as sentence-transformers
        does, of the prompt alone without what closes a text.
        """
        (found,) = self._measuring.encode_batch([prompt])
        closes = bool(found.special_tokens_mask and found.special_tokens_mask[-1])
        return min(len(found), self._recipe.max_tokens) - closes

    def given(self, inputs: Sequence[Sequence[int]], *, truncate: Truncate = "model") -> list[Tokens]:
        """One Tokens per list of the model's own token ids, which go into the model as they are, but for what
        is cut off.

        Raises InvalidRequestError for an id that the vocabulary does not have, InputTooLongError.
        """
        most = self._recipe.max_tokens
        tokens: list[Tokens] = []
        for at, ids in enumerate(inputs):
            self._check_ids(ids, f"input.{at}")
            if len(ids) > most and truncate == "never":
                raise self._too_long(f"input.{at}", f"{len(ids)}")
            kept = ids[-most:] if self._side(truncate) == "left" else ids[:most]
            tokens.append(Tokens(np.asarray(kept, dtype=np.int32)))
        return tokens

    def _check_ids(self, ids: Sequence[int], param: str) -> None:
        known = self._whole.get_vocab_size(with_added_tokens=True)
        strange = next((each for each in ids if not 0 <= each < known), None)
        if strange is not None:
            raise InvalidRequestError(
                f"{param} has the token id {strange}; the model's are 0 to {known - 1}", param=param
            )

    def pieces(self, texts: Sequence[str], *, prompt: str = "", special: bool = True) -> list[list[Piece]]:
        """The tokens of each text, nothing cut off; `special`: those too that the model wants around it.

        Raises RequestTooLargeError.
        """
        if sum(map(len, texts)) > _MOST_CHARACTERS:
            raise RequestTooLargeError(f"the texts have more than {_MOST_CHARACTERS} characters together")
        whole = [prompt + text for text in texts]
        found = self._measuring.encode_batch(whole, add_special_tokens=special)
        return [_pieces(encoding, text) for encoding, text in zip(found, whole, strict=True)]

    def decoded(self, inputs: Sequence[Sequence[int]], *, special: bool) -> list[str]:
        """The text of each list of the model's own token ids; `special`: with special tokens.

        Raises InvalidRequestError for an id that the vocabulary does not have.
        """
        for at, ids in enumerate(inputs):
            self._check_ids(ids, f"ids.{at}")
        return self._measuring.decode_batch([list(ids) for ids in inputs], skip_special_tokens=not special)

    def pairs(self, query: str, documents: Sequence[str], *, truncate: Truncate = "model") -> list[Tokens]:
        """One Tokens per (query, document); the document is cut to the model's limit, the query never.

        Raises QueryTooLongError when the query leaves no room for a single token of a document,
        InputTooLongError where nothing is to be cut.
        """
        if self._recipe.judge:
            return self._questions(self._recipe.judge, query, documents, truncate)
        if len(query) > self._query_room:
            (beginning,) = self._settling([query], "right")
            self._check_query(query, self._size(beginning, special=False))
        side = self._side(truncate)
        tokens: list[Tokens] = []
        for some in _portions(documents, len(query)):
            read = self._settling(some, side)
            for encoding, text in zip(self._encoded(query, read, side), some, strict=True):
                # Only a pair that fills the window can hold a query that does.
                if len(encoding) >= self._recipe.max_tokens:
                    self._check_query(query, encoding.sequence_ids.count(0))
                if encoding.overflowing and truncate == "never":
                    raise self._too_long(f"documents.{len(tokens)}", self._length(text, query))
                tokens.append(_tokens(encoding, typed=True))
        return tokens

    def _questions(
        self, judge: Judge, query: str, documents: Sequence[str], truncate: Truncate
    ) -> list[Tokens]:
        """`pairs` for a reranker that is a language model."""
        most, without = self._recipe.max_tokens, Questions(judge, "", self._ids)
        room = most - without.front - without.behind
        (beginning,) = self._settling([query], "right")
        if self._size(beginning, special=False) >= room:
            raise self._query_too_long(self._length(query, special=False), room)
        questions = Questions(judge, query, self._ids)
        tokens: list[Tokens] = []
        for some in _portions(documents, len(query)):
            read = self._settling(some, self._side(truncate))
            for found, size in questions.tokens(read, most, self._side(truncate)):
                if size > most and truncate == "never":
                    raise self._too_long(f"documents.{len(tokens)}", f"{size}")
                tokens.append(found)
        return tokens

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._measuring.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    @cached_property
    def _typed(self) -> bool:
        """Whether the tokens of a single text have types other than 0.

        A tokenizer's template settles them, whatever the text; reading them for each costs a quarter of the
        tokenising.
        """
        return any(self._whole.encode(_ANY_WORDS).type_ids)

    def _encoded(self, query: str, documents: Sequence[str], side: Side) -> list[Encoding]:
        try:
            return self._cutter(side).encode_batch_fast([(query, document) for document in documents])
        except Exception:  # the library raises bare Exception, also where a query leaves nothing to cut
            self._check_query(query, self._size(query, special=False))
            raise

    def _settling(self, texts: Sequence[str], side: Side) -> list[str]:
        """Of each text as much as settles which of its tokens are kept, where it is cut on a side."""
        read = list(texts)
        size = _CHARACTERS_PER_TOKEN * self._recipe.max_tokens
        unsettled = [index for index, text in enumerate(texts) if len(text) > size]
        while unsettled:
            part_of = slice(size) if side == "right" else slice(-size, None)
            parts = [texts[index][part_of] for index in unsettled]
            enough = self._recipe.max_tokens + _MARGIN
            longer = []
            for index, part, found in zip(
                unsettled, parts, self._measuring.encode_batch_fast(parts), strict=True
            ):
                if len(found) >= enough:
                    read[index] = part
                elif len(texts[index]) > size * _GROWTH:
                    longer.append(index)
            unsettled, size = longer, size * _GROWTH
        return read

    def _size(self, text: str, query: str | None = None, *, special: bool = True) -> int:
        """The tokens of a text, or of a pair.

        As a batch of one, since the library's `encode` holds Python's lock: a second for each megabyte.
        """
        asked = text if query is None else (query, text)
        (found,) = self._measuring.encode_batch_fast([asked], add_special_tokens=special)
        return len(found)

    @property
    def _query_room(self) -> int:
        return self._recipe.max_tokens - self._whole.num_special_tokens_to_add(is_pair=True)

    def _check_query(self, query: str, size: int) -> None:
        room = self._query_room
        if size >= room:
            raise self._query_too_long(self._length(query, special=False), room)

    def _query_too_long(self, size: str, room: int) -> QueryTooLongError:
        return QueryTooLongError(
            f"the query has {size} tokens; {room - 1} is the most that leaves room for a document",
            param="query",
        )

    def _length(self, text: str, query: str | None = None, *, special: bool = True) -> str:
        """The tokens of a text, or of a pair, for a message; of an enormous text the least that it has."""
        part = text if len(text) <= _CHARACTERS_AT_A_TIME else self._settling([text], "right")[0]
        size = self._size(part, query, special=special)
        return f"{size}" if len(part) == len(text) else f"at least {size}"

    def _too_long(self, param: str, size: str) -> InputTooLongError:
        with_query = " with the query" if self._recipe.task == "rerank" else ""
        return InputTooLongError(
            f"{param} has {size} tokens{with_query}; the model takes {self._recipe.max_tokens}, special "
            "tokens included, and truncate is false",
            param=param,
        )


def _read(path: Path, *, lower_case: bool) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CorruptModelError(f"{path.name} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lower_case:  # as sentence-transformers has it since 6.0: special tokens in a text stay what they are
        own = tokenizer.normalizer
        lower = normalizers.Lowercase()
        tokenizer.normalizer = normalizers.Sequence([lower] if own is None else [lower, own])
    return tokenizer


def _portions(texts: Sequence[str], beside: int = 0) -> Iterator[Sequence[str]]:
    """The texts, some at a time; `beside`: characters that are encoded together with each."""
    start = size = 0
    for at, text in enumerate(texts):
        size += len(text) + beside
        if size >= _CHARACTERS_AT_A_TIME:
            yield texts[start : at + 1]
            start, size = at + 1, 0
    if start < len(texts):
        yield texts[start:]


def _tokens(encoding: Encoding, *, typed: bool, unpooled: int = 0) -> Tokens:
    types = np.asarray(encoding.type_ids, dtype=np.uint8) if typed else None
    ids = np.asarray(encoding.ids, dtype=np.int32)
    return Tokens(ids, types if types is not None and types.any() else None, min(unpooled, len(ids)))


def _pieces(encoding: Encoding, text: str) -> list[Piece]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Piece(each, token, True) if special else Piece(each, text[start:stop], False, start, stop)
        for each, token, special, (start, stop) in parts
    ]
