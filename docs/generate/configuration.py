"""The tables of docs/configuration.md, from the settings."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from table import table

from embedding_runtime.settings import HubSettings, ModelEntry, PrefetchSettings, ServeSettings

# What a reader looks for together; a variable that no group names is a mistake.
_GROUPS = {
    "Server": (
        "API_HOST API_PORT API_WORKERS METRICS_PORT API_KEY_FILE SHUTDOWN_TIMEOUT_SECS DRAIN_DELAY_SECS "
        "KEEP_ALIVE_SECS REQUEST_TIMEOUT_SECS MAX_INPUTS_PER_REQUEST MAX_REQUEST_BYTES"
    ),
    "Models": (
        "DEFAULT_EMBEDDING_MODEL DEFAULT_RERANKING_MODEL MODELS_CONFIG ALLOWED_MODELS MODEL_FILE "
        "OPENAI_TOKEN_IDS EXPECTED_FINGERPRINT MODEL_LOAD_TIMEOUT_SECS MODEL_MEMORY_BUDGET_BYTES "
        "MODEL_IDLE_SECS"
    ),
    "Cache and hub": (
        "HF_HOME HF_HUB_CACHE PREPARED_CACHE_DIR HF_ENDPOINT HF_TOKEN HF_HUB_OFFLINE HF_HUB_DOWNLOAD_TIMEOUT"
    ),
    "Inference": (
        "ORT_EXECUTION_PROVIDER ALLOW_CPU_FALLBACK MODEL_PRECISION NODE_NAME ORT_NUM_THREADS "
        "GPU_MEMORY_LIMIT_BYTES MAX_EMBEDDING_BATCH_SIZE MAX_RERANKING_BATCH_SIZE MAX_BATCH_TOKENS "
        "MAX_QUEUE_TOKENS MAX_QUEUE_WAIT_MS ENGINE_HANG_SECS"
    ),
    "Logs and traces": (
        "RUST_LOG LOG_LEVEL LOG_FORMAT OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_PROTOCOL "
        "OTEL_SERVICE_NAME OTEL_SERVICE_VERSION"
    ),
}


def page(text: str) -> str:
    """The page with every generated part made anew."""
    for name, lines in (("server", _server()), ("prefetch", _prefetch()), ("models", _entry())):
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"docs/configuration.md lacks the markers of {name!r}")
        text = "\n".join([before + begin, *lines, end + after])
    return text


def _server() -> Iterator[str]:
    fields = {_variable(name, field): field for name, field in ServeSettings.model_fields.items()}
    for heading, names in _GROUPS.items():
        rows = [_row(name, fields.pop(name)) for name in names.split()]
        yield from ("", f"### {heading}", "", *table(("variable", "default", "what"), rows))
    if fields:
        raise SystemExit(f"docs/generate groups no variable {', '.join(fields)}")
    yield ""


def _prefetch() -> Iterator[str]:
    shared = set(HubSettings.model_fields)
    own = {name: field for name, field in PrefetchSettings.model_fields.items() if name not in shared}
    rows = [_row(_variable(name, field), field) for name, field in own.items()]
    yield from ("", *table(("variable", "default", "what"), rows), "")


def _entry() -> Iterator[str]:
    rows = [(f"`{name}`", field.description or "") for name, field in ModelEntry.model_fields.items()]
    yield from ("", *table(("field", "what"), rows), "")


def _variable(name: str, field: FieldInfo) -> str:
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return field.alias or name.upper()


def _row(variable: str, field: FieldInfo) -> tuple[str, str, str]:
    names = [variable]
    if isinstance(field.validation_alias, AliasChoices):
        names = [str(name) for name in field.validation_alias.choices]
    if not field.description:
        raise SystemExit(f"{variable} has no description")
    what = [*([f"one of {_choices(field)}"] if _choices(field) else []), field.description, *_bounds(field)]
    return ", ".join(f"`{name}`" for name in names), _default(field), "; ".join(what)


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return ", ".join(f"`{value}`" for value in get_args(field.annotation))


def _bounds(field: FieldInfo) -> Iterator[str]:
    """What numbers are allowed, where there are bounds of both sides."""
    limits = {name: getattr(each, name) for each in field.metadata for name in ("ge", "gt", "le")
              if getattr(each, name, None) is not None}  # fmt: skip
    low = limits.get("ge", limits.get("gt"))
    if low is not None and "le" in limits:
        above = "over " if "gt" in limits else ""
        yield f"{above}{low} to {limits['le']}"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required():
        return "(required)"
    if value is None:
        return "(unset)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
