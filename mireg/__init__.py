"""Rigid registration of medical images of different contrast.

The whole method is on one page, ``mireg/_register.py``. Names are loaded when they
are first used, so that ``mireg --help`` does not wait for the compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._contrast import Contrast, contrast
    from ._errors import InputError, MiregError, MiregWarning
    from ._files.formats import read_image
    from ._files.nifti import write_image
    from ._image import Image
    from ._moved import Output
    from ._prepare import PreparedImage, prepare
    from ._prior import Prior, learn_prior
    from ._register import register
    from ._registration import Registration
    from ._resample import resample
    from ._score import score
    from ._settings import Settings
    from ._transform import (
        AffineTransform,
        RigidTransform,
        read_transform,
        write_transform,
    )

__version__ = "0.1.0"

#: Where each public name is made.
_HOME = {
    "AffineTransform": "_transform",
    "Contrast": "_contrast",
    "Image": "_image",
    "InputError": "_errors",
    "MiregError": "_errors",
    "MiregWarning": "_errors",
    "Output": "_moved",
    "Prior": "_prior",
    "Registration": "_registration",
    "RigidTransform": "_transform",
    "Settings": "_settings",
    "contrast": "_contrast",
    "learn_prior": "_prior",
    "prepare": "_prepare",
    "PreparedImage": "_prepare",
    "read_image": "_files.formats",
    "read_transform": "_transform",
    "register": "_register",
    "resample": "_resample",
    "score": "_score",
    "write_image": "_files.nifti",
    "write_transform": "_transform",
}

#: Public modules that are loaded when they are first used.
_MODULES = ("information", "phantom")

__all__ = [
    "AffineTransform",
    "Contrast",
    "Image",
    "InputError",
    "MiregError",
    "MiregWarning",
    "Output",
    "PreparedImage",
    "Prior",
    "Registration",
    "RigidTransform",
    "Settings",
    "contrast",
    "learn_prior",
    "prepare",
    "read_image",
    "read_transform",
    "register",
    "resample",
    "score",
    "write_image",
    "write_transform",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"mireg.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'mireg' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mireg.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name what is public."""
    return [*__all__, *_MODULES, "__version__"]
