"""The reconcile and the prefetch Job: failures, retries, results that are kept."""

import pytest

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

NOT_FOUND = samples.error("ModelNotFound", "404: no model sentence-transformers/nothing", permanent=True)
DENIED = samples.error("AccessDenied", "401: the hub does not accept the token", permanent=True)
UNSUPPORTED = samples.error("UnsupportedModel", "no ONNX weights in sentence-transformers/x", permanent=True)
UNREACHABLE = samples.error("HubUnreachable", "cannot connect to http://hub.example", permanent=False)


def running(world: World, log: str = "") -> None:
    state = samples.container_status(naming.PREFETCH_CONTAINER, {"running": {}}, started=True)
    pod = world.job_pod(phase="Running", containerStatuses=state)
    world.cluster.logs[pod["metadata"]["name"]] = log


def test_a_permanent_failure_is_told_and_not_repeated() -> None:
    world = World()
    world.reconcile()
    world.end_job(UNSUPPORTED, well=False)
    world.settle()
    uid = world.job()["metadata"]["uid"]
    world.clock.advance(36000)
    outcome = world.reconcile()
    assert world.job()["metadata"]["uid"] == uid
    assert outcome.look_again is None
    for kind in ("Cached", "Ready"):
        status, reason, message = world.condition(kind)
        assert (status, reason) == ("False", "UnsupportedModel")
        assert "sentence-transformers/x" in message
        assert "spec.model.file" in message
    assert world.condition("Progressing")[:2] == ("False", "UnsupportedModel")
    assert world.cluster.events[-1][0::2] == ("UnsupportedModel", True)


def test_what_somebody_may_mend_elsewhere_is_looked_at_again_slowly() -> None:
    world = World()
    world.reconcile()
    pauses = []
    for _ in range(5):
        world.end_job(DENIED, well=False)
        pauses.append(world.reconcile().look_again or 0)
        assert "It is tried again at" in world.condition("Cached")[2]
        uid = world.job()["metadata"]["uid"]
        world.clock.advance(pauses[-1])
        world.reconcile()
        assert world.job()["metadata"]["uid"] != uid
    assert pauses == [600, 1200, 2400, 3600, 3600]


def test_it_stays_said_while_it_is_tried_again_and_makes_one_event() -> None:
    world = World()
    world.reconcile()
    world.end_job(DENIED, well=False)
    world.settle()
    world.clock.advance(600)
    events = len(world.cluster.events)
    world.reconcile()
    world.settle()
    assert world.ready() == ("False", "AccessDenied")
    assert "It is being tried again" in world.condition("Cached")[2]
    assert world.condition("Stalled")[0] == "True"
    world.restart_operator()
    running(world, '{"event":"progress","phase":"resolving","bytes":0,"total":null,"message":""}')
    world.reconcile()
    assert world.ready() == ("False", "AccessDenied")
    assert len(world.cluster.events) == events
    world.clock.advance(5)
    name = world.cluster.find("Pod")["metadata"]["name"]
    world.cluster.logs[name] = '{"event":"progress","phase":"downloading","bytes":1,"total":2,"message":""}'
    world.reconcile()
    assert world.condition("Cached")[:2] == ("False", "Downloading")
    world.end_job(samples.ok(), well=True)
    world.settle()
    assert world.condition("Cached")[:2] == ("True", "Cached")


def test_a_changed_spec_starts_over() -> None:
    world = World()
    world.reconcile()
    world.end_job(NOT_FOUND, well=False)
    world.settle()
    world.change(model={"id": "right/one", "revision": "main", "task": "auto"})
    world.settle()
    assert world.names("Job") == [naming.job(samples.model(model={"id": "right/one"}))]
    assert len(world.names("PersistentVolumeClaim")) == 1
    assert world.ready() == ("False", "Pending")


def test_a_job_that_may_not_run_where_it_has_to_is_made_again_under_the_new_rules() -> None:
    world = World()
    world.reconcile()
    before = world.job()["metadata"]["uid"]
    world.change(scheduling={"tolerations": [{"key": "dedicated", "operator": "Exists"}]})
    world.settle()
    assert world.job()["metadata"]["uid"] != before
    assert world.job()["spec"]["template"]["spec"]["tolerations"] == [
        {"key": "dedicated", "operator": "Exists"}
    ]


def test_a_transient_failure_is_repeated_with_growing_pauses() -> None:
    world = World()
    world.reconcile()
    pauses = []
    for _ in range(5):
        world.end_job(UNREACHABLE, well=False)
        uid = world.job()["metadata"]["uid"]
        outcome = world.reconcile()
        assert outcome.look_again is not None
        assert world.condition("Cached")[:2] == ("False", "HubUnreachable")
        assert "the next one starts at" in world.condition("Cached")[2]
        pauses.append(outcome.look_again)
        world.clock.advance(outcome.look_again - 1)
        world.reconcile()
        assert world.job()["metadata"]["uid"] == uid
        world.clock.advance(1)
        world.reconcile()
        assert world.job()["metadata"]["uid"] != uid
    assert pauses == [60, 120, 240, 480, 600]


def test_the_pause_is_as_long_as_the_hub_asks() -> None:
    world = World()
    world.reconcile()
    world.end_job(samples.error("RateLimited", "429", permanent=False, retry_after=900), well=False)
    assert world.reconcile().look_again == 900


def test_a_restarted_operator_goes_on_with_the_pause() -> None:
    world = World()
    world.reconcile()
    world.end_job(UNREACHABLE, well=False)
    world.reconcile()
    world.clock.advance(45)
    world.restart_operator()
    assert world.reconcile().look_again == 15


def test_progress_is_read_every_five_seconds_at_most() -> None:
    world = World()
    world.reconcile()
    running(
        world,
        '{"event":"progress","phase":"downloading","bytes":45450000,"total":90900000,"message":"","speed":4200000}\n',
    )
    world.cluster.requests.clear()
    assert world.reconcile().look_again == 5
    assert world.condition("Cached")[:2] == ("False", "Downloading")
    assert world.em["status"]["cache"] | {"message": ""} == {
        "phase": "Downloading", "bytes": 45450000, "total": 90900000, "percent": 50, "speed": 4200000,
        "message": "", "size": "5Gi", "sizeReason": "spec.cache.size",
    }  # fmt: skip
    assert "45.5 MB of 90.9 MB, 4.2 MB/s" in world.condition("Cached")[2]
    world.clock.advance(3)
    assert world.reconcile().look_again == 2
    assert len([request for request in world.cluster.requests if request[0] == "log"]) == 1
    world.clock.advance(2)
    world.reconcile()
    assert len([request for request in world.cluster.requests if request[0] == "log"]) == 2


def test_waiting_for_the_hub_is_a_reason_of_its_own() -> None:
    world = World()
    world.reconcile()
    running(
        world, '{"event":"progress","phase":"waiting","bytes":0,"total":null,"message":"503, again in 8 s"}'
    )
    world.reconcile()
    assert world.ready() == ("False", "WaitingForHub")
    assert "503, again in 8 s" in world.condition("Cached")[2]


def test_the_result_outlives_the_pod() -> None:
    world = World()
    world.serve()
    for pod in world.cluster.all("Pod"):
        world.cluster.remove("Pod", pod["metadata"]["name"])
    world.cluster.writes()
    world.reconcile()
    assert world.cluster.writes() == []
    assert world.ready() == ("True", "Ready")


def test_a_completed_job_whose_result_is_lost_runs_again() -> None:
    world = World()
    world.reconcile()
    world.end_job(None, well=True)
    uid = world.job()["metadata"]["uid"]
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid


def test_a_job_that_somebody_deleted_runs_again_and_disturbs_nothing() -> None:
    world = World()
    world.serve()
    deployment = world.cluster.find("Deployment")["metadata"]["resourceVersion"]
    for kind, name in (
        ("Job", world.job()["metadata"]["name"]),
        ("Pod", f"{world.job()['metadata']['name']}-0"),
    ):
        world.cluster.remove(kind, name)
    world.settle()
    assert world.job()
    assert world.ready() == ("True", "Ready")
    assert world.condition("Cached")[:2] == ("True", "Checking")
    assert world.cluster.find("Deployment")["metadata"]["resourceVersion"] == deployment
    env = {
        item["name"]: item["value"]
        for item in world.job()["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["MODEL_REVISION"] == samples.COMMIT  # not whatever the branch is by now
    world.end_job(UNREACHABLE, well=False, suffix="1")
    world.settle()
    assert world.condition("Cached")[:2] == ("True", "CheckFailed")
    assert world.ready() == ("True", "Ready")


def test_a_job_that_lost_its_labels_is_made_again() -> None:
    world = World()
    world.reconcile()
    uid = world.job()["metadata"]["uid"]
    world.job()["metadata"]["labels"].clear()
    world.settle()
    assert world.job()["metadata"]["uid"] != uid


def test_a_claim_that_was_made_again_is_filled_again() -> None:
    world = World()
    world.serve()
    uid = world.job()["metadata"]["uid"]
    world.cluster.remove("PersistentVolumeClaim", world.names("PersistentVolumeClaim")[0])
    world.reconcile()
    world.clock.advance(1)
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid
    assert world.condition("Cached")[:2] == ("False", "Pending")


def test_a_job_that_is_stuck_is_replaced_when_it_would_be_made_otherwise_today() -> None:
    world = World()
    world.reconcile()
    world.end_job(NOT_FOUND, well=False)
    world.settle()
    env = world.job()["spec"]["template"]["spec"]["containers"][0]["env"]
    next(item for item in env if item["name"] == "HF_ENDPOINT")["value"] = "http://wrong.example"
    uid = world.job()["metadata"]["uid"]
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid


FULL = samples.error("DiskFull", "needs 12.0 MiB more on the volume; make it larger", permanent=True)


@pytest.mark.parametrize(
    "grown",
    [
        {"capacity": {"storage": "10Gi"}},
        {
            "capacity": {"storage": "5Gi"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
        },
    ],
)
def test_a_full_volume_is_tried_again_when_the_claim_has_grown(grown: dict[str, object]) -> None:
    world = World()
    world.reconcile()
    claim = world.cluster.find("PersistentVolumeClaim")
    claim["status"] = {"capacity": {"storage": "5Gi"}}
    world.end_job(FULL, well=False)
    world.settle()
    uid = world.job()["metadata"]["uid"]
    assert world.ready() == ("False", "DiskFull")
    world.change(cache={"size": "10Gi", "accessMode": "ReadWriteOnce"})
    world.settle()
    assert world.job()["metadata"]["uid"] == uid  # the volume is not larger yet
    assert world.cluster.find("PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] == "10Gi"
    world.cluster.find("PersistentVolumeClaim")["status"] = grown
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid
    world.end_job(FULL, well=False, suffix="1")
    world.settle()
    assert world.ready() == ("False", "DiskFull")  # and once only


def test_a_finished_job_is_left_alone_by_an_operator_with_another_image() -> None:
    world = World()
    world.serve()
    uid = world.job()["metadata"]["uid"]
    world.job()["spec"]["template"]["spec"]["containers"][0]["image"] = "embedding-runtime:0.0.9-cpu"
    world.reconcile()
    assert world.job()["metadata"]["uid"] == uid


# --- the way to the hub

BUNDLE = {"source": {"hub": {"caBundleRef": {"name": "company-ca", "key": "ca.crt"}}}}


def test_a_volume_that_cannot_be_mounted_is_told_from_the_pods_events() -> None:
    world = World(model=BUNDLE)
    world.reconcile()
    pod = world.job_pod(phase="Pending")["metadata"]["name"]
    assert world.reconcile().look_again == 10
    assert world.condition("Cached")[1] == "Pending"
    world.clock.advance(10)
    world.reconcile()
    assert world.condition("Cached")[1] == "Pending"  # an image that is being pulled has no such event
    failure = 'MountVolume.SetUp failed for volume "hub-certificates" : configmap "company-ca" not found'
    world.cluster.tell(pod, "FailedMount", failure)
    assert world.reconcile().look_again == 10
    assert world.ready() == ("False", "MissingConfigMap")
    assert "spec.model.source.hub.caBundleRef" in world.condition("Cached")[2]


def test_a_missing_secret_is_told_by_its_name_and_another_reference_makes_another_job() -> None:
    hub = {"tokenSecretRef": {"name": "hub-token", "key": "token"}}
    world = World(model={"source": {"hub": hub}})
    world.reconcile()
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub-token" not found'}}
    world.job_pod(
        phase="Pending", containerStatuses=samples.container_status(naming.PREFETCH_CONTAINER, waiting)
    )
    world.settle()
    uid = world.job()["metadata"]["uid"]
    assert world.ready() == ("False", "MissingSecret")
    assert world.cluster.events[-1][0::2] == ("MissingSecret", True)
    world.em["spec"]["model"]["source"]["hub"]["tokenSecretRef"]["name"] = "other"
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid


def test_another_way_to_the_hub_downloads_nothing_again() -> None:
    world = World()
    world.serve()
    uid = world.job()["metadata"]["uid"]
    world.em["spec"]["model"]["source"] = BUNDLE["source"]
    world.settle()
    assert world.job()["metadata"]["uid"] == uid
    assert world.ready() == ("True", "Ready")
