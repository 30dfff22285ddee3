"""Whether an execution provider really runs anything here: what its build says is not enough."""

from functools import cache

import numpy as np

import embedding_runtime.engine.onnx_backend  # noqa: F401  isort: skip

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

from embedding_runtime.engine.providers import CUDA

# An ONNX model of one node, y = Identity(x) for float32 x of shape [1]: enough to see whether a provider
# can run anything at all.
_IDENTITY = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


@cache
def trial(provider: str) -> str | None:
    """Why nothing can be run on `provider`; None when something was."""
    if provider not in ort.get_available_providers():
        return "not in this build of ONNX Runtime"
    try:
        if provider == CUDA:
            ort.preload_dlls()
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what is wrong is told here, in one line
        session = ort.InferenceSession(_IDENTITY, options, providers=[provider], enable_fallback=0)
        if provider not in session.get_providers():
            return "its libraries, the driver or the device are missing"
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    except Exception as error:  # ONNX Runtime raises bare exceptions of its own making
        return " ".join(str(error).split())[:300]
    return None
