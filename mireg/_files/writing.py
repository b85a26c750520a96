"""Files that appear under their names only when whole, all of a set or none."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .._errors import InputError, MissingFileError, OutputExistsError

_LOG = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


def check_new(path: PathLike, *, force: bool = False) -> None:
    """Refuse a file that cannot be written: taken, or its folder is missing."""
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent}: there is no such folder; make it first")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give a file name")
    if path.exists() and not force:
        raise OutputExistsError(f"{path}: exists already; choose another name")


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
    get their own names when the ``with`` block ends well. If one cannot, those that
    did are taken back, and what they replaced is there again. A file that somebody
    else puts there meanwhile is replaced only by `force`. A new file has the
    permissions of the one that it replaces.

    Raises
    ------
    OutputExistsError
        If the file exists and not `force`.
    InputError
        If a file cannot be made (`MissingFileError`: there is no folder for it), or two
        have one name.
    """
    wanted = [Path(path) for path in paths]
    for path in wanted:
        check_new(path, force=force)
        if wanted.count(path) > 1:
            raise InputError(f"{path}: two outputs have this name; choose another")
    with ExitStack() as clean_up:
        drafts: dict[Path, Path] = {}
        files: dict[Path, BinaryIO] = {}
        for path in wanted:
            with _naming(path):
                drafts[path] = _beside(path)
                files[path] = drafts[path].open("xb")
            clean_up.callback(_discard, files[path], drafts[path])
        with _naming(*wanted):
            yield files
        for path, file in files.items():
            with _naming(path):
                file.close()
        backups = []
        with ExitStack() as take_back:
            for path, draft in drafts.items():
                with _naming(path):
                    if force and os.path.lexists(path):
                        backups.append(_replace(draft, path, take_back))
                    else:
                        _appear(draft, path)
                        take_back.callback(path.unlink, missing_ok=True)
            take_back.pop_all()
        _LOG.debug("wrote %s", ", ".join(map(str, wanted)))
        for backup in backups:
            with suppress(OSError):
                backup.unlink()


def _discard(file: BinaryIO, draft: Path) -> None:
    """Leave nothing under the temporary name."""
    with suppress(OSError):  # what a full disk did not take is told by then
        file.close()
    draft.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Make up a name in the folder of a file that nobody else uses."""
    return path.with_name(f".mireg-{secrets.token_hex(8)}.part")


@contextmanager
def _naming(*paths: Path) -> Iterator[None]:
    """Say which files cannot be written."""
    try:
        yield
    except InputError:  # some are OSErrors, too, and say more
        raise
    except OSError as error:
        names = ", ".join(map(str, paths))
        raise InputError(f"{names}: cannot be written ({error.strerror})") from error


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
    with suppress(OSError):
        draft.chmod(stat.S_IMODE(path.stat().st_mode))
    backup = _beside(path)
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
            f"{path}: cannot be put back ({error.strerror}); it is kept as {backup}"
        ) from error
