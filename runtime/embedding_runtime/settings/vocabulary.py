"""The vocabularies of other tokenizers, by which token ids become text again: files in tiktoken's format."""

import base64
import binascii
import gzip
import zlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from embedding_runtime.errors import SettingsError

# It carries these files; nothing of its code is used. Published under the MIT licence.
_PACKAGE = "bpe_openai"


def vocabulary_file(said: str) -> Path:
    """The file that OPENAI_TOKEN_IDS means: one of the package that carries them, by its encoding's name, or
    the one at a path.

    Raises SettingsError.
    """
    if "/" in said:
        return Path(said)
    spec = find_spec(_PACKAGE)
    folders = [Path(place) / "data" for place in (spec.submodule_search_locations or [])] if spec else []
    known = {file.name.partition(".")[0]: file for folder in folders for file in folder.glob("*.tiktoken.gz")}
    if said in known:
        return known[said]
    has = f"the package bpe-openai has {', '.join(sorted(known))}" if known else "bpe-openai is not installed"
    raise SettingsError(
        [
            f"OPENAI_TOKEN_IDS={said}: no such vocabulary: {has}; allowed are model, an encoding of that "
            "package, and the path of a .tiktoken file"
        ]
    )


@lru_cache(maxsize=1)
def vocabulary(said: str) -> dict[int, bytes]:
    """The bytes of every token id. Raises SettingsError."""
    path = vocabulary_file(said)
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        pairs = (line.split() for line in text.splitlines() if line)
        found = {int(rank): base64.b64decode(token, validate=True) for token, rank in pairs}
    except (OSError, EOFError, zlib.error, ValueError, binascii.Error) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SettingsError([f"OPENAI_TOKEN_IDS={said}: {path} cannot be read: {told}"]) from error
    if not found:
        raise SettingsError([f"OPENAI_TOKEN_IDS={said}: {path} holds no token"])
    return found
