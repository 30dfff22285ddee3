"""Rerankers that are language models: how they are recognised, what they are asked, what their answer is."""

import json
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Execution
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.errors import InputTooLongError, QueryTooLongError, UnsupportedModelError
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.recipe import Recipe, read_recipe, read_task
from embedding_runtime.model.source import open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.service.queries import Truncate
from embedding_runtime.service.tokenization import Tokenization
from tests.unit.runtime import made

DOCUMENTS = ["dog sleeps", "bird", "quickly slowly dog"]


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_the_score_is_how_much_more_the_model_says_yes_than_no(
    tmp_path: Path, provider: str, plain: bool, prepared: bool
) -> None:
    folder = made.write_judge(tmp_path / "model", plain=plain)
    source = open_source(find_folder(folder, "m", None), "rerank")
    graph = (
        prepare(source, Target.of(source), [tmp_path / "prepared"]) if prepared else Prepared.as_it_is(source)
    )
    assert graph.plain is not prepared
    backend = make_backend(graph, source.recipe, Execution(provider, 1, "fp32"))
    backend.load()
    rows = backend.run(Tokenization(source.tokenizer_path, source.recipe).pairs("cat", DOCUMENTS))
    np.testing.assert_allclose(rows[:, 0], [made.judged("cat", text) for text in DOCUMENTS], rtol=1e-4)
    backend.close()


def test_without_an_instruction_there_is_no_system_message_and_with_one_it_comes_first(
    tmp_path: Path,
) -> None:
    folder = made.write_judge(tmp_path)
    judge = read_recipe(folder, "m").judge
    assert judge is not None
    assert (judge.before, judge.between, judge.behind) == ("red ", " cat ", " bird runs")
    said = {"prompts": {"web": "quickly judge"}, "default_prompt_name": "web"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    judge = read_recipe(folder, "m").judge
    assert judge is not None
    assert judge.before == "quickly judge red "


def test_the_repository_as_its_authors_put_it_there_is_recognised_by_its_template(tmp_path: Path) -> None:
    folder = made.write_judge(tmp_path, modules=False)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    with pytest.raises(UnsupportedModelError, match="no tokens 'yes' and 'no'"):
        read_recipe(folder, "m")
    words["yes"], words["no"] = len(words), len(words) + 1
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    recipe = read_recipe(folder, "m")
    assert (recipe.task, recipe.kind, read_task(folder)) == ("rerank", "cross_encoder", "rerank")
    assert recipe.judge is not None
    assert (recipe.judge.yes, recipe.judge.no) == (words["yes"], words["no"])
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_decoder_without_such_a_template_gives_embeddings(tmp_path: Path) -> None:
    folder = made.write_judge(tmp_path, modules=False)
    (folder / "chat_template.jinja").unlink()
    assert read_task(folder) == "embed"
    chat = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat}))
    assert read_recipe(folder, "m").task == "embed"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ query and document", "cannot be rendered"),
        ("{{ raise_exception(query, document) }}", "cannot be rendered"),
        ("query document", "does not have the query and then the document"),
        (
            "{% for message in messages | reverse %}{{ message.content }}{% endfor %} query document",
            "does not have",
        ),
        ("no roles", "no chat template that asks for a query and a document"),
    ],
)
def test_a_template_that_asks_nothing_is_refused(tmp_path: Path, template: str, words: str) -> None:
    folder = made.write_judge(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UnsupportedModelError, match=words):
        read_recipe(folder, "m")


def test_a_template_cannot_run_anything(tmp_path: Path) -> None:
    folder = made.write_judge(tmp_path)
    attack = "{{ messages.__class__.__mro__ }} query document"
    (folder / "chat_template.jinja").write_text(attack)
    with pytest.raises(UnsupportedModelError, match="cannot be rendered"):
        read_recipe(folder, "m")


@pytest.mark.parametrize(
    ("side", "kept"),
    [("right", "dog dog dog cat"), ("left", "cat cat cat cat"), ("model", "dog dog dog cat")],
)
def test_only_the_document_of_a_long_question_is_cut(tmp_path: Path, side: Truncate, kept: str) -> None:
    folder = made.write_judge(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 9}))
    tokenization = Tokenization(folder / "tokenizer.json", read_recipe(folder, "m"))
    document = "dog dog dog cat cat cat cat"
    (tokens,) = tokenization.pairs("sleeps", [document], truncate=side)
    assert tokens.ids.tolist() == made.ids(f"red sleeps cat {kept} bird runs")
    assert len(tokens) == 9
    with pytest.raises(
        InputTooLongError, match=r"documents\.1 has 12 tokens with the query; the model takes 9"
    ):
        tokenization.pairs("sleeps", ["dog", document], truncate="never")


@pytest.mark.parametrize("words", [5, 6, 400])
def test_a_query_without_room_for_a_document_is_refused(tmp_path: Path, words: int) -> None:
    folder = made.write_judge(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 9}))
    tokenization = Tokenization(folder / "tokenizer.json", read_recipe(folder, "m"))
    tokenization.pairs("cat " * 4, ["dog"])
    with pytest.raises(QueryTooLongError, match=f"the query has {words} tokens; 4 is the most"):
        tokenization.pairs("cat " * words, ["dog"])
