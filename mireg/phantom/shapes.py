"""What anatomy is drawn with: waves, ellipsoids, and a canvas to lay tissues on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._errors import InputError

FloatArray = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]


def generator(seed: int, *more: int) -> np.random.Generator:
    """Return where the randomness of a seed comes from; `more` says for what."""
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number of at least 0")
    return np.random.default_rng([int(seed), *more])


class Subject(Protocol):
    """Anatomy as formulas, in its own coordinates (RAS+ mm)."""

    @property
    def detail_mm(self) -> float:
        """Larger voxels are the mean of several samples."""
        ...

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the anatomy along unit directions (n, 3), in mm."""
        ...

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Return intensities at points (3, n), with tissues mixed over `edge_mm`."""
        ...


class Waves(NamedTuple):
    """A sum of plane waves: rates in radians per mm, phases, one amplitude each."""

    rates: FloatArray  # (m, 3)
    phases: FloatArray  # (m,)
    amplitude: float

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        n: int,
        lengths_mm: tuple[float, float],
        rms: float,
    ) -> Waves:
        """Draw `n` waves of random direction whose sum has the given rms."""
        directions = rng.standard_normal((n, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        rates = 2 * np.pi / rng.uniform(*lengths_mm, (n, 1)) * directions
        return cls(rates, rng.uniform(0, 2 * np.pi, n), rms * np.sqrt(2 / n))

    def __call__(self, points: Values) -> Values:
        """Return the sum at points given as (3, n)."""
        total = np.zeros(points.shape[1], np.float32)
        for rate, phase in zip(self.rates, self.phases, strict=True):
            total += np.sin(_along(rate, points, phase))
        total *= np.float32(self.amplitude)
        return total

    def with_gradient(self, points: Values) -> tuple[Values, Values]:
        """Return the sum (n,) and its gradient (3, n)."""
        total = np.zeros(points.shape[1], np.float32)
        gradient = np.zeros_like(points)
        for rate, phase in zip(self.rates, self.phases, strict=True):
            angle = _along(rate, points, phase)
            total += np.sin(angle)
            slope = np.cos(angle)
            for axis in range(3):
                gradient[axis] += slope * np.float32(rate[axis])
        scale = np.float32(self.amplitude)
        return total * scale, gradient * scale


def _along(rate: FloatArray, points: Values, phase: float) -> Values:
    """Return rate . point + phase without going through float64."""
    a, b, c = rate.astype(np.float32)
    along: Values = a * points[0] + b * points[1] + (c * points[2] + np.float32(phase))
    return along


class Blob(NamedTuple):
    """An ellipsoid of one tissue."""

    tissue: str
    centre: FloatArray  # (3,)
    semi_axes: FloatArray  # (3,)
    axes: FloatArray  # (3, 3), rows are the directions of the semi-axes

    def depth(self, points: Values) -> Values:
        """Return the depth in mm below the surface (first order), points (3, n)."""
        centred = points - self.centre[:, None].astype(np.float32)
        scaled = (self.axes / self.semi_axes[:, None]).astype(np.float32) @ centred
        inverse = (1 / self.semi_axes[:, None]).astype(np.float32)
        square = np.einsum("an,an->n", scaled, scaled)
        scaled *= inverse
        slope = np.sqrt(np.einsum("an,an->n", scaled, scaled)) + np.float32(1e-6)
        root = np.sqrt(square)
        depth: Values = (1 - root) * root / slope
        return depth

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return how far the ellipsoid reaches along each unit direction (n, 3)."""
        half = np.linalg.norm((directions @ self.axes.T) * self.semi_axes, axis=-1)
        reach: FloatArray = directions @ self.centre + half
        return reach

    @property
    def box(self) -> FloatArray:
        """Lowest and highest corner, (2, 3)."""
        return np.array([-self.reach(-np.eye(3)), self.reach(np.eye(3))])


def joined(a: Values, b: Values, width_mm: float) -> Values:
    """Return the depth in the union of two shapes, with a rounded seam."""
    near = np.maximum(np.float32(width_mm) - np.abs(a - b), 0)
    joined: Values = np.maximum(a, b) + near * near * np.float32(0.25 / width_mm)
    return joined


class Canvas:
    """The intensities of one block of points while tissues are laid on."""

    def __init__(
        self, n: int, intensities: Mapping[str, float], edge_mm: float
    ) -> None:
        self.intensities = intensities
        self.per_edge = np.float32(1 / edge_mm)
        self.values = np.full(n, intensities["air"], np.float32)

    def lay(
        self, tissue: str, depth: Values, where: npt.NDArray[np.intp] | None = None
    ) -> None:
        """Lay a tissue where its depth is positive, with a soft edge."""
        share = np.clip(depth * self.per_edge + np.float32(0.5), 0, 1)
        value = np.float32(self.intensities[tissue])
        if where is None:
            self.values += (value - self.values) * share
        else:
            self.values[where] += (value - self.values[where]) * share

    def lay_blobs(
        self,
        blobs: Sequence[Blob],
        boxes: FloatArray,
        points: Values,
        within: Values,
        where: npt.NDArray[np.intp] | None = None,
    ) -> None:
        """Lay those ellipsoids that touch the block, in order, inside a shape."""
        touched = touching(boxes, points, float(1 / self.per_edge))
        for index in np.flatnonzero(touched).tolist():
            blob = blobs[index]
            self.lay(blob.tissue, np.minimum(blob.depth(points), within), where)


def touching(
    boxes: FloatArray, points: Values, margin_mm: float
) -> npt.NDArray[np.bool_]:
    """Say which boxes (n, 2, 3) come within a margin of the points' own box."""
    low, high = points.min(axis=1) - margin_mm, points.max(axis=1) + margin_mm
    overlap = (boxes[:, 0] <= high) & (boxes[:, 1] >= low)
    return np.asarray(overlap.all(axis=1))
