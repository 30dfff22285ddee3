"""How a model is written: `org/name`, `org/name@revision`, `org/name@fastembed-rs`, and the last with a
revision of its own behind it. Pure.
"""

import re

# What stands behind the @ for a variant of a model instead of a revision of it: the library whose users have
# an index of that variant's vectors.
VARIANTS = ("fastembed-rs", "fastembed-py")

MODEL_ID = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
REVISION = r"[\w][\w./-]*"
# A model as it is named on a command line and in a default.
MODEL_NAME = rf"{MODEL_ID}(@({'|'.join(VARIANTS)}))?(@{REVISION})?"

_VARIANT = re.compile(rf"([^@]*@(?:{'|'.join(VARIANTS)}))(?:@(.*))?", re.DOTALL)


def split_name(text: str) -> tuple[str, str | None]:
    """The name, which a variant's suffix belongs to, and the revision; None where there is no @ for one."""
    if found := _VARIANT.fullmatch(text):
        return found[1], found[2]
    name, at, revision = text.partition("@")
    return name, revision if at else None


def is_variant(name: str) -> bool:
    """Whether a name without its revision is that of a variant."""
    return name.partition("@")[2] in VARIANTS
