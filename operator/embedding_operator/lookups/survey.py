"""The last count of nodes and pods, one for all resources that wait for room, taken again when it is old."""

import asyncio
from datetime import datetime, timedelta

from embedding_operator.errors import ApiError
from embedding_operator.health.census import Census, Unreadable
from embedding_operator.ports import Cluster

HELD = timedelta(seconds=20)
"""How long a count is used: pods that wait by the dozen cost one look at the cluster, not dozens."""


class Survey:
    """Counts for one event loop. What is kept only saves requests."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._last: tuple[datetime, Census | Unreadable] | None = None

    async def census(self, now: datetime) -> Census | Unreadable:
        """Returns what the nodes have and who holds it, as it was at most HELD ago."""
        async with self._lock:
            if self._last is None or not timedelta() <= now - self._last[0] < HELD:
                self._last = now, await self._look()
            return self._last[1]

    async def _look(self) -> Census | Unreadable:
        try:
            return await self._cluster.census()
        except ApiError as error:
            return Unreadable(error.message)
