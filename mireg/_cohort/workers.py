"""Processes that work on pairs: those of the standard library, or of Dask."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from typing import Any, Protocol, cast

from .._errors import InputError
from .._files import writing
from .state import Outcome, Task

try:
    import fcntl
except ImportError:  # Windows, where each worker compiles for itself
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)

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
    """Processes that pairs are given to.

    Attributes
    ----------
    slots : int
        How many pairs may be in work at a time.
    memory_mb : float
        Memory that they share.
    """

    slots: int
    memory_mb: float

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a process."""

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
        work leaves it enough.
    work : callable
        What is done with each; returns its outcome, whatever goes wrong.
    pool : Pool
        Where.
    most_seconds : float, optional
        A pair that takes longer has failed, and its process is ended.

    Notes
    -----
    A pair whose process died is tried again by itself, so that it costs no other one a
    try; after the third time it has failed.
    """
    waiting = deque(_Running(task, need, 0.0, 0) for task, need in tasks)
    running: dict[Future[Outcome], _Running] = {}
    while waiting or running:
        while waiting and _may_start(waiting[0], running.values(), pool):
            begun = replace(
                waiting[0], since=time.monotonic(), tries=waiting[0].tries + 1
            )
            try:
                future = pool.submit(work, begun.task)
            except BrokenExecutor:  # before we have heard of it
                break
            waiting.popleft()
            running[future] = begun
        finished, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        lost = []
        for future in finished:
            one = running.pop(future)
            try:
                yield future.result()
            except (BrokenExecutor, CancelledError):
                lost.append(one)
            except Exception as error:  # Dask's KilledWorker; or a fault of ours
                yield _failed(one, f"its process died ({type(error).__name__})")
        late = [
            future
            for future, one in running.items()
            if most_seconds and time.monotonic() - one.since > most_seconds
        ]
        if late:
            for future in late:
                yield _failed(
                    running.pop(future), f"no answer within {most_seconds:g} seconds"
                )
            # The others did nothing wrong.
            waiting.extendleft(
                replace(one, tries=one.tries - 1) for one in running.values()
            )
        if lost or late:
            lost += [] if late else running.values()
            running.clear()
            pool.renew()
        for one in lost:
            if one.tries >= _MOST_TRIES:
                yield _failed(one, f"its process died {one.tries} times")
            else:
                waiting.append(one)


def _may_start(one: _Running, running: Iterable[_Running], pool: Pool) -> bool:
    """Tell whether there is a free process, and memory, for a pair."""
    others = list(running)
    if not others:
        return True
    if one.tries or any(other.tries > 1 for other in others):
        return False  # what may kill its process works alone
    needed = one.need_mb + sum(other.need_mb for other in others)
    return len(others) < pool.slots and needed <= pool.memory_mb


def _failed(one: _Running, why: str) -> Outcome:
    """Say that a pair came to nothing."""
    seconds = time.monotonic() - one.since
    return Outcome(one.task.id, "failed", why, {}, None, seconds, 0.0)


# --- processes of the standard library ------------------------------------------------


class LocalPool:
    """Processes of this machine."""

    def __init__(self, processes: int, memory_mb: float) -> None:
        self.slots, self.memory_mb = processes, memory_mb
        self._executor = self._begin()

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a process."""
        return self._executor.submit(work, task)

    def renew(self) -> None:
        """End all processes, whatever they do, and begin others."""
        self.close()
        self._executor = self._begin()

    def close(self) -> None:
        """End all processes; what they have begun leaves nothing behind."""
        processes = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(OSError):
                process.terminate()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()

    def _begin(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.slots,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(os.getpid(),),
        )


def _begin_worker(parent: int) -> None:
    """Make a process ready: it ends with its parent, and leaves nothing behind."""
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides

    def leave(*_: Any) -> None:
        with writing.publishing:
            writing.discard_all()
            os._exit(143)

    signal.signal(signal.SIGTERM, leave)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        leave()

    threading.Thread(target=watch, daemon=True).start()


@cache
def make_ready() -> None:
    """Compile the loops, unless another process of this machine has, or does."""
    with _alone():
        import numpy as np  # noqa: PLC0415

        from .._register import register  # noqa: PLC0415
        from .._settings import Settings  # noqa: PLC0415

        x, y, z = np.indices((16, 16, 16), dtype=np.float32)
        ball = (x - 7) ** 2 + (y - 8) ** 2 / 2 + (z - 7) ** 2 / 3 < 20
        image = (ball + x / 40, np.diag([5.0, 5, 5, 1]))
        with suppress(Exception):  # what is wrong shows at the first pair
            register(image, image, init="header", settings=Settings(threads=1))


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process of this user is here."""
    if fcntl is None:
        yield
        return
    name = f"mireg-{os.geteuid()}.lock"
    try:
        descriptor = os.open(
            os.path.join(tempfile.gettempdir(), name),
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
            0o600,
        )
    except OSError:  # no place for it: then each compiles
        yield
        return
    with os.fdopen(descriptor) as file:
        with suppress(OSError):  # the file system knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- Dask -----------------------------------------------------------------------------


class DaskPool:
    """Workers of a Dask cluster: one of this machine, or one that runs elsewhere."""

    def __init__(
        self,
        processes: int | None,
        memory_mb: float | None,
        address: str | None = None,
    ) -> None:
        try:
            import dask  # noqa: PLC0415
            import distributed  # noqa: PLC0415
        except ImportError as error:
            raise InputError(
                "Dask is not installed: pip install 'mireg[cohort]'"
            ) from error
        self._cluster = None
        with dask.config.set({"distributed.worker.daemon": True}):
            if address is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=processes,
                    threads_per_worker=1,
                    processes=True,
                    # A worker may take all: what is given out is counted here.
                    memory_limit=f"{memory_mb:.0f}MB" if memory_mb else 0,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            try:
                self._client = distributed.Client(self._cluster or address, timeout=20)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{address}: no Dask scheduler answers there; check the address"
                ) from error
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        # Some more than there are workers, so that none waits for the network.
        own = self._cluster is not None
        self.slots = processes if own and processes else max(1, 2 * len(workers))
        total = sum(worker["memory_limit"] or 0 for worker in workers) / 1e6
        self.memory_mb = memory_mb or total or float("inf")
        self._executor = self._begin()

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a worker."""
        return cast("Future[Outcome]", self._executor.submit(work, task))

    def renew(self) -> None:
        """End all workers, whatever they do, and begin others."""
        if self._cluster is not None:  # elsewhere others may be at work
            self._client.restart(wait_for_workers=False)
        self._executor = self._begin()

    def close(self) -> None:
        """End the workers that were begun here."""
        with suppress(Exception):
            self._client.close()
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close()

    def _begin(self) -> Executor:
        return cast("Executor", self._client.get_executor(pure=False))
