"""What an address that is no hub answers, and the network and the disk on the way, become our errors."""

from http import HTTPStatus

import httpx2
from huggingface_hub import errors as hub

from embedding_runtime import errors
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.registry.translation import disk, first, network, retry_after, when


def translate(error: BaseException, url: str, *, with_token: bool) -> RuntimeFault | None:
    """The domain error for what the client raised over `url`, None when it is no failure of these."""
    return first(error, lambda seen: _one(seen, url, with_token))


def _one(error: BaseException, url: str, with_token: bool) -> RuntimeFault | None:
    if isinstance(error, RuntimeFault):
        return error
    if isinstance(error, hub.HfHubHTTPError):
        return _http(error, url, with_token)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return errors.HubUnreachableError(f"{url} was not asked: HF_HUB_OFFLINE is set")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return errors.HubUnreachableError(f"{url} is not an address that can be asked: {error}")
    if isinstance(error, httpx2.HTTPError):
        return network(error, url, "MODEL_URL")
    return disk(error, url) if isinstance(error, OSError) else None


def _http(error: hub.HfHubHTTPError, url: str, with_token: bool) -> RuntimeFault:
    status, seconds = error.response.status_code, retry_after(error)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return errors.ModelNotFoundError(f"{status}: there is nothing at {url}; check the address")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return errors.RateLimitedError(
            f"{status}: {url} limits the rate of requests{when(seconds)}; wait", retry_after=seconds
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return errors.HubUnreachableError(
            f"{status}: the proxy before {url} wants a name and a password; set them in HTTPS_PROXY or "
            "HTTP_PROXY, as http://name:password@host:port"
        )
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return errors.HubUnreachableError(f"{status}: {url} failed", retry_after=seconds)
    wants = "another token" if with_token else "a token"
    return errors.AccessDeniedError(f"{status}: {url} refuses; set MODEL_URL_TOKEN to {wants}")
