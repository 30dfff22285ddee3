"""`models`: what the cache or the catalogue holds, as a table or as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from embedding_runtime.model.recipe import read_task
from embedding_runtime.registry.cache import cached
from embedding_runtime.registry.catalogue import Entry, catalogue
from embedding_runtime.registry.volume import mib
from embedding_runtime.settings import HubSettings

_COLUMNS = ("model", "revision", "commit", "task", "size", "files")
_CATALOGUE_COLUMNS = ("model", "kind", "dimensions", "license", "served", "repository and file")
_COMMIT_DIGITS = 12


def list_models(settings: HubSettings, *, as_json: bool) -> int:
    """Print one line per cached revision to stdout; the exit code."""
    found = list(_revisions(settings))
    if as_json:
        print(json.dumps(found, indent=2))
    elif not found:
        print(f"no model in {settings.cache_dir}")
    else:
        _print_table(_COLUMNS, [_row(entry) for entry in found])
    return 0


def list_catalogue(*, as_json: bool) -> int:
    """Print one line per model of the catalogue to stdout; the exit code."""
    entries = catalogue().entries
    if as_json:
        print(json.dumps([_described(entry) for entry in entries], indent=2))
    else:
        _print_table(_CATALOGUE_COLUMNS, [_catalogue_row(entry) for entry in entries])
    return 0


def _described(entry: Entry) -> dict[str, Any]:
    values = asdict(entry)
    fill_ins = values.pop("fill_ins")
    return {**values, **fill_ins, "prompts": dict(fill_ins["prompts"]), "served": entry.is_served}


def _catalogue_row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.kind,
        str(entry.dimensions or "-"),
        entry.license or "unknown",
        "yes" if entry.is_served else "not yet",
        " ".join(filter(None, (entry.repository, entry.file))) or "-",
    )


def _revisions(settings: HubSettings) -> Iterator[dict[str, Any]]:
    for model in cached(settings.cache_dir):
        for revision in model.revisions:
            files = revision.files
            yield {
                "model": model.id,
                "revisions": list(revision.names),
                "commit": revision.commit,
                "task": read_task(revision.folder),
                "bytes": revision.bytes,
                "files": len(files),
                "folder": str(revision.folder),
            }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["model"],
        ", ".join(entry["revisions"]) or "-",
        entry["commit"][:_COMMIT_DIGITS],
        entry["task"] or "-",
        mib(entry["bytes"]),
        str(entry["files"]),
    )


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
