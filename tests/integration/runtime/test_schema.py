"""Whatever the OpenAPI document allows, and much that it does not, gets an answer that the document names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.runtime.server import COMMIT, EMBEDDER, RERANKER, environment, serving
from tests.unit.runtime import made

_documented = schemathesis.pytest.from_fixture("documented")


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a server over made models."""
    home: Path = tmp_path_factory.mktemp("documented")
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))
    made.cache(home, RERANKER, COMMIT, made.write_reranker(home / "reranker"))
    variables = environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, DEFAULT_RERANKING_MODEL=RERANKER)
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
        yield schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json")
        assert "Traceback" not in server.log()


@_documented.parametrize()
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_document_names(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ]
    )
