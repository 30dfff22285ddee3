"""The error tree: codes are unique, and survive the wire."""

from collections import Counter
from collections.abc import Iterator

from embedding_runtime import errors


def _kinds(root: type[errors.RuntimeFault] = errors.RuntimeFault) -> Iterator[type[errors.RuntimeFault]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)


def test_no_two_errors_share_a_code() -> None:
    codes = Counter(kind.code for kind in _kinds() if "code" in vars(kind))
    assert [code for code, count in codes.items() if count > 1] == []


def test_the_module_says_where_every_error_stands() -> None:
    assert errors.__doc__ is not None
    missing = [kind.__name__ for kind in _kinds() if kind.__name__ not in errors.__doc__]
    assert missing == []


def test_an_error_comes_back_from_its_code() -> None:
    found = errors.fault("Exhausted", "full", 3)
    assert isinstance(found, errors.OverloadedError)
    assert (found.message, found.retry_after) == ("full", 3)


def test_an_unknown_code_becomes_an_internal_error() -> None:
    assert isinstance(errors.fault("NoSuchCode", "what"), errors.InternalError)
