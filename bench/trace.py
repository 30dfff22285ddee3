"""Records the mixed load of `bench.suite` as it reaches the server: `python -m bench.trace > FILE`.

What is sent to the real server for a minute, and when, as a trace for `bench.simulate`: single texts that
arrive by themselves, and clients that each send their next texts when the last ones are answered. Texts are
told as their lengths in tokens. bench/traces/mixed.jsonl was recorded so.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import corpus, footprint, measures
from bench.load import Closed, Open, Request, Sent, drive
from bench.peers import ours
from bench.running import running
from bench.suite import MODEL

SECONDS = 60.0

Lengths = dict[Request, Sequence[int]]


def main() -> None:
    """Write the trace to standard output."""
    model = footprint.repositories() / MODEL
    texts = corpus.read(model / "tokenizer.json")
    with tempfile.TemporaryDirectory() as folder:
        peer = ours.peer(model, Path(folder), "fp32")
        with running(peer, Path(folder)) as server:
            singles, bulk = measures.mixed_requests(server, texts)
            lengths = _lengths(singles, texts.lengths) | _lengths(bulk, texts.lengths)
            one, many = drive(
                server.address,
                Open(singles, measures.arrivals(0)),
                Closed(bulk, measures.BULK_CLIENTS, SECONDS),
            )
    clients = sorted({sent.connection for sent in many.sent})
    for sent in one.sent:
        _write({"at": round(sent.at, 4), **_told(sent, lengths, "interactive")})
    for sent in many.sent:
        _write({"client": clients.index(sent.connection), **_told(sent, lengths, "bulk")})


def _lengths(requests: Sequence[Request], lengths: Sequence[int]) -> Lengths:
    """What requests hold that have the texts of a corpus in its order, which begins anew at its end."""
    found: Lengths = {}
    at = 0
    for request in requests:
        found[request] = [lengths[number % len(lengths)] for number in range(at, at + request.texts)]
        at += request.texts
    return found


def _told(sent: Sent, lengths: Lengths, priority: str) -> dict[str, object]:
    return {"priority": priority, "lengths": lengths[sent.request]}


def _write(row: object) -> None:
    sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
