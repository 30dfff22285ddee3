"""What can go wrong, in this product's own words. No HTTP, no logging, no library's exception lives here.

RuntimeFault                     code, permanent, retry_after
├── SettingsError                the environment holds mistakes: nothing starts
├── AddressInUseError            the port is taken
├── ModelError                   a model cannot be had or cannot be served
│   ├── ModelNotFoundError       the hub has no such repository (or hides it)
│   ├── RevisionNotFoundError    the repository has no such branch, tag or commit
│   ├── FolderNotFoundError      a model's local folder is not there (yet)
│   ├── FolderUnreadableError    a model's local folder, or a file in it, may not be read
│   ├── AccessDeniedError        401, 403, gated
│   ├── NotCachedError           offline, and the cache does not hold it
│   ├── DigestMismatchError      the file at an address is not the one that was asked for
│   ├── UnsupportedArchiveError  an archive that is not unpacked
│   ├── CorruptModelError        a file of it is missing, damaged or unreadable
│   ├── UnsupportedModelError    a head or module that is not served
│   │   └── NoWeightsError       no weights or no tokenizer in a form that is served
│   ├── TaskMismatchError        asked for one task, the model does another
│   ├── FingerprintMismatchError what was loaded is not what was expected
│   ├── ProviderUnavailableError the execution provider that was asked for is not usable
│   └── PrecisionUnavailableError the precision that was asked for cannot be computed in
├── HubError                     transient by nature
│   ├── HubUnreachableError      no connection, a time-out, 5xx
│   └── RateLimitedError         429
├── CacheError
│   ├── DiskFullError            no room, before or while writing
│   └── CacheUnwritableError     read-only or the wrong owner
├── RequestError                 the client's mistake
│   ├── MalformedRequestError    not JSON
│   ├── InvalidRequestError      JSON, but not what the schema says
│   ├── UnsupportedFieldError    something that would change the answer and is not to be had
│   ├── UntrainedDimensionsError fewer dimensions than the model was trained to be cut to
│   ├── UnknownModelError        a model that is not served here
│   ├── UnsupportedModelRequestError  a model that this server cannot run
│   ├── WrongTaskError           an embedding asked of a reranker, or the reverse
│   ├── AuthenticationError      no API key, or one that is not known
│   ├── TooManyInputsError       more inputs than one request may hold
│   ├── UnsupportedEncodingError a body that is compressed in a way that is not read
│   ├── RequestTooLargeError     more bytes or tokens than one request may hold
│   ├── InputTooLongError        an input over the model's limit that must not be cut
│   └── QueryTooLongError        a query that leaves no room for a document
├── ServingError                 the server's state, not the client's mistake
│   ├── NotReadyError            a model is still loading
│   ├── LoadFailedError          a model could not be loaded; the message says why
│   │   └── LoadDelayedError     the same, where a later try may succeed
│   ├── UnloadedError            a model was unloaded while a request was on its way to it
│   ├── EngineUnavailableError   the engine process is gone or not yet there
│   ├── OutOfMemoryError         the memory budget or the device has no room for it now
│   ├── OverloadedError          the queue is full
│   ├── DrainingError            the server ends before the answer was there
│   ├── DeadlineExceededError    not done in the time that the client or the server allows
│   └── ClientLeftError          nobody waits for the answer any more
├── WireError                    a frame between HTTP process and engine breaks the protocol
└── InternalError                a bug
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar


class RuntimeFault(Exception):  # noqa: N818  the root of the tree is not an error of its own
    """The root. `code` is the stable name that travels in bodies, frames and termination messages.

    `permanent`: trying again without a change is pointless. `retry_after`: seconds, where something told us.
    """

    code: ClassVar[str] = "InternalError"
    permanent: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class SettingsError(RuntimeFault):
    """The environment holds mistakes; `mistakes` has one line for each."""

    code = "InvalidSettings"

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class AddressInUseError(RuntimeFault):
    """The listening address is taken or cannot be bound."""

    code = "AddressInUse"


class ModelError(RuntimeFault):
    """A model cannot be had or cannot be served."""


class ModelNotFoundError(ModelError):
    """The hub has no such repository, or does not show it to this token."""

    code = "ModelNotFound"


class RevisionNotFoundError(ModelError):
    """The repository has no such branch, tag or commit."""

    code = "RevisionNotFound"


class FolderNotFoundError(ModelError):
    """The local folder that a model is to come from is not there; somebody may still be filling it."""

    code = "FolderNotFound"
    permanent = False


class FolderUnreadableError(ModelError):
    """The local folder that a model is to come from, or a file in it, may not be read."""

    code = "FolderUnreadable"
    permanent = False


class AccessDeniedError(ModelError):
    """The hub refuses: 401, 403, or a gated repository."""

    code = "AccessDenied"


class NotCachedError(ModelError):
    """Offline, and the cache does not hold what is needed."""

    code = "NotCached"


class DigestMismatchError(ModelError):
    """The file at an address has another digest than the one that it was asked for by."""

    code = "DigestMismatch"


class UnsupportedArchiveError(ModelError):
    """An archive of an unknown kind, a broken one, or one that holds what a model's files never are."""

    code = "UnsupportedArchive"


class CorruptModelError(ModelError):
    """A file of the model is missing, is damaged or cannot be read.

    `damaged`: the paths inside the repository of files that are not what the hub says; fetching them again
    would help.
    """

    code = "CorruptModel"

    def __init__(
        self, message: str, *, retry_after: float | None = None, damaged: Iterable[str] = ()
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.damaged = tuple(damaged)


class UnsupportedModelError(ModelError):
    """The repository holds no model that this server can run."""

    code = "UnsupportedModel"


class NoWeightsError(UnsupportedModelError):
    """A repository without weights or a tokenizer in a form that is served; another one may stand in."""


class TaskMismatchError(ModelError):
    """The model does another task than the one it is configured for."""

    code = "TaskMismatch"


class FingerprintMismatchError(ModelError):
    """What was found is another embedding space than the expected one."""

    code = "FingerprintMismatch"


class ProviderUnavailableError(ModelError):
    """The execution provider that was asked for cannot be used here."""

    code = "ProviderUnavailable"


class PrecisionUnavailableError(ModelError):
    """The precision that was asked for is not one that the model's file or this machine allows."""

    code = "PrecisionUnavailable"


class HubError(RuntimeFault):
    """The hub did not answer as it should; later it may."""

    permanent = False


class HubUnreachableError(HubError):
    """No connection, a time-out, or a 5xx answer."""

    code = "HubUnreachable"


class RateLimitedError(HubError):
    """The hub answered 429."""

    code = "RateLimited"


class CacheError(RuntimeFault):
    """The cache on disk cannot take the model."""


class DiskFullError(CacheError):
    """No room on the cache's volume."""

    code = "DiskFull"


class CacheUnwritableError(CacheError):
    """The cache is read-only or belongs to somebody else."""

    code = "CacheUnwritable"


class RequestError(RuntimeFault):
    """The client's mistake. `param` names the field, where there is one."""

    param: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.param = param


class MalformedRequestError(RequestError):
    """The body is not JSON."""

    code = "MalformedRequest"


class InvalidRequestError(RequestError):
    """The body is JSON, but not what the schema asks for."""

    code = "InvalidRequest"


class UnsupportedFieldError(RequestError):
    """The request asks for something that would change the answer and that is not to be had."""

    code = "UnsupportedField"


class UntrainedDimensionsError(RequestError):
    """The request wants vectors to be cut that were not trained for it."""

    code = "UntrainedDimensions"


class UnknownModelError(RequestError):
    """The request names a model that is not served here."""

    code = "UnknownModel"


class UnsupportedModelRequestError(RequestError):
    """The request names a model that this server cannot run."""

    code = "Unsupported"


class WrongTaskError(RequestError):
    """The request asks a model for another task than its own."""

    code = "WrongTask"


class AuthenticationError(RequestError):
    """No API key, or one that is not known."""

    code = "Unauthorized"


class TooManyInputsError(RequestError):
    """More inputs than one request may hold."""

    code = "TooManyInputs"


class UnsupportedEncodingError(RequestError):
    """The body is compressed in a way that this server does not read."""

    code = "UnsupportedEncoding"


class RequestTooLargeError(RequestError):
    """More bytes or tokens than one request may hold."""

    code = "RequestTooLarge"


class InputTooLongError(RequestError):
    """An input is longer than the model takes, and the request says that it must not be cut."""

    code = "InputTooLong"


class QueryTooLongError(RequestError):
    """The query alone fills the model's window."""

    code = "QueryTooLong"


class ServingError(RuntimeFault):
    """The server's state keeps it from answering."""

    permanent = False


class NotReadyError(ServingError):
    """The model is still loading."""

    code = "Loading"


class LoadFailedError(ServingError):
    """The model could not be loaded, and will not be without a change."""

    code = "LoadFailed"
    permanent = True


class LoadDelayedError(LoadFailedError):
    """The model could not be loaded, but a later try may succeed."""

    permanent = False


class UnloadedError(ServingError):
    """The model was unloaded while the request was on its way to it."""

    code = "Unloaded"


class EngineUnavailableError(ServingError):
    """The engine process is gone or not yet there."""

    code = "EngineUnavailable"


class OutOfMemoryError(ServingError):
    """The memory budget or the device has no room for it now."""

    code = "OutOfMemory"


class OverloadedError(ServingError):
    """The queue is full."""

    code = "Exhausted"


class DrainingError(ServingError):
    """The server ends, and the answer was not there in the time that it takes for that."""

    code = "Draining"


class DeadlineExceededError(ServingError):
    """The answer was not there in the time that the client or the server allows."""

    code = "DeadlineExceeded"


class ClientLeftError(ServingError):
    """Nobody waits for the answer any more."""

    code = "ClientLeft"


class WireError(RuntimeFault):
    """A frame between an HTTP process and the engine breaks the protocol."""

    code = "WireError"


class InternalError(RuntimeFault):
    """A bug."""


def _tree(root: type[RuntimeFault]) -> Iterator[type[RuntimeFault]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def fault(code: str, message: str, retry_after: float | None = None) -> RuntimeFault:
    """The error that another process named by `code`; an unknown code becomes InternalError."""
    for kind in _tree(RuntimeFault):
        if kind.code == code and kind not in (RuntimeFault, SettingsError) and "code" in vars(kind):
            return kind(message, retry_after=retry_after)
    return InternalError(message, retry_after=retry_after)
