"""Compressed bodies and answers; the reference is the standard library's gzip, and zstd's own."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime import errors
from embedding_runtime.api.codings import compressed, decoded
from tests.unit.runtime.asking import FakeInference, ask

MOST = 100_000
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstd.compress,
    " GZip ": gzip.compress,
}


def _decoded(body: bytes, coding: str) -> bytes:
    return asyncio.run(decoded(body, {b"content-encoding": coding.encode()}, MOST))


@pytest.mark.parametrize("coding", WRITERS)
@given(parts=st.lists(st.binary(max_size=2_000), min_size=1, max_size=5))
def test_what_was_compressed_is_read(coding: str, parts: list[bytes]) -> None:
    body = b"".join(WRITERS[coding](part) for part in parts)
    assert _decoded(body, coding) == b"".join(parts)


@pytest.mark.parametrize("coding", ["", "identity", "identity, identity"])
def test_what_is_not_compressed_is_left_alone(coding: str) -> None:
    assert _decoded(b"{}", coding) == b"{}"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger(coding: str) -> None:
    assert _decoded(WRITERS[coding](b"a" * MOST), coding) == b"a" * MOST
    bomb = WRITERS[coding](b"a" * 50_000_000)
    assert len(bomb) < MOST
    for body in (WRITERS[coding](b"a" * (MOST + 1)), WRITERS[coding](b"a" * 60_000) * 2, bomb):
        with pytest.raises(errors.RequestTooLargeError, match=f"{MOST} bytes"):
            _decoded(body, coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda whole: b"", "too early"),
        (lambda whole: whole[:-3], "too early"),
        (lambda whole: b'{"input": "a"}', "not (gzip|zstd)"),
        (lambda whole: whole + b'{"input": "a"}', "not (gzip|zstd)"),
        (lambda whole: whole * 300, "256"),
    ],
)
def test_what_is_broken_is_told(coding: str, made: Any, words: str) -> None:
    with pytest.raises(errors.MalformedRequestError, match=words):
        _decoded(made(WRITERS[coding](b"")), coding)


def test_a_damaged_body_is_told() -> None:
    whole = gzip.compress(b"abc" * 100)
    with pytest.raises(errors.MalformedRequestError, match="checksum"):
        _decoded(whole[:-8] + b"\0" * 4 + whole[-4:], "gzip")


def test_a_frame_that_wants_more_memory_than_the_standard_allows_is_refused() -> None:
    writer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(errors.MalformedRequestError, match="memory"):
        _decoded(writer.compress(b"a" * 1000) + writer.flush(), "zstd")


@pytest.mark.parametrize("coding", ["br", "deflate", "compress", "gzip, zstd", "x", "\xff"])
def test_an_unknown_coding_is_415_and_says_which_are_known(coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding.encode("latin-1")}
    answer = ask("POST", "/embed", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "zstd, gzip"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("UnsupportedEncoding", "Content-Encoding")


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_requests_and_answers_go_compressed(coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    body = WRITERS[coding](b'{"query": "q", "documents": ["' + b"word " * 300 + b'"]}')
    answer = ask(
        "POST",
        "/rerank",
        content=body,
        headers={**headers, "Accept-Encoding": coding},
        settings={"max_request_bytes": 4000},
    )
    assert answer.status_code == 200
    assert answer.headers["Content-Encoding"] == coding
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert int(answer.headers["Content-Length"]) < 400
    # httpx reads gzip by itself, zstd only where another package is there.
    text = answer.json() if coding == "gzip" else zstd.decompress(answer.content)
    assert "word word" in str(text)


def test_a_body_that_unpacks_to_too_much_is_413() -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = ask("POST", "/embed", content=gzip.compress(b" " * 10_000_000), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "RequestTooLarge"


def test_small_answers_and_clients_that_ask_for_nothing_get_plain_bytes() -> None:
    assert "Content-Encoding" not in ask("POST", "/embed", json={"input": "a"}).headers
    answer = ask(
        "POST",
        "/embed",
        FakeInference(),
        json={"input": ["a"] * 300},
        headers={"Accept-Encoding": "identity"},
    )
    assert "Content-Encoding" not in answer.headers
    assert len(answer.json()["embeddings"]) == 300


@given(st.binary(max_size=10_000))
def test_what_is_compressed_can_be_read_again(body: bytes) -> None:
    for accepted in (b"gzip", b"zstd"):
        packed, coding = compressed(body, accepted)
        if coding is None:
            assert packed == body
            assert len(body) < 1_400
        else:
            assert coding == accepted
            assert _decoded(packed, coding.decode()) == body
