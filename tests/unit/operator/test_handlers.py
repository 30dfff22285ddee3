"""kopf's side: which watches are filtered how, what is kept of objects, and what the cache shows."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import kopf
import pytest

from embedding_operator import api, handlers, naming
from embedding_operator.api import Key
from embedding_operator.observed import CHILD_KINDS
from tests.unit.operator import samples

KEY = Key("default", "minilm")


class Index(Mapping[Key, list[Any]]):
    """What kopf's index looks like to a reader."""

    def __init__(self, **found: list[Any]) -> None:
        self.found = {Key("default", name): bodies for name, bodies in found.items()}

    def __getitem__(self, key: Key) -> list[Any]:
        return self.found[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def body(uid: str, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"metadata": {"uid": uid, "creationTimestamp": created}}


def kept(kind: str, body: Any) -> Any:
    return handlers._kept(kind, kopf.Body(body))


def cache(**indexes: Index) -> handlers.IndexCache:
    found = handlers.IndexCache()
    found.bind(indexes)  # type: ignore[arg-type]
    return found


def test_a_resource_that_was_made_again_is_the_younger_one() -> None:
    found = cache(EmbeddingModel=Index(minilm=[body("b", "2026-01-02T00:00:00Z"), body("a")]))
    resource = found.resource(KEY)
    assert resource
    assert resource["metadata"]["uid"] == "b"
    assert found.resource(Key("default", "other")) is None


def test_what_was_buried_is_not_shown_again() -> None:
    found = cache(EmbeddingModel=Index(minilm=[body("a")]), Job=Index(minilm=[body("b"), body("c")]))
    found.bury({"a", "b"})
    assert found.resource(KEY) is None
    assert [job["metadata"]["uid"] for job in found.children(KEY)["Job"]] == ["c"]


def test_jobs_of_all_resources_are_told() -> None:
    found = cache(Job=Index(minilm=[body("a")], other=[body("b"), body("c")]))
    found.bury({"b"})
    assert [job["metadata"]["uid"] for job in found.jobs()] == ["a", "c"]


def test_a_repeated_list_is_noticed_once_and_a_first_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "AFTER_LIST_SECONDS", 0.0)

    async def run() -> list[int]:
        calls: list[int] = []
        listings = handlers.Listings(lambda: calls.append(1))
        found = []
        for events in (
            [(None, "a"), (None, "b")],  # the first list
            [("MODIFIED", "a"), ("ADDED", "c"), ("DELETED", "b")],
            [(None, "a"), (None, "c")],  # again, twice
            [(None, "a"), (None, "c")],
            [(None, "b")],  # was told to be gone: not a repetition
        ):
            for kind, uid in events:
                listings.note(kind, uid)
            await asyncio.sleep(0.01)
            found.append(len(calls))
        return found

    assert asyncio.run(run()) == [0, 0, 1, 2, 2]


def test_every_kind_has_its_list_of_children() -> None:
    children = handlers.IndexCache().children(KEY)
    assert set(children) == set(CHILD_KINDS)


@pytest.mark.parametrize(
    ("group", "version", "plural", "filtered"),
    [
        ("", "v1", "pods", True),
        ("", "v1", "services", True),
        ("", "v1", "persistentvolumeclaims", True),
        ("apps", "v1", "deployments", True),
        ("batch", "v1", "jobs", True),
        ("policy", "v1", "poddisruptionbudgets", True),
        (api.GROUP, api.VERSION, api.PLURAL, False),
    ],
)
def test_children_are_filtered_in_the_api_server(
    group: str, version: str, plural: str, filtered: bool
) -> None:
    settings = handlers.configure(kopf.OperatorSettings())
    resource = kopf.Resource(group, version, plural, namespaced=True)
    selectors = settings.watching.label_selectors.collect(resource)
    assert selectors == ([naming.CHILD_SELECTOR] if filtered else [])


def test_kopf_writes_nothing_and_waits_for_nothing_without_a_bound() -> None:
    settings = handlers.configure(kopf.OperatorSettings())
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.networking.request_timeout
    assert settings.watching.server_timeout
    assert settings.watching.client_timeout


def test_only_events_and_indexes_are_handled() -> None:
    registry = handlers.registry(handlers.IndexCache(), lambda key, *, fresh=False: None, lambda: 0.0)
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())
    assert not list(registry._webhooks.get_all_handlers())
    assert len(list(registry._watching.get_all_handlers())) == len(CHILD_KINDS) + 1
    assert len(list(registry._indexing.get_all_handlers())) == len(CHILD_KINDS) + 1


def test_what_only_costs_memory_is_not_kept() -> None:
    pod = samples.pod("p", phase="Running")
    pod["metadata"]["managedFields"] = [{}]
    pod["spec"] = {"nodeName": "n", "volumes": [], "containers": [{"env": []}]}
    found = kept("Pod", pod)
    assert found["spec"] == {"nodeName": "n", "volumes": []}
    pod["spec"]["initContainers"] = [{"name": "a", "restartPolicy": "Always", "env": []}, {"name": "b"}]
    assert kept("Pod", pod)["spec"]["initContainers"] == [
        {"name": "a", "restartPolicy": "Always"}, {"name": "b", "restartPolicy": None}
    ]  # fmt: skip
    assert "managedFields" not in found["metadata"]
    job = {"kind": "Job", "metadata": {"managedFields": [{}]}}
    assert kept("Job", job) == job
