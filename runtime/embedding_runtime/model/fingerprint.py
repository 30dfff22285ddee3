"""The fingerprint: one digest over everything that defines an embedding space.

Two models with the same fingerprint give the same vectors (up to numeric noise of the machine); where the
file came from, its name and its revision do not enter.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from embedding_runtime.model.recipe import Recipe

# Raised when the meaning of the digest's parts changes: then no old fingerprint may match a new one.
_FORMAT = 1


def fingerprint(
    weights: Sequence[str], tokenizer: str, recipe: Recipe, architecture: Mapping[str, object] | None = None
) -> str:
    """64 hex digits: SHA-256 over the weights' and the tokenizer's contents and the recipe.

    `weights`: SHA-256 of the graph, then of its external data in a fixed order, then of the recipe's layers;
    `tokenizer`: of tokenizer.json; `architecture`: what a graph that is made of the weights follows from.
    """
    settings = recipe.to_json()
    del settings["tokenizer"], settings["assumed"], settings["matryoshka"]
    # A prompt without text changes no vector, and fingerprints from before there were prompts stay.
    settings["prompts"] = {name: text for name, text in recipe.prompts if text}
    if not settings["prompts"]:
        del settings["prompts"]
    if settings["pools_prompt"]:  # which all did
        del settings["pools_prompt"]
    layers = settings.pop("layers")
    if layers:  # which none had before they were read; where a layer's weights lie changes nothing
        settings["layers"] = [{key: layer[key] for key in layer if key != "file"} for layer in layers]
    if settings["judge"] is None:
        del settings["judge"]
    if settings["truncation_side"] == "right":  # which all were before this was read
        del settings["truncation_side"]
    content = {"format": _FORMAT, "weights": list(weights), "tokenizer": tokenizer, "recipe": settings}
    if architecture is not None:
        content["architecture"] = dict(architecture)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
