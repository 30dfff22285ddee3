"""Why the files of an image could not be copied into a claim: pure, from the words of the image's own cp."""

from embedding_operator.api import Body
from embedding_operator.facts import Failure
from embedding_operator.naming import COPY_CONTAINER

TARGET = "/.embedding-operator"
"""Where the container that copies has the claim; its own /models may be what is copied."""

_WORDS = (
    ("No space left on device", "DiskFull", True),
    ("executable file not found", "NoCopyProgram", True),
    ("No such file or directory", "FolderNotFound", False),
    ("Permission denied", "FolderUnreadable", False),
)
"""What is said, its reason, and whether that is permanent. The first that is found counts."""

_UNWRITABLE = ("Permission denied", "Read-only file system")


def failure(pod: Body) -> Failure | None:
    """Returns why a pod's copy failed, None where it did not, or says nothing that is known."""
    for state in (pod.get("status") or {}).get("initContainerStatuses") or ():
        ended = (state.get("state") or {}).get("terminated") or {}
        if state.get("name") == COPY_CONTAINER and ended.get("exitCode"):
            return _told(" ".join(str(ended.get("message") or "").split()))
    return None


def _told(words: str) -> Failure | None:
    if TARGET in words and any(said in words for said in _UNWRITABLE):
        return Failure("CacheUnwritable", words, permanent=True)
    for said, reason, permanent in _WORDS:
        if said in words:
            return Failure(reason, words, permanent)
    return None
