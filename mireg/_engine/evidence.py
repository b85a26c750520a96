"""What speaks for a pose, in nats: the images, and the headers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .._prepare import Foreground
from .._threads import shared
from .optimize import Channels, Fit, maximise
from .similarity import metric_at
from .uncertainty import effective_samples

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for a fit.

    Attributes
    ----------
    channel : str
        In which the fit was found.
    fit : Fit
        The pose.
    images_nats : float
        Information that the images share there: nats for each sample, times the number
        of independent samples.
    headers_nats : float
        As `header_nats` gives it.
    """

    channel: str
    fit: Fit
    images_nats: float
    headers_nats: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The pose for which most speaks, and what the images alone would have chosen.

    Attributes
    ----------
    best, by_images : Evidence
        With the headers, and without.
    apart_mm : float
        How far the two poses put the foreground apart, root mean square.
    """

    best: Evidence
    by_images: Evidence
    apart_mm: float

    @property
    def for_the_headers(self) -> bool:
        """Whether the headers decided."""
        return self.best is not self.by_images


def chosen(
    channels: Channels,
    fits: Mapping[str, Sequence[Fit]],
    header_pose: FloatArray,
    foreground: Foreground,
    threads: int = 1,
) -> Choice:
    """Choose among the fits of all channels where the search left doubt.

    A wrong pose can explain more than the right one for each sample: shading does, laid
    on the slope between head and air. It does so by a few large shapes, though, and the
    right pose by many small ones: by more samples that are independent.

    Parameters
    ----------
    channels : mapping of str to (Level, Metric)
        The finest level in every channel.
    fits : mapping of str to sequence of Fit
        Of each channel, the best first. What the headers state is optimised besides.
    header_pose : (4, 4) array
        What the headers state, `interpolated_from_sampled`.
    foreground : Foreground
        Of the sampled image.
    threads : int, optional
        Threads to use.
    """
    apart = parameters.DISTINCT_RADII * foreground.rms_radius
    judge = parameters.UNIMODAL_CHANNEL
    judge = judge if judge in channels else next(iter(channels))
    level, metric = channels[judge]
    tolerance = parameters.CANDIDATE_TOLERANCE
    near = maximise(level, header_pose, metric, threads, tolerance=tolerance)
    few = [(name, those[0]) for name, those in fits.items()]
    elsewhere: list[Fit] = []
    for fit in fits[judge]:
        if all(foreground.distance(fit.pose, one.pose) > apart for one in elsewhere):
            elsewhere.append(fit)
    few += [(judge, fit) for fit in elsewhere[1 : parameters.EVIDENCE_FITS]]

    def evidence(named: tuple[str, Fit]) -> Evidence:
        name, fit = named
        level, _ = channels[name]
        information = metric_at(level, "mi" if level.prior is None else "prior")
        samples = effective_samples(level, fit.pose, information)
        off = foreground.distance(header_pose, fit.pose)
        headers = header_nats(off, foreground.rms_radius)
        return Evidence(name, fit, samples * max(fit.weighted_information, 0), headers)

    found = shared(evidence, [*few, (judge, near)], threads)
    by_images = max(found, key=lambda one: one.images_nats)
    best = max(found, key=lambda one: one.images_nats + one.headers_nats)
    away = foreground.distance(best.fit.pose, by_images.fit.pose)
    if away <= apart:
        best = by_images
    reach = parameters.OPTIMUM_RADII * foreground.rms_radius

    def leads(chosen: Evidence) -> Evidence:
        """Of the channels that found this optimum take, as always, the leading one."""
        here = [
            one
            for one in found
            if foreground.distance(one.fit.pose, chosen.fit.pose) <= reach
        ]
        return max(here, key=lambda one: one.fit.weighted_information)

    return Choice(leads(best), leads(by_images), away)


def header_nats(off_mm: float, radius: float) -> float:
    """Log density of a pose, given the headers, over that of a pose anywhere.

    Parameters
    ----------
    off_mm : float
        Root mean square distance of the foreground from where the headers put it.
    radius : float
        RMS radius of the foreground, mm.

    Examples
    --------
    >>> [round(header_nats(mm, 60)) for mm in (0, 5, 20, 60, 200)]
    [21, 19, 5, 3, -2]
    """
    # Six coordinates in mm: the translation, and the rotation vector times the lever
    # by which it moves the foreground.
    lever = math.sqrt(2 / 3) * radius
    anywhere = 4 / 3 * math.pi * parameters.ANYWHERE_MM**3 * 8 * math.pi**2 * lever**3
    density = parameters.ANYWHERE_SHARE / anywhere
    for share, sigma in parameters.HEADER_ERRORS:
        square = (off_mm / sigma) ** 2
        density += share * math.exp(-square / 2) / (math.sqrt(2 * math.pi) * sigma) ** 6
    return math.log(density * anywhere)
