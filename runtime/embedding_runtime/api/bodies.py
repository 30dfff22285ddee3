"""A request's body: bounded while it streams in, checked against its schema in one pass over the bytes."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from embedding_runtime.errors import (
    ClientLeftError,
    InvalidRequestError,
    MalformedRequestError,
    RequestError,
    RequestTooLargeError,
    TooManyInputsError,
    UnsupportedFieldError,
)

_Body = TypeVar("_Body", bound=BaseModel)

# So many values are checked against a schema in some 3 ms, with Python's lock held.
MANY_VALUES = 65_536
# As much of a name as a message shows.
_LONGEST_NAME = 100


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], most: int) -> bytes:
    """The whole body; nothing larger than `most` bytes is ever held.

    What a client still sends after the answer is read and thrown away by the protocol.

    Raises RequestTooLargeError, ClientLeftError.
    """
    stated = headers.get(b"content-length", b"")
    if stated.isdigit() and int(stated[:20]) > most:
        raise _too_large(most)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("the client closed the connection")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(most: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"the body is larger than {most} bytes (MAX_REQUEST_BYTES)")


async def check_values(body: bytes, inputs: int, most: int = MANY_VALUES) -> None:
    """Refuse JSON with far more values than a request for so many inputs could have, but none of `most`.

    Reading millions of them would hold Python's lock for a quarter of a second. A body with few commas, which
    almost all have, takes a look; of others those are counted that lie outside strings, in a thread.

    Raises TooManyInputsError.
    """
    most = max(inputs, most)
    if body.count(b",") > most and await asyncio.to_thread(separators, body) > most:
        raise TooManyInputsError(
            f"the body holds more than {most} values; one request may hold {inputs} inputs"
        )


def separators(body: bytes) -> int:
    """The commas of JSON that are no part of a string."""
    # A backslash begins a pair, so that what is left of the quotes are the ends of strings.
    ends = body.replace(rb"\\", b"").replace(rb"\"", b"")
    characters = np.frombuffer(ends, dtype=np.uint8)
    inside = np.logical_xor.accumulate(characters == ord('"'))
    return int(np.count_nonzero((characters == ord(",")) & ~inside))


def parse(schema: type[_Body], body: bytes, headers: Mapping[bytes, bytes]) -> _Body:
    """The body as `schema` has it.

    Raises MalformedRequestError for what is no JSON, InvalidRequestError for what the schema does not allow.
    """
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json" and not content_type.endswith(b"+json"):
        shown = content_type.decode("latin-1") or "missing"
        raise MalformedRequestError(
            f"the Content-Type is {shown}; allowed is application/json", param="Content-Type"
        )
    if not body.strip():
        raise MalformedRequestError("the body is empty; allowed is a JSON object")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise mistake(error.errors(include_url=False, include_input=False)) from None


def mistake(entries: list[ErrorDetails]) -> RequestError:
    """The one mistake that is told, of all that pydantic found."""
    # Where several variants of a field were tried, the one that got furthest says most.
    rank = max(map(_rank, entries))
    furthest = [entry for entry in entries if _rank(entry) == rank]
    first = furthest[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return MalformedRequestError(f"the body is not JSON: {reason}")
    where = _where(first)
    if first["type"] == "extra_forbidden":
        return UnsupportedFieldError(f"{where} is not a field that is served here; leave it out", param=where)
    variants = dict.fromkeys(entry["msg"] for entry in furthest if _where(entry) == where)
    return InvalidRequestError(f"{where or 'body'}: {' or: '.join(variants)}", param=where or None)


def _rank(entry: ErrorDetails) -> tuple[int, bool]:
    return len(entry["loc"]), not entry["type"].endswith("_type")


def _where(entry: ErrorDetails) -> str:
    # Unions name the variant that was tried; a client knows its fields and its places in a list only.
    *path, last = (str(part) for part in entry["loc"] or ("",))
    if entry["type"] != "extra_forbidden":  # which a client may have called anything
        path, last = [*path, last], ""
    return ".".join([*filter(_is_field, path), *([last[:_LONGEST_NAME]] if last else [])])


def _is_field(part: str) -> bool:
    return part.isdigit() or (part.isidentifier() and part.islower() and part not in ("str", "int"))
