"""What can go wrong, as types, and the one way to warn."""

from __future__ import annotations

import sys
import warnings


class MiregError(Exception):
    """Any error that mireg raises on purpose."""


class InputError(MiregError, ValueError):
    """An image, transform or option that cannot be used.

    The message is one line: what is wrong, where, and what to do about it.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that is not there."""


class OutputExistsError(InputError, FileExistsError):
    """A file that would be replaced, and nobody said that it may be."""


class DoubtfulError(MiregError):
    """An answer that is more likely wrong than right, and was to be trusted."""


class MiregWarning(UserWarning):
    """An input is odd, and the work went on; the message says how."""


def warn(message: str) -> None:
    """Warn of what is odd, at the line outside mireg that asked for the work."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 2
    while frame.f_back and _is_within(package, frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MiregWarning, stacklevel=level)


def _is_within(package: str, module: str) -> bool:
    """Tell whether a module belongs to a package."""
    return module.partition(".")[0] == package
