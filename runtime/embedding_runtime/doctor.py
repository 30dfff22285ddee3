"""`doctor`: print what the server would understand and find, and whether it would start."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from embedding_runtime.api.listening import listen
from embedding_runtime.engine.onnx_backend import usable_providers
from embedding_runtime.engine.providers import choose
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.errors import AddressInUseError, RuntimeFault
from embedding_runtime.registry.cache import cached, find
from embedding_runtime.service.configured import configured_models
from embedding_runtime.settings import ServeSettings


def examine(settings: ServeSettings) -> int:
    """Print the findings to stdout; 0 when the server would start and become ready, else 1."""
    problems = list(_problems(settings))
    for heading, lines in (
        ("settings", _settings(settings)),
        ("machine", _machine(settings)),
        ("cache", _cache(settings)),
        ("problems", problems or ["none"]),
    ):
        print(f"{heading}:")
        for line in lines:
            print(f"  {line}")
    return 1 if problems else 0


def _settings(settings: ServeSettings) -> Iterator[str]:
    for name, field in sorted(type(settings).model_fields.items()):
        value: Any = getattr(settings, name)
        shown = "(set)" if isinstance(value, SecretStr) else "(none)" if value in (None, "") else value
        origin = "environment" if name in settings.model_fields_set else "default"
        yield f"{field.alias or name.upper()}={shown}  [{origin}]"


def _machine(settings: ServeSettings) -> Iterator[str]:
    limit = cpu_limit()
    yield f"CPU limit: {limit:g}; threads: {thread_count(settings.ort_num_threads, limit)}"
    yield f"execution providers: {', '.join(usable_providers())}"


def _cache(settings: ServeSettings) -> Iterator[str]:
    folder = settings.cache_dir
    if not folder.is_dir():
        yield f"{folder}: does not exist yet"
        return
    writable = "writable" if os.access(folder, os.W_OK) else f"not writable for uid {os.getuid()}"
    yield f"{folder}: {writable}, {shutil.disk_usage(folder).free >> 20} MiB free"
    for model in cached(folder):
        yield f"model {model.id}"


def _problems(settings: ServeSettings) -> Iterator[str]:
    try:
        choose(settings.ort_execution_provider, usable_providers())
    except RuntimeFault as error:
        yield error.message
    try:
        listen(settings.api_host, settings.api_port).close()
    except AddressInUseError as error:
        yield error.message
    for model in configured_models(settings):
        try:
            find(settings.cache_dir, model.ref, settings.model_file)
        except RuntimeFault as error:
            # Online, what is missing is fetched at the start.
            if settings.hf_hub_offline or error.code != "NotCached":
                yield error.message
