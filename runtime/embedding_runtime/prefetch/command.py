"""`prefetch MODEL...`: any number of models, one line of result for each.

Results go to stdout. Progress goes to stdout as JSON or plain lines, to stderr as a bar.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from embedding_runtime.errors import InternalError, RuntimeFault, SettingsError
from embedding_runtime.model.obtain import Access
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.prefetch.attempts import fetch
from embedding_runtime.prefetch.job import PERMANENT_FAILURE, TRANSIENT_FAILURE, failure, success
from embedding_runtime.prefetch.progress import Bar, JsonLines, PlainLines, Progress
from embedding_runtime.prefetch.proof import Proven, prove
from embedding_runtime.registry.volume import mib
from embedding_runtime.service.configured import Configured, at_revision, configured
from embedding_runtime.settings import MODEL_NAME, FetchSettings, split_name
from embedding_runtime.telemetry import logger

_log = logger("prefetch")

_NAME = re.compile(MODEL_NAME)

Display = Literal["auto", "bar", "plain", "json"]


@dataclass(frozen=True)
class Outcome:
    """What became of one model: proven, or the error."""

    wanted: Wanted
    result: Proven | RuntimeFault


def prefetch_models(settings: FetchSettings, names: Sequence[str], display: Display) -> int:
    """Fetch and prove each named model, the configured ones where there is none; the exit code.

    0: all are there. 3: one failed for a reason that trying again cannot mend. 4: only such failures that it
    might. A failure does not keep the others from being fetched. Raises SettingsError for what names none.
    """
    models = _wanted(names, configured(settings))
    if not models:
        print("no model is configured and none was named: nothing to fetch")
        return 0
    if display == "auto":
        display = "bar" if sys.stderr.isatty() else "plain"
    outcomes = [_outcome(wanted, settings, display) for wanted in models]
    for outcome in outcomes:
        print(_json_line(outcome) if display == "json" else _line(outcome), flush=True)
    errors = [outcome.result for outcome in outcomes if isinstance(outcome.result, RuntimeFault)]
    if any(error.permanent for error in errors):
        return PERMANENT_FAILURE
    return TRANSIENT_FAILURE if errors else 0


def _wanted(names: Sequence[str], known: Configured) -> list[Wanted]:
    if not names:
        return list(dict.fromkeys([*known.defaults.values(), *known.named.values()]))
    if wrong := [name for name in names if name not in known.named and not _NAME.fullmatch(name)]:
        raise SettingsError(
            [
                f"{name!r} is no model: allowed is id, id@revision, a variant of the catalogue "
                "(id@fastembed-rs, id@fastembed-py) or a name of MODELS_CONFIG"
                for name in wrong
            ]
        )
    models = []
    for name in names:
        base, revision = split_name(name)
        wanted = known.named.get(name) or known.named.get(base) or Wanted(base)
        models.append(at_revision(wanted, revision) if revision and name not in known.named else wanted)
    return list(dict.fromkeys(models))


def _outcome(wanted: Wanted, settings: FetchSettings, display: Display) -> Outcome:
    progress = _progress(display, _label(wanted))
    try:
        served = wanted.computed_in(settings.model_precision)
        source = fetch(served, Access.of(settings), settings.retry_seconds, progress)
        threads = settings.ort_num_threads
        return Outcome(wanted, prove(source, served.precision, threads, progress, settings.prepared_dirs))
    except RuntimeFault as error:
        return Outcome(wanted, error)
    except Exception as error:
        # One model that breaks something unforeseen must not cost the others.
        _log.exception("prefetch failed", model=wanted.name)
        return Outcome(wanted, InternalError(f"{type(error).__name__}: {error}"))
    finally:
        progress.close()


def _progress(display: Display, model: str) -> Progress:
    if display == "json":
        return JsonLines(sys.stdout, model=model)
    return Bar(sys.stderr, model) if display == "bar" else PlainLines(sys.stdout, model)


def _label(wanted: Wanted) -> str:
    return wanted.name if wanted.folder is not None else str(wanted.ref)


def _line(outcome: Outcome) -> str:
    result = outcome.result
    if isinstance(result, RuntimeFault):
        again = "" if result.permanent else " (trying again may help)"
        return f"{_label(outcome.wanted)}: failed: {result.message}{again}"
    source = result.source
    does = f"{result.width} dimensions" if source.recipe.task == "embed" else "rerank"
    where = f"{source.graph} of {source.repository}" if source.repository else source.graph
    return (
        f"{_label(outcome.wanted)}: ok: commit {source.commit}, {does}, {where} ({source.precision}), "
        f"{mib(source.bytes)}"
    )


def _json_line(outcome: Outcome) -> str:
    result = outcome.result
    told: dict[str, Any] = failure(result) if isinstance(result, RuntimeFault) else success(result)
    return json.dumps({"event": "result", **told, "model": outcome.wanted.name})
