"""`doctor`: print what the server would understand and find, and whether it would start and become ready."""

from embedding_runtime.doctor.machine import machine_section, memory_limit, ports_section
from embedding_runtime.doctor.storage import cache_section
from embedding_runtime.doctor.understood import models_section, settings_section
from embedding_runtime.settings import ServeSettings


def examine(settings: ServeSettings, models_config_origin: str = "environment") -> int:
    """Print the findings to stdout; 0 when the server would start and become ready, else 1.

    The hub is asked only for models that would have to be fetched, and never offline.
    """
    sections = [
        settings_section(settings, models_config_origin),
        models_section(settings),
        machine_section(settings),
        ports_section(settings),
        cache_section(settings, memory_limit()),
    ]
    for section in sections:
        _print(section.heading, section.lines)
    _print("remarks", [line for section in sections for line in section.remarks])
    problems = [line for section in sections for line in section.problems]
    _print("problems", problems)
    return 1 if problems else 0


def _print(heading: str, lines: list[str]) -> None:
    print(f"{heading}:")
    for line in lines or ["none"]:
        print(f"  {line}")
