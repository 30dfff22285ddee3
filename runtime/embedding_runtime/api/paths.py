"""The paths of inference requests, and whose errors each path tells."""

from embedding_runtime.api.dialects.errors import COHERE, OPENAI, RANKING, TEI
from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm
from embedding_runtime.settings import Task

# As what a request is counted until more than its path is known.
INFERENCE: dict[str, Task] = {
    "/embed": "embed",
    "/rerank": "rerank",
    "/v1/embeddings": "embed",
    "/v1/embed": "embed",
    "/v2/embed": "embed",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/": "embed",
    "/embed_all": "embed",
    "/embed_sparse": "embed",
    "/predict": "rerank",
    "/similarity": "embed",
}

_FORMS = {
    "/embed": DOCUMENTED,
    "/rerank": DOCUMENTED,
    "/v1/embeddings": OPENAI,
    "/v1/embed": COHERE,
    "/v1/rerank": RANKING,
    "/v2/rerank": COHERE,
    "/": TEI,
    "/embed_all": TEI,
    "/embed_sparse": TEI,
    "/predict": TEI,
    "/similarity": TEI,
    "/tokenize": TEI,
    "/decode": TEI,
    "/info": TEI,
}
# Where a path is not one of those, its beginning says whose it may be.
_BEGINNINGS = {"/v1/": OPENAI, "/v2/": COHERE}


def error_form(path: str) -> ErrorForm:
    """How errors are told at a path, also at one that is not there."""
    form = _FORMS.get(path)
    if form is not None:
        return form
    return next((form for start, form in _BEGINNINGS.items() if path.startswith(start)), DOCUMENTED)
