"""JSON answers, encoded in one pass: numpy arrays become JSON without a Python float each."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` (plain values and C-contiguous numpy arrays) as a JSON response."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status_code=status, headers=dict(headers or {}), media_type="application/json")
