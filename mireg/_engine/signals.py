"""What speaks for an answer and against it, as numbers: the signals of a verdict.

A pose is taken as it is, whoever found it. Nothing here decides; `verdict` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """Measurements at one pose of a pair; NaN where one cannot be made.

    Information is mutual information times the share of samples inside, in nats a
    sample, in the channel and at the level of the answer.

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
    cost_2mm, least_cost_2mm : float
        The same for moves of 2 mm (root mean square over the samples).
    halves_apart_mm, halves_apart_voxels : float
        Distance, RMS over the foreground, between the optima of two disjoint halves
        of the samples, in interleaved blocks.
    uphill_mm : float
        Distance, RMS over the foreground, from the pose to the optimum that a local
        refinement finds from there: near 0 for an answer of `register`.
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
    cost_2mm: float = math.nan
    least_cost_2mm: float = math.nan
    halves_apart_mm: float = math.nan
    halves_apart_voxels: float = math.nan
    uphill_mm: float = math.nan
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
