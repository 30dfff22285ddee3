"""What the requests of all dialects have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

# The first wrong entry is the one that is told: collecting those of a million takes seconds.
Texts = Annotated[list[StrictStr], Field(min_length=1, fail_fast=True)]
Model = Annotated[
    StrictStr | None,
    Field(description="A name that `/models` lists; left out: the task's default model."),
]
Dimensions = Annotated[
    StrictInt | None,
    Field(ge=1, description="So many of a vector's first numbers, normalised again."),
]
Untrained = Annotated[
    StrictBool, Field(description="Cut also the vectors of a model that was not trained for it.")
]
Unused = Annotated[StrictStr | StrictInt | None, Field(description="Accepted, without effect.")]


class DialectRequest(BaseModel):
    """A field that is not named here is refused: it would be dropped in silence, whatever it asks for."""

    model_config = ConfigDict(extra="forbid")
