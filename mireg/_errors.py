"""What can go wrong, as types, and the one way to warn."""

from __future__ import annotations

import sys
import warnings


def printable(text: str) -> str:
    r"""Escape what a terminal would not show but obey, line breaks among it.

    Names of files and texts in them are somebody else's; what is told of them is one
    line.

    Examples
    --------
    >>> print(printable("t1\x1b[2J.nii\n"))
    t1\x1b[2J.nii\n
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def not_read(error: OSError) -> str:
    """Say that a file cannot be read, and what to do."""
    reason = error.strerror or error
    return f"cannot be read ({reason}); check the path, and that you may read it"


def not_written(error: OSError | ValueError) -> str:
    """Say that a file or folder cannot be written, and what to do."""
    reason = getattr(error, "strerror", None) or error
    return f"cannot be written ({reason}); choose another name or folder"


class MiregError(Exception):
    """Any error that mireg raises on purpose.

    Its message is one printable line.
    """

    def __init__(self, message: str = "", *more: object) -> None:
        super().__init__(printable(message), *more)

    def __reduce__(self) -> tuple[type[MiregError], tuple[object, ...]]:
        """Travel between processes, by whatever sends it: Dask has a way of its own."""
        return type(self), self.args


class InputError(MiregError, ValueError):
    """An image, transform or option that cannot be used.

    The message is one line: what is wrong, where, and what to do about it.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that is not there."""


class ImagesNeededError(InputError):
    """A transform file that says nothing without the two images."""


class FormatNeededError(InputError):
    """A transform file whose name does not say its format."""


class FrameNeededError(InputError):
    """Landmarks whose file does not say their frame."""


class OutputExistsError(InputError, FileExistsError):
    """A file that would be replaced, and nobody said that it may be.

    What writes files replaces them with ``force=True``.
    """


class DoubtfulError(MiregError):
    """An answer that is doubtful, and was to be trusted.

    Raised by `Registration.raise_if_doubtful` alone.
    """


class MiregWarning(UserWarning):
    """An input or an answer is odd, and the work went on; the message says how.

    Of an answer that is doubtful it is a `DoubtWarning`.
    """


class DoubtWarning(MiregWarning):
    """An answer is doubtful, less than 75 % likely right; the message says why.

    ``warnings.simplefilter("error", mireg.DoubtWarning)`` makes an error of each, where
    it is found; `Registration.raise_if_doubtful` raises a `DoubtfulError` when asked.
    """


def warn(message: str, kind: type[MiregWarning] = MiregWarning) -> None:
    """Warn of what is odd, at the line outside mireg that asked for the work."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 2
    while frame.f_back and _is_within(package, frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(message), kind, stacklevel=level)


def _is_within(package: str, module: str) -> bool:
    """Tell whether a module belongs to a package."""
    return module.partition(".")[0] == package
