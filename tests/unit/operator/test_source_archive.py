"""A model out of an archive: the Job unpacks it into a claim of ours, the pods serve its folder."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import caching, prefetch
from embedding_operator.cache.prefetch import UNMOUNTED, Done, Failed, Pending, Progress, Running
from embedding_operator.facts import Failure
from embedding_operator.fetching.line import HELD_BACK
from embedding_operator.resources import cache, sources
from embedding_operator.resources.deployment import deployment
from tests.unit.operator import samples
from tests.unit.operator.world import World

SHA256 = "5f" * 32
ARCHIVE = {"url": "https://files.example/minilm.tar.gz", "sha256": SHA256}
FOLDER = f"/models/archives/{SHA256}"
REFS = {"tokenSecretRef": {"name": "t", "key": "k"}, "caBundleRef": {"name": "c", "key": "k"}}


def model(**url: Any) -> Any:
    return samples.model(model={"source": {"url": ARCHIVE | url}})


EM = model()


def env(body: dict[str, Any]) -> dict[str, Any]:
    container = body["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


@pytest.mark.parametrize(("path", "folder"), [("", FOLDER), ("a/b", f"{FOLDER}/a/b")])
def test_the_path_is_from_the_archives_root(path: str, folder: str) -> None:
    assert sources.folder(model(path=path)) == folder


def test_the_job_is_told_of_the_archive_and_of_no_hub() -> None:
    found = env(cache.job(model(**REFS), samples.RUNTIME))
    assert (found["MODEL_URL"], found["MODEL_SHA256"], found["MODEL_PATH"]) == (
        ARCHIVE["url"],
        SHA256,
        FOLDER,
    )
    assert found["MODEL_URL_TOKEN"] == {"secretKeyRef": {"name": "t", "key": "k"}}
    assert found.keys().isdisjoint({"HF_ENDPOINT", "HF_TOKEN", "MODEL_REVISION"})


def test_the_pods_get_a_folder_of_our_claim_to_read_and_no_token() -> None:
    facts = samples.facts(EM, commit="local", folder=FOLDER)
    body = deployment(model(**REFS), facts, samples.RUNTIME)
    spec = body["spec"]["template"]["spec"]
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": naming.claim(EM)}
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert not [name for name in env(body) if name.startswith("MODEL_URL")]


def test_the_claim_follows_the_content_and_not_the_address() -> None:
    assert naming.claim(model(url="http://elsewhere.example/a.zip")) == naming.claim(EM)
    others = [model(sha256="60" * 32), model(path="bge"), samples.model()]
    assert len({naming.claim(em) for em in (EM, *others)}) == 4


def test_another_address_is_reason_to_try_again_and_not_to_fetch_again() -> None:
    world = World(model={"source": {"url": ARCHIVE}})
    world.reconcile()
    world.end_job(samples.error("ModelNotFound", "404: nothing", permanent=True), well=False)
    world.reconcile()
    before = world.job()["metadata"]["uid"]
    world.em["spec"]["model"]["source"]["url"]["url"] = "https://other.example/minilm.tar.gz"
    world.reconcile()
    assert world.job()["metadata"]["uid"] != before
    world.cluster.objects = {k: v for k, v in world.cluster.objects.items() if k[0] != "Pod"}
    world.end_job(samples.ok(commit="local"), well=True, suffix="1")
    world.reconcile()
    done = world.job()["metadata"]["uid"]
    world.em["spec"]["model"]["source"]["url"]["url"] = ARCHIVE["url"]
    world.settle()
    assert world.job()["metadata"]["uid"] == done


def test_it_is_served_from_its_folder_and_has_no_revision() -> None:
    world = World(model={"source": {"url": ARCHIVE}})
    world.serve(commit="local")
    assert world.names("PersistentVolumeClaim") == [naming.claim(EM)]
    assert "resolvedRevision" not in world.em["status"]
    (options,) = (body for body in world.cluster.all("ConfigMap"))
    assert f'"path": "{FOLDER}"' in options["data"]["models.json"]
    world.settle()


def test_a_limit_of_the_host_holds_back_what_else_is_there() -> None:
    job = cache.job(EM, samples.RUNTIME)
    assert prefetch.hub(job) == sources.asked(EM, samples.RUNTIME) == "https://files.example"
    world = World(model={"source": {"url": ARCHIVE}})
    world.reconcile()
    limited = samples.error("RateLimited", "429", permanent=False, retry_after=1800)
    world.end_job(limited, well=False)
    world.reconcile()
    world.change(model=world.em["spec"]["model"] | {"source": {"url": ARCHIVE | {"sha256": "60" * 32}}})
    world.reconcile()
    assert world.condition("Cached")[1] == HELD_BACK
    assert "https://files.example limits" in world.condition("Cached")[2]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("DigestMismatch", "Correct spec.model.source.url.sha256"),
        ("UnsupportedArchive", "tar, tar.gz or zip"),
        ("UnsupportedModel", "spec.model.source.url.path"),
        ("ModelNotFound", "Correct spec.model.source.url.url"),
        ("AccessDenied", "spec.model.source.url.tokenSecretRef"),
        ("RateLimited", "Nothing has to be done"),
        ("HubUnreachable", "spec.model.source.url.caBundleRef"),
        ("DiskFull", "need room together"),
        ("CacheUnwritable", "65532"),
        ("TaskMismatch", "spec.model.task"),
        ("InternalError", "it is so."),
    ],
)
def test_a_failure_is_told_in_terms_of_the_archive(reason: str, words: str) -> None:
    for em in (EM, model(**REFS)):
        failed = Failed(Failure(reason, "it is so", permanent=True), samples.AT, 1, "j")
        found = caching.cached(em, failed, None, None)
        assert (found.holds, found.reason) == (False, reason)
        assert words in found.message
        assert "hub" not in found.message


def test_a_token_that_is_refused_is_told_by_its_secret() -> None:
    failed = Failed(Failure("AccessDenied", "401", permanent=True), samples.AT, 1, "j")
    assert "Secret t, key k" in caching.cached(model(**REFS), failed, None, None).message


def test_a_file_that_somebody_may_put_right_is_looked_at_again() -> None:
    for reason, again in (("DigestMismatch", True), ("UnsupportedArchive", False)):
        failed = Failed(Failure(reason, "it is so", permanent=True), samples.AT, 1, "j")
        assert (caching.retry_at(failed) is not None) is again


@pytest.mark.parametrize(
    ("reason", "message", "kind", "field"),
    [
        ("CreateContainerConfigError", 'secret "t" not found', "MissingSecret", "tokenSecretRef"),
        (UNMOUNTED, f'volume "{naming.CERTIFICATES_VOLUME}"', "MissingConfigMap", "caBundleRef"),
    ],
)
def test_what_the_spec_names_and_nobody_made_is_told(
    reason: str, message: str, kind: str, field: str
) -> None:
    found = caching.cached(model(**REFS), Pending(reason, message), None, None)
    assert found.reason == kind
    assert f"which spec.model.source.url.{field} names" in found.message


def test_what_is_said_names_address_and_folder() -> None:
    assert ARCHIVE["url"] in caching.cached(EM, Running("p"), None, None).message
    unpacking = caching.cached(EM, Running("p"), Progress("unpacking", 5, None, ""), None)
    assert (unpacking.reason, unpacking.bytes) == ("Unpacking", 5)
    done = caching.cached(EM, Done(samples.facts(EM, folder=FOLDER)), None, None).message
    assert done.endswith(f"is {FOLDER}, 90.9 MB, in claim {naming.claim(EM)}")


def test_nobody_is_asked_how_large_an_archive_is() -> None:
    world = World(model={"source": {"url": ARCHIVE}}, cache={"size": None})
    world.reconcile()
    assert world.names("Job") == [naming.job(EM)]


def test_pods_with_a_volume_each_unpack_it_for_themselves() -> None:
    em = samples.model(model={"source": {"url": ARCHIVE}}, cache={"mode": "PerReplica"})
    facts = samples.facts(em, commit="local", folder=FOLDER)
    (init,) = deployment(em, facts, samples.RUNTIME)["spec"]["template"]["spec"]["initContainers"]
    found = {item["name"]: item.get("value") for item in init["env"]}
    assert (found["MODEL_URL"], found["MODEL_SHA256"], found["MODEL_PATH"]) == (
        ARCHIVE["url"],
        SHA256,
        FOLDER,
    )
    assert "MODEL_REVISION" not in found
