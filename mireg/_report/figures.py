"""The figures of a page: joint histograms, mutual information around the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._engine.levels import Level, levels_at, pyramid, subsampled
from .._engine.pair import Pair
from .._engine.similarity import joint_histogram, metric_at
from .._files.transforms.common import LPS_FROM_RAS, Images
from .._files.transforms.fsl import write_fsl
from .._image import Image
from .._prepare import PreparedImage
from .._settings import Settings
from .._transform import RigidTransform, Transform
from .words import in_directions

FloatArray = npt.NDArray[np.float64]

#: Steps to each side along the axes about the answer.
_STEPS = 15

#: How far they reach: a share of the anatomy's RMS radius, and degrees.
_REACH_RADII, _REACH_DEG = 0.25, 15.0

_AXES = ("left to right", "back to front", "bottom to top")
_TURNS = ("nodding", "tilting to a side", "turning to a side")


@dataclass(frozen=True, eq=False)
class Similarity:
    """A pair at its full resolution, to be asked for figures at any pose."""

    pair: Pair
    level: Level
    threads: int

    @classmethod
    def of(
        cls,
        fixed: PreparedImage,
        moving: PreparedImage,
        settings: Settings,
        threads: int,
    ) -> Similarity:
        """Draw samples from a pair as it is, without correcting bias fields."""
        pair = Pair.of(fixed, moving, None, threads, channels=["original"])
        finest = pyramid(pair, threads).finest
        full = levels_at(pair, finest, settings, threads)["original"]
        return cls(pair, subsampled(full, settings), threads)

    def histogram(self, moving_from_fixed: FloatArray) -> FloatArray:
        """Joint histogram at a pose, rows of the fixed image, as counts."""
        pose = self.pair.engine_pose(moving_from_fixed)
        counts, _ = joint_histogram(self.level, pose, self.threads)
        return counts if self.pair.sampled_is_fixed else counts.T

    def information(self, moving_from_fixed: FloatArray) -> float | None:
        """Mutual information at a pose, nats; None without overlap."""
        counts = self.histogram(moving_from_fixed)
        if counts.sum() < 1:
            return None
        return round(metric_at(self.level, "mi")(counts)[0], 5)

    def joint(self, moving_from_fixed: FloatArray) -> dict[str, Any] | None:
        """Joint histogram at a pose for people: shades 0 to 255, and its MI."""
        counts = self.histogram(moving_from_fixed)
        if counts.sum() < 1:
            return None
        shades = np.log1p(counts) / np.log1p(counts.max()) * 255
        mi = metric_at(self.level, "mi")(counts)[0]
        inside = float(counts.sum() / self.level.n_samples)
        return {
            "shades": np.rint(shades).astype(int).tolist(),
            "inside": round(inside, 4),
            "mi": round(mi, 4),
        }

    def profiles(self, moving_from_fixed: FloatArray) -> list[dict[str, Any]]:
        """Mutual information along six axes through a pose.

        The fixed image's anatomy is moved along the axes of the world, and turned about
        them through its centroid, before the pose brings it to the moving image.
        """
        foreground = self.pair.fixed.foreground
        shares = np.arange(-_STEPS, _STEPS + 1) / _STEPS
        reach_mm = _REACH_RADII * foreground.rms_radius
        made = []
        for unit, reach, labels in (
            ("mm", reach_mm, _AXES),
            ("degrees", _REACH_DEG, _TURNS),
        ):
            for axis, label in enumerate(labels):
                places = reach * shares
                scores = []
                for place in places:
                    step = np.zeros((2, 3))
                    step[0 if unit == "degrees" else 1, axis] = place
                    motion = RigidTransform(
                        np.deg2rad(step[0]), step[1], foreground.centroid
                    )
                    pose = moving_from_fixed @ motion.matrix
                    scores.append(self.information(pose))
                made.append(
                    {
                        "label": label,
                        "unit": unit,
                        "at": [round(float(place), 3) for place in places],
                        "mi": scores,
                    }
                )
        return made


def motion_words(transform: Transform, centre: FloatArray) -> list[str]:
    """Say what a transform does to the anatomy about a centre, RAS+ mm."""
    if not isinstance(transform, RigidTransform):
        return ["The transform is not rigid: it also stretches."]
    turn, angle = transform.rotation_vector, transform.angle_deg
    about = ""
    if angle > 0.005:
        axis = turn / np.linalg.norm(turn)
        shares = ", ".join(f"{part:.3f}" for part in axis + 0.0)
        about = f" about the axis ({shares}), by the right-hand rule"
    shift, back = transform.apply(centre) - centre, (~transform).apply(centre) - centre
    where, length = ", ".join(f"{x:.1f}" for x in centre), np.linalg.norm(shift)
    return [
        "It takes points of the fixed image to points of the moving one. "
        f"It turns by {angle:.2f} degrees{about}.",
        f"It moves the centre of the anatomy, at ({where}) mm in the fixed image, by "
        f"{length:.2f} mm: {in_directions(shift)}.",
        "The moving image comes onto the fixed one the other way: it is turned back "
        f"about that centre, then moved by {length:.2f} mm: {in_directions(back)}. "
        "This is what planning systems show.",
    ]


def matrices(transform: Transform, fixed: Image, moving: Image) -> list[dict[str, str]]:
    """Write a transform as the programs of the field have it."""
    matrix = transform.matrix
    lps = LPS_FROM_RAS @ matrix @ LPS_FROM_RAS
    fsl = write_fsl(matrix, Images(fixed, moving)).decode()
    return [
        {
            "name": "RAS",
            "note": "moving_from_fixed: maps points of the fixed image to points of "
            "the moving one, mm to the right, front and top",
            "text": _rows(matrix),
        },
        {
            "name": "RAS, inverse",
            "note": "fixed_from_moving: the same, the other way round; 3D Slicer shows "
            "this one",
            "text": _rows(np.linalg.inv(matrix)),
        },
        {
            "name": "LPS",
            "note": "the same map as the first, mm to the left, back and top: that in "
            "files of ITK, ANTs and 3D Slicer",
            "text": _rows(lps),
        },
        {
            "name": "DICOM (planning systems)",
            "note": "fixed_from_moving, mm to the left, back and top: the Frame of "
            "Reference Transformation Matrix (3006,00C6) of a Spatial Registration, "
            "from the moving frame to the fixed one",
            "text": _rows(np.linalg.inv(lps)),
        },
        {
            "name": "FSL",
            "note": "for FLIRT, with -in moving -ref fixed; valid for these two images "
            "only",
            "text": _rows(np.array([row.split() for row in fsl.splitlines()], float)),
        },
    ]


def _rows(matrix: npt.NDArray[np.floating]) -> str:
    """Write a matrix in rows, columns in line and no wider than they need be."""
    columns = [[f"{x + 0.0:.9f}" for x in column] for column in matrix.T]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(x.rjust(wide) for x, wide in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    )
