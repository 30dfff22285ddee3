"""The forms and codings of /embed from a real server, read by the clients' own libraries."""

import gzip
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.ipc
import pytest
from backports import zstd

from tests.integration.runtime.server import COMMIT, EMBEDDER, Server, environment, serving
from tests.unit.runtime import made

TEXTS = [" ".join(made.WORDS[: 1 + n % 10]) for n in range(700)]
_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server of one HTTP process."""
    home: Path = tmp_path_factory.mktemp("one")
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))
    with serving(environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER), home / "log") as running:
        running.wait_until("ready")
        yield running


def _expected(texts: list[str]) -> Any:
    return np.array([made.embedding(text) for text in texts])


@pytest.mark.parametrize("count", [1, 700])
def test_every_form_holds_the_same_vectors(server: Server, count: int) -> None:
    asked: dict[str, Any] = {"json": {"input": TEXTS[:count]}}
    plain = server.client.post("/embed", **asked)
    usage = plain.json()["usage"]["total_tokens"]
    rows = np.array(plain.json()["embeddings"], dtype=np.float32)
    np.testing.assert_allclose(rows, _expected(TEXTS[:count]), atol=1e-6)

    octets = server.client.post("/embed", **asked, headers={"Accept": "application/octet-stream"})
    assert struct.unpack_from("<4sIII", octets.content) == (b"EMB1", *rows.shape, usage)
    np.testing.assert_array_equal(np.frombuffer(octets.content, "<f4", offset=16), rows.reshape(-1))

    arrow = server.client.post("/embed", **asked, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = pyarrow.ipc.open_stream(io.BytesIO(arrow.content)).read_all()
    np.testing.assert_array_equal(table["embedding"].combine_chunks().flatten().to_numpy(), rows.reshape(-1))
    for answer in (plain, octets, arrow):
        assert answer.headers["X-Model"] == EMBEDDER
        assert answer.headers["X-Model-Fingerprint"] == table.schema.metadata[b"fingerprint"].decode()
        assert "encode;dur=" in answer.headers["Server-Timing"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_bodies_travel_compressed_both_ways(server: Server, coding: str, pack: Any) -> None:
    body = pack(b'{"input": ["' + b'", "'.join(text.encode() for text in TEXTS) + b'"]}')
    headers = {**_JSON, "Content-Encoding": coding, "Accept-Encoding": coding}
    answer = server.client.post("/embed", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Content-Encoding"] == coding
    plain = server.client.post("/embed", json={"input": TEXTS}, headers={"Accept-Encoding": "identity"})
    assert int(answer.headers["Content-Length"]) < len(plain.content) / 2
    # httpx unpacks gzip by itself, and zstd where it finds a package for it.
    unpacked = answer.content if answer.content == plain.content else zstd.decompress(answer.content)
    assert unpacked == plain.content


def test_a_bomb_is_refused_and_costs_no_memory_to_speak_of(server: Server) -> None:
    bomb = gzip.compress(b"0" * 1_000_000_000, 1)
    assert len(bomb) < 10_000_000
    answer = server.client.post("/embed", content=bomb, headers={**_JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 413
    for pid in server.workers():
        with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 400_000  # kB


def test_metrics_and_the_list_of_models_are_compressed_where_that_is_asked(server: Server) -> None:
    for path in ("/metrics", "/models?detail=true"):
        plain = server.client.get(path, headers={"Accept-Encoding": "identity"})
        packed = server.client.get(path, headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in plain.headers
        if len(plain.content) > 2_000:
            assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.status_code == 200
