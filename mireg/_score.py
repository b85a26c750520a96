"""What every similarity metric says of two images at a pose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import _threads
from ._engine.levels import levels_at, pyramid
from ._engine.pair import Pair
from ._engine.similarity import joint_histogram, metric_at
from ._errors import InputError
from ._files.formats import ImageLike
from ._prepare import prepare, read
from ._prior import Prior, checked_prior
from ._settings import METRICS, Settings, settings_or_default
from ._transform import TransformLike, as_transform


def score(
    fixed: ImageLike,
    moving: ImageLike,
    moving_from_fixed: TransformLike | None = None,
    *,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    settings: Settings | None = None,
    prior: Prior | None = None,
) -> Mapping[str, float]:
    """Score two images at a pose by every similarity metric.

    Parameters
    ----------
    fixed, moving : Image, PreparedImage, path, nibabel image, SimpleITK image or tuple
        Two scans; a tuple is (array, affine).
    moving_from_fixed : transform, (4, 4) array_like or path, optional
        Maps points of `fixed` to points of `moving`, RAS+ mm to RAS+ mm
        (default: the images lie as their headers say).
    fixed_mask, moving_mask : as `fixed`, optional
        Above 0.5 where to compare; any grid, in the world space of its image.
    settings : Settings, optional
        Bins, samples, seed and threads, and the strength of the prior.
    prior : Prior, optional
        What aligned pairs of these contrasts look like.

    Returns
    -------
    mapping of str to float
        The score by each of `mireg.MetricName` ("prior" only with one), of the
        images as they are at their full resolution; higher is better. Then
        "overlap_fraction", the share of the samples that lie inside both images.

    Raises
    ------
    InputError
        If an image has no contrast, a mask misses its image, or no sample lies
        inside both images.

    Notes
    -----
    `mireg.register` may end at another score for the same pose: it also looks at
    the images with their bias fields divided out, and may compare at points of the
    other image.

    Examples
    --------
    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> fixed = ball + (x > 12), np.eye(4)
    >>> moving = 3 - fixed[0], np.eye(4)
    >>> one_mm_right = np.eye(4)
    >>> one_mm_right[0, 3] = 1
    >>> there, beside = score(fixed, moving), score(fixed, moving, one_mm_right)
    >>> all(there[name] > beside[name] for name in there)
    True
    """
    settings, prior = settings_or_default(settings), checked_prior(prior)
    threads = settings.threads or _threads.available()
    prepared = (
        prepare(*read("fixed", fixed, fixed_mask), threads=threads),
        prepare(*read("moving", moving, moving_mask), threads=threads),
    )
    pose = np.eye(4)
    if moving_from_fixed is not None:
        images = prepared[0].image, prepared[1].image
        pose = as_transform(moving_from_fixed, fixed=images[0], moving=images[1]).matrix
    joints = None if prior is None else prior.weighted(settings.prior_strength)
    pair = Pair.of(*prepared, joints, threads, channels=["original"])
    finest = pyramid(pair, threads).finest
    level = levels_at(pair, finest, settings, threads)["original"]
    histogram, _ = joint_histogram(level, pair.engine_pose(pose), threads)
    if not histogram.any():
        raise InputError(
            "the images do not overlap at this pose; give another transform"
        )
    return {
        **{
            name: metric_at(level, name)(histogram)[0]
            for name in METRICS
            if name != "prior" or prior is not None
        },
        "overlap_fraction": float(histogram.sum() / level.n_samples),
    }
