"""Content tags: the same files give the same name anywhere, any change gives another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from e2e.cluster import images
from e2e.cluster.images import Product
from e2e.cluster.state import digest, sweep

PRODUCT = Product("thing", "Dockerfile.thing", ("requirements/thing.txt", "code"), "-cpu")


def checkout(folder: Path) -> Path:
    (folder / "requirements").mkdir(parents=True)
    (folder / "code" / "package").mkdir(parents=True)
    (folder / "Dockerfile.thing").write_text("FROM base\n")
    (folder / "requirements" / "thing.txt").write_text("dependency==1\n")
    (folder / "code" / "package" / "module.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout(tmp_path / "one")


def test_the_name_has_the_version_12_hex_digits_and_the_suffix(root: Path) -> None:
    repository, _, tag = PRODUCT.name("base:1", root).partition(":")
    version, digits, suffix = tag.split("-")
    assert (repository, version, suffix) == ("thing", images.VERSION, "cpu")
    assert len(digits) == 12
    assert set(digits) <= set("0123456789abcdef")


def test_two_checkouts_of_the_same_content_share_an_image(root: Path, tmp_path: Path) -> None:
    assert PRODUCT.name("base:1", root) == PRODUCT.name("base:1", checkout(tmp_path / "two"))


@pytest.mark.parametrize("changed", ["Dockerfile.thing", "requirements/thing.txt", "code/package/module.py"])
def test_any_changed_file_makes_another_image(root: Path, changed: str) -> None:
    before = PRODUCT.name("base:1", root)
    (root / changed).write_text("something else\n")
    assert PRODUCT.name("base:1", root) != before


def test_a_renamed_file_makes_another_image(root: Path) -> None:
    before = PRODUCT.name("base:1", root)
    (root / "code/package/module.py").rename(root / "code/package/other.py")
    assert PRODUCT.name("base:1", root) != before


def test_another_base_makes_another_image(root: Path) -> None:
    assert PRODUCT.name("base:1", root) != PRODUCT.name("base:2", root)


@pytest.mark.parametrize(
    "generated",
    ["code/package/__pycache__/module.cpython-311.pyc", "code/thing.egg-info/PKG-INFO", "code/.hidden"],
)
def test_build_products_do_not_count(root: Path, generated: str) -> None:
    before = PRODUCT.name("base:1", root)
    (root / generated).parent.mkdir(parents=True, exist_ok=True)
    (root / generated).write_text("left by a tool")
    assert PRODUCT.name("base:1", root) == before


def test_a_snapshot_keeps_name_and_content_when_the_checkout_is_edited(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ROOT", root)
    for variable in images.CA_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    image = images.snapshot(PRODUCT, "base:1", tmp_path / "contexts")
    assert image.name == PRODUCT.name("base:1", root)
    (root / "code/package/module.py").write_text("x = 2\n")
    assert (image.context / "code/package/module.py").read_text() == "x = 1\n"
    assert image.name == PRODUCT.name("base:1", image.context)
    assert not (image.context / images.CA_FILE).exists()


def test_this_machines_certificates_travel_in_the_context_and_do_not_change_the_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "company.crt"
    bundle.write_text("a certificate")
    monkeypatch.setattr(images, "ROOT", root)
    monkeypatch.setenv("PIP_CERT", str(bundle))
    image = images.snapshot(PRODUCT, "base:1", tmp_path / "contexts")
    assert (image.context / images.CA_FILE).read_text() == "a certificate"
    assert image.name == PRODUCT.name("base:1", root)


def test_scratch_of_killed_runs_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = ["bin-0123", "models-0123", ".models-young", "mirror"]
    swept = [".root-fs-x", ".node-image-x", ".go-x", "bin-0123/.building-x", ".models-old", "mirror/.0123.77"]
    for name in [*kept, *swept]:
        (tmp_path / name).mkdir(parents=True)
    os.utime(tmp_path / ".models-old", (0, 0))
    sweep(tmp_path, now=time.time())
    assert all((tmp_path / name).exists() for name in kept)
    assert not any((tmp_path / name).exists() for name in swept)


def test_a_digest_sees_contents_names_and_modes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    before = digest(file)
    file.chmod(0o755)
    assert digest(file) != before
    assert digest("a", "bc") != digest("ab", "c")
