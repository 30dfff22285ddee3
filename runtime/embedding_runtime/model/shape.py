"""How large a model's layers are, by its configuration: what its memory and its time follow from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LAYERS = ("num_hidden_layers", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "dim", "d_model")
_HEADS = ("num_attention_heads", "n_heads", "num_heads")


@dataclass(frozen=True)
class Shape:
    """`hidden` is the width of a token's vector between layers."""

    layers: int
    hidden: int
    heads: int

    def to_json(self) -> dict[str, int]:
        """Plain values, for the report."""
        return asdict(self)


def read_shape(config: Path) -> Shape | None:
    """The shape that a config.json says, under any of transformers' names; None where it does not say all.

    Raises nothing: a model is served without it.
    """
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict):
        return None
    sizes = [_first(said, names) for names in (_LAYERS, _HIDDEN, _HEADS)]
    known = [size for size in sizes if size is not None]
    return Shape(*known) if len(known) == len(sizes) else None


def _first(said: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = said.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**20:
            return value
    return None
