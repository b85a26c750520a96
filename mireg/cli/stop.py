"""Signals that stop the program: within a second, and nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, NoReturn

from .._files import writing

#: What `mireg.__main__` lets take SIGINT until there is a `Stop`.
_UNTIL_NOW = "stop_at_once"

#: How long the work may take to stop by itself, seconds.
_GRACE_S = 0.5


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, and sees it obeyed.

    Python raises an interrupt between two steps of the main thread: a long loop delays
    it, a library may swallow it or make another error of it. So another thread, which
    the system wakes, ends the program if the main one has not done so. Signals that
    were ignored when the program began, as by nohup, stay so.

    The work is done within ``with``; before and after there is nothing to wait for,
    and a signal ends the program at once.

    Attributes
    ----------
    number : int or None
        The first signal that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._working = False
        self._taken = [
            number
            for number in writing.STOPS
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
            or getattr(signal.getsignal(number), "__name__", "") == _UNTIL_NOW
        ]
        for number in self._taken:
            signal.signal(number, self._take)
        if os.name == "posix":  # others wake by sockets alone
            self._bell, ring = os.pipe()
            os.set_blocking(ring, False)
            signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._working = True

    def __exit__(self, *_error: object) -> None:
        self._working = False

    @property
    def code(self) -> int | None:
        """Exit code of a program that was stopped, as shells have it."""
        return None if self.number is None else 128 + self.number

    def _take(self, number: int, _frame: Any) -> None:
        if self.number is not None:  # nothing disturbs the cleaning up
            return
        self.number = number
        if self._working:
            raise KeyboardInterrupt
        writing.discard_all()
        os.write(2, b"mireg: stopped\n")
        os._exit(128 + number)

    def _watch(self) -> NoReturn:
        while not (came := set(os.read(self._bell, 64)).intersection(self._taken)):
            pass
        time.sleep(_GRACE_S)
        with writing.publishing:  # a set is published whole
            writing.discard_all()
            os.write(2, b"\nmireg: stopped\n")
            os._exit(128 + (self.number or min(came)))
