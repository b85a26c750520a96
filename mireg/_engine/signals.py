"""What speaks for an answer and against it, as numbers: the signals of a verdict.

A pose is taken as it is, whoever found it. Nothing here decides; `verdict` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .._errors import InputError
from .._prepare import Foreground
from .._settings import Settings
from .._threads import shared
from .handedness import Handedness, handedness
from .levels import Level, Pyramid, levels_at, subsampled, with_fewer_samples
from .metrics import Metric
from .optimize import evaluate
from .pair import Pair
from .pose import PoseParameters
from .residuals import LocalResiduals, local_residuals
from .search import even_rotations, starting_poses
from .similarity import joint_histogram, metric_at

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """Measurements at one pose of a pair; NaN where one cannot be made.

    Information is mutual information times the share of samples inside, in nats a
    sample, in the channel and at the level of the answer; whatever the metric, and
    without the prior, if there is one.

    Attributes
    ----------
    information : float
        At the pose.
    coarse_share : float
        What the coarse level's images share at the pose, as a share of `information`:
        another person's head matches coarsely only.
    cost_voxel, least_cost_voxel : float
        Share of the information that a small move costs: of twelve, by one voxel of
        the coarser image along and about three axes both ways, the mean, and the least
        of the six means of both ways.
    wrong_pose_z : float
        How many standard deviations the information is above the mean of that at wrong
        poses, turned evenly about the centroid.
    wrong_pose_share : float
        The most information at any of those wrong poses, as a share of `information`.
    residual_told : float
        Share of the blocks of the anatomy (by samples) that tell where they fit.
    residual_median_mm, residual_rms_mm, residual_worst_mm : float
        Local residuals over those blocks: median, weighted root mean square beyond what
        their standard errors explain, 90th percentile.
    residual_fit : float
        Share of the told blocks that fit within a voxel of the coarser image.
    residual_rigid_mm : float
        Size of the rigid motion (RMS over the blocks) that explains most of the
        residuals: what is left of them is bending, or another anatomy.
    residual_gain : float
        Share of their information that blocks gain by moving: all of them together.
    mirrored_share : float
        Normalised mutual information above 1 of the mirrored image, refined, as a share
        of that at the pose.
    mirrored_z : float
        Evidence for the handedness as stored, in standard errors (Vuong's test): above
        0 as stored, below 0 mirrored.
    """

    information: float = math.nan
    coarse_share: float = math.nan
    cost_voxel: float = math.nan
    least_cost_voxel: float = math.nan
    wrong_pose_z: float = math.nan
    wrong_pose_share: float = math.nan
    residual_told: float = math.nan
    residual_median_mm: float = math.nan
    residual_rms_mm: float = math.nan
    residual_worst_mm: float = math.nan
    residual_fit: float = math.nan
    residual_rigid_mm: float = math.nan
    residual_gain: float = math.nan
    mirrored_share: float = math.nan
    mirrored_z: float = math.nan

    def as_dict(self) -> Mapping[str, float]:
        """Give the numbers by their names."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is measured at a pose.

    Attributes
    ----------
    signals : Signals
        As numbers.
    residuals : LocalResiduals
        Where it fits.
    handedness : Handedness
        What the mirrored image explains.
    """

    signals: Signals
    residuals: LocalResiduals
    handedness: Handedness


def evidence(
    pair: Pair,
    resolutions: Pyramid,
    channel: str,
    pose: FloatArray,
    settings: Settings,
    threads: int = 1,
    *,
    level: Level | None = None,
) -> Evidence:
    """Measure all that speaks for a pose and against it, whoever found it.

    Parameters
    ----------
    pair : Pair
        The pair, in the roles that the pose is in.
    resolutions : Pyramid
        Of the pair in these roles.
    channel : str
        The channel in which to compare.
    pose : (4, 4) array
        `interpolated_from_sampled`, RAS+ mm.
    settings : Settings
        Metric, bins, samples and seed.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    level : Level, optional
        The finest level in that channel, where it is at hand.
    """
    only = pair.only(channel)
    if level is None:
        (level,) = levels_at(only, resolutions.finest, settings, threads).values()
    few = coarse = subsampled(level, settings)
    with suppress(InputError):  # a mask can leave too few of the coarse samples
        (coarse,) = levels_at(only, resolutions.coarse, settings, threads).values()
    metric = metric_at(few, settings.metric)
    residuals = local_residuals(level, pose, pair.sampled.foreground, threads)
    thin = with_fewer_samples(few, parameters.EVIDENCE_SAMPLES)
    hand = handedness(coarse, thin, pose, settings.metric, pair.sampled, threads)
    return Evidence(
        signals(
            coarse,
            few,
            pose,
            metric,
            pair.sampled.foreground,
            threads,
            residuals=residuals,
            hand=hand,
        ),
        residuals,
        hand,
    )


def signals(
    coarse: Level,
    level: Level,
    pose: FloatArray,
    metric: Metric,
    foreground: Foreground,
    threads: int = 1,
    *,
    residuals: LocalResiduals | None = None,
    hand: Handedness | None = None,
) -> Signals:
    """Measure what speaks for a pose and against it.

    Parameters
    ----------
    coarse, level : Level
        The pair at a coarse resolution and at that of the answer, in one channel; a
        few of the samples are enough.
    pose : (4, 4) array
        The answer: `interpolated_from_sampled`, RAS+ mm.
    metric : callable
        What is maximised, as in `metrics`; of the histograms of `level`.
    foreground : Foreground
        Of the sampled image.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    residuals : LocalResiduals, optional
        Those at the pose.
    hand : Handedness, optional
        That at the pose.

    Returns
    -------
    Signals
        NaN where residuals or handedness are not given, or nothing overlaps.
    """
    here = evaluate(level, pose, metric, threads)
    known: dict[str, float] = {}
    if residuals is not None:
        known |= {
            "residual_told": residuals.told_share,
            "residual_median_mm": residuals.median_mm,
            "residual_rms_mm": residuals.rms_mm,
            "residual_worst_mm": residuals.worst_mm,
            "residual_fit": residuals.fit_share,
            "residual_rigid_mm": residuals.rigid_mm,
            "residual_gain": residuals.gain_share,
        }
    if hand is not None:
        known["mirrored_share"] = hand.mirrored_share
        known["mirrored_z"] = hand.z
    if here.overlap_fraction < parameters.MIN_OVERLAP:
        return Signals(**known)
    information = float(_explained(level, [pose], threads)[0])
    coarsely = _explained(coarse, [pose], threads)[0]
    wrong = _explained(coarse, _wrong_poses(pose, foreground), threads)
    thin = with_fewer_samples(level, parameters.EVIDENCE_SAMPLES)
    costs = _costs(thin, pose, threads)
    return Signals(
        information=information,
        coarse_share=_ratio(coarsely, information),
        cost_voxel=float(costs.mean()),
        least_cost_voxel=float(costs.min()),
        wrong_pose_z=_ratio(coarsely - float(wrong.mean()), float(wrong.std())),
        wrong_pose_share=_ratio(float(wrong.max()), coarsely),
        **known,
    )


def _explained(level: Level, poses: list[FloatArray], threads: int) -> FloatArray:
    """Information at each of some poses, nats a sample; 0 without overlap."""

    def explained(pose: FloatArray) -> float:
        histogram, _ = joint_histogram(level, pose)
        overlap = float(histogram.sum()) / level.n_samples
        # Without a prior, whose information may be below 0: the verdict was learned so.
        return metric_at(level, "mi")(histogram)[0] * overlap if overlap else 0.0

    return np.array(shared(explained, poses, threads))


def _wrong_poses(pose: FloatArray, foreground: Foreground) -> list[FloatArray]:
    """Poses that turn the anatomy about its centroid, evenly."""
    turns = even_rotations(parameters.WRONG_POSES)
    cosines = (np.trace(turns, axis1=1, axis2=2) - 1) / 2
    turns = turns[cosines < math.cos(parameters.WRONG_ANGLE)]
    there = pose[:3, :3] @ foreground.centroid + pose[:3, 3]
    return [*starting_poses(turns @ pose[:3, :3], foreground.centroid, there)]


def _costs(level: Level, pose: FloatArray, threads: int) -> FloatArray:
    """Share of the information that moves by a voxel cost, each both ways."""
    near = PoseParameters.about(level, pose)
    moves = np.concatenate([np.eye(6), -np.eye(6)])
    poses = [pose, *(near.pose(move)[0] for move in moves)]
    here, *left = _explained(level, poses, threads)
    return 1 - np.reshape(left, (2, 6)).mean(axis=0) / max(here, 1e-12)


def _ratio(part: float, whole: float) -> float:
    """Divide; NaN by nothing."""
    return float(part / whole) if whole > 0 else math.nan
