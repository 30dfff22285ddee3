"""MODELS_CONFIG: a YAML or JSON file that says how single models are to be served."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from embedding_runtime.errors import SettingsError

Task = Literal["embed", "rerank"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"]

# The order in which sentence-transformers concatenates several poolings.
POOLINGS: tuple[str, ...] = get_args(Pooling)

MODEL_ID = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
# No segment may begin with a dot, so none is "..".
MODEL_FILE = r"^[\w-][\w.-]*(/[\w-][\w.-]*)*\.onnx$"
_REVISION = r"[\w][\w./-]*"
# A model as it is named on a command line and in a default.
MODEL_NAME = rf"{MODEL_ID}(@{_REVISION})?"
_SERVED_NAME = r"^[A-Za-z0-9][\w.:/-]*$"

_MOST_BYTES = 1 << 20


class ModelEntry(BaseModel):
    """One model of the file: where it comes from, and what of it is not as its repository says.

    Exactly one of `id` (a hub repository) and `path` (a local folder, named by `id` where both are given) is
    needed. What is left out is read from the repository's own files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str | None, Field(pattern=f"^{MODEL_NAME}$")] = None
    path: Path | None = None
    revision: Annotated[str | None, Field(pattern=f"^{_REVISION}$")] = None
    task: Task | None = None
    file: Annotated[str | None, Field(pattern=MODEL_FILE)] = None
    precision: Precision = "auto"
    max_length: Annotated[int | None, Field(ge=4, le=1_048_576)] = None
    pooling: tuple[Pooling, ...] | None = None
    normalize: StrictBool | None = None
    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None
    served_names: tuple[Annotated[str, Field(pattern=_SERVED_NAME)], ...] = ()
    fingerprint: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None

    @field_validator("pooling", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.id is None and self.path is None:
            raise ValueError("id (a hub repository) or path (a local folder) is missing")
        if self.revision is not None and (self.path is not None or "@" in (self.id or "")):
            raise ValueError("revision goes with a hub repository whose id has no @revision")
        if self.path is not None and "@" in (self.id or ""):
            raise ValueError("a local folder has no @revision")
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise ValueError(f"default_prompt_name {self.default_prompt_name!r} is none of prompts")
        if self.file is not None and self.precision != "auto":
            raise ValueError("file and precision both choose the ONNX file; give one of them")
        return self

    @property
    def name(self) -> str:
        """The id that requests and answers use, without its revision; of a folder without an id its name."""
        return self.id.partition("@")[0] if self.id else (self.path or Path()).resolve().name

    @property
    def wanted_revision(self) -> str:
        """The branch, tag or commit that is wanted."""
        return self.revision or (self.id or "").partition("@")[2] or "main"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[ModelEntry, ...]


def read_models_file(path: Path) -> tuple[ModelEntry, ...]:
    """The entries of the file at `path`.

    Raises SettingsError with one line per mistake, which names the file, the entry, the field and the value.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise SettingsError([f"MODELS_CONFIG={path}: allowed is a file of at most {_MOST_BYTES} bytes"])
        # JSON is YAML.
        content = yaml.safe_load(text)
    except OSError as error:
        raise SettingsError([f"MODELS_CONFIG={path}: cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise SettingsError([f"MODELS_CONFIG={path}: allowed is YAML or JSON: {told}"]) from None
    try:
        entries = _File.model_validate(content if content is not None else {"models": []}).models
    except ValidationError as error:
        raise SettingsError([_mistake(path, entry) for entry in error.errors()]) from None
    if repeated := list(_repeated(entries)):
        raise SettingsError([f"MODELS_CONFIG={path}: {line}" for line in repeated])
    return entries


def _repeated(entries: tuple[ModelEntry, ...]) -> Iterator[str]:
    names = Counter(name for entry in entries for name in {entry.name, *entry.served_names})
    for name, times in names.items():
        if times > 1:
            yield f"the name {name!r} is given to {times} models; allowed is one"


def _mistake(path: Path, entry: Any) -> str:
    where = ".".join(str(part) for part in entry["loc"]) or "the file"
    allowed = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = (
        f"={entry['input']!r}" if entry["type"] != "missing" and not isinstance(entry["input"], dict) else ""
    )
    return f"MODELS_CONFIG={path}: {where}{shown}: {allowed[0].lower()}{allowed[1:]}"
