"""The commands through the real command line: what they print, how they end."""

import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.runtime.odd_hub import OddHub, odd_hub
from tests.integration.runtime.server import COMMIT, EMBEDDER, RERANKER, environment, wait_for
from tests.unit.runtime import made

RUNTIME = [sys.executable, "-m", "embedding_runtime"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[OddHub]:
    made.write_embedder(tmp_path / "hub" / EMBEDDER)
    made.write_reranker(tmp_path / "hub" / RERANKER)
    with odd_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _run(
    *command: str, env: dict[str, str], program: list[str] = RUNTIME
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *command], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def _online(home: Path, hub: OddHub, **variables: str) -> dict[str, str]:
    base = environment(home, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="0", PREFETCH_RETRY_SECONDS="0")
    del base["LOG_FORMAT"]
    return base | variables


def _file(folder: Path, *entries: object) -> str:
    path = folder / "models.json"
    path.write_text(json.dumps({"models": entries}))
    return str(path)


def test_every_command_is_explained(empty: Path) -> None:
    told = _run("--help", env=environment(empty))
    assert told.returncode == 0
    for command in ("serve", "prefetch", "models", "verify", "prune", "doctor"):
        assert f"    {command} " in told.stdout
        assert _run(command, "--help", env=environment(empty)).returncode == 0


@pytest.mark.parametrize(
    "command",
    [[], ["sing"], ["models", "--yaml"], ["prefetch", "--progress", "loud"], ["prefetch", "two words"]],
)
def test_wrong_usage_is_one_line_and_exit_code_2(empty: Path, command: list[str]) -> None:
    told = _run(*command, env=environment(empty))
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("command", ["serve", "prefetch", "prune", "doctor"])
def test_a_models_file_with_mistakes_stops_every_command_that_reads_it(empty: Path, command: str) -> None:
    path = _file(empty, {"id": "a/b", "task": "sing"}, {"id": "c/d", "max_length": 1})
    told = _run(command, "--models-config", path, env=environment(empty))
    assert told.returncode == 2
    assert [line.partition(": models.")[0] for line in told.stderr.splitlines()] == [
        f"error: MODELS_CONFIG={path}"
    ] * 2


def test_the_installed_program_is_the_same_as_the_module(empty: Path) -> None:
    program = Path(sys.executable).with_name("embedding-runtime")
    told = _run("models", env=environment(empty), program=[str(program)])
    assert (told.returncode, told.stdout) == (0, f"no model in {empty}/hub\n")


def test_prefetch_fetches_what_is_named_and_a_failure_costs_the_others_nothing(
    empty: Path, hub: OddHub
) -> None:
    told = _run("prefetch", EMBEDDER, "no/such", f"{RERANKER}@main", env=_online(empty, hub))
    assert told.returncode == 3
    results = told.stdout.splitlines()[-3:]
    assert results[0].startswith(f"{EMBEDDER}: ok: commit ")
    assert f"{made.WIDTH} dimensions, onnx/model.onnx (fp32)" in results[0]
    assert results[1].startswith("no/such: failed: 404")
    assert ", rerank, " in results[2]


def test_prefetch_without_a_model_fetches_the_configured_ones(empty: Path, hub: OddHub) -> None:
    path = _file(empty, {"id": RERANKER, "served_names": ["ranker"], "max_length": 8})
    variables = _online(empty, hub, DEFAULT_EMBEDDING_MODEL=EMBEDDER)
    told = _run("prefetch", "--models-config", path, "--progress", "json", env=variables)
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    results = [line for line in lines if line["event"] == "result"]
    assert [(line["model"], line["status"]) for line in results] == [(EMBEDDER, "ok"), (RERANKER, "ok")]
    assert results[1]["maxTokens"] == 8
    assert {line["phase"] for line in lines if line["event"] == "progress"} >= {"resolving", "downloading"}
    again = _run("prefetch", "ranker", env=variables | {"MODELS_CONFIG": path})
    assert again.stdout.splitlines()[-1].startswith(f"{RERANKER}: ok")


def test_prefetch_says_by_its_exit_code_that_trying_again_may_help(empty: Path, hub: OddHub) -> None:
    hub.fault = lambda handler: handler.refuse(503)
    told = _run("prefetch", EMBEDDER, env=_online(empty, hub))
    assert told.returncode == 4
    assert "trying again may help" in told.stdout


def test_prefetch_tries_transient_failures_again(empty: Path, hub: OddHub) -> None:
    refused: list[str] = []

    def twice(handler: object) -> bool:
        if len(refused) == 2:
            return False
        refused.append("")
        return handler.refuse(503)  # type: ignore[attr-defined,no-any-return]

    hub.fault = twice
    told = _run("prefetch", EMBEDDER, env=_online(empty, hub, PREFETCH_RETRY_SECONDS="30"))
    assert told.returncode == 0
    assert told.stdout.count("waiting: trying again in") == 2


def test_prefetch_of_a_folder_looks_at_it(empty: Path, hub: OddHub) -> None:
    folder = made.write_embedder(empty / "mine")
    path = _file(empty, {"path": "mine", "id": "house/mine"}, {"path": "gone"})
    told = _run("prefetch", "house/mine", env=environment(empty, MODELS_CONFIG=path))
    assert told.returncode == 0, told.stdout
    assert "house/mine: ok: commit local" in told.stdout
    told = _run("prefetch", "gone", env=environment(empty, MODELS_CONFIG=path))
    assert told.returncode == 4  # somebody may fill it
    assert f"the folder {folder.with_name('gone')}, which does not exist" in told.stdout


def test_prefetch_draws_a_bar_on_a_terminal(empty: Path, hub: OddHub) -> None:
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [*RUNTIME, "prefetch", EMBEDDER], env=_online(empty, hub), stdout=subprocess.PIPE, stderr=end
    )
    os.close(end)
    drawn, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            drawn += os.read(terminal, 65536)
        except OSError:  # its other end was closed
            break
    os.close(terminal)
    printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    assert b"\r" in drawn
    assert f"{EMBEDDER}: 100%".encode() in drawn
    (line,) = printed.splitlines()
    assert line.startswith(f"{EMBEDDER}: ok")


def test_models_lists_what_is_cached_as_table_and_as_json(home: Path) -> None:
    variables = environment(home)
    lines = _run("models", env=variables).stdout.splitlines()
    assert lines[0].split() == ["model", "revision", "commit", "task", "size", "files"]
    assert [line.split()[:4] for line in lines[1:]] == [
        [EMBEDDER, "main", COMMIT[:12], "embed"],
        [RERANKER, "main", COMMIT[:12], "rerank"],
    ]
    first, _ = json.loads(_run("models", "--json", env=variables).stdout)
    folder = Path(first["folder"])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert (first["model"], first["revisions"], first["commit"]) == (EMBEDDER, ["main"], COMMIT)
    assert (first["files"], first["bytes"]) == (len(files), sum(path.stat().st_size for path in files))


def test_verify_names_what_is_damaged_and_what_is_incomplete(empty: Path, hub: OddHub) -> None:
    variables = _online(empty, hub)
    assert _run("prefetch", EMBEDDER, RERANKER, env=variables).returncode == 0
    told = _run("verify", env=variables)
    assert (told.returncode, told.stdout.count(": ok (")) == (0, 2)
    (graph,) = (empty / "hub").glob("models--org--embedder/snapshots/*/onnx/model.onnx")
    blob = graph.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    (lost,) = (empty / "hub").glob("models--org--embedder/snapshots/*/modules.json")
    lost.resolve().unlink()
    (blob.parent / f"{'a' * 64}.incomplete").write_bytes(b"half")
    told = _run("verify", env=variables)
    assert told.returncode == 1
    assert "onnx/model.onnx of " in told.stdout
    assert " is damaged: " in told.stdout
    assert "modules.json of " in told.stdout
    assert " is incomplete: " in told.stdout
    assert "a download of aaaaaaaaaaaa is unfinished, with 4 bytes" in told.stdout
    assert f"{RERANKER}: ok" in told.stdout
    assert _run("verify", RERANKER, env=variables).returncode == 0
    told = _run("verify", "no/such", env=variables)
    assert (told.returncode, told.stdout.splitlines()[0]) == (1, "no/such: not in the cache")


def test_prune_removes_what_no_configured_model_uses(empty: Path, hub: OddHub) -> None:
    variables = _online(empty, hub, DEFAULT_EMBEDDING_MODEL=EMBEDDER)
    assert _run("prefetch", EMBEDDER, RERANKER, env=variables).returncode == 0
    cache = empty / "hub"
    left = cache / f"models--org--embedder/blobs/{'a' * 64}.incomplete"
    left.write_bytes(bytes(100))
    (cache / "models--org--broken/blobs").mkdir(parents=True)
    (cache / "datasets--org--data/blobs").mkdir(parents=True)
    before = sorted([*cache.glob("models--*/**/*"), *empty.glob("prepared/**/*")])
    told = _run("prune", "--dry-run", env=variables)
    assert told.returncode == 0
    assert sorted([*cache.glob("models--*/**/*"), *empty.glob("prepared/**/*")]) == before
    assert f"would remove {RERANKER}: " in told.stdout
    told = _run("prune", env=variables)
    assert told.returncode == 0, told.stderr
    assert f"removed {RERANKER}: " in told.stdout
    assert f"removed the prepared graph of {RERANKER} at " in told.stdout
    (prepared,) = empty.glob("prepared/*/prepared.json")
    assert EMBEDDER in prepared.read_text()
    assert "freed " in told.stdout
    names = sorted(path.name for path in cache.iterdir() if path.name[0] != "." and path.is_dir())
    assert names == ["datasets--org--data", "models--org--embedder"]
    assert not left.exists()
    assert _run("verify", env=variables).returncode == 0
    assert _run("prune", env=variables).stdout == "nothing to remove\n"


def test_prune_keeps_the_models_of_the_file_and_removes_other_revisions(empty: Path, hub: OddHub) -> None:
    variables = _online(empty, hub)
    assert _run("prefetch", RERANKER, env=variables).returncode == 0
    snapshots = empty / "hub/models--org--reranker/snapshots"
    (kept,) = snapshots.iterdir()
    (snapshots / COMMIT).mkdir()
    (snapshots / COMMIT / "config.json").write_text("{}")
    told = _run("prune", "--models-config", _file(empty, {"id": RERANKER}), env=variables)
    assert f"removed {RERANKER} at {COMMIT[:12]}" in told.stdout
    assert list(snapshots.iterdir()) == [kept]


def test_prune_leaves_what_another_process_is_fetching(tmp_path: Path, empty: Path, hub: OddHub) -> None:
    made.write_slow_to_run(tmp_path / "large" / EMBEDDER, 1)
    with odd_hub(tmp_path / "large") as large:
        large.body_fault = large.stop_sending
        variables = _online(empty, large, HF_HUB_DOWNLOAD_TIMEOUT="60")
        process = subprocess.Popen([*RUNTIME, "prefetch", EMBEDDER], env=variables, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: bool(large.bodies()), "the large file")
            wait_for(lambda: bool(list(empty.rglob("*.incomplete"))), "half of it")
            told = _run("prune", env=variables)
            assert told.stdout == "nothing to remove\n", told.stderr
            assert list(empty.rglob("*.incomplete"))
        finally:
            process.kill()
            process.wait()
    assert "removed an unfinished download" in _run("prune", env=variables).stdout


def _problems(text: str) -> list[str]:
    return [line.strip() for line in text.partition("problems:\n")[2].splitlines()]


def test_doctor_finds_nothing_wrong_with_a_server_that_would_start(home: Path) -> None:
    path = _file(home, {"id": EMBEDDER, "max_length": 8, "served_names": ["small"]})
    variables = environment(home, DEFAULT_EMBEDDING_MODEL="small", API_WORKERS="2", HF_TOKEN="hf_secret")
    told = _run("doctor", "--models-config", path, env=variables)
    assert (told.returncode, _problems(told.stdout)) == (0, ["none"])
    for line in (
        "API_WORKERS=2  [environment]",
        "KEEP_ALIVE_SECS=120.0  [default]",
        f"MODELS_CONFIG={path}  [--models-config]",
        "HF_TOKEN=(set)  [environment]",
        f"default for embed: {EMBEDDER}, max_length=8  [environment]",
        "default for rerank, loaded on first use: BAAI/bge-reranker-base  [default]",
        "provider cpu: usable",
    ):
        assert f"  {line}\n" in told.stdout
    assert "hf_secret" not in told.stdout
    assert "CPU limit: " in told.stdout
    assert "memory limit: " in told.stdout


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DEFAULT_EMBEDDING_MODEL": "no/such"}, ["no/such", "not in the cache", "prefetch"]),
        ({"DEFAULT_EMBEDDING_MODEL": RERANKER}, ["is a reranker"]),
        ({"DEFAULT_EMBEDDING_MODEL": EMBEDDER, "EXPECTED_FINGERPRINT": "a" * 64}, ["expected fingerprint"]),
        ({"ORT_EXECUTION_PROVIDER": "cuda"}, ["CUDA requested but not available", "ALLOW_CPU_FALLBACK"]),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:1", "DEFAULT_EMBEDDING_MODEL": "no/such"},
         ["has to be fetched", "cannot reach"]),
    ],
)  # fmt: skip
def test_doctor_tells_why_the_server_would_not_become_ready(
    home: Path, variables: dict[str, str], words: list[str]
) -> None:
    told = _run("doctor", env=environment(home, **variables))
    assert told.returncode == 1
    (problem,) = _problems(told.stdout)
    assert [word for word in words if word not in problem] == []


def test_doctor_accepts_the_fall_back_that_is_allowed(home: Path) -> None:
    variables = environment(home, ORT_EXECUTION_PROVIDER="cuda", ALLOW_CPU_FALLBACK="true")
    assert _run("doctor", env=variables).returncode == 0


def test_doctor_tells_of_a_port_that_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = _run("doctor", env=environment(home, API_PORT=str(taken.getsockname()[1])))
    assert told.returncode == 1
    assert "choose another API_PORT" in told.stdout


def test_doctor_asks_the_hub_only_for_what_is_missing(empty: Path, hub: OddHub) -> None:
    variables = _online(empty, hub, DEFAULT_EMBEDDING_MODEL=EMBEDDER, DEFAULT_RERANKING_MODEL="")
    told = _run("doctor", env=variables)
    assert (told.returncode, _problems(told.stdout)) == (0, ["none"])
    assert f"{EMBEDDER} is not cached; " in told.stdout
    assert not list((empty / "hub").rglob("*.onnx"))
    asked = len(hub.asked)
    assert asked > 0
    assert _run("doctor", env=variables | {"HF_HUB_OFFLINE": "1"}).returncode == 1
    assert _run("prefetch", EMBEDDER, env=variables).returncode == 0
    asked = len(hub.asked)
    assert _run("doctor", env=variables).returncode == 0
    assert len(hub.asked) == asked


def test_serve_takes_the_models_file_as_an_option(home: Path) -> None:
    entry = {"id": EMBEDDER, "served_names": ["text-embedding-3-small"], "normalize": False, "max_length": 4}
    log = home / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*RUNTIME, "serve", "--models-config", _file(home, entry)], env=environment(home), stderr=stream
        )
    try:
        wait_for(lambda: '"listening"' in log.read_text(), "listening")
        (event,) = [json.loads(line) for line in log.read_text().splitlines() if '"listening"' in line]
        asked = {"model": "text-embedding-3-small", "input": "cat dog bird red"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{event['port']}", timeout=60, trust_env=False
        ) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200, "ready")
            answer = client.post("/embed", json=asked).json()
        assert (answer["model"], answer["usage"]["total_tokens"]) == (EMBEDDER, 4)
        tokens = made.table()[[made.CLS, *made.ids("cat dog"), made.SEP]]
        assert answer["embeddings"][0] == pytest.approx(tokens.mean(axis=0).tolist(), abs=1e-5)
    finally:
        process.terminate()
        assert process.wait(60) == 0
