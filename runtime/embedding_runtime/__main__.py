"""The command line: serve, prefetch, doctor. Imports what a command needs only when it runs."""

import argparse
import sys

from embedding_runtime.errors import AddressInUseError, InternalError, SettingsError
from embedding_runtime.settings import LogFilter, PrefetchSettings, ServeSettings
from embedding_runtime.telemetry import configure

_USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="embedding_runtime",
        description="Embedding and reranking inference server. Configured by environment variables.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="answer /embed and /rerank over HTTP")
    commands.add_parser("prefetch", help="fetch the model MODEL_ID into the cache and verify it")
    commands.add_parser("doctor", help="print what serve would understand and find")
    command = parser.parse_args(arguments).command
    return {"serve": _serve, "prefetch": _prefetch, "doctor": _doctor}[command]()


def _serve() -> int:
    try:
        settings = ServeSettings.load()
        configure(settings.log_filter, settings.log_format, process="supervisor")
        from embedding_runtime.supervisor import serve

        return serve(settings)
    except (SettingsError, AddressInUseError) as error:
        return _refuse(error.message)


def _prefetch() -> int:
    from embedding_runtime.prefetch import fail, prefetch

    configure(LogFilter(), "json", process="prefetch")
    try:
        settings = PrefetchSettings.load()
    except SettingsError as error:
        _refuse(error.message)
        return fail(InternalError(error.message), PrefetchSettings.termination_path())
    configure(settings.log_filter, settings.log_format, process="prefetch")
    return prefetch(settings)


def _doctor() -> int:
    try:
        settings = ServeSettings.load()
    except SettingsError as error:
        return _refuse(error.message)
    configure(LogFilter("WARNING"), "text", process="doctor")
    from embedding_runtime.doctor import examine

    return examine(settings)


def _refuse(message: str) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
