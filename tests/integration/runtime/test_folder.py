"""`prefetch` and `serve` over somebody's folder: nothing is fetched or written, and what is wrong is told."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.server import EMBEDDER, environment, run, serving
from tests.unit.runtime import made

NOBODY = 65534


def look(home: Path, folder: Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """Have a look at a folder as the operator's Job does: exit code and termination message."""
    message = home / "termination-log"
    base = environment(home, MODEL_ID=EMBEDDER, MODEL_PATH=str(folder), PREFETCH_RETRY_SECONDS="0")
    told = run("prefetch", base | {"TERMINATION_MESSAGE_PATH": str(message)} | variables)
    return told.returncode, json.loads(message.read_text())


def test_a_folder_is_read_where_it_is_and_served_with_the_fingerprint_that_was_found(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "folder")
    before = sorted(folder.rglob("*"))
    code, message = look(tmp_path, folder)
    assert (code, message["status"], message["model"], message["commit"]) == (0, "ok", EMBEDDER, "local")
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "hub").exists()
    entry = {"id": EMBEDDER, "path": str(folder)}
    (tmp_path / "models.json").write_text(json.dumps({"models": [entry]}))
    variables = environment(
        tmp_path,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        MODELS_CONFIG=str(tmp_path / "models.json"),
        EXPECTED_FINGERPRINT=message["fingerprint"],
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        assert server.client.post("/embed", json={"input": "cat", "model": EMBEDDER}).status_code == 200


def test_the_same_files_in_a_folder_and_through_links_have_one_fingerprint(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "folder")
    links = tmp_path / "links"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        link = links / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(path, link.parent))
    assert look(tmp_path, links)[1]["fingerprint"] == look(tmp_path, folder)[1]["fingerprint"]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_not_there_may_be_there_later(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    code, message = look(tmp_path, tmp_path / name)
    assert (code, message["error"]["class"], message["error"]["permanent"]) == (4, "FolderNotFound", False)
    assert str(tmp_path / name) in message["error"]["message"]


@pytest.mark.parametrize("closed", [".", "onnx", "config.json"])
def test_what_may_not_be_read_is_named(closed: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not read it")
    # not tmp_path, whose parents only root may enter
    with tempfile.TemporaryDirectory() as entered:
        Path(entered).chmod(0o755)
        folder = made.write_embedder(Path(entered) / "folder")
        (folder / closed).chmod(0)
        pid = os.fork()
        if pid == 0:
            os.setuid(NOBODY)
            os._exit(_told_unreadable(folder, folder / closed))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _told_unreadable(folder: Path, closed: Path) -> int:
    from embedding_runtime.errors import FolderUnreadableError
    from embedding_runtime.registry.cache import find_folder

    try:
        find_folder(folder, EMBEDDER, None)
    except FolderUnreadableError as error:
        return 0 if str(closed) in error.message and str(NOBODY) in error.message else 1
    return 2


def test_a_folder_without_a_model_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    code, message = look(tmp_path, tmp_path / "folder")
    assert (code, message["error"]["class"]) == (3, "UnsupportedModel")
