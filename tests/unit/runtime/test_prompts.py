"""Which prompt goes in front of a request's texts."""

from dataclasses import replace

import pytest

from embedding_runtime.errors import InvalidRequestError
from embedding_runtime.service.prompts import prompt
from tests.unit.runtime.fakes import recipe

BOTH = (("query", "query: "), ("passage", "passage: "))


@pytest.mark.parametrize(
    ("prompts", "prompt_name", "input_type", "expected"),
    [
        (BOTH, None, None, "default: "),
        (BOTH, "query", None, "query: "),
        (BOTH, None, "query", "query: "),
        (BOTH, None, "passage", "passage: "),
        (BOTH, None, "document", "passage: "),
        ((("document", "d: "),), None, "passage", "d: "),
        ((("document", "d: "),), None, "query", ""),
        ((), None, "query", ""),
        (BOTH, "query", "document", "query: "),
    ],
)
def test_the_prompt_follows_the_request(
    prompts: tuple[tuple[str, str], ...], prompt_name: str | None, input_type: str | None, expected: str
) -> None:
    asked = replace(recipe("embed"), prompt="default: ", prompts=prompts)
    assert prompt(asked, prompt_name, input_type) == expected


@pytest.mark.parametrize(
    ("prompts", "words"), [(BOTH, "has the prompts query, passage"), ((), "has no prompts")]
)
def test_an_unknown_name_is_told_what_there_is(prompts: tuple[tuple[str, str], ...], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        prompt(replace(recipe("embed"), prompts=prompts), "classification", None)
    assert caught.value.param == "prompt_name"


def test_an_unknown_type_of_input_is_told_what_there_is() -> None:
    with pytest.raises(InvalidRequestError, match="query, document, passage"):
        prompt(recipe("embed"), None, "image")
