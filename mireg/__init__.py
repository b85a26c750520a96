"""Rigid registration of medical images of different contrast.

The whole method is on one page, ``mireg/register.py``. Names are loaded when they
are first used, so that ``mireg --help`` does not wait for the compiler.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .contrast import Contrast, contrast
    from .errors import InputError, MiregError, MiregWarning
    from .formats import read_image
    from .image import Image
    from .moved import Output
    from .nifti import write_image
    from .prior import Prior, learn_prior
    from .register import register
    from .registration import Registration
    from .resample import resample
    from .score import score
    from .settings import Settings
    from .transform import RigidTransform
    from .transform_files import read_transform, write_transform

__version__ = "0.1.0"

_HOME = {
    "Contrast": "contrast",
    "Image": "image",
    "InputError": "errors",
    "MiregError": "errors",
    "MiregWarning": "errors",
    "Output": "moved",
    "Prior": "prior",
    "Registration": "registration",
    "RigidTransform": "transform",
    "Settings": "settings",
    "contrast": "contrast",
    "learn_prior": "prior",
    "read_image": "formats",
    "read_transform": "transform_files",
    "register": "register",
    "resample": "resample",
    "score": "score",
    "write_image": "nifti",
    "write_transform": "transform_files",
}

__all__ = [
    "Contrast",
    "Image",
    "InputError",
    "MiregError",
    "MiregWarning",
    "Output",
    "Prior",
    "Registration",
    "RigidTransform",
    "Settings",
    "contrast",
    "learn_prior",
    "read_image",
    "read_transform",
    "register",
    "resample",
    "score",
    "write_image",
    "write_transform",
]


class _Package(types.ModuleType):
    """A package whose functions win over the modules of the same name."""

    def __getattribute__(self, name: str) -> object:
        """Load a public name from its room when it is first used."""
        home = types.ModuleType.__getattribute__(self, "_HOME").get(name)
        if home is not None:
            return getattr(importlib.import_module(f"mireg.{home}"), name)
        return types.ModuleType.__getattribute__(self, name)


sys.modules[__name__].__class__ = _Package
