"""A model out of an image: mounted by the pods themselves, or copied into a claim once."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import caching, copying, prefetch, volumes
from embedding_operator.cache.prefetch import Done, Failed, Running
from embedding_operator.facts import Facts, Failure, from_annotation, from_result
from embedding_operator.health import pods
from embedding_operator.resources import cache, sources
from embedding_operator.resources.deployment import deployment
from tests.unit.operator import samples
from tests.unit.operator.world import World

REFERENCE = "models.example/minilm:v1"
IMAGE = {"source": {"oci": {"image": REFERENCE, "path": "models/minilm"}}}
COPIED = samples.model(model=IMAGE)
MOUNTED = samples.model(model=IMAGE, image_volumes=True)
CLAIM = "PersistentVolumeClaim"


def ended(code: int, message: str, reason: str = "Error") -> dict[str, Any]:
    """The status of a Job's pod whose copy has ended."""
    terminated = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    return {
        "phase": "Failed",
        "conditions": [{"type": "Initialized", "status": "False"}],
        "initContainerStatuses": samples.container_status(naming.COPY_CONTAINER, terminated),
        "containerStatuses": samples.container_status(
            naming.PREFETCH_CONTAINER, {"waiting": {"reason": "PodInitializing"}}
        ),
    }


@pytest.mark.parametrize(
    ("words", "reason", "permanent"),
    [
        ("cp: can't stat '/models': No such file or directory", "FolderNotFound", False),
        ("cp: cannot open '/models/a' for reading: Permission denied", "FolderUnreadable", False),
        ("cp: can't create directory '/.embedding-operator/.x': Permission denied", "CacheUnwritable", True),
        ("cp: can't create '/.embedding-operator/.x': Read-only file system", "CacheUnwritable", True),
        ("cp: write error: No space left on device", "DiskFull", True),
        ('unable to start container process: exec: "cp": executable file not found in $PATH', "NoCopyProgram",
         True),
    ],
)  # fmt: skip
def test_a_copy_that_failed_is_told_by_its_words(words: str, reason: str, permanent: bool) -> None:
    found = copying.failure(samples.pod("p", **ended(1, words)))
    assert found == Failure(reason, words, permanent)


def test_what_no_copy_says_is_not_made_up() -> None:
    assert copying.failure(samples.pod("p", **ended(0, "No such file or directory"))) is None
    assert copying.failure(samples.pod("p", **ended(1, "cp: hm"))) is None
    assert copying.failure(samples.pod("p")) is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FolderNotFound", "Correct spec.model.source.oci.path"),
        ("FolderUnreadable", "readable to everybody"),
        ("UnsupportedModel", "spec.model.source.oci.path"),
        ("NoCopyProgram", "Put a cp into image models.example/minilm:v1"),
        ("DiskFull", "spec.cache.size"),
        ("InternalError", "it is so."),
    ],
)
def test_a_failure_is_told_in_terms_of_the_image(reason: str, words: str) -> None:
    failed = Failed(Failure(reason, "it is so", permanent=True), samples.AT, 1, "a-job")
    found = caching.cached(COPIED, failed, None, None)
    assert (found.holds, found.reason) == (False, reason)
    assert words in found.message
    assert "hub" not in found.message


def test_a_mounted_image_needs_no_claim_and_no_node_of_its_own() -> None:
    assert naming.claim(MOUNTED) == ""
    assert not MOUNTED.makes_claim
    assert volumes.note(MOUNTED) == ""
    request = prefetch.request(cache.job(MOUNTED, samples.RUNTIME))
    assert (request.claim, request.image, request.folder) == ("", REFERENCE, "/models/models/minilm")
    assert sources.asked(MOUNTED, samples.RUNTIME) is None


def test_another_image_folder_or_way_is_another_job() -> None:
    other = samples.model(model={"source": {"oci": {"image": REFERENCE, "path": "models"}}})
    newer = samples.model(model={"source": {"oci": {"image": REFERENCE + "1", "path": "models/minilm"}}})
    assert len({naming.job(em) for em in (COPIED, MOUNTED, other, newer, samples.model())}) == 5


def test_a_copy_is_served_from_where_the_prefetch_has_put_it() -> None:
    request = prefetch.request(cache.job(COPIED, samples.RUNTIME))
    assert request.folder == f"/models/.{naming.job(COPIED)}"
    message = (
        '{"status":"ok","commit":"local","fingerprint":"abababab","task":"embed","folder":"/models/images/x"}'
    )
    found = from_result(message, request)
    assert isinstance(found, Facts)
    assert (found.folder, found.claim, found.image) == ("/models/images/x", naming.claim(COPIED), None)


def test_an_image_is_part_of_what_a_restarted_operator_knows() -> None:
    facts = samples.facts(MOUNTED, commit="local", folder="/models/models", image=REFERENCE)
    assert from_annotation(facts.to_json()) == facts
    pod = deployment(MOUNTED, facts, samples.RUNTIME)["spec"]["template"]["spec"]
    assert pod["volumes"][0] == {"name": "models", "image": {"reference": REFERENCE}}
    assert "initContainers" not in pod


def test_what_is_said_names_the_image() -> None:
    assert "in folder /models/minilm of image" in caching.cached(COPIED, Running("p"), None, None).message
    facts = samples.facts(MOUNTED, commit="local", folder="/models/models", image=REFERENCE)
    held = caching.cached(MOUNTED, Done(facts), None, None).message
    assert held.endswith(f"in image {REFERENCE}, which every pod mounts")


def test_a_pull_that_fails_names_the_image_that_is_mounted() -> None:
    words = f'failed to pull and unpack image "{REFERENCE}": not found'
    waiting = samples.container_status("server", {"waiting": {"reason": "ErrImagePull", "message": words}})
    pod = samples.pod("p", phase="Pending", containerStatuses=waiting)
    pod["spec"]["volumes"] = [{"name": "models", "image": {"reference": REFERENCE}}]
    problem = pods.diagnosis(pod, "server")
    assert problem
    assert problem.message.startswith(f"image {REFERENCE} cannot be pulled")


def test_it_is_served_and_steady_either_way() -> None:
    for mounts in (False, True):
        world = World(image_volumes=mounts, model=IMAGE)
        world.serve(commit="local", **({} if mounts else {"folder": "/models/images/x"}))
        assert bool(world.names(CLAIM)) is not mounts
        world.restart_operator()
        world.settle()


def test_a_cluster_that_learns_to_mount_images_goes_over_to_that() -> None:
    world = World(model=IMAGE)
    world.serve(commit="local", folder="/models/images/x")
    (before,) = world.names("Deployment")
    world.image_volumes = True
    world.restart_operator()
    world.prefetched(commit="local")
    world.settle()
    assert world.names("Deployment") == [before]
    world.roll()
    world.settle()
    world.clock.advance(60)
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert world.names(CLAIM) == []


def test_a_failed_copy_is_a_failure_of_the_job() -> None:
    world = World(model=IMAGE)
    world.reconcile()
    world.job_pod(**ended(1, "cp: can't stat '/models': No such file or directory"))
    world.job()["status"] = {
        "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": world.clock.stamp()}]
    }
    world.reconcile()
    assert world.condition("Cached")[1] == "FolderNotFound"
