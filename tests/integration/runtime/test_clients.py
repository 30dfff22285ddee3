"""The examples of docs/clients.md, run with the official clients as they stand there, but for the address."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.runtime import clients
from tests.integration.runtime.server import Server, environment, serving
from tests.unit.runtime import made

TEXT = (Path(__file__).parents[3] / "docs/clients.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
ADDRESS = "http://localhost:8090"
EMBEDDER, RERANKER = "BAAI/bge-small-en-v1.5", "BAAI/bge-reranker-base"

# The first test makes the clients' environment.
pytestmark = pytest.mark.timeout(1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows made models by the names of the documentation."""
    home: Path = tmp_path_factory.mktemp("clients")
    models = [
        {"id": EMBEDDER, "path": str(made.write_embedder(home / "embedder"))},
        {"id": RERANKER, "path": str(made.write_reranker(home / "reranker"))},
    ]
    (home / "models.json").write_text(json.dumps({"models": models}))
    variables = environment(
        home,
        MODELS_CONFIG=str(home / "models.json"),
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        DEFAULT_RERANKING_MODEL=RERANKER,
    )
    with serving(variables, home / "log") as running:
        running.wait_until("ready")
        yield running


def _run(script: str, server: Server, folder: Path) -> dict[str, Any]:
    assert ADDRESS in script
    return clients.run(script.replace(ADDRESS, str(server.client.base_url).rstrip("/")), folder / "home")


def _best(documents: list[Any]) -> list[int]:
    texts = [each if isinstance(each, str) else each["text"] for each in documents]
    return sorted(range(len(texts)), key=lambda at: -made.logit(texts[at]))


@pytest.mark.parametrize("script", EXAMPLES)
def test_an_example_gives_what_it_says(script: str, server: Server, tmp_path: Path) -> None:
    found = _run(script, server, tmp_path)
    assert "error" not in found, found["error"]
    known = {"vectors", "small", "names", "model", "best", "found", "cosines"} & set(found)
    assert known, "the example binds nothing that is looked at"
    texts = found.get("texts", [])
    expected = np.array([made.embedding(text) for text in texts])
    if "vectors" in found:
        np.testing.assert_allclose(found["vectors"], expected, atol=1e-6)
    if "small" in found:
        assert found["small"] == np.rint(127 * expected).astype(int).tolist()
    if "cosines" in found:
        np.testing.assert_allclose(found["cosines"], expected[1:] @ expected[0], atol=1e-6)
    if "names" in found:
        assert found["names"] == [EMBEDDER, RERANKER]
        assert found["model"] == EMBEDDER
    if "best" in found:
        best = _best(found["documents"])
        assert found["best"] == best[: len(found["best"])]
    if isinstance(found.get("found"), list):
        assert found["found"] == [
            each if isinstance(each, str) else each["text"]
            for each in (found["documents"][at] for at in found["best"])
        ]


def test_the_page_has_an_example_for_every_client() -> None:
    used = {
        line for script in EXAMPLES for line in script.splitlines() if line.startswith(("from", "import"))
    }
    packages = ("openai", "langchain_openai", "cohere", "huggingface_hub", "llama_index", "haystack")
    missing = [package for package in packages if not any(package in line for line in used)]
    assert not missing


def _langchain_with_its_defaults() -> str:
    """The example as a client has it that knows nothing of this server; its tokens are bytes, since OpenAI's
    vocabulary is not to be had here.
    """
    (script,) = [example for example in EXAMPLES if "langchain_openai" in example]
    unchanged: str = script.replace("    check_embedding_ctx_length=False,\n", "")
    assert unchanged != script
    return (
        "import tiktoken\n"
        "def made(*_):\n"
        "    ranks = {bytes([each]): each for each in range(256)}\n"
        "    return tiktoken.Encoding('made', pat_str='.+', mergeable_ranks=ranks, special_tokens={})\n"
        "tiktoken.encoding_for_model = tiktoken.get_encoding = made\n"
    ) + unchanged


def test_langchain_s_defaults_are_told_what_to_set(server: Server, tmp_path: Path) -> None:
    found = _run(_langchain_with_its_defaults(), server, tmp_path)
    assert found["error"].startswith("BadRequestError")
    assert "check_embedding_ctx_length=False" in found["error"]
    assert "OPENAI_TOKEN_IDS" in found["error"]


def test_langchain_s_defaults_are_served_where_the_encoding_is_set(home: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "bytes.tiktoken"
    lines = [f"{base64.b64encode(bytes([each])).decode()} {each}\n" for each in range(256)]
    vocabulary.write_text("".join(lines))
    variables = environment(home, DEFAULT_EMBEDDING_MODEL="org/embedder", OPENAI_TOKEN_IDS=str(vocabulary))
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
        script = _langchain_with_its_defaults().replace(EMBEDDER, "org/embedder")
        found = _run(script, server, tmp_path)
    assert "error" not in found, found["error"]
    expected = [made.embedding(text) for text in found["texts"]]
    np.testing.assert_allclose(found["vectors"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (
            "import openai\n"
            f"client = openai.OpenAI(base_url='{ADDRESS}/v1', api_key='k', max_retries=0)\n"
            "client.embeddings.create(model='no-such-model', input='a')\n",
            "NotFoundError",
        ),
        (
            "import openai\n"
            f"client = openai.OpenAI(base_url='{ADDRESS}/v1', api_key='k', max_retries=0)\n"
            f"client.embeddings.create(model='{EMBEDDER}', input='a', dimensions=2)\n",
            "BadRequestError",
        ),
        (
            "import cohere\n"
            f"client = cohere.ClientV2(base_url='{ADDRESS}', api_key='k')\n"
            f"client.embed(model='{EMBEDDER}', input_type='search_query', texts=['a'], max_tokens=3)\n",
            "BadRequestError",
        ),
        (
            "import cohere\n"
            f"client = cohere.ClientV2(base_url='{ADDRESS}', api_key='k')\n"
            "client.rerank(model='no-such-model', query='q', documents=['a'])\n",
            "NotFoundError",
        ),
    ],
)
def test_errors_are_the_client_s_own(script: str, kind: str, server: Server, tmp_path: Path) -> None:
    assert _run(script, server, tmp_path)["error"].startswith(f"{kind}:")
