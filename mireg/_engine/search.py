"""Global search: from all orientations and many translations to few candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .. import _kernels as kernels
from .. import _parameters as parameters
from .._image import flat_volume
from .._parameters import PatternStage, SearchSchedule
from .._prepare import Foreground
from .._settings import Settings
from .._threads import shared
from .levels import Level
from .pair import Pair
from .similarity import even_bins

FloatArray = npt.NDArray[np.float64]

#: Poses in one chunk of the work.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a global search found.

    Attributes
    ----------
    poses : dict of str to (n, 4, 4) ndarray
        In each channel that was searched `interpolated_from_sampled`, the most
        promising first.
    unimodal : bool
        Whether the best pose has no runner-up in `parameters.UNIMODAL_CHANNEL`.
    channels_agree : bool
        Whether the channels agree on the best pose.
    """

    poses: Mapping[str, FloatArray]
    unimodal: bool
    channels_agree: bool

    @property
    def confident(self) -> bool:
        """Whether the search left no doubt."""
        return self.unimodal and self.channels_agree


def global_search(
    pair: Pair,
    schedule: SearchSchedule,
    levels: Sequence[Mapping[str, Level]],
    settings: Settings,
    threads: int = 1,
    *,
    found: Mapping[str, FloatArray] | None = None,
    restart: int = 0,
) -> Candidates:
    """Search every orientation and many translations for promising poses.

    The centroid of the sampled foreground is brought to each place of a grid over the
    interpolated one, in every orientation; neighbours differ by as much in place as in
    orientation. Poses are ranked with few samples by nearest-neighbour joint
    histograms; the best of them are improved by a pattern search, ranked again with
    more samples, and so on. What the headers state is always among the candidates.

    Parameters
    ----------
    pair : Pair
        What to bring into line.
    schedule : SearchSchedule
        How much to try.
    levels : sequence of mappings of str to Level
        What `levels_at` gives at as many resolutions as the schedule has, the roughest
        first, at least in the channels that are searched.
    settings : Settings
        Orientations to try, and candidates to keep.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    found : mapping of str to (n, 4, 4) array, optional
        Poses that an earlier search found in each channel; they are improved with the
        others.
    restart : int, optional
        Number of searches before this one with the same schedule: starts lie elsewhere.
    """
    sampled, interpolated = pair.sampled.foreground, pair.interpolated.foreground
    rotation = Rotation.from_rotvec(
        restart * np.array(parameters.RESTART_ROTATION)
    ).as_matrix()
    rotations = even_rotations(settings.orientations) @ rotation
    angle = (8 * np.pi**2 / len(rotations)) ** (1 / 3)
    spacing = max(
        angle * sampled.rms_radius,
        (interpolated.volume / parameters.MAX_TRANSLATIONS) ** (1 / 3),
    )
    places = interpolated.translation_grid(
        spacing, parameters.DEPTH_SHARE * sampled.centroid_depth
    )
    # At a restart the grid lies elsewhere in the sampled foreground, too.
    shift = spacing / 2 * rotation[0] if restart else 0
    by_header = sampled.centroid, sampled.centroid
    grid_centres = pair.sampled.image.centre_mm, pair.interpolated.image.centre_mm
    starts = [*((sampled.centroid + shift, place) for place in places)]
    starts += [grid_centres, by_header]
    names = searched_channels(pair)
    roughest = {name: levels[0][name] for name in names}
    pools = _best_starts(roughest, schedule, rotations, starts, threads)
    if found is not None:
        pools = {name: np.concatenate([found[name], pools[name]]) for name in pools}
    first_step = parameters.FIRST_STEP * angle
    improved = {
        name: _pattern_search(
            schedule, [of[name] for of in levels], pool, sampled, first_step, threads
        )
        for name, pool in pools.items()
    }
    # A bias field can make one wrong pose stand out: ask where it is divided out.
    judge = parameters.UNIMODAL_CHANNEL
    judge = judge if judge in names else names[0]
    unimodal = is_unimodal(*improved[judge], sampled)
    best = [poses[0] for poses, _ in improved.values()]
    agree = len(distinct(best, sampled)) == 1
    sure = sure_candidates(pair)
    candidates = {}
    for name, (poses, scores) in improved.items():
        # Where there is no doubt, only runners-up in the other channels go on, too.
        kept = _runners_up(poses, scores) if unimodal and agree else poses
        kept = distinct([*sure, *kept], sampled)
        candidates[name] = kept[: len(sure) + settings.candidates]
    return Candidates(candidates, unimodal, agree)


def sure_candidates(pair: Pair) -> list[FloatArray]:
    """Poses that are candidates at each level, whatever a search finds.

    What was in line stays so.
    """
    return [pair.header_pose]


def searched_channels(pair: Pair) -> list[str]:
    """Name the channels of a pair that share the interpolated image as it is."""
    return [name for name in parameters.SEARCHED_CHANNELS if name in pair.channels]


def is_unimodal(poses: FloatArray, scores: FloatArray, foreground: Foreground) -> bool:
    """Tell whether no pose comes near the best: wrong ones have competitors."""
    return len(distinct(_runners_up(poses, scores), foreground)) == 1


def _runners_up(poses: FloatArray, scores: FloatArray) -> FloatArray:
    """Poses that explain nearly as much as the first, and it."""
    return poses[scores > parameters.RUNNER_UP_SHARE * scores[0]]


def even_rotations(n: int) -> FloatArray:
    """Rotations spread evenly over SO(3).

    Parameters
    ----------
    n : int
        How many. The first is not special: the identity is not among them.

    Returns
    -------
    (n, 3, 3) ndarray
        Rotation matrices on super-Fibonacci spirals [1]_; neighbours are about
        ``(8 * pi**2 / n) ** (1/3)`` radians apart.

    References
    ----------
    .. [1] Alexa, "Super-Fibonacci spirals: fast, low-discrepancy sampling of
       SO(3)", CVPR 2022.

    Examples
    --------
    >>> even_rotations(2000).shape
    (2000, 3, 3)
    """
    s = np.arange(n) + 0.5
    t = s / n
    first, second = np.sqrt(t), np.sqrt(1 - t)
    alpha = 2 * np.pi * s / np.sqrt(2)
    beta = 2 * np.pi * s / 1.533751168755204288118041
    quaternions = np.stack(
        [
            first * np.sin(alpha),
            first * np.cos(alpha),
            second * np.sin(beta),
            second * np.cos(beta),
        ],
        axis=1,
    )
    return Rotation.from_quat(quaternions).as_matrix()


@dataclass(frozen=True, eq=False)
class NearestNeighbourLevel:
    """A level in whole bins, for counting the joint histograms of many poses fast.

    Of several channels that share the interpolated image.

    Attributes
    ----------
    points : (3, n) ndarray, float32
        RAS+ mm, relative to `origin`; one row an axis.
    origin : (3,) ndarray
        RAS+ mm.
    sampled_bins : (n_channels, n) ndarray, uint8
        Bin of each sample in each channel.
    interpolated : tuple
        Bins of the voxels as flat memory, shape and strides; the bin `bins`, one past
        the last, marks voxels without data.
    first_counts : (n_channels, bins, bins + 1) ndarray, int32
        What every joint histogram starts from: 0, or the pseudo-counts of a prior.
    interpolated_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels.
    """

    points: npt.NDArray[np.float32]
    origin: FloatArray
    sampled_bins: npt.NDArray[np.uint8]
    interpolated: tuple[
        npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]
    ]
    first_counts: npt.NDArray[np.int32]
    interpolated_ijk_from_mm: FloatArray

    def ijk_from_points(self, poses: FloatArray) -> npt.NDArray[np.float32]:
        """Matrices (n, 3, 4) from `points` to voxels at poses (n, 4, 4).

        Voxel i reaches from i to i + 1: cut off, a place is its nearest voxel.
        """
        matrices = self.interpolated_ijk_from_mm[:3] @ poses
        matrices[..., 3] += matrices[..., :3] @ self.origin + 0.5
        return matrices.astype(np.float32)


def nearest_neighbour_level(
    channels: Sequence[Level], bins: int, samples: int
) -> NearestNeighbourLevel:
    """Prepare a level, in channels that share the interpolated image, for counting."""
    level = channels[0]
    n = level.n_samples
    few = (np.arange(min(samples, n)) * (n / min(samples, n))).astype(int)
    missing = np.isnan(level.interpolated_values)
    values = np.where(missing, 0, level.interpolated_values)
    voxel_bins = np.minimum(values * bins, bins - 1).astype(np.uint8)
    voxel_bins[missing] = bins
    padded = np.full(np.array(voxel_bins.shape) + 2, bins, np.uint8)
    padded[1:-1, 1:-1, 1:-1] = voxel_bins
    sampled_values = np.array([channel.sampled_values[few] for channel in channels])
    first_counts = np.zeros((len(channels), bins, bins + 1), np.int32)
    for counts, channel in zip(first_counts, channels, strict=True):
        if channel.prior is not None:
            rebin = even_bins(len(channel.prior), bins)
            counts[:, :-1] = np.rint(rebin @ channel.prior @ rebin.T * len(few))
    padded_from_ijk = np.eye(4)
    padded_from_ijk[:3, 3] = 1
    return NearestNeighbourLevel(
        points=np.ascontiguousarray(level.points[:, few]),
        origin=level.origin,
        sampled_bins=np.minimum(sampled_values * bins, bins - 1).astype(np.uint8),
        interpolated=flat_volume(padded),
        first_counts=first_counts,
        interpolated_ijk_from_mm=padded_from_ijk @ level.interpolated_ijk_from_mm,
    )


def nearest_neighbour_entropies(
    level: NearestNeighbourLevel, poses: FloatArray, threads: int = 1
) -> FloatArray:
    """Entropies of the joint histograms of many poses, by counting nearest voxels.

    Parameters
    ----------
    level : NearestNeighbourLevel
        The pair.
    poses : (n, 4, 4) array
        `interpolated_from_sampled`, RAS+ mm.
    threads : int, optional
        Threads to use; counts are whole numbers, so the answer does not depend on it.

    Returns
    -------
    (n_channels, n, 4) ndarray
        Samples inside the interpolated image and what was counted before them, then the
        entropies (nats) of the sampled image, the interpolated one and both together.
    """
    channels, samples = level.sampled_bins.shape
    out = np.empty((channels, len(poses), 4))
    n = np.arange(samples + level.first_counts.sum(axis=(1, 2)).max() + 1.0)
    x_log_x = n * np.log(np.maximum(n, 1))
    columns = level.first_counts.shape[2]
    sampled_rows = np.multiply(level.sampled_bins, columns, dtype=np.uint32)
    ijk_from_points = level.ijk_from_points(poses)

    def fill(start: int) -> None:
        kernels.nearest_neighbour_entropies(
            level.points,
            sampled_rows,
            *level.interpolated,
            level.first_counts,
            ijk_from_points,
            x_log_x,
            start,
            min(start + _CHUNK, len(poses)),
            out,
        )

    shared(fill, range(0, len(poses), _CHUNK), threads)
    return out


def weighted_information(entropies: FloatArray, samples: int) -> FloatArray:
    """Mutual information times the share of samples inside, which ranks poses.

    A wrong pose with a small, lucky overlap explains less than the right one. It is, up
    to a constant, the log-likelihood ratio between dependent and independent
    intensities. Pseudo-counts add the same to every pose.
    """
    inside, h_sampled, h_interpolated, h_joint = np.moveaxis(entropies, -1, 0)
    return (h_sampled + h_interpolated - h_joint) * inside / samples


def starting_poses(
    rotations: FloatArray, sampled_place: FloatArray, interpolated_place: FloatArray
) -> FloatArray:
    """Poses (n, 4, 4) with every rotation, bringing one place onto another."""
    poses = np.empty((len(rotations), 4, 4))
    poses[:, 3] = 0, 0, 0, 1
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = interpolated_place - rotations @ sampled_place
    return poses


def _best_starts(
    channels: Mapping[str, Level],
    schedule: SearchSchedule,
    rotations: FloatArray,
    starts: Sequence[tuple[FloatArray, FloatArray]],
    threads: int,
) -> dict[str, FloatArray]:
    """Try every rotation at every start; keep the best in each channel."""
    stage = schedule.exhaustive
    level = nearest_neighbour_level([*channels.values()], stage.bins, stage.samples)

    def scores_at(start: tuple[FloatArray, FloatArray]) -> FloatArray:
        return _scores(level, starting_poses(rotations, *start))

    scores = np.concatenate(shared(scores_at, starts, threads), axis=1)
    pools = {}
    for name, of_channel in zip(channels, scores, strict=True):
        best = np.sort(_best(of_channel, stage.keep))
        place, rotation = np.divmod(best, len(rotations))
        pools[name] = np.concatenate(
            [
                starting_poses(rotations[rotation[place == at]], *starts[at])
                for at in np.unique(place)
            ]
        )
    return pools


def _best(scores: FloatArray, n: int) -> npt.NDArray[np.intp]:
    """Where the n best are, best first; of equals, the one that came first."""
    n = min(n, len(scores))
    enough = np.flatnonzero(scores >= np.partition(scores, -n)[-n])
    return enough[np.argsort(-scores[enough], kind="stable")[:n]]


def _scores(
    level: NearestNeighbourLevel, poses: FloatArray, threads: int = 1
) -> FloatArray:
    """Rank many poses in each channel."""
    entropies = nearest_neighbour_entropies(level, poses, threads)
    return weighted_information(entropies, level.points.shape[1])


def _pattern_search(
    schedule: SearchSchedule,
    levels: Sequence[Level],
    poses: FloatArray,
    foreground: Foreground,
    angle: float,
    threads: int,
) -> tuple[FloatArray, FloatArray]:
    """Improve ever fewer poses by trial steps that shrink: poses and scores."""
    for level, stages in zip(levels, schedule.pattern, strict=True):
        for stage in stages:
            poses, scores, angle = _improved(
                level, stage, poses, foreground, angle, threads
            )
        order = _best(scores, len(scores))
        order = order[_distinct(poses[order], foreground, parameters.PATTERN_RADII)]
        poses, scores = poses[order], scores[order]
    return poses, scores


def _improved(
    level: Level,
    stage: PatternStage,
    poses: FloatArray,
    foreground: Foreground,
    angle: float,
    threads: int,
) -> tuple[FloatArray, FloatArray, float]:
    """Keep the best poses and improve them: poses, scores, and the next step."""
    counted = nearest_neighbour_level([level], stage.bins, stage.samples)
    scores = _scores(counted, poses, threads)[0]
    best = _best(scores, stage.keep)
    poses, scores = poses[best], scores[best]
    for _ in range(stage.steps):
        poses, scores = _step(counted, poses, scores, foreground, angle, threads)
        angle *= parameters.STEP_RATIO
    return poses, scores, angle


def _step(
    level: NearestNeighbourLevel,
    poses: FloatArray,
    scores: FloatArray,
    foreground: Foreground,
    angle: float,
    threads: int,
) -> tuple[FloatArray, FloatArray]:
    """Move each pose to the best of its neighbours, if that is better.

    Twelve neighbours are turned by an angle, or shifted by as much as that moves the
    foreground; a thirteenth is the parabolic step.
    """
    units = np.concatenate([np.eye(6), -np.eye(6)])
    tried = poses[:, None] @ _motions(units, foreground, angle)
    tried_scores = _scores(level, tried.reshape(-1, 4, 4), threads)[0].reshape(-1, 12)
    step = parabolic_step(tried_scores[:, :6], scores[:, None], tried_scores[:, 6:])
    ahead = poses @ _motions(step, foreground, angle)
    tried = np.concatenate([tried, ahead[:, None], poses[:, None]], axis=1)
    ahead_scores = _scores(level, ahead, threads)[0]
    tried_scores = np.column_stack([tried_scores, ahead_scores, scores])
    best = tried_scores.argmax(axis=1)
    rows = np.arange(len(poses))
    return tried[rows, best], tried_scores[rows, best]


def parabolic_step(up: FloatArray, here: FloatArray, down: FloatArray) -> FloatArray:
    """Where the parabola through scores at 1, 0 and -1 has its top, within -1 to 1."""
    gradient, curvature = (up - down) / 2, 2 * here - up - down
    with np.errstate(divide="ignore", invalid="ignore"):
        top = gradient / curvature
    return np.where(curvature > np.abs(gradient), top, np.sign(gradient))


def _motions(steps: FloatArray, foreground: Foreground, angle: float) -> FloatArray:
    """Motions (n, 4, 4) about the centroid: rotations, then translations (n, 6)."""
    motions = np.tile(np.eye(4), (len(steps), 1, 1))
    motions[:, :3, :3] = Rotation.from_rotvec(angle * steps[:, :3]).as_matrix()
    motions[:, :3, 3] = foreground.centroid - motions[:, :3, :3] @ foreground.centroid
    motions[:, :3, 3] += angle * foreground.rms_radius * steps[:, 3:]
    return motions


def distinct(
    poses: Sequence[FloatArray] | FloatArray,
    foreground: Foreground,
    apart: float | None = None,
) -> FloatArray:
    """Poses (n, 4, 4) of which no two put the foreground in nearly one place.

    Places are near that are less than `apart` of its RMS radius from one that comes
    before (default: `parameters.DISTINCT_RADII`).
    """
    poses = np.asarray(poses)
    apart = parameters.DISTINCT_RADII if apart is None else apart
    return poses[_distinct(poses, foreground, apart)]


def _distinct(
    poses: FloatArray, foreground: Foreground, apart: float
) -> npt.NDArray[np.intp]:
    """Where the poses are that are not near one that came before."""
    places = foreground.embed(poses)
    new = np.ones(len(poses), bool)
    for n, place in enumerate(places):
        if new[n]:
            off = np.square(places[n + 1 :] - place).sum(axis=1)
            new[n + 1 :] &= off > (apart * foreground.rms_radius) ** 2
    return np.flatnonzero(new)
