"""Which intensities matter: background, foreground, and the scale of grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu

from . import _kernels as kernels
from ._errors import InputError
from ._image import Image

FloatArray = npt.NDArray[np.float64]

#: No tissue has fewer Hounsfield units than air; scanners pad with less.
_AIR_HU = -1024.0


@dataclass(frozen=True, eq=False)
class GreyScale:
    """How the intensities of one image become grey levels.

    Parameters
    ----------
    background : float
        Intensity of what surrounds the anatomy.
    threshold : float
        Foreground is what differs from `background` by more than this.
    low, high : float
        Intensities beyond these carry no anatomy (padding, metal, spikes).
    ends : tuple of float
        Intensities of the first and the last grey level.
    levels : (n,) array
        Grey levels from 0 to 1 of intensities spaced evenly between the ends;
        linear between them.
    """

    background: float
    threshold: float
    low: float
    high: float
    ends: tuple[float, float]
    levels: FloatArray

    @property
    def background_level(self) -> float:
        """Grey level of the background, 0 to 1."""
        return float(self.apply(np.array([self.background], np.float32))[0])

    def is_foreground(self, data: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Tell where `data` shows anatomy; False where there is no data."""
        clipped = np.clip(data, self.low, self.high)
        return np.abs(clipped - self.background) > self.threshold

    def apply(self, data: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map intensities to grey levels 0 to 1; NaN stays."""
        out = np.empty_like(data)
        low, high = np.float32(self.ends[0]), np.float32(self.ends[1])
        levels = self.levels.astype(np.float32)
        memory, flat = data.ravel(order="K"), out.ravel(order="K")
        kernels.grey_levels(memory, low, high, levels, flat)
        return out


def grey_scale(image: Image, equalise: float = 0.5) -> GreyScale:
    """Learn background, foreground and grey levels of an image.

    Parameters
    ----------
    image : Image
        The scan.
    equalise : float
        0 spaces the grey levels evenly in intensity, 1 gives each the same
        share of the foreground (histogram equalisation); between, a blend.

    Raises
    ------
    InputError
        If the image has no data, or only one intensity.
    """
    data = image.data
    values = data.ravel(order="K")
    values = values[np.isfinite(values)]
    values.sort()  # one sort serves all that follows
    if values.size == 0:
        raise InputError("the image holds no data: every voxel is NaN")
    low, high = _quantiles(values, [0.0002, 0.9998])
    if np.mean((values > _AIR_HU - 76) & (values < -900)) > 0.05:
        low = max(low, _AIR_HU)
    if not high > low:
        low, high = values[0], values[-1]
    if not high > low:
        raise InputError(f"the image is constant: every voxel is {low:g}")
    edges = np.clip(_edge_values(data), low, high)
    background = float(np.median(edges)) if edges.size else float(low)
    away = np.clip(values, low, high)
    away -= np.float32(background)
    np.abs(away, out=away)
    contrast = np.sort(away, kind="stable")  # two runs, which this one merges
    top = _quantiles(contrast[np.searchsorted(contrast, 0, "right") :], [0.99])[0]
    threshold = float(top) / 2
    if contrast[0] < threshold:  # else all differ from the background alike
        sides = np.linspace(contrast[0], top, 257)
        below = np.searchsorted(contrast, sides[:-1])
        counts = np.diff(below, append=contrast.size)
        middles = (sides[:-1] + sides[1:]) / 2
        threshold = float(threshold_otsu(hist=(counts, middles)))  # type: ignore[no-untyped-call]
    inner = _quantiles(values[away > threshold], np.linspace(0.005, 0.995, 100))
    ends = float(min(background, inner[0])), float(max(background, inner[-1]))
    knots = np.linspace(*ends, 257)
    share = np.interp(knots, inner, np.linspace(0, 1, 100))
    even = np.linspace(0, 1, 257)
    return GreyScale(
        background=background,
        threshold=threshold,
        low=float(min(low, background)),
        high=float(max(high, background)),
        ends=ends,
        levels=(1 - equalise) * even + equalise * share,
    )


def _quantiles(values: npt.NDArray[np.float32], shares: npt.ArrayLike) -> FloatArray:
    """Read off values in order at shares, 0 to 1, of their number."""
    at = np.asarray(shares) * (values.size - 1)
    below = at.astype(np.int64)
    above = np.minimum(below + 1, values.size - 1)
    low, high = values[below].astype(np.float64), values[above].astype(np.float64)
    return low + (at - below) * (high - low)


def _edge_values(data: npt.NDArray[np.float32]) -> FloatArray:
    """Values near the twelve edges of the box: outside the anatomy, even in a slab."""
    near = []
    for n in data.shape:
        width = max(1, n // 16)
        near.append(np.minimum(np.arange(n), np.arange(n)[::-1]) < width)
    i, j, k = (side.astype(np.int8) for side in near)
    edge = i[:, None, None] + j[:, None] + k >= 2
    values = data[edge]
    return values[np.isfinite(values)].astype(np.float64)
