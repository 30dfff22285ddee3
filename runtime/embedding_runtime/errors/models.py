"""A model, the hub that it comes from, the cache that it goes to."""

from collections.abc import Iterable

from embedding_runtime.errors.root import RuntimeFault


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
