"""Every setting, read from the environment once, and what is allowed for each. No other module reads the
environment.

Not here: what the machine looks like (engine/threads.py) and what the cache holds (registry/cache.py).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from embedding_runtime.errors import SettingsError

DEFAULT_EMBEDDING_MODEL = "BAAI/bge-small-en-v1.5"

_MODEL = r"^$|^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?$"
# No segment may begin with a dot, so none is "..".
_MODEL_FILE = r"^[\w-][\w.-]*(/[\w-][\w.-]*)*\.onnx$"

# Where an empty value says something: it means "no model", not "the default".
_EMPTY_IS_A_VALUE = frozenset({"DEFAULT_EMBEDDING_MODEL", "DEFAULT_RERANKING_MODEL"})

# What a mistake's line says is allowed, for the fields whose type does not say it.
_ALLOWED = {
    "DEFAULT_EMBEDDING_MODEL": "a model id such as BAAI/bge-small-en-v1.5 or id@revision; empty for none",
    "DEFAULT_RERANKING_MODEL": "a model id such as BAAI/bge-reranker-base or id@revision; empty for none",
    "MODEL_ID": "a model id such as BAAI/bge-small-en-v1.5",
    "MODEL_FILE": "a path inside the repository that ends in .onnx",
    "EXPECTED_FINGERPRINT": "64 hexadecimal digits",
    "HF_ENDPOINT": "an http:// or https:// address",
    "HF_HUB_OFFLINE": "1, 0, true, false, yes, no, on or off",
}


class _Environment(BaseSettings):
    """Reads nothing but the environment; an empty variable is an unset one, except where empty means none."""

    model_config = SettingsConfigDict(
        case_sensitive=True, extra="ignore", frozen=True, populate_by_name=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the base class fixes the signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No .env file and no secrets folder: what is set is what `env` shows."""
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value != "" or name in _EMPTY_IS_A_VALUE}

    @classmethod
    def load(cls) -> Self:
        """The settings as the environment has them.

        Raises SettingsError with one line per mistake: variable, value, what is allowed.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError([_mistake(entry) for entry in error.errors()]) from None


class HubSettings(_Environment):
    """The model hub and its cache, as huggingface_hub names these variables, and how to log."""

    hf_home: Path = Field(Path("~/.cache/huggingface"), alias="HF_HOME")
    hf_hub_cache: Path | None = Field(None, alias="HF_HUB_CACHE")
    hf_endpoint: Annotated[str, Field(pattern=r"^https?://.+")] = Field(
        "https://huggingface.co", alias="HF_ENDPOINT"
    )
    hf_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    )
    hf_hub_offline: bool = Field(False, alias="HF_HUB_OFFLINE")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LOG_LEVEL")
    log_format: Literal["json", "text"] = Field("json", alias="LOG_FORMAT")

    @property
    def cache_dir(self) -> Path:
        """The folder with `models--<org>--<name>`, as every hub client lays it out."""
        return (self.hf_hub_cache or self.hf_home / "hub").expanduser()

    @property
    def token(self) -> str | None:
        """The hub token in clear. For the hub client only; never for a log line."""
        return self.hf_token.get_secret_value() if self.hf_token else None


class ServeSettings(HubSettings):
    """What `serve` reads."""

    api_host: str = Field("0.0.0.0", alias="API_HOST")
    api_port: int = Field(8090, ge=0, le=65535, alias="API_PORT")
    api_workers: int = Field(4, ge=1, le=64, alias="API_WORKERS")
    shutdown_timeout_secs: float = Field(30, ge=0, le=3600, alias="SHUTDOWN_TIMEOUT_SECS")

    default_embedding_model: str = Field(
        DEFAULT_EMBEDDING_MODEL, pattern=_MODEL, alias="DEFAULT_EMBEDDING_MODEL"
    )
    default_reranking_model: str = Field("", pattern=_MODEL, alias="DEFAULT_RERANKING_MODEL")
    model_file: str | None = Field(None, pattern=_MODEL_FILE, alias="MODEL_FILE")
    expected_fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", alias="EXPECTED_FINGERPRINT")

    ort_execution_provider: Literal["auto", "cpu", "cuda"] = Field("auto", alias="ORT_EXECUTION_PROVIDER")
    ort_num_threads: int | None = Field(None, ge=1, le=1024, alias="ORT_NUM_THREADS")
    max_embedding_batch_size: int = Field(256, ge=1, le=65536, alias="MAX_EMBEDDING_BATCH_SIZE")
    max_reranking_batch_size: int = Field(64, ge=1, le=65536, alias="MAX_RERANKING_BATCH_SIZE")
    max_batch_tokens: int | None = Field(None, ge=1, le=16_777_216, alias="MAX_BATCH_TOKENS")
    max_queue_tokens: int = Field(262_144, ge=1, alias="MAX_QUEUE_TOKENS")
    max_inputs_per_request: int = Field(2048, ge=1, alias="MAX_INPUTS_PER_REQUEST")
    max_request_bytes: int = Field(10_485_760, ge=1024, alias="MAX_REQUEST_BYTES")

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


class PrefetchSettings(HubSettings):
    """What `prefetch` reads."""

    # Not checked here: what the hub says about a wrong id is what the resource's condition shows.
    model_id: str = Field(alias="MODEL_ID")
    model_revision: str = Field("main", alias="MODEL_REVISION")
    model_task: Literal["auto", "embed", "rerank"] = Field("auto", alias="MODEL_TASK")
    model_file: str | None = Field(None, pattern=_MODEL_FILE, alias="MODEL_FILE")
    retry_seconds: float = Field(300, ge=0, le=86_400, alias="PREFETCH_RETRY_SECONDS")
    termination_message_path: Path | None = Field(None, alias="TERMINATION_MESSAGE_PATH")
    ort_num_threads: int | None = Field(None, ge=1, le=1024, alias="ORT_NUM_THREADS")

    @classmethod
    def termination_path(cls) -> Path | None:
        """Where the termination message goes when the other settings do not load."""
        value = os.environ.get("TERMINATION_MESSAGE_PATH")
        return Path(value) if value else None


def _mistake(entry: Any) -> str:
    """One line for one pydantic error: variable=value: what is allowed."""
    if not entry["loc"]:
        return str(entry["ctx"]["error"])
    name = str(entry["loc"][0])
    if entry["type"] == "missing":
        return f"{name} is not set: {_ALLOWED.get(name, 'required')}"
    shown = "***" if "TOKEN" in name and "TOKENS" not in name else entry["input"]
    allowed = _ALLOWED.get(name) or entry["msg"].removeprefix("Input should be ").partition(", unable")[0]
    return f"{name}={shown}: allowed is {allowed}"
