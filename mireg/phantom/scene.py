"""Anatomy as one scan meets it: what was added, cut away, bent or shaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .contrast import BRAIN
from .shapes import Blob, Canvas, FloatArray, Subject, Values

#: Where the field of the magnet is bent, in head coordinates: above the nasal
#: sinuses, and above the ear canals the other way. Centre, reach in mm, share.
_BUMPS = (
    ((0.0, 42.0, -20.0), 22.0, 1.0),
    ((50.0, -18.0, -30.0), 17.0, -0.6),
    ((-50.0, -18.0, -30.0), 17.0, -0.5),
)
#: Plane of the cut that takes a face away: outward normal, distance in mm.
_FACE = (np.array([0.0, 0.8, -0.6]), 66.0)
#: Dental metal: centre, semi-axes, Hounsfield units.
_METAL_HU = 19000.0
_STREAK_MM = 4.0  # how far up and down streaks reach
_METAL = (((-19.0, 66.0, -72.0), (4, 5, 4)), ((22.0, 58.0, -72.0), (4, 4, 5)))


@dataclass(frozen=True, eq=False)
class Distortion:
    """How an EPI is stretched along its phase-encoding axis.

    The field of the magnet is bent near air. What a shim of first order mends, by
    least squares over the brain, is mended: no shift, scaling or shear remains.

    Attributes
    ----------
    axis : int
        Phase-encoding axis in head coordinates.
    peak_mm : float
        Largest shift before the shim; its sign says along which way the encoding
        runs.
    shim : (4,) ndarray
        Constant, and slope along x, y, z, that the shim takes away.
    """

    axis: int
    peak_mm: float
    shim: FloatArray

    @classmethod
    def over(cls, points: FloatArray, axis: int, peak_mm: float) -> Distortion:
        """Shim over points (n, 3)."""
        plain = cls(axis, peak_mm, np.zeros(4))
        shift, _ = plain(points.T)
        terms = np.column_stack([np.ones(len(points)), points])
        shim, *_ = np.linalg.lstsq(terms, shift, rcond=None)
        return cls(axis, peak_mm, np.asarray(shim, np.float64))

    def __call__(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Say where points (3, n) show anatomy from: shift in mm, and its slope."""
        shift = -(self.shim[0] + self.shim[1:] @ points)
        slope = np.full(points.shape[1], -self.shim[1 + self.axis])
        for centre, reach, share in _BUMPS:
            apart = points - np.array(centre)[:, None]
            square = np.einsum("an,an->n", apart, apart)
            bump = self.peak_mm * share * np.exp(-0.5 * square / reach**2)
            shift += bump
            slope -= bump * apart[self.axis] / reach**2
        return shift, slope


def coil(points: FloatArray, strength: float, radius_mm: float) -> Values:
    """Return the sensitivity of a head coil at points (3, n), one in the middle.

    Twelve loops on a helmet, each falling off with distance; the lowest and hindmost
    are nearest. The logarithm grows in proportion to `strength`.
    """
    turn = np.arange(12) * (np.pi * (3 - np.sqrt(5)))
    height = np.linspace(-0.5, 0.95, 12)
    across = np.sqrt(1 - height**2)
    loops = radius_mm * np.column_stack(
        [across * np.cos(turn), across * np.sin(turn) * 1.1 - 0.2, height]
    )
    reach = radius_mm / 2.2

    def received(at: FloatArray) -> FloatArray:
        square = sum(
            (1 + np.square(at - loop[:, None]).sum(axis=0) / reach**2) ** -3.0
            for loop in loops
        )
        return np.sqrt(square)

    middle = received(np.zeros((3, 1)))
    field: Values = ((received(points) / middle) ** strength).astype(np.float32)
    return field


def surface_coil(points: FloatArray, reach_mm: float, radius_mm: float) -> Values:
    """Return the sensitivity of three loops behind a head at points (3, n).

    One at the surface. A loop falls to a third where it is `reach_mm` away.
    """
    loops = radius_mm * np.array(
        [[-0.45, -1.15, 0.05], [0.45, -1.15, 0.05], [0, -1.25, 0.3]]
    )

    def received(at: FloatArray) -> FloatArray:
        square = sum(
            (1 + np.square(at - loop[:, None]).sum(axis=0) / reach_mm**2) ** -3.0
            for loop in loops
        )
        return np.sqrt(square)

    surface = received(np.array([[0.0], [-radius_mm], [0.0]]))
    field: Values = (received(points) / surface).astype(np.float32)
    return field


def around_ct(points: FloatArray) -> Values:
    """Return Hounsfield units of table, head-holder and foam at points (3, n)."""
    x, y, z = points.astype(np.float32)
    canvas = Canvas(points.shape[1], {"air": -1000.0, "foam": -930, "shell": -80}, 1.0)
    below_table = -134 + x * x / 2500 - y
    canvas.lay("foam", np.minimum(below_table, 14 - below_table))
    canvas.lay("shell", 1.5 - np.abs(np.abs(below_table - 7) - 7))
    bowl = Blob("foam", np.array([0.0, -8, 0]), np.array([102.0, 112, 190]), np.eye(3))
    depth = bowl.depth(np.stack([x, y, z]))
    holder = np.minimum(-35 - y, np.minimum(z + 60, 70 - z))
    canvas.lay("foam", np.minimum(np.minimum(depth, 9 - depth), holder))
    canvas.lay("shell", np.minimum(1.5 - np.abs(depth - 1.5), holder))
    return canvas.values


def with_metal(values: Values, points: FloatArray) -> Values:
    """Add dental metal and its streaks to Hounsfield units at points (3, n)."""
    for number, (centre, semi_axes) in enumerate(_METAL):
        offset = (points - np.array(centre)[:, None]).astype(np.float32)
        if np.abs(offset[2]).min() > 5 * _STREAK_MM:
            continue
        right, front, up = offset
        fan = np.cos(9 * np.arctan2(front, right) + number) ** 3
        near = 8 / (8 + np.hypot(right, front))
        near *= np.exp(-0.5 * (up / np.float32(_STREAK_MM)) ** 2)
        values = values + np.float32(1500) * fan * near
        blob = Blob("bone", np.zeros(3), np.array(semi_axes, float), np.eye(3))
        share = np.clip(blob.depth(offset) + 0.5, 0, 1)
        values += (np.float32(_METAL_HU) - values) * share
    return values


@dataclass(frozen=True, eq=False)
class Scene:
    """A subject, and what this one scan finds different about it.

    Attributes
    ----------
    subject : Subject
        The anatomy that both scans share.
    lesions : tuple of Blob
        Laid over the anatomy.
    defaced : bool
        The face is cut away.
    coil : float
        Strength of the receive coil's shading; 1 makes the surface of the brain
        several times brighter than its middle.
    surface_coil_mm : float
        Reach of coils that lie at the back of the head; 0 if there are none.
    distortion : Distortion or None
        Of an EPI.
    in_ct : bool
        With table, head-holder and dental metal; intensities are Hounsfield units.
    """

    subject: Subject
    lesions: tuple[Blob, ...] = ()
    defaced: bool = False
    coil: float = 0.0
    surface_coil_mm: float = 0.0
    distortion: Distortion | None = None
    in_ct: bool = False

    @property
    def detail_mm(self) -> float:
        """Larger voxels are the mean of several samples."""
        return self.subject.detail_mm

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the anatomy along unit directions (n, 3), in mm."""
        return self.subject.reach(directions)

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Return intensities at points (3, n), with tissues mixed over `edge_mm`."""
        at, squeezed = points, None
        if self.distortion is not None:
            shift, slope = self.distortion(points)
            at, squeezed = points.copy(), np.maximum(1 + slope, 0)
            at[self.distortion.axis] += shift
        canvas = Canvas(points.shape[1], intensities, edge_mm)
        canvas.values = self.subject.paint(at, intensities, edge_mm)
        lesions = self.lesions
        if lesions:
            small = at.astype(np.float32)
            for blob in lesions:
                canvas.lay(blob.tissue, blob.depth(small))
        if self.defaced:
            normal, off = _FACE
            canvas.lay("air", (normal @ at - off).astype(np.float32))
        values = canvas.values
        if squeezed is not None:
            values = values * squeezed.astype(np.float32)
        if self.coil:
            radius = 1.45 * float(self.subject.reach(np.eye(3)[:1])[0])
            values = values * coil(points, self.coil, radius)
        if self.surface_coil_mm:
            radius = float(self.subject.reach(-np.eye(3)[1:2])[0])
            values = values * surface_coil(points, self.surface_coil_mm, radius)
        if self.in_ct:
            values = with_metal(np.maximum(values, around_ct(points)), points)
        return values


def stripped(intensities: Mapping[str, float]) -> dict[str, float]:
    """Show nothing but brain and the fluid about it."""
    kept = (*BRAIN, "csf")
    return {t: v if t in kept else intensities["air"] for t, v in intensities.items()}
