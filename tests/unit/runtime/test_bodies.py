"""Bodies are refused for what they hold before anything reads them as a whole."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.api.bodies import check_values, parse, separators
from embedding_runtime.api.schemas import EmbedRequest
from embedding_runtime.errors import InvalidRequestError, TooManyInputsError

_JSON = {b"content-type": b"application/json"}

_values = st.recursive(
    st.text(alphabet='\\",[]{}: aé') | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='\\",k'), inner),
)


def _commas(value: Any) -> int:
    """How many commas JSON puts between the entries of a value."""
    if not isinstance(value, list | dict):
        return 0
    entries = list(value.values()) if isinstance(value, dict) else value
    return max(0, len(entries) - 1) + sum(map(_commas, entries))


@given(_values)
def test_only_commas_outside_strings_separate_values(value: Any) -> None:
    assert separators(json.dumps(value, ensure_ascii=False).encode()) == _commas(value)


@pytest.mark.parametrize(
    "content", [["x"] * 70_000, [1] * 70_000, [[]] * 70_000, {str(n): n for n in range(70_000)}]
)
def test_a_body_of_very_many_values_is_refused(content: object) -> None:
    body = json.dumps({"input": content}).encode()
    with pytest.raises(TooManyInputsError, match="more than 65536 values; one request may hold 8 inputs"):
        asyncio.run(check_values(body, 8))
    asyncio.run(check_values(body, 70_000))


def test_a_text_may_have_any_number_of_commas() -> None:
    body = json.dumps({"input": ['a, b", \\' * 70_000] * 2}).encode()
    asyncio.run(check_values(body, 8))


def test_of_wrong_entries_the_first_is_told() -> None:
    with pytest.raises(InvalidRequestError) as told:
        parse(EmbedRequest, b'{"input": ["a", 1, 2]}', _JSON)
    assert told.value.param == "input.1"
