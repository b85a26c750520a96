"""A pair of one of the hard kinds: two scans, their truth, and where to measure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from .._errors import InputError
from .._image import Image
from .._transform import RigidTransform
from .bodies import infant, knee, mouse, near_symmetric, spine
from .contrast import BRAIN, TISSUES
from .head import Head
from .kinds import KINDS, Acquisition, Kind
from .pair import brain_points, random_pose
from .scanner import Grid, expose, grid_around
from .scene import Distortion, Scene, stripped
from .shapes import Blob, FloatArray, Subject, generator

_MOST_POINTS = 2000
#: Whose subjects are measured inside the brain; of others, all tissue counts.
_HEADS = ("head", "infant", "near-symmetric")
_SUBJECTS: Mapping[str, Callable[[int], Subject]] = MappingProxyType(
    {
        "head": Head.from_seed,
        "infant": infant,
        "near-symmetric": near_symmetric,
        "knee": knee,
        "spine": spine,
        "spine-alike": partial(spine, alike=True),
        "mouse": mouse,
    }
)


class HardPair(NamedTuple):
    """Two scans, the truth about them, and where to measure errors.

    `points` (n, 3) are RAS+ mm of `fixed`, in anatomy that both scans show.
    """

    fixed: Image
    moving: Image
    moving_from_fixed: RigidTransform
    points: FloatArray


def hard_pair(
    kind: str | Kind,
    seed: int = 0,
    *,
    pose: RigidTransform | None = None,
    voxel_scale: float = 1.0,
) -> HardPair:
    """Make a pair of one of the hard kinds.

    Parameters
    ----------
    kind : str or Kind
        One of `KINDS`, or your own.
    seed : int, optional
        Which subject, noise, position in the box and (by default) pose.
    pose : RigidTransform, optional
        The true `moving_from_fixed`. By default drawn from as far off as the kind
        says: a header that is wrong, while the anatomy lies in its box as usual.
    voxel_scale : float, optional
        Multiplies the voxel sizes; a half is about what hospitals have.

    Returns
    -------
    HardPair
        `fixed`, `moving`, `moving_from_fixed`, which maps a point of `fixed` (RAS+
        mm, the coordinates of the subject) to the point of `moving` (RAS+ mm) with
        the same anatomy, and the `points` at which to measure errors.

    Raises
    ------
    InputError
        If there is no such kind.

    Examples
    --------
    >>> pair = hard_pair("slices", seed=1, voxel_scale=3)
    >>> bool(pair.moving_from_fixed.angle_deg <= 45)
    True
    """
    plan = _named_kind(kind)
    name = zlib.crc32(plan.says.encode())
    rng = generator(seed, name)
    drawn = random_pose(
        rng, max_offset_mm=plan.max_offset_mm, max_angle_deg=plan.max_angle_deg
    )
    truth = drawn if pose is None else pose
    subject = _SUBJECTS[plan.subject](seed)
    stays = RigidTransform.identity()
    scan = partial(_scan, subject, seed=seed, voxel_scale=voxel_scale)
    fixed = scan(plan.fixed, stays, generator(seed, name, 0))
    if plan.identical:
        moving = Image(fixed.data, truth.matrix @ fixed.mm_from_ijk)
    else:
        moving = scan(plan.moving, truth, generator(seed, name, 1))
    measured = BRAIN if plan.subject in _HEADS else TISSUES[1:]
    points = _points_in_both(subject, measured, fixed, moving, truth, rng)
    return HardPair(fixed, moving, truth, points)


def _named_kind(kind: str | Kind) -> Kind:
    """Return a kind by name, or as it is."""
    if isinstance(kind, Kind):
        return kind
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(f"there is no kind {kind!r}; choose one of {known}")
    return KINDS[kind]


def _scan(
    subject: Subject,
    plan: Acquisition,
    scan_from_subject: RigidTransform,
    rng: np.random.Generator,
    *,
    seed: int,
    voxel_scale: float,
) -> Image:
    """Make one of the two scans."""
    distortion = None
    if plan.distortion_mm:
        brain = brain_points(seed, spacing_mm=10.0)
        distortion = Distortion.over(brain, 0, plan.distortion_mm)
    scene = Scene(
        subject,
        lesions=_lesions(plan.lesions, seed),
        defaced=plan.defaced,
        coil=plan.coil,
        surface_coil_mm=plan.surface_coil_mm,
        distortion=distortion,
        in_ct=plan.in_ct,
    )
    look = plan.look
    if plan.stripped:
        look = replace(look, intensities=stripped(look.intensities))
    shape, subject_from_ijk = _grid(subject, plan, rng, voxel_scale)
    grid = shape, scan_from_subject.matrix @ subject_from_ijk
    image = expose(scene, look, grid, scan_from_subject, rng)
    return image if plan.fill is None else _circled(image, plan.fill)


def _grid(
    subject: Subject, plan: Acquisition, rng: np.random.Generator, voxel_scale: float
) -> Grid:
    """Lay the voxels of a scan into its subject, a little askew."""
    turn = RigidTransform(
        Rotation.from_euler("xyz", plan.turn_deg, degrees=True).as_rotvec(), np.zeros(3)
    )
    tilt = random_pose(rng, max_offset_mm=0.0, max_angle_deg=6.0)
    subject_from_box = tilt @ turn
    size = np.array(plan.voxel_mm) * voxel_scale
    centre = np.array(plan.centre_mm) + rng.uniform(-1, 1, 3) * plan.loose_mm
    centre += subject_from_box.rotation_matrix @ (size * rng.uniform(-0.5, 0.5, 3))
    if plan.fov_mm is None:
        shape, box_from_ijk = grid_around(subject, size, subject_from_box.inverse())
        box_from_ijk[:3, 3] += size * rng.uniform(-0.5, 0.5, 3)
        return shape, subject_from_box.matrix @ box_from_ijk
    fov = np.array(plan.fov_mm)
    if plan.slices is not None:
        fewest, most = plan.slices
        # A coarser grid has fewer columns and rows, but no fewer slices.
        fov[2] = rng.integers(fewest, most + 1) * plan.voxel_mm[2]
        size[2] = plan.voxel_mm[2]
    shape = np.maximum(np.rint(fov / size), 1).astype(int).tolist()
    centre_from_ijk = np.diag([*size, 1.0])
    centre_from_ijk[1, 2] = np.tan(np.deg2rad(plan.gantry_deg)) * size[2]
    middle = (np.array(shape) - 1) / 2
    centre_from_ijk[:3, 3] = -centre_from_ijk[:3, :3] @ middle
    subject_from_centre = subject_from_box.matrix.copy()
    subject_from_centre[:3, 3] = centre
    return (shape[0], shape[1], shape[2]), subject_from_centre @ centre_from_ijk


def _circled(image: Image, fill: float) -> Image:
    """Fill what lies outside of the circle that a CT shows, in each slice."""
    nx, ny, _ = image.shape
    across, along = np.ogrid[-1 : 1 : nx * 1j, -1 : 1 : ny * 1j]
    outside = across**2 + along**2 > 1
    data = np.where(outside[..., None], fill, np.maximum(image.data, -1024))
    return Image(data, image.mm_from_ijk)


def _lesions(name: str, seed: int) -> tuple[Blob, ...]:
    """Draw what grew or was cut out; the same place for every name of one seed."""
    if not name:
        return ()
    rng = generator(seed, 0x1E51)
    if name == "plaques":
        places = rng.normal((0, -8, 18), (17, 26, 9), (24, 3))
        places[:, 0] += np.sign(places[:, 0]) * 9
        return tuple(
            Blob("fat", place, rng.uniform(2.0, 6.0, 3), np.eye(3)) for place in places
        )
    side = rng.choice([-1.0, 1.0])
    centre = np.array([side * 33.0, -18.0, 26.0]) + rng.uniform(-1, 1, 3) * (4, 22, 6)
    radii = rng.uniform(17, 22, 3)
    turned = Rotation.random(random_state=rng).as_matrix()

    def part(tissue: str, share: float) -> Blob:
        return Blob(tissue, centre, radii * share, turned)

    if name == "cavity":
        return part("blood", 1.08), part("csf", 1.0)
    if name == "enhanced":
        return part("deep", 1.5), part("fat", 1.0), part("csf", 0.7)
    return part("deep", 1.4), part("muscle", 1.0), part("csf", 0.6)


def _points_in_both(
    subject: Subject,
    tissues: tuple[str, ...],
    fixed: Image,
    moving: Image,
    truth: RigidTransform,
    rng: np.random.Generator,
) -> FloatArray:
    """Draw points of some tissues that lie in both fields of view, RAS+ mm of fixed."""
    table = {tissue: float(tissue in tissues) for tissue in TISSUES}
    smaller, larger = fixed, moving
    to_larger, to_fixed = truth, RigidTransform.identity()
    if moving.voxel_volume_mm3 * moving.data.size < fixed.voxel_volume_mm3 * (
        fixed.data.size
    ):
        smaller, larger = moving, fixed
        to_larger = to_fixed = truth.inverse()
    points = smaller.to_mm(rng.uniform(0, np.array(smaller.shape) - 1, (20_000, 3)))
    ijk = larger.to_ijk(to_larger.apply(points))
    seen = ((ijk >= 0) & (ijk <= np.array(larger.shape) - 1)).all(axis=1)
    points = to_fixed.apply(points[seen])
    share = subject.paint(points.T, table, 0.1 * subject.detail_mm)
    return points[share > 0.5][:_MOST_POINTS]
