# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""How much memory a pair needs, and how much there is."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from functools import lru_cache

from .._files import formats
from .state import Task

#: Memory of a process that has registered a small pair, MB, and bytes a voxel of either
#: image that come on top: peaks of 216 to 370 MB were measured for pairs of 2 to 20
#: million voxels.
_BASE_MB, _BYTES_A_VOXEL = 260.0, 16.0

#: Share of what is free that is given out.
_SHARE = 0.8

#: Seconds that a header may take to read: the file system may hang.
_PATIENCE_S = 10.0


def memory_mb(task: Task) -> float:
    """Estimate the memory that a pair needs, from its headers.

    What cannot be read needs little: it fails soon.
    """
    voxels = sum(_voxels(task.files[role]) for role in ("fixed", "moving"))
    return _BASE_MB + _BYTES_A_VOXEL * voxels / 1e6


@lru_cache(maxsize=256)
def _voxels(path: str) -> int:
    """Count the voxels of one volume; of a series it is all that is held at a time."""
    found = [0]

    def count() -> None:
        with suppress(Exception):
            found[0] = math.prod(formats.open_nibabel(path).shape[:3])

    reader = threading.Thread(target=count, daemon=True)
    reader.start()
    reader.join(_PATIENCE_S)
    return found[0]


def free_mb() -> float:
    """Give the memory that is free now, within the limits of a container, MB."""
    free = math.inf
    with suppress(OSError, ValueError, StopIteration):
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
        free = float(line.split()[1]) / 1e3
    with suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = float(file.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = float(file.read())
        free = min(free, (limit - used) / 1e6)
    if math.isinf(free) and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2e6
    return _SHARE * free
