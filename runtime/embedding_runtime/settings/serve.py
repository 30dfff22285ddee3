"""What `serve` reads. The document's variables, and those that operating it needs."""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from embedding_runtime.errors import SettingsError
from embedding_runtime.settings.environment import HubSettings
from embedding_runtime.settings.model_name import MODEL_NAME
from embedding_runtime.settings.models_file import (
    MODEL_FILE,
    ModelEntry,
    Precision,
    read_models_file,
)
from embedding_runtime.settings.vocabulary import vocabulary

DEFAULT_EMBEDDING_MODEL = "BAAI/bge-small-en-v1.5"
DEFAULT_RERANKING_MODEL = "BAAI/bge-reranker-base"

_MODEL = rf"^$|^{MODEL_NAME}$"


class ServeSettings(HubSettings):
    """Address, life, models, engine, limits, traces."""

    api_host: str = Field("0.0.0.0", alias="API_HOST", description="the address to listen on")
    api_port: int = Field(8090, ge=0, le=65535, alias="API_PORT", description="the port; 0: any free one")
    api_workers: int = Field(4, ge=1, le=64, alias="API_WORKERS", description="HTTP processes")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        alias="METRICS_PORT",
        description="a port of its own for `/metrics`, without API key; unset: on `API_PORT` only",
    )
    api_key_file: Path | None = Field(
        None,
        alias="API_KEY_FILE",
        description="a file with one API key per line, read again when it changes; unset: no key needed",
    )
    shutdown_timeout_secs: float = Field(
        30,
        ge=0,
        le=3600,
        alias="SHUTDOWN_TIMEOUT_SECS",
        description="from SIGTERM to the end, `DRAIN_DELAY_SECS` included; what is in flight then is cut off",
    )
    drain_delay_secs: float = Field(
        5,
        ge=0,
        le=3600,
        alias="DRAIN_DELAY_SECS",
        description="after SIGTERM requests are accepted until none has come for so long, at most for half "
        "of `SHUTDOWN_TIMEOUT_SECS`; readiness says 503 meanwhile",
    )
    keep_alive_secs: float = Field(
        120, ge=1, le=86_400, alias="KEEP_ALIVE_SECS", description="how long an idle connection stays open"
    )
    request_timeout_secs: float = Field(
        300,
        gt=0,
        le=86_400,
        alias="REQUEST_TIMEOUT_SECS",
        description="past it a request gets 504; a client asks for less with `X-Request-Timeout-Ms`",
    )

    default_embedding_model: str = Field(
        DEFAULT_EMBEDDING_MODEL,
        pattern=_MODEL,
        alias="DEFAULT_EMBEDDING_MODEL",
        description="loaded at start, answers where a request names none: an id, `id@revision`, a variant "
        "of the catalogue (`id@fastembed-rs`) or a name of `MODELS_CONFIG`; empty: none",
    )
    default_reranking_model: str | None = Field(
        None,
        pattern=_MODEL,
        alias="DEFAULT_RERANKING_MODEL",
        description=f"the same for `/rerank`; unset: {DEFAULT_RERANKING_MODEL} on first use; empty: none",
    )
    models_config: Path | None = Field(
        None, alias="MODELS_CONFIG", description="a YAML or JSON file about single models; see below"
    )
    allowed_models: str | None = Field(
        None,
        alias="ALLOWED_MODELS",
        description="glob patterns of the ids that requests may name, separated by commas; unset: the "
        "configured models, the cache and the catalogue",
    )
    openai_token_ids: str | None = Field(
        None,
        pattern=r"\S",
        alias="OPENAI_TOKEN_IDS",
        description="what the token ids are that `/v1/embeddings` gets instead of text: `model`: the model's "
        "own; an encoding's name, such as `cl100k_base`, with `runtime[token-ids]` installed, or the path of "
        "a `.tiktoken` file: they are turned back into text; unset: refused",
    )
    model_file: str | None = Field(
        None,
        pattern=MODEL_FILE,
        alias="MODEL_FILE",
        description="the default model's ONNX file inside its repository; with one default model only; "
        "unset: found",
    )
    expected_fingerprint: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        alias="EXPECTED_FINGERPRINT",
        description="stay unready where the default model has another; with one default model only",
    )
    model_load_timeout_secs: float = Field(
        60,
        ge=0,
        le=3600,
        alias="MODEL_LOAD_TIMEOUT_SECS",
        description="how long a request waits for a model that is loading; then 503 while loading goes on",
    )
    model_memory_budget_bytes: int | None = Field(
        None,
        ge=1,
        alias="MODEL_MEMORY_BUDGET_BYTES",
        description="what all loaded models together may hold; the least recently used go first, default "
        "models never; unset: no limit",
    )
    model_idle_secs: float | None = Field(
        None,
        gt=0,
        alias="MODEL_IDLE_SECS",
        description="unload a model that was not used for so long, default models never; unset: never",
    )

    ort_execution_provider: Literal["auto", "cpu", "openvino", "cuda"] = Field(
        "auto",
        alias="ORT_EXECUTION_PROVIDER",
        description="`cuda` without a usable GPU runs on the CPU and is not ready; `cpu` is ONNX Runtime; "
        "`openvino` needs the package of that name; `auto`: a GPU, else the faster of these two here",
    )
    model_precision: Precision = Field(
        "auto",
        alias="MODEL_PRECISION",
        description="what models are computed in; `auto`: as their files have it, but 32 bits as fp16 on a "
        "GPU; `fp16` of 32 bits needs a GPU; `bf16`: with OpenVINO, on "
        "CPUs with AMX or AVX512-BF16; `int8`: 8-bit weights, and activations scaled by token; what this "
        "machine cannot do keeps the server from becoming ready",
    )
    node_name: str | None = Field(
        None,
        alias="NODE_NAME",
        description="what messages call this machine; unset: its host name",
    )
    allow_cpu_fallback: bool = Field(
        False,
        alias="ALLOW_CPU_FALLBACK",
        description="be ready although a model, or a part of it, runs on the CPU where `cuda` was asked for "
        "or `auto` finds a GPU that it cannot use",
    )
    ort_num_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        alias="ORT_NUM_THREADS",
        description="threads of one inference; unset: the CPU limit",
    )
    gpu_memory_limit_bytes: int | None = Field(
        None,
        ge=1,
        alias="GPU_MEMORY_LIMIT_BYTES",
        description="what a model's weights and batches may take on a GPU, less what models loaded before it "
        "hold; CUDA's own libraries come on top; unset: no limit",
    )
    max_embedding_batch_size: int = Field(
        256,
        ge=1,
        le=65536,
        alias="MAX_EMBEDDING_BATCH_SIZE",
        description="texts that one inference holds; larger requests are split",
    )
    max_reranking_batch_size: int = Field(
        64, ge=1, le=65536, alias="MAX_RERANKING_BATCH_SIZE", description="the same for pairs to rerank"
    )
    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        le=16_777_216,
        alias="MAX_BATCH_TOKENS",
        description="tokens that one inference holds, padding included; unset: as many as are fastest here",
    )
    max_queue_tokens: int = Field(
        262_144, ge=1, alias="MAX_QUEUE_TOKENS", description="what may wait; past it 429 with `Retry-After`"
    )
    max_queue_wait_ms: int = Field(
        60_000,
        ge=1,
        le=86_400_000,
        alias="MAX_QUEUE_WAIT_MS",
        description="milliseconds that a request is expected to wait at most; past it 429 with `Retry-After`",
    )
    max_inputs_per_request: int = Field(
        2048, ge=1, alias="MAX_INPUTS_PER_REQUEST", description="texts in one request; past it 413"
    )
    max_request_bytes: int = Field(
        10_485_760, ge=1024, alias="MAX_REQUEST_BYTES", description="bytes of one request's body; past it 413"
    )
    engine_hang_secs: float = Field(
        20,
        ge=1,
        le=86_400,
        alias="ENGINE_HANG_SECS",
        description="an engine process without a sign of life for so long is killed and started again",
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://.+",
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where traces go; unset: nowhere. Further `OTEL_*` as the OpenTelemetry SDK has them",
    )
    otel_exporter_otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "grpc", alias="OTEL_EXPORTER_OTLP_PROTOCOL", description="how traces travel"
    )
    otel_service_name: str = Field(
        "embedding-inference-api", alias="OTEL_SERVICE_NAME", description="the service's name in traces"
    )
    otel_service_version: str | None = Field(
        None, alias="OTEL_SERVICE_VERSION", description="its version in traces; unset: the package's"
    )

    @classmethod
    def choose_models_config(cls, path: str) -> None:
        """Set MODELS_CONFIG, for this process and those that it starts."""
        os.environ["MODELS_CONFIG"] = path

    @classmethod
    def load(cls) -> Self:
        """The settings as the environment and the models' file have them.

        Raises SettingsError with one line per mistake.
        """
        settings = super().load()
        if mistakes := settings._mistakes():
            raise SettingsError(mistakes)
        return settings

    @cached_property
    def models(self) -> tuple[ModelEntry, ...]:
        """The entries of MODELS_CONFIG.

        Raises SettingsError.
        """
        return read_models_file(self.models_config) if self.models_config else ()

    @property
    def allowed_patterns(self) -> tuple[str, ...] | None:
        """ALLOWED_MODELS as single patterns; None where nothing was said."""
        if self.allowed_models is None:
            return None
        return tuple(pattern.strip() for pattern in self.allowed_models.split(",") if pattern.strip())

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name, value in (
            ("EXPECTED_FINGERPRINT", self.expected_fingerprint),
            ("MODEL_FILE", self.model_file),
        ):
            if value and self.default_embedding_model and self.default_reranking_model:
                raise ValueError(
                    f"{name}={value}: allowed with one default model only; set DEFAULT_EMBEDDING_MODEL "
                    "or DEFAULT_RERANKING_MODEL to empty"
                )
        return self

    def _mistakes(self) -> list[str]:
        """What only the files that the environment names can show."""
        mistakes = []
        try:
            _ = self.models
        except SettingsError as error:
            mistakes += error.mistakes
        try:
            if self.openai_token_ids not in (None, "model"):
                vocabulary(self.openai_token_ids)
        except SettingsError as error:
            mistakes += error.mistakes
        if self.api_key_file is not None:
            try:
                if not self.api_key_file.read_text(encoding="utf-8").split():
                    mistakes.append(
                        f"API_KEY_FILE={self.api_key_file}: holds no key; allowed is one key per line"
                    )
            except (OSError, UnicodeDecodeError) as error:
                told = error.strerror if isinstance(error, OSError) else "it is no text"
                mistakes.append(f"API_KEY_FILE={self.api_key_file}: cannot be read: {told}")
        return mistakes
