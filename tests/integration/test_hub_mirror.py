"""The hub mirror answers the real hub client as the hub does."""

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from e2e.mirror.server import LFS_BYTES, Mirror

MODEL = "acme/tiny"
COMMIT = "0" * 40
LARGE = bytes(range(256)) * (LFS_BYTES // 256 + 7)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "repositories" / MODEL
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "onnx" / "model.onnx").write_bytes(LARGE)
    mirror = Mirror(("127.0.0.1", 0), tmp_path / "repositories")
    thread = Thread(target=mirror.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{mirror.server_port}"
    mirror.shutdown()
    mirror.server_close()
    thread.join()


def test_information_names_the_commit_and_every_file(endpoint: str) -> None:
    info = HfApi(endpoint).model_info(MODEL)
    assert info.sha is not None
    assert len(info.sha) == 40
    assert [sibling.rfilename for sibling in info.siblings or []] == ["config.json", "onnx/model.onnx"]
    assert HfApi(endpoint).model_info(MODEL, revision=info.sha).sha == info.sha


def test_sizes_and_digests_are_told_where_asked_for(endpoint: str) -> None:
    config, weights = HfApi(endpoint).model_info(MODEL, files_metadata=True).siblings or []
    assert (config.size, config.lfs) == (2, None)
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert weights.size == weights.lfs.size == len(LARGE)


def test_a_snapshot_has_the_same_bytes_in_the_clients_own_cache_layout(endpoint: str, tmp_path: Path) -> None:
    folder = Path(snapshot_download(MODEL, endpoint=endpoint, cache_dir=tmp_path / "cache"))
    large = folder / "onnx" / "model.onnx"
    assert large.read_bytes() == LARGE
    assert large.resolve().name == hashlib.sha256(LARGE).hexdigest()
    assert (folder / "config.json").read_text() == "{}"
    assert folder.name == HfApi(endpoint).model_info(MODEL).sha


def test_an_interrupted_download_goes_on_where_it_stopped(endpoint: str, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(LARGE).hexdigest()
    request = urllib.request.Request(f"{endpoint}/blobs/{COMMIT}/{sha256}", headers={"Range": "bytes=1000-"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes 1000-{len(LARGE) - 1}/{len(LARGE)}"
        assert answer.read() == LARGE[1000:]


@pytest.mark.parametrize(
    ("repository", "revision", "file", "error"),
    [
        ("acme/absent", "main", "config.json", RepositoryNotFoundError),
        (MODEL, "absent", "config.json", RevisionNotFoundError),
        (MODEL, "main", "absent.json", EntryNotFoundError),
    ],
)
def test_what_is_absent_is_told_apart(
    endpoint: str, tmp_path: Path, repository: str, revision: str, file: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        hf_hub_download(repository, file, revision=revision, endpoint=endpoint, cache_dir=tmp_path / "cache")
