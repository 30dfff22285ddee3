"""The one table from domain error to HTTP status, and the one shape of an error's body.

{"error": {"message", "type", "param", "code"}}: `type` is the class of mistake as OpenAI's clients know it,
`code` the domain error's stable name.
"""

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from embedding_runtime import errors
from embedding_runtime.api.responses import json_response
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.telemetry import logger

_log = logger("api")

# The first row that the error is an instance of counts.
_TABLE: list[tuple[type[RuntimeFault], int, str]] = [
    (errors.MalformedRequestError, 400, "invalid_request_error"),
    (errors.WrongTaskError, 400, "invalid_request_error"),
    (errors.UnknownModelError, 404, "not_found_error"),
    (errors.TooManyInputsError, 413, "invalid_request_error"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.QueryTooLongError, 413, "invalid_request_error"),
    (errors.InvalidRequestError, 422, "invalid_request_error"),
    (errors.OverloadedError, 429, "overloaded_error"),
    (errors.ClientLeftError, 499, "client_closed_request"),
    (errors.ServingError, 503, "service_unavailable_error"),
    (errors.ModelError, 503, "service_unavailable_error"),
    (errors.RuntimeFault, 500, "internal_error"),
]

_PLAIN_TYPES = {404: "not_found_error", 405: "invalid_request_error"}


def error_response(error: RuntimeFault) -> Response:
    """The answer for a domain error, with Retry-After where waiting helps."""
    status, kind = next((status, kind) for row, status, kind in _TABLE if isinstance(error, row))
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.permanent and status >= 500:
        headers["x-should-retry"] = "false"
    return _body(status, error.message, kind, getattr(error, "param", None), error.code, headers)


def install(app: FastAPI) -> None:
    """Make every failure of the app answer in the one shape."""
    app.add_exception_handler(RuntimeFault, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


async def _on_fault(_: Request, error: Exception) -> Response:
    if not isinstance(error, RuntimeFault):
        raise error
    if isinstance(error, errors.InternalError):
        _log.error("request failed", error=error.message)
    return error_response(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    # Where several variants of a field were tried, the one that got furthest says most.
    first = max(error.errors(), key=lambda entry: (len(entry["loc"]), not entry["type"].endswith("_type")))
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return error_response(errors.MalformedRequestError(f"the body is not JSON: {reason}"))
    # Unions name the variant that was tried; a client knows its fields and its places in a list only.
    parts = [str(part) for part in first["loc"][1:]]
    where = ".".join(part for part in parts if part.isdigit() or (part.isidentifier() and part != "str"))
    message = f"{where or 'body'}: {first['msg']}"
    return error_response(errors.InvalidRequestError(message, param=where or None))


async def _on_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, RuntimeFault):  # FastAPI wraps what breaks off the reading of a body
        return error_response(error.__cause__)
    kind = _PLAIN_TYPES.get(error.status_code, "invalid_request_error")
    return _body(error.status_code, str(error.detail), kind, None, None, dict(error.headers or {}))


async def _on_bug(_: Request, error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return error_response(errors.InternalError("internal error; the server's log has it"))


def _body(
    status: int, message: str, kind: str, param: str | None, code: str | None, headers: dict[str, str]
) -> Response:
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json_response(content, status=status, headers=headers)
