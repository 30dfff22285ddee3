"""The mixed load of `bench.suite` as a trace for `bench.simulate`: `python -m bench.trace > FILE`.

The same texts in the same order, as their lengths in tokens: single ones that arrive at the times that the
load's generator draws, and clients with bulk. bench/traces/mixed.jsonl was made so.
"""

from __future__ import annotations

import json
import sys
from itertools import accumulate, takewhile

from bench import corpus, footprint, measures

SECONDS = 60.0


def main() -> None:
    """Write the trace to standard output."""
    lengths = corpus.read(footprint.tokenizer() / "tokenizer.json").lengths
    arrivals = takewhile(lambda at: at < SECONDS, accumulate(measures.arrivals(0)))
    for number, at in enumerate(arrivals):
        each = lengths[number % measures.SINGLES]
        _write({"at": round(at, 4), "priority": "interactive", "lengths": [each]})
    bulk = lengths[: measures.BULK_TEXTS * (len(lengths) // measures.BULK_TEXTS)]
    for number in range(len(bulk) // measures.BULK_TEXTS):
        some = bulk[measures.BULK_TEXTS * number :][: measures.BULK_TEXTS]
        _write({"client": number % measures.BULK_CLIENTS, "priority": "bulk", "lengths": some})


def _write(row: object) -> None:
    sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
