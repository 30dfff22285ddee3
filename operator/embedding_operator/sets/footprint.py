"""What a serving container asks for where the spec does not say: worked out from the model. Pure.

The same spec and the same facts give the same numbers, or pods would roll by themselves. The constants are
from bench/results/footprint.json (`python -m bench.footprint`), rounded up; docs/performance.md has what was
measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Facts

MIB = 2**20

SERVER, WORKER, ENGINE = 140 * MIB, 80 * MIB, 60 * MIB
"""Supervisor and one HTTP process at its largest requests; each further HTTP process; an engine's own."""

WEIGHTS = {"fp32": 1.6, "fp16": 2.75, "bf16": 2.75, "int8": 1.5}
"""Bytes in the engine for each byte of the files: the CPU computes 16-bit weights as 32-bit ones."""

HIDDEN, SCORES = 20, 2.5
"""What a batch holds at its peak: so many times its token vectors, and its attention scores (fp32 each)."""

INTEGER = 2
"""How much more of that an int8 graph holds, which computes in wider integers."""

BATCH_TOKENS = 1024
"""Padded tokens of a batch on the CPU, where spec.server.maxBatchTokens does not say (the runtime's own)."""

CUDA, CUDA_LEAST = 3 * 1024 * MIB, 4 * 1024 * MIB
"""Host memory of a GPU pod beside the weights, and in all; not measured yet, and generous for that."""

FLOPS_PER_CORE = 50e9
"""Half of what fp32 reached on a core with AVX-512 (bench/results/speed.json): others have less."""

SECONDS, LEAST_CPU, MOST_CPU = 2.0, 500, 2000
"""The time that one longest text may take, and the bounds of the request that follows, in thousandths."""

WORKER_CPU, GPU_CPU = 100, 1000
"""Of each further HTTP process, and of a pod whose GPU computes, in thousandths."""

_STEP = 64 * MIB
_UNKNOWN = "the Job that read the model did not tell its shape, so this is the same for every model"


@dataclass(frozen=True)
class Needs:
    """Requests and limits of the serving container, and why they are what they are."""

    requests: Mapping[str, object]
    limits: Mapping[str, object]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns them as the status shows them: quantities as text, no part that is empty."""
        parts = {"requests": self.requests, "limits": self.limits}
        shown = {
            name: {key: str(amount) for key, amount in amounts.items()}
            for name, amounts in parts.items()
            if amounts
        }
        return {**shown, "reason": self.reason}


@dataclass(frozen=True)
class _Amount:
    """One quantity and its sum in words."""

    quantity: str
    words: str


def needs(em: EmbeddingModel, facts: Facts) -> Needs:
    """Returns what the spec says, and beside it what is worked out for the keys that it leaves out; no GPUs.

    No limits are worked out. What passes a memory limit is killed, with all requests that it answers; and
    throttling the CPU of a server that is waited for costs more than it protects.
    """
    given = em.resources or {}
    requests, limits = dict(given.get("requests") or {}), dict(given.get("limits") or {})
    worked_out = {"cpu": _cpu(em, facts), "memory": _memory(em, facts)}
    # what has a limit alone requests that, as in any pod
    missing = {name: amount for name, amount in worked_out.items() if name not in {**limits, **requests}}
    words = [f"{name} {amount.quantity}: {amount.words}" for name, amount in missing.items()]
    said = sorted({*requests, *limits} & worked_out.keys())
    if said:
        words.append(f"{' and '.join(said)} as spec.resources says")
    return Needs(
        requests | {name: amount.quantity for name, amount in missing.items()}, limits, "; ".join(words)
    )


def _memory(em: EmbeddingModel, facts: Facts) -> _Amount:
    if em.gpu:
        return _gpu_memory(facts)
    if facts.bytes is None or not (facts.hidden and facts.heads):
        return _Amount("1Gi", _UNKNOWN)
    precision = facts.precision or "fp32"
    server = SERVER + WORKER * (em.server.workers - 1)
    weights = round(facts.bytes * WEIGHTS.get(precision, max(WEIGHTS.values())))
    tokens, longest = _batch(em, facts)
    batch = round(4 * tokens * (HIDDEN * facts.hidden + SCORES * facts.heads * longest))
    batch *= INTEGER if precision == "int8" else 1
    return _Amount(
        _rounded(server + ENGINE + weights + batch),
        f"{_plain(server + ENGINE)} for the server with {_count(em.server.workers, 'HTTP process', 'es')}, "
        f"{_plain(weights)} for {_plain(facts.bytes)} of files in {precision}, "
        f"{_plain(batch)} for a batch of {tokens} tokens"
        + (", less with a smaller spec.model.maxLength" if longest > BATCH_TOKENS else ""),
    )


def _gpu_memory(facts: Facts) -> _Amount:
    if facts.bytes is None:
        return _Amount(_rounded(CUDA_LEAST), _UNKNOWN)
    least = " at least" if CUDA + 2 * facts.bytes < CUDA_LEAST else ""
    return _Amount(
        _rounded(max(CUDA_LEAST, CUDA + 2 * facts.bytes)),
        f"{_plain(CUDA)} for CUDA and twice the {_plain(facts.bytes)} of files on their way to the GPU"
        + (f",{least} {_plain(CUDA_LEAST)}" if least else ""),
    )


def _cpu(em: EmbeddingModel, facts: Facts) -> _Amount:
    further = WORKER_CPU * (em.server.workers - 1)
    beside = f", and {_cores(further)} for further HTTP processes" if further else ""
    if em.gpu:
        return _Amount(_cores(GPU_CPU + further), f"{_cores(GPU_CPU)} beside a GPU{beside}")
    if not (facts.layers and facts.hidden):
        return _Amount(_cores(LEAST_CPU), _UNKNOWN)
    _, longest = _batch(em, facts)
    # a layer has 12 x hidden^2 weights, and its scores and their sum take 2 x hidden x length for a token
    work = 2 * longest * facts.layers * (12 * facts.hidden**2 + 2 * facts.hidden * longest)
    exact = work / FLOPS_PER_CORE / SECONDS * (0.5 if facts.precision == "int8" else 1)
    most = min(MOST_CPU, 1000 * em.server.threads) if em.server.threads else MOST_CPU
    found = min(most, max(LEAST_CPU, 100 * math.ceil(10 * exact)))
    return _Amount(
        _cores(found + further),
        f"{_cores(found)} for a text of {longest} tokens within about {SECONDS:.0f} s "
        f"({_cores(LEAST_CPU)} to {_cores(most)}){beside}",
    )


def _batch(em: EmbeddingModel, facts: Facts) -> tuple[int, int]:
    """Returns the tokens of the largest batch, and of the longest text, which no batch is smaller than."""
    longest = facts.max_tokens or 512
    return max(em.server.max_batch_tokens or BATCH_TOKENS, longest), longest


def _rounded(count: int) -> str:
    found = math.ceil(count / _STEP) * _STEP // MIB
    return f"{found}Mi" if found % 1024 else f"{found // 1024}Gi"


def _cores(thousandths: int) -> str:
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _plain(count: int) -> str:
    return f"{math.ceil(count / MIB)}Mi"


def _count(number: int, noun: str, plural: str) -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"
