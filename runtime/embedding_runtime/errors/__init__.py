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

from collections.abc import Iterator

from embedding_runtime.errors.models import (
    AccessDeniedError,
    CacheError,
    CacheUnwritableError,
    CorruptModelError,
    DigestMismatchError,
    DiskFullError,
    FingerprintMismatchError,
    FolderNotFoundError,
    FolderUnreadableError,
    HubError,
    HubUnreachableError,
    ModelError,
    ModelNotFoundError,
    NotCachedError,
    NoWeightsError,
    PrecisionUnavailableError,
    ProviderUnavailableError,
    RateLimitedError,
    RevisionNotFoundError,
    TaskMismatchError,
    UnsupportedArchiveError,
    UnsupportedModelError,
)
from embedding_runtime.errors.requests import (
    AuthenticationError,
    InputTooLongError,
    InvalidRequestError,
    MalformedRequestError,
    QueryTooLongError,
    RequestError,
    RequestTooLargeError,
    TooManyInputsError,
    UnknownModelError,
    UnsupportedEncodingError,
    UnsupportedFieldError,
    UnsupportedModelRequestError,
    UntrainedDimensionsError,
    WrongTaskError,
)
from embedding_runtime.errors.root import (
    AddressInUseError,
    InternalError,
    RuntimeFault,
    SettingsError,
    WireError,
)
from embedding_runtime.errors.serving import (
    ClientLeftError,
    DeadlineExceededError,
    DrainingError,
    EngineUnavailableError,
    LoadDelayedError,
    LoadFailedError,
    NotReadyError,
    OutOfMemoryError,
    OverloadedError,
    ServingError,
    UnloadedError,
)

__all__ = [
    "AccessDeniedError",
    "AddressInUseError",
    "AuthenticationError",
    "CacheError",
    "CacheUnwritableError",
    "ClientLeftError",
    "CorruptModelError",
    "DeadlineExceededError",
    "DigestMismatchError",
    "DiskFullError",
    "DrainingError",
    "EngineUnavailableError",
    "FingerprintMismatchError",
    "FolderNotFoundError",
    "FolderUnreadableError",
    "HubError",
    "HubUnreachableError",
    "InputTooLongError",
    "InternalError",
    "InvalidRequestError",
    "LoadDelayedError",
    "LoadFailedError",
    "MalformedRequestError",
    "ModelError",
    "ModelNotFoundError",
    "NoWeightsError",
    "NotCachedError",
    "NotReadyError",
    "OutOfMemoryError",
    "OverloadedError",
    "PrecisionUnavailableError",
    "ProviderUnavailableError",
    "QueryTooLongError",
    "RateLimitedError",
    "RequestError",
    "RequestTooLargeError",
    "RevisionNotFoundError",
    "RuntimeFault",
    "ServingError",
    "SettingsError",
    "TaskMismatchError",
    "TooManyInputsError",
    "UnknownModelError",
    "UnloadedError",
    "UnsupportedArchiveError",
    "UnsupportedEncodingError",
    "UnsupportedFieldError",
    "UnsupportedModelError",
    "UnsupportedModelRequestError",
    "UntrainedDimensionsError",
    "WireError",
    "WrongTaskError",
    "fault",
]


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
