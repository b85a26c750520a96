"""How much contrast a scan has: a divergence, in bits, from the uniform histogram.

A scan that uses all grey levels alike is at divergence 0 from the uniform histogram;
one that hardly uses them is far from it. Scores can only be compared if all scanners'
intensities are laid on one axis of grey levels, so the axis is made as follows.

- It runs from the background to the far end of the foreground, both as
  `mireg._intensity` finds them: a few spikes, padding, or more air around the head do
  not move it. A change of scale moves every intensity with it, and an inversion
  ``a -> c - a`` mirrors it; neither changes a divergence.
- It is lengthened by the offset: the empty stretch between zero and the intensity
  closest to it. Washing out (pulling all intensities to the middle of their range)
  lifts them off zero and leaves that stretch unused. A shift of all intensities does
  the same; one that leaves zero within the data, as of Hounsfield units, does not.
  The stretch is laid beside the background, where it belongs in most scans, so that
  an inversion within the same range mirrors it too.
  What no intensity can tell is a scan squeezed about a zero within its data: it looks
  like a change of scale. Give `limits`, the nominal range, where that matters.
- It has 64 bins. An integer stands for the interval half way to its neighbours, but
  at most one bin: so 90 or 4,000 distinct values fill the bins alike, while fewer
  than 64 leave some empty, and count as the lost levels that they are.

The histogram of the whole image depends on how much air the box holds; that of the
foreground does not. Neither knows where an intensity occurs: blurring fills their gaps
and can lower their divergence, although a person sees less. The score therefore asks
for the histogram of a voxel *given its surroundings*: what is left to see where the
neighbours are known. That is again a divergence from uniform, the foreground's own
plus the mutual information of voxel and surroundings, and blurring raises the second.

No histogram tells noise from anatomy: noise uses all levels and passes for contrast.
The information that blocks of voxels share with their surroundings does tell, and it
foretells best whether a noisy scan can be registered. The divergences and the score do
not: heads left with two grey levels are registered as well as whole ones
(``scripts/contrast_threshold.py`` measures this). It is what `mireg register` warns on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import _kernels as kernels
from . import information
from ._errors import InputError, not_read
from ._files.faults import check_there, in_file
from ._files.formats import ImageLike
from ._image import Image, memory_order
from ._intensity import IntensityScale, subsampled
from ._prepare import in_mask, prepare, voxel_centres

FloatArray = npt.NDArray[np.float64]

#: Bins of a histogram of intensities.
BINS = 64

#: Bins along each axis of the joint histogram of voxel and surroundings.
JOINT_BINS = 16

#: Added to every bin of both histograms for the Jeffreys divergence.
SMOOTHING = 1e-4

#: Below this `Contrast.structure` registration begins to fail. Of phantoms in noise, 31
#: of the 40 below went wrong by over 2 mm, and 2 of the 32 above; it cannot foretell
#: failure by blur (scripts/contrast_threshold.py). Good scans of heads have 0.4 to 0.6.
LEAST_STRUCTURE = 0.2

_COHORT_FORMAT = "mireg cohort 1"


@dataclass(frozen=True, eq=False)
class Histogram:
    """A distribution of intensities over bins of equal width.

    Parameters
    ----------
    p : (n,) ndarray
        Share of the voxels in each bin, from the low end of the axis.

    Examples
    --------
    Half of the voxels in each of two of four bins:

    >>> two = Histogram(np.array([0.5, 0, 0, 0.5]))
    >>> two.divergence, two.entropy, two.levels
    (1.0, 1.0, 2.0)
    """

    p: FloatArray

    @property
    def divergence(self) -> float:
        """KL divergence from the uniform histogram, bits: 0 to ``log2(bins)``."""
        uniform = np.full(self.p.size, 1 / self.p.size)
        return information.kl_divergence(self.p, uniform, base=2)

    @property
    def entropy(self) -> float:
        """Entropy, bits."""
        return information.entropy(self.p, base=2)

    @property
    def levels(self) -> float:
        """Effective number of grey levels, ``bins * 2**-divergence``."""
        return float(self.p.size * 2.0**-self.divergence)


@dataclass(frozen=True, eq=False, repr=False)
class Contrast:
    """How much contrast one scan has.

    Attributes
    ----------
    score : float
        Divergence from uniform, bits, of a foreground voxel given its surroundings
        (voxels 3 to 4 mm away in a head): from 0, best, to 4, nothing to see.
    structure : float
        Share, 0 to 1, of their information that blocks (1/40 of the field of view)
        and their surroundings have in common, over the whole image: near 0, the image
        is noise. Any change of scale or offset leaves it alone.
    whole, foreground : Histogram
        Intensities of all voxels and of the anatomy, on the same axis.
    foreground_fraction : float
        Share of the voxels that are foreground.
    limits : tuple of float
        Intensities at the ends of the axis.
    """

    score: float
    structure: float
    whole: Histogram
    foreground: Histogram
    foreground_fraction: float
    limits: tuple[float, float]

    def __repr__(self) -> str:
        """Say in one line how much there is."""
        return (
            f"<Contrast score {self.score:.3f} bits, structure {self.structure:.3f}, "
            f"{self.foreground.levels:.1f} grey levels>"
        )

    def _repr_html_(self) -> str:
        """Show the figures in a notebook."""
        rows = {
            "score": f"{self.score:.3f} bits from uniform (0 best, "
            f"{math.log2(JOINT_BINS):g} nothing to see)",
            "structure": f"neighbours share {100 * self.structure:.0f} % of their "
            "information",
            "grey levels": f"{self.foreground.levels:.1f} of {BINS} in the foreground",
            "foreground": f"{100 * self.foreground_fraction:.0f} % of the voxels",
            "intensities": f"{self.limits[0]:g} to {self.limits[1]:g}",
        }
        if self.doubt is not None:
            rows["note"] = self.doubt
        cells = "".join(
            f"<tr><th>{label}</th><td>{text}</td></tr>" for label, text in rows.items()
        )
        return f"<table>{cells}</table>"

    @property
    def doubt(self) -> str | None:
        """Why the scan may be past registering, if it is."""
        if self.structure >= LEAST_STRUCTURE:
            return None
        return (
            f"has too little contrast for its noise: neighbouring parts share "
            f"{100 * self.structure:.0f} % of their information, and below "
            f"{100 * LEAST_STRUCTURE:.0f} % registration begins to fail"
        )

    def figures(self) -> dict[str, float]:
        """Return every number by name, those in bits with ``_bits``."""
        figures = {"score_bits": self.score, "structure": self.structure}
        for name, histogram in (("foreground", self.foreground), ("whole", self.whole)):
            figures[f"{name}_kl_bits"] = histogram.divergence
            figures[f"{name}_entropy_bits"] = histogram.entropy
            figures[f"{name}_levels"] = histogram.levels
        low, high = self.limits
        return {
            **figures,
            "foreground_fraction": self.foreground_fraction,
            "low": low,
            "high": high,
        }


def contrast(
    image: ImageLike,
    *,
    limits: tuple[float, float] | None = None,
) -> Contrast:
    """Score the contrast of a scan.

    Parameters
    ----------
    image : Image, path, nibabel image, SimpleITK image or (array, affine)
        The scan, or one that is prepared; of a 4-D image the mean. Of one prepared
        with a mask, the foreground is looked at within that.
    limits : tuple of float, optional
        Nominal range of the intensities, such as -1024 and 3071 of CT, instead of
        the range of the scan itself. A squeezed scan is then always told from the
        original; the limits must follow a change of scale.

    Returns
    -------
    Contrast

    Raises
    ------
    InputError
        If the image cannot be read, holds no data or one intensity only, or the
        limits are no range.

    Notes
    -----
    A scan and its inverse, or its multiple, get the same figures, to rounding.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y, z = np.indices((24, 24, 24)) - 11.5
    >>> ball = (x**2 + y**2 + z**2 < 80) * (60 + 8 * np.rint(3 * np.sin(x + y)))
    >>> plain = contrast(Image(ball, np.eye(4)))
    >>> washed_out = contrast(Image(40 + 0.3 * ball, np.eye(4)))
    >>> inverted = contrast(Image(84 - ball, np.eye(4)))
    >>> washed_out.score > plain.score, abs(inverted.score - plain.score) < 1e-6
    (True, True)
    """
    prepared = prepare(image)
    image, scale = prepared.image, prepared.scale
    sub = subsampled(image)
    voxels = sub.data
    low, high = _axis(image, voxels, scale) if limits is None else limits
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"the range is from {low:g} to {high:g}; give two numbers, the lower first"
        )
    voxels = np.clip(voxels, np.float32(scale.low), np.float32(scale.high))
    foreground = scale.is_foreground(voxels)
    if prepared.mask is not None:
        inside = in_mask(prepared.mask, voxel_centres(sub)).reshape(sub.shape)
        foreground &= inside if (foreground & inside).any() else True
    if not foreground.any():
        foreground = np.isfinite(voxels)
    joint = neighbourhood_histogram(voxels, foreground, low, high)
    blocks = prepared.low_resolution.data
    filled = np.isfinite(blocks)
    ends = np.percentile(blocks[filled], [0.5, 99.5])
    blocks_joint = neighbourhood_histogram(blocks, filled, *ends)
    return Contrast(
        score=math.log2(JOINT_BINS) - information.conditional_entropy(joint, base=2),
        structure=information.entropy_correlation_coefficient(blocks_joint),
        whole=histogram(voxels, low, high),
        foreground=histogram(voxels[foreground], low, high),
        foreground_fraction=float(foreground.sum() / np.isfinite(voxels).sum()),
        limits=(low, high),
    )


def histogram(
    values: npt.ArrayLike, low: float, high: float, bins: int = BINS
) -> Histogram:
    """Take the histogram of intensities, the same at any bit depth.

    Each distinct value stands for the interval half way to its neighbours, at most
    half a bin to each side, and gives every bin its share of that.

    Parameters
    ----------
    values : array_like
        Intensities; NaN is left out, and what lies beyond the ends counts as there.
    low, high : float
        The lowest and the highest value of the axis.
    bins : int, optional
        Number of bins.

    Raises
    ------
    InputError
        If there are no values.

    Examples
    --------
    Six grey levels in four bins make no comb:

    >>> histogram([0, 1, 2, 3, 4, 5], 0, 5, bins=4).p
    array([0.25, 0.25, 0.25, 0.25])
    """
    data = np.asarray(values)
    data = data[np.isfinite(data)]
    if data.size == 0:
        raise InputError(
            "there are no intensities: every voxel is NaN or infinite; check the image"
        )
    data = np.sort(np.clip(data, low, high).astype(np.float32, copy=False))
    last = np.append(np.flatnonzero(data[1:] != data[:-1]), data.size - 1)
    level, counted = data[last].astype(np.float64), np.append(0, last + 1)
    most = (high - low) / (bins - 1) / 2
    half = np.minimum(np.diff(level) / 2, most)
    ends = half[[0, -1]] if half.size else (most, most)
    below = np.concatenate([ends[:1], half])
    above = np.concatenate([half, ends[1:]])
    ends_of_levels = np.stack([level - below, level + above], axis=1).ravel()
    counts_there = np.stack([counted[:-1], counted[1:]], axis=1).ravel()
    edges = np.linspace(low - below[0], high + above[-1], bins + 1)
    within = np.interp(edges[1:-1], ends_of_levels, counts_there)
    shares = np.diff(within, prepend=0, append=counted[-1])  # nothing lies beyond
    return Histogram(information.from_counts(shares))


# --- beside others ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cohort:
    """What the scans of a cohort look like together.

    Attributes
    ----------
    n : int
        Number of scans.
    whole, foreground : Histogram
        Mean histograms.
    means, spreads : mapping of str to float
        Mean and standard deviation (0 of one scan) of the figures in bits, by the
        names that `Contrast.figures` gives them.
    """

    n: int
    whole: Histogram
    foreground: Histogram
    means: Mapping[str, float]
    spreads: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """How far a scan's foreground is from that of a reference.

    Attributes
    ----------
    js : float
        Jensen-Shannon divergence, bits: 0 (equal) to 1 (nothing in common).
    jeffreys : float
        Jeffreys divergence, bits, with 1e-4 added to every bin of both.
    wasserstein : float
        Distance that intensities must travel, as a share of the axis.
    deviation : float or None
        Score less the cohort's mean, in standard deviations of the cohort; None
        beside a single scan, or if all scores of the cohort are equal.
    """

    js: float
    jeffreys: float
    wasserstein: float
    deviation: float | None = None


def compare(found: Contrast, reference: Contrast | Cohort) -> Comparison:
    """Compare a scan with a reference scan or a cohort.

    The histograms of the foreground are compared, each on its own axis: a change of
    scale is no difference, an inversion is.

    Parameters
    ----------
    found : Contrast
        The scan.
    reference : Contrast or Cohort
        What to hold it against.

    Examples
    --------
    >>> ramp = Histogram(np.full(64, 1 / 64))
    >>> same = Contrast(0, 1, ramp, ramp, 1, (0, 1))
    >>> compare(same, same).wasserstein
    0.0
    """
    p, q = found.foreground.p, reference.foreground.p
    if p.shape != q.shape:
        raise InputError(
            f"the histograms have {p.size} and {q.size} bins; compare those with as "
            "many bins as each other"
        )
    deviation = None
    if isinstance(reference, Cohort):
        spread = reference.spreads["score_bits"]
        if spread > 0:
            deviation = (found.score - reference.means["score_bits"]) / spread
    return Comparison(
        js=information.js_divergence(p, q, base=2),
        jeffreys=information.jeffreys_divergence(p, q, base=2, epsilon=SMOOTHING),
        wasserstein=information.wasserstein_distance(
            p, q, centres=(np.arange(p.size) + 0.5) / p.size
        ),
        deviation=deviation,
    )


def cohort(scans: Sequence[Contrast]) -> Cohort:
    """Learn what scans look like together.

    Parameters
    ----------
    scans : sequence of Contrast
        One or more.

    Raises
    ------
    InputError
        If there are none.
    """
    if not scans:
        raise InputError("there is no scan to make a cohort of; give one or more")
    figures = [one.figures() for one in scans]
    names = [name for name in figures[0] if name.endswith("_bits")]
    table = np.array([[one[name] for name in names] for one in figures])
    spreads = table.std(axis=0, ddof=min(1, len(scans) - 1))
    return Cohort(
        n=len(scans),
        whole=Histogram(np.mean([one.whole.p for one in scans], axis=0)),
        foreground=Histogram(np.mean([one.foreground.p for one in scans], axis=0)),
        means=dict(zip(names, table.mean(axis=0).tolist(), strict=True)),
        spreads=dict(zip(names, spreads.tolist(), strict=True)),
    )


def cohort_text(learnt: Cohort) -> str:
    """Write a cohort as JSON text; it holds numbers only."""
    record = {
        "format": _COHORT_FORMAT,
        "n": learnt.n,
        "whole": learnt.whole.p.tolist(),
        "foreground": learnt.foreground.p.tolist(),
        "means": dict(learnt.means),
        "spreads": dict(learnt.spreads),
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def read_cohort(path: str | PathLike[str]) -> Cohort:
    """Read a cohort that `cohort_text` wrote.

    Raises
    ------
    InputError
        If the file cannot be read or is no such cohort.
    """
    with in_file(path):
        check_there(Path(path))
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record["format"] != _COHORT_FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
        learnt = Cohort(
            n=int(record["n"]),
            whole=_read_histogram(record["whole"]),
            foreground=_read_histogram(record["foreground"]),
            means={str(k): float(v) for k, v in record["means"].items()},
            spreads={str(k): float(v) for k, v in record["spreads"].items()},
        )
        numbers = [learnt.means["score_bits"], learnt.spreads["score_bits"]]
        if not np.isfinite(numbers).all():
            raise ValueError("a score is not finite")
    except OSError as error:
        raise InputError(f"{path}: {not_read(error)}") from error
    except (
        *(KeyError, TypeError, ValueError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, KeyError):
            reason = f"it has no {reason}"
        raise InputError(
            f"{path}: not a cohort of mireg ({reason}); give the file of "
            "one that mireg contrast wrote"
        ) from error
    return learnt


def _read_histogram(values: object) -> Histogram:
    p = np.asarray(values, dtype=np.float64)
    if p.shape != (BINS,):
        raise ValueError(f"a histogram has shape {p.shape}, not {(BINS,)}")
    if abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"a histogram sums to {p.sum():g}")
    return Histogram(information.from_counts(p))


# --- voxels -----------------------------------------------------------------------


def _axis(
    image: Image, some: npt.NDArray[np.float32], scale: IntensityScale
) -> tuple[float, float]:
    """Lengthen the scale by the stretch between zero and all intensities."""
    low, high = scale.ends
    offset = 0.0
    for data in (some, image.voxels):  # all only if some leave doubt
        values = data.ravel(order="K")
        lowest, highest = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
        offset = max(lowest, -highest, 0.0)
        if offset == 0:
            break
    if scale.background - low <= high - scale.background:
        return low - offset, high
    return low, high + offset


def neighbourhood_histogram(
    values: npt.NDArray[np.float32],
    where: npt.NDArray[np.bool_],
    low: float,
    high: float,
) -> FloatArray:
    """Return the joint histogram of neighbourhood means (rows) and voxels.

    The mean is that of the neighbours on the grid, up to 26. A value
    between the centres of two bins gives to both.
    """
    high = high if high > low else low + 1.0  # all alike: one bin
    axes = memory_order(values)
    volume = np.ascontiguousarray(values.transpose(axes))
    counts = np.zeros((JOINT_BINS, JOINT_BINS))
    kernels.neighbourhood_histogram(volume, where.transpose(axes), low, high, counts)
    if not counts.any():  # no voxel has a neighbour
        counts[0] = np.histogram(values, JOINT_BINS, (low, high))[0]
    return information.from_counts(counts)
