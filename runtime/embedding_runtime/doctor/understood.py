"""The settings as they were understood, and where each came from."""

import os
from collections.abc import Iterator
from typing import Any

from pydantic import AliasChoices, SecretStr

from embedding_runtime.doctor.findings import Section
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.configured import configured
from embedding_runtime.settings import ServeSettings


def settings_section(settings: ServeSettings, models_config_origin: str) -> Section:
    """One line per variable."""
    section = Section("settings")
    for name, field in sorted(type(settings).model_fields.items()):
        value: Any = getattr(settings, name)
        shown = "(set)" if isinstance(value, SecretStr) else "(none)" if value in (None, "") else value
        variable, origin = field.alias or name.upper(), "default"
        if name in settings.model_fields_set:
            origin = models_config_origin if name == "models_config" else "environment"
            if isinstance(field.validation_alias, AliasChoices):
                names = [str(choice) for choice in field.validation_alias.choices]
                variable = next((each for each in names if os.environ.get(each)), variable)
        section.lines.append(f"{variable}={shown}  [{origin}]")
    if settings.drain_delay_secs >= settings.shutdown_timeout_secs > 0:
        section.remarks.append(
            f"DRAIN_DELAY_SECS={settings.drain_delay_secs:g} leaves nothing of SHUTDOWN_TIMEOUT_SECS="
            f"{settings.shutdown_timeout_secs:g} for what is in flight; make the second larger"
        )
    return section


def models_section(settings: ServeSettings) -> Section:
    """The models that the settings name, and what is said of each."""
    section = Section("models")
    named = configured(settings)
    for task, wanted in named.defaults.items():
        section.lines.append(f"default for {task}: {_told(wanted)}  [{_origin(settings, task)}]")
    for task, wanted in named.lazy.items():
        section.lines.append(f"default for {task}, loaded on first use: {_told(wanted)}  [default]")
    for entry in settings.models:
        names = f", served as {', '.join(entry.served_names)}" if entry.served_names else ""
        section.lines.append(f"{_told(Wanted.of(entry))}{names}  [MODELS_CONFIG]")
    if settings.api_key_file is not None:
        keys = len(settings.api_key_file.read_text(encoding="utf-8").split())
        section.lines.append(f"API keys in {settings.api_key_file}: {keys}  [API_KEY_FILE]")
    return section


def _told(wanted: Wanted) -> str:
    source = wanted.name if wanted.folder is None else f"{wanted.name} from {wanted.folder}"
    return ", ".join([source, *_said(wanted)])


def _said(wanted: Wanted) -> Iterator[str]:
    """What is not left to the repository."""
    if wanted.folder is None and wanted.revision != "main":
        yield f"revision={wanted.revision}"
    if wanted.file:
        yield f"file={wanted.file}"
    if wanted.precision != "auto":
        yield f"precision={wanted.precision}"
    overrides = wanted.overrides
    for name in ("max_length", "normalize", "default_prompt_name"):
        if (value := getattr(overrides, name)) is not None:
            yield f"{name}={value}"
    if overrides.pooling is not None:
        yield f"pooling={'+'.join(overrides.pooling)}"
    if overrides.prompts is not None:
        yield f"prompts={', '.join(name for name, _ in overrides.prompts)}"
    if wanted.fingerprint:
        yield f"fingerprint={wanted.fingerprint[:12]}..."


def _origin(settings: ServeSettings, task: str) -> str:
    name = "default_embedding_model" if task == "embed" else "default_reranking_model"
    return "environment" if name in settings.model_fields_set else "default"
