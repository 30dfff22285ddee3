"""What `prefetch` reads: of the one model that the environment names, as the operator's Job does; and of any
others.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from embedding_runtime.settings.environment import HubSettings, checked_token
from embedding_runtime.settings.models_file import MODEL_FILE, ModelEntry, read_models_file
from embedding_runtime.settings.serve import ServeSettings

_RETRY = "how long a hub that does not answer is asked again"


class FetchSettings(ServeSettings):
    """What `prefetch MODEL...` reads: what the server would, so that it finds the same."""

    retry_seconds: float = Field(300, ge=0, le=86_400, alias="PREFETCH_RETRY_SECONDS", description=_RETRY)


class PrefetchSettings(HubSettings):
    """What `prefetch` reads where MODEL_ID is set."""

    # Not checked here: what the hub says about a wrong id is what the resource's condition shows.
    model_id: str = Field(
        alias="MODEL_ID", description="the one model to fetch; unset: the configured models are fetched"
    )
    model_revision: str = Field("main", alias="MODEL_REVISION", description="its branch, tag or commit")
    model_path: Path | None = Field(
        None,
        alias="MODEL_PATH",
        description="the folder that it is in, instead of the hub; nothing is fetched then but an archive "
        "(`MODEL_URL`), whose unpacked folder it is then, or one in it",
    )
    model_store: Path | None = Field(
        None,
        alias="MODEL_STORE",
        description="where the folder of `MODEL_PATH` is moved to once it is proven, by its fingerprint; "
        "unset: it stays",
    )
    model_url: str | None = Field(
        None,
        pattern=r"^https?://.+",
        alias="MODEL_URL",
        description="an archive (tar, tar.gz, zip) with it, unpacked to `$HF_HOME/archives/$MODEL_SHA256`",
    )
    model_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        alias="MODEL_SHA256",
        description="the archive's SHA-256; goes with `MODEL_URL`",
    )
    model_url_token: SecretStr | None = Field(
        None, alias="MODEL_URL_TOKEN", description="a bearer token, sent to the host of `MODEL_URL` only"
    )
    model_task: Literal["auto", "embed", "rerank"] = Field(
        "auto", alias="MODEL_TASK", description="fail where the model does another; `auto`: whichever it does"
    )
    model_file: str | None = Field(
        None,
        pattern=MODEL_FILE,
        alias="MODEL_FILE",
        description="its ONNX file inside the repository; unset: found",
    )
    models_config: Path | None = Field(
        None,
        alias="MODELS_CONFIG",
        description="a file as for the server: what it says about this model, but for its revision and task",
    )
    retry_seconds: float = Field(300, ge=0, le=86_400, alias="PREFETCH_RETRY_SECONDS", description=_RETRY)
    termination_message_path: Path | None = Field(
        None,
        alias="TERMINATION_MESSAGE_PATH",
        description="a file for the result as JSON, under 4 KiB; unset: none",
    )
    ort_num_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        alias="ORT_NUM_THREADS",
        description="threads of the probe; unset: the CPU limit",
    )

    @field_validator("model_url_token", mode="before")
    @classmethod
    def _check_url_token(cls, value: object) -> object:
        return checked_token(value)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.model_url is None) != (self.model_sha256 is None):
            raise ValueError("MODEL_URL and MODEL_SHA256 go together: set both or none")
        return self

    @classmethod
    def load(cls) -> Self:
        """The settings as the environment and the models' file have them.

        Raises SettingsError with one line per mistake.
        """
        settings = super().load()
        _ = settings.entry
        return settings

    @cached_property
    def entry(self) -> ModelEntry | None:
        """What MODELS_CONFIG says about the model, None where it says nothing.

        Raises SettingsError.
        """
        entries = read_models_file(self.models_config) if self.models_config else ()
        return next((entry for entry in entries if entry.name == self.model_id), None)

    @classmethod
    def is_wanted(cls) -> bool:
        """Whether the environment names a model to fetch."""
        return bool(os.environ.get("MODEL_ID"))

    @classmethod
    def termination_path(cls) -> Path | None:
        """Where the termination message goes when the other settings do not load."""
        value = os.environ.get("TERMINATION_MESSAGE_PATH")
        return Path(value) if value else None
