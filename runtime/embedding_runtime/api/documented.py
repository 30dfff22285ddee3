"""The OpenAPI document: errors with examples, headers, keys; and the page that shows it.

The page and all that it loads come from this server: nothing is fetched from anywhere else.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from embedding_runtime import errors
from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm
from embedding_runtime.api.errors import described
from embedding_runtime.api.inference_route import InferenceRoute
from embedding_runtime.api.paths import error_form
from embedding_runtime.api.priority import HEADER
from embedding_runtime.api.vectors import JSON, Form
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.service.policy.backlog import MOST_INTERACTIVE_TEXTS, PRIORITIES

_STATIC = Path(fastapi_offline.__file__).parent / "static"
_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

_NO_KEY = "No API key, or an unknown one"
_EXAMPLES: dict[str, list[RuntimeFault]] = {
    "Malformed, or a model that cannot do this": [
        errors.MalformedRequestError("the body is not JSON: Invalid JSON: EOF while parsing at line 1"),
        errors.WrongTaskError(
            "BAAI/bge-reranker-base is a reranking model; ask it at /rerank", param="model"
        ),
    ],
    _NO_KEY: [errors.AuthenticationError("the API key is not one of this server's")],
    "No such model": [
        errors.UnknownModelError(
            "the model 'BAAI/bge-smal-en-v1.5' is not served here; nearest: BAAI/bge-small-en-v1.5",
            param="model",
        )
    ],
    "Too many inputs, too many bytes, an input or a query that is too long": [
        errors.TooManyInputsError("input has 5000 entries; one request may hold 2048", param="input"),
        errors.InputTooLongError("input.3 has 700 tokens; the model takes 512", param="input.3"),
    ],
    "Compressed in a way that is not read": [
        errors.UnsupportedEncodingError(
            "the Content-Encoding is br; allowed is one of zstd, gzip", param="Content-Encoding"
        )
    ],
    "A field is missing or of the wrong type": [
        errors.InvalidRequestError("input: Field required", param="input")
    ],
    "The queue is full": [errors.OverloadedError("the queue is full: 262144 tokens wait", retry_after=3)],
    "Loading, failed, restarting, or no room": [
        errors.NotReadyError("BAAI/bge-reranker-base is loading", retry_after=1),
        errors.LoadFailedError("BAAI/bge-reranker-base could not be loaded: ..."),
    ],
    "Not done within the deadline": [errors.DeadlineExceededError("there was no answer within 500 ms")],
}

# X-Request-Timeout-Ms is told in the endpoints' text: as a parameter, every tool that tries a document out
# would ask for an answer within 1 ms, and take the 504 that it asked for for a failure of the server.
_REQUEST_HEADERS = [
    ("X-Request-Id", {"type": "string"}, "Taken over into answer, log and trace."),
    ("traceparent", {"type": "string"}, "The W3C trace context that the request belongs to."),
    (
        HEADER,
        {"type": "string", "enum": list(PRIORITIES)},
        "`interactive` goes before `bulk`. Left out: a request of up to "
        f"{MOST_INTERACTIVE_TEXTS} inputs is interactive, a larger one bulk.",
    ),
]


def failures(form: ErrorForm = DOCUMENTED) -> dict[int | str, dict[str, Any]]:
    """The error answers of an inference endpoint, as FastAPI's `responses` takes them."""
    texts: dict[int | str, dict[str, None]] = {}
    for text, examples in _EXAMPLES.items():
        for error in examples:
            texts.setdefault(described(error, form)[0], {})[text] = None
    return {status: {"description": "; ".join(told), "model": form.answer} for status, told in texts.items()}


def request_headers(*, queued: bool = True) -> dict[str, Any]:
    """The headers that an inference endpoint reads, as FastAPI's `openapi_extra` takes them.

    `queued`: whether its requests wait for one another.
    """
    return {
        "parameters": [
            {"in": "header", "name": name, "required": False, "schema": schema, "description": text}
            for name, schema, text in _REQUEST_HEADERS
            if queued or name != HEADER
        ]
    }


def success_headers(*names: str) -> dict[str, Any]:
    """The headers of a successful answer, as a response's `headers`."""
    return {name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}} for name in names}


def binary_content(forms: Iterable[Form]) -> dict[str, Any]:
    """The forms of an answer that are no JSON, as a response's `content`."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {form.media_type: binary for form in forms if form.media_type != JSON.media_type}


_ANSWER_HEADERS = {
    "X-Request-Id": "The request's id.",
    "X-Model": "The id of the model that answered.",
    "X-Model-Fingerprint": "Identifies the embedding space; never mix vectors with different ones.",
    "Server-Timing": "Milliseconds by stage.",
}


def complete(app: FastAPI, *, keys: bool) -> None:
    """Add to the app's document what FastAPI has no place for: examples of errors; API keys."""
    generate = app.openapi

    def completed() -> dict[str, Any]:
        document = generate()
        for route in app.routes:
            if isinstance(route, InferenceRoute):
                _add_variants(document, route)
        for path, methods in document["paths"].items():
            for operation in methods.values():
                _add_examples(operation["responses"], error_form(path))
                if keys and not path.startswith("/health/"):
                    operation["security"] = [{"bearer": []}, {"header": []}]
                    operation["responses"].setdefault("401", {"description": _NO_KEY})
        if keys:
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        return document

    app.openapi = completed  # type: ignore[method-assign]


def _add_variants(document: dict[str, Any], route: InferenceRoute) -> None:
    """Say of a path that it takes other forms of requests too, with their answers."""
    operation = document["paths"][route.path_format]["post"]
    for variant in route.variants:
        names = document["components"]["schemas"]
        request = operation["requestBody"]["content"]["application/json"]
        _either(request, _schema(variant.schema, "validation", names))
        answers = {200: {"description": "", "model": variant.answer}, **failures(variant.errors)}
        for status, answer in answers.items():
            response = operation["responses"].setdefault(
                str(status), {"description": answer["description"], "content": {"application/json": {}}}
            )
            _either(response["content"]["application/json"], _schema(answer["model"], "serialization", names))


def _schema(kind: Any, mode: Literal["validation", "serialization"], names: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type, those that it refers to being put into `names`."""
    schema = TypeAdapter(kind).json_schema(mode=mode, ref_template="#/components/schemas/{model}")
    names.update(schema.pop("$defs", {}))
    if not isinstance(kind, type) or not issubclass(kind, BaseModel):
        return schema
    names[kind.__name__] = schema
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _either(content: dict[str, Any], schema: dict[str, Any]) -> None:
    there = content.get("schema")
    known = [] if there is None else there.get("anyOf", [there])
    if schema not in known:
        content["schema"] = {"anyOf": [*known, schema]} if known else schema


def _add_examples(responses: dict[str, Any], form: ErrorForm) -> None:
    # FastAPI would drop a `param` that is null.
    for error in (error for examples in _EXAMPLES.values() for error in examples):
        status, body = described(error, form)
        content = responses.get(str(status), {}).get("content", {}).get("application/json", {})
        schema = content.get("schema", {})
        first = schema.get("anyOf", [schema])[0]
        if first.get("$ref", "").endswith(f"/{form.answer.__name__}"):
            content.setdefault("examples", {})[error.code] = {"value": body}


def add_page(app: FastAPI) -> None:
    """Serve the page at /docs."""

    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/favicon.png",
            # Its default sends the document's address to a validator on the internet.
            swagger_ui_parameters={"validatorUrl": None},
        )

    async def file(request: Request) -> Response:
        return FileResponse(_STATIC / request.url.path.rpartition("/")[2])

    app.add_route("/docs", page, include_in_schema=False)
    for name in _FILES:
        app.add_route(f"/docs/{name}", file, include_in_schema=False)
