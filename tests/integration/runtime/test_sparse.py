"""A sparse model over HTTP: the words that matter, and nothing that it does not give."""

from pathlib import Path

import httpx
import pytest

from tests.integration.runtime.server import environment, serving
from tests.unit.runtime import made

TEXTS = ["red cat", "blue dog runs quickly", ""]


@pytest.mark.parametrize(("provider", "modules"), [("cpu", True), ("openvino", True), ("cpu", False)])
def test_a_sparse_model_gives_the_words_that_matter(tmp_path: Path, provider: str, modules: bool) -> None:
    made.write_sparse(tmp_path / "local", modules=modules)
    pooling = "" if modules else ", pooling: [splade]"
    config = tmp_path / "models.yaml"
    config.write_text(f"models:\n  - {{id: team/sparse, path: {tmp_path / 'local'}{pooling}}}\n")
    variables = environment(
        tmp_path,
        DEFAULT_EMBEDDING_MODEL="team/sparse",
        MODELS_CONFIG=str(config),
        ORT_EXECUTION_PROVIDER=provider,
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")

        def embed(body: dict[str, object], **headers: str) -> httpx.Response:
            return server.client.post("/embed", json={"input": TEXTS, **body}, headers=headers)

        for answer in (
            embed({}),
            embed({"outputs": ["sparse"]}),
            embed({}, Accept="application/octet-stream"),
        ):
            assert answer.status_code == 200
            assert set(answer.json()) == {"sparse_embeddings", "model", "usage"}
            for text, found in zip(TEXTS, answer.json()["sparse_embeddings"], strict=True):
                weights = dict(zip(found["indices"], found["weights"], strict=True))
                assert weights == pytest.approx(made.sparse(text), abs=1e-5)
        listed = server.client.post("/embed_sparse", json={"inputs": TEXTS}).json()
        for text, words in zip(TEXTS, listed, strict=True):
            assert {each["index"]: each["value"] for each in words} == pytest.approx(
                made.sparse(text), abs=1e-5
            )
        refused = embed({"outputs": ["dense"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "WrongTask")
        assert "team/sparse gives sparse output, not dense" in refused.json()["error"]["message"]
        (detail,) = server.client.get("/models?detail=true").json()["models"]
        assert (detail["kind"], detail["prepared"], detail["provider"]) == ("sparse", True, provider)
