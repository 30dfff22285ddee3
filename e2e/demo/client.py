"""An application: ranks sentences by meaning, through two Services of the cluster it runs in.

Runs in a pod, from a ConfigMap, beside `sentences.txt` and `reference.json`; standard library only.
"""

from __future__ import annotations

import http.client
import json
import math
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 30
WARM_UPS, MEASURED = 10, 200
MEASURE_SECONDS = 20.0
WIDTH = 110
SHOWN = 5


class Service:
    """One connection to one Service, kept open as an HTTP client library would."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer's JSON; raises RuntimeError with the server's words unless the status is 200."""
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"POST {path}: {response.status} {data.decode()[:500]}")
        return json.loads(data)


def cosine(a: list[float], b: list[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def ranking(scores: list[float]) -> list[int]:
    """Return the indices from the highest score to the lowest."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def table(heading: str, order: list[int], scores: list[float], texts: list[str], notes: list[str]) -> str:
    """Return ranks, scores and texts as aligned lines."""
    width = max(len(note) for note in notes)
    lines = [
        f"{rank:3}  {scores[index]:7.3f}  {notes[index]:{width}}  {texts[index]:.{WIDTH - 16 - width}}"
        for rank, index in enumerate(order, start=1)
    ]
    return "\n".join([heading, *lines, ""])


def latency(service: Service, text: str) -> list[float]:
    """Return the sorted milliseconds of `/embed` requests, one after another, for 20 seconds at most."""
    for _ in range(WARM_UPS):
        service.post("/embed", {"input": [text]})
    taken: list[float] = []
    end = time.monotonic() + MEASURE_SECONDS
    while len(taken) < MEASURED and time.monotonic() < end:
        start = time.perf_counter()
        service.post("/embed", {"input": [text]})
        taken.append((time.perf_counter() - start) * 1000)
    return sorted(taken)


def main() -> None:
    """Ask both Services and print what a person can judge."""
    embedder, reranker = Service(sys.argv[1]), Service(sys.argv[2])
    sentences = (HERE / "sentences.txt").read_text().splitlines()
    reference = json.loads((HERE / "reference.json").read_text())
    query: str = reference["text"]

    vectors = embedder.post("/embed", {"input": [query, *sentences]})["embeddings"]
    near = [cosine(vectors[0], vector) for vector in vectors[1:]]
    by_cosine = ranking(near)
    results = reranker.post("/rerank", {"query": query, "documents": sentences})["results"]
    relevant = [0.0] * len(sentences)
    for result in results:
        relevant[result["index"]] = result["score"]
    by_relevance = ranking(relevant)
    was = [f"(was {by_cosine.index(index) + 1})" for index in range(len(sentences))]
    exact = cosine(vectors[0], reference["vector"])
    taken = latency(embedder, query)

    print(f"query: {query}\n")
    print(table("ranked by cosine, /embed", by_cosine, near, sentences, [""] * len(sentences)))
    best = f"the best {SHOWN} of all {len(sentences)} after reranking, /rerank"
    print(table(best, by_relevance[:SHOWN], relevant, sentences, was))
    print(f"the query's vector against sentence-transformers' own: cosine {exact:.7f}")
    print(
        f"/embed, one sentence, from inside the cluster: p50 {taken[len(taken) // 2]:.1f} ms, "
        f"p95 {taken[len(taken) * 95 // 100]:.1f} ms ({len(taken)} requests, one after another)"
    )


if __name__ == "__main__":
    main()
