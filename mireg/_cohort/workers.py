"""Processes that register the pairs of a cohort: of this machine, or of Dask."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Collection, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing import get_context, resource_tracker
from typing import IO, Any

from .._errors import InputError, warn
from .._files import writing
from .schedule import Work
from .state import Outcome, Task

try:
    import fcntl
except ImportError:  # Windows, where each worker compiles for itself
    fcntl = None  # type: ignore[assignment]

#: Seconds between two counts of the workers of a scheduler; seconds without any after
#: which that is told; seconds for which a scheduler may be out of sight.
_COUNT_S, _ALONE_S, _GONE_S = 2.0, 10.0, 10.0

# --- processes of the standard library ------------------------------------------------


class LocalPool:
    """Processes of this machine."""

    def __init__(self, processes: int, memory_mb: float) -> None:
        self._processes, self._memory_mb = processes, memory_mb
        self._executor = self._begin()

    def room(self) -> tuple[int, float]:
        """Tell how many pairs may be in work, and the memory that they share, MB."""
        return self._processes, self._memory_mb

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a process."""
        return self._executor.submit(work, task)

    def stop(self, late: Collection[Future[Outcome]]) -> bool:  # noqa: ARG002
        """End all processes: this pool cannot lose one and go on."""
        self.renew()
        return False

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
            self._processes,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(os.getpid(),),
        )


def _begin_worker(parent: int) -> None:
    """Make a process ready: it ends with its parent, and leaves nothing behind."""
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
    with _alone() as file:
        if file is not None:
            file.seek(0)
            if file.read() == _what_is_compiled():
                return
        import numpy as np  # noqa: PLC0415

        from .._register import register  # noqa: PLC0415
        from .._settings import Settings  # noqa: PLC0415

        x, y, z = np.indices((16, 16, 16), dtype=np.float32)
        ball = (x - 7) ** 2 + (y - 8) ** 2 / 2 + (z - 7) ** 2 / 3 < 20
        image = (ball + x / 40, np.diag([5.0, 5, 5, 1]))
        # What is wrong shows at the first pair; of a ball nobody need be warned.
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register(image, image, init="header", settings=Settings(threads=1))
        if file is not None:
            with suppress(OSError):
                file.truncate(0)
                file.write(_what_is_compiled())
                file.flush()


def _what_is_compiled() -> str:
    """Tell apart what would have to be compiled anew.

    Where that was removed all the same, each process compiles: slow, but not wrong.
    """
    from numba import config  # noqa: PLC0415

    from .. import __version__, _kernels  # noqa: PLC0415

    loops = os.stat(_kernels.__file__)
    kept = vars(config)["CACHE_DIR"]
    return f"{__version__} {_kernels.__file__} {loops.st_mtime_ns} {kept} {sys.version}"


@contextmanager
def _alone() -> Iterator[IO[str] | None]:
    """Wait until no other process of this user is here; give a file that they share."""
    if fcntl is None:
        yield None
        return
    name = f"mireg-{os.geteuid()}.lock"
    try:
        descriptor = os.open(
            os.path.join(tempfile.gettempdir(), name),
            os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW,
            0o600,
        )
    except OSError:  # no place for it: then each compiles
        yield None
        return
    with os.fdopen(descriptor, "a+", encoding="utf-8", errors="replace") as file:
        with suppress(OSError):  # the file system knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def _interrupts_for_us() -> Iterator[None]:
    """Keep Ctrl-C from processes that are begun by threads that are begun here.

    It comes to all processes of a terminal; what is to be done about it we decide.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # the thread that begins it lets Ctrl-C in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- Dask -----------------------------------------------------------------------------


class DaskPool:
    """Workers of a Dask cluster: one of this machine, or one that runs elsewhere.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers, or its workers have several
        threads: what is told of a pair is that of its process.
    """

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
                "a Dask scheduler needs Dask, which is not installed; get it by: pip "
                "install distributed"
            ) from error
        self._cluster = None
        self._address = address or "the Dask cluster"
        self._processes, self._memory_mb = processes, memory_mb or float("inf")
        with dask.config.set({"distributed.worker.daemon": True}):
            if address is None:
                try:
                    with _interrupts_for_us():
                        self._cluster = distributed.LocalCluster(
                            n_workers=processes,
                            threads_per_worker=1,
                            processes=True,
                            # One may take all: what is given out is counted here.
                            memory_limit=f"{memory_mb:.0f}MB" if memory_mb else 0,
                            # No page, and a port that is free: others may run here.
                            dashboard_address=":0",
                            scheduler_kwargs={"dashboard": False},
                            silence_logs=logging.CRITICAL,
                        )
                except (RuntimeError, OSError) as error:  # a worker was killed, or so
                    raise InputError(
                        f"the Dask cluster of this machine does not start ({error}); "
                        "choose the scheduler named processes, which needs none"
                    ) from error
            try:
                self._client = distributed.Client(self._cluster or address, timeout=20)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{address}: no Dask scheduler answers there; check the address"
                ) from error
        for name in [*logging.root.manager.loggerDict]:  # each has a level of its own
            if name.partition(".")[0] in ("distributed", "tornado"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        self._futures: dict[Future[Outcome], Any] = {}
        self._counted, self._workers, self._alone_since = 0.0, 0, time.monotonic()
        try:
            self.room()
        except InputError:
            self.close()
            raise

    def room(self) -> tuple[int, float]:
        """Tell how many pairs may be in work now, and the memory that they share, MB.

        Workers may come and go: one pair each, so that none waits behind another.
        """
        self._wait_for_scheduler()
        if self._cluster is not None and self._processes:
            return self._processes, self._memory_mb
        now = time.monotonic()
        if now - self._counted > _COUNT_S:
            try:
                threads = self._client.nthreads()
            except Exception as error:  # it went while it was asked
                raise self._gone() from error
            if any(count > 1 for count in threads.values()):
                raise InputError(
                    f"{self._address}: its workers have several threads; start "
                    "workers with one thread each"
                )
            self._counted, self._workers = now, len(threads)
            if threads:
                self._alone_since = now
            elif now - self._alone_since > _ALONE_S:
                warn(
                    f"{self._address}: has no workers yet; start some, they are "
                    "waited for"
                )
                self._alone_since = math.inf
        most = self._processes or self._workers
        return min(most, self._workers), self._memory_mb

    def submit(self, work: Work, task: Task) -> Future[Outcome]:
        """Give a pair to a worker."""
        try:
            theirs = self._client.submit(work, task, pure=False)
        except Exception as error:
            raise BrokenExecutor(str(error)) from error
        ours: Future[Outcome] = Future()
        self._futures[ours] = theirs
        theirs.add_done_callback(partial(self._settle, ours))
        return ours

    def _settle(self, ours: Future[Outcome], theirs: Any) -> None:
        """Hand on what became of a pair."""
        if self._futures.pop(ours, None) is None:
            return  # nobody waits for it any more
        try:
            ours.set_result(theirs.result())
        except BaseException as error:  # handed on, too
            ours.set_exception(error)

    def stop(self, late: Collection[Future[Outcome]]) -> bool:
        """End the workers that do these; the others go on."""
        theirs = [self._futures.pop(one) for one in late if one in self._futures]
        keys = {one.key for one in theirs}
        with suppress(Exception):  # what they do is over or lost then
            busy = self._client.processing()
            self._client.cancel(theirs, force=True)
            self._client.restart_workers(
                [worker for worker, doing in busy.items() if keys.intersection(doing)],
                raise_for_error=False,
            )
        return True

    def renew(self) -> None:
        """Forget what is in work, as after the scheduler was lost from sight."""
        self._futures.clear()

    def close(self) -> None:
        """End the workers that were begun here."""
        with suppress(Exception):
            self._client.close()
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close()

    def _wait_for_scheduler(self) -> None:
        """Wait a while for the scheduler, if it is lost from sight."""
        until = time.monotonic() + _GONE_S
        while self._client.status == "connecting" and time.monotonic() < until:
            time.sleep(0.1)
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> InputError:
        return InputError(
            f"{self._address}: the Dask scheduler is gone; run the command again with "
            "another, which does the pairs that are missing"
        )
