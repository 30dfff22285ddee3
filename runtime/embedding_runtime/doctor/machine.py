"""What the machine allows: CPUs, memory, execution providers that really work, free ports."""

import os
import tempfile
from pathlib import Path

from embedding_runtime.api.listening import listen
from embedding_runtime.doctor.findings import Section
from embedding_runtime.engine.choice import has_openvino
from embedding_runtime.engine.providers import CPU, CUDA, no_cuda
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.engine.trial import trial
from embedding_runtime.errors import AddressInUseError
from embedding_runtime.registry.volume import mib
from embedding_runtime.settings import ServeSettings

_CGROUP = Path("/sys/fs/cgroup")

_PROVIDERS = {"cpu": CPU, "cuda": CUDA}


def machine_section(settings: ServeSettings) -> Section:
    """Limits and providers; a problem where the provider that was asked for does not work."""
    section = Section("machine")
    limit, memory = cpu_limit(), memory_limit()
    threads = thread_count(settings.ort_num_threads, limit)
    section.lines.append(
        f"CPU limit: {limit:g} of {os.cpu_count()} CPUs; threads of one inference: {threads}"
    )
    section.lines.append(f"memory limit: {mib(memory) if memory is not None else 'none'}")
    if settings.ort_num_threads is not None and settings.ort_num_threads > limit:
        section.remarks.append(
            f"ORT_NUM_THREADS={settings.ort_num_threads} is more than the {limit:g} CPUs that may be used, "
            "which makes every inference slower; leave it unset"
        )
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        section.problems.append("no folder for sockets can be written; mount one at /tmp or set TMPDIR")
    for name, provider in _PROVIDERS.items():
        why = trial(provider)
        section.lines.append(f"provider {name}: {'usable' if why is None else f'not usable: {why}'}")
        if why is not None and name == "cuda" and settings.ort_execution_provider == "cuda":
            told = no_cuda(why)
            if settings.allow_cpu_fallback:
                section.remarks.append(f"{told} (ALLOW_CPU_FALLBACK is set: it runs on the CPU)")
            else:
                section.problems.append(
                    f"{told}, or accept the CPU with ALLOW_CPU_FALLBACK=true: without it the server answers "
                    "from the CPU and is not ready"
                )
    section.lines.append(f"provider openvino: {'installed' if has_openvino() else 'not installed'}")
    if settings.ort_execution_provider == "openvino" and not has_openvino():
        section.problems.append(
            "ORT_EXECUTION_PROVIDER=openvino, and the package openvino is not installed; install it, or set "
            "cpu or auto"
        )
    return section


def ports_section(settings: ServeSettings) -> Section:
    """Whether the addresses can be listened on."""
    section = Section("ports")
    for variable, port in (("API_PORT", settings.api_port), ("METRICS_PORT", settings.metrics_port)):
        if port is None:
            continue
        try:
            listen(settings.api_host, port, variable).close()
            section.lines.append(f"{variable}: {settings.api_host}:{port} is free")
        except AddressInUseError as error:
            section.lines.append(f"{variable}: {settings.api_host}:{port} cannot be listened on")
            section.problems.append(f"{error.message}; end what listens there or choose another {variable}")
    if settings.metrics_port and settings.metrics_port == settings.api_port:
        section.problems.append(f"METRICS_PORT and API_PORT are both {settings.api_port}; choose another")
    return section


def memory_limit(root: Path = _CGROUP) -> int | None:
    """Bytes that the cgroup (v2 or v1) allows, None where it sets no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        # Version 1 writes the largest page-aligned number for "no limit".
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None
