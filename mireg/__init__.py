"""Rigid registration of medical images of different contrast.

Functions
---------
register: Find the rigid transform that brings a moving image into line with a fixed one
check: Judge a pose that anybody found
register_session: Bring all scans of a patient into line at once
register_series: Bring every volume of a series into line with one reference
score: Score two images at a pose by every similarity metric
contrast: Score the contrast of a scan
show: Draw two images as a mosaic of slices, each with the contours of the other
compare: Tell how far apart two transforms between the same two images are
compare_series: Tell how far apart two series of transforms are, volume by volume
prepare: Learn what depends on one image alone, to register it with any number of others
learn_prior: Learn a prior from pairs that are in line
resample: Resample an image onto the grid of another one
read_image: Read one scan from a file, or take it from what stands for an image
write_image: Write an image as a NIfTI file, whole or not at all
read_transform: Read a transform as moving_from_fixed, RAS+ mm
write_transform: Write a transform for another program, whole or not at all

Records
-------
Image: A volume of intensities in world space
PreparedImage: One image with what was learned of it, for any number of partners
RigidTransform: A rotation about a centre, then a translation, in RAS+ mm
AffineTransform: An invertible affine map, RAS+ mm to RAS+ mm, that need not be rigid
Registration: A rigid transform between two images, and how it was found
Verdict: Whether an answer is right, how far off it may be, and why
Check: What is said of a pose that anybody found
Session: Images of one patient in one frame
SeriesMotion: How a head moved from volume to volume, and how that was found
SeriesRegistration: Volumes brought into line with a reference as they come, one by one
Settings: How to register. The defaults suit every pair that was measured
Output: How an image that is brought into line with a fixed one is written
Prior: The joint intensity distribution of aligned pairs of two contrasts
Contrast: How much contrast one scan has
Comparison: How far apart two transforms, a and b, of the same two images are
SeriesComparison: How far apart two series of transforms are, volume by volume

What records hold
-----------------
LocalResiduals: How far off each block of the anatomy is, at one pose
Misfit: Neighbouring blocks that are off the same way
Optimum: A pose that explains most, nearby or everywhere, and how far it is
Distances: Distances between where two transforms put the same points, in mm
TargetErrors: Error of two transforms at landmarks marked in both images, in mm
Histogram: A distribution of intensities over bins of equal width
SessionPair: Two images of a session, registered by themselves
VolumeMotion: Where one volume lies, as `SeriesRegistration.add` found it
Series: Volumes of one head, one after the other; never more than one is read at once
SeriesFiles: The files of a series to write
Thresholds: When a volume counts as an outlier of motion
Foreground: Where the anatomy of an image is
IntensityScale: How the intensities of one image become normalised ones, from 0 to 1
Normalisation: How the intensities of an image become normalised ones, 0 to 1
Source: What an `Image` was read from

Errors and warnings
-------------------
MiregError: Any error that mireg raises on purpose
InputError: An image, transform or option that cannot be used
MissingFileError: A file or folder that is not there
OutputExistsError: A file that would be replaced, and nobody said that it may be
DoubtfulError: An answer that is doubtful, and was to be trusted
MiregWarning: An input or an answer is odd, and the work went on; the message says how
DoubtWarning: An answer is doubtful, less than 75 % likely right; the message says why

Modules
-------
information: How much distributions tell, and how far apart they are: exact measures
phantom: Synthetic anatomy in many contrasts, in an exactly known pose

For annotations
---------------
ImageLike: What stands for an image: a path, an array with its affine, ...
Interpolation: How to read between voxels
MetricName: Names of the similarity metrics
VolumeChoice: Which volume of a 4-D image: its number, "mean" or "median"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import information as information
    from . import phantom as phantom
    from ._check import Check, Optimum, check
    from ._compare import (
        Comparison,
        Distances,
        SeriesComparison,
        TargetErrors,
        compare,
        compare_series,
    )
    from ._confounds import Thresholds
    from ._contrast import Contrast, Histogram, contrast
    from ._engine.residuals import LocalResiduals, Misfit
    from ._engine.verdict import Verdict
    from ._errors import (
        DoubtfulError,
        DoubtWarning,
        InputError,
        MiregError,
        MiregWarning,
        MissingFileError,
        OutputExistsError,
    )
    from ._files.formats import ImageLike, read_image
    from ._files.nifti import write_image
    from ._files.series.names import SeriesFiles
    from ._files.series.reader import Series
    from ._image import Image, Source, VolumeChoice
    from ._intensity import IntensityScale
    from ._moved import Output
    from ._prepare import Foreground, Normalisation, PreparedImage, prepare
    from ._prior import Prior, learn_prior
    from ._register import register
    from ._registration import Registration
    from ._report.mosaic import show
    from ._resample import Interpolation, resample
    from ._score import score
    from ._series import SeriesMotion, SeriesRegistration, VolumeMotion, register_series
    from ._session import Session, SessionPair, register_session
    from ._settings import MetricName, Settings
    from ._transform import (
        AffineTransform,
        RigidTransform,
        read_transform,
        write_transform,
    )

__version__ = "0.2.0"

#: Where each public name is made.
_HOME = {
    "AffineTransform": "_transform",
    "Check": "_check",
    "Comparison": "_compare",
    "Contrast": "_contrast",
    "Distances": "_compare",
    "DoubtWarning": "_errors",
    "DoubtfulError": "_errors",
    "Foreground": "_prepare",
    "Histogram": "_contrast",
    "Image": "_image",
    "ImageLike": "_files.formats",
    "InputError": "_errors",
    "IntensityScale": "_intensity",
    "Interpolation": "_resample",
    "LocalResiduals": "_engine.residuals",
    "MetricName": "_settings",
    "MiregError": "_errors",
    "MiregWarning": "_errors",
    "Misfit": "_engine.residuals",
    "MissingFileError": "_errors",
    "Normalisation": "_prepare",
    "Optimum": "_check",
    "Output": "_moved",
    "OutputExistsError": "_errors",
    "PreparedImage": "_prepare",
    "Prior": "_prior",
    "Registration": "_registration",
    "RigidTransform": "_transform",
    "Series": "_files.series.reader",
    "SeriesComparison": "_compare",
    "SeriesFiles": "_files.series.names",
    "SeriesMotion": "_series",
    "SeriesRegistration": "_series",
    "Session": "_session",
    "SessionPair": "_session",
    "Settings": "_settings",
    "Source": "_image",
    "TargetErrors": "_compare",
    "Thresholds": "_confounds",
    "Verdict": "_engine.verdict",
    "VolumeChoice": "_image",
    "VolumeMotion": "_series",
    "check": "_check",
    "compare": "_compare",
    "compare_series": "_compare",
    "contrast": "_contrast",
    "learn_prior": "_prior",
    "prepare": "_prepare",
    "read_image": "_files.formats",
    "read_transform": "_transform",
    "register": "_register",
    "register_series": "_series",
    "register_session": "_session",
    "resample": "_resample",
    "score": "_score",
    "show": "_report.mosaic",
    "write_image": "_files.nifti",
    "write_transform": "_transform",
}

#: Public modules that are loaded when they are first used.
_MODULES = ("information", "phantom")

__all__ = [
    "AffineTransform",
    "Check",
    "Comparison",
    "Contrast",
    "Distances",
    "DoubtWarning",
    "DoubtfulError",
    "Foreground",
    "Histogram",
    "Image",
    "ImageLike",
    "InputError",
    "IntensityScale",
    "Interpolation",
    "LocalResiduals",
    "MetricName",
    "MiregError",
    "MiregWarning",
    "Misfit",
    "MissingFileError",
    "Normalisation",
    "Optimum",
    "Output",
    "OutputExistsError",
    "PreparedImage",
    "Prior",
    "Registration",
    "RigidTransform",
    "Series",
    "SeriesComparison",
    "SeriesFiles",
    "SeriesMotion",
    "SeriesRegistration",
    "Session",
    "SessionPair",
    "Settings",
    "Source",
    "TargetErrors",
    "Thresholds",
    "Verdict",
    "VolumeChoice",
    "VolumeMotion",
    "check",
    "compare",
    "compare_series",
    "contrast",
    "learn_prior",
    "prepare",
    "read_image",
    "read_transform",
    "register",
    "register_series",
    "register_session",
    "resample",
    "score",
    "show",
    "write_image",
    "write_transform",
]


if not TYPE_CHECKING:  # else a misspelt name would pass

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used (PEP 562)."""
        # So that ``mireg --help`` does not wait for the compiler.
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
