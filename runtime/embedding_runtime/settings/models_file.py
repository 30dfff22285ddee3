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
from embedding_runtime.settings.model_name import MODEL_NAME, REVISION, split_name

Task = Literal["embed", "rerank"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken", "splade"]

# The order in which sentence-transformers concatenates several poolings.
POOLINGS: tuple[str, ...] = get_args(Pooling)

# No segment may begin with a dot, so none is "..".
MODEL_FILE = r"^[\w-][\w.-]*(/[\w-][\w.-]*)*\.onnx$"
_SERVED_NAME = r"^[A-Za-z0-9][\w.:/-]*$"

_MOST_BYTES = 1 << 20


class ModelEntry(BaseModel):
    """One model of the file: where it comes from, and what of it is not as its repository says.

    Exactly one of `id` (a hub repository) and `path` (a local folder, named by `id` where both are given) is
    needed. What is left out is read from the repository's own files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str | None, Field(pattern=f"^{MODEL_NAME}$")] = Field(
        None,
        description="the hub repository, `id` or `id@revision`, or a variant of the catalogue, "
        "`id@fastembed-rs` or `id@fastembed-py`; of a folder the name that it is given",
    )
    path: Path | None = Field(
        None, description="a local folder instead of a repository; relative to the file that names it"
    )
    revision: Annotated[str | None, Field(pattern=f"^{REVISION}$")] = Field(
        None, description="branch, tag or commit; left out: `main`"
    )
    task: Task | None = Field(
        None, description="`embed` or `rerank`; loading fails where the model does another"
    )
    file: Annotated[str | None, Field(pattern=MODEL_FILE)] = Field(
        None, description="the ONNX file inside the repository"
    )
    precision: Precision = Field(
        "auto",
        description="`fp32`, `fp16`, `bf16` or `int8`: what it is computed in, before `MODEL_PRECISION`; for "
        "`fp16` the repository's own fp16 file is taken where it has one",
    )
    max_length: Annotated[int | None, Field(ge=4, le=1_048_576)] = Field(
        None, description="tokens of one text, special tokens included; at most the model's positions"
    )
    pooling: tuple[Pooling, ...] | None = Field(
        None,
        description=f"one or a list of {', '.join(f'`{mode}`' for mode in get_args(Pooling))}",
    )
    normalize: StrictBool | None = Field(None, description="whether vectors have the length 1")
    prompts: dict[str, str] = Field(
        {}, description="name to text; added to the repository's, and before one of the same name"
    )
    default_prompt_name: str | None = Field(
        None, description="the prompt that goes in front of every text whose request names none"
    )
    served_names: tuple[Annotated[str, Field(pattern=_SERVED_NAME)], ...] = Field(
        (), description="further names that requests may use for it"
    )
    fingerprint: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        None, description="do not serve the model where it has another"
    )

    @field_validator("pooling", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.id is None and self.path is None:
            raise ValueError("id (a hub repository) or path (a local folder) is missing")
        at = split_name(self.id or "")[1]
        if self.revision is not None and (self.path is not None or at is not None):
            raise ValueError("revision goes with a hub repository whose id has no @revision")
        if self.path is not None and at is not None:
            raise ValueError("a local folder has no @revision")
        # Without prompts of its own the entry may name one of the repository's.
        if self.default_prompt_name and self.prompts and self.default_prompt_name not in self.prompts:
            raise ValueError(f"default_prompt_name {self.default_prompt_name!r} is none of prompts")
        if self.pooling == ():
            raise ValueError(f"pooling is empty; allowed are {', '.join(POOLINGS)}")
        if self.file is not None and self.precision != "auto":
            raise ValueError("file and precision both choose the ONNX file; give one of them")
        return self

    @property
    def name(self) -> str:
        """The id that requests and answers use, without its revision; of a folder without an id its name."""
        return split_name(self.id)[0] if self.id else (self.path or Path()).resolve().name

    @property
    def wanted_revision(self) -> str:
        """The branch, tag or commit that is wanted."""
        return self.revision or split_name(self.id or "")[1] or "main"


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
    return tuple(_with_folder(entry, path.parent) for entry in entries)


def _with_folder(entry: ModelEntry, beside: Path) -> ModelEntry:
    if entry.path is None:
        return entry
    return entry.model_copy(update={"path": (beside / entry.path.expanduser()).absolute()})


def _repeated(entries: tuple[ModelEntry, ...]) -> Iterator[str]:
    names = Counter(name for entry in entries for name in {entry.name, *entry.served_names})
    for name, times in names.items():
        if times > 1:
            yield f"the name {name!r} is given to {times} models; allowed is one"


def _mistake(path: Path, entry: Any) -> str:
    where = ".".join(str(part) for part in entry["loc"]) or "the file"
    allowed = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if entry["type"] == "extra_forbidden":
        known = _File.model_fields if len(entry["loc"]) == 1 else ModelEntry.model_fields
        allowed = f"no such field; allowed are {', '.join(known)}"
    hides = entry["type"] == "missing" or isinstance(entry["input"], dict | list)
    shown = "" if hides else f"={entry['input']!r}"
    return f"MODELS_CONFIG={path}: {where}{shown}: {allowed[0].lower()}{allowed[1:]}"
