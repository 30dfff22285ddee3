"""The names that may be asked for although nobody configured or cached them: well-known repositories with an
ONNX file of their own.

The list is known.json: the models of the API document, and those of the FastEmbed projects' lists whose own
repositories hold the ONNX file. How a model is to be run is read from its repository, not from here.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from embedding_runtime.settings import Task


@cache
def known_models() -> Mapping[str, Task]:
    """Model id to its task."""
    text = resources.files("embedding_runtime.registry").joinpath("known.json").read_text(encoding="utf-8")
    listed: dict[Task, list[str]] = json.loads(text)
    return MappingProxyType({name: task for task, names in listed.items() for name in names})
