"""Files that appear under their name only when whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Open a file that appears under its name only when whole.

    It is written under a temporary name in the same folder, and moved when the
    ``with`` block ends well; otherwise nothing is left.

    Raises
    ------
    OutputExistsError
        If the file exists and not `force`.
    InputError
        If it cannot be made; `MissingFileError` if there is no folder for it.
    """
    path = Path(path)
    check_new(path, force=force)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = hidden.open("xb")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with file:
            yield file
        hidden.replace(path)
        _LOG.debug("wrote %s", path)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    except BaseException:  # Ctrl-C too
        hidden.unlink(missing_ok=True)
        raise
