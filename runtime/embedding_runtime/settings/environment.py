"""What all settings have in common: reading the environment, telling a mistake; the hub and the logs."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from embedding_runtime.errors import SettingsError
from embedding_runtime.settings import filters
from embedding_runtime.settings.filters import LogFilter, parse_filter

# Where an empty value says something: it means "none", not "the default".
_EMPTY_IS_A_VALUE = frozenset({"DEFAULT_EMBEDDING_MODEL", "DEFAULT_RERANKING_MODEL", "PREPARED_CACHE_DIR"})

# What no line may show.
_SECRET = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODEL_URL_TOKEN"})

# What a mistake's line says is allowed, for the fields whose type does not say it.
_ALLOWED = {
    "ALLOWED_MODELS": "glob patterns of model ids, separated by commas, such as BAAI/*",
    "DEFAULT_EMBEDDING_MODEL": "a model id such as BAAI/bge-small-en-v1.5 or id@revision; empty for none",
    "DEFAULT_RERANKING_MODEL": "a model id such as BAAI/bge-reranker-base or id@revision; empty for none",
    "MODEL_ID": "a model id such as BAAI/bge-small-en-v1.5",
    "MODEL_URL": "an http:// or https:// address",
    "MODEL_SHA256": "64 hexadecimal digits, in lower case",
    "MODEL_FILE": "a path inside the repository that ends in .onnx",
    "EXPECTED_FINGERPRINT": "64 hexadecimal digits",
    "HF_ENDPOINT": "an http:// or https:// address",
    "HF_HUB_OFFLINE": "1, 0, true, false, yes, no, on or off",
    "ALLOW_CPU_FALLBACK": "1, 0, true, false, yes, no, on or off",
    "LOG_LEVEL": filters.ALLOWED,
    "RUST_LOG": filters.ALLOWED,
    "OTEL_EXPORTER_OTLP_ENDPOINT": "an http:// or https:// address such as http://localhost:4317",
}


class Environment(BaseSettings):
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
        if not isinstance(env_settings, EnvSettingsSource):
            raise TypeError(f"the environment is read by {type(env_settings).__name__}")
        # Before a field chooses among its names, or an empty one would hide the other.
        env_settings.env_vars = {
            name: value
            for name, value in env_settings.env_vars.items()
            if value != "" or name in _EMPTY_IS_A_VALUE
        }
        return init_settings, env_settings

    @classmethod
    def load(cls) -> Self:
        """The settings as the environment has them.

        Raises SettingsError with one line per mistake: variable, value, what is allowed.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError([_mistake(entry) for entry in error.errors()]) from None


class HubSettings(Environment):
    """The model hub and its cache, as huggingface_hub names these variables, and how to log."""

    hf_home: Path = Field(
        Path("~/.cache/huggingface"),
        alias="HF_HOME",
        description="the hub client's folder, models are cached in its `hub`; may be read-only",
    )
    hf_hub_cache: Path | None = Field(
        None, alias="HF_HUB_CACHE", description="the models' folder itself, where it is not `$HF_HOME/hub`"
    )
    # No Path: an empty one would be the current folder.
    prepared_cache_dir: str | None = Field(
        None,
        alias="PREPARED_CACHE_DIR",
        description="where graphs that were made of the models' own go; what is not there is looked for in "
        "`$HF_HOME/prepared`, which may be read-only; unset: there; empty: the models' own graphs are run",
    )
    hf_endpoint: Annotated[str, Field(pattern=r"^https?://.+")] = Field(
        "https://huggingface.co", alias="HF_ENDPOINT", description="address of the hub or of a mirror of it"
    )
    hf_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="for gated and private models; sent to `HF_ENDPOINT` only",
    )
    hf_hub_offline: bool = Field(
        False, alias="HF_HUB_OFFLINE", description="touch no network; serve what the cache holds"
    )
    # The hub client reads it by itself, when it is imported, and would end the process over a bad value.
    hf_hub_download_timeout: int | None = Field(
        None,
        ge=1,
        alias="HF_HUB_DOWNLOAD_TIMEOUT",
        description="seconds after which a silent connection to the hub is given up; unset: 10",
    )
    log_level: str | None = Field(
        None,
        alias="LOG_LEVEL",
        description="a level, or filters as `RUST_LOG` has them; goes before `RUST_LOG`; unset: `info`",
    )
    rust_log: str | None = Field(
        None,
        alias="RUST_LOG",
        description="filters: `info,embedding_inference_api=debug`, also `...::api`, `...::access`, ...",
    )
    log_format: Literal["json", "text"] = Field(
        "json", alias="LOG_FORMAT", description="one JSON object or one line of text for each event"
    )

    @field_validator("log_level", "rust_log")
    @classmethod
    def _check_filter(cls, value: str | None) -> str | None:
        if value is not None:
            parse_filter(value)
        return value

    @field_validator("hf_token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> object:
        return checked_token(value)

    @property
    def log_filter(self) -> LogFilter:
        """Which events are logged."""
        return parse_filter(self.log_level or self.rust_log or "info")

    @property
    def cache_dir(self) -> Path:
        """The folder with `models--<org>--<name>`, as every hub client lays it out."""
        return (self.hf_hub_cache or self.hf_home / "hub").expanduser()

    @property
    def prepared_dirs(self) -> tuple[Path, ...]:
        """Where prepared graphs may lie; into the first of them they are written. Empty: none are wanted."""
        if self.prepared_cache_dir == "":
            return ()
        beside = self.hf_home / "prepared"
        own = Path(self.prepared_cache_dir) if self.prepared_cache_dir else beside
        return tuple(dict.fromkeys(path.expanduser() for path in (own, beside)))

    @property
    def token(self) -> str | None:
        """The hub token in clear. For the hub client only; never for a log line."""
        return self.hf_token.get_secret_value() if self.hf_token else None


def checked_token(value: object) -> object:
    """A token without the line's end that one out of a file often has.

    Raises ValueError for what cannot be a header, which would be shown in an error.
    """
    token = value.strip() if isinstance(value, str) else value
    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("a token of printable characters, without spaces")
    return token


def _mistake(entry: Any) -> str:
    """One line for one pydantic error: variable=value: what is allowed."""
    if not entry["loc"]:
        return str(entry["ctx"]["error"])
    name = str(entry["loc"][0])
    if name == "HF_TOKEN" and not os.environ.get(name):
        name = "HUGGING_FACE_HUB_TOKEN"  # of two names, the library tells the first
    if entry["type"] == "missing":
        return f"{name} is not set: {_ALLOWED.get(name, 'required')}"
    shown = "***" if name.upper() in _SECRET else entry["input"]
    told = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name}={shown}: allowed is {_ALLOWED.get(name) or told.partition(', unable')[0]}"
