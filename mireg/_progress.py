"""Which stage a registration is in, and for how long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

#: Told the name of a stage, and the share of the work that is done, 0 to 1.
Progress = Callable[[str, float], None]

_LOG = logging.getLogger(__name__)


class Stages:
    """Seconds spent in each stage, told to whoever wants to know."""

    def __init__(self, tell: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = tell
        self._stage = ""
        self._share = 0.0
        self._since = time.perf_counter()

    def start(self, stage: str, share: float) -> None:
        """End the stage under way and start the next."""
        now = time.perf_counter()
        if self._stage:
            before = self.seconds.get(self._stage, 0.0)
            self.seconds[self._stage] = before + now - self._since
            _LOG.info("%s: %.3f s", self._stage, now - self._since)
        self._stage, self._since = stage, now
        self.reach(share)

    def reach(self, share: float) -> None:
        """Tell how much is done."""
        self._share = max(self._share, share)
        if self._tell is not None:
            self._tell(self._stage or "done", self._share)
