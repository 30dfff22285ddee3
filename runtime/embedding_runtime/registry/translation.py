"""The one place where the hub library's and the network's exceptions become ours."""

import errno

import httpx2
from huggingface_hub import errors as hub

from embedding_runtime import errors
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.registry.reference import ModelRef

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


def translate(error: BaseException, ref: ModelRef, endpoint: str) -> RuntimeFault | None:
    """The domain error for what the hub client raised, or None when it is no failure of hub, network or disk.

    The cause chain is searched, since the hub client wraps the failure that matters in "not found locally".
    """
    seen: BaseException | None = error
    while seen is not None:
        if found := _one(seen, ref, endpoint):
            return found
        seen = seen.__cause__ or seen.__context__
    return None


def _one(error: BaseException, ref: ModelRef, endpoint: str) -> RuntimeFault | None:
    if isinstance(error, RuntimeFault):
        return error
    if isinstance(error, hub.HFValidationError):
        return errors.ModelNotFoundError(f"404: {ref.id!r} is not a valid model id")
    if isinstance(error, hub.HfHubHTTPError):
        return _http(error, ref, endpoint)
    if isinstance(error, (hub.OfflineModeIsEnabled,)):
        return errors.HubUnreachableError(f"{endpoint} was not asked: HF_HUB_OFFLINE is set")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return errors.HubUnreachableError(
            f"HF_ENDPOINT={endpoint} is not an address that can be asked: {error}"
        )
    if isinstance(error, httpx2.HTTPError):
        what = str(error) or type(error).__name__
        return errors.HubUnreachableError(
            f"cannot reach {endpoint}: {what}; check the network, HF_ENDPOINT and the proxy settings"
        )
    if isinstance(error, hub.FileMetadataError):
        return errors.HubUnreachableError(f"{endpoint} does not answer like a model hub: {error}")
    if isinstance(error, OSError) and not isinstance(error, hub.LocalEntryNotFoundError):
        return _disk(error, ref)
    return None


def _http(error: hub.HfHubHTTPError, ref: ModelRef, endpoint: str) -> RuntimeFault:
    status = error.response.status_code
    if isinstance(error, hub.RevisionNotFoundError):
        return errors.RevisionNotFoundError(f"404: {ref.id} has no revision {ref.revision!r} on {endpoint}")
    if isinstance(error, hub.GatedRepoError) or status == 403:
        return errors.AccessDeniedError(
            f"{status}: {endpoint} refuses access to {ref.id}; accept its conditions there, and set HF_TOKEN "
            "to a token that may read it"
        )
    if isinstance(error, hub.RemoteEntryNotFoundError):
        return errors.UnsupportedModelError(
            f"404: {ref} lacks a file that its listing names: {error.request.url}"
        )
    if status == 404 or isinstance(error, hub.RepositoryNotFoundError):
        # Without a token the public hub answers 401 for what does not exist, as it does for what is private.
        return errors.ModelNotFoundError(
            f"404: {endpoint} has no model {ref.id!r} that this client may see; check the id, and HF_TOKEN "
            "if the model is private"
        )
    if status == 401:
        return errors.AccessDeniedError(
            f"401: {endpoint} does not accept the token; set HF_TOKEN to a valid one"
        )
    if status == 429:
        return errors.RateLimitedError(
            f"429: {endpoint} limits the rate of requests", retry_after=_seconds(error)
        )
    if status == 408 or status >= 500:
        return errors.HubUnreachableError(f"{status}: {endpoint} failed", retry_after=_seconds(error))
    return errors.AccessDeniedError(f"{status}: {endpoint} refused: {error.server_message or error}")


def _disk(error: OSError, ref: ModelRef) -> RuntimeFault | None:
    if error.errno in _NO_SPACE:
        return errors.DiskFullError(
            f"no space left for {ref} on the cache volume ({error.filename or error})"
        )
    if error.errno in _NOT_WRITABLE:
        return errors.CacheUnwritableError(f"cannot write {error.filename or 'the cache'}: {error.strerror}")
    if error.errno == errno.EIO:
        return errors.HubUnreachableError(f"input/output error while fetching {ref}: {error}")
    if "Consistency check failed" in str(error):
        return errors.HubUnreachableError(f"the download of {ref} broke off: {str(error).splitlines()[0]}")
    return None


def _seconds(error: hub.HfHubHTTPError) -> float | None:
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
