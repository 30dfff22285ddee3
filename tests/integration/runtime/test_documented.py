"""The commands of docs/api.md, run as they stand there, and the fields that it names."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedding_runtime import errors, metrics
from tests.integration.runtime.server import Server, environment, serving
from tests.unit.runtime import made

TEXT = (Path(__file__).parents[3] / "docs/api.md").read_text()
EMBEDDER, RERANKER, ALIAS = "BAAI/bge-small-en-v1.5", "BAAI/bge-reranker-base", "text-embedding-3-small"


def _commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").split("\ncurl") if line.strip()]


def _ask(server: Server, command: str) -> httpx.Response:
    """What curl would get."""
    words = iter(shlex.split(command.removeprefix("curl")))
    method, headers, content, address = "GET", {}, None, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            content = next(words)
        else:
            address = word.removeprefix("http://localhost:8090")
    return server.client.request(method, address, headers=headers, content=content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows made models by the names of the documentation, and nothing else."""
    home: Path = tmp_path_factory.mktemp("documented")
    models: list[dict[str, Any]] = [
        {
            "id": EMBEDDER,
            "path": str(made.write_embedder(home / "embedder")),
            "served_names": [ALIAS],
        },
        {"id": RERANKER, "path": str(made.write_reranker(home / "reranker"))},
    ]
    config = home / "models.json"
    config.write_text(json.dumps({"models": models}))
    variables = environment(
        home,
        MODELS_CONFIG=str(config),
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        DEFAULT_RERANKING_MODEL=RERANKER,
    )
    with serving(variables, home / "log") as running:
        running.wait_until("ready")
        yield running


@pytest.mark.parametrize("command", _commands())
def test_a_documented_command_is_answered(server: Server, command: str) -> None:
    assert _ask(server, command).status_code == 200


def test_the_documented_answers_have_the_documented_fields(server: Server) -> None:
    embed, rerank, models, *_ = [_ask(server, command) for command in _commands()]
    assert list(embed.json()) == ["embeddings", "model", "usage"]
    assert embed.json()["model"] == EMBEDDER
    assert embed.json()["usage"] == {"total_tokens": 8}
    assert [len(vector) for vector in embed.json()["embeddings"]] == [made.WIDTH] * 2
    assert list(rerank.json()) == ["results", "model", "usage"]
    assert [list(result) for result in rerank.json()["results"]] == [["index", "score", "text"]] * 2
    assert models.json() == {"embedding_models": [EMBEDDER, ALIAS], "reranking_models": [RERANKER]}


def test_every_detail_of_a_model_is_documented(server: Server) -> None:
    told = server.client.get("/models", params={"detail": "true"}).json()["models"]
    fields = TEXT.partition("adds `models`, with for each:")[2].partition("What is known only")[0]
    assert {name for entry in told for name in entry} == set(re.findall(r"`(\w+)`", fields))


def test_every_metric_is_documented() -> None:
    rows = [
        line.split("|")[1] for line in TEXT.partition("## Metrics")[2].splitlines() if line.startswith("|")
    ]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    source = Path(metrics.__file__).read_text()
    assert documented == set(re.findall(r"\(\s*\"([a-z]+(?:_[a-z]+)+)\"", source))


def test_every_error_code_is_documented() -> None:
    """Every code that an answer can have: those of requests, of the server's state, and bugs."""
    table = TEXT.partition("## Errors")[2].partition("## Metrics")[0]
    kinds: list[type[errors.RuntimeFault]] = [errors.RequestError, errors.ServingError]
    codes = {kind.code for root in kinds for kind in root.__subclasses__()} | {errors.InternalError.code}
    assert set(re.findall(r"`([A-Z]\w+)`", table)) - {"Retry"} == codes
