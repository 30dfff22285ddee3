"""A download shows how far it is, and how fast.

Pain 5, Ready while broken, and a download whose progress nobody sees (kserve#1859, #1791, #4626).
"""

from e2e.cases.hubs import hub
from e2e.cases.kubectl import Kubectl, Object, model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SPEED = 8_000_000

# passes everything on to the hub mirror, and its answers back at SPEED bytes a second
SLOW_HUB = f"""
import http.client, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        upstream = http.client.HTTPConnection("hub-mirror.hub-mirror.svc", timeout=20)
        upstream.request(self.command, self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        while chunk := answer.read({SPEED // 20}):
            self.wfile.write(chunk)
            time.sleep(0.05)

    do_HEAD = do_GET

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def test_a_download_tells_how_far_it_is_and_how_fast(kubectl: Kubectl) -> None:
    kubectl.apply(*hub("slow-hub", kubectl.runtime_image, SLOW_HUB))
    kubectl.wait("the slow hub", lambda: kubectl.request("http://slow-hub/healthz").status == 200, 60)
    resource = model("slow", MINILM, replicas=0)
    resource["spec"]["model"]["source"] = {"hub": {"endpoint": "http://slow-hub"}}
    kubectl.apply(resource)
    seen: list[Object] = []

    def whole() -> bool:
        found = _cache(kubectl)
        if found.get("percent", 0) > 0 and "speed" in found:
            seen.append(found)
        return bool(kubectl.condition("slow", "Cached").get("status") == "True")

    kubectl.wait("the whole", whole, 90)
    assert len({entry["percent"] for entry in seen}) > 1, seen
    assert [entry["bytes"] for entry in seen] == sorted(entry["bytes"] for entry in seen)
    assert len({entry["total"] for entry in seen}) == 1
    # the last seconds of it count, which may have had less of a busy machine than asked for
    assert SPEED / 8 < seen[-1]["speed"] < SPEED * 1.5
    assert "/s" in seen[-1]["message"]
    after = _cache(kubectl)
    assert (after["phase"], after["percent"], after.get("speed")) == ("Cached", 100, None)


def _cache(kubectl: Kubectl) -> Object:
    found: Object = (kubectl.get("em", "slow") or {}).get("status", {}).get("cache", {})
    return found
