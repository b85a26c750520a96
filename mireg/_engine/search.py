"""All starts, in every orientation, to a few candidate poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .. import _kernels as kernels
from .._image import flat_volume
from .._prepare import Anatomy
from .._threads import shared
from .levels import Level
from .similarity import even_bins

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """How much a search tries.

    Attributes
    ----------
    count : tuple of int
        Grey levels and samples by which all starts are ranked, and how many of them
        go on.
    climb : tuple of tuples of tuples
        For each level that is climbed, rounds: grey levels and samples by which poses
        are ranked, how many of them go on, and how many steps these climb before the
        next round judges them.
    """

    count: tuple[int, int, int]
    climb: tuple[tuple[tuple[int, int, int, int], ...], ...]


#: Most pairs are sure after the first search, which is quick: few poses, on two rough
#: levels. Others show the right pose only in their details: there many poses climb
#: before they are judged, at one level that shows them.
EFFORTS = (
    Effort(
        (8, 128, 5000),
        (
            ((12, 500, 1000, 0), (16, 1500, 300, 1), (16, 2000, 150, 1)),
            ((16, 2000, 80, 1), (16, 2000, 50, 1), (16, 2000, 30, 3)),
        ),
    ),
    Effort(
        (8, 200, 10_000),
        (
            (
                (12, 600, 3000, 3),
                (16, 1000, 1000, 2),
                (16, 2000, 300, 2),
                (16, 3000, 60, 2),
            ),
        ),
    ),
)

#: A pose that explains as much as this share of the best is its rival.
RIVAL = 0.9

#: Poses are distinct that put the anatomy this share of its radius apart.
APART = 0.2

#: How much the starts of one search are turned from those of the one before.
_TURN = np.array([0.9, 0.5, 0.3])

#: About the most places in the lattice; those of a whole head are far fewer.
_MOST_PLACES = 700

#: Poses in one share of the work.
_SHARE = 256


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
class CountingLevel:
    """A level in whole grey levels, for counting histograms of many poses fast.

    Of several views that differ only in how they see the fixed image.

    Attributes
    ----------
    points : (3, n) ndarray, float32
        RAS+ mm, relative to `origin`; one row an axis.
    origin : (3,) ndarray
        RAS+ mm.
    fixed_bins : (n_views, n) ndarray, uint8
        Grey level of each sample in each view.
    moving : tuple
        Whole grey levels as flat memory, shape and strides; the level `bins`, one
        past the last, marks voxels without data.
    first_counts : (n_views, bins, bins + 1) ndarray, int32
        What every joint histogram starts from: 0, or what was learned.
    moving_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels.
    """

    points: npt.NDArray[np.float32]
    origin: FloatArray
    fixed_bins: npt.NDArray[np.uint8]
    moving: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]
    first_counts: npt.NDArray[np.int32]
    moving_ijk_from_mm: FloatArray

    def moving_ijk_from_points(
        self, moving_from_fixed: FloatArray
    ) -> npt.NDArray[np.float32]:
        """Matrices (n, 3, 4) from `points` to voxels at poses (n, 4, 4).

        Voxel i reaches from i to i + 1: cut off, a place is its nearest voxel.
        """
        matrices = self.moving_ijk_from_mm[:3] @ moving_from_fixed
        matrices[..., 3] += matrices[..., :3] @ self.origin + 0.5
        return matrices.astype(np.float32)


def counting_level(views: Sequence[Level], bins: int, samples: int) -> CountingLevel:
    """Prepare a level, in views that share the moving image, for `pose_entropies`."""
    level = views[0]
    n = level.points.shape[1]
    few = (np.arange(min(samples, n)) * (n / min(samples, n))).astype(int)
    missing = np.isnan(level.moving_grey)
    grey = np.where(missing, 0, level.moving_grey)
    moving_bin = np.minimum(grey * bins, bins - 1).astype(np.uint8)
    moving_bin[missing] = bins
    padded = np.full(np.array(moving_bin.shape) + 2, bins, np.uint8)
    padded[1:-1, 1:-1, 1:-1] = moving_bin
    fixed_grey = np.array([view.fixed_grey[few] for view in views])
    first_counts = np.zeros((len(views), bins, bins + 1), np.int32)
    for counts, view in zip(first_counts, views, strict=True):
        if view.learned is not None:
            rebin = even_bins(len(view.learned), bins)
            counts[:, :-1] = np.rint(rebin @ view.learned @ rebin.T * len(few))
    padded_from_ijk = np.eye(4)
    padded_from_ijk[:3, 3] = 1
    return CountingLevel(
        points=np.ascontiguousarray(level.points[:, few]),
        origin=level.origin,
        fixed_bins=np.minimum(fixed_grey * bins, bins - 1).astype(np.uint8),
        moving=flat_volume(padded),
        first_counts=first_counts,
        moving_ijk_from_mm=padded_from_ijk @ level.moving_ijk_from_mm,
    )


def pose_entropies(
    level: CountingLevel, moving_from_fixed: FloatArray, threads: int = 1
) -> FloatArray:
    """Entropies of the joint histograms of many poses, by counting nearest voxels.

    Parameters
    ----------
    level : CountingLevel
        The pair.
    moving_from_fixed : (n, 4, 4) array
        Poses, RAS+ mm.
    threads : int, optional
        Threads to use; counts are whole numbers, so the answer does not depend on it.

    Returns
    -------
    (n_views, n, 4) ndarray
        Samples inside the moving image and what was counted before them, then the
        entropies (nats) of the fixed image, the moving image and both together.
    """
    views, samples = level.fixed_bins.shape
    out = np.empty((views, len(moving_from_fixed), 4))
    n = np.arange(samples + level.first_counts.sum(axis=(1, 2)).max() + 1.0)
    x_log_x = n * np.log(np.maximum(n, 1))
    columns = level.first_counts.shape[2]
    fixed_rows = np.multiply(level.fixed_bins, columns, dtype=np.uint32)
    moving_ijk_from_points = level.moving_ijk_from_points(moving_from_fixed)

    def fill(start: int) -> None:
        stop = min(start + _SHARE, len(moving_from_fixed))
        kernels.pose_entropies(
            level.points,
            fixed_rows,
            *level.moving,
            level.first_counts,
            moving_ijk_from_points,
            x_log_x,
            start,
            stop,
            out,
        )

    shared(fill, range(0, len(moving_from_fixed), _SHARE), threads)
    return out


def similarity_of(entropies: FloatArray, samples: int) -> FloatArray:
    """Rank poses by the information that they explain.

    The mutual information times the share of samples inside: a wrong pose with a
    small, lucky overlap explains less than the right one. It is, up to a constant,
    the log-likelihood ratio between dependent and independent intensities. What was
    learned adds the same to every pose.
    """
    inside, h_fixed, h_moving, h_joint = np.moveaxis(entropies, -1, 0)
    return (h_fixed + h_moving - h_joint) * inside / samples


def starting_poses(
    rotations: FloatArray, fixed_place: FloatArray, moving_place: FloatArray
) -> FloatArray:
    """Poses (n, 4, 4) with every rotation, bringing one place onto another."""
    poses = np.empty((len(rotations), 4, 4))
    poses[:, 3] = 0, 0, 0, 1
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = moving_place - rotations @ fixed_place
    return poses


def candidates(
    effort: Effort,
    levels: Sequence[Sequence[Level]],
    fixed: Anatomy,
    moving: Anatomy,
    extra_starts: list[tuple[FloatArray, FloatArray]],
    *,
    orientations: int,
    keep: int,
    threads: int = 1,
    before: Sequence[Sequence[FloatArray]] = (),
    again: int = 0,
) -> tuple[list[list[FloatArray]], bool, bool]:
    """Search every orientation and many translations for promising poses.

    The middle of the fixed anatomy is brought to each place of a lattice over the
    moving one, in every orientation; neighbours differ by as much in place as in
    orientation. Poses are ranked by counting with few samples; the best of them climb
    by trial steps that shrink, and are judged again with more samples, and so on.
    Where the views agree on a pose and the last sees none nearly as good, rivals in the
    others are all that is returned beside it.

    Parameters
    ----------
    effort : Effort
        How much to try.
    levels : sequence of sequences of Level
        As many levels of the pair as `effort` climbs, the roughest first, each in
        views that differ only in how they see the fixed image.
    fixed, moving : Anatomy
        Where the foregrounds are.
    extra_starts : list of pairs of (3,) arrays
        More places of the fixed image and where to bring them, RAS+ mm.
    orientations : int
        Rotations to try at each place.
    keep : int
        Most candidates to return.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    before : sequence of sequences of (4, 4) array, optional
        Poses that an earlier search found in each view; they climb with the others.
    again : int, optional
        How often it was searched before with this effort: starts lie elsewhere.

    Returns
    -------
    poses : list of lists of (4, 4) ndarray
        Poses `moving_from_fixed` found in each view, the most promising first.
    clear : bool
        Whether the best pose has no rival in the last view.
    agree : bool
        Whether the views agree on the best pose.
    """
    turn = Rotation.from_rotvec(again * _TURN).as_matrix()
    rotations = even_rotations(orientations) @ turn
    angle = (8 * np.pi**2 / len(rotations)) ** (1 / 3)
    # What lies deep in the fixed anatomy lies no less than half as deep in the moving.
    spacing = max(angle * fixed.radius, (moving.volume / _MOST_PLACES) ** (1 / 3))
    places = moving.lattice(spacing, fixed.depth / 2)
    # Each time the lattice lies elsewhere in the fixed anatomy, too.
    middle = fixed.centre + (spacing / 2 * turn[0] if again else 0)
    starts = [*((middle, place) for place in places), *extra_starts]
    bins, samples, survivors = effort.count
    pools = _best_starts(
        counting_level(levels[0], bins, samples), rotations, starts, survivors, threads
    )
    if before:
        pools = [np.concatenate(both) for both in zip(before, pools, strict=True)]
    found = [
        _climb(effort, of_view, pool, fixed, angle / 2, threads)
        for of_view, pool in zip(zip(*levels, strict=True), pools, strict=True)
    ]
    # Of the last view, the evened one: shading by itself makes one pose stand out.
    clear = is_clear(*found[-1], fixed)
    agree = len(distinct([poses[0] for poses, _ in found], fixed)) == 1
    stay = [_rivals(*of_view) if clear and agree else of_view[0] for of_view in found]
    # Closer than rivals: a spine one vertebra off is another pose.
    poses = [distinct(of_view, fixed, keep, APART / 2) for of_view in stay]
    return poses, clear, agree


def is_clear(poses: FloatArray, scores: FloatArray, anatomy: Anatomy) -> bool:
    """Tell whether no pose is nearly as good as the best: wrong ones have rivals."""
    return len(distinct(_rivals(poses, scores), anatomy)) == 1


def _rivals(poses: FloatArray, scores: FloatArray) -> FloatArray:
    """Poses that explain nearly as much as the first, and it."""
    return poses[scores > RIVAL * scores[0]]


def _best_starts(
    level: CountingLevel,
    rotations: FloatArray,
    starts: Sequence[tuple[FloatArray, FloatArray]],
    survivors: int,
    threads: int,
) -> list[FloatArray]:
    """Try every rotation at every start; keep the best in each view."""

    def scores_at(start: tuple[FloatArray, FloatArray]) -> FloatArray:
        return _scores(level, starting_poses(rotations, *start))

    scores = np.concatenate(shared(scores_at, starts, threads), axis=1)
    pools = []
    for of_view in scores:
        place, rotation = np.divmod(np.sort(_best(of_view, survivors)), len(rotations))
        pools.append(
            np.concatenate(
                [
                    starting_poses(rotations[rotation[place == at]], *starts[at])
                    for at in np.unique(place)
                ]
            )
        )
    return pools


def _best(scores: FloatArray, n: int) -> npt.NDArray[np.intp]:
    """Where the n best are, best first; of equals, the one that came first."""
    n = min(n, len(scores))
    enough = np.flatnonzero(scores >= np.partition(scores, -n)[-n])
    return enough[np.argsort(-scores[enough], kind="stable")[:n]]


def _scores(level: CountingLevel, poses: FloatArray, threads: int = 1) -> FloatArray:
    """Rank many poses in each view."""
    return similarity_of(pose_entropies(level, poses, threads), level.points.shape[1])


def _climb(
    effort: Effort,
    levels: Sequence[Level],
    poses: FloatArray,
    anatomy: Anatomy,
    angle: float,
    threads: int,
) -> tuple[FloatArray, FloatArray]:
    """Improve ever fewer poses by trial steps that shrink: poses and scores."""
    for level, rounds in zip(levels, effort.climb, strict=True):
        for bins, samples, n, steps in rounds:
            counting = counting_level([level], bins, samples)
            scores = _scores(counting, poses, threads)[0]
            best = _best(scores, n)
            poses, scores = poses[best], scores[best]
            for _ in range(steps):
                poses, scores = _step(counting, poses, scores, anatomy, angle, threads)
                angle *= 0.7
        order = _best(scores, len(scores))
        order = order[_distinct(poses[order], anatomy, 0.05)]
        poses, scores = poses[order], scores[order]
    return poses, scores


def _step(
    level: CountingLevel,
    poses: FloatArray,
    scores: FloatArray,
    anatomy: Anatomy,
    angle: float,
    threads: int,
) -> tuple[FloatArray, FloatArray]:
    """Move each pose to the best of its neighbours, if that is better.

    Twelve neighbours are turned by an angle, or shifted by as much as that moves the
    anatomy; a thirteenth goes along each axis as far as a parabola through the scores
    has its top, but no further than the others.
    """
    units = np.concatenate([np.eye(6), -np.eye(6)])
    tried = poses[:, None] @ _motions(units, anatomy, angle)
    tried_scores = _scores(level, tried.reshape(-1, 4, 4), threads)[0].reshape(-1, 12)
    up, down = tried_scores[:, :6], tried_scores[:, 6:]
    slope, bend = (up - down) / 2, 2 * scores[:, None] - up - down
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.where(bend > np.abs(slope), slope / bend, np.sign(slope))
    ahead = poses @ _motions(top, anatomy, angle)
    tried = np.concatenate([tried, ahead[:, None], poses[:, None]], axis=1)
    ahead_scores = _scores(level, ahead, threads)[0]
    tried_scores = np.column_stack([tried_scores, ahead_scores, scores])
    best = tried_scores.argmax(axis=1)
    rows = np.arange(len(poses))
    return tried[rows, best], tried_scores[rows, best]


def _motions(steps: FloatArray, anatomy: Anatomy, angle: float) -> FloatArray:
    """Motions (n, 4, 4) about the middle of the anatomy: turns, then shifts (n, 6)."""
    motions = np.tile(np.eye(4), (len(steps), 1, 1))
    motions[:, :3, :3] = Rotation.from_rotvec(angle * steps[:, :3]).as_matrix()
    motions[:, :3, 3] = anatomy.centre - motions[:, :3, :3] @ anatomy.centre
    motions[:, :3, 3] += angle * anatomy.radius * steps[:, 3:]
    return motions


def distinct(
    poses: Sequence[FloatArray] | FloatArray,
    anatomy: Anatomy,
    keep: int | None = None,
    apart: float = APART,
) -> list[FloatArray]:
    """First `keep` poses of which no two put the anatomy in nearly one place.

    Places are near where they are less than `apart` of the anatomy's radius away.
    """
    return [poses[n] for n in _distinct(np.asarray(poses), anatomy, apart)[:keep]]


def _distinct(
    poses: FloatArray, anatomy: Anatomy, apart: float
) -> npt.NDArray[np.intp]:
    """Where the poses are that are not near one that came before."""
    places = anatomy.places(poses)
    new = np.ones(len(poses), bool)
    for n, place in enumerate(places):
        if new[n]:
            off = np.square(places[n + 1 :] - place).sum(axis=1)
            new[n + 1 :] &= off > (apart * anatomy.radius) ** 2
    return np.flatnonzero(new)
