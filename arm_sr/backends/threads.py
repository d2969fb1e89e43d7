"""How many processors this process may really use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

GROUPS = Path("/proc/self/cgroup")
"""The control groups of this process, on Linux,"""
LIMITS = Path("/sys/fs/cgroup")
"""and where their limits are."""
MOST = "ARM_SR_THREADS"
"""The variable of the environment with the most threads that a process is to use."""


def allowed_threads() -> int:
    """Processors of this process: those it is kept to, and no more than its control groups pay for, as of a container
    with a CPU limit; a part of one counts as one. No more than `ARM_SR_THREADS` either, where that is set.

    Raises UsageError: `ARM_SR_THREADS` is no number.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get(MOST) or str(count)
    if not asked.isdecimal() or int(asked) < 1:
        raise UsageError(f"{MOST} must be a number from 1 on, not {asked}")
    return max(1, min([count, int(asked), *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """Processors that each control group around this process pays for, where it has a limit."""
    try:
        lines = GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has no controllers in the line, and one hierarchy; version 1 has one of its own for the processor.
        base = LIMITS / ("cpu" if controllers else "")
        inner = base / group.lstrip("/")
        # In a container the group's own folder may be what is seen as the topmost one.
        for folder in (inner, *inner.parents):
            limit = _version_1(folder) if controllers else _version_2(folder)
            if limit is not None:
                yield limit
            if folder == base:
                break


def _version_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version_1(folder: Path) -> float | None:
    try:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (int((folder / name).read_text(encoding="ascii")) for name in names)
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
