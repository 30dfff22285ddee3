"""What is to be fetched of a repository. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from embedding_runtime.registry.reference import ModelRef

# Hears (bytes had, bytes in all) as they arrive.
Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository. `digest` names its blob in the cache: its SHA-256 or its git SHA-1; None
    where the hub's listing does not tell, as `size` then.
    """

    name: str
    size: int | None
    digest: str | None


@dataclass(frozen=True)
class Plan:
    """What to fetch: the commit, the graph, every needed file; and everything else the repository holds."""

    ref: ModelRef
    commit: str
    graph: str
    files: tuple[RemoteFile, ...]
    others: tuple[RemoteFile, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all needed files, as far as the hub tells."""
        return sum(file.size or 0 for file in self.files)

    def including(self, names: Iterable[str]) -> "Plan":
        """The same plan with those of the repository's other files that have these names."""
        wanted = set(names)
        more = tuple(file for file in self.others if file.name in wanted)
        rest = tuple(file for file in self.others if file.name not in wanted)
        return replace(self, files=self.files + more, others=rest)
