"""Which nodes of a graph run where, and which of them may run on the CPU beside a GPU. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from embedding_runtime.engine.providers import CPU

# What ONNX Runtime leaves on the CPU on purpose: sizes and what follows from them, a few integers each
# (onnxruntime, core/framework/fallback_cpu_capability.cc). Nothing that computes with vectors is among them.
_ABOUT_SHAPES = frozenset(
    {
        *("Shape", "Size", "Constant", "ConstantOfShape", "Range", "Identity", "Cast"),
        *("Gather", "Slice", "Concat", "Split", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Where"),
        *("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Min", "Max", "Floor", "Ceil", "ReduceProd"),
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or"),
    }
)
_MOST_NAMED = 3


@dataclass(frozen=True)
class Placed:
    """A node by its name and the kind of its operator, and the execution provider that has it."""

    name: str
    kind: str
    provider: str


def misplaced(nodes: Iterable[Placed]) -> str | None:
    """Which nodes compute on the CPU although the session was to run on a GPU; None where none does."""
    found = [f"{each.kind} {each.name}".strip() for each in nodes if _unexpected(each)]
    if not found:
        return None
    named = ", ".join(found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"ONNX Runtime has no CUDA kernel for {len(found)} of its nodes: {named}{more}"


def _unexpected(node: Placed) -> bool:
    return node.provider == CPU and node.kind not in _ABOUT_SHAPES
