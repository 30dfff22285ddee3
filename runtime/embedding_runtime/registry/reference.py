"""How a model is named: `org/name` or `org/name@revision`; a variant's suffix belongs to the name."""

import re
from dataclasses import dataclass

from embedding_runtime.settings import split_name

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelRef:
    """A model id and the revision (branch, tag or commit) that is wanted."""

    id: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """`org/name@revision`; without a revision, `main`."""
        name, revision = split_name(text)
        return cls(name, revision or "main")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which can never mean anything else later."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def is_safe(self) -> bool:
        """Whether the revision can be a path inside the repository's folder."""
        return not self.revision.startswith("/") and ".." not in self.revision.split("/")

    @property
    def cache_name(self) -> str:
        """The folder's name in the hub's cache layout."""
        return "models--" + self.id.replace("/", "--")

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"
