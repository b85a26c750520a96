"""Files that appear under their names only when whole, all of a set or none."""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO

from .._errors import (
    InputError,
    MissingFileError,
    OutputExistsError,
    not_written,
)

try:
    import fcntl
except ImportError:  # Windows, where no file is removed that is open
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

#: What stops a program and leaves it the time to clean up.
STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
)

#: What is left under a temporary name is removed when it is so old, seconds: that one
#: lock may not be seen on every machine that shares a folder.
_STALE_S = 3600.0

#: Files under temporary names, and the process that writes them.
_drafts: dict[Path, int] = {}

#: Held while files get their names.
publishing = threading.RLock()


def check_new(path: PathLike, *, force: bool = False) -> None:
    """Refuse a file that cannot be written: taken, or nobody may write there."""
    path = Path(path)
    taken = os.path.lexists(path)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        raise InputError(f"{path}: {not_written(error)}") from error
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: this is a device or a pipe; choose another name")
    if taken and not force:
        dangling = "" if path.exists() else ", as a link to what is missing"
        raise OutputExistsError(
            f"{path}: exists already{dangling}; choose another name or give force=True"
        )
    folder = _target(path).parent
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: there is no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"{path}: nothing can be written into its folder; choose another folder"
        )


def _target(path: Path) -> Path:
    """Give the file that a symbolic link leads to; it is replaced, not the link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextmanager
def new_file(path: PathLike, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when whole; see `new_files`."""
    with new_files([path], force=force) as files:
        yield files[Path(path)]


@contextmanager
def new_files(
    paths: Iterable[PathLike], *, force: bool = False
) -> Iterator[dict[Path, BinaryIO]]:
    """Open files that appear under their names together, when all are whole.

    They are written under temporary names, each in the folder where it belongs, and
    get their own names when the ``with`` block ends well. If one cannot, or an
    interrupt comes, those that did are taken back, and what they replaced is there
    again. A file that somebody else puts there meanwhile is replaced only by `force`. A
    new file has the permissions of the one that it replaces; where that is a symbolic
    link, the file it leads to is replaced.

    What runs that were killed have left in these folders is removed once it is old.

    Raises
    ------
    OutputExistsError
        If the file exists and not `force`.
    InputError
        If a file cannot be made (`MissingFileError`: there is no folder for it), or two
        have one name.
    """
    targets = [Path(path) for path in paths]
    for path in targets:
        check_new(path, force=force)
    for path, other in combinations(targets, 2):
        if os.path.realpath(path) == os.path.realpath(other):
            raise InputError(f"{path}: two outputs have this name; choose another")
    for folder in {_target(path).parent for path in targets}:
        _sweep(folder)
    drafts: dict[Path, Path] = {}
    files: dict[Path, BinaryIO] = {}
    try:
        with _in_peace():
            for path in targets:
                with _naming(path):
                    drafts[path] = _beside(_target(path), "part")
                    _drafts[drafts[path]] = os.getpid()
                    files[path] = drafts[path].open("xb")
                    _lock(files[path])
        with _naming(*targets):
            yield files
        with _in_peace() as let_stop:
            for path, file in files.items():
                with _naming(path):
                    file.close()
            _publish(drafts, let_stop, force=force)
        _LOG.debug("wrote %s", ", ".join(map(str, targets)))
    finally:
        with _in_peace():
            for file in files.values():
                with suppress(OSError):  # what a full disk did not take is told by then
                    file.close()
            _discard(drafts.values())


def _publish(
    drafts: dict[Path, Path], let_stop: Callable[[], None], *, force: bool
) -> None:
    """Give files their names: all of them, or none."""
    backups = []
    with publishing, ExitStack() as take_back:
        for path, draft in drafts.items():
            target = _target(path)
            with _naming(path):
                if force and os.path.lexists(target):
                    backups.append(_replace(draft, target, take_back))
                else:
                    _appear(draft, target)
                    take_back.callback(target.unlink, missing_ok=True)
        let_stop()
        take_back.pop_all()
        for backup in backups:
            with suppress(OSError):
                backup.unlink()


@contextmanager
def _in_peace() -> Iterator[Callable[[], None]]:
    """Let an interrupt wait for the end, or until the function given is called."""
    waiting: list[int] = []
    handlers: dict[int, Callable[[int, Any], Any]] = {}

    def let_stop() -> None:
        while waiting:
            number = waiting.pop()
            handlers[number](number, None)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                handler = signal.getsignal(number)
                if callable(handler):
                    handlers[number] = handler
                    signal.signal(number, lambda number, _: waiting.append(number))
        yield let_stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        let_stop()


def discard_all() -> None:
    """Leave no file of this process under a temporary name."""
    _discard([draft for draft, owner in [*_drafts.items()] if owner == os.getpid()])


atexit.register(discard_all)


def _discard(drafts: Iterable[Path]) -> None:
    """Leave nothing under temporary names."""
    for draft in drafts:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        _drafts.pop(draft, None)


def _sweep(folder: Path) -> None:
    """Remove what runs of this user that were killed have left in a folder."""
    try:
        names = os.listdir(folder)
    except OSError:  # one may write to it, not look into it
        return
    for name in names:
        if not re.fullmatch(r"\.mireg-[0-9a-f]{16}\.part", name):
            continue
        path = folder / name
        with suppress(OSError):
            found = path.lstat()
            mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            old = time.time() - found.st_mtime > _STALE_S
            if mine and old and stat.S_ISREG(found.st_mode):
                with path.open("rb") as file:
                    _lock(file)
                path.unlink()


def _lock(file: BinaryIO) -> None:
    """Let others see that a file is in use, or raise OSError if they use it."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # the file system knows no locks


def _beside(path: Path, ending: str) -> Path:
    """Make up a name in the folder of a file that nobody else uses."""
    return path.with_name(f".mireg-{secrets.token_hex(8)}.{ending}")


@contextmanager
def _naming(*paths: Path) -> Iterator[None]:
    """Say which files cannot be written."""
    try:
        yield
    except InputError:  # some are OSErrors, too, and say more
        raise
    except OSError as error:
        names = ", ".join(map(str, paths))
        raise InputError(f"{names}: {not_written(error)}") from error


def _appear(draft: Path, path: Path) -> None:
    """Give a file its name, unless that is taken by now."""
    try:
        os.link(draft, path)
        return
    except FileExistsError:
        check_new(path)  # says what is there
        raise
    except (OSError, NotImplementedError):
        pass  # the file system has no hard links
    check_new(path)
    path.open("xb").close()
    try:
        draft.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _replace(draft: Path, path: Path, take_back: ExitStack) -> Path:
    """Put a file in the place of another; return where that one is kept."""
    check_new(path, force=True)
    old = path.stat()
    if hasattr(os, "chown"):
        with suppress(OSError):  # a group of this user, or root may give files away
            os.chown(
                draft, -1 if old.st_uid == os.geteuid() else old.st_uid, old.st_gid
            )
    with suppress(OSError):
        draft.chmod(stat.S_IMODE(old.st_mode))
    # Not a name that is swept: where the work is cut off here, it is the only copy.
    backup = _beside(path, "kept")
    try:
        os.link(path, backup, follow_symlinks=False)
    except (OSError, NotImplementedError):  # no hard links, or not to this file
        path.replace(backup)
    take_back.callback(_restore, backup, path)
    draft.replace(path)
    return backup


def _restore(backup: Path, path: Path) -> None:
    """Put a replaced file back, or say where it is."""
    try:
        backup.replace(path)
        # Where both names are of one file, that does nothing.
        backup.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: the old file cannot be put back ({error.strerror}); rename "
            f"the copy that is kept, {backup}"
        ) from error
