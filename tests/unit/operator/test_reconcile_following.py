"""The reconcile with revisionPolicy Follow: a branch that moves is a change of the source."""

import json
from typing import Any

import pytest

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

FOLLOW = {"revisionPolicy": "Follow", "revisionCheckInterval": "1h"}
FIRST, SECOND = "1" * 40, "2" * 40
LATER = 3960  # an interval and its jitter
DENIED = samples.error("AccessDenied", "401: refused", permanent=True)


def checks(world: World) -> list[dict[str, Any]]:
    found = [job for job in world.cluster.all("Job") if "-check-" in job["metadata"]["name"]]
    return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))


def fetching(world: World) -> list[dict[str, Any]]:
    return [job for job in world.cluster.all("Job") if "-check-" not in job["metadata"]["name"]]


def answer(world: World, commit: str | None = None, *, well: bool = True, **result: Any) -> None:
    """The last check ends."""
    job = checks(world)[-1]
    suffix = f"{job['metadata']['uid']}"
    world.end_job(result or samples.resolved(commit=commit), well=well, job=job, suffix=suffix)


def fetched(world: World, commit: str, **result: Any) -> None:
    """The Job that fetches this commit ends well."""
    (job,) = (job for job in fetching(world) if env(job)["MODEL_REVISION"] == commit)
    world.end_job(samples.ok(commit=commit, **result), well=True, job=job, suffix=commit[0])


def env(job: dict[str, Any]) -> dict[str, Any]:
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return {item["name"]: item.get("value") for item in variables}


def followed(**spec: Any) -> World:
    """A resource that serves the first commit."""
    world = World(model=FOLLOW, **spec)
    world.settle()
    answer(world, FIRST)
    world.settle()
    fetched(world, FIRST)
    world.settle()
    world.roll()
    world.settle()
    world.clock.advance(10)
    assert world.ready() == ("True", "Ready")
    return world


def check_again(world: World, commit: str | None = None, *, well: bool = True, **result: Any) -> None:
    world.clock.advance(LATER)
    world.settle()
    answer(world, commit, well=well, **result)
    world.settle()


def test_the_commit_is_asked_for_before_anything_is_fetched() -> None:
    world = World(model=FOLLOW)
    world.settle()
    assert (len(checks(world)), fetching(world), world.names("PersistentVolumeClaim")) == (1, [], [])
    assert env(checks(world)[0])["MODEL_REVISION"] == "main"
    assert world.ready() == ("False", "Pending")
    answer(world, FIRST)
    world.settle()
    assert [env(job)["MODEL_REVISION"] for job in fetching(world)] == [FIRST]


def test_nothing_is_written_between_two_checks() -> None:
    world = followed()
    world.restart_operator()
    world.settle()
    outcome = world.reconcile()
    assert outcome.look_again is not None
    assert 3000 < outcome.look_again < LATER
    world.cluster.writes()
    for _ in range(5):
        world.clock.advance(500)
        world.reconcile(fresh=True)
    assert world.cluster.writes() == []


def test_a_check_that_finds_the_same_changes_nothing_but_its_job() -> None:
    world = followed()
    before = world.em["metadata"]["resourceVersion"]
    deployment = world.cluster.find("Deployment")["metadata"]["resourceVersion"]
    check_again(world, FIRST)
    assert world.em["metadata"]["resourceVersion"] == before
    assert world.cluster.find("Deployment")["metadata"]["resourceVersion"] == deployment
    assert len(checks(world)) == 1
    check_again(world, FIRST)
    assert len(checks(world)) == 1


def test_a_moved_branch_is_fetched_beside_what_serves_and_switched_to() -> None:
    world = followed()
    check_again(world, SECOND)
    assert len(world.names("PersistentVolumeClaim")) == 2
    assert world.em["status"]["resolvedRevision"] == FIRST
    assert world.condition("Available")[0] == "True"
    fetched(world, SECOND, fingerprint=samples.OTHER)
    world.settle()
    assert world.serving() == naming.short(samples.FINGERPRINT)
    world.roll(f"minilm-{samples.OTHER[:8]}")
    world.settle()
    world.clock.advance(10)
    world.settle()
    assert world.serving() == naming.short(samples.OTHER)
    assert world.em["status"]["resolvedRevision"] == SECOND
    for pod in world.cluster.all("Pod"):
        world.cluster.remove("Pod", pod["metadata"]["name"])
    world.settle()
    assert len(world.names("PersistentVolumeClaim")) == 1
    assert world.ready() == ("True", "Ready")


def test_a_moved_branch_of_the_same_space_is_a_rolling_update() -> None:
    world = followed()
    check_again(world, SECOND)
    fetched(world, SECOND)
    world.settle()
    assert len(world.names("Deployment")) == 1
    assert world.condition("Progressing")[:2] == ("True", "RollingOut")
    world.roll()
    world.settle()
    assert world.em["status"]["resolvedRevision"] == SECOND


def test_the_status_names_the_commit_that_serves_after_a_roll_back() -> None:
    world = followed()
    check_again(world, SECOND)
    fetched(world, SECOND)
    world.settle()
    world.cluster.find("Deployment")["status"] = {
        "observedGeneration": world.cluster.find("Deployment")["metadata"]["generation"],
        "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
        ],
    }  # fmt: skip
    world.settle()
    assert world.condition("Progressing")[:2] == ("False", "RolledBack")
    assert world.em["status"]["resolvedRevision"] == FIRST
    check_again(world, SECOND)
    assert world.condition("Progressing")[:2] == ("False", "RolledBack")


def test_a_failing_check_is_told_until_one_succeeds_and_changes_nothing() -> None:
    world = followed()
    spec = json.dumps(world.cluster.find("Deployment")["spec"])
    check_again(world, well=False, **DENIED)
    for _ in range(2):
        held, reason, message = world.condition("Cached")
        assert (held, reason) == ("True", "CheckFailed")
        assert "main cannot be looked up again: 401: refused" in message
        assert world.ready() == ("True", "Ready")
        world.clock.advance(LATER)
        world.settle()  # asked again, without an answer yet
    assert json.dumps(world.cluster.find("Deployment")["spec"]) == spec
    answer(world, FIRST)
    world.settle()
    assert world.condition("Cached")[:2] == ("True", "Cached")


def test_a_commit_that_cannot_be_served_is_told_and_a_branch_that_is_put_back_mends_it() -> None:
    world = followed()
    check_again(world, SECOND)
    (job,) = (job for job in fetching(world) if env(job)["MODEL_REVISION"] == SECOND)
    unsupported = samples.error("UnsupportedModel", "no ONNX weights", permanent=True)
    world.end_job(unsupported, well=False, job=job, suffix="2")
    world.settle()
    assert world.condition("Cached")[:2] == ("False", "UnsupportedModel")
    assert world.condition("Available")[0] == "True"
    check_again(world, FIRST)
    assert world.ready() == ("True", "Ready")
    assert [env(job)["MODEL_REVISION"] for job in fetching(world)] == [FIRST]
    assert len(world.names("PersistentVolumeClaim")) == 1


def test_a_first_check_that_fails_is_told_as_a_download_that_fails() -> None:
    world = World(model=FOLLOW)
    world.settle()
    answer(world, well=False, **DENIED)
    world.settle()
    assert world.ready() == ("False", "AccessDenied")
    assert checks(world)[0]["metadata"]["name"] in world.condition("Cached")[2]
    world.clock.advance(600)
    world.settle()
    assert world.ready() == ("False", "AccessDenied")
    answer(world, FIRST)
    world.settle()
    assert [env(job)["MODEL_REVISION"] for job in fetching(world)] == [FIRST]


def test_a_lagging_watch_never_forgets_the_commit_nor_asks_twice() -> None:
    world = followed()
    check_again(world, SECOND)
    fetched(world, SECOND, fingerprint=samples.OTHER)
    world.settle()
    names = world.names("Deployment")
    world.clock.advance(LATER)
    world.reconcile()
    made = checks(world)[-1]["metadata"]["uid"]
    world.cluster.hidden.add(made)
    world.reconcile()
    world.reconcile()
    assert checks(world)[-1]["metadata"]["uid"] == made
    assert world.names("Deployment") == names
    assert [env(job)["MODEL_REVISION"] for job in fetching(world)] == [FIRST, SECOND]


def test_checks_that_somebody_removed_are_made_again_and_disturb_nothing() -> None:
    world = followed()
    for job in checks(world):
        world.cluster.remove("Job", job["metadata"]["name"])
    names = world.names("PersistentVolumeClaim")
    world.settle()
    assert len(checks(world)) == 1
    assert world.ready() == ("True", "Ready")
    assert world.names("PersistentVolumeClaim") == names


def test_a_commit_that_is_being_fetched_is_not_given_up_where_somebody_removes_the_check() -> None:
    world = followed()
    check_again(world, SECOND)
    before = {job["metadata"]["uid"] for job in fetching(world)}
    for job in checks(world):
        world.cluster.remove("Job", job["metadata"]["name"])
    world.settle()
    assert {job["metadata"]["uid"] for job in fetching(world)} == before
    assert len(world.names("PersistentVolumeClaim")) == 2


def test_a_pinned_model_that_is_to_be_followed_is_not_fetched_again() -> None:
    world = World()
    world.serve()
    names = world.names("PersistentVolumeClaim")
    world.em["spec"]["model"] |= FOLLOW
    world.settle()
    answer(world, samples.COMMIT)
    world.settle()
    assert world.names("PersistentVolumeClaim") == names
    assert world.ready() == ("True", "Ready")
    check_again(world, SECOND)
    assert len(world.names("PersistentVolumeClaim")) == 2


@pytest.mark.parametrize("retention", ["Delete", "Retain"])
def test_the_claim_of_a_commit_goes_when_nothing_stands_on_it(retention: str) -> None:
    world = followed(cache={"size": "5Gi", "retention": retention})
    check_again(world, SECOND)
    fetched(world, SECOND)
    world.settle()
    world.roll()
    world.settle()
    for pod in world.cluster.all("Pod"):
        world.cluster.remove("Pod", pod["metadata"]["name"])
    world.settle()
    (claim,) = world.cluster.all("PersistentVolumeClaim")
    assert bool(claim["metadata"].get("ownerReferences")) is (retention == "Delete")
    mounted = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"][0]
    assert mounted["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_retained_claim_of_a_commit_is_taken_again_by_a_resource_of_the_same_name() -> None:
    world = followed(cache={"size": "5Gi", "retention": "Retain"})
    claim = world.cluster.find("PersistentVolumeClaim")["metadata"]["uid"]
    for kind in ("Job", "Deployment", "ConfigMap", "Pod", "Service", "ControllerRevision"):
        for name in world.names(kind):
            world.cluster.remove(kind, name)
    spec = {"apiVersion": world.em["apiVersion"], "kind": world.em["kind"], "spec": world.em["spec"]}
    world.cluster.put(spec | {"metadata": {"name": "minilm", "uid": "another", "generation": 1}})
    world.settle()
    assert world.cluster.find("PersistentVolumeClaim")["metadata"]["uid"] == claim
    answer(world, FIRST)
    world.settle()
    assert world.cluster.find("PersistentVolumeClaim")["metadata"]["uid"] == claim
    assert [env(job)["MODEL_REVISION"] for job in fetching(world)] == [FIRST]


def test_nothing_is_looked_up_while_suspended() -> None:
    world = followed()
    world.change(suspend=True)
    world.settle()
    world.clock.advance(LATER)
    uid = checks(world)[-1]["metadata"]["uid"]
    world.settle()
    assert checks(world)[-1]["metadata"]["uid"] == uid
    world.change(suspend=False)
    world.settle()
    assert checks(world)[-1]["metadata"]["uid"] != uid


def test_nothing_is_looked_up_while_a_commit_is_fetched() -> None:
    world = followed()
    check_again(world, SECOND)
    uid = checks(world)[-1]["metadata"]["uid"]
    world.clock.advance(LATER)
    world.settle()
    assert checks(world)[-1]["metadata"]["uid"] == uid


def test_each_commits_claim_is_measured_for_itself() -> None:
    world = World(model=FOLLOW, cache={"size": None})
    world.settle()
    answer(world, FIRST)
    world.settle()
    for commit, count, size in ((FIRST, 10**9, "3Gi"), (SECOND, 10**10, "24Gi")):
        (job,) = (job for job in fetching(world) if job["metadata"]["name"].endswith("-size"))
        assert env(job)["MODEL_REVISION"] == commit
        world.end_job(samples.resolved(commit=commit, bytes=count), well=True, job=job, suffix=f"size-{size}")
        world.settle()
        assert world.em["status"]["cache"]["size"] == size
        fetched(world, commit)
        world.settle()
        world.roll()
        world.settle()
        if commit == FIRST:
            check_again(world, SECOND)
