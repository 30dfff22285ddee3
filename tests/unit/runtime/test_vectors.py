"""The forms of an answer with vectors, each read by somebody else's reader."""

import io
import json
import struct
import time
from collections.abc import Callable

import numpy as np
import pyarrow.ipc
import pytest

from embedding_runtime.api.vectors import ARROW, FORMS, OCTETS, as_json
from embedding_runtime.service.answers import Embeddings
from tests.unit.runtime.asking import EMBEDDER, ask

SHAPES = [(1, 1), (1, 384), (3, 4), (300, 384), (2048, 64), (2, 40_000)]


def _found(shape: tuple[int, int]) -> Embeddings:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    # not writable, as the wire hands them over
    return Embeddings(EMBEDDER, np.frombuffer(rows.tobytes(), dtype="<f4").reshape(shape), 77)


@pytest.mark.parametrize("shape", SHAPES)
def test_json_is_exact_however_it_is_cut(shape: tuple[int, int]) -> None:
    found = _found(shape)
    told = json.loads(as_json(found))
    assert list(told) == ["embeddings", "model", "usage"]
    assert (told["model"], told["usage"]) == ("org/embedder", {"total_tokens": 77})
    np.testing.assert_array_equal(np.array(told["embeddings"], dtype=np.float32), found.rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_octets_are_a_head_and_the_numbers(shape: tuple[int, int]) -> None:
    found = _found(shape)
    body = FORMS[OCTETS.encode()].encode(found)
    assert struct.unpack_from("<4sIII", body) == (b"EMB1", *shape, 77)
    np.testing.assert_array_equal(np.frombuffer(body, "<f4", offset=16).reshape(shape), found.rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_arrow_stream_is_one_column(shape: tuple[int, int]) -> None:
    found = _found(shape)
    table = pyarrow.ipc.open_stream(io.BytesIO(FORMS[ARROW.encode()].encode(found))).read_all()
    table.validate(full=True)
    assert table.schema.metadata == {
        b"model": b"org/embedder",
        b"fingerprint": b"f" * 64,
        b"total_tokens": b"77",
    }
    assert table.column_names == ["embedding"]
    rows = table["embedding"].combine_chunks().flatten().to_numpy().reshape(shape)
    np.testing.assert_array_equal(rows, found.rows)


def test_json_is_made_without_a_python_float_for_each_number() -> None:
    found = _found((256, 1024))
    naive = _least(lambda: json.dumps({"embeddings": found.rows.tolist()}))
    assert 5 * _least(lambda: as_json(found)) < naive


def _least(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        before = time.thread_time()
        work()
        taken.append(time.thread_time() - before)
    return min(taken)


def test_accept_chooses_the_form_and_an_error_is_json() -> None:
    expected = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    for accepted in (OCTETS, ARROW):
        answer = ask(
            "POST",
            "/embed",
            json={"input": ["a", "b"]},
            headers={"Accept": accepted, "Accept-Encoding": "gzip"},
        )
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == accepted
        assert answer.headers["X-Model"] == "org/embedder"
        assert "Content-Encoding" not in answer.headers
        refused = ask("POST", "/embed", json={"input": 7}, headers={"Accept": accepted})
        assert refused.json()["error"]["code"] == "InvalidRequest"
    octets = ask("POST", "/embed", json={"input": ["a", "b"]}, headers={"Accept": OCTETS}).content
    np.testing.assert_array_equal(np.frombuffer(octets, "<f4", offset=16).reshape(2, 4), expected)


def test_a_large_answer_is_made_off_the_event_loop_and_is_the_same() -> None:
    texts = ["a"] * 3000
    large = ask("POST", "/embed", json={"input": texts}, settings={"max_request_bytes": 1_000_000}).json()
    assert len(large["embeddings"]) == 3000
    assert large["embeddings"][2999] == [1499.5, 1499.625, 1499.75, 1499.875]
