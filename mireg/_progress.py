"""Which stage a registration is in, and for how long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ._errors import InputError

#: Told the name of a stage, and the share of the work that is done, 0 to 1.
Progress = Callable[[str, float], None]

_LOG = logging.getLogger(__name__)


def checked_progress(tell: Progress | None) -> Progress | None:
    """Refuse what cannot be told of progress, before the work."""
    if tell is None or callable(tell):
        return tell
    raise InputError(
        f"progress is {tell!r}; give a function, which is called with what is done now "
        "and the share of the work, or None"
    )


class Stages:
    """Seconds spent in each stage, told to whoever wants to know."""

    def __init__(self, tell: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = checked_progress(tell)
        self._stage = self._words = ""
        self._share = 0.0
        self._since = self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    def start(self, stage: str, share: float, words: str = "") -> None:
        """End the stage under way and start the next; `words` say more of it."""
        now = time.perf_counter()
        if self._stage:
            before = self.seconds.get(self._stage, 0.0)
            self.seconds[self._stage] = before + now - self._since
            _LOG.info("%s: %.3f s", self._stage, now - self._since)
        self._stage, self._since = stage, now
        self._words = words or stage or "done"
        self.reach(share)

    def reach(self, share: float) -> None:
        """Tell how much is done."""
        self._share = max(self._share, share)
        if self._tell is not None:
            self._tell(self._words, self._share)
