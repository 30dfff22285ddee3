"""Of six models that come at once four are fetched, the others wait.

Pain 8, a hub that limits by address (aicr#1116, dynamo#874).
"""

from typing import Any

from e2e.cases.kubectl import Kubectl, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
LIMIT = 4
NAMES = [f"queued-{number}" for number in range(6)]


def test_never_more_jobs_than_the_limit_and_all_get_their_model(kubectl: Kubectl) -> None:
    most = 0
    waited: set[str] = set()

    def all_cached() -> bool:
        nonlocal most
        most = max(most, sum(1 for job in kubectl.list("jobs") if not _has_ended(job)))
        reasons = {item["metadata"]["name"]: _cached(item) for item in kubectl.list("embeddingmodels")}
        waited.update(name for name, found in reasons.items() if found.get("reason") == "Waiting")
        return all(reasons[name].get("status") == "True" for name in NAMES)

    kubectl.apply(*(model(name, RERANKER, replicas=0) for name in NAMES))
    kubectl.wait("six models cached", all_cached, 300)
    assert 1 < most <= LIMIT  # what was seen of them: they take seconds
    assert len(waited) >= len(NAMES) - LIMIT


def test_the_place_in_the_line_is_said_in_an_event_that_warns_of_nothing(kubectl: Kubectl) -> None:
    told = [event for event in kubectl.list("events") if event["reason"] == "Waiting"]
    assert told
    assert {event["type"] for event in told} == {"Normal"}
    assert all("MAX_CONCURRENT_PREFETCHES" in event["message"] for event in told)


def _has_ended(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(item["type"] in ("Complete", "Failed") and item["status"] == "True" for item in conditions)


def _cached(resource: dict[str, Any]) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = resource.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == "Cached"), {})
