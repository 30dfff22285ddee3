"""The one place where the hub library's and the network's exceptions become ours."""

import errno
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
from huggingface_hub import errors as hub
from huggingface_hub.utils import parse_ratelimit_headers

from embedding_runtime import errors
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.registry.volume import NO_SPACE, NOT_WRITABLE, full, unwritable


def translate(error: BaseException, ref: ModelRef, endpoint: str) -> RuntimeFault | None:
    """The domain error for what the hub client raised, or None when it is no failure of hub, network or disk.

    The cause chain is searched, since the hub client wraps the failure that matters in "not found locally".
    """
    return first(error, lambda seen: _one(seen, ref, endpoint))


def first(error: BaseException, one: Callable[[BaseException], RuntimeFault | None]) -> RuntimeFault | None:
    """What `one` makes of the first exception of a cause chain that it knows, None where it knows none."""
    seen: BaseException | None = error
    while seen is not None:
        if found := one(seen):
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
        return network(error, endpoint, "HF_ENDPOINT")
    if isinstance(error, hub.FileMetadataError):
        return errors.HubUnreachableError(f"{endpoint} does not answer like a model hub: {error}")
    if isinstance(error, ValueError) and "JSON" in type(error).__name__:
        return errors.HubUnreachableError(
            f"{endpoint} does not answer like a model hub: no JSON; check HF_ENDPOINT, and "
            "whether a proxy answers in its place"
        )
    if isinstance(error, OSError) and not isinstance(error, hub.LocalEntryNotFoundError):
        return disk(error, str(ref))
    return None


def network(error: httpx2.HTTPError, endpoint: str, setting: str) -> RuntimeFault:
    """What kept a request from being answered, and where to look; `setting` is where the address is from."""
    what = str(error) or type(error).__name__
    if untrusted := _certificate_error(error):
        return errors.HubUnreachableError(
            f"the certificate of {endpoint} is not trusted: {untrusted}; put the certificate of the "
            "authority that signed it into a file, name it in SSL_CERT_FILE (nothing else is trusted then; "
            "add the public authorities where they are needed), or a folder of them, hashed, in SSL_CERT_DIR"
        )
    if isinstance(error, httpx2.ProxyError):
        return errors.HubUnreachableError(
            f"the proxy refuses to connect to {endpoint}: {what}; check HTTPS_PROXY, HTTP_PROXY and "
            "ALL_PROXY, or name the host in NO_PROXY"
        )
    if isinstance(error, httpx2.TimeoutException):
        return errors.HubUnreachableError(
            f"{endpoint} hangs: {what} ({type(error).__name__}); what arrived is kept and the next attempt "
            "goes on from there; check the network and the proxy settings"
        )
    return errors.HubUnreachableError(
        f"cannot reach {endpoint}: {what}; check the network, {setting} and the proxy settings"
    )


def _certificate_error(error: BaseException) -> str | None:
    """Why a certificate was not accepted, where that is what went wrong."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return str(seen.verify_message or seen)
        seen = seen.__cause__ or seen.__context__
    return str(error) if "CERTIFICATE_VERIFY_FAILED" in str(error) else None


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
            f"404: {ref} lacks a file that its listing names: {error.response.url.path}"
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
            f"429: {endpoint} limits the rate of requests{when(retry_after(error))}; wait, set HF_TOKEN for "
            "a higher limit, or use a mirror (HF_ENDPOINT)",
            retry_after=retry_after(error),
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return errors.HubUnreachableError(
            f"407: the proxy before {endpoint} wants a name and a password; set them in HTTPS_PROXY or "
            "HTTP_PROXY, as http://name:password@host:port"
        )
    if status == 408 or status >= 500:
        return errors.HubUnreachableError(f"{status}: {endpoint} failed", retry_after=retry_after(error))
    return errors.AccessDeniedError(f"{status}: {endpoint} refused: {error.server_message or error}")


def disk(error: OSError, what: str) -> RuntimeFault | None:
    """What kept a file of `what` from being written, None where the error is none of a disk."""
    if error.errno in NO_SPACE:
        return full(error.filename or str(error), what)
    if error.errno in NOT_WRITABLE:
        return unwritable(error.filename or "", error)
    if error.errno == errno.EIO:
        return errors.HubUnreachableError(f"input/output error while fetching {what}: {error}")
    if "Consistency check failed" in str(error):
        return errors.HubUnreachableError(f"the download of {what} broke off: {str(error).splitlines()[0]}")
    return None


def retry_after(error: hub.HfHubHTTPError) -> float | None:
    """How many seconds a refusal asks to wait: Retry-After in seconds or as a date, else the hub's header.

    None where it asks for none.
    """
    value = error.response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        limit = parse_ratelimit_headers(error.response.headers)
        return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def when(seconds: float | None) -> str:
    """The words for that, empty where nothing was said."""
    return f" and asks to wait {seconds:.0f} s" if seconds is not None else ""
