# scipy has no types:
# mypy: disallow-untyped-calls=False
"""Poses of many images from the transforms between pairs of them.

Transforms that were found pair by pair do not fit together: around a loop of three
images they do not lead back to the start. Weighted least squares on SE(3) finds the
poses that fit all pairs best [1]_; what is left of each pair is an error measured on
the data themselves.

References
----------
.. [1] Grisetti, Kuemmerle, Stachniss and Burgard, "A tutorial on graph-based SLAM",
   IEEE Intelligent Transportation Systems Magazine 2010.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from . import _parameters as parameters
from ._transform import RigidTransform

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edge:
    """A transform between two images, as it was found.

    Attributes
    ----------
    first, second : int
        Which images.
    second_from_first : RigidTransform
        Maps points of the first to points of the second, RAS+ mm; its centre is that
        of the anatomy.
    covariance : (6, 6) ndarray
        As `Registration.covariance`: of a motion after the transform, about where its
        centre goes; rotation vector (rad), then translation (mm).
    radius_mm : float
        Root mean square radius of the anatomy.
    least_mm : float
        A residual below this is no reason to leave the pair out.
    trusted : bool
        Whether it may be used at all; a transform that is likely wrong may not.
    """

    first: int
    second: int
    second_from_first: RigidTransform
    covariance: FloatArray
    radius_mm: float
    least_mm: float
    trusted: bool = True

    @property
    def error_mm(self) -> float:
        """Its standard error from noise, root mean square over the anatomy."""
        return rms_mm(self.covariance, self.radius_mm)


@dataclass(frozen=True, eq=False)
class Solution:
    """Poses that fit the transforms between pairs.

    Attributes
    ----------
    poses : tuple of RigidTransform
        Of each image, from the first: ``image_from_first``.
    residuals_mm : (n_edges,) ndarray
        How far each transform is from what the poses say, root mean square over the
        anatomy.
    used : (n_edges,) ndarray of bool
        Which transforms took part.
    between_mm : float
        Error of a transform besides noise, as the loops show it, root mean square over
        the anatomy; NaN without a loop.
    errors_mm : (n_images,) ndarray
        Expected error of each pose, from noise and from what the loops show; 0 for the
        first image, NaN where nothing tells.
    """

    poses: tuple[RigidTransform, ...]
    residuals_mm: FloatArray
    used: npt.NDArray[np.bool_]
    between_mm: float
    errors_mm: FloatArray


def rms_mm(covariance: FloatArray, radius_mm: float) -> float:
    """Root mean square motion over a ball-like anatomy, from its covariance."""
    # Of three axes, a rotation moves a point along two.
    variances = np.diag(covariance)
    return math.sqrt(
        2 / 3 * radius_mm**2 * variances[:3].sum() + float(variances[3:].sum())
    )


def solve(edges: Sequence[Edge], n_images: int) -> Solution:
    """Find the poses of images that fit the transforms between pairs best.

    Parameters
    ----------
    edges : sequence of Edge
        The transforms; together they must reach every image.
    n_images : int
        How many images there are.

    Notes
    -----
    Where to begin is voted for: from each image the shortest paths lead to all others,
    and the start with the least median residual is taken; then each image is put where
    most of its transforms have it, so a few that are wrong decide nothing. Transforms
    whose residual is larger than the others explain are left out, and the rest is
    solved again. The error that transforms have besides noise is estimated as in a
    meta-analysis with random effects: such that the residuals are as large as expected.
    """
    trusted = np.array([edge.trusted for edge in edges])
    errors_mm = np.array([edge.error_mm for edge in edges])
    # An image that none reaches that is trusted hangs on one that is not, the surest:
    # all of them would draw the others away from each other.
    trusted = _reaching(edges, trusted, errors_mm, n_images)
    poses = _begin(edges, trusted, n_images)
    used, between = trusted, 0.0
    for _ in range(parameters.GRAPH_ROUNDS):
        # What is far off is left out before it draws the others with it.
        residuals = np.array([_residual_mm(edge, poses) for edge in edges])
        keep = trusted & _fitting(edges, used, residuals)
        keep = _reaching(edges, keep, residuals, n_images)
        poses = _least_squares(edges, keep, poses, between)
        between = _between_mm(edges, keep, poses)
        if (keep == used).all():
            break
        used = keep
    poses = _least_squares(edges, used, poses, between)
    residuals = np.array([_residual_mm(edge, poses) for edge in edges])
    loops = int(used.sum()) - (n_images - 1)
    between = _between_mm(edges, used, poses) if loops > 0 else math.nan
    errors = _errors_mm(edges, used, poses, 0.0 if math.isnan(between) else between)
    return Solution(tuple(poses), residuals, used, between, errors)


# --- where to begin -------------------------------------------------------------------


def _begin(
    edges: Sequence[Edge], used: npt.NDArray[np.bool_], n_images: int
) -> list[RigidTransform]:
    """Take the tree of shortest paths whose poses fit most of the transforms."""
    best: tuple[float, list[RigidTransform]] | None = None
    for root in range(n_images):
        poses = _tree(edges, used, n_images, root)
        fit = float(
            np.median(
                [
                    _residual_mm(edge, poses)
                    for edge, use in zip(edges, used, strict=True)
                    if use
                ]
            )
        )
        if best is None or fit < best[0]:
            best = fit, poses
    assert best is not None
    poses = _voted(edges, used, best[1])
    root_from_first = ~poses[0]
    centre = _centre_of_first(edges)
    return [(pose @ root_from_first).about(centre) for pose in poses]


def _voted(
    edges: Sequence[Edge],
    used: npt.NDArray[np.bool_],
    poses: Sequence[RigidTransform],
) -> list[RigidTransform]:
    """Let the transforms that reach an image vote where it lies.

    Noise may lead every tree along one transform that is wrong: then no tree has that
    image where all of its other transforms put it.
    """
    poses = list(poses)
    for image in list(range(len(poses))) * 2:  # what moved may lead others right
        own = [
            edge
            for edge, use in zip(edges, used, strict=True)
            if use and image in (edge.first, edge.second)
        ]

        def misfit(
            pose: RigidTransform, image: int = image, own: Sequence[Edge] = own
        ) -> float:
            moved = [*poses[:image], pose, *poses[image + 1 :]]
            return float(np.median([_residual_mm(edge, moved) for edge in own]))

        places = [
            edge.second_from_first @ poses[edge.first]
            if edge.second == image
            else ~edge.second_from_first @ poses[edge.second]
            for edge in own
        ]
        poses[image] = min([poses[image], *places], key=misfit)
    return poses


def _centre_of_first(edges: Sequence[Edge]) -> FloatArray:
    """Give the centre of the anatomy in the first image."""
    for edge in edges:
        if edge.first == 0:
            return edge.second_from_first.centre
        if edge.second == 0:
            return edge.second_from_first.apply(edge.second_from_first.centre)
    raise ValueError("no transform reaches the first image")


def _tree(
    edges: Sequence[Edge], used: npt.NDArray[np.bool_], n_images: int, root: int
) -> list[RigidTransform]:
    """Give poses ``image_from_root`` along the paths of least error (Dijkstra)."""
    poses: list[RigidTransform | None] = [None] * n_images
    queue: list[tuple[float, int, int, RigidTransform]] = []
    count = 0
    heapq.heappush(queue, (0.0, count, root, RigidTransform.identity()))
    while queue:
        error, _, image, pose = heapq.heappop(queue)
        if poses[image] is not None:
            continue
        poses[image] = pose
        for edge, use in zip(edges, used, strict=True):
            if not use or image not in (edge.first, edge.second):
                continue
            forward = edge.first == image
            other = edge.second if forward else edge.first
            step = edge.second_from_first if forward else ~edge.second_from_first
            if poses[other] is None:
                count += 1
                # Each step counts, besides its noise, as all have other errors.
                far = error + edge.error_mm**2 + edge.least_mm**2
                heapq.heappush(queue, (far, count, other, step @ pose))
    return [pose for pose in poses if pose is not None]


def _reaching(
    edges: Sequence[Edge],
    keep: npt.NDArray[np.bool_],
    errors_mm: FloatArray,
    n_images: int,
) -> npt.NDArray[np.bool_]:
    """Take back what was left out, the best first, until every image is reached."""
    keep = keep.copy()
    group = list(range(n_images))

    def of(image: int) -> int:
        while group[image] != image:
            image = group[image]
        return image

    order = sorted(range(len(edges)), key=lambda i: (not keep[i], errors_mm[i]))
    for i in order:
        first, second = of(edges[i].first), of(edges[i].second)
        if first != second:
            group[first] = second
            keep[i] = True
    return keep


# --- least squares --------------------------------------------------------------------


def _motion(edge: Edge, poses: Sequence[RigidTransform]) -> FloatArray:
    """How the poses differ from a transform, in the terms of its covariance."""
    expected = poses[edge.second].matrix @ (~poses[edge.first]).matrix
    error = expected @ (~edge.second_from_first).matrix
    at = edge.second_from_first.apply(edge.second_from_first.centre)
    turn = Rotation.from_matrix(error[:3, :3]).as_rotvec()
    return np.concatenate([turn, error[:3, :3] @ at + error[:3, 3] - at])


def _residual_mm(edge: Edge, poses: Sequence[RigidTransform]) -> float:
    """How far the poses are from a transform, root mean square over the anatomy."""
    motion = _motion(edge, poses)
    angle = np.linalg.norm(motion[:3])
    chord = 2 * math.sin(angle / 2)  # a turn by half moves no further than across
    return math.hypot(math.sqrt(2 / 3) * edge.radius_mm * chord, *motion[3:].tolist())


def _covariance(edge: Edge, between_mm: float) -> FloatArray:
    """Add to the covariance from noise that of the other errors, alike everywhere."""
    # Half of it turns the anatomy, half shifts it; see `rms_mm`.
    other = np.repeat([1 / (4 * edge.radius_mm**2), 1 / 6], 3) * between_mm**2
    least = np.repeat([1 / edge.radius_mm, 1.0], 3) * parameters.GRAPH_LEAST_MM
    return edge.covariance + np.diag(other + least**2)


def _least_squares(
    edges: Sequence[Edge],
    used: npt.NDArray[np.bool_],
    poses: Sequence[RigidTransform],
    between_mm: float,
) -> list[RigidTransform]:
    """Improve poses; that of the first image stays."""
    some = [edge for edge, use in zip(edges, used, strict=True) if use]
    whiten = [
        np.linalg.cholesky(np.linalg.inv(_covariance(edge, between_mm))).T
        for edge in some
    ]

    def residuals(moves: FloatArray) -> FloatArray:
        moved = _moved(poses, moves)
        parts = [w @ _motion(edge, moved) for edge, w in zip(some, whiten, strict=True)]
        return np.concatenate(parts)

    def jacobian(moves: FloatArray) -> FloatArray:
        moved = _moved(poses, moves)
        parts = [w @ _slopes(edge, moved) for edge, w in zip(some, whiten, strict=True)]
        return np.concatenate(parts)

    start = np.zeros(6 * (len(poses) - 1))
    scale = np.tile(np.repeat([1 / some[0].radius_mm, 1.0], 3), len(poses) - 1)
    found = least_squares(residuals, start, jacobian, x_scale=scale, xtol=1e-10)
    return _moved(poses, found.x)


def _slopes(edge: Edge, poses: Sequence[RigidTransform]) -> FloatArray:
    """Slopes (6, 6 (n - 1)) of `_motion`, where it is small, by those of `_moved`."""
    slopes = np.zeros((6, 6 * len(poses)))
    at = edge.second_from_first.apply(edge.second_from_first.centre)
    second, first = poses[edge.second], poses[edge.first]
    turn = second.rotation_matrix @ first.rotation_matrix.T
    # Both images turn about where the first one's anatomy is.
    lever = at - second.apply(second.centre)
    for image, turned in ((edge.second, np.eye(3)), (edge.first, -turn)):
        block = slopes[:, 6 * image : 6 * image + 6]
        block[:3, :3] = block[3:, 3:] = turned
        block[3:, :3] = -_cross(lever) @ turned
    return slopes[:, 6:]


def _cross(v: FloatArray) -> FloatArray:
    """Give the matrix that takes the cross product of `v` with what it multiplies."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def _moved(poses: Sequence[RigidTransform], moves: FloatArray) -> list[RigidTransform]:
    """Move all images but the first, each about where the anatomy is in it."""
    moved = [poses[0]]
    for pose, move in zip(poses[1:], moves.reshape(-1, 6), strict=True):
        at = pose.apply(pose.centre)
        moved.append(RigidTransform(move[:3], move[3:], at) @ pose)
    return moved


# --- errors ---------------------------------------------------------------------------


def _fitting(
    edges: Sequence[Edge], used: npt.NDArray[np.bool_], residuals: FloatArray
) -> npt.NDArray[np.bool_]:
    """Tell which residuals are no larger than those of the others explain."""
    noise = np.array([edge.error_mm for edge in edges])
    # Half of the residuals are less than about 0.95 of their root mean square.
    typical = np.median(residuals[used]) / 0.95
    most = parameters.GRAPH_OUTLIER * np.hypot(typical, noise)
    return residuals <= np.maximum(most, [edge.least_mm for edge in edges])


def _between_mm(
    edges: Sequence[Edge], used: npt.NDArray[np.bool_], poses: Sequence[RigidTransform]
) -> float:
    """Error besides noise with which the residuals are as large as expected."""
    some = [edge for edge, use in zip(edges, used, strict=True) if use]
    motions = [_motion(edge, poses) for edge in some]
    freedom = 6 * (len(some) - (len(poses) - 1))
    if freedom <= 0:
        return 0.0

    def excess(between: float) -> float:
        squares = (
            float(motion @ np.linalg.solve(_covariance(edge, between), motion))
            for edge, motion in zip(some, motions, strict=True)
        )
        return sum(squares) - freedom

    low, high = 0.0, max(_residual_mm(edge, poses) for edge in some) * len(some)
    if excess(low) <= 0:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _errors_mm(
    edges: Sequence[Edge],
    used: npt.NDArray[np.bool_],
    poses: Sequence[RigidTransform],
    between_mm: float,
) -> FloatArray:
    """Take the expected error of each pose from the curvature of the sum of squares."""
    n = len(poses)
    information = np.zeros((6 * (n - 1), 6 * (n - 1)))
    for edge, use in zip(edges, used, strict=True):
        if use:
            slopes = _slopes(edge, poses)
            inverse = np.linalg.inv(_covariance(edge, between_mm))
            information += slopes.T @ inverse @ slopes
    covariance = np.asarray(np.linalg.inv(information), np.float64)
    radius = float(np.median([edge.radius_mm for edge in edges]))
    blocks = (covariance[i : i + 6, i : i + 6] for i in range(0, 6 * (n - 1), 6))
    return np.array([0.0, *(rms_mm(block, radius) for block in blocks)])


# --- frames ---------------------------------------------------------------------------


def mean_frame(poses: Sequence[RigidTransform]) -> RigidTransform:
    """Find the frame half-way between images, no image being special.

    Parameters
    ----------
    poses : sequence of RigidTransform
        Of the images, from a common frame: ``image_from_common``.

    Returns
    -------
    RigidTransform
        ``mean_from_common``: the mean rotation on SO(3), and the mean place of the
        centre of the anatomy.

    Examples
    --------
    >>> import numpy as np
    >>> turned = RigidTransform([0, 0, 0.2], [0, 0, 4])
    >>> mean_frame([turned, ~turned]).max_displacement([[0, 0, 0], [9, 0, 0]]) < 1e-9
    True
    """
    centre = poses[0].centre
    turns = Rotation.from_matrix(np.array([pose.rotation_matrix for pose in poses]))
    turn = turns.mean()
    place = np.mean([pose.apply(centre) for pose in poses], axis=0)
    return RigidTransform(turn.as_rotvec(), place - centre, centre)
