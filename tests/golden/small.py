"""Small models with random numbers of each architecture that is converted, and what PyTorch makes of them.

`make.py` calls `write`. Below `small/<name>/` lie a repository as transformers and sentence-transformers save
it, and expected.npz with what they give for `texts`: `vectors` [texts, width], `scores` [pairs], or `logits`
[tokens, vocabulary] of all texts, one after the other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from tests.golden.texts import QUERIES, TEXTS

HERE = Path(__file__).resolve().parent / "small"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!-'"
WIDTH, HEADS, LAYERS, INNER, POSITIONS = 24, 3, 2, 40, 180
# The order of special tokens: a position table of RoBERTa's begins after the id of padding.
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MASKED_TEXTS = TEXTS[:3]


def _tokenizer(folder: Path, special: list[str], *, types: bool) -> None:
    """A tokenizer that makes a token of each character."""
    pad, unknown, start, end, mask = special if special is BERT else [special[at] for at in (1, 3, 0, 2, 4)]
    vocabulary = {word: index for index, word in enumerate([*special, *CHARACTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    second = 1 if types else 0
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS - 2,
        pad_token=pad,
        unk_token=unknown,
        cls_token=start,
        sep_token=end,
        mask_token=mask,
        model_input_names=names,
    )
    fast.save_pretrained(folder)


def _model(name: str, family: str, **more: object) -> torch.nn.Module:
    """A model of this class with random numbers, also where there would be ones and zeros."""
    configuration = getattr(transformers, f"{family}Config")
    shape = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    shape |= {"intermediate_size": INNER}
    if family == "DistilBert":
        shape = {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
    special = BERT if family in ("Bert", "DistilBert") else ROBERTA
    shape |= {"vocab_size": len(special) + len(CHARACTERS), "max_position_embeddings": POSITIONS}
    shape |= {"pad_token_id": 0 if special is BERT else 1}
    if family in ("Roberta", "XLMRoberta", "Camembert"):
        shape |= {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
    model = getattr(transformers, name)(configuration(**shape | more))
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            numbers = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(numbers + 1 if "norm" in each.lower() and each.endswith("weight") else numbers)
    return model.eval()


def _saved(folder: Path, name: str, family: str, **more: object) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    special = BERT if family in ("Bert", "DistilBert") else ROBERTA
    _model(name, family, **more).save_pretrained(folder)
    _tokenizer(folder, special, types=family == "Bert")
    return folder


def _embedder(
    name: str,
    family: str,
    pooling: str | tuple[str, ...],
    *,
    layers: bool = False,
    to: str = "",
    **more: object,
) -> None:
    """A sentence-transformers repository, with layers after the pooling where they are wanted."""
    folder = _saved(HERE / (to or name), name, family, **more)
    steps: list[torch.nn.Module] = [Transformer(str(folder)), Pooling(WIDTH, pooling_mode=pooling)]
    if layers:
        dense = Dense(WIDTH, 20, activation_function=torch.nn.Tanh())
        last = Dense(20, 12, bias=False, activation_function=torch.nn.GELU())
        steps += [dense, LayerNorm(20), last, Normalize()]
    model = SentenceTransformer(modules=steps, device="cpu").eval()
    if to == "prompt":
        model.prompts, model.default_prompt_name = {"query": "find, if it is there: "}, "query"
        model.set_pooling_include_prompt(False)
    vectors = np.concatenate([model.encode([text]) for text in TEXTS]).astype(np.float32)
    model.save(str(folder), create_model_card=False)
    if to == "shards":
        (folder / "model.safetensors").unlink()
        steps[0].model.save_pretrained(folder, max_shard_size="20KB")
    np.savez_compressed(folder / "expected.npz", vectors=vectors)


def _classifier(name: str, family: str) -> None:
    folder = _saved(HERE / name, name, family, num_labels=1)
    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    pairs = [(query, document) for query, documents in QUERIES for document in documents]
    scores = np.array([model.predict([pair])[0] for pair in pairs], dtype=np.float32)
    np.savez_compressed(folder / "expected.npz", scores=scores)


def _masked(name: str, family: str, **more: object) -> None:
    folder = _saved(HERE / name, name, family, **more)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, name).from_pretrained(folder).eval()
    with torch.no_grad():
        found = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in MASKED_TEXTS]
    np.savez_compressed(folder / "expected.npz", logits=np.concatenate(found))


def write() -> None:
    """Write all of them."""
    _embedder("BertModel", "Bert", "mean", layers=True)
    _embedder("BertModel", "Bert", "max", to="shards", hidden_act="gelu_new")
    _embedder("RobertaModel", "Roberta", "cls")
    _embedder("BertModel", "Bert", ("cls", "max", "mean", "weightedmean", "lasttoken"), to="prompt")
    _embedder("XLMRobertaModel", "XLMRoberta", "mean")
    _embedder("CamembertModel", "Camembert", "mean")
    _embedder("DistilBertModel", "DistilBert", "mean")
    _embedder("MPNetModel", "MPNet", "mean")
    for family in ("Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert", "MPNet"):
        _classifier(f"{family}ForSequenceClassification", family)
    _masked("BertForMaskedLM", "Bert", tie_word_embeddings=False)
    for family in ("Roberta", "DistilBert", "MPNet"):
        _masked(f"{family}ForMaskedLM", family)
