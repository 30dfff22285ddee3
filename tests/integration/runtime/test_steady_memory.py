"""A backend's memory stays where it is, whatever shapes its batches have."""

from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.metrics import resident_bytes
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.source import open_source
from embedding_runtime.registry.cache import find_folder

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# With OpenVINO's own settings 120 new shapes hold 98 MB.
SHAPES, MOST = 120, 40 << 20


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_new_shapes_take_no_more_memory_for_ever(real_models: Path, provider: str) -> None:
    source = open_source(find_folder(real_models / MODEL, MODEL, None), None)
    backend = make_backend(Prepared.as_it_is(source), source.recipe, Execution(provider, 2, "fp32"))
    backend.load()
    shapes = [(texts, length) for length in range(4, 94, 3) for texts in range(1, 9)]
    held = []
    for at, (texts, length) in enumerate(np.random.default_rng(0).permutation(shapes), start=1):
        backend.run([Tokens(np.ones(length, dtype=np.int32))] * int(texts))
        if at % SHAPES == 0:
            held.append(resident_bytes())
    backend.close()
    assert held[1] - held[0] < MOST
