"""Failures of hub, network and disk become our errors."""

import errno

import httpx2
import pytest
from huggingface_hub import errors as hub

from embedding_runtime import errors
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.registry.translation import translate

REF = ModelRef("org/name", "v9")
ENDPOINT = "http://hub.test"


def _response(status: int, headers: dict[str, str] | None = None) -> httpx2.Response:
    request = httpx2.Request("GET", f"{ENDPOINT}/api/models/org/name")
    return httpx2.Response(status, headers=headers, request=request)


def _http(status: int, kind: type[hub.HfHubHTTPError] = hub.HfHubHTTPError) -> hub.HfHubHTTPError:
    return kind(f"{status} for url", response=_response(status))


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (_http(404, hub.RepositoryNotFoundError), errors.ModelNotFoundError, ["404", "org/name"]),
        # the public hub's answer for a wrong id and no token
        (_http(401, hub.RepositoryNotFoundError), errors.ModelNotFoundError, ["404", "org/name"]),
        (_http(404), errors.ModelNotFoundError, ["404"]),
        (_http(404, hub.RevisionNotFoundError), errors.RevisionNotFoundError, ["v9"]),
        (_http(403, hub.GatedRepoError), errors.AccessDeniedError, ["403", "HF_TOKEN"]),
        (_http(403), errors.AccessDeniedError, ["403"]),
        (_http(401), errors.AccessDeniedError, ["401", "token"]),
        (_http(429), errors.RateLimitedError, ["429"]),
        (_http(500), errors.HubUnreachableError, ["500"]),
        (_http(503), errors.HubUnreachableError, ["503"]),
        (httpx2.ConnectError("refused"), errors.HubUnreachableError, ["refused", "HF_ENDPOINT"]),
        (httpx2.ReadTimeout("timed out"), errors.HubUnreachableError, ["timed out"]),
        (httpx2.ProxyError("no tunnel"), errors.HubUnreachableError, ["no tunnel"]),
        (OSError(errno.ENOSPC, "No space left on device", "/models/x"), errors.DiskFullError, ["/models/x"]),
        (OSError(errno.EDQUOT, "Quota exceeded"), errors.DiskFullError, []),
        (OSError(errno.EROFS, "Read-only file system", "/models"), errors.CacheUnwritableError, ["/models"]),
        (PermissionError(errno.EACCES, "denied", "/models"), errors.CacheUnwritableError, ["denied"]),
        (hub.HFValidationError("bad id"), errors.ModelNotFoundError, ["not a valid model id"]),
        (OSError("Consistency check failed: file should be of size 9"), errors.HubUnreachableError, []),
    ],
)
def test_each_failure_has_its_error(
    raised: Exception, expected: type[errors.RuntimeFault], words: list[str]
) -> None:
    found = translate(raised, REF, ENDPOINT)
    assert type(found) is expected
    assert [word for word in words if word not in found.message] == []


def test_the_failure_that_matters_is_found_behind_its_wrapper() -> None:
    wrapper = hub.LocalEntryNotFoundError("not found locally either")
    wrapper.__cause__ = httpx2.ConnectTimeout("the hub hangs")
    assert isinstance(translate(wrapper, REF, ENDPOINT), errors.HubUnreachableError)


def test_retry_after_is_kept() -> None:
    error = hub.HfHubHTTPError("slow down", response=_response(429, {"Retry-After": "17"}))
    found = translate(error, REF, ENDPOINT)
    assert found is not None
    assert found.retry_after == 17


def test_a_bug_is_not_dressed_up() -> None:
    assert translate(ValueError("ours"), REF, ENDPOINT) is None
