"""`prefetch` of an archive at an address, over real HTTP: there as a whole or not at all."""

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.fetching import RUNTIME
from tests.integration.runtime.odd_hub import OddHandler, OddHub, odd_hub
from tests.integration.runtime.server import EMBEDDER, environment, run, serving, wait_for
from tests.unit.runtime import made

TOKEN = "averysecrettoken"
FILE = "org/files/resolve/main/model.tar"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A tar of some MiB, which the server sends in two halves, behind a redirect."""
    folder = made.write_slow_to_run(tmp_path / "made", 1, width=1024)
    packed = tmp_path / "hub/org/files/model.tar"
    packed.parent.mkdir(parents=True)
    with tarfile.open(packed, "w") as archive:
        archive.add(folder, "minilm")
    return packed


@pytest.fixture
def hub(packed: Path) -> Iterator[OddHub]:
    with odd_hub(packed.parents[2]) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def digest(packed: Path) -> str:
    return hashlib.sha256(packed.read_bytes()).hexdigest()


def variables_for(home: Path, hub: OddHub, packed: Path, **variables: str) -> dict[str, str]:
    """The environment of the operator's Job."""
    sha256 = variables.get("MODEL_SHA256", digest(packed))
    return (
        environment(
            home,
            HF_HUB_OFFLINE="0",
            HF_HUB_DOWNLOAD_TIMEOUT="1",
            PREFETCH_RETRY_SECONDS="0",
            TERMINATION_MESSAGE_PATH=str(home / "termination-log"),
            MODEL_ID=EMBEDDER,
            MODEL_URL=f"{hub.endpoint}/{FILE}",
            MODEL_SHA256=sha256,
            MODEL_PATH=str(home / "archives" / sha256 / "minilm"),
        )
        | variables
    )


def fetch(home: Path, hub: OddHub, packed: Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """Have the archive fetched: exit code and termination message."""
    told = run("prefetch", variables_for(home, hub, packed, **variables))
    return told.returncode, json.loads((home / "termination-log").read_text())


def kept(home: Path) -> list[str]:
    """What lies in the home but locks, noted digests and empty folders."""
    root = home / "archives"
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.parts[0] not in (".locks", ".digests") and path.suffix != ".lock"
    )


def test_an_archive_is_served(tmp_path: Path, home: Path, hub: OddHub, packed: Path) -> None:
    code, message = fetch(home, hub, packed)
    assert (code, message["status"], message["model"]) == (0, "ok", EMBEDDER), message
    folder = home / "archives" / digest(packed)
    assert {name.partition("/")[0] for name in kept(home)} == {folder.name}
    look = environment(home, MODEL_ID=EMBEDDER, MODEL_PATH=str(tmp_path / "made"))
    run("prefetch", look | {"TERMINATION_MESSAGE_PATH": str(home / "look")})
    assert json.loads((home / "look").read_text())["fingerprint"] == message["fingerprint"]
    entry = {"id": EMBEDDER, "path": str(folder / "minilm")}
    (home / "models.json").write_text(json.dumps({"models": [entry]}))
    variables = environment(
        tmp_path,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        MODELS_CONFIG=str(home / "models.json"),
        EXPECTED_FINGERPRINT=message["fingerprint"],
    )
    with serving(variables, home / "log") as server:
        server.wait_until("ready")


def test_progress_is_told_by_bytes_and_by_phase(home: Path, hub: OddHub, packed: Path) -> None:
    told = run("prefetch", variables_for(home, hub, packed))
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    progress = [line for line in lines if line["event"] == "progress"]
    phases = list(dict.fromkeys(line["phase"] for line in progress))
    assert phases == ["resolving", "downloading", "unpacking", "inspecting"]
    done = [line for line in progress if line["phase"] == "downloading"][-1]
    assert done["bytes"] == done["total"] == packed.stat().st_size


def test_what_is_unpacked_is_asked_for_never_again(home: Path, hub: OddHub, packed: Path) -> None:
    _, first = fetch(home, hub, packed)
    hub.asked.clear()
    assert fetch(home, hub, packed, HF_HUB_OFFLINE="1") == (0, first)
    assert hub.asked == []


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_what_was_damaged_since_is_fetched_again(home: Path, hub: OddHub, packed: Path, damage: str) -> None:
    _, first = fetch(home, hub, packed)
    graph = home / "archives" / digest(packed) / "minilm/onnx/model.onnx"
    content = graph.read_bytes()
    if damage == "changed":
        graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        graph.unlink()
    code, message = fetch(home, hub, packed, HF_HUB_OFFLINE="1")
    assert (code, "damaged" in message["error"]["message"]) == (3, True)
    assert fetch(home, hub, packed) == (0, first)
    assert graph.read_bytes() == content
    assert {name.partition("/")[0] for name in kept(home)} == {digest(packed)}


def test_offline_an_archive_that_is_not_there_is_told(home: Path, hub: OddHub, packed: Path) -> None:
    code, message = fetch(home, hub, packed, HF_HUB_OFFLINE="1")
    assert code == 3
    assert "HF_HUB_OFFLINE" in message["error"]["message"]
    assert hub.asked == []


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(
    home: Path, hub: OddHub, packed: Path
) -> None:
    hub.body_fault = hub.stop_sending
    variables = variables_for(home, hub, packed, HF_HUB_DOWNLOAD_TIMEOUT="60")
    process = subprocess.Popen([*RUNTIME, "prefetch"], env=variables, stdout=subprocess.DEVNULL)
    partial = home / "archives/.packed" / f"{digest(packed)}.incomplete"
    try:
        wait_for(lambda: partial.exists() and partial.stat().st_size == hub.half_bytes, "the half")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (home / "archives" / digest(packed)).exists()
    hub.body_fault = None
    assert fetch(home, hub, packed)[0] == 0
    assert hub.bodies()[-1].headers["range"] == f"bytes={hub.half_bytes}-"


@pytest.mark.parametrize("stage", [f".packed/{'?' * 64}", ".unpacking/*/*/*", ".digests/*"])
def test_whenever_it_is_killed_there_is_all_of_it_or_nothing(
    home: Path, hub: OddHub, packed: Path, stage: str
) -> None:
    with tarfile.open(packed, "a") as archive:  # what takes a while to fetch, to check and to unpack
        entry = tarfile.TarInfo("minilm/onnx/large.bin")
        entry.size = 32 << 20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with odd_hub(packed.parents[2]) as server:
        variables = variables_for(home, server, packed)
        process = subprocess.Popen([*RUNTIME, "prefetch"], env=variables, stdout=subprocess.DEVNULL)
        wait_for(lambda: any((home / "archives").glob(stage)) or process.poll() is not None, stage)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = home / "archives" / digest(packed)
        assert not done.exists() or (done / entry.name).stat().st_size == entry.size
        assert fetch(home, server, packed)[0] == 0
    assert {name.partition("/")[0] for name in kept(home)} == {done.name}


def test_what_was_killed_while_unpacking_is_unpacked_anew(home: Path, hub: OddHub, packed: Path) -> None:
    sha256 = digest(packed)
    for folder in (".packed", f".unpacking/{sha256}/minilm"):
        (home / "archives" / folder).mkdir(parents=True)
    (home / "archives/.unpacking" / sha256 / "minilm/half").touch()
    (home / "archives/.packed" / sha256).write_bytes(packed.read_bytes())
    assert fetch(home, hub, packed)[0] == 0
    assert hub.asked == []
    assert [name for name in kept(home) if name.startswith(".") or name.endswith("half")] == []


def test_what_was_killed_before_the_archive_went_is_tidied_up(home: Path, hub: OddHub, packed: Path) -> None:
    fetch(home, hub, packed)
    left = home / "archives/.packed" / digest(packed)
    left.touch()
    assert fetch(home, hub, packed)[0] == 0
    assert not left.exists()


def test_another_file_is_refused_and_nothing_of_it_stays(home: Path, hub: OddHub, packed: Path) -> None:
    code, message = fetch(home, hub, packed, MODEL_SHA256="0" * 64)
    assert code == 3
    assert (message["error"]["class"], message["error"]["permanent"]) == ("DigestMismatch", True)
    assert digest(packed) in message["error"]["message"]
    assert kept(home) == []


def test_halves_of_two_files_are_no_mismatch(home: Path, hub: OddHub, packed: Path) -> None:
    partial = home / "archives/.packed" / f"{digest(packed)}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * hub.half_bytes)
    assert fetch(home, hub, packed)[0] == 0
    ranges = [asked.headers.get("range") for asked in hub.bodies()]
    assert ranges == ["bytes=0-0", f"bytes={hub.half_bytes}-", None]


def test_a_server_that_knows_no_ranges_and_no_length_will_do(home: Path, hub: OddHub, packed: Path) -> None:
    content = packed.read_bytes()

    def plainly(handler: OddHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True
        return True

    hub.fault = plainly
    assert fetch(home, hub, packed)[0] == 0


@pytest.mark.parametrize(
    ("status", "headers", "code", "kind", "seconds"),
    [
        (401, {}, 3, "AccessDenied", None),
        (403, {"X_Error_Code": "GatedRepo"}, 3, "AccessDenied", None),
        (404, {}, 3, "ModelNotFound", None),
        (410, {}, 3, "ModelNotFound", None),
        (429, {"Retry_After": "120"}, 4, "RateLimited", 120.0),
        (503, {}, 4, "HubUnreachable", None),
        (503, {"Retry_After": "7"}, 4, "HubUnreachable", 7.0),
    ],
)
def test_each_refusal_has_its_class(
    home: Path,
    hub: OddHub,
    packed: Path,
    status: int,
    headers: dict[str, str],
    code: int,
    kind: str,
    seconds: float | None,
) -> None:
    hub.fault = lambda handler: handler.refuse(status, **headers)
    found, message = fetch(home, hub, packed)
    error = message["error"]
    assert (found, error["class"], error["retryAfter"]) == (code, kind, seconds)
    assert f"{hub.endpoint}/{FILE}" in error["message"]
    assert kept(home) == []


def test_nobody_at_the_address_is_told(home: Path, hub: OddHub, packed: Path) -> None:
    code, message = fetch(home, hub, packed, MODEL_URL="http://127.0.0.1:1/a.tar")
    assert (code, message["error"]["class"]) == (4, "HubUnreachable")
    assert "MODEL_URL" in message["error"]["message"]


def test_the_token_goes_to_the_address_alone_and_into_no_log(home: Path, hub: OddHub, packed: Path) -> None:
    with odd_hub(packed.parents[2]) as storage:

        def elsewhere(handler: OddHandler) -> bool:
            if not handler.path.startswith("/blobs/"):
                return False
            return handler.refuse(302, Location=f"{storage.endpoint}{handler.path}")

        hub.fault = elsewhere
        variables = variables_for(
            home, hub, packed, MODEL_URL_TOKEN=f"{TOKEN}\n", RUST_LOG="trace,httpx2=debug"
        )
        told = run("prefetch", variables)
        assert told.returncode == 0, told.stdout + told.stderr
        assert storage.asked
        assert not [asked for asked in storage.asked if "authorization" in asked.headers]
        assert {asked.headers.get("authorization") for asked in hub.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in told.stdout + told.stderr
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_two_processes_fetch_and_unpack_it_once(home: Path, hub: OddHub, packed: Path) -> None:
    variables = variables_for(home, hub, packed)
    both = [subprocess.Popen([*RUNTIME, "prefetch"], env=variables, stdout=subprocess.DEVNULL) for _ in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    whole = [asked for asked in hub.bodies() if asked.headers.get("range") != "bytes=0-0"]
    assert len(whole) == 1


def test_a_folder_that_the_archive_lacks_is_told_with_what_it_has(
    home: Path, hub: OddHub, packed: Path
) -> None:
    sha256 = digest(packed)
    code, message = fetch(home, hub, packed, MODEL_PATH=str(home / "archives" / sha256 / "bge"))
    assert (code, message["error"]["class"]) == (3, "UnsupportedModel")
    assert "it holds minilm" in message["error"]["message"]


def test_what_is_no_archive_is_told_and_leaves_nothing(home: Path, hub: OddHub, packed: Path) -> None:
    page = packed.with_name("model.html")
    page.write_text("<html>" * 200_000)
    with odd_hub(packed.parents[2]) as server:
        url = f"{server.endpoint}/{FILE}".replace(".tar", ".html")
        code, message = fetch(home, server, page, MODEL_URL=url)
    assert (code, message["error"]["class"]) == (3, "UnsupportedArchive")
    assert kept(home) == []


def test_a_volume_without_room_for_the_content_keeps_the_archive_for_more_room(
    home: Path, hub: OddHub, packed: Path
) -> None:
    size = packed.stat().st_size * 3 // 2
    volume = home / "volume"
    volume.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", volume], check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("needs to mount a small volume")
    try:
        variables = variables_for(home, hub, packed, HF_HOME=str(volume), MODEL_PATH="")
        told = run("prefetch", variables)
        message = json.loads((home / "termination-log").read_text())
        assert (told.returncode, message["error"]["class"]) == (3, "DiskFull")
        assert kept(volume) == [f".packed/{digest(packed)}"]
    finally:
        subprocess.run(["umount", volume], check=True)


def test_the_digest_goes_with_the_address(home: Path) -> None:
    variables = environment(home, MODEL_ID=EMBEDDER, MODEL_URL="http://x/y.tar")
    told = run("prefetch", variables)
    assert told.returncode == 3
    assert "MODEL_SHA256" in told.stderr


def test_nothing_is_asked_to_resolve_an_archive(home: Path, hub: OddHub, packed: Path) -> None:
    told = run("prefetch", variables_for(home, hub, packed), "--resolve")
    assert told.returncode == 0
    message = json.loads((home / "termination-log").read_text())
    assert message == {"status": "resolved", "model": EMBEDDER, "commit": digest(packed), "bytes": None}
    assert hub.asked == []
