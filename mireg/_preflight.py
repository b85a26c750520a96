# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What the headers say of one image or a pair, and what will be done about it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ._contrast import contrast
from ._files.faults import useless
from ._files.formats import n_volumes
from ._files.headers import qform_distance_mm
from ._image import Image
from ._overlap import HARDLY, overlap_fraction, overlap_mm3

FloatArray = npt.NDArray[np.float64]

#: What an image is called that came without a file.
_NAMES = ("the fixed image", "the moving image")

#: Axes further from square than this, in degrees, are no rounding of the header.
_SHEARED_DEG = 0.1

#: Thin: fewer voxels along an axis, or a smaller part of the longest side.
_FEW_VOXELS = 8
_THIN = 0.2

_KINDS = {
    "Nifti1Image": "NIfTI-1",
    "Nifti1Pair": "NIfTI-1, header and image apart",
    "Nifti2Image": "NIfTI-2",
    "Nifti2Pair": "NIfTI-2, header and image apart",
    "AnalyzeImage": "Analyze",
    "Spm99AnalyzeImage": "Analyze of SPM",
    "Spm2AnalyzeImage": "Analyze of SPM",
    "MGHImage": "FreeSurfer MGH",
    "Minc1Image": "MINC 1",
    "Minc2Image": "MINC 2",
    "PARRECImage": "Philips PAR/REC",
    "AFNIImage": "AFNI",
}


@dataclass(frozen=True)
class ImageReport:
    """What is known of one image before it is registered.

    Attributes
    ----------
    path : str or None
        The file.
    kind : str
        Its format.
    voxel_type : str
        Type of the stored voxels.
    shape : tuple of int
        Voxels along each axis.
    volumes : int
        1, or how many a 4-D image has.
    voxel_size_mm, field_of_view_mm : tuple of float
        Along each voxel axis.
    axes : str
        Where the voxel axes point, most nearly: RAS is right, anterior, superior.
    right_handed : bool
        Whether the voxel axes turn as the world's do; if not, the file is stored
        in "radiological" order.
    oblique_deg : float
        Largest angle between a voxel axis and the nearest axis of the world.
    shear_deg : float
        How far two voxel axes are from square, at most.
    qform_code, sform_code : int or None
        Of a NIfTI header.
    qform_sform_mm : float or None
        How far apart the two place a corner of the image, at most; None unless both
        are set and the qform is a rotation.
    thin_axes : tuple of int
        Voxel axes, from 0, along which there is too little to tell a turn by.
    low, high : float or None
        Range of the intensities; None if there are none.
    no_data_fraction : float
        Share of the voxels that are NaN or infinite.
    contrast_bits, structure : float or None
        Scores of the contrast, see `mireg._contrast.Contrast`; None if there is none.
    useless : str or None
        Why it cannot be registered, if so.
    notes : tuple of str
        What is odd, and what is done about it.
    """

    path: str | None
    kind: str
    voxel_type: str
    shape: tuple[int, ...]
    volumes: int
    voxel_size_mm: tuple[float, ...]
    field_of_view_mm: tuple[float, ...]
    axes: str
    right_handed: bool
    oblique_deg: float
    shear_deg: float
    qform_code: int | None
    sform_code: int | None
    qform_sform_mm: float | None
    thin_axes: tuple[int, ...]
    low: float | None
    high: float | None
    no_data_fraction: float
    contrast_bits: float | None
    structure: float | None
    useless: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PairReport:
    """How two images lie to each other by their headers.

    Attributes
    ----------
    overlap_mm3 : float
        Volume that both fields of view share.
    overlap_fraction : float
        The same, as a share of the smaller field of view.
    centres_apart_mm : float
        Distance between the centres of the grids.
    notes : tuple of str
        What is odd, and what is done about it.
    """

    overlap_mm3: float
    overlap_fraction: float
    centres_apart_mm: float
    notes: tuple[str, ...]


def inspect_image(image: Image, name: str = "the image") -> ImageReport:
    """Say what is known of an image before it is registered.

    Parameters
    ----------
    image : Image
        As `mireg._files.formats.take_volume` or `mireg.read_image` gives it.
    name : str, optional
        What the notes call it, if it is no file.

    Examples
    --------
    >>> import numpy as np
    >>> slab = Image(np.arange(480).reshape(12, 10, 4), np.diag([-2.0, 2, 5, 1]))
    >>> report = inspect_image(slab)
    >>> report.axes, report.right_handed, report.field_of_view_mm
    ('LAS', False, (24.0, 20.0, 20.0))
    >>> print(*report.notes)
    the image: only 4 voxels (20 mm) along axis k; turns out of its plane are uncertain
    """
    opened = None if image.source is None else image.source.opened
    stored = image.data.dtype if opened is None else opened.get_data_dtype()
    header = opened.header if isinstance(opened, nib.Nifti1Pair) else None
    distance = qform_distance_mm(opened)
    why = useless(image)
    scored = contrast(image) if why is None else None
    called = name if image.source is None else image.source.path or name
    doubts = [f"{called}: {scored.doubt}"] if scored and scored.doubt else []
    missing = int(np.isnan(image.data).sum())
    some = missing < image.data.size
    return ImageReport(
        path=None if image.source is None else image.source.path,
        kind=_KINDS.get(type(opened).__name__, "an array"),
        voxel_type=np.dtype(stored).name,
        shape=image.shape,
        volumes=1 if opened is None else n_volumes(opened),
        voxel_size_mm=_numbers(image.voxel_size_mm),
        field_of_view_mm=_numbers(_field_of_view_mm(image)),
        axes="".join(nib.aff2axcodes(image.mm_from_ijk)),
        right_handed=bool(np.linalg.det(image.mm_from_ijk[:3, :3]) > 0),
        oblique_deg=_oblique_deg(image),
        shear_deg=_shear_deg(image),
        qform_code=None if header is None else int(header["qform_code"]),
        sform_code=None if header is None else int(header["sform_code"]),
        qform_sform_mm=None if distance is None or math.isnan(distance) else distance,
        thin_axes=_thin_axes(image),
        low=float(np.nanmin(image.data)) if some else None,
        high=float(np.nanmax(image.data)) if some else None,
        no_data_fraction=missing / image.data.size,
        contrast_bits=None if scored is None else scored.score,
        structure=None if scored is None else scored.structure,
        useless=why,
        notes=(*_image_notes(image, name), *doubts),
    )


def inspect_pair(fixed: Image, moving: Image) -> PairReport:
    """Say how two images lie to each other by their headers.

    Examples
    --------
    >>> import numpy as np
    >>> cube = np.arange(1000).reshape(10, 10, 10)
    >>> beside = np.eye(4)
    >>> beside[0, 3] = 6
    >>> report = inspect_pair(Image(cube, np.eye(4)), Image(cube, beside))
    >>> round(report.overlap_mm3), report.centres_apart_mm
    (400, 6.0)
    """
    share = overlap_fraction(fixed, moving)
    return PairReport(
        overlap_mm3=overlap_mm3(fixed, moving),
        overlap_fraction=share,
        centres_apart_mm=float(np.linalg.norm(fixed.centre_mm - moving.centre_mm)),
        notes=(*_pair_notes(share), *_same_file_notes(fixed, moving)),
    )


def notes(fixed: Image, moving: Image) -> tuple[str, ...]:
    """Say what is odd about two images, and what is done about it."""
    each = [
        note
        for image, name in zip((fixed, moving), _NAMES, strict=True)
        for note in _image_notes(image, name)
    ]
    return (*each, *inspect_pair(fixed, moving).notes)


def _field_of_view_mm(image: Image) -> FloatArray:
    """Length of each side, outermost voxels included."""
    return image.voxel_size_mm * image.shape


def _oblique_deg(image: Image) -> float:
    """Largest angle between a voxel axis and the nearest axis of the world."""
    nearest = np.abs(_directions(image)).max(axis=0)
    return float(np.rad2deg(np.arccos(np.minimum(nearest, 1)).max()))


def _shear_deg(image: Image) -> float:
    """Tell how far two voxel axes are from square, at most."""
    directions = _directions(image)
    cosines = directions.T @ directions
    off = np.abs(cosines[np.triu_indices(3, 1)]).max()
    return float(np.rad2deg(np.arcsin(min(off, 1))))


def _directions(image: Image) -> FloatArray:
    """Give unit vectors along the voxel axes, as columns."""
    return image.mm_from_ijk[:3, :3] / image.voxel_size_mm


def _thin_axes(image: Image) -> tuple[int, ...]:
    """Voxel axes along which there is too little to tell a turn by."""
    sides = _field_of_view_mm(image)
    thin = (np.array(image.shape) < _FEW_VOXELS) | (sides < _THIN * sides.max())
    return tuple(int(axis) for axis in np.flatnonzero(thin))


def _image_notes(image: Image, name: str) -> tuple[str, ...]:
    """Say what is odd about one image; first what was so when it was read."""
    read: tuple[str, ...] = ()
    if image.source is not None:
        read = image.source.notes
        name = image.source.path or name
    found = []
    shear = _shear_deg(image)
    if shear > _SHEARED_DEG:
        found.append(
            f"{name}: its voxel axes are {shear:.2g} degrees from square (a tilted "
            "gantry?); used as they are"
        )
    for axis in _thin_axes(image):
        n, side = image.shape[axis], _field_of_view_mm(image)[axis]
        voxels = "1 voxel" if n == 1 else f"{n} voxels"
        found.append(
            f"{name}: only {voxels} ({side:.3g} mm) along axis {'ijk'[axis]}; turns "
            "out of its plane are uncertain"
        )
    return (*read, *found)


def _pair_notes(overlap: float) -> tuple[str, ...]:
    """Say what is odd about a pair of which this share overlaps."""
    if overlap >= HARDLY:
        return ()
    how = "do not overlap" if overlap == 0 else f"overlap by {100 * overlap:.1g} % only"
    return (
        f"by their headers the images {how}; keep init auto, which searches every pose",
    )


def _same_file_notes(fixed: Image, moving: Image) -> tuple[str, ...]:
    """Say that two images are one, as if a name was typed twice."""
    one, other = fixed.source, moving.source
    if one is None or other is None or one.path is None or other.path is None:
        return ()
    if one.volume != other.volume:
        return ()
    if os.path.realpath(one.path) != os.path.realpath(other.path):
        return ()
    return (f"both images are {one.path}; give another, unless that is meant",)


def _numbers(values: npt.ArrayLike) -> tuple[float, ...]:
    """Plain numbers, rounded to what float32 headers hold."""
    return tuple(round(float(value), 6) for value in np.asarray(values))
