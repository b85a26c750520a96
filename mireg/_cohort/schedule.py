"""Pairs given to processes: some wait, some are in work, some come to nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    wait,
)
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from .._errors import InputError
from .state import Outcome, Task, remember

#: What may help a pair whose process died, as those do that need too much memory.
_ADVICE = "do fewer at a time (--jobs), or look at its images"

#: How often a pair is tried whose worker died.
_MOST_TRIES = 3

#: Seconds between two looks at what takes too long.
_LOOK_S = 0.5

Work = Callable[[Task], Outcome]


@dataclass(frozen=True)
class _Running:
    """A pair in work: how much memory it needs, since when, which try."""

    task: Task
    need_mb: float
    since: float
    tries: int


class Pool(Protocol):
    """Processes that pairs are given to."""

    def room(self) -> tuple[int, float]:
        """Tell how many pairs may be in work now, and the memory that they share, MB.

        Raises
        ------
        InputError
            If there is nobody any more who could do them.
        """

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a process."""

    def stop(self, late: Collection[Future[Outcome]]) -> bool:
        """End the processes that do these; tell whether the others go on."""

    def renew(self) -> None:
        """End all processes, whatever they do, and begin others."""

    def close(self) -> None:
        """End all processes."""


def outcomes(
    tasks: Iterable[tuple[Task, float]],
    work: Work,
    pool: Pool,
    *,
    most_seconds: float | None = None,
) -> Iterator[Outcome]:
    """Give what becomes of pairs, as they are done.

    Parameters
    ----------
    tasks : iterable of (Task, float)
        The pairs, and the memory in MB that each needs. A pair waits until what is in
        work leaves it enough. They are taken one by one, as there is room.
    work : callable
        What is done with each; returns its outcome, whatever goes wrong.
    pool : Pool
        Where.
    most_seconds : float, optional
        A pair that takes longer has failed, and its process is ended.

    Raises
    ------
    InputError
        If the pool has gone, as a scheduler that was ended.

    Notes
    -----
    A pair whose process died is tried again when all others are done, by itself, so
    that it costs no other one a try; after the third time it has failed. Such pairs,
    and those that took too long, are done again by the next run.
    """
    queue = _Queue(tasks)
    running: dict[Future[Outcome], _Running] = {}
    while True:
        _begin(queue, running, work, pool)
        if not running:
            if queue.head() is None:
                return
            time.sleep(_LOOK_S)  # nobody is there yet to do it
            continue
        finished, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        results = [_result(running.pop(future), future) for future in finished]
        yield from (one for one in results if isinstance(one, Outcome))
        lost = [one for one in results if isinstance(one, _Running)]
        late = [
            future
            for future, one in running.items()
            if most_seconds and time.monotonic() - one.since > most_seconds
        ]
        if late:
            others_go_on = pool.stop(late)
            for future in late:
                yield _failed(
                    running.pop(future),
                    f"no answer within {most_seconds:g} seconds; allow more "
                    "(--most-seconds), or look at its images",
                )
            if not others_go_on:  # though they did nothing wrong
                queue.put_back(
                    replace(one, tries=one.tries - 1) for one in running.values()
                )
                running.clear()
        if lost:
            lost += running.values()
            running.clear()
            pool.renew()
        for one in lost:
            if one.tries >= _MOST_TRIES:
                yield _failed(
                    one,
                    f"its process died {one.tries} times; {_ADVICE}",
                )
            else:
                queue.suspects.append(one)


class _Queue:
    """Pairs that wait: those to be begun again, those that come, and last suspects.

    Attributes
    ----------
    suspects : deque of _Running
        Pairs whose process died, maybe because of them.
    """

    def __init__(self, tasks: Iterable[tuple[Task, float]]) -> None:
        self.suspects: deque[_Running] = deque()
        self._first: deque[_Running] = deque()
        self._coming = (_Running(task, need, 0.0, 0) for task, need in tasks)

    def head(self) -> _Running | None:
        """Look at the next; None if there is none."""
        if not self._first:
            self._first.extend(islice(self._coming, 1))
        if not self._first and self.suspects:
            self._first.append(self.suspects.popleft())
        return self._first[0] if self._first else None

    def pop(self) -> None:
        """Take the next out."""
        self._first.popleft()

    def put_back(self, those: Iterable[_Running]) -> None:
        """Let some be the next."""
        self._first.extendleft(those)


def _begin(
    queue: _Queue, running: dict[Future[Outcome], _Running], work: Work, pool: Pool
) -> None:
    """Give a pool as many pairs as there is room for."""
    slots, memory_mb = pool.room()
    while one := queue.head():
        if not _may_start(one, running.values(), slots, memory_mb):
            return
        begun = replace(one, since=time.monotonic(), tries=one.tries + 1)
        try:
            future = pool.submit(work, begun.task)
        except BrokenExecutor:  # those in work will tell it, too
            if not running:
                pool.renew()
            return
        queue.pop()
        running[future] = begun


def _result(one: _Running, future: Future[Outcome]) -> Outcome | _Running:
    """Give what became of a pair, or the pair if it was lost."""
    try:
        return future.result()
    except BrokenExecutor:
        return one
    except CancelledError:  # the network, or who ended it: not the pair
        return replace(one, tries=one.tries - 1)
    except Exception as error:  # of Dask; or a fault of ours
        name = type(error).__name__
        why = f"its process died; {_ADVICE}" if name == "KilledWorker" else str(error)
        return _failed(one, f"{name}: {why}")


def _may_start(
    one: _Running, running: Collection[_Running], slots: int, memory_mb: float
) -> bool:
    """Tell whether there is a free process, and memory, for a pair."""
    if not running:
        return slots > 0
    if one.tries or any(other.tries > 1 for other in running):
        return False  # what may kill its process works alone
    needed = one.need_mb + sum(other.need_mb for other in running)
    return len(running) < slots and needed <= memory_mb


def _failed(one: _Running, why: str) -> Outcome:
    """Say that a pair came to nothing."""
    seconds = time.monotonic() - one.since
    outcome = Outcome(
        one.task.id, "failed", " ".join(why.split()), {}, None, seconds, 0
    )
    with suppress(InputError):
        remember(one.task, outcome, lasting=False)
    return outcome
