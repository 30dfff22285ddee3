"""Whether liveness answers while a large model loads: `python -m bench.loading LABEL [NAME...]`.

Starts the server on a model of random weights, twice: at the first start its graph is prepared, the second
time it lies ready. From the first answer until the server is ready, and a second more, /health/live is asked
every 10 ms over a new connection, as a kubelet does; one that is answered late stands for all that would have
been asked meanwhile. Adds to bench/results/loading.json, under the label, by model and HTTP processes: p50,
p99 and the slowest in milliseconds, and the seconds until ready.

`large` is a model of bge-large's sizes. `multilingual` is one of multilingual-e5-base's: its tokenizer has
250,000 pieces, in a file of 17 MB, whose reading holds Python's lock.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from bench import footprint, shapes
from bench.peers import ours
from bench.running import running
from bench.shapes import Shape

RESULTS = Path(__file__).with_name("results") / "loading.json"
PIECES = 250_002
MODELS = {
    "large": Shape(24, 1024, 16),
    "multilingual": Shape(12, 768, 12, vocabulary=PIECES),
}
WORKERS = (4, 1)
PAUSE, AFTER, LONGEST = 0.01, 1.0, 120.0
_LETTERS = "etaoinshrdlucmfwygpbvkxqjz"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def pieces(count: int) -> list[tuple[str, float]]:
    """Made-up pieces that share their beginnings, as those of a language do, and a score for each."""
    chance = random.Random(0)
    found = dict.fromkeys((*_SPECIAL, *_LETTERS, "▁"), 0.0)
    stems = list(_LETTERS)
    while len(found) < count:
        piece = chance.choice(stems) + chance.choice(_LETTERS)
        piece = ("▁" if len(piece) > 1 and chance.random() < 0.5 and piece[0] != "▁" else "") + piece
        if piece not in found:
            found[piece] = -chance.uniform(5, 16)
            if len(piece) < 12:
                stems.append(piece)
    return list(found.items())


def tokenizer(folder: Path) -> None:
    """Write a tokenizer of the kind and the size of XLM-RoBERTa's."""
    ends = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    known = {name: {"id": name, "ids": [at], "tokens": [name]} for at, name in ((0, "<s>"), (2, "</s>"))}
    same = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": at, "content": name, **same} for at, name in enumerate(_SPECIAL)],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends[0], first, ends[1]],
            "pair": [ends[0], first, ends[1], ends[1], second, ends[1]],
            "special_tokens": known,
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces(PIECES), "byte_fallback": False},
    }
    # Indented, as the library writes it.
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False, indent=2))
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    (folder / "special_tokens_map.json").write_text('{"pad_token": "<pad>"}')


def lay_out(name: str, folder: Path) -> None:
    """Make one of the models."""
    shapes.lay_out(MODELS[name], footprint.tokenizer(), folder)
    if name == "multilingual":
        tokenizer(folder)


def answers(port: int, path: str) -> bool:
    """Whether a path is answered with success."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=LONGEST) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def looked(model: Path, workers: int, scratch: Path) -> dict[str, float]:
    """One start: how long liveness took to answer from its first answer on."""
    peer = ours.peer(model, scratch, "fp32")
    started, took, failed = time.monotonic(), list[float](), 0
    environment = {**peer.environment, "API_WORKERS": str(workers), "MODELS_CONFIG": str(scratch / "models")}
    (scratch / "models").write_text(json.dumps({"models": [{"id": ours.MODEL, "path": str(model)}]}))
    with running(replace(peer, environment=environment, ready=peer.live), scratch) as server:
        port = server.address[1]
        ready = 0.0
        while not ready or time.monotonic() < started + ready + AFTER:
            began = time.perf_counter()
            failed += not answers(port, peer.live)
            took.append(1000 * (time.perf_counter() - began))
            now = time.monotonic()
            if not ready and answers(port, peer.ready):
                ready = now - started
            if now > started + LONGEST:
                raise TimeoutError(f"not ready within {LONGEST} s")
            time.sleep(PAUSE)
    asked = [each - late for each in took for late in range(0, max(1, int(each)), int(1000 * PAUSE))]
    quantiles = statistics.quantiles(asked, n=100)
    return {
        "p50_ms": round(quantiles[49], 2),
        "p99_ms": round(quantiles[98], 2),
        "slowest_ms": round(max(took), 1),
        "failed": failed,
        "looks": len(asked),
        "seconds_to_ready": round(ready, 2),
    }


def main(label: str, names: list[str]) -> None:
    """Measure the named models, or both, and write."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = known.setdefault(label, {})
    found["command"] = " ".join(["python -m bench.loading", label, *names])
    for name in names or list(MODELS):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder, "model")
            lay_out(name, model)
            for workers in WORKERS:
                scratch = Path(folder, str(workers))
                scratch.mkdir()
                for start in ("first start", "second start"):
                    told = looked(model, workers, scratch)
                    found[f"{name}, {workers} HTTP processes, {start}"] = told
                    print(name, workers, start, told, flush=True)
                    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
