"""The cache against a hub over HTTP that misbehaves: what is resumed, checked, refused and told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.integration.runtime.fetching import RUNTIME, prefetch, variables_for
from tests.integration.runtime.odd_hub import OddHandler, OddHub, odd_hub
from tests.integration.runtime.server import EMBEDDER, wait_for
from tests.unit.runtime import made

TOKEN = "hf_averysecrettoken"


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """One embedding model whose graph of more than a MiB is stored by its SHA-256, as large files are."""
    made.write_slow_to_run(tmp_path / "hub" / EMBEDDER, 1)
    return tmp_path / "hub"


@pytest.fixture
def hub(repositories: Path) -> Iterator[OddHub]:
    with odd_hub(repositories) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _repository(home: Path) -> Path:
    return home / "hub" / ("models--" + EMBEDDER.replace("/", "--"))


def _graph_blob(home: Path) -> Path:
    (graph,) = _repository(home).glob("snapshots/*/onnx/model.onnx")
    return graph.resolve()


def test_files_lie_as_every_hub_client_expects_them(home: Path, hub: OddHub) -> None:
    told = prefetch(home, hub)
    assert (told.code, told.result["status"]) == (0, "ok")
    repository = _repository(home)
    assert (repository / "refs/main").read_text() == told.result["commit"]
    links = [path for path in repository.glob("snapshots/*/**/*") if not path.is_dir()]
    assert all(path.is_symlink() and path.resolve().parent == repository / "blobs" for path in links)
    assert not list(repository.rglob("*.incomplete"))
    # The hub's own client finds it without a network.
    code = f"import huggingface_hub as h; print(h.hf_hub_download({EMBEDDER!r}, 'onnx/model.onnx'))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=variables_for(home, hub, HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).resolve() == _graph_blob(home)


def test_a_download_that_breaks_off_goes_on_where_it_ended(home: Path, hub: OddHub) -> None:
    broken: list[OddHandler] = []

    def once(handler: OddHandler) -> None:
        if not broken:
            broken.append(handler)
            hub.break_off(handler)

    hub.body_fault = once
    assert prefetch(home, hub).code == 0
    first, second = hub.bodies()
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={hub.half_bytes}-"


def _unfinished(blobs: Path) -> set[int]:
    """The sizes of the unfinished files, whichever are finished meanwhile."""
    sizes = set()
    for path in blobs.glob("*.incomplete"):
        with suppress(FileNotFoundError):
            sizes.add(path.stat().st_size)
    return sizes


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(home: Path, hub: OddHub) -> None:
    hub.body_fault = hub.stop_sending
    variables = variables_for(home, hub, HF_HUB_DOWNLOAD_TIMEOUT="60")
    process = subprocess.Popen([*RUNTIME, "prefetch", EMBEDDER], env=variables, stdout=subprocess.DEVNULL)
    blobs = _repository(home) / "blobs"
    try:
        wait_for(lambda: hub.half_bytes in _unfinished(blobs), "the half")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(_repository(home).glob("snapshots/*"))
    hub.body_fault = None
    assert prefetch(home, hub).code == 0
    assert hub.bodies()[-1].headers["range"] == f"bytes={hub.half_bytes}-"


def test_two_processes_fetch_each_file_once(home: Path, hub: OddHub) -> None:
    go = Event()
    hub.body_fault = lambda _: (go.wait(), None)[1]
    variables = variables_for(home, hub, HF_HUB_DOWNLOAD_TIMEOUT="60")
    command = [*RUNTIME, "prefetch", EMBEDDER]
    first = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)
    wait_for(lambda: bool(hub.bodies()), "the first download")
    second = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)
    # Its listing was asked for twice: the second process is at work.
    wait_for(lambda: sum("/api/" in asked.path for asked in hub.asked) == 2, "the second process")
    go.set()
    told = [process.communicate(timeout=60)[0].decode() for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert all("ok: commit" in text for text in told)
    assert len(hub.bodies()) == 1


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_flip, _truncate])
@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "1_Pooling/config.json"])
def test_a_damaged_file_is_told_offline_and_fetched_again_online(
    home: Path, hub: OddHub, damage: Any, name: str
) -> None:
    first = prefetch(home, hub)
    (path,) = _repository(home).glob(f"snapshots/*/{name}")
    damage(path.resolve())
    told = prefetch(home, hub, HF_HUB_OFFLINE="1")
    assert told.code == 3
    assert name in told.message
    assert "prefetch" in told.message
    again = prefetch(home, hub)
    assert (again.code, again.result) == (0, first.result)


def test_what_arrives_damaged_is_never_shown(home: Path, repositories: Path, hub: OddHub) -> None:
    _flip(repositories / EMBEDDER / "onnx/model.onnx")
    told = prefetch(home, hub)
    assert told.code == 4
    assert "arrived damaged" in told.message
    assert not list(_repository(home).glob("snapshots/*"))
    assert not list(_repository(home).rglob("*.incomplete"))


def test_a_hub_that_is_down_does_not_matter_to_what_is_cached(home: Path, hub: OddHub) -> None:
    assert prefetch(home, hub).code == 0
    told = prefetch(home, hub, HF_ENDPOINT="http://127.0.0.1:1")
    assert told.code == 0
    assert "taking the cached model" in told.output


@pytest.mark.parametrize(
    ("status", "headers", "where", "code", "kind", "words"),
    [
        (401, {}, "/api/", 3, "AccessDenied", ["401", "HF_TOKEN"]),
        (
            403,
            {"X_Error_Code": "GatedRepo"},
            "/resolve/",
            3,
            "AccessDenied",
            ["403", "conditions", "HF_TOKEN"],
        ),
        (404, {"X_Error_Code": "RepoNotFound"}, "/api/", 3, "ModelNotFound", ["404", "check the id"]),
        (404, {"X_Error_Code": "RevisionNotFound"}, "/api/", 3, "RevisionNotFound", ["404", "main"]),
        (404, {"X_Error_Code": "EntryNotFound"}, "/resolve/", 3, "UnsupportedModel", ["404", "lacks a file"]),
        (429, {"Retry_After": "17"}, "/api/", 4, "RateLimited", ["429", "17 s"]),
        (429, {"Retry_After": "17"}, "/resolve/", 4, "RateLimited", ["429", "17 s"]),
        (429, {"RateLimit": '"api";r=0;t=55'}, "/api/", 4, "RateLimited", ["429", "55 s"]),
        (503, {}, "/api/", 4, "HubUnreachable", ["503"]),
        (502, {}, "/resolve/", 4, "HubUnreachable", ["502"]),
        (407, {}, "/api/", 4, "HubUnreachable", ["407", "proxy"]),
        (200, {}, "/api/", 4, "HubUnreachable", ["does not answer like a model hub"]),
    ],
)
def test_each_refusal_of_the_hub_has_its_message(
    home: Path,
    hub: OddHub,
    status: int,
    headers: dict[str, str],
    where: str,
    code: int,
    kind: str,
    words: list[str],
) -> None:
    hub.fault = lambda handler: where in handler.path and handler.refuse(status, **headers)
    told = prefetch(home, hub)
    assert (told.code, told.result["error"]["class"]) == (code, kind)
    assert [word for word in words if word not in told.message] == []
    assert "\n" not in told.message


@pytest.mark.parametrize("seconds", ["17", "55"])
def test_retry_after_is_passed_on(home: Path, hub: OddHub, seconds: str) -> None:
    hub.fault = lambda handler: handler.refuse(429, Retry_After=seconds)
    assert prefetch(home, hub).result["error"]["retryAfter"] == float(seconds)


def test_a_hub_that_hangs_in_the_middle_costs_a_bounded_time(home: Path, hub: OddHub) -> None:
    hub.body_fault = hub.stop_sending
    hub.fault = lambda handler: "Range" in handler.headers and hub.hang(handler)
    started = time.monotonic()
    told = prefetch(home, hub)
    assert time.monotonic() - started < 30
    assert told.code == 4
    assert "hangs" in told.message
    # What came before is kept.
    (partial,) = _repository(home).glob("blobs/*.incomplete")
    assert partial.stat().st_size >= hub.half_bytes


def test_a_hub_that_never_answers_costs_a_bounded_time(home: Path, hub: OddHub) -> None:
    hub.fault = hub.hang
    started = time.monotonic()
    told = prefetch(home, hub)
    assert time.monotonic() - started < 30
    assert told.code == 4
    assert "hangs" in told.message


def test_the_token_stays_at_the_endpoint_and_out_of_the_logs(
    home: Path, repositories: Path, hub: OddHub
) -> None:
    with odd_hub(repositories) as storage:

        def elsewhere(handler: OddHandler) -> bool:
            if not handler.path.startswith("/blobs/"):
                return False
            return handler.refuse(302, Location=f"{storage.endpoint}{handler.path}")

        hub.fault = elsewhere
        told = prefetch(
            home, hub, HF_TOKEN=TOKEN, RUST_LOG="trace,httpcore2=debug,httpx2=debug", HF_DEBUG="1"
        )
        assert told.code == 0, told.output
        assert storage.asked
        assert not [asked for asked in storage.asked if "authorization" in asked.headers]
        assert {asked.headers.get("authorization") for asked in hub.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in told.output
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@contextmanager
def _certificate(folder: Path) -> Iterator[tuple[Path, Path]]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    made_it = shutil.which("openssl") and subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True,
        check=False,
    )
    if not made_it or made_it.returncode:
        pytest.skip("needs openssl to make a certificate")
    yield certificate, key


def test_a_private_authority_is_made_known_with_the_variable_that_the_message_names(
    home: Path, tmp_path: Path
) -> None:
    made.write_embedder(tmp_path / "hub" / EMBEDDER)
    with _certificate(tmp_path) as certificate, odd_hub(tmp_path / "hub", certificate) as hub:
        told = prefetch(home, hub)
        assert told.code == 4
        assert "is not trusted" in told.message
        assert "SSL_CERT_FILE" in told.message
        assert prefetch(home, hub, SSL_CERT_FILE=str(certificate[0])).code == 0


def test_a_proxy_that_refuses_is_told(home: Path, repositories: Path, tmp_path: Path) -> None:
    with odd_hub(repositories) as proxy, odd_hub(repositories) as hub:
        hub.endpoint = hub.endpoint.replace("http:", "https:")
        told = prefetch(home, hub, HTTPS_PROXY=proxy.endpoint)
        assert told.code == 4
        assert "proxy refuses" in told.message
        assert "HTTPS_PROXY" in told.message


def test_a_proxy_that_is_not_there_is_told(home: Path, hub: OddHub) -> None:
    told = prefetch(home, hub, HTTP_PROXY="http://127.0.0.1:1")
    assert told.code == 4
    assert "proxy" in told.message


@contextmanager
def _volume(tmp_path: Path, options: str) -> Iterator[Path]:
    folder = tmp_path / "volume"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("needs to mount a volume")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_volume_that_fills_up_in_the_middle_is_told_and_left_usable(
    home: Path, hub: OddHub, tmp_path: Path
) -> None:
    with _volume(tmp_path, "size=4m") as volume:

        def fill(_: OddHandler) -> None:
            with (volume / "filler").open("wb", buffering=0) as filler:
                try:
                    while filler.write(bytes(4096)):
                        pass
                except OSError:
                    return

        hub.body_fault = fill
        told = prefetch(home, hub, HF_HUB_CACHE=str(volume / "hub"))
        assert (told.code, told.result["error"]["class"]) == (3, "DiskFull")
        assert "spec.cache.size" in told.message
        assert not list(volume.rglob("*.incomplete"))


def test_a_read_only_volume_is_told_and_serves_what_it_holds(home: Path, hub: OddHub, tmp_path: Path) -> None:
    with _volume(tmp_path, "size=16m") as volume:
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        told = prefetch(home, hub, HF_HUB_CACHE=str(volume / "hub"))
        assert told.code == 3
        assert "Read-only file system" in told.message
        subprocess.run(["mount", "-o", "remount,rw", volume], check=True)
        assert prefetch(home, hub, HF_HUB_CACHE=str(volume / "hub")).code == 0
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        assert prefetch(home, hub, HF_HUB_CACHE=str(volume / "hub")).code == 0


# Somebody else, who may read everything, so that the interpreter is found wherever it lies.
SOMEBODY = (
    "setpriv --reuid 65534 --regid 65534 --clear-groups "
    "--inh-caps +dac_read_search --ambient-caps +dac_read_search"
)


@pytest.mark.parametrize("locked", ["hub", "hub/models--org--embedder/blobs"])
def test_a_cache_of_another_owner_names_uid_and_fs_group(home: Path, hub: OddHub, locked: str) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs to run as somebody else")
    (home / "hub/models--org--embedder/blobs").mkdir(parents=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    os.chown(home / locked, 0, 0)
    done = subprocess.run(
        [*SOMEBODY.split(), *RUNTIME, "prefetch", EMBEDDER, "--progress", "json"],
        env=variables_for(home, hub, PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, done.stderr
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert done.returncode == 3
    assert "uid 65534" in error["message"]
    assert "fsGroup to 65534" in error["message"]
