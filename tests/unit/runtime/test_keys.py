"""API keys: which headers count, and what a change of their file does."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from embedding_runtime.api.keys import ApiKeys
from embedding_runtime.errors import AuthenticationError


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _accepts(keys: ApiKeys, key: str) -> bool:
    try:
        keys.check({b"x-api-key": key.encode()})
    except AuthenticationError:
        return False
    return True


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({b"authorization": b"Bearer one"}, True),
        ({b"authorization": b"bearer  one "}, True),
        ({b"authorization": b"Basic one"}, False),
        ({b"authorization": b"one"}, False),
        ({b"authorization": b"Bearer"}, False),
        ({b"x-api-key": b"two words"}, True),
        ({b"api-key": b"one"}, True),
        ({b"authorization": b"Basic zzz", b"x-api-key": b"one"}, True),
        ({b"x-api-key": b"on"}, False),
        ({b"x-api-key": b"ones"}, False),
        ({b"x-api-key": b""}, False),
        ({b"x-api-key": b"# three"}, False),
        ({}, False),
    ],
)
def test_which_headers_count(tmp_path: Path, headers: dict[bytes, bytes], accepted: bool) -> None:
    (tmp_path / "keys").write_text("\ufeff# three\n\n  one  \r\ntwo words\n#four\n")
    keys = ApiKeys(tmp_path / "keys")
    if accepted:
        keys.check(headers)
    else:
        with pytest.raises(AuthenticationError):
            keys.check(headers)


def test_a_change_counts_after_a_second(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", _Clock()
    file.write_text("first\n")
    keys = ApiKeys(file, clock)
    file.write_text("new\n")
    clock.now += 0.9
    assert _accepts(keys, "first")
    clock.now += 0.2
    assert not _accepts(keys, "first")
    assert _accepts(keys, "new")


def test_a_broken_or_vanished_file_keeps_the_keys_and_is_told_once(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", _Clock()
    file.write_text("first\n")
    keys = ApiKeys(file, clock)
    with capture_logs() as lines:
        for content in (b"", b"# nothing\n\n", b"x\n" * (1 << 20)):
            file.write_bytes(content)
            clock.now += 2
            assert _accepts(keys, "first")
        for _ in range(3):
            file.unlink(missing_ok=True)
            clock.now += 2
            assert _accepts(keys, "first")
    assert [line["why"] for line in lines] == [
        "holds no key",
        "is larger than 1048576 bytes",
        "cannot be read: No such file or directory",
    ]
    assert all("first" not in str(line) for line in lines)
    file.write_text("new\n")
    clock.now += 2
    assert _accepts(keys, "new")
    assert not _accepts(keys, "first")


def test_no_key_at_all_lets_nobody_in(tmp_path: Path) -> None:
    assert not _accepts(ApiKeys(tmp_path / "absent"), "")
    assert not _accepts(ApiKeys(tmp_path / "absent"), "any")
