"""Anatomy that is not an adult's head: a knee, a neck's spine, a mouse, and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from .head import Head
from .shapes import Blob, Canvas, FloatArray, Subject, Values, Waves, generator


@dataclass(frozen=True, eq=False)
class Body:
    """Ellipsoids laid one over the other; the first holds all others.

    Attributes
    ----------
    blobs : tuple of Blob
        In the order in which they are laid.
    bend : tuple of three Waves
        How far the shape is bent along x, y and z.
    streaks : Waves
        Fat lies between the fibres of muscle where this is near zero.
    streak_mm : float
        How wide such a streak is.
    detail_mm : float
        Larger voxels are the mean of several samples.
    """

    blobs: tuple[Blob, ...]
    bend: tuple[Waves, Waves, Waves]
    streaks: Waves
    streak_mm: float
    detail_mm: float

    @cached_property
    def boxes(self) -> FloatArray:
        """Boxes (n, 2, 3) around the blobs."""
        return np.array([blob.box for blob in self.blobs])

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the anatomy along unit directions (n, 3), in mm."""
        swing = max(wave.amplitude * len(wave.phases) for wave in self.bend)
        return self.blobs[0].reach(directions) + swing

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Return intensities at points (3, n), with tissues mixed over `edge_mm`."""
        straight = points.astype(np.float32)
        canvas = Canvas(points.shape[1], intensities, edge_mm)
        bent = straight + np.stack([wave(straight) for wave in self.bend])
        everywhere = np.full(points.shape[1], np.inf, np.float32)
        muscle = [blob.tissue for blob in self.blobs].index("muscle") + 1
        canvas.lay_blobs(self.blobs[:muscle], self.boxes[:muscle], bent, everywhere)
        field, slope = self.streaks.with_gradient(bent)
        apart = np.abs(field) / np.sqrt(np.einsum("an,an->n", slope, slope) + 1e-6)
        depth = self.blobs[muscle - 1].depth(bent)
        canvas.lay("fat", np.minimum(np.float32(self.streak_mm) - apart, depth))
        canvas.lay_blobs(self.blobs[muscle:], self.boxes[muscle:], bent, everywhere)
        return canvas.values


@dataclass(frozen=True, eq=False)
class Scaled:
    """A subject in another size."""

    subject: Subject
    factor: float

    @property
    def detail_mm(self) -> float:
        """Larger voxels are the mean of several samples."""
        return self.subject.detail_mm * self.factor

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the anatomy along unit directions (n, 3), in mm."""
        return self.subject.reach(directions) * self.factor

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Return intensities at points (3, n), with tissues mixed over `edge_mm`."""
        return self.subject.paint(
            points / self.factor, intensities, edge_mm / self.factor
        )


@dataclass(frozen=True, eq=False)
class Folded:
    """The upper right quarter of a subject, four times: nearly the same turned over.

    Half a turn about the y axis brings it onto itself, but for a few hundredths of
    its size and for a small lump.
    """

    subject: Subject
    lump: Blob
    unlike: float = 0.03  # how much larger one side is than the other

    @property
    def detail_mm(self) -> float:
        """Larger voxels are the mean of several samples."""
        return self.subject.detail_mm

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the anatomy along unit directions (n, 3), in mm."""
        upper = directions * np.sign(directions + 1e-12) ** [1, 0, 1]
        return self.subject.reach(upper) * (1 + self.unlike)

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Return intensities at points (3, n), with tissues mixed over `edge_mm`."""
        x, y, z = points
        larger = np.float32(1) + self.unlike * np.tanh((x + z) / 20.0)
        quarter = np.stack([np.abs(x), y, np.abs(z)]) / larger
        values = self.subject.paint(quarter, intensities, edge_mm)
        canvas = Canvas(points.shape[1], intensities, edge_mm)
        canvas.values[:] = values
        canvas.lay(self.lump.tissue, self.lump.depth(points.astype(np.float32)))
        return canvas.values


class _Builder:
    """Draws blobs that vary a little with the seed."""

    def __init__(self, rng: np.random.Generator, loose_mm: float) -> None:
        self.rng = rng
        self.loose_mm = loose_mm
        self.blobs: list[Blob] = []

    def add(
        self,
        tissue: str,
        centre: Sequence[float],
        semi_axes: Sequence[float],
        turn_deg: Sequence[float] = (0, 0, 0),
    ) -> None:
        """Lay one more blob."""
        rng = self.rng
        turn = np.array(turn_deg) + rng.normal(0, 1.5, 3)
        self.blobs.append(
            Blob(
                tissue,
                np.array(centre) + rng.normal(0, self.loose_mm, 3),
                np.array(semi_axes) * np.exp(rng.normal(0, 0.04, 3)),
                Rotation.from_euler("xyz", turn, degrees=True).as_matrix().T,
            )
        )

    def both(
        self,
        tissue: str,
        centre: Sequence[float],
        semi_axes: Sequence[float],
        turn_deg: Sequence[float] = (0, 0, 0),
    ) -> None:
        """Lay one blob on each side."""
        (x, y, z), (a, b, c) = centre, turn_deg
        self.add(tissue, (x, y, z), semi_axes, (a, b, c))
        self.add(tissue, (-x, y, z), semi_axes, (a, -b, -c))

    def nested(
        self,
        layers: Mapping[str, float],
        centre: Sequence[float],
        semi_axes: Sequence[float],
        turn_deg: Sequence[float] = (0, 0, 0),
    ) -> None:
        """Lay blobs of one centre, each so many mm below the surface."""
        self.add("air", centre, semi_axes, turn_deg)
        outer = self.blobs.pop()
        for tissue, below in layers.items():
            self.blobs.append(
                outer._replace(tissue=tissue, semi_axes=outer.semi_axes - below)
            )

    def body(
        self, bend_mm: float, waves_mm: float, streaks_mm: float, detail_mm: float
    ) -> Body:
        """Finish."""
        rng = self.rng
        lengths = (waves_mm, 2 * waves_mm)
        x, y, z = (Waves.draw(rng, 4, lengths, bend_mm) for _ in range(3))
        streaks = Waves.draw(rng, 8, (streaks_mm, 2 * streaks_mm), 1.0)
        return Body(tuple(self.blobs), (x, y, z), streaks, 0.04 * streaks_mm, detail_mm)


def knee(seed: int) -> Body:
    """Draw a right knee; x to the right, y forward, z up, origin in the joint."""
    b = _Builder(generator(seed, 0x4EE), 0.8)
    b.nested({"skin": 0, "fat": 2, "muscle": 9}, (0, -6, 0), (62, 66, 260))
    bone = {"bone": 0, "fat": 2.5}  # marrow is fatty
    b.nested(bone, (-3, 6, 110), (16, 16, 112), (3, 0, 0))
    b.nested(bone, (0, 1, 44), (27, 21, 36))
    b.nested(bone, (-23, -5, 19), (22, 31, 22), (0, 0, 6))
    b.nested(bone, (23, -2, 18), (21, 29, 20), (0, 0, -8))
    b.nested(bone, (0, -2, -21), (40, 27, 15))
    b.nested(bone, (-4, 4, -112), (17, 19, 105), (2, -2, 0))
    b.nested({"bone": 0, "fat": 2}, (37, -23, -85), (8, 8, 72))
    b.add("csf", (2, 34, 48), (19, 5, 22), (12, 0, 0))
    b.nested(bone, (3, 43, 26), (21, 10, 20))
    b.add("fat", (1, 35, -4), (22, 12, 18), (-15, 0, 0))
    b.both("csf", (22, -3, -4.5), (19, 24, 2.0))  # cartilage and menisci
    b.both("muscle", (36, -3, -5), (4, 20, 4))
    b.add("muscle", (1, -4, 0), (4, 5, 14), (-35, 0, 0))  # cruciate ligament
    b.add("bone", (2, 45, -10), (10, 3, 26), (-6, 0, 0))  # patellar tendon
    b.both("fat", (16, -36, 24), (16, 9, 42), (0, 0, 20))
    b.both("muscle", (20, -42, -40), (19, 14, 60))
    b.add("fat", (0, -34, 4), (11, 9, 26))
    b.add("blood", (1, -36, 0), (4, 4, 250))
    b.add("blood", (-9, -45, 0), (3, 3, 250), (2, 3, 0))
    b.add("blood", (-46, -16, 0), (2.5, 2.5, 200), (0, 2, 0))
    return b.body(2.0, 90.0, 34.0, 1.6)


def spine(seed: int, *, alike: bool = False) -> Body:
    """Draw a neck about its spinal cord; x right, y forward, z up.

    Vertebrae differ by their level, or in no more than where they lie: `alike`.
    """
    b = _Builder(generator(seed, 0xC02D), 0.5)
    b.nested({"skin": 0, "fat": 2, "muscle": 8}, (0, -4, 0), (64, 66, 320))
    b.both("fat", (26, -30, 0), (4, 24, 240), (0, 0, 25))
    b.both("muscle", (15, -32, 0), (11, 15, 240), (2, 0, 0))
    b.both("fat", (36, 22, -10), (6, 18, 150), (10, 0, -20))
    b.add("air", (0, 46, -35), (9, 8, 70))
    b.add("muscle", (-3, 34, -40), (8, 5, 80))
    b.both("muscle", (16, 46, -30), (9, 12, 30))
    b.both("blood", (27, 31, 0), (4.5, 4.5, 200), (3, 2, 0))
    b.both("blood", (34, 26, 0), (6, 5, 200), (3, -2, 0))
    for level in range(-6, 7):
        z = 17.5 * level
        large = 1.0 if alike else 1.0 - 0.025 * level
        bone = {"bone": 0, "diploe": 1.4}
        b.nested(bone, (0, 17 * large, z), (12.5 * large, 9.0 * large, 8.0))
        b.add("csf", (0, 17 * large, z + 8.7), (10.5 * large, 7.5 * large, 1.8))
        b.both("bone", (15 * large, 4, z), (6, 7, 6), (0, 0, 20))
        b.both("diploe", (15 * large, 4, z), (4.5, 5.5, 4.5), (0, 0, 20))
        spine_mm = 12 + 1.0 * abs(level - 1) + b.rng.uniform(-2, 2)
        spine_mm = 14.0 if alike else spine_mm
        b.nested(bone, (0, -12 - spine_mm / 2, z - 5), (4, spine_mm, 4.5), (25, 0, 0))
    b.add("csf", (0, 0, 0), (10, 7.8, 320))
    for level in range(-6, 7):
        b.both("white", (8, -1, 17.5 * level - 8), (4.5, 1.5, 1.5), (0, 35, 0))
    b.add("white", (0, 0.4, 0), (6.6, 4.4, 300))
    b.both("grey", (2.2, 0.4, 0), (1.2, 2.8, 290), (0, 0, 15))
    b.add("grey", (0, 0.4, 0), (2.4, 0.8, 290))
    return b.body(1.6, 150.0, 30.0, 1.6)


def mouse(seed: int) -> Body:
    """Draw a mouse's head; x right, y to the nose, z up, origin in the brain."""
    b = _Builder(generator(seed, 0x3052), 0.08)
    b.nested({"skin": 0, "fat": 0.35, "muscle": 0.6}, (0, 1.5, -2.2), (8.2, 15.5, 7.2))
    b.add("fat", (0, -8.5, 3.0), (4, 5, 1.4))
    b.both("fat", (5.2, 3.5, -3.5), (1.6, 3.5, 1.5))
    b.add("air", (0, 3.5, -4.6), (0.7, 8, 0.5))
    b.both("air", (0.8, 11.5, -1.2), (0.7, 3.5, 1.3))
    b.both("bone", (3.5, 8, -3.3), (0.8, 4, 0.8))
    b.both("vitreous", (5.2, 7.4, 0.2), (1.6, 1.6, 1.6))
    b.both("lens", (5.6, 7.7, 0.3), (1.0, 1.0, 1.0))
    shell = {"bone": 0, "csf": 0.35}
    b.nested(shell, (0, 0.3, 0.1), (5.6, 6.4, 3.7))
    b.nested(shell, (0, -6.2, -0.4), (4.7, 2.9, 3.1))
    b.nested(shell, (0, 6.9, 0.4), (2.3, 2.7, 1.9))
    b.both("air", (3.4, -4.6, -3.9), (1.1, 1.4, 1.0))
    b.both("grey", (0.95, 6.9, 0.4), (0.9, 2.2, 1.3))
    b.both("deep", (0.95, 6.9, 0.4), (0.45, 1.5, 0.7))
    b.both("grey", (2.5, 0.3, 0.2), (2.5, 5.7, 3.1))
    b.both("white", (2.3, 0.1, 1.0), (2.0, 4.4, 1.5), (0, 25, 0))
    b.both("grey", (2.1, 0.2, 0.5), (1.9, 4.2, 1.5), (0, 25, 0))
    b.both("deep", (2.0, 2.0, -0.3), (1.2, 1.6, 1.4))
    b.both("deep", (1.3, -1.2, -0.8), (1.3, 1.6, 1.3))
    b.both("white", (2.2, -1.8, 0.9), (1.6, 1.2, 0.5), (0, 30, 0))
    b.both("csf", (1.1, 1.0, 0.7), (0.35, 1.8, 0.7), (0, 20, 0))
    b.both("csf", (3.3, -2.2, -0.2), (0.35, 0.9, 1.2), (0, 20, 0))
    b.add("csf", (0, -0.8, -0.7), (0.25, 1.3, 1.2))
    b.add("grey", (0, -6.2, -0.1), (3.9, 2.2, 2.3))
    b.add("white", (0, -6.1, -0.3), (2.4, 1.3, 0.9))
    b.add("csf", (0, -5.6, -1.5), (0.9, 1.2, 0.35))
    b.add("white", (0, -6.6, -2.2), (2.1, 6.0, 1.2), (6, 0, 0))
    b.add("blood", (0, -1.0, 3.5), (0.35, 6.5, 0.3))
    return b.body(0.14, 11.0, 5.0, 0.2)


def infant(seed: int) -> Scaled:
    """Draw the head of a child of half a year: an adult's, in a smaller size."""
    return Scaled(Head.from_seed(seed), 0.74)


def near_symmetric(seed: int) -> Folded:
    """Draw a head that half a turn brings almost onto itself."""
    lump = Blob("csf", np.array([34.0, -20.0, 30.0]), np.array([8.0, 7, 7]), np.eye(3))
    return Folded(Head.from_seed(seed), lump)
