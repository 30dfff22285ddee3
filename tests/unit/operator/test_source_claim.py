"""A model out of a folder on somebody's claim: nothing is made for it but the Job that looks at it."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import caching, prefetch
from embedding_operator.cache.prefetch import Done, Failed, Missing, Pending, Running
from embedding_operator.facts import Failure
from embedding_operator.resources import cache, sources
from embedding_operator.resources.deployment import deployment
from tests.unit.operator import samples
from tests.unit.operator.world import World

FOLDER = {"source": {"pvc": {"claimName": "models", "path": "minilm"}}}
EM = samples.model(model=FOLDER)
FACTS = samples.facts(EM, commit="local", folder="/models/minilm", foreign=True)


def with_path(path: str | None) -> Any:
    pvc = {"claimName": "models"} | ({} if path is None else {"path": path})
    return samples.model(model={"source": {"pvc": pvc}})


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (None, "/models"),
        ("", "/models"),
        ("minilm", "/models/minilm"),
        ("hub/models--a--b/snapshots/1", "/models/hub/models--a--b/snapshots/1"),
    ],
)
def test_the_path_is_from_the_claims_root(path: str | None, folder: str) -> None:
    assert sources.folder(with_path(path)) == folder


def test_nobody_is_asked_and_nobody_gets_the_right_to_write() -> None:
    job = cache.job(EM, samples.RUNTIME)
    pods = deployment(EM, FACTS, samples.RUNTIME)
    env = {item["name"] for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env.isdisjoint({"HF_ENDPOINT", "HF_TOKEN", "MODEL_REVISION"})
    for body in (job, pods):
        spec = body["spec"]["template"]["spec"]
        claim = {"claimName": "models", "readOnly": True}
        assert [volume["persistentVolumeClaim"] for volume in spec["volumes"][:1]] == [claim]
        assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert sources.asked(EM, samples.RUNTIME) is None


def test_another_folder_is_another_job_on_the_same_claim() -> None:
    other = with_path("other")
    assert naming.claim(other) == naming.claim(EM) == "models"
    assert naming.job(other) != naming.job(EM)


def test_the_job_says_where_the_pods_find_it() -> None:
    request = prefetch.request(cache.job(EM, samples.RUNTIME))
    assert (request.claim, request.folder, request.foreign) == ("models", "/models/minilm", True)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FolderNotFound", "Correct spec.model.source.pvc.path"),
        ("FolderUnreadable", "user or group 65532"),
        ("UnsupportedModel", "spec.model.source.pvc.path"),
        ("TaskMismatch", "spec.model.task"),
        ("InternalError", "it is so."),
    ],
)
def test_a_failure_is_told_in_terms_of_the_claim(reason: str, words: str) -> None:
    failed = Failed(Failure(reason, "it is so", permanent=True), samples.AT, 1, "the-job")
    found = caching.cached(EM, failed, None, None)
    assert (found.holds, found.reason) == (False, reason)
    assert words in found.message
    assert "hub" not in found.message


def test_a_missing_claim_is_told_by_its_field() -> None:
    words = 'cannot be scheduled: persistentvolumeclaim "models" not found'
    found = caching.cached(EM, Pending("Unschedulable", words), None, None)
    assert found.reason == "MissingClaim"
    assert "claim models, which spec.model.source.pvc.claimName names" in found.message


def test_what_is_said_names_the_folder() -> None:
    assert "in folder minilm of claim models" in caching.cached(EM, Running("p"), None, None).message
    done = caching.cached(EM, Done(FACTS), None, None).message
    assert done.endswith("is /models/minilm, 90.9 MB, in claim models")
    known = caching.cached(EM, Missing(), None, FACTS)
    assert (known.holds, known.reason) == (True, "Checking")


def test_it_is_served_from_the_claim_which_is_left_alone() -> None:
    world = World(model=FOLDER)
    world.serve(commit="local")
    assert world.names("PersistentVolumeClaim") == []
    volumes = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == "models"
    assert "resolvedRevision" not in world.em["status"]
    world.settle()


def test_from_the_hub_to_the_same_files_in_a_folder_is_a_rollout_of_the_same_set() -> None:
    world = World()
    world.serve()
    (before,) = world.names("Deployment")
    world.change(model=world.em["spec"]["model"] | FOLDER)
    world.prefetched(commit="local")
    world.settle()
    assert world.names("Deployment") == [before]
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert "resolvedRevision" not in world.em["status"]


def test_changed_content_is_another_set_once_the_job_has_looked_again() -> None:
    world = World(model=FOLDER)
    world.serve(commit="local")
    world.cluster.remove("Job", world.names("Job")[0])
    world.cluster.objects = {k: v for k, v in world.cluster.objects.items() if k[0] != "Pod"}
    world.prefetched(commit="local", fingerprint=samples.OTHER)
    world.settle()
    assert len(world.names("Deployment")) == 2
    assert world.serving() == naming.short(samples.FINGERPRINT)
    world.roll(f"minilm-{naming.short(samples.OTHER)}")
    world.settle()
    assert world.serving() == naming.short(samples.OTHER)
