"""What goes into a repository's own graph and what of its outputs is wanted. Pure."""

from collections.abc import Mapping

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.recipe import Recipe

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLING = "pooling_mask"
"""What a prepared graph takes besides, where the pooling leaves tokens out: 1 for each that is pooled."""

# Exporters' names, best first.
_TOKENS = ("last_hidden_state", "token_embeddings")
_ROWS = ("sentence_embedding", "logits")
_WORDS = ("logits", "prediction_logits")


def choose_output(ranks: Mapping[str, int], recipe: Recipe) -> tuple[str, bool]:
    """The output to take among those of these ranks, and whether it holds something for each token, of which
    the recipe's rows are still to be made.

    Raises UnsupportedModelError where there is none.
    """
    tokens = [name for name, rank in ranks.items() if rank == 3]
    rows = [name for name, rank in ranks.items() if rank == 2]
    if tokens and (recipe.task == "embed" or recipe.judge):
        wanted = _WORDS if recipe.judge or recipe.kind == "sparse" else _TOKENS
        return next((name for name in wanted if name in tokens), tokens[0]), True
    if rows:
        return next((name for name in _ROWS if name in rows), rows[0]), False
    raise UnsupportedModelError(f"the graph gives neither token vectors nor rows: {dict(ranks)}")


def unknown_input(name: str, kind: str) -> UnsupportedModelError:
    """The error for an input that nothing is known for."""
    return UnsupportedModelError(
        f"the graph wants an input {name} of type {kind}; only {', '.join(INPUTS)} can be fed"
    )
