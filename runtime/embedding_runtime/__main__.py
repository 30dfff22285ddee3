"""The command line. Imports what a command needs only when it runs."""

import os
import signal

# The kernel keeps from a container's first process every signal that it has no handler for: a pod that is
# removed while the imports below are at work would stay until its grace is over.
if os.getpid() == 1:
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Never

from embedding_runtime.errors import InternalError, RuntimeFault, SettingsError
from embedding_runtime.settings import FetchSettings, HubSettings, LogFilter, PrefetchSettings, ServeSettings
from embedding_runtime.telemetry import configure

_FAILURE, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> Never:
        self.exit(_USAGE_ERROR, f"error: {message}; `{self.prog} --help` tells what there is\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    if getattr(options, "models_config", None):
        ServeSettings.choose_models_config(options.models_config)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except SettingsError as error:
        return _refuse(error.message, _USAGE_ERROR)
    except RuntimeFault as error:
        return _refuse(error.message, _USAGE_ERROR if error.code == "AddressInUse" else _FAILURE)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="embedding_runtime",
        description="Embedding and reranking inference server. Configured by environment variables.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_, description=help_)
        command.set_defaults(run=run)
        return command

    def add_models_config(command: argparse.ArgumentParser) -> None:
        command.add_argument("--models-config", metavar="FILE", help="the same as MODELS_CONFIG")

    add_models_config(add("serve", _serve, "answer /embed and /rerank over HTTP"))
    fetching = add("prefetch", _prefetch, "fetch models into the cache and prove that they work")
    fetching.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="id, id@revision, a variant of the catalogue or a name of MODELS_CONFIG; without any: "
        "MODEL_ID, or the configured models",
    )
    fetching.add_argument(
        "--progress",
        choices=("auto", "bar", "plain", "json"),
        default="auto",
        help="auto: a bar on a terminal, else plain lines",
    )
    part = fetching.add_mutually_exclusive_group()
    part.add_argument(
        "--resolve",
        action="store_true",
        help="fetch nothing: with MODEL_ID, say what commit its revision means and how large it is",
    )
    part.add_argument(
        "--unproven",
        action="store_true",
        help="with MODEL_ID, fetch the files and check their digests, and do not load the model",
    )
    add_models_config(fetching)
    listing = add("models", _models, "list what the cache holds, or the catalogue")
    listing.add_argument(
        "--catalogue",
        action="store_true",
        help="the models that are known, cached or not, with their variants",
    )
    listing.add_argument("--json", action="store_true", help="as JSON")
    verifying = add("verify", _verify, "read every cached file again and compare it with its digest")
    verifying.add_argument(
        "models", nargs="*", metavar="MODEL", help="id or id@revision; without any: all of the cache"
    )
    pruning = add("prune", _prune, "remove from the cache what no configured model uses")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_models_config(pruning)
    add_models_config(add("doctor", _doctor, "print what serve would understand and find"))
    return parser


def _serve(_: argparse.Namespace) -> int:
    settings = ServeSettings.load()
    configure(settings.log_filter, settings.log_format, process="supervisor")
    from embedding_runtime.supervisor import serve

    return serve(settings)


def _prefetch(options: argparse.Namespace) -> int:
    if not options.models and PrefetchSettings.is_wanted():
        return _prefetch_job(only_resolve=options.resolve, unproven=options.unproven)
    if options.resolve or options.unproven:
        option = "--resolve" if options.resolve else "--unproven"
        raise SettingsError([f"MODEL_ID is unset: {option} is for the one model that the environment names"])
    settings = FetchSettings.load()
    _log_quietly(settings, "prefetch")
    from embedding_runtime.prefetch.command import prefetch_models

    return prefetch_models(settings, options.models, options.progress)


def _prefetch_job(*, only_resolve: bool, unproven: bool) -> int:
    from embedding_runtime.prefetch.job import fail, prefetch, resolve

    configure(LogFilter(), "json", process="prefetch")
    try:
        settings = PrefetchSettings.load()
    except SettingsError as error:
        _refuse(error.message, _USAGE_ERROR)
        return fail(InternalError(error.message), PrefetchSettings.termination_path())
    configure(settings.log_filter, settings.log_format, process="prefetch")
    return resolve(settings) if only_resolve else prefetch(settings, unproven=unproven)


def _models(options: argparse.Namespace) -> int:
    settings = HubSettings.load()
    _log_quietly(settings, "models")
    from embedding_runtime.models import list_catalogue, list_models

    if options.catalogue:
        return list_catalogue(as_json=options.json)
    return list_models(settings, as_json=options.json)


def _verify(options: argparse.Namespace) -> int:
    settings = HubSettings.load()
    _log_quietly(settings, "verify")
    from embedding_runtime.verify import verify

    return verify(settings, options.models)


def _prune(options: argparse.Namespace) -> int:
    settings = ServeSettings.load()
    _log_quietly(settings, "prune")
    from embedding_runtime.prune import prune

    return prune(settings, dry_run=options.dry_run)


def _doctor(options: argparse.Namespace) -> int:
    settings = ServeSettings.load()
    _log_quietly(settings, "doctor")
    from embedding_runtime.doctor import examine

    return examine(settings, "--models-config" if options.models_config else "environment")


def _log_quietly(settings: HubSettings, process: str) -> None:
    """For commands that people read: warnings in text, unless the environment says otherwise."""
    given: set[str] = settings.model_fields_set
    log_filter = settings.log_filter if given & {"log_level", "rust_log"} else LogFilter("WARNING")
    configure(log_filter, settings.log_format if "log_format" in given else "text", process=process)


def _refuse(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
