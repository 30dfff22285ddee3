"""What the pods behind the Service compute with, as they say it themselves. Pure."""

from dataclasses import dataclass

from embedding_operator import naming, readiness
from embedding_operator.facts import Facts
from embedding_operator.observed import Observed, is_true
from embedding_operator.readiness import Report

CPU_FALLBACK = "CPUFallback"


@dataclass(frozen=True)
class Computing:
    """provider is cpu or cuda (or both, where pods differ), precision such as fp32.

    fallback says how many pods are not where they were asked to be, and why; empty where all are.
    """

    provider: str
    precision: str
    fallback: str = ""


def computing(seen: Observed, facts: Facts | None) -> Computing | None:
    """Returns what the ready pods of a set compute with, None where none has told.

    Before they are asked again, as after a restart of the operator, the status says what they told last.
    """
    if facts is None:
        return None
    pods = seen.pods_with(naming.selector(seen.em.name, facts.fingerprint))
    told = [seen.heard.get(pod["metadata"].get("uid", "")) for pod in pods if is_true(pod, "Ready")]
    reports = [said for said in told if isinstance(said, Report) and said.state == readiness.READY]
    if not reports:
        return _before(seen, facts) if told else None
    fallen = [said.fallback for said in reports if said.fallback]
    return Computing(
        ", ".join(sorted({said.provider for said in reports})),
        ", ".join(sorted({said.precision for said in reports})),
        f"{len(fallen)} of {len(reports)} pods fell back to the CPU: {fallen[0]}" if fallen else "",
    )


def _before(seen: Observed, facts: Facts) -> Computing | None:
    status = seen.em.status
    if status.get("fingerprint") != facts.fingerprint or "provider" not in status:
        return None
    return Computing(status["provider"], status.get("precision", ""))
