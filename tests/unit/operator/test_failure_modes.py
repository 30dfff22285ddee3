"""docs/failure-modes.md has an entry for every reason that the operator gives."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import embedding_operator
from embedding_operator.health import pods

PAGE = Path(__file__).parents[3] / "docs/failure-modes.md"
CARRIERS = {"Verdict", "Problem", "Cached", "Pending", "Failure", "Notice", "Setback"}
"""What is made with a reason."""

SAME = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons of Kubernetes that are told under another name, since the two take turns."""


def test_every_reason_has_an_entry() -> None:
    listed = set(re.findall(r"`([A-Z][A-Za-z]+)`", PAGE.read_text(encoding="utf-8")))
    package = Path(embedding_operator.__file__).parent
    given = {reason for file in package.rglob("*.py") for reason in _given(file)}
    given |= {SAME.get(reason, reason) for reason in pods.IMAGE_REASONS | pods.START_REASONS}
    assert len(given) > 30
    assert given - listed == set()


def _given(file: Path) -> Iterator[str]:
    """The reasons that are written out where something with a reason is made."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", None) not in CARRIERS:
            continue
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            text = value.value if isinstance(value, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"[A-Z][a-zA-Z]+", text):
                yield text
