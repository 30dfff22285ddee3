"""The one table from domain error to HTTP status. How it is told is the form of the request's dialect."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from embedding_runtime import errors
from embedding_runtime.api.bodies import mistake
from embedding_runtime.api.codings import OFFERED
from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm, Told
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.responses import json_response
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.telemetry import logger

_log = logger("api")

# The first row that the error is an instance of counts.
_TABLE: list[tuple[type[RuntimeFault], int, str]] = [
    (errors.MalformedRequestError, 400, "invalid_request_error"),
    (errors.WrongTaskError, 400, "invalid_request_error"),
    (errors.UnsupportedModelRequestError, 400, "invalid_request_error"),
    (errors.UnsupportedFieldError, 400, "invalid_request_error"),
    (errors.UntrainedDimensionsError, 400, "invalid_request_error"),
    (errors.AuthenticationError, 401, "authentication_error"),
    (errors.UnknownModelError, 404, "not_found_error"),
    (errors.TooManyInputsError, 413, "invalid_request_error"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.InputTooLongError, 413, "invalid_request_error"),
    (errors.QueryTooLongError, 413, "invalid_request_error"),
    (errors.UnsupportedEncodingError, 415, "invalid_request_error"),
    (errors.InvalidRequestError, 422, "invalid_request_error"),
    (errors.OverloadedError, 429, "overloaded_error"),
    (errors.ClientLeftError, 499, "client_closed_request"),
    (errors.DeadlineExceededError, 504, "timeout_error"),
    (errors.ServingError, 503, "service_unavailable_error"),
    (errors.ModelError, 503, "service_unavailable_error"),
    (errors.HubError, 503, "service_unavailable_error"),
    (errors.CacheError, 503, "service_unavailable_error"),
    (errors.RuntimeFault, 500, "internal_error"),
]

# What the router refuses by itself: no such path, no such method.
_PLAIN = {404: ("not_found_error", "NotFound"), 405: ("invalid_request_error", "MethodNotAllowed")}
_OTHER = ("invalid_request_error", "MalformedRequest")


def told(error: RuntimeFault) -> Told:
    """What there is to say of a domain error."""
    status, kind = next((status, kind) for row, status, kind in _TABLE if isinstance(error, row))
    return Told(status, kind, error.message, getattr(error, "param", None), error.code)


def described(error: RuntimeFault, form: ErrorForm = DOCUMENTED) -> tuple[int, dict[str, Any]]:
    """The status and the body for a domain error."""
    about = told(error)
    return form.status(about), form.body(about)


def error_response(error: RuntimeFault, form: ErrorForm = DOCUMENTED) -> Response:
    """The answer for a domain error: Retry-After where waiting helps, x-should-retry where nothing does."""
    status, body = described(error, form)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif error.permanent:
        headers["x-should-retry"] = "false"
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = ", ".join(coding.decode() for coding in OFFERED)
    return json_response(body, status=status, headers=headers)


def install(app: FastAPI) -> None:
    """Make what the router and the routes raise answer in the request's form."""
    app.add_exception_handler(RuntimeFault, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def answer(error: Exception, scope: Mapping[str, object]) -> Response:
    """The answer for whatever was raised while the request of `scope` was answered; a bug is logged."""
    if not isinstance(error, RuntimeFault):
        _log.error("unexpected error", exc_info=error)
        error = errors.InternalError("internal error; the server's log has it under the request id")
    elif isinstance(error, errors.InternalError):
        _log.error("request failed", error=error.message)
    exchange = exchange_of(scope)
    exchange.failure = error.code
    return error_response(error, exchange.errors)


async def _on_fault(request: Request, error: Exception) -> Response:
    return answer(error, request.scope)


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    # FastAPI puts where it looked (query, body) in front.
    entries = [{**entry, "loc": entry["loc"][1:]} for entry in error.errors()]
    return answer(mistake(entries), request.scope)  # type: ignore[arg-type]


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind, code = _PLAIN.get(error.status_code, _OTHER)
    exchange = exchange_of(request.scope)
    exchange.failure = code
    body = exchange.errors.body(Told(error.status_code, kind, str(error.detail), None, code))
    headers = {**(error.headers or {}), "x-should-retry": "false"}
    return json_response(body, status=error.status_code, headers=headers)
