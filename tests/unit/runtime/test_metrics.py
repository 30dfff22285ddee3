"""One scrape over the files of several processes, living and dead."""

import os
import subprocess
import sys
from pathlib import Path

_COUNT = """
import os
from embedding_runtime import metrics
metrics.EMBED_ITEMS.labels("m").inc(3)
metrics.EMBED_REQUEST_ITEMS.labels("m").observe(3)
metrics.MODELS_LOADED.set(1)
if {gpu}:
    metrics.GPU_USED.set(7)
print(os.getpid())
"""

_SCRAPE = """
import sys
from embedding_runtime import metrics
for pid in sys.argv[2:]:
    metrics.forget(int(pid), sys.argv[1])
print(metrics.scrape(sys.argv[1]).decode())
"""


def _python(code: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_counters_of_the_dead_stay_and_their_gauges_go(tmp_path: Path) -> None:
    pids = [_python(_COUNT.format(gpu=False), tmp_path).strip() for _ in range(3)]
    before = _python(_SCRAPE, tmp_path, str(tmp_path))
    after = _python(_SCRAPE, tmp_path, str(tmp_path), *pids[:2])
    for line in (
        'inference_embed_items_total{model="m"} 9.0',
        'inference_embed_request_items_count{model="m"} 3.0',
        'inference_embed_request_items_bucket{le="4.0",model="m"} 3.0',
        'inference_embed_request_items_bucket{le="2.0",model="m"} 0.0',
    ):
        assert f"\n{line}\n" in before
        assert f"\n{line}\n" in after
    assert "\nmodels_loaded_total 3.0\n" in before
    assert "\nmodels_loaded_total 1.0\n" in after


def test_the_files_of_the_dead_become_one(tmp_path: Path) -> None:
    pids = [_python(_COUNT.format(gpu=False), tmp_path).strip() for _ in range(3)]
    _python(_SCRAPE, tmp_path, str(tmp_path), *pids)
    left = [path.name for path in tmp_path.iterdir() if any(pid in path.name for pid in pids)]
    assert left == []


def test_gpu_gauges_are_absent_until_something_sets_them(tmp_path: Path) -> None:
    _python(_COUNT.format(gpu=False), tmp_path)
    assert "gpu_memory" not in _python(_SCRAPE, tmp_path, str(tmp_path))
    _python(_COUNT.format(gpu=True), tmp_path)
    text = _python(_SCRAPE, tmp_path, str(tmp_path))
    assert "\ngpu_memory_used_bytes 7.0\n" in text
    assert "gpu_memory_total_bytes" not in text
