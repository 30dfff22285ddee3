"""Where a wanted model's files may be, in the order to look, and what the catalogue says of each. Pure."""

from dataclasses import dataclass, replace

from embedding_runtime.errors import ModelNotFoundError, UnsupportedModelError
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import NOTHING, Entry, FillIns, catalogue
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import is_variant


@dataclass(frozen=True)
class Origin:
    """A repository at a revision, the ONNX file in it (None: found by its usual name), what is said otherwise
    than by its files, and what holds where they do not say.
    """

    ref: ModelRef
    file: str | None
    overrides: Overrides
    fill_ins: FillIns = NOTHING


def origins(wanted: Wanted) -> tuple[Origin, ...]:
    """The model's own repository, then its substitute; of a variant the one repository that it is in.

    A substitute has no branches of the model's repository: it stands in for `main`, and a commit may be one
    of its own. Who wants a file of `main` by its name wants it of the model's own repository. Raises
    ModelNotFoundError for a variant that the catalogue does not have, UnsupportedModelError for a model that
    it says is not served.
    """
    entry = catalogue().find(wanted.name)
    if entry is None:
        if is_variant(wanted.name):
            raise ModelNotFoundError(
                f"404: the catalogue has no {wanted.name}; `python -m embedding_runtime models --catalogue` "
                "lists its models and their variants"
            )
        return (Origin(wanted.ref, wanted.file, wanted.overrides),)
    if not entry.is_served:
        raise UnsupportedModelError(entry.refusal)
    if entry.is_variant:
        return (_variant(wanted, entry, ModelRef(entry.repository or "", wanted.revision)),)
    own = Origin(wanted.ref, wanted.file or _own_file(wanted, entry), wanted.overrides, entry.fill_ins)
    may_be_elsewhere = wanted.ref.is_pinned or (wanted.revision == "main" and wanted.file is None)
    if entry.repository is None or not may_be_elsewhere:
        return (own,)
    ref = ModelRef(entry.repository, wanted.revision)
    return own, replace(own, ref=ref, file=wanted.file or entry.file)


def of_folder(wanted: Wanted) -> Origin:
    """The same of a model that is wanted from a local folder, which is whatever its owner says it is."""
    entry = catalogue().find(wanted.name)
    if entry is None:
        return Origin(wanted.ref, wanted.file, wanted.overrides)
    if entry.is_variant:
        return _variant(wanted, entry, wanted.ref)
    return Origin(wanted.ref, wanted.file, wanted.overrides, entry.fill_ins)


def _variant(wanted: Wanted, entry: Entry, ref: ModelRef) -> Origin:
    said, fixed = wanted.overrides, entry.fill_ins
    overrides = replace(
        said,
        pooling=fixed.pooling if said.pooling is None else said.pooling,
        normalize=fixed.normalize if said.normalize is None else said.normalize,
        max_length=fixed.max_length if said.max_length is None else said.max_length,
    )
    return Origin(ref, wanted.file or entry.file, overrides)


def _own_file(wanted: Wanted, entry: Entry) -> str | None:
    """The file in the model's own repository, where its name is not a usual one."""
    return entry.file if entry.repository is None and wanted.precision == "auto" else None
