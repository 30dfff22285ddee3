"""What lists of token ids mean that a client sends instead of text: OPENAI_TOKEN_IDS says it."""

from collections.abc import Sequence

from embedding_runtime.errors import InvalidRequestError, UnsupportedFieldError
from embedding_runtime.settings import ServeSettings, vocabulary

_REFUSED = (
    "input holds token ids, and this server was not told whose they are: another tokenizer's would be taken "
    "for the model's own, and give wrong vectors. Send text (in LangChain: OpenAIEmbeddings(..., "
    "check_embedding_ctx_length=False)), or set OPENAI_TOKEN_IDS on the server: cl100k_base, where clients "
    "send OpenAI's, or model"
)


def meant(
    ids: Sequence[Sequence[int]], settings: ServeSettings
) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
    """The texts that the ids stand for, or the ids where they are the model's own; the other is empty.

    Raises UnsupportedFieldError where the settings do not say whose ids they are, InvalidRequestError for an
    id that the encoding does not have.
    """
    said = settings.openai_token_ids
    if said == "model":
        return [], ids
    if said is None:
        raise UnsupportedFieldError(_REFUSED, param="input")
    return [_text(each, f"input.{at}", said) for at, each in enumerate(ids)], []


def _text(ids: Sequence[int], param: str, encoding: str) -> str:
    known = vocabulary(encoding)
    strange = next((each for each in ids if each not in known), None)
    if strange is not None:
        raise InvalidRequestError(
            f"{param} has the token id {strange}, which {encoding} has not", param=param
        )
    # A client that cuts a long text into pieces may cut within a character.
    return b"".join(known[each] for each in ids).decode("utf-8", errors="replace")
