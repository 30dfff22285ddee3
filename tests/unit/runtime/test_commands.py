"""What the commands report, the supervisor's back-off, and which process imports what."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from embedding_runtime import errors
from embedding_runtime.prefetch.job import failure
from embedding_runtime.prefetch.progress import JsonLines, Pace
from embedding_runtime.supervisor import restart_delay


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ModelNotFoundError("404: no 'a/b'"), ("ModelNotFound", True)),
        (errors.RevisionNotFoundError("x"), ("RevisionNotFound", True)),
        (errors.AccessDeniedError("x"), ("AccessDenied", True)),
        (errors.UnsupportedModelError("x"), ("UnsupportedModel", True)),
        (errors.CorruptModelError("x"), ("UnsupportedModel", True)),
        (errors.TaskMismatchError("x"), ("TaskMismatch", True)),
        (errors.DiskFullError("x"), ("DiskFull", True)),
        (errors.CacheUnwritableError("x"), ("CacheUnwritable", True)),
        (errors.HubUnreachableError("x"), ("HubUnreachable", False)),
        (errors.RateLimitedError("x", retry_after=9), ("RateLimited", False)),
        (errors.InternalError("x"), ("InternalError", True)),
    ],
)
def test_a_termination_message_has_the_agreed_class(
    error: errors.RuntimeFault, expected: tuple[str, bool]
) -> None:
    told = failure(error)["error"]
    assert (told["class"], told["permanent"]) == expected
    assert told["retryAfter"] == error.retry_after


def test_a_termination_message_stays_under_the_kubelets_limit() -> None:
    for text in ("x" * 100_000, "é" * 100_000, "日" * 100_000):
        message = json.dumps(failure(errors.InternalError(text)), ensure_ascii=False)
        assert len(message.encode()) < 4096


def test_a_pause_that_the_hub_asked_for_is_a_line_with_its_end() -> None:
    stream, before = io.StringIO(), datetime.now(UTC)
    JsonLines(stream).paused(90)
    line = json.loads(stream.getvalue())
    assert line["event"] == "pause"
    assert 88 <= (datetime.fromisoformat(line["until"]) - before).total_seconds() <= 120


def test_progress_is_told_once_a_second_and_at_every_change_of_phase() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = JsonLines(stream, lambda: now[0])
    progress("resolving", "asking")
    for step in range(31):
        now[0] = 0.1 * step
        progress("downloading", "m", step, 30)
    progress("downloading", "m", 30, 30)
    progress("inspecting", "loading")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["phase"] for line in lines] == ["resolving", *["downloading"] * 4, "inspecting"]
    assert lines[0] == {
        "event": "progress",
        "phase": "resolving",
        "bytes": 0,
        "total": None,
        "message": "asking",
    }
    assert (lines[-2]["bytes"], lines[-1]["bytes"], lines[-1]["total"]) == (30, 30, 30)
    assert [line.get("speed") for line in lines] == [None, None, 10, 10, 10, None]


def test_the_speed_of_a_download_is_that_of_its_last_ten_seconds() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace("downloading", 0) is None
    for _ in range(20):  # fast
        now[0] += 1
        fast = pace("downloading", int(now[0]) * 1000)
    for _ in range(20):  # then it hangs, which is told as it goes on
        now[0] += 1
        slow = pace("downloading", 20_000)
    assert (fast, slow) == (1000, 0)
    assert pace("waiting", None) is None
    assert pace("downloading", 20_000) is None  # a new attempt begins anew


@pytest.mark.parametrize(("crashes", "seconds"), [(1, 0), (2, 0.5), (3, 1), (5, 4), (9, 30), (1000, 30)])
def test_restarts_back_off_and_stay_bounded(crashes: int, seconds: float) -> None:
    assert restart_delay(crashes) == seconds


@pytest.mark.parametrize("module", ["embedding_runtime.api.process", "embedding_runtime.supervisor"])
def test_http_processes_never_import_onnx_runtime_nor_the_hub_client(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m in ('onnxruntime', 'huggingface_hub')])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["service.engine_process", "prefetch.command", "prefetch.job"])
def test_only_the_process_that_prepares_a_graph_imports_the_onnx_package(module: str) -> None:
    code = f"import sys, embedding_runtime.{module}; print('onnx' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "False"
