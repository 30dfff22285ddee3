"""API keys: the file that holds them, read again when it changes, and the check of a request's headers."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from embedding_runtime.errors import AuthenticationError
from embedding_runtime.telemetry import logger

_log = logger("keys")

_MOST_BYTES = 1 << 20
_LOOK_EVERY_SECONDS = 1.0
_BARE_HEADERS = (b"x-api-key", b"api-key")


class ApiKeys:
    """The keys in a file, one per line; blank lines and lines that begin with # are none.

    The file is looked at when a request comes, at most once a second. One that is broken or gone changes
    nothing: keys are withdrawn by writing others.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._text: bytes | None = None
        self._trouble: str | None = None
        self._digests: list[bytes] = []
        self._looked = clock()
        self._look()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Return when one of the headers Authorization (Bearer), X-API-Key and api-key holds a key.

        Raises AuthenticationError.
        """
        if self._clock() - self._looked >= _LOOK_EVERY_SECONDS:
            self._looked = self._clock()
            self._look()
        presented = list(_presented(headers))
        if not presented:
            raise AuthenticationError(
                "an API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY"
            )
        known = False
        # Every pair, whatever was found before: how long it takes says nothing about any key.
        for key in presented:
            digest = hashlib.sha256(key).digest()
            for expected in self._digests:
                known |= hmac.compare_digest(digest, expected)
        if not known:
            raise AuthenticationError("the API key is not one of this server's")

    def _look(self) -> None:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except OSError as error:
            self._keep(f"cannot be read: {error.strerror}")
            return
        if text == self._text:
            self._trouble = None
            return
        keys = _keys(text)
        if len(text) > _MOST_BYTES:
            self._keep(f"is larger than {_MOST_BYTES} bytes")
        elif not keys:
            self._keep("holds no key")
        else:
            self._digests = [hashlib.sha256(key).digest() for key in keys]
            if self._text is not None:
                _log.info("API keys read again", file=str(self._path), keys=len(keys))
            self._text, self._trouble = text, None

    def _keep(self, trouble: str) -> None:
        """Go on with the keys as they are; say why, once for each kind of trouble."""
        if trouble != self._trouble:
            _log.error("API key file ignored", file=str(self._path), why=trouble, keys=len(self._digests))
        self._trouble = trouble


def _keys(text: bytes) -> list[bytes]:
    lines = (line.strip() for line in text.removeprefix(b"\xef\xbb\xbf").splitlines())
    return [line for line in lines if line and not line.startswith(b"#")]


def _presented(headers: Mapping[bytes, bytes]) -> Iterable[bytes]:
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and key.strip():
        yield key.strip()
    for name in _BARE_HEADERS:
        if key := headers.get(name, b"").strip():
            yield key
