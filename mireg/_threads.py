"""Share out work among threads, with the same answer on any number of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def available() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return the threads that wait for work: making new ones costs more than most."""
    return ThreadPoolExecutor(max(32, available()), "mireg")


if hasattr(os, "register_at_fork"):  # threads do not live on in a child process
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def shared(
    work: Callable[[Item], Answer], items: Iterable[Item], threads: int
) -> list[Answer]:
    """Call `work` on each item, on up to `threads` threads at a time.

    The kernels release the interpreter lock, so threads of Python are enough: no
    threading layer to choose, nothing that breaks after a fork. Items must not
    depend on `threads`; then neither does the answer, which comes in their order.
    If calls fail, the error is that of the first item that does.

    The calling thread works as well, and waits only for items that another one has
    begun: so `work` may itself share out work.
    """
    items = list(items)
    if threads <= 1 or len(items) <= 1:
        return [work(item) for item in items]
    todo = deque(enumerate(items))
    answers: dict[int, Answer] = {}
    errors: dict[int, BaseException] = {}

    def take_part() -> None:
        while True:
            try:
                n, item = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                answers[n] = work(item)
            except BaseException as error:  # raised again below
                errors[n] = error
                todo.clear()

    others = min(threads, len(items)) - 1
    try:
        helpers = [_helpers().submit(take_part) for _ in range(others)]
        take_part()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    finally:  # an interrupt may come anywhere; then the others begin nothing more
        todo.clear()
    if errors:
        raise errors[min(errors)]
    return [answers[n] for n in range(len(items))]
