"""What a log line looks like, which lines there are, and that those of several processes stay apart."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_LINES = """
import logging
from embedding_runtime.settings import parse_filter
from embedding_runtime.telemetry import configure, logger, request_id
configure(parse_filter("{filters}"), "{format}", process="test")
request_id.set("r-1")
for name in ("api", "access"):
    logger(name).debug("fine " + name, number=1)
    logger(name).info("plain " + name)
logging.getLogger("library").debug("library's %s", "detail")
logging.getLogger("library").warning("library's %s", "warning")
"""

_LONG = """
import os, sys
from embedding_runtime.settings import parse_filter
from embedding_runtime.telemetry import configure, logger
configure(parse_filter("info"), "json", process=str(os.getpid()))
for number in range(60):
    logger("test").info("long", number=number, text=str(number % 10) * 200_000)
"""


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stderr


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_json_line_says_when_who_and_for_which_request() -> None:
    first = _events(_run(_LINES.format(filters="debug", format="json")))[0]
    assert first.pop("timestamp")
    assert first == {
        "event": "fine api",
        "number": 1,
        "level": "debug",
        "logger": "embedding_runtime.api",
        "process": "test",
        "request_id": "r-1",
    }


def test_the_documented_filter_lets_our_debug_lines_through_and_no_others() -> None:
    events = _events(_run(_LINES.format(filters="info,embedding_inference_api=debug", format="json")))
    assert [event["event"] for event in events] == [
        "fine api",
        "plain api",
        "fine access",
        "plain access",
        "library's warning",
    ]


def test_one_part_can_be_silenced() -> None:
    events = _events(_run(_LINES.format(filters="info,embedding_inference_api::access=off", format="json")))
    assert [event["event"] for event in events] == ["plain api", "library's warning"]


def test_text_is_one_line_for_each_event() -> None:
    lines = _run(_LINES.format(filters="info", format="text")).splitlines()
    assert len(lines) == 3
    assert "plain api" in lines[0]
    assert "request_id=r-1" in lines[0]


def test_long_lines_of_several_processes_stay_apart_in_a_slow_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    processes = [subprocess.Popen([sys.executable, "-c", _LONG], stderr=writing) for _ in range(3)]
    os.close(writing)
    text: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 3000):
            text.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    for process in processes:
        assert process.wait(60) == 0
    reader.join()
    os.close(reading)
    events = _events(b"".join(text).decode())
    assert len(events) == 180
    assert all(event["text"] == str(event["number"] % 10) * 200_000 for event in events)
