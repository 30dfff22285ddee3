"""docs/models.md: the catalogue, from the package's data."""

from collections.abc import Iterable, Iterator

from table import table

from embedding_runtime.registry.catalogue import KINDS, Entry, catalogue

HEAD = """\
# Models

Generated from the runtime's catalogue by `make generate`. `python -m embedding_runtime models --catalogue`
prints the same, with `--json` all of it; `GET /models` lists what a server can be asked for.

The catalogue limits nothing: any repository with an ONNX file works. It is what is known of well-known models
beside their own files.

- **A name** means the hub repository of that name: its own ONNX file at full precision, its own files for
  pooling, normalisation, length and prompts. What such a repository does not say, the catalogue fills in.
  Where it holds no weights that can be served, or a mirror does not have it, the one substitute that is
  listed here answers, and `/models?detail=true` shows it as `source`. A substitute stands in for `main`; the
  commit in `name@commit` may be one of either.
- **A variant**, `<name>@fastembed-rs` or `<name>@fastembed-py`, is what that library gives under the name:
  its file, which may be quantised, its pooling, normalisation and length, whatever the repository's files
  say. It is for who moves an index that was made with FastEmbed; a new index is better off with the name.
  Where a library has several files of a model, `-Q` and the like stand before the `@`; a library's own names
  (`AllMiniLML6V2Q@fastembed-rs`) mean the same. `<variant>@<revision>` is a revision of the variant's
  repository.
- Offline, whatever of these the cache holds is found.
- What is *not yet* served is known: a request that names it is answered with 400, which says what it is.

Licences are those that the models' own repositories state; read them before use.
"""

_TITLES = {
    "dense": "Dense embeddings",
    "rerank": "Reranking",
    "sparse": "Sparse embeddings",
    "late_interaction": "Late interaction",
    "image": "Images",
    "multi": "Several outputs",
}


def page() -> str:
    """Return the page."""
    entries = catalogue().entries
    lines = [HEAD]
    for kind in KINDS:
        of_kind = [entry for entry in entries if entry.kind == kind]
        lines += [f"## {_TITLES[kind]}", ""]
        if named := [entry for entry in of_kind if not entry.is_variant]:
            lines += [*_named(named), ""]
        if variants := [entry for entry in of_kind if entry.is_variant]:
            lines += ["Variants:", "", *_variants(variants), ""]
    return "\n".join([*lines, *_sources(entries)]).rstrip() + "\n"


def _named(entries: Iterable[Entry]) -> Iterator[str]:
    rows = (
        (
            f"`{entry.name}`",
            _served(entry),
            _number(entry.dimensions),
            ", ".join(map(str, entry.fill_ins.matryoshka)),
            entry.license or "unknown",
            _place(entry),
            _fill_ins(entry),
        )
        for entry in entries
    )
    heads = (
        "model",
        "served",
        "dimensions",
        "may be cut to",
        "licence",
        "substitute",
        "if its files lack it",
    )
    return table(heads, rows)


def _variants(entries: Iterable[Entry]) -> Iterator[str]:
    rows = (
        (
            f"`{entry.name}`",
            _served(entry),
            _number(entry.dimensions),
            entry.license or "unknown",
            _place(entry),
            entry.quantized or "",
            _fill_ins(entry),
        )
        for entry in entries
    )
    heads = ("variant", "served", "dimensions", "licence", "repository and file", "quantised", "always")
    return table(heads, rows)


def _sources(entries: Iterable[Entry]) -> Iterator[str]:
    yield from ("## Where this is from", "")
    yield from table(("model", "source"), ((f"`{entry.name}`", "; ".join(entry.source)) for entry in entries))


def _served(entry: Entry) -> str:
    return "yes" if entry.is_served else "not yet"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _place(entry: Entry) -> str:
    return " ".join(f"`{part}`" for part in (entry.repository, entry.file) if part)


def _fill_ins(entry: Entry) -> str:
    said = entry.fill_ins
    parts = [
        *(["+".join(said.pooling)] if said.pooling else []),
        *({True: ["normalised"], False: ["not normalised"], None: []}[said.normalize]),
        *([f"{said.max_length} tokens"] if said.max_length else []),
        *([f"prompts {', '.join(name for name, _ in said.prompts)}"] if said.prompts else []),
    ]
    return ", ".join(parts)
