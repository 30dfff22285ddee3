"""What `prefetch` reads when the environment names the one model to fetch, as the operator's Job does."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from embedding_runtime.settings.environment import HubSettings
from embedding_runtime.settings.models_file import MODEL_FILE


class PrefetchSettings(HubSettings):
    """What `prefetch` reads."""

    # Not checked here: what the hub says about a wrong id is what the resource's condition shows.
    model_id: str = Field(alias="MODEL_ID")
    model_revision: str = Field("main", alias="MODEL_REVISION")
    model_task: Literal["auto", "embed", "rerank"] = Field("auto", alias="MODEL_TASK")
    model_file: str | None = Field(None, pattern=MODEL_FILE, alias="MODEL_FILE")
    retry_seconds: float = Field(300, ge=0, le=86_400, alias="PREFETCH_RETRY_SECONDS")
    termination_message_path: Path | None = Field(None, alias="TERMINATION_MESSAGE_PATH")
    ort_num_threads: int | None = Field(None, ge=1, le=1024, alias="ORT_NUM_THREADS")

    @classmethod
    def termination_path(cls) -> Path | None:
        """Where the termination message goes when the other settings do not load."""
        value = os.environ.get("TERMINATION_MESSAGE_PATH")
        return Path(value) if value else None
