"""The operator's Job: the one model that the environment names.

stdout gets progress as JSON lines, the termination message (JSON, under 4 KiB) goes to
TERMINATION_MESSAGE_PATH. Exit codes: 0 done, 3 a failure that trying again cannot mend, 4 one that it might.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedding_runtime.errors import InternalError, RuntimeFault
from embedding_runtime.model.obtain import Access
from embedding_runtime.model.shape import read_shape
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.prefetch import attempts
from embedding_runtime.prefetch.archived import unpacked
from embedding_runtime.prefetch.attempts import fetch
from embedding_runtime.prefetch.progress import JsonLines
from embedding_runtime.prefetch.proof import Proven, prove
from embedding_runtime.prefetch.stored import store
from embedding_runtime.settings import PrefetchSettings
from embedding_runtime.telemetry import logger

_log = logger("prefetch")

PERMANENT_FAILURE, TRANSIENT_FAILURE = 3, 4

# The kubelet keeps 4,096 bytes of a termination message; this many of them are for the text.
_LONGEST_MESSAGE = 2_500

# What readers of the termination message know; every other class is told as the nearest of these.
_CLASSES = {
    "NotCached": "HubUnreachable",
    "CorruptModel": "UnsupportedModel",
    "ProviderUnavailable": "InternalError",
    "PrecisionUnavailable": "UnsupportedModel",
    "InvalidSettings": "InternalError",
}


def prefetch(settings: PrefetchSettings, *, unproven: bool = False) -> int:
    """Fetch, prove, report; the exit code. unproven: the server that follows loads the model anyway."""
    progress = JsonLines(sys.stdout)
    wanted = asked(settings)
    # What a branch means is asked now: the resource shall not be served from a commit of some day before.
    access = replace(Access.of(settings), cached_if_down=False)
    try:
        if settings.model_url is not None:
            wanted = unpacked(wanted, settings, progress)
        source = fetch(wanted, access, settings.retry_seconds, progress)
        proven = None
        if not unproven:
            threads = settings.ort_num_threads
            proven = prove(source, wanted.precision, threads, progress, settings.prepared_dirs)
        told = success(proven) if proven else _fetched(source)
        if settings.model_store is not None and wanted.folder is not None:
            told["folder"] = str(store(wanted.folder, settings.model_store, source.fingerprint))
    except RuntimeFault as error:
        return fail(error, settings.termination_message_path)
    except Exception as error:
        _log.exception("prefetch failed")
        return fail(InternalError(f"{type(error).__name__}: {error}"), settings.termination_message_path)
    _report(told, settings.termination_message_path)
    return 0


def resolve(settings: PrefetchSettings) -> int:
    """Ask which commit the revision means and how much would be fetched, report; the exit code.

    Nobody is asked for an archive: its digest is known, and how much it unpacks to nobody can tell.
    """
    progress = JsonLines(sys.stdout)
    if settings.model_url is not None:
        told = {"model": settings.model_id, "commit": settings.model_sha256, "bytes": None}
        _report({"status": "resolved", **told}, settings.termination_message_path)
        return 0
    wanted, access = asked(settings), Access.of(settings)
    try:
        plan = attempts.resolve(wanted, access, settings.retry_seconds, progress)
    except RuntimeFault as error:
        return fail(error, settings.termination_message_path)
    except Exception as error:
        _log.exception("resolve failed")
        return fail(InternalError(f"{type(error).__name__}: {error}"), settings.termination_message_path)
    sizes = [file.size for file in plan.files]
    message = {
        "status": "resolved",
        "model": wanted.name,
        "commit": plan.commit,
        "bytes": None if None in sizes else plan.total,
    }
    _report(message, settings.termination_message_path)
    return 0


def asked(settings: PrefetchSettings) -> Wanted:
    """The model that the variables name, with what MODELS_CONFIG says of it, as the server will have it."""
    said = Wanted.of(settings.entry) if settings.entry else Wanted(settings.model_id)
    return replace(
        said,
        revision=settings.model_revision,
        folder=settings.model_path or said.folder,
        task=None if settings.model_task == "auto" else settings.model_task,
        file=settings.model_file or said.file,
        precision="auto" if settings.model_file else said.precision,
    )


def success(proven: Proven) -> dict[str, Any]:
    """The termination message of a model that is in the cache and works."""
    source = proven.source
    shape = read_shape(source.tokenizer_path.with_name("config.json"))
    return {
        "status": "ok",
        "model": source.id,
        "commit": source.commit,
        "fingerprint": source.fingerprint,
        "task": source.recipe.task,
        "dimensions": proven.width if source.recipe.task == "embed" else None,
        "maxTokens": source.recipe.max_tokens,
        "bytes": source.bytes,
        "precision": source.precision,
        "file": source.graph,
        "shape": shape.to_json() if shape else None,
    }


def _fetched(source: ModelSource) -> dict[str, Any]:
    """The termination message of a model that is in the cache and was not loaded."""
    return {
        "status": "fetched",
        "model": source.id,
        "commit": source.commit,
        "fingerprint": source.fingerprint,
        "bytes": source.bytes,
    }


def failure(error: RuntimeFault) -> dict[str, Any]:
    """The termination message of a failure."""
    return {
        "status": "error",
        "error": {
            "class": _CLASSES.get(error.code, error.code),
            "message": error.message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore"),
            "permanent": error.permanent,
            "retryAfter": error.retry_after,
        },
    }


def fail(error: RuntimeFault, path: Path | None) -> int:
    """Report a failure; the exit code."""
    _log.error("prefetch failed", code=error.code, error=error.message, permanent=error.permanent)
    _report(failure(error), path)
    return PERMANENT_FAILURE if error.permanent else TRANSIENT_FAILURE


def _report(message: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(message, ensure_ascii=False)
    print(json.dumps({"event": "result", **message}), flush=True)
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _log.error("cannot write the termination message", path=str(path), error=str(error))
