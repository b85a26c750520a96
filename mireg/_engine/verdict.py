"""Reasons to doubt an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .. import _parameters as parameters
from .._contrast import Contrast
from .._prepare import Foreground
from .levels import Level
from .optimize import Fit


@dataclass(frozen=True)
class Verdict:
    """What speaks against an answer.

    Attributes
    ----------
    runner_up : float
        Share of what the answer explains that the best pose elsewhere does; 0 if there
        is none.
    doubtful : bool
        Whether the answer may be wrong.
    notes : tuple of str
        Why, and which image has too little contrast, in plain words.
    """

    runner_up: float
    doubtful: bool
    notes: tuple[str, ...]


def verdict(
    fits: Sequence[Fit],
    foreground: Foreground,
    error_mm: float,
    level: Level,
    contrasts: Sequence[Contrast],
) -> Verdict:
    """Judge an answer.

    Parameters
    ----------
    fits : sequence of Fit
        What was followed to the finest level, the best, which led to the answer, first.
    foreground : Foreground
        Of the image that was sampled for them; measures how far apart poses are.
    error_mm : float
        Standard error of the answer; NaN where that cannot be told.
    level : Level
        Where it was polished.
    contrasts : sequence of Contrast
        Of the fixed and the moving image.

    Returns
    -------
    Verdict
        What speaks against it.
    """
    runner_up, apart_mm = _runner_up(fits, foreground)
    doubts = []
    if runner_up > parameters.RUNNER_UP_SHARE:
        doubts.append(
            f"a pose {apart_mm:.0f} mm away explains {100 * runner_up:.0f} % as much "
            "as this one: look whether it is right"
        )
    if math.isnan(error_mm):
        doubts.append(
            "too little overlaps to tell how far noise moves the answer: look whether "
            "it is right"
        )
    if error_mm > parameters.UNCERTAIN_VOXELS * level.size_mm:
        doubts.append(
            f"the error expected from noise is {error_mm:.2g} mm: look whether the "
            "answer is right"
        )
    too_flat = [
        f"the {name} image {one.doubt}"
        for name, one in zip(("fixed", "moving"), contrasts, strict=True)
        if one.doubt
    ]
    return Verdict(runner_up, bool(doubts), (*too_flat, *doubts))


def _runner_up(fits: Sequence[Fit], foreground: Foreground) -> tuple[float, float]:
    """Share of the answer that the best pose elsewhere explains, and how far it is."""
    best = fits[0]
    for fit in fits[1:]:
        apart = foreground.distance(best.pose, fit.pose)
        elsewhere = apart > parameters.DISTINCT_RADII * foreground.rms_radius
        if elsewhere and fit.weighted_information > 0:
            return fit.weighted_information / best.weighted_information, apart
    return 0.0, 0.0
