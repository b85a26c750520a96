"""Which intensities matter: background, foreground, and the scale between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import _kernels as kernels
from . import _parameters as parameters
from ._errors import InputError
from ._image import Image

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class IntensityScale:
    """How the intensities of one image become normalised ones, from 0 to 1.

    Attributes
    ----------
    background : float
        Intensity of what surrounds the anatomy.
    threshold : float
        Foreground is what differs from `background` by more than this.
    low, high : float
        Intensities beyond these carry no anatomy (padding, metal, spikes).
    ends : tuple of float
        Intensities that become 0 and 1.
    knots : (n,) array
        Normalised intensities of intensities spaced evenly between the ends; linear
        between them.
    """

    background: float
    threshold: float
    low: float
    high: float
    ends: tuple[float, float]
    knots: FloatArray

    @property
    def normalised_background(self) -> float:
        """Normalised intensity of the background, 0 to 1."""
        return float(self.apply(np.array([self.background], np.float32))[0])

    def is_foreground(self, data: Volume) -> npt.NDArray[np.bool_]:
        """Tell where `data` shows anatomy; False where there is no data."""
        clipped = np.clip(data, self.low, self.high)
        return np.abs(clipped - self.background) > self.threshold

    def apply(self, data: Volume) -> Volume:
        """Map intensities to normalised ones, 0 to 1; NaN stays."""
        out = np.empty_like(data)
        low, high = np.float32(self.ends[0]), np.float32(self.ends[1])
        knots = self.knots.astype(np.float32)
        memory, flat = data.ravel(order="K"), out.ravel(order="K")
        kernels.normalise(memory, low, high, knots, flat)
        return out


def subsampled(image: Image, most: int = parameters.SCALE_VOXELS) -> Image:
    """Take every n-th voxel along the longer axes: enough to learn a scale."""
    shape, steps = np.array(image.shape), np.ones(3, int)
    while shape.prod() > most:
        halved = np.where(shape == shape.max(), 2, 1)
        shape, steps = -(-shape // halved), steps * halved
    i, j, k = steps
    data = image.voxels[::i, ::j, ::k].copy(order="K")
    return Image(data, image.mm_from_ijk @ np.diag([*steps, 1.0]))


def intensity_scale(image: Image) -> IntensityScale:
    """Learn background, foreground and scale of the intensities of an image.

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
        raise InputError("every voxel is NaN or infinite; check the image")
    low, high = _limits(values)
    background = _background(data, low, high)
    away = np.clip(values, low, high)
    away -= np.float32(background)
    np.abs(away, out=away)
    threshold = _threshold(np.sort(away, kind="stable"))  # merges two sorted runs
    first, last = parameters.SCALE_ENDS
    quantiles = np.linspace(0, 1, parameters.SCALE_QUANTILES)
    inner = _quantiles(values[away > threshold], first + (last - first) * quantiles)
    ends = float(min(background, inner[0])), float(max(background, inner[-1]))
    even = np.linspace(0, 1, parameters.SCALE_KNOTS)
    intensities = np.linspace(*ends, parameters.SCALE_KNOTS)
    equalised = np.interp(intensities, inner, quantiles)
    share = parameters.EQUALISE
    return IntensityScale(
        background=background,
        threshold=threshold,
        low=float(min(low, background)),
        high=float(max(high, background)),
        ends=ends,
        knots=(1 - share) * even + share * equalised,
    )


def _limits(values: Volume) -> tuple[float, float]:
    """Intensities beyond which there is no anatomy, of values in order."""
    low, high = _quantiles(values, parameters.SCALE_TAILS)
    least, most = parameters.AIR_RANGE_HU
    if np.mean((values > least) & (values < most)) > parameters.AIR_SHARE:
        low = max(low, parameters.AIR_HU)
    if not high > low:
        low, high = values[0], values[-1]
    if not high > low:
        raise InputError(
            f"the image is constant, every voxel is {low + 0.0:g}; check it, as "
            "nothing in it can be registered"
        )
    return float(low), float(high)


def _background(data: Volume, low: float, high: float) -> float:
    """Median near the twelve edges of the box: outside the anatomy, even in a slab."""
    near = []
    for n in data.shape:
        width = max(1, int(n * parameters.EDGE_SHARE))
        near.append(np.minimum(np.arange(n), np.arange(n)[::-1]) < width)
    i, j, k = (side.astype(np.int8) for side in near)
    values = data[i[:, None, None] + j[:, None] + k >= 2]
    values = values[np.isfinite(values)].astype(np.float64)
    return float(np.median(np.clip(values, low, high))) if values.size else low


def _threshold(contrast: Volume) -> float:
    """Contrast to the background from which there is anatomy, of contrasts in order."""
    above = contrast[np.searchsorted(contrast, 0, "right") :]
    top = float(_quantiles(above, [parameters.CONTRAST_TOP])[0])
    if not contrast[0] < top / 2:  # no voxel is background
        return top / 2
    edges = np.linspace(contrast[0], top, parameters.OTSU_BINS + 1)
    below = np.searchsorted(contrast, edges[:-1])
    counts = np.diff(below, append=contrast.size)
    return otsu_threshold(counts, (edges[:-1] + edges[1:]) / 2)


def otsu_threshold(counts: npt.ArrayLike, centres: npt.ArrayLike) -> float:
    """Threshold that separates two classes of a histogram best [1]_.

    Parameters
    ----------
    counts, centres : (n,) array_like
        Counts of the bins, and where they lie.

    Returns
    -------
    float
        Centre of the last bin of the lower class, where the variance between the
        classes is largest; of equals, the first.

    References
    ----------
    .. [1] Otsu, "A threshold selection method from gray-level histograms", IEEE
       Transactions on Systems, Man, and Cybernetics 1979.

    Examples
    --------
    >>> otsu_threshold([4, 2, 0, 0, 1, 3], [0, 1, 2, 3, 4, 5])
    1.0
    """
    weights, x = np.asarray(counts, np.float64), np.asarray(centres, np.float64)
    below, mass = np.cumsum(weights)[:-1], np.cumsum(weights * x)
    above = weights.sum() - below
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = mass[:-1] / below - (mass[-1] - mass[:-1]) / above
    between = below * above * np.where((below > 0) & (above > 0), apart, 0) ** 2
    return float(x[between.argmax()])


def _quantiles(values: Volume, shares: npt.ArrayLike) -> FloatArray:
    """Read off values in order at shares, 0 to 1, of their number."""
    at = np.asarray(shares) * (values.size - 1)
    below = at.astype(np.int64)
    above = np.minimum(below + 1, values.size - 1)
    low, high = values[below].astype(np.float64), values[above].astype(np.float64)
    return low + (at - below) * (high - low)
