"""How many CPUs this process may really use: the cgroup's quota (v2 or v1) and the affinity mask."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(root: Path = _CGROUP) -> float:
    """CPUs by quota and affinity, whichever is less; a fraction where the quota is one."""
    usable = float(len(os.sched_getaffinity(0)))
    quotas = [quota for quota in (_quota_v2(root), _quota_v1(root)) if quota is not None]
    return min([usable, *quotas])


def thread_count(wanted: int | None, limit: float) -> int:
    """The threads to compute with: what was asked for, else the whole CPUs of the limit, at least one."""
    return wanted if wanted is not None else max(1, math.floor(limit))


def _quota_v2(root: Path) -> float | None:
    fields = _read(root / "cpu.max").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return int(fields[0]) / int(fields[1])


def _quota_v1(root: Path) -> float | None:
    quota, period = _read(root / "cpu/cpu.cfs_quota_us"), _read(root / "cpu/cpu.cfs_period_us")
    if not quota or not period or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
