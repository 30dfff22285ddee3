"""Every setting, read from the environment once, and what is allowed for each. No other module reads the
environment.

Not here: what the machine looks like (engine/threads.py) and what the cache holds (registry/cache.py).
"""

from embedding_runtime.settings.environment import HubSettings
from embedding_runtime.settings.filters import LogFilter, parse_filter
from embedding_runtime.settings.model_name import MODEL_NAME, is_variant, split_name
from embedding_runtime.settings.models_file import POOLINGS, ModelEntry, Precision, Task
from embedding_runtime.settings.prefetch import FetchSettings, PrefetchSettings
from embedding_runtime.settings.serve import (
    DEFAULT_EMBEDDING_MODEL,
    DEFAULT_RERANKING_MODEL,
    ServeSettings,
)
from embedding_runtime.settings.vocabulary import vocabulary

__all__ = [
    "DEFAULT_EMBEDDING_MODEL",
    "DEFAULT_RERANKING_MODEL",
    "MODEL_NAME",
    "POOLINGS",
    "FetchSettings",
    "HubSettings",
    "LogFilter",
    "ModelEntry",
    "Precision",
    "PrefetchSettings",
    "ServeSettings",
    "Task",
    "is_variant",
    "parse_filter",
    "split_name",
    "vocabulary",
]
