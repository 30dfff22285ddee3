"""What a measurement holds for: the CPU, its instructions, the threads and the libraries that compute."""

import hashlib
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

# What tells one kind of CPU from another, by the kernel's names on x86 and on Arm. Not the clock: it changes.
_TRAITS = frozenset(
    {
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
    }
)
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino")


def identity(threads: int, cpuinfo: Path = _CPUINFO) -> str:
    """16 hex digits that are others where the same graph may take another time or run otherwise."""
    content = [sorted(_traits(cpuinfo)), threads, [_version(name) for name in _LIBRARIES]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """The CPU's model, as it calls itself."""
    return dict(_traits(cpuinfo)).get("model name", "unknown CPU")


def _traits(cpuinfo: Path) -> Iterator[tuple[str, str]]:
    """Of the first CPU; nothing where the kernel does not tell."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _TRAITS:
            yield name.strip(), value.strip()


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
