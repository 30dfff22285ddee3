"""The fingerprint: one digest over everything that defines an embedding space.

Two models with the same fingerprint give the same vectors (up to numeric noise of the machine); where the
file came from, its name and its revision do not enter.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from embedding_runtime.model.recipe import Recipe

# Raised when the meaning of the digest's parts changes: then no old fingerprint may match a new one.
_FORMAT = 1


def fingerprint(folder: Path, weights: Sequence[str], recipe: Recipe) -> str:
    """64 hex digits: SHA-256 over the weights' and the tokenizer's contents and the recipe.

    `weights`: the graph, then its external data in a fixed order, as paths inside `folder`. Reads every byte
    of them. Raises OSError.
    """
    settings = recipe.to_json()
    del settings["tokenizer"], settings["assumed"]
    # A prompt without text changes no vector, and fingerprints from before there were prompts stay.
    settings["prompts"] = {name: text for name, text in recipe.prompts if text}
    if not settings["prompts"]:
        del settings["prompts"]
    content = {
        "format": _FORMAT,
        "weights": [file_digest(folder / name) for name in weights],
        "tokenizer": file_digest(folder / recipe.tokenizer),
        "recipe": settings,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
