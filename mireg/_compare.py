"""How far apart two transforms, or two series of them, of the same images are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ._errors import InputError, warn
from ._files.formats import ImageLike, as_grid, as_volume
from ._files.landmarks import (
    Frame,
    Landmarks,
    PairedBy,
    landmarks_in,
    numbers,
    paired,
    some_of,
    text_of,
)
from ._files.transforms.common import LPS_FROM_RAS, Images
from ._files.transforms.series import holds_series, read_series_matrices
from ._image import Image, are_inside, checked_points
from ._prepare import PreparedImage, prepare
from ._transform import (
    RigidTransform,
    Transform,
    TransformLike,
    as_transform,
)

FloatArray = npt.NDArray[np.float64]

#: Radius of the sphere that stands for a head in FSL's rmsdiff, mm.
_FSL_RADIUS_MM = 80.0

#: A box the size of a head, mm, and how far its points are apart.
_BOX_MM, _STEP_MM = (150.0, 180.0, 150.0), 7.5

#: Which way the translation of a comparison goes, where, and of which point.
TRANSLATION_IS = (
    "from where A shows the moving image to where B shows it, in the fixed image (RAS+ "
    "mm), at centre_mm"
)

#: Points that are mapped at once.
_CHUNK = 1 << 20

#: Points at which each volume of a series is compared, at most.
_SERIES_POINTS = 20_000

#: What exchanges RAS and LPS.
_OTHER_FRAME = LPS_FROM_RAS.diagonal()[:3]

#: Share of their error that landmarks in the wrong frame have in the right one.
_FAR_BETTER = 0.1

#: The transforms of a series: a file, a folder or an array; or one for all volumes.
SeriesOrTransform = TransformLike | Sequence[npt.NDArray[np.number]]


#: Landmarks: a file, or points in RAS+ mm.
Points = npt.ArrayLike | str | os.PathLike[str]


@dataclass(frozen=True)
class Distances:
    """Distances between where two transforms put the same points, in mm.

    Attributes
    ----------
    mean, rms, percentile_95, max : float
        Mean, root mean square, 95th percentile and maximum.
    """

    mean: float
    rms: float
    percentile_95: float
    max: float

    @classmethod
    def of(cls, distances: FloatArray) -> Distances:
        """Summarise distances, shape (n,)."""
        return cls(
            mean=float(distances.mean()),
            rms=float(np.sqrt(np.square(distances).mean())),
            percentile_95=float(np.percentile(distances, 95)),
            max=float(distances.max()),
        )

    def to_dict(self) -> dict[str, float]:
        """Give the figures, ready for JSON."""
        return {
            "mean_mm": self.mean,
            "rms_mm": self.rms,
            "percentile_95_mm": self.percentile_95,
            "max_mm": self.max,
        }


@dataclass(frozen=True, eq=False, repr=False)
class TargetErrors:
    """Error of two transforms at landmarks marked in both images, in mm.

    Attributes
    ----------
    labels : tuple of str
        Names of the landmarks.
    a_mm, b_mm : (n,) ndarray
        Target registration error of each transform at each landmark: from where it puts
        the point of the fixed image to the point that was marked in the moving image.
    paired_by : {"label", "order"}
        What told which landmarks belong together.
    """

    labels: tuple[str, ...]
    a_mm: FloatArray
    b_mm: FloatArray
    paired_by: PairedBy

    @property
    def a(self) -> Distances:
        """The errors of a summarised."""
        return Distances.of(self.a_mm)

    @property
    def b(self) -> Distances:
        """The errors of b summarised."""
        return Distances.of(self.b_mm)

    def __repr__(self) -> str:
        """Say in one line how large they are."""
        return (
            f"<TargetErrors at {len(self.labels)} landmarks: {self.a.mean:.3g} mm of a "
            f"and {self.b.mean:.3g} mm of b, on average>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give all figures, ready for JSON."""
        rows = zip(self.labels, self.a_mm.tolist(), self.b_mm.tolist(), strict=True)
        return {
            "paired_by": self.paired_by,
            "errors": [{"label": label, "a_mm": a, "b_mm": b} for label, a, b in rows],
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """How far apart two transforms, a and b, of the same two images are.

    Attributes
    ----------
    over : str
        Over what the distances are taken, in words.
    distances : Distances
        Between where a and b put its points. With a the truth, the target registration
        error of b; in the space of the moving image.
    axes_max_mm : (3,) ndarray
        Largest of them along each axis of the fixed image's space (RAS+): to the right
        or left, the front or back, the top or bottom.
    rotation_deg : float
        By how many degrees one is turned against the other, 0 to 180; that of the
        nearest rotation where they also stretch.
    centre_mm : (3,) ndarray
        Centroid of what the distances are taken over, RAS+ mm of the fixed image.
    translation_mm : (3,) ndarray
        From where a shows the moving image to where b shows it, at `centre_mm`: RAS+ mm
        of the fixed image. That of b's inverse after a, not a difference of the two
        translations.
    fsl_rmsdiff_mm : float
        What FSL's ``rmsdiff`` gives: root mean square distance over a sphere of 80 mm
        about `fsl_centre_mm`.
    fsl_centre_mm : (3,) ndarray
        Centre of the fixed image's grid, as FSL takes it, or of the box without one.
    landmarks : tuple of str
        Names of the landmarks, if there are any.
    landmark_errors_mm : (n,) ndarray
        Distance at each landmark.
    landmark_distances : Distances or None
        The same summarised.
    target_errors : TargetErrors or None
        Errors of a and of b at landmarks that are marked in both images, if there are
        any.
    """

    over: str
    distances: Distances
    axes_max_mm: FloatArray
    rotation_deg: float
    centre_mm: FloatArray
    translation_mm: FloatArray
    fsl_rmsdiff_mm: float
    fsl_centre_mm: FloatArray
    landmarks: tuple[str, ...]
    landmark_errors_mm: FloatArray
    landmark_distances: Distances | None
    target_errors: TargetErrors | None

    def __repr__(self) -> str:
        """Say in one line how far apart they are."""
        far = self.distances
        return (
            f"<Comparison: {far.mean:.3g} mm apart on average, {far.max:.3g} mm at "
            f"most, {self.rotation_deg:.3g} degrees, over {self.over}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give all figures, ready for JSON."""
        record: dict[str, Any] = {
            "over": self.over,
            **self.distances.to_dict(),
            "axes_max_mm": self.axes_max_mm.tolist(),
            "rotation_deg": self.rotation_deg,
            "centre_mm": self.centre_mm.tolist(),
            "translation_mm": self.translation_mm.tolist(),
            "translation_is": TRANSLATION_IS,
            "fsl_rmsdiff_mm": self.fsl_rmsdiff_mm,
            "fsl_centre_mm": self.fsl_centre_mm.tolist(),
        }
        if self.landmark_distances is not None:
            record["landmarks"] = {
                "errors_mm": [
                    {"label": label, "error_mm": float(error)}
                    for label, error in zip(
                        self.landmarks, self.landmark_errors_mm, strict=True
                    )
                ],
                **self.landmark_distances.to_dict(),
            }
        if self.target_errors is not None:
            record["target_errors"] = self.target_errors.to_dict()
        return record


@dataclass(frozen=True, eq=False, repr=False)
class SeriesComparison:
    """How far apart two series of transforms are, volume by volume.

    Attributes
    ----------
    over : str
        Over what the distances are taken, in words.
    volumes : tuple of Distances
        For each volume, between where a and b put the points.
    rotations_deg : (n,) ndarray
        By how many degrees one is turned against the other, in each volume.
    distances : Distances
        Of the mean distances of the volumes: their mean, root mean square, 95th
        percentile and maximum.
    worst : int
        The volume whose mean distance is largest, from 0.
    """

    over: str
    volumes: tuple[Distances, ...]
    rotations_deg: FloatArray
    distances: Distances
    worst: int

    def __repr__(self) -> str:
        """Say in one line how far apart they are."""
        far = self.distances
        return (
            f"<SeriesComparison of {len(self.volumes)} volumes: {far.mean:.3g} mm "
            f"apart on average, {far.max:.3g} mm in volume {self.worst}, over "
            f"{self.over}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give all figures, ready for JSON."""
        return {
            "over": self.over,
            **self.distances.to_dict(),
            "worst_volume": self.worst,
            "max_rotation_deg": float(self.rotations_deg.max()),
            "volumes": [
                {**one.to_dict(), "rotation_deg": angle}
                for one, angle in zip(
                    self.volumes, self.rotations_deg.tolist(), strict=True
                )
            ],
        }


def compare(
    a: TransformLike,
    b: TransformLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    over: ImageLike | None = None,
    points: Points | None = None,
    fixed_points: Points | None = None,
    moving_points: Points | None = None,
    points_frame: Frame | None = None,
) -> Comparison:
    """Tell how far apart two transforms between the same two images are.

    Parameters
    ----------
    a, b : RigidTransform, AffineTransform, (4, 4) array_like, path or "identity"
        Map points of `fixed` to points of `moving`, RAS+ mm; a path as
        `mireg.read_transform` reads it.
    fixed, moving : Image, path, nibabel image, SimpleITK image or tuple, optional
        The two images; transform files of FSL and AFNI need both.
    over : as `fixed`, optional
        In the space of `fixed`: a mask, an image of nothing but 0 and one other value;
        or an image, whose foreground is taken (default: `fixed`, or else a box of 150 x
        180 x 150 mm about the origin).
    points : path or (n, 3) array_like, optional
        Landmarks in the space of `fixed`, at which to compare a with b: a file, or
        points in RAS+ mm.
    fixed_points, moving_points : as `points`, optional
        Landmarks that were marked in both images, each in its own space, for the error
        of a and of b at them. Those of the same label belong together, whatever their
        order; without labels, or where no label is in both, those of the same place in
        the list.
    points_frame : {"ras", "lps"}, optional
        Frame of those files that do not say it, in upper or lower case.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If a file cannot be read, an image has no contrast, a mask is empty, or the
        landmarks of the two images are not the same.

    Examples
    --------
    >>> one_mm_right = RigidTransform([0, 0, 0], [1, 0, 0])
    >>> compare("identity", one_mm_right)
    <Comparison: 1 mm apart on average, 1 mm at most, 0 degrees, over a box of 150 x
     180 x 150 mm about the origin>

    Points that lie 3 mm further right in the moving image, before and after:

    >>> fixed_points = np.array([[10, 0, 0], [0, 50, 0]])
    >>> compare(
    ...     "identity",
    ...     one_mm_right,
    ...     fixed_points=fixed_points,
    ...     moving_points=fixed_points + [3, 0, 0],
    ... ).target_errors
    <TargetErrors at 2 landmarks: 3 mm of a and 2 mm of b, on average>
    """
    first, second = (
        _transform(given, name, fixed, moving)
        for given, name in ((a, "the first transform"), (b, "the second transform"))
    )
    marks = _landmarks(
        {
            "points": points,
            "fixed_points": fixed_points,
            "moving_points": moving_points,
        },
        points_frame,
    )
    region, name = _region(fixed if over is None else over)
    centre = region.mean(axis=0)
    grid = None if fixed is None else as_grid(fixed)
    there = np.zeros(3) if grid is None else grid.centre_mm
    # Where b puts, in the fixed image, what a puts at a point.
    b_from_a = (~second @ first).matrix
    for role in ("points", "fixed_points"):
        if grid is not None and role in marks:
            _note_outside(marks[role], grid, "the fixed image")
    if moving is not None and "moving_points" in marks:
        _note_outside(marks["moving_points"], as_grid(moving), "the moving image")
    at = marks.get("points", Landmarks((), np.empty((0, 3)), ""))
    errors = first.displacements(at.points, second)
    return Comparison(
        over=name,
        distances=Distances.of(_displacements(first, second, region)),
        axes_max_mm=_axes_max(b_from_a, region),
        rotation_deg=_angle_deg(b_from_a[:3, :3]),
        centre_mm=centre,
        translation_mm=b_from_a[:3, :3] @ centre + b_from_a[:3, 3] - centre,
        fsl_rmsdiff_mm=_rmsdiff(first.matrix, second.matrix, there),
        fsl_centre_mm=there,
        landmarks=at.labels,
        landmark_errors_mm=errors,
        landmark_distances=Distances.of(errors) if len(errors) else None,
        target_errors=_target_errors(
            first, second, marks.get("fixed_points"), marks.get("moving_points")
        ),
    )


def compare_series(
    a: SeriesOrTransform,
    b: SeriesOrTransform,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    over: ImageLike | None = None,
) -> SeriesComparison:
    """Tell how far apart two series of transforms are, volume by volume.

    Parameters
    ----------
    a, b : path, (n, 4, 4) array_like, or one transform
        Map points of `fixed`, the reference, to points of each volume, RAS+ mm. A path
        is a file or folder as `mireg series` writes it, in any of its formats. One
        transform, or "identity", stands for all volumes; one of both is a series.
    fixed, moving : Image, path, nibabel image, SimpleITK image or tuple, optional
        The reference and the series; files of FSL and AFNI need both.
    over : as `fixed`, optional
        As for `compare`.

    Returns
    -------
    SeriesComparison

    Raises
    ------
    InputError
        If a file cannot be read, there are not as many transforms in both, or neither
        is a series.

    See Also
    --------
    compare : Two transforms.

    Examples
    --------
    >>> shifts = np.tile(np.eye(4), (3, 1, 1))
    >>> shifts[:, 0, 3] = [0, 1, 2]
    >>> found = compare_series(shifts, "identity")
    >>> [round(one.mean, 6) for one in found.volumes], found.worst
    ([0.0, 1.0, 2.0], 2)
    """
    images = Images(fixed, moving)
    first, second = (
        _series(given, name, images)
        for given, name in ((a, "the first series"), (b, "the second series"))
    )
    counts = len(first), len(second)
    if counts == (1, 1):
        raise InputError("neither is a series; compare two transforms by mireg.compare")
    if 1 not in counts and counts[0] != counts[1]:
        raise InputError(
            f"the first series has {counts[0]} transforms and the second {counts[1]}; "
            "give two series of the same volumes"
        )
    region, name = _region(fixed if over is None else over)
    # Enough for figures of a head, and quick for a thousand volumes.
    region = region[:: -(-len(region) // _SERIES_POINTS)]
    pairs = [
        (first[min(t, len(first) - 1)], second[min(t, len(second) - 1)])
        for t in range(max(counts))
    ]
    volumes = tuple(Distances.of(one.displacements(region, two)) for one, two in pairs)
    means = np.array([one.mean for one in volumes])
    return SeriesComparison(
        over=name,
        volumes=volumes,
        rotations_deg=np.array(
            [_angle_deg((~two @ one).matrix[:3, :3]) for one, two in pairs]
        ),
        distances=Distances.of(means),
        worst=int(means.argmax()),
    )


def is_series(given: SeriesOrTransform) -> bool:
    """Tell whether a path or an array holds the transforms of a series."""
    if isinstance(given, str | os.PathLike):
        return given != "identity" and holds_series(given)
    return not isinstance(given, Transform) and np.ndim(cast(npt.ArrayLike, given)) == 3


def _series(given: SeriesOrTransform, name: str, images: Images) -> list[Transform]:
    """Take one side: the transforms of a series, or one for all volumes."""
    if not is_series(given):
        one = cast(TransformLike, given)
        return [_transform(one, name, images.fixed, images.moving)]
    if isinstance(given, str | os.PathLike):
        matrices = read_series_matrices(given, images)
    else:
        matrices = np.asarray(given, np.float64)
    return [as_transform(matrix, name=name) for matrix in matrices]


def _transform(
    given: TransformLike,
    name: str,
    fixed: ImageLike | None,
    moving: ImageLike | None,
) -> Transform:
    """Take one side, which may be no transform at all."""
    if isinstance(given, str) and given == "identity":
        return RigidTransform.identity()
    return as_transform(given, fixed=fixed, moving=moving, name=name)


def _region(given: ImageLike | None) -> tuple[FloatArray, str]:
    """Choose the points, (n, 3) in RAS+ mm, to compare at, and say what they are."""
    if given is None:
        steps = [np.arange(-n / 2, n / 2 + 1, _STEP_MM) for n in _BOX_MM]
        box = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
        size = " x ".join(f"{n:g}" for n in _BOX_MM)
        return box, f"a box of {size} mm about the origin"
    if isinstance(given, PreparedImage):
        image, inside = given.image, None
    else:
        image = as_volume(given)
        inside = _mask(image)
    path = None if image.source is None else image.source.path
    name = "the image" if path is None else os.path.basename(path)
    if inside is None:
        prepared = given if isinstance(given, PreparedImage) else image
        return prepare(prepared).foreground.points, f"the anatomy in {name}"
    return image.to_mm(np.argwhere(inside)), f"the mask {name}"


def _mask(image: Image) -> npt.NDArray[np.bool_] | None:
    """Give the voxels of a mask, or None if an image is none."""
    inside = image.data > 0
    value = image.data.max(initial=-np.inf, where=inside)
    if not np.array_equal(image.data, np.where(inside, value, 0)):
        return None
    if not inside.any():
        path = None if image.source is None else image.source.path
        name = "the mask" if path is None else f"{path}: the mask"
        raise InputError(
            f"{name} is empty, every voxel is 0; give one that shows anatomy"
        )
    return inside


def _displacements(a: Transform, b: Transform, points: FloatArray) -> FloatArray:
    """Distances between where two transforms put points, without much memory."""
    return np.concatenate(
        [
            a.displacements(points[start : start + _CHUNK], b)
            for start in range(0, len(points), _CHUNK)
        ]
    )


def _axes_max(b_from_a: FloatArray, points: FloatArray) -> FloatArray:
    """Largest shift of points along each axis, (3,), by a (4, 4) matrix."""
    off = b_from_a - np.eye(4)
    return np.array([np.abs(points @ along[:3] + along[3]).max() for along in off[:3]])


def _angle_deg(linear: FloatArray) -> float:
    """Angle of the rotation nearest to a (3, 3) matrix, in degrees."""
    left, _, right = np.linalg.svd(linear)
    turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    return float(np.rad2deg(Rotation.from_matrix(turn).magnitude()))


def _rmsdiff(a: FloatArray, b: FloatArray, centre: FloatArray) -> float:
    """Root mean square distance over a sphere about a point of the fixed image.

    Jenkinson, "Measuring transformation error by RMS deviation", FMRIB technical report
    TR99MJ1. FSL's matrices go from moving to fixed, so its first times the inverse of
    its second is, for one point of moving, from fixed to fixed.
    """
    off = np.linalg.inv(a) @ b - np.eye(4)
    at_centre = off[:3, :3] @ centre + off[:3, 3]
    spread = _FSL_RADIUS_MM**2 / 5 * np.square(off[:3, :3]).sum()
    return float(np.sqrt(spread + at_centre @ at_centre))


def _target_errors(
    first: Transform,
    second: Transform,
    fixed: Landmarks | None,
    moving: Landmarks | None,
) -> TargetErrors | None:
    """Measure two transforms at landmarks that are marked in both images."""
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        raise InputError(
            "points in the fixed image go with the same points in the moving image; "
            "give both, or neither"
        )
    if not fixed.labels:
        raise InputError(f"{fixed.name} holds no points; give some")
    there, by = paired(fixed, moving)
    if np.array_equal(fixed.points, there):
        both = f"{fixed.name} and {moving.name} hold the same points"
        if fixed.name == moving.name:
            both = f"{fixed.name} is given for both images"
        warn(
            f"{both}; give the points marked in the moving image, unless both images "
            "are in one space"
        )
    a, b = (
        np.linalg.norm(one.apply(fixed.points) - there, axis=1)
        for one in (first, second)
    )
    _note_frame(second, fixed, Landmarks(fixed.labels, there, moving.name), b.mean())
    return TargetErrors(fixed.labels, a, b, by)


def _note_frame(
    transform: Transform, fixed: Landmarks, moving: Landmarks, mean_mm: float
) -> None:
    """Warn of landmarks that would fit far better in the other frame."""
    names = fixed.name, moving.name
    here, there = fixed.points, moving.points
    for name, start, end in (
        (names[0], here * _OTHER_FRAME, there),
        (names[1], here, there * _OTHER_FRAME),
        (" and ".join(names), here * _OTHER_FRAME, there * _OTHER_FRAME),
    ):
        off = np.linalg.norm(transform.apply(start) - end, axis=1).mean()
        if off < _FAR_BETTER * mean_mm:
            warn(
                f"{name}: in the other frame (LPS for RAS) the landmarks would be off "
                f"by {off:.2g} mm on average, not {mean_mm:.3g}; check their frame"
            )


def _landmarks(
    given: Mapping[str, Points | None], frame: Frame | None
) -> dict[str, Landmarks]:
    """Take landmarks from files or arrays, of those that are given."""
    # A file that cannot be read is told before what is wrong in another.
    texts = {
        name: text_of(points)
        for name, points in given.items()
        if isinstance(points, str | os.PathLike)
    }
    marks = {}
    for name, points in given.items():
        if isinstance(points, str | os.PathLike):
            marks[name] = landmarks_in(texts[name], points, frame)
        elif points is not None:
            marks[name] = _array(points, frame, name)
    if frame is not None and not marks:
        raise InputError(
            "there is a frame of points, but no points; give both, or neither"
        )
    return marks


def _array(points: npt.ArrayLike, frame: Frame | None, name: str) -> Landmarks:
    """Take landmarks from an array."""
    if frame is not None and frame.lower() != "ras":
        raise InputError("points in an array are in RAS+ mm; leave their frame out")
    array = checked_points(points)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise InputError(f"{name} must be a finite array of shape (n, 3), RAS+ mm")
    return Landmarks(numbers(len(array)), array, name)


def _note_outside(marks: Landmarks, image: Image, name: str) -> None:
    """Warn of landmarks that lie outside the image in which they were marked."""
    outside = np.flatnonzero(~are_inside(image, marks.points))
    out = [repr(marks.labels[i]) for i in outside]
    if out:
        if image.source is not None and image.source.path is not None:
            name = str(image.source.path)
        warn(
            f"{marks.name}: {len(out)} of {len(marks.labels)} landmarks "
            f"{'lies' if len(out) == 1 else 'lie'} outside {name}, {some_of(out)}; "
            "check that they are of this image, and their frame"
        )
