"""A pod that goes takes no request with it: it answers until the Service has forgotten it."""

import json
from concurrent.futures import ThreadPoolExecutor

from e2e.cases.kubectl import Kubectl, model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SECONDS = 14

# runs in the client pod: two clients without retries, one on new connections, one on a kept one
CLIENTS = """
import http.client, json, sys, threading, time
end, answered, failed = time.monotonic() + float(sys.argv[1]), [0, 0], []
def client(kept):
    connection = None
    while time.monotonic() < end:
        try:
            connection = connection or http.client.HTTPConnection("minilm", timeout=10)
            connection.request("POST", "/embed", '{"input": "hello"}', {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            answered[kept] += 1
            open("/tmp/asking", "w").close()
            if answer.status != 200:
                failed.append((round(end - time.monotonic(), 2), answer.status))
            if not kept or answer.getheader("Connection") == "close":
                connection.close()
                connection = None
        except OSError as error:
            failed.append((round(end - time.monotonic(), 2), repr(error)))
            connection = None
        time.sleep(0.02)
threads = [threading.Thread(target=client, args=(kept,)) for kept in (0, 1)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"answered": answered, "failed": failed}))
"""


def test_no_request_fails_while_a_pod_is_deleted(kubectl: Kubectl) -> None:
    kubectl.apply(model("minilm", MINILM, replicas=2))
    kubectl.wait_for_condition("minilm", "Ready", "True")
    # The client's node learns of the Service on its own; before, it refuses connections to it.
    url = "http://minilm/embed"
    kubectl.wait("the first answer", lambda: kubectl.request(url, {"input": "hello"}).status == 200)
    pods = [pod["metadata"]["name"] for pod in kubectl.list("pods", "app.kubernetes.io/component=serving")]
    assert len(pods) == 2
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(kubectl, "exec", "client", "--", "python", "-c", CLIENTS, str(SECONDS))
        kubectl.wait("requests", lambda: "asking" in kubectl("exec", "client", "--", "ls", "/tmp"), SECONDS)
        kubectl("delete", "pod", pods[0], "--wait=false")
        result = json.loads(told.result())
    assert result["failed"] == []
    assert min(result["answered"]) > 50
    kubectl.wait("the pod to be gone", lambda: kubectl.get("pod", pods[0]) is None, 40)


def test_a_pod_that_goes_says_so_and_still_answers(kubectl: Kubectl) -> None:
    kubectl.wait_for_condition("minilm", "Ready", "True")
    pod = kubectl.list("pods", "app.kubernetes.io/component=serving")[0]
    address = f"http://{pod['status']['podIP']}:8090"
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def draining() -> bool:
        ready = kubectl.request(f"{address}/health/ready")
        assert ready.status in (200, 503), ready  # closed already, and nobody was warned
        return ready.status == 503

    kubectl.wait("the pod to say that it drains", draining, 10)
    assert kubectl.request(f"{address}/embed", {"input": "hello"}).status == 200
