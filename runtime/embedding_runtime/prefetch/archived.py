"""A model out of an archive at an address: fetched and unpacked, then a folder like any other."""

from dataclasses import replace
from pathlib import Path

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.prefetch.attempts import patiently
from embedding_runtime.prefetch.progress import Progress
from embedding_runtime.settings import PrefetchSettings

_SHOWN = 10


def unpacked(wanted: Wanted, settings: PrefetchSettings, progress: Progress) -> Wanted:
    """The wanted model in the unpacked archive of the settings, which have one.

    Transient failures are tried again. Raises those of `registry.archive.obtain`, and UnsupportedModelError
    where the archive has no such folder.
    """
    # Imported here: what is not in an archive may need no hub client.
    from embedding_runtime.registry.archive import Archive, obtain

    token = settings.model_url_token.get_secret_value() if settings.model_url_token else None
    archive = Archive(settings.model_url or "", settings.model_sha256 or "", token)
    home = settings.hf_home.expanduser()

    def report(phase: str, had: int, total: int | None) -> None:
        progress(phase, archive.url, had, total)

    def once() -> Path:
        progress("resolving", f"asking for {archive.url}")
        return obtain(archive, home, report, offline=settings.hf_hub_offline)

    root = patiently(once, settings.retry_seconds, progress)
    folder = wanted.folder or root
    if not folder.is_dir():
        names = sorted(path.name for path in root.iterdir())[:_SHOWN]
        raise UnsupportedModelError(f"{archive.url} has no folder {folder} (it holds {', '.join(names)})")
    return replace(wanted, folder=folder)
