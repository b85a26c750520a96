# numba has few types:
# mypy: disallow-untyped-calls=False
"""Where compiled loops are kept, and how they are read back.

numba keeps them beside the code, or in the user's cache; in a container there may be
neither, and then it gives up. What is kept is read back as code: so it lies where only
the user can write, never in a folder that someone else may have put there, nor below
one that others can write to.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

from ._errors import warn


def provide() -> None:
    """Let numba keep what it compiles, if its own place is missing or not safe."""
    if vars(config)["DISABLE_JIT"]:
        return
    try:
        # Looks for a place, compiles nothing.
        probe: Any = njit(cache=True)(_nothing)
        place = Path(probe._cache.cache_path)
    except (RuntimeError, OSError):
        place = None
    if place is not None and _is_safe(place):
        return
    try:
        vars(config)["CACHE_DIR"] = str(_own_folder())
    except OSError:
        LoopCache.usable = False
        warn(
            "there is no folder to keep compiled code in, so every run compiles it "
            "anew, which takes a minute or so; name one that only you can write to in "
            "the environment variable NUMBA_CACHE_DIR"
        )


def _nothing() -> None:
    """Stand for a loop of this package."""


class LoopCache(FunctionCache):
    """Reads a kept loop without what is needed only to compile one.

    Before it reads, numba's own loads all that it can compile, with much of scipy: that
    takes longer than most registrations. A loop of this package needs no more than the
    allocator of memory. If it was not kept, numba loads the rest when it compiles it.

    What cannot be read, such as a file that was cut short, is compiled anew; what
    cannot be kept is compiled all the same.
    """

    #: Whether there is a place to keep loops.
    usable = True

    _cache_path = None

    def __init__(self, loop: Any) -> None:
        if self.usable:
            super().__init__(loop)
        else:
            self.disable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Give a compiled loop for arguments of these types, or None."""
        try:
            load = getattr(self, "_load_overload", None)
            if load is None:  # numba promises no more than load_overload
                return super().load_overload(sig, target_context)
            rtsys.initialize(target_context)
            return load(sig, target_context)
        except Exception:  # of unpickling: any
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled loop, if that is possible."""
        with suppress(Exception):
            try:
                super().save_overload(sig, data)
            except Exception:  # the list of what is kept may be the file that is broken
                self.flush()
                super().save_overload(sig, data)


def _is_safe(folder: Path) -> bool:
    """Tell whether only the user, or who installed the code, can write to a folder."""
    if not hasattr(os, "geteuid"):  # Windows, where folders of users are their own
        return True
    if folder.parent == Path(__file__).parent:  # as safe as the code itself
        return True
    ways = {Path(os.path.realpath(folder)), folder.absolute()}
    try:
        return all(
            _keeps(parent, os.geteuid()) for way in ways for parent in way.parents
        ) and not any(_others_write(way.stat(), os.geteuid()) for way in ways)
    except OSError:
        return False


def _own_folder() -> Path:
    """Return the user's own folder for temporary things, or a new one for this run."""
    try:
        user = os.geteuid()
    except AttributeError:  # Windows, whose temporary folders are the user's own
        user = None
    folder = Path(tempfile.gettempdir()) / f"mireg-{user or 0}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if user is None or (_is_own(folder, user) and _is_safe(folder)):
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
    sticky = bool(found.st_mode & stat.S_ISVTX)
    return not _others_write(found, user, sticky=sticky)


def _others_write(found: os.stat_result, user: int, *, sticky: bool = False) -> bool:
    """Tell whether a folder is somebody else's, or they may write to it."""
    # In some containers root is seen as another user.
    trusted = (0, user, os.stat("/").st_uid)
    return found.st_uid not in trusted or not (sticky or not found.st_mode & 0o022)
