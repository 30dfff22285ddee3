"""MODELS_CONFIG: what is understood, and one line for each mistake."""

import re
from pathlib import Path

import pytest

from embedding_runtime.errors import SettingsError
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.settings import ServeSettings
from embedding_runtime.settings.models_file import read_models_file

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def test_everything_that_can_be_said_of_a_model_is_understood(tmp_path: Path) -> None:
    text = """
models:
  - id: org/one@v2
    task: embed
    precision: fp16
    max_length: 64
    pooling: cls
    normalize: false
    prompts: {query: "q: "}
    default_prompt_name: query
    served_names: [text-embedding-3-small, "a:b"]
"""
    (entry,) = read_models_file(_file(tmp_path, text))
    overrides = Overrides(64, ("cls",), False, (("query", "q: "),), "query")
    assert Wanted.of(entry) == Wanted("org/one", "v2", "embed", precision="fp16", overrides=overrides)
    assert entry.served_names == ("text-embedding-3-small", "a:b")


def test_json_and_an_empty_file_are_understood(tmp_path: Path) -> None:
    (entry,) = read_models_file(_file(tmp_path, '{"models": [{"id": "org/one", "revision": "v1"}]}'))
    assert Wanted.of(entry) == Wanted("org/one", "v1")
    assert read_models_file(_file(tmp_path, "")) == ()


def test_a_folder_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    first, second = read_models_file(
        _file(tmp_path, "models: [{path: ./mine}, {path: /srv/theirs, id: a/b}]")
    )
    assert (first.name, Wanted.of(first).folder) == ("mine", tmp_path / "mine")
    assert (second.name, Wanted.of(second).folder) == ("a/b", Path("/srv/theirs"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [{id: a/b, max_lenght: 3}]", "models.0.max_lenght=3: no such field; allowed are id, path"),
        ("{models: [], modles: []}", "modles: no such field; allowed are models"),
        ("models: [{task: embed}]", "models.0: id (a hub repository) or path (a local folder) is missing"),
        ("models: [{id: two words}]", "models.0.id='two words': string should match"),
        ("models: [{id: a/b, task: sing}]", "models.0.task='sing': 'embed' or 'rerank'"),
        ("models: [{id: a/b, max_length: 2}]", "models.0.max_length=2: greater than or equal to 4"),
        ("models: [{id: a/b, max_length: many}]", "models.0.max_length='many': a valid integer"),
        ("models: [{id: a/b, pooling: sum}]", "models.0.pooling.0='sum': 'cls', 'max'"),
        ("models: [{id: a/b, pooling: []}]", "models.0: pooling is empty; allowed are cls, max"),
        ("models: [{id: a/b, normalize: 1}]", "models.0.normalize=1: a valid boolean"),
        ("models: [{id: a/b, file: ../x.onnx}]", "models.0.file='../x.onnx': string should match"),
        (
            "models: [{id: a/b, precision: fp8}]",
            "models.0.precision='fp8': 'auto', 'fp32', 'fp16', 'bf16' or 'int8'",
        ),
        ("models: [{id: a/b, file: x.onnx, precision: int8}]", "models.0: file and precision both choose"),
        ("models: [{id: a/b@v1, revision: v2}]", "models.0: revision goes with"),
        ("models: [{path: x, revision: v2}]", "models.0: revision goes with"),
        ("models: [{id: a/b, prompts: {q: x}, default_prompt_name: y}]", "default_prompt_name 'y' is none"),
        ("models: [{id: a/b, fingerprint: abc}]", "models.0.fingerprint='abc': string should match"),
        ("models: [{id: a/b}, {id: c/d, served_names: [a/b]}]", "the name 'a/b' is given to 2 models"),
        ("models: 3", "models=3: a valid"),
        ("- a", "the file: a valid dictionary"),
        ("models: [", "allowed is YAML or JSON: "),
    ],
)
def test_each_mistake_is_one_line_that_names_file_field_and_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    path = _file(tmp_path, text)
    monkeypatch.setenv("MODELS_CONFIG", str(path))
    with pytest.raises(SettingsError) as caught:
        ServeSettings.load()
    (line,) = caught.value.mistakes
    assert line.startswith(f"MODELS_CONFIG={path}: ")
    assert told in line
    assert "\n" not in line


def test_two_mistakes_are_two_lines(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_models_file(_file(tmp_path, "models: [{id: a/b, task: x, precision: y}]"))
    assert len(caught.value.mistakes) == 2


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_models_file(tmp_path / "none.yaml")


def test_the_example_of_the_documentation_is_understood(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(models:.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(read_models_file(_file(tmp_path, example))) == 3
