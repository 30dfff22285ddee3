"""What the operator's Job reads: the variables, and the entry of MODELS_CONFIG about its model."""

from pathlib import Path

import pytest

from embedding_runtime.errors import SettingsError
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.prefetch.job import asked
from embedding_runtime.settings import PrefetchSettings

MODELS = """
models:
- id: a/b
  revision: other
  max_length: 128
  pooling: cls
  normalize: false
  prompts: {query: "q: "}
  precision: int8
- id: c/d
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    monkeypatch.setenv("MODEL_ID", "a/b")
    monkeypatch.setenv("MODEL_REVISION", "v1")
    monkeypatch.setenv("MODELS_CONFIG", str(path))
    return path


@pytest.mark.usefixtures("config")
def test_the_models_entry_is_heeded_and_the_variables_say_which_revision() -> None:
    wanted = asked(PrefetchSettings.load())
    assert (wanted.name, wanted.revision, wanted.precision) == ("a/b", "v1", "int8")
    assert wanted.overrides == Overrides(
        max_length=128, pooling=("cls",), normalize=False, prompts=(("query", "q: "),)
    )


@pytest.mark.usefixtures("config")
def test_a_file_goes_before_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_FILE", "onnx/mine.onnx")
    wanted = asked(PrefetchSettings.load())
    assert (wanted.file, wanted.precision) == ("onnx/mine.onnx", "auto")


@pytest.mark.usefixtures("config")
def test_a_folder_goes_before_the_hub_and_keeps_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", "/models/mine")
    wanted = asked(PrefetchSettings.load())
    assert (wanted.name, wanted.folder) == ("a/b", Path("/models/mine"))
    assert wanted.overrides.max_length == 128


def test_a_model_without_an_entry_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    assert config.exists()
    monkeypatch.setenv("MODEL_ID", "e/f")
    assert asked(PrefetchSettings.load()).overrides == Overrides()


def test_a_broken_file_is_told(config: Path) -> None:
    config.write_text("models: [{id: a/b, pooling: sum}]")
    with pytest.raises(SettingsError, match="pooling"):
        PrefetchSettings.load()
