"""A pod that goes takes no request with it: it answers until the Service has forgotten it."""

from e2e.cases.clients import asking, assert_none_failed
from e2e.cases.kubectl import Kubectl, model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SERVING = "app.kubernetes.io/component=serving"


def test_no_request_fails_while_a_pod_is_deleted(kubectl: Kubectl) -> None:
    kubectl.apply(model("minilm", MINILM, replicas=2))
    kubectl.wait_for_condition("minilm", "Ready", "True")
    first, _ = (pod["metadata"]["name"] for pod in kubectl.list("pods", SERVING))
    with asking(kubectl, "minilm", "/embed", {"input": "hello"}) as asked:
        kubectl("delete", "pod", first, "--wait=false")
        kubectl.wait("the pod to be gone", lambda: kubectl.get("pod", first) is None, 40)
    assert_none_failed(asked)


def test_a_pod_that_goes_says_so_and_still_answers(kubectl: Kubectl) -> None:
    kubectl.wait_for_condition("minilm", "Ready", "True")
    pod = kubectl.list("pods", SERVING)[0]
    address = f"http://{pod['status']['podIP']}:8090"
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def draining() -> bool:
        ready = kubectl.request(f"{address}/health/ready")
        assert ready.status in (200, 503), ready  # closed already, and nobody was warned
        return ready.status == 503

    kubectl.wait("the pod to say that it drains", draining, 10)
    assert kubectl.request(f"{address}/embed", {"input": "hello"}).status == 200
