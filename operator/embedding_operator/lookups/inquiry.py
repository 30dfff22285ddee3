"""Asks the pods' servers how they are, rarely: while a pod is not ready, and once when it is.

What is kept only saves questions: after a restart of the operator each pod is asked once again.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from embedding_operator.api import Body, Key
from embedding_operator.health import pods
from embedding_operator.naming import CONTAINER, METRICS_PORT
from embedding_operator.observed import Observed, condition, is_true, timestamp
from embedding_operator.ports import Servers
from embedding_operator.readiness import READY, Report, Told

SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=60)
"""Between two questions to a pod that is not ready, or that says nothing: the longer it lasts, the rarer."""

AT_ONCE = 20
"""Pods of a resource that are asked in one go; the others follow at once."""


@dataclass(frozen=True)
class _Answer:
    """What a pod said, and when. mark tells runs of its container, and times of being ready, apart."""

    told: Told
    at: datetime
    mark: str


class Inquiry:
    """Asks for all resources; safe for several at once, one at a time each."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._answers: dict[Key, dict[str, _Answer]] = {}

    def forget(self, key: Key) -> None:
        """Drops what is kept for a resource that is gone."""
        self._answers.pop(key, None)

    async def ask(self, seen: Observed, now: datetime) -> tuple[Observed, datetime | None]:
        """Returns the view with what the servers said last, and when to ask again, None where never."""
        running = {pod["metadata"]["uid"]: pod for pod in seen.pods if pods.runs(pod, CONTAINER)}
        before = self._answers.get(seen.em.key, {})
        kept = {uid: before[uid] for uid, pod in running.items() if _holds(before.get(uid), pod)}
        due = [uid for uid, pod in running.items() if _due(kept.get(uid), pod) <= now]
        kept |= await self._asked([running[uid] for uid in due[:AT_ONCE]], now)
        self._answers[seen.em.key] = kept
        again = min((_due(kept.get(uid), pod) for uid, pod in running.items()), default=_NEVER)
        heard = {uid: answer.told for uid, answer in kept.items()}
        return replace(seen, heard=heard), None if again == _NEVER else again

    async def _asked(self, asked: Iterable[Body], now: datetime) -> dict[str, _Answer]:
        asked = list(asked)
        told = await asyncio.gather(*(self._servers.readiness(_host(pod), METRICS_PORT) for pod in asked))
        return {
            pod["metadata"]["uid"]: _Answer(said, now, _mark(pod))
            for pod, said in zip(asked, told, strict=True)
        }


_NEVER = datetime.max.replace(tzinfo=UTC)


def _due(answer: _Answer | None, pod: Body) -> datetime:
    """Returns when to ask a pod again: a ready one that has told with what it computes never."""
    if answer is None:
        return datetime.min.replace(tzinfo=UTC)
    if is_true(pod, "Ready") and isinstance(answer.told, Report) and answer.told.state == READY:
        return _NEVER
    since = timestamp((condition(pod, "Ready") or {}).get("lastTransitionTime")) or answer.at
    return answer.at + min(LONGEST, max(SHORTEST, (answer.at - since) / 10))


def _holds(answer: _Answer | None, pod: Body) -> bool:
    """Returns whether an answer is of the same run of the container, and from when it was as ready as now."""
    return answer is not None and answer.mark == _mark(pod)


def _mark(pod: Body) -> str:
    found = condition(pod, "Ready") or {}
    return f"{pods.restarts(pod, CONTAINER)} {found.get('status')} {found.get('lastTransitionTime')}"


def _host(pod: Body) -> str:
    return str(pod["status"]["podIP"])
