"""The cache, and whether each configured model can be had and loaded from it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from embedding_runtime.doctor.findings import Section
from embedding_runtime.errors import CacheError, CorruptModelError, HubError, NotCachedError, RuntimeFault
from embedding_runtime.model.obtain import Access, acquire, plan
from embedding_runtime.model.recipe import read_task
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.cache import cached
from embedding_runtime.registry.volume import check_volume, mib
from embedding_runtime.service.configured import configured
from embedding_runtime.settings import ServeSettings


def cache_section(settings: ServeSettings, memory: int | None) -> Section:
    """What the cache holds; a problem for each default model that cannot be had or loaded."""
    section = Section("cache")
    folder = settings.cache_dir
    if folder.is_dir():
        writable = (
            "writable" if os.access(folder, os.W_OK | os.X_OK) else f"not writable for uid {os.getuid()}"
        )
        section.lines.append(f"{folder}: {writable}, {mib(shutil.disk_usage(folder).free)} free")
    else:
        section.lines.append(f"{folder}: does not exist yet")
    for model in cached(folder):
        for revision in model.revisions:
            names = ", ".join(revision.names) or "no branch"
            does = read_task(revision.folder) or "cannot be served"
            section.lines.append(
                f"{model.id} {revision.commit[:12]} ({names}): {does}, {mib(revision.bytes)}"
            )
    _judge(section, settings, memory)
    return section


def _judge(section: Section, settings: ServeSettings, memory: int | None) -> None:
    named = configured(settings)
    defaults, held = list(named.defaults.values()), 0
    for wanted in dict.fromkeys([*defaults, *named.lazy.values(), *named.named.values()]):
        is_default = wanted in defaults
        for message, is_fatal, size in _looked(wanted, settings):
            held += size if is_default else 0
            if message:
                # A model that is loaded on first use keeps nothing from becoming ready.
                (section.problems if is_fatal and is_default else section.remarks).append(message)
    if memory is not None and held > memory:
        section.problems.append(
            f"the default models' files have {mib(held)}, the memory limit is {mib(memory)}: raise the limit "
            "or choose smaller models"
        )


def _nearest(folder: Path) -> Path:
    """The folder itself or the one that it would be made in."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _looked(wanted: Wanted, settings: ServeSettings) -> Iterator[tuple[str, bool, int]]:
    """Message or nothing, whether the model cannot be loaded for it, and the bytes of the model."""
    offline = Access(settings.cache_dir, settings.hf_endpoint, None, offline=True)
    try:
        source = acquire(wanted, offline, lambda _had, _total: None)
    except (NotCachedError, CorruptModelError) as error:
        if settings.hf_hub_offline or wanted.folder is not None:
            yield error.message, True, 0
        else:
            yield from _from_hub(wanted, settings, error)
    except RuntimeFault as error:
        yield error.message, True, 0
    else:
        yield "", False, source.bytes


def _from_hub(
    wanted: Wanted, settings: ServeSettings, missing: NotCachedError | CorruptModelError
) -> Iterator[tuple[str, bool, int]]:
    """What is missing or damaged would be fetched at the start: whether the hub has it and there is room."""
    try:
        found = plan(wanted, Access.of(settings))
        check_volume(_nearest(settings.cache_dir), found.total, str(wanted.ref))
    except (HubError, CacheError) as error:
        yield f"{wanted.ref} has to be fetched: {error.message}", True, 0
    except RuntimeFault as error:
        yield error.message, True, 0
    else:
        is_damaged = isinstance(missing, CorruptModelError)
        why = "is damaged in the cache" if is_damaged else "is not cached"
        yield f"{wanted.ref} {why}; {mib(found.total)} are fetched when it is loaded", False, found.total
