"""Weights of 16 bits instead of 32, for GPUs; what goes in and comes out stays as it is."""

import os

import onnx

# Set before the library is imported for the first time: see engine/onnx_backend.py.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from onnxruntime.transformers.float16 import convert_float_to_float16

# What a protobuf message holds at most: of a larger model no types can be inferred in memory.
_MOST_BYTES = 2**31


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16, what is too large or too small for it cut to its limits; changed in place."""
    large = model.ByteSize() >= _MOST_BYTES
    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=large
    )
    return converted
