"""From texts to rows: whatever texts, sizes of requests and limits, each text gets its own row."""

import queue
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.errors import RuntimeFault
from embedding_runtime.service import wire
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.policy.admission import Bounds
from embedding_runtime.service.policy.window import Limits
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.service.wire import Rows
from tests.unit.runtime import made
from tests.unit.runtime.fakes import COSTS, FakeBackend, recipe

MAX_TOKENS = 16
HEADER_BYTES = 20

_words = st.lists(st.sampled_from(made.WORDS), max_size=40).map(" ".join)
_requests = st.lists(st.lists(_words | st.text(max_size=30), min_size=1, max_size=12), min_size=1, max_size=6)


_Answers = queue.Queue[tuple[int, Rows | RuntimeFault]]


def _put(answers: _Answers, number: int, answer: Rows | RuntimeFault) -> None:
    answers.put((number, answer))


@pytest.fixture(scope="module")
def tokenization(tmp_path_factory: pytest.TempPathFactory) -> Tokenization:
    folder: Path = made.write_embedder(tmp_path_factory.mktemp("tokenizer"))
    return Tokenization(folder / "tokenizer.json", recipe("embed"))


@given(
    requests=_requests,
    batch_tokens=st.integers(min_value=1, max_value=100),
    batch_texts=st.integers(min_value=1, max_value=10),
)
def test_every_text_gets_the_row_that_it_has_alone(
    tokenization: Tokenization, requests: list[list[str]], batch_tokens: int, batch_texts: int
) -> None:
    backend, answers = FakeBackend(), _Answers()
    compute = Compute(Bounds(1_000_000, 60))
    compute.open(0, backend, COSTS, Limits(batch_tokens, batch_texts), "org/embedder")
    for number, texts in enumerate(requests):
        # As between the processes: over the wire and back.
        frame = wire.submit(0, number, tokenization.embed(texts), "bulk")
        submitted, priority, _ = wire.parse_submit(frame[HEADER_BYTES:])
        compute.submit(0, submitted, priority, partial(_put, answers, number))
    compute.start()
    got = dict(answers.get(timeout=10) for _ in requests)
    compute.stop()
    compute.join(10)
    for number, texts in enumerate(requests):
        rows = got[number]
        assert isinstance(rows, Rows)
        alone = [tokenization.embed([text])[0] for text in texts]
        assert all(2 <= len(text) <= MAX_TOKENS for text in alone)
        np.testing.assert_array_equal(rows.values[:, 0], [text.ids.sum() for text in alone])
    for batch in backend.batches:
        assert len(batch) <= batch_texts
        assert len(batch) == 1 or len(batch) * max(batch) <= batch_tokens
