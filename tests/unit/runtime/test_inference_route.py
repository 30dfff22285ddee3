"""Which form of requests a body has, seen without parsing it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.api.dialects import jina, tei
from embedding_runtime.api.inference_route import told_apart

LONG = "lorem ipsum " * 1000


def _key(body: Any, own: str = "input", variants: Any = (tei.EMBED, tei.RERANK)) -> str | None:
    found = told_apart(json.dumps(body).encode(), own, variants)
    return found.key if found else None


@pytest.mark.parametrize("text", ["a", LONG])
def test_a_key_tells_wherever_it_stands(text: str) -> None:
    assert _key({"input": text}) is None
    assert _key({"inputs": text}) == "inputs"
    assert _key({"model": "m", "inputs": [text, text], "truncate": True}) == "inputs"
    assert _key({"query": text, "texts": [text]}, own="documents") == "texts"
    assert _key({"query": text, "documents": [text]}, own="documents") is None
    assert _key({"input": [text], "model": "m", "task": None}, variants=jina.VARIANTS) == "task"
    assert _key({"task": None, "input": [text]}, variants=jina.VARIANTS) == "task"


@given(
    st.lists(
        st.text() | st.sampled_from(["inputs", '"inputs":', '\\"inputs\\": [', '", "inputs": "']), min_size=1
    )
)
def test_no_text_is_taken_for_a_key(texts: list[str]) -> None:
    assert _key({"input": texts}) is None
    assert _key({"input": [*texts, LONG, *texts]}) is None
    assert _key({"query": LONG, "x": [*texts, LONG, *texts]}) is None
    assert _key({"x": texts, "inputs": texts}) == "inputs"
