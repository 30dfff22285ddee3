"""The texts that benchmarks send: the prose of Python's reference manual, which every interpreter carries.

`pydoc_data.topics` is what `help("...")` shows, generated from the manual's sources; it comes with Python and
under Python's licence (PSF-2.0), so nothing is fetched and nothing is kept here. Its paragraphs are about as
long as those of other documentation: 50 tokens at the mean, 39 at the median, 126 at the 95th percentile for
all-MiniLM-L6-v2. Another Python has another manual: results name the digest of what was sent.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tokenizers import Tokenizer

SOURCE = "prose paragraphs of the Python reference manual (pydoc_data.topics, PSF-2.0)"
LONGEST_TOKENS = 250
"""Longer paragraphs are left out: models cut at 256, and each server would cut at another place."""

_SHORTEST_CHARACTERS = 20
_SENTENCE = re.compile(r"[a-z]{3,}.*[.:!?)\"]$")
_CODE = ("#", "+-", "|")


@dataclass(frozen=True)
class Texts:
    """Texts in an arbitrary but fixed order, and the number of tokens of each, special ones included."""

    texts: tuple[str, ...]
    lengths: tuple[int, ...]

    def first(self, count: int) -> Texts:
        """The first `count` texts. Raises ValueError where there are fewer."""
        if count > len(self.texts):
            raise ValueError(f"the corpus has {len(self.texts)} texts, not {count}")
        return Texts(self.texts[:count], self.lengths[:count])

    def described(self) -> dict[str, object]:
        """What results say about them."""
        lengths = np.array(self.lengths)
        return {
            "source": SOURCE,
            "sha256": hashlib.sha256("\0".join(self.texts).encode()).hexdigest()[:16],
            "texts": len(self.texts),
            "tokens": int(lengths.sum()),
            "tokens_mean": round(float(lengths.mean()), 1),
            "tokens_median": float(np.median(lengths)),
            "tokens_p95": float(np.percentile(lengths, 95)),
        }


def read(tokenizer: Path) -> Texts:
    """Every text that is short enough for the tokenizer of this file."""
    known = bare(tokenizer)
    texts = list(_paragraphs())
    lengths = [len(encoded.ids) for encoded in known.encode_batch(texts)]
    kept = [(text, length) for text, length in zip(texts, lengths, strict=True) if length <= LONGEST_TOKENS]
    random.Random(0).shuffle(kept)
    return Texts(tuple(text for text, _ in kept), tuple(length for _, length in kept))


def bare(tokenizer: Path) -> Tokenizer:
    """A repository's tokenizer, without the truncation and the padding that its file may ask for."""
    found = Tokenizer.from_file(str(tokenizer))
    found.no_truncation()
    found.no_padding()
    return found


def uniform(count: int, tokens: int) -> tuple[str, ...]:
    """Texts of one length: a word that BERT vocabularies have, again and again, and two special tokens."""
    return (" ".join(["fox"] * (tokens - 2)),) * count


@cache
def _paragraphs() -> Sequence[str]:
    found: dict[str, None] = {}
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            text = " ".join(block.split())
            prose = len(text) >= _SHORTEST_CHARACTERS and _SENTENCE.search(text)
            if prose and "::=" not in text and ">>>" not in text and not text.startswith(_CODE):
                found[text] = None
    return tuple(found)
