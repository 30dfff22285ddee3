"""The class of a request, where its client names one."""

from collections.abc import Mapping

from embedding_runtime.errors import MalformedRequestError
from embedding_runtime.service.policy.backlog import PRIORITIES, Priority

HEADER = "X-Priority"


def asked_priority(headers: Mapping[bytes, bytes]) -> Priority | None:
    """What X-Priority says; None where it is not there.

    Raises MalformedRequestError.
    """
    asked = headers.get(b"x-priority")
    if asked is None:
        return None
    said = asked.decode("latin-1").strip()
    for priority in PRIORITIES:
        if said == priority:
            return priority
    raise MalformedRequestError(f"{HEADER} is {said!r}; allowed are {', '.join(PRIORITIES)}", param=HEADER)
