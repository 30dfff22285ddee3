"""A server that nobody asks anything leaves the processor alone."""

import os
import time
from pathlib import Path

from tests.integration.runtime.server import Server

# The aim is below 1 % of a core; five times that, since other work on the machine makes every wake-up dearer.
MOST, SECONDS = 0.05, 4.0


def _cpu_seconds(pids: list[int]) -> float:
    """What the processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_no_thread_spins_after_work(made_server: Server) -> None:
    answer = made_server.client.post("/embed", json={"input": ["red cat", "blue dog"] * 50})
    assert answer.status_code == 200
    pids = [made_server.process.pid, *made_server.children()]
    assert len(pids) == 4
    before, started = _cpu_seconds(pids), time.monotonic()
    time.sleep(SECONDS)
    used = (_cpu_seconds(pids) - before) / (time.monotonic() - started)
    assert used < MOST, f"{used:.1%} of a core"
