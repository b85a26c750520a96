"""Share out work among threads, with the same answer on any number of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def available() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared(
    work: Callable[[Item], Answer], items: Iterable[Item], threads: int
) -> list[Answer]:
    """Call `work` on each item, on up to `threads` threads at a time.

    The kernels release the interpreter lock, so threads of Python are enough: no
    threading layer to choose, nothing that breaks after a fork. Items must not
    depend on `threads`; then neither does the answer, which comes in their order.
    """
    items = list(items)
    if threads <= 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(work, items))
