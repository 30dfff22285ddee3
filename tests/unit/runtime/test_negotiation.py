"""What clients really send in Accept and Accept-Encoding, and what they get."""

import pytest

from embedding_runtime.api.negotiation import coding, media_type

_FORMS = {b"application/json": "json", b"application/octet-stream": "octets", b"x/arrow": "arrow"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", "json"),
        (b"*/*", "json"),
        (b"application/json", "json"),
        (b"text/html, application/xhtml+xml, */*;q=0.8", "json"),
        (b"application/octet-stream", "octets"),
        (b"APPLICATION/Octet-Stream ; q=0.5", "octets"),
        (b"application/octet-stream, */*", "octets"),
        (b"*/*, application/octet-stream", "octets"),
        (b"*/*, application/octet-stream;q=0.9", "json"),
        (b"application/json, application/octet-stream", "json"),
        (b"application/octet-stream, application/json", "octets"),
        (b"application/json;q=0.1, x/arrow;q=0.2", "arrow"),
        (b"application/octet-stream;q=0", "json"),
        (b"application/octet-stream;q=nan, x/arrow;q=x", "json"),
        (b"application/octet-stream;q=2", "json"),
        (b"text/csv", "json"),
        (b",;,;q=1,", "json"),
    ],
)
def test_the_form_is_the_one_that_is_preferred(header: bytes, expected: str) -> None:
    assert media_type(header, _FORMS) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", None),
        (b"identity", None),
        (b"deflate, br", None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip;q=1.0, zstd;q=0.5", b"gzip"),
        (b"gzip;q=0, zstd;q=0", None),
        (b"*", b"zstd"),
        (b"zstd;q=0, *", b"gzip"),
        (b"*;q=0", None),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"gzip, identity;q=0.5", b"gzip"),
        (b"gzip;q=1;q=0", b"gzip"),
    ],
)
def test_the_coding_is_the_one_that_is_preferred(header: bytes, expected: bytes | None) -> None:
    assert coding(header, (b"zstd", b"gzip")) == expected
