"""Whether an answer is worth its six numbers, or the headers were right."""

from __future__ import annotations

import math

from .. import _parameters as parameters
from .._prepare import Foreground
from .levels import Level
from .optimize import Fit


def header_or_answer(
    level: Level, header: Fit, answer: Fit, foreground: Foreground
) -> Fit:
    """Choose between the headers' pose and one a fraction of a voxel away.

    The answer has six numbers, which must earn what they cost: ``log(n) / 2`` nats
    each, for n samples [1]_. So images that are in line stay so, to the last digit. The
    difference, less than a tenth of a voxel, is one that the noise of the
    samples makes as well. Samples count as independent, though several lie in a voxel:
    counted as fewer, they would leave more pairs as their headers say.

    Parameters
    ----------
    level : Level
        Where both were evaluated.
    header, answer : Fit
        The pose that is there already, and the one that was found.
    foreground : Foreground
        Of the sampled image; measures how far apart the poses are.

    References
    ----------
    .. [1] Schwarz, "Estimating the dimension of a model", Annals of Statistics 1978.
    """
    n = level.n_samples
    apart = foreground.distance(header.pose, answer.pose)
    earned = n * (answer.weighted_information - header.weighted_information)
    near = apart < parameters.MODEL_CHOICE_VOXELS * level.size_mm
    return header if near and earned < 6 * math.log(n) / 2 else answer
