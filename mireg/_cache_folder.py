# numba has few types:
# mypy: disallow-untyped-calls=False
"""Where compiled loops are kept, and how they are read back.

numba keeps them beside the code, or in the user's cache; in a container there may be
neither, and then it gives up. What is kept is read back as code: so it lies where only
the user can write, never in a folder that someone else may have put there.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys


def provide() -> None:
    """Let numba keep what it compiles, if it would find no place of its own."""
    try:
        njit(cache=True)(_nothing)  # looks for a place, compiles nothing
    except RuntimeError:
        vars(config)["CACHE_DIR"] = str(_own_folder())


def _nothing() -> None:
    """Stand for a loop of this package."""


class LoopCache(FunctionCache):
    """Reads a kept loop without what is needed only to compile one.

    Before it reads, numba's own loads all that it can compile, with much of scipy: that
    takes longer than most registrations. A loop of this package needs no more than the
    allocator of memory. If it was not kept, numba loads the rest when it compiles it.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Give a compiled loop for arguments of these types, or None."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def _own_folder() -> Path:
    """Return the user's own folder for temporary things, or a new one for this run."""
    try:
        user = os.geteuid()
    except AttributeError:  # Windows, whose temporary folders are the user's own
        user = None
    folder = Path(tempfile.gettempdir()) / f"mireg-{user or 0}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if user is None or (_is_own(folder, user) and _keeps(folder.parent, user)):
            return folder
    except OSError:
        pass
    once = Path(tempfile.mkdtemp(prefix="mireg-"))
    atexit.register(shutil.rmtree, once, ignore_errors=True)
    return once


def _is_own(folder: Path, user: int) -> bool:
    """Tell whether nobody but the user can write into a folder."""
    found = folder.lstat()
    mine = found.st_uid == user and stat.S_ISDIR(found.st_mode)
    return mine and not found.st_mode & 0o077


def _keeps(parent: Path, user: int) -> bool:
    """Tell whether others cannot exchange the user's folders in a folder."""
    found = parent.stat()
    safe = bool(found.st_mode & stat.S_ISVTX) or not found.st_mode & 0o022
    return safe and found.st_uid in (0, user)
