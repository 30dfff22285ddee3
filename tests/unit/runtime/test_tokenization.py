"""Text to tokens: the recipe's limits hold, whatever tokenizer.json says."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from embedding_runtime.errors import (
    CorruptModelError,
    InputTooLongError,
    InvalidRequestError,
    QueryTooLongError,
    RequestTooLargeError,
)
from embedding_runtime.model.recipe import Recipe, Side, read_recipe
from embedding_runtime.service.answers import Piece
from embedding_runtime.service.tokenization import Tokenization
from tests.unit.runtime import made


def _embedder(folder: Path, **changes: object) -> Tokenization:
    recipe: Recipe = replace(read_recipe(made.write_embedder(folder), "m"), **changes)  # type: ignore[arg-type]
    return Tokenization(folder / "tokenizer.json", recipe)


def _reranker(folder: Path, max_tokens: int = 16) -> Tokenization:
    recipe = read_recipe(made.write_reranker(folder, max_tokens=max_tokens), "m")
    return Tokenization(folder / "tokenizer.json", recipe)


def test_the_limit_is_the_recipes_and_nothing_is_padded(tmp_path: Path) -> None:
    tokens = _embedder(tmp_path).embed(["red cat", "dog " * 50])
    assert tokens[0].ids.tolist() == [made.CLS, *made.ids("red cat"), made.SEP]
    assert tokens[0].type_ids is None
    assert len(tokens[1]) == 16


def test_a_template_that_gives_single_texts_types_is_followed(tmp_path: Path) -> None:
    recipe = read_recipe(made.write_embedder(tmp_path), "m")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    special = [("[CLS]", made.CLS), ("[SEP]", made.SEP)]
    tokenizer.post_processor = TemplateProcessing(single="$A:0 [SEP]:0 [CLS]:2", special_tokens=special)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens, empty = Tokenization(tmp_path / "tokenizer.json", recipe).embed(["red cat", ""])
    assert tokens.ids.tolist() == [*made.ids("red cat"), made.SEP, made.CLS]
    assert tokens.type_ids is not None
    assert empty.type_ids is not None
    assert (tokens.type_ids.tolist(), empty.type_ids.tolist()) == ([0, 0, 0, 2], [0, 2])


def test_an_empty_text_is_its_special_tokens(tmp_path: Path) -> None:
    assert _embedder(tmp_path).embed([""])[0].ids.tolist() == [made.CLS, made.SEP]


def test_prompt_and_lower_case_are_applied(tmp_path: Path) -> None:
    (tokens,) = _embedder(tmp_path, prompt="Red ", lower_case=True).embed(["CAT"])
    assert tokens.ids.tolist() == [made.CLS, *made.ids("red cat"), made.SEP]


def test_lower_case_leaves_special_tokens_and_spaces_to_the_tokenizer(tmp_path: Path) -> None:
    recipe = replace(read_recipe(made.write_embedder(tmp_path), "m"), lower_case=True, prompt=" Red")
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(["[SEP]"])
    tokenizer.normalizer = normalizers.Replace("é", "e")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    tokenizer.save(str(path))
    (tokens,) = Tokenization(path, recipe).embed([" CAT[SEP]DOG "])
    space = made.VOCABULARY["[UNK]"]
    words = [space, *made.ids("red"), space, *made.ids("cat"), made.SEP, *made.ids("dog"), space]
    assert tokens.ids.tolist() == [made.CLS, *words, made.SEP]


def test_the_tokens_of_a_prompt_are_counted_where_they_are_not_pooled(tmp_path: Path) -> None:
    tokenization = _embedder(tmp_path, pools_prompt=False, prompt="red green ")
    for prompt, count in ((None, 3), ("blue ", 2), ("", 0)):
        (tokens,) = tokenization.embed(["cat dog"], prompt=prompt)
        assert tokens.unpooled == count
    (tokens,) = tokenization.embed(["cat"], prompt="red " * 40)
    assert (len(tokens), tokens.unpooled) == (16, 15)
    assert _embedder(tmp_path, prompt="red green ").embed(["cat"])[0].unpooled == 0


def test_pairs_mark_the_document(tmp_path: Path) -> None:
    (tokens,) = _reranker(tmp_path).pairs("red cat", ["dog runs"])
    assert tokens.ids.tolist() == [made.CLS, *made.ids("red cat"), made.SEP, *made.ids("dog runs"), made.SEP]
    assert tokens.type_ids is not None
    assert tokens.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("words", [1, 8, 12])
def test_the_document_is_cut_and_the_query_never(tmp_path: Path, words: int) -> None:
    query = " ".join(["cat"] * words)
    (tokens,) = _reranker(tmp_path).pairs(query, ["dog " * 50])
    assert len(tokens) == 16
    assert tokens.ids[1 : 1 + words].tolist() == made.ids(query)
    assert tokens.ids[2 + words : -1].tolist() == made.ids("dog") * (13 - words)


@pytest.mark.parametrize("words", [13, 14, 200])
def test_a_query_without_room_for_a_document_is_refused_with_both_lengths(tmp_path: Path, words: int) -> None:
    with pytest.raises(QueryTooLongError, match=f"the query has {words} tokens; 12 is the most"):
        _reranker(tmp_path).pairs("cat " * words, ["dog"])


def test_a_query_that_fills_the_window_is_refused_also_with_an_empty_document(tmp_path: Path) -> None:
    with pytest.raises(QueryTooLongError, match="the query has 13 tokens"):
        _reranker(tmp_path).pairs("cat " * 13, [""])


def test_what_must_not_be_cut_is_refused_with_its_place_and_both_lengths(tmp_path: Path) -> None:
    texts = ["red cat", "dog " * 14, "dog " * 50]
    assert len(_embedder(tmp_path).embed(texts[:2], truncate="never")) == 2
    with pytest.raises(InputTooLongError, match=r"input\.2 has 52 tokens; the model takes 16") as caught:
        _embedder(tmp_path).embed(texts, truncate="never")
    assert caught.value.param == "input.2"


def test_a_pair_that_must_not_be_cut_is_refused_with_its_place_and_both_lengths(tmp_path: Path) -> None:
    documents = ["dog", "dog " * 11, "dog " * 12]
    assert len(_reranker(tmp_path).pairs("red cat", documents[:2], truncate="never")) == 2
    with pytest.raises(InputTooLongError, match=r"documents\.2 has 17 tokens.*takes 16") as caught:
        _reranker(tmp_path).pairs("red cat", documents, truncate="never")
    assert caught.value.param == "documents.2"


def test_a_prompt_of_the_request_stands_in_place_of_the_recipes(tmp_path: Path) -> None:
    tokenization = _embedder(tmp_path, prompt="red ")
    (tokens,) = tokenization.embed(["cat"], prompt="blue ")
    assert tokens.ids.tolist() == [made.CLS, *made.ids("blue cat"), made.SEP]
    (tokens,) = tokenization.embed(["cat"], prompt="")
    assert tokens.ids.tolist() == [made.CLS, *made.ids("cat"), made.SEP]


@pytest.mark.parametrize("own", ["left", "right"])
def test_a_text_is_cut_on_the_side_of_the_request_or_else_the_models(tmp_path: Path, own: Side) -> None:
    tokenization = _embedder(tmp_path, truncation_side=own)
    text = "cat " * 20 + "dog " * 20
    found = {
        side: tokenization.embed([text], truncate=side)[0].ids.tolist() for side in ("left", "right", "model")
    }
    assert found["left"] == [made.CLS, *made.ids("dog") * 14, made.SEP]
    assert found["right"] == [made.CLS, *made.ids("cat") * 14, made.SEP]
    assert found["model"] == found[own]


def test_of_a_text_that_is_far_too_long_its_end_is_kept_where_it_is_cut_on_the_left(tmp_path: Path) -> None:
    (tokens,) = _embedder(tmp_path).embed(["cat " * 60_000 + "dog red"], truncate="left")
    assert tokens.ids.tolist() == [made.CLS, *made.ids("cat") * 12, *made.ids("dog red"), made.SEP]


def test_a_document_is_cut_on_either_side_and_the_query_never(tmp_path: Path) -> None:
    (tokens,) = _reranker(tmp_path).pairs("bird", ["cat " * 20 + "dog " * 20], truncate="left")
    assert tokens.ids.tolist() == [made.CLS, *made.ids("bird"), made.SEP, *made.ids("dog") * 12, made.SEP]


def test_token_ids_go_into_the_model_as_they_are(tmp_path: Path) -> None:
    tokenization = _embedder(tmp_path, prompt="red ")
    cat, dog = made.ids("cat dog")
    long = [cat] * 16 + [dog] * 16
    found = tokenization.given([[cat], long])
    assert [tokens.ids.tolist() for tokens in found] == [[cat], [cat] * 16]
    assert tokenization.given([long], truncate="left")[0].ids.tolist() == [dog] * 16
    with pytest.raises(InputTooLongError, match=r"input\.1 has 32 tokens; the model takes 16"):
        tokenization.given([[cat], long], truncate="never")


@pytest.mark.parametrize("strange", [-1, 10_000])
def test_token_ids_that_the_vocabulary_does_not_have_are_refused(tmp_path: Path, strange: int) -> None:
    with pytest.raises(
        InvalidRequestError, match=rf"input\.1 has the token id {strange}; the model's are 0 to"
    ):
        _embedder(tmp_path).given([[1], [1, strange]])


def test_a_tokenizer_that_does_not_load_is_told(tmp_path: Path) -> None:
    recipe = read_recipe(made.write_embedder(tmp_path), "m")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptModelError, match=r"tokenizer\.json cannot be read"):
        Tokenization(tmp_path / "tokenizer.json", recipe)


@pytest.mark.parametrize("words", ["cat dog ", "日本語のテキスト", "co-operate; naïve… ", "x" * 90 + " "])
def test_of_a_text_that_is_far_too_long_the_same_tokens_are_kept_as_of_all_of_it(
    real_models: Path, words: str
) -> None:
    folder = real_models / "sentence-transformers/all-MiniLM-L6-v2"
    recipe = read_recipe(folder, "m")
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole.no_padding()
    whole.enable_truncation(recipe.max_tokens)
    text = words * (200_000 // len(words))
    (tokens,) = Tokenization(folder / "tokenizer.json", recipe).embed([text])
    assert tokens.ids.tolist() == whole.encode(text.strip()).ids
    assert len(tokens) == recipe.max_tokens


def test_many_long_texts_keep_their_order(tmp_path: Path) -> None:
    texts = [f"{word} " * 30_000 for word in made.WORDS] * 3
    tokens = _embedder(tmp_path).embed(texts)
    assert [text.ids[1] for text in tokens] == [made.VOCABULARY[word] for word in made.WORDS] * 3


def test_the_length_of_an_enormous_text_is_told_as_the_least_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputTooLongError, match=r"input\.0 has 60002 tokens; the model takes 16"):
        _embedder(tmp_path).embed(["cat " * 60_000], truncate="never")
    with pytest.raises(InputTooLongError, match=r"input\.0 has at least \d+ tokens; the model takes 16"):
        _embedder(tmp_path).embed(["cat " * 100_000], truncate="never")
    with pytest.raises(QueryTooLongError, match="the query has at least"):
        _reranker(tmp_path).pairs("cat " * 100_000, ["dog"])


def test_other_threads_run_while_an_enormous_text_is_read(tmp_path: Path) -> None:
    tokenization = _embedder(tmp_path)
    seconds = [0.0]
    done = threading.Event()

    def look() -> None:
        before = time.perf_counter()
        while not done.wait(0.001):
            seconds.append(time.perf_counter() - before)
            before = time.perf_counter()

    looking = threading.Thread(target=look)
    looking.start()
    began = time.perf_counter()
    # Of a single word nothing but all of it settles which tokens are kept.
    tokenization.embed(["cat" * 3_000_000])
    whole = time.perf_counter() - began
    done.set()
    looking.join()
    assert max(seconds) < whole / 3


def test_a_tokenizer_is_read_once(tmp_path: Path) -> None:
    tokenization = _reranker(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(QueryTooLongError, match="the query has 60000 tokens"):
        tokenization.pairs("cat " * 60_000, ["dog"])


def test_the_tokens_of_a_text_are_told_with_their_places(tmp_path: Path) -> None:
    red, cat = made.ids("red cat")
    words = [Piece(red, "red", False, 0, 3), Piece(cat, "cat", False, 4, 7)]
    first, last = Piece(made.CLS, "[CLS]", True), Piece(made.SEP, "[SEP]", True)
    tokenization = _embedder(tmp_path)
    assert tokenization.pieces(["red cat"]) == [[first, *words, last]]
    assert tokenization.pieces(["red cat"], special=False) == [words]
    assert len(tokenization.pieces(["dog " * 50])[0]) == 52
    with pytest.raises(RequestTooLargeError, match="1048576 characters"):
        tokenization.pieces(["dog"] * 400_000)


def test_token_ids_become_text_again(tmp_path: Path) -> None:
    ids = [[made.CLS, *made.ids("red cat"), made.SEP], []]
    recipe = read_recipe(made.write_embedder(tmp_path), "m")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens(made.SPECIAL)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenization = Tokenization(tmp_path / "tokenizer.json", recipe)
    assert tokenization.decoded(ids, special=False) == ["red cat", ""]
    assert tokenization.decoded(ids, special=True) == ["[CLS] red cat [SEP]", ""]
    with pytest.raises(InvalidRequestError, match=r"ids\.1 has the token id -1"):
        tokenization.decoded([[1], [-1]], special=False)
