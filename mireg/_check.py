"""The verdict on a pose that anybody found: another program, a person, the headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ._engine.optimize import Fit, evaluate
from ._engine.residuals import LocalResiduals, local_residuals
from ._engine.similarity import metric_at
from ._engine.verdict import Verdict
from ._files.formats import ImageLike
from ._files.records import json_number
from ._files.transforms.common import LPS_FROM_RAS
from ._prior import Prior
from ._progress import Progress
from ._register import Answer, best_answer, judge, known_of, opened
from ._settings import Settings
from ._transform import RigidTransform, TransformLike, as_rigid

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """A pose that explains most, nearby or everywhere, and how far it is.

    Attributes
    ----------
    transform : RigidTransform
        Maps points of the fixed image to points of the moving one, RAS+ mm.
    mean_mm, max_mm : float
        How far from it the pose is that is judged: mean and largest distance over the
        foreground of the fixed image.
    score : float
        Similarity there.
    signals : mapping of str to float, optional
        What speaks for it and against it, of the best pose; else empty.
    """

    transform: RigidTransform
    mean_mm: float
    max_mm: float
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, ready for JSON."""
        signals = {name: json_number(x) for name, x in self.signals.items()}
        return {
            "moving_from_fixed": self.transform.matrix.tolist(),
            "mean_mm": self.mean_mm,
            "max_mm": self.max_mm,
            "score": json_number(self.score),
            **({"signals": signals} if signals else {}),
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Check:
    """What is said of a pose that anybody found.

    Attributes
    ----------
    transform : RigidTransform
        The pose: maps points of the fixed image to points of the moving one, RAS+ mm.
    metric : str
        The similarity.
    score : float
        Similarity at the pose; NaN if the images do not overlap there.
    overlap_fraction : float
        Share of the compared points that lie inside both images at the pose.
    nearest : Optimum
        What a local refinement finds from the pose.
    best : Optimum
        The best pose of all, after a search everywhere.
    elsewhere : bool
        Whether that is another one.
    residuals : LocalResiduals
        Where the anatomy fits at the pose, and how far off it is elsewhere.
    verdict : Verdict
        How likely the pose is right, how far off it is expected to be, and why. Its
        signals are those of the best pose, as are reasons that say so.
    seconds : mapping
        Wall time by stage.

    See Also
    --------
    mireg.check : Make one from two images and a pose.
    """

    transform: RigidTransform
    metric: str
    score: float
    overlap_fraction: float
    nearest: Optimum
    best: Optimum
    elsewhere: bool
    residuals: LocalResiduals
    verdict: Verdict
    seconds: Mapping[str, float]

    def __repr__(self) -> str:
        """Say in one line what is said of the pose."""
        return (
            f"<Check: {self.nearest.mean_mm:.2f} mm from the nearest optimum, "
            f"{self.best.mean_mm:.2f} mm from the best pose, {self.verdict.summary}>"
        )

    @property
    def off(self) -> bool:
        """Whether the best pose is farther away than an error that counts as right."""
        return self.best.mean_mm > self.verdict.tolerance_mm

    @property
    def doubtful(self) -> bool:
        """Whether the pose is doubtful: less than 75 % likely right."""
        return self.verdict.doubtful

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, ready for JSON: matrices are RAS+ mm, fixed to moving.

        Of the pose that is judged, but for what is under "nearest" and "best": the
        signals are there. Blocks that do not tell where they fit are left out.
        """
        judged = self.verdict.to_dict()
        del judged["signals"]
        return {
            "moving_from_fixed": self.transform.matrix.tolist(),
            "metric": self.metric,
            "score": json_number(self.score),
            "overlap_fraction": self.overlap_fraction,
            "nearest": self.nearest.to_dict(),
            "best": self.best.to_dict(),
            "elsewhere": self.elsewhere,
            "residuals": self.residuals.only_told().to_dict(),
            "doubtful": self.doubtful,
            "verdict": judged,
            "seconds": dict(self.seconds),
        }


def check(
    fixed: ImageLike,
    moving: ImageLike,
    moving_from_fixed: TransformLike | None = None,
    *,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    settings: Settings | None = None,
    prior: Prior | None = None,
    progress: Progress | None = None,
) -> Check:
    """Judge a pose that anybody found.

    Parameters
    ----------
    fixed, moving : Image, PreparedImage, path, nibabel image, SimpleITK image or tuple
        Two scans of one patient; a tuple is (array, affine).
    moving_from_fixed : RigidTransform, (4, 4) array_like or path, optional
        Maps points of `fixed` to points of `moving`, RAS+ mm to RAS+ mm (default: the
        images lie as their headers say).
    fixed_mask, moving_mask, settings, prior, progress : optional
        As for `mireg.register`.

    Returns
    -------
    Check
        How far the pose is from the nearest optimum and from the best pose, and how
        likely it is right.

    Raises
    ------
    InputError
        If `mireg.register` would refuse the images, or the transform is not rigid.

    Notes
    -----
    The best pose is found as by `mireg.register`, with the pose that is judged among
    the candidates. The verdict is that on the best pose, and on how far from it the
    pose lies.

    Examples
    --------
    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> fixed = ball + (x > 12), np.eye(4)
    >>> moving = 3 - fixed[0], np.eye(4)
    >>> three_mm_right = np.eye(4)
    >>> three_mm_right[0, 3] = 3
    >>> bool(abs(check(fixed, moving, three_mm_right).nearest.mean_mm - 3) < 0.2)
    True
    """
    task = opened(fixed, moving, fixed_mask, moving_mask, settings, prior, progress)
    pair, told = task.pair, task.told
    given = RigidTransform.identity()
    if moving_from_fixed is not None:
        images = pair.fixed.image, pair.moving.image
        given = as_rigid(moving_from_fixed, fixed=images[0], moving=images[1])
    start = pair.engine_pose(given.matrix)
    near = best_answer(task, start).answer
    search = best_answer(
        task, None, also=[start, pair.engine_pose(near.moving_from_fixed)]
    )
    best = search.answer

    points, centre = pair.fixed.foreground.points, pair.fixed.foreground.centroid
    metric = metric_at(best.level, task.settings.metric)

    def at(matrix: FloatArray) -> Fit:
        pose = best.pair.engine_pose(matrix)
        return evaluate(best.level, pose, metric, task.threads)

    def optimum(answer: Answer) -> Optimum:
        transform = RigidTransform.from_matrix(answer.moving_from_fixed, centre)
        off = given.displacements(points, transform)
        score = at(transform.matrix).score
        return Optimum(transform, float(off.mean()), float(off.max()), score)

    here, nearest, beyond = at(given.matrix), optimum(near), optimum(best)
    apart = nearest.transform.mean_displacement(points, beyond.transform)
    told.start("verdict", 0.95)
    known = known_of(task, best).signals
    judged = judge(task, search, known, distance_mm=beyond.mean_mm)
    pose = best.pair.engine_pose(given.matrix)
    fits = local_residuals(
        best.level, pose, best.pair.sampled.foreground, task.threads
    ).seen_from_fixed(pose, sampled_is_fixed=best.pair.sampled_is_fixed)
    told.start("", 1.0)
    beyond = replace(beyond, signals=judged.signals)
    if beyond.mean_mm > judged.tolerance_mm:
        # What else is said was measured at the best pose, and speaks against that.
        better = f"a better pose was found, {beyond.mean_mm:.1f} mm away on average"
        others = (f"of the better pose: {reason}" for reason in judged.reasons)
        misread = _misread(given, beyond.transform, points, judged.tolerance_mm)
        judged = replace(judged, reasons=(better, *misread, *others))
    return Check(
        transform=given.about(centre),
        metric=task.settings.metric,
        score=here.score if here.overlap_fraction > 0 else math.nan,
        overlap_fraction=here.overlap_fraction,
        nearest=nearest,
        best=beyond,
        elsewhere=apart > judged.tolerance_mm,
        residuals=fits,
        verdict=judged,
        seconds=told.seconds,
    )


def _misread(
    given: RigidTransform,
    best: RigidTransform,
    points: FloatArray,
    tolerance_mm: float,
) -> list[str]:
    """Say which mistake of frame, direction or unit would explain a pose that is off.

    Points are those of the fixed image at which poses are compared, RAS+ mm.
    """

    def in_lps(matrix: FloatArray) -> FloatArray:
        return LPS_FROM_RAS @ matrix @ LPS_FROM_RAS

    there, back = given.matrix, (~given).matrix
    in_mm = there.copy()
    in_mm[:3, 3] *= 10  # so the inverse's is ten times as long, too
    readings = {
        "the other way round, from moving to fixed": back,
        "with x and y of the other sign, LPS and RAS exchanged": in_lps(there),
        "the other way round, with x and y of the other sign": in_lps(back),
        "with its translation in cm": in_mm,
    }
    apart = {
        name: best.mean_displacement(points, RigidTransform.from_matrix(matrix))
        for name, matrix in readings.items()
    }
    name = min(apart, key=lambda one: apart[one])
    if apart[name] > tolerance_mm:
        return []
    return [f"read {name}, it lies {apart[name]:.1f} mm from the better pose"]
