"""The fixed image that was used last: many pairs share one."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable

from .._files import formats
from .._image import VolumeChoice
from .._prepare import PreparedImage, prepare


class LastFixed:
    """Keeps one prepared image, as long as its files stay as they are."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._kept: PreparedImage | None = None
        self._lock = threading.Lock()

    def get(
        self, path: str, volume: VolumeChoice | None, mask: str | None
    ) -> PreparedImage:
        """Give an image as `mireg.prepare` does, on one thread.

        Raises
        ------
        InputError
            If the image or its mask cannot be used.
        """
        with self._lock:
            key = (path, volume, mask, _identity(path), mask and _identity(mask))
            if self._kept is None or key != self._key:
                self._kept = None  # two at a time would need twice the memory
                image = formats.read_quietly(path, volume)
                self._kept = prepare(image, mask, threads=1)
                self._key = key
            return self._kept


def _identity(path: str) -> tuple[int, int] | None:
    """Tell a file from what it becomes; None if it is missing, as reading it tells."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # there may be a null in the name
        return None
    return found.st_size, found.st_mtime_ns
