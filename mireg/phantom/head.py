"""The head as a set of formulas, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .contrast import BRAIN
from .shapes import Blob, Canvas, FloatArray, Values, Waves, generator, joined, touching

_FAR_MM = 40.0  # beyond this no part of the head touches another's surface
_CHUNK = 32**3  # points that are painted at once
_CENTRE_Z_MM = 6.0  # height of the centre from which the sulci fan out
_FOLD_RATE = 2 * np.pi / 24.0  # radians per mm along the surface
_CORTEX_MM = 2.7


@dataclass(frozen=True, eq=False)
class Head:
    """A head as formulas; make one with `Head.from_seed`.

    Its coordinates are RAS+ mm with the origin in the middle of the brain.
    """

    bend: tuple[Waves, Waves, Waves]  # how far the shape is bent along x, y, z
    parts: Mapping[str, Blob]  # the large shapes, by name
    face: tuple[Blob, ...]  # painted in order below the skull
    nuclei: tuple[Blob, ...]  # painted in order over cortex and white matter
    folds: Waves  # zero where there is a sulcus
    winding: tuple[Waves, Waves, Waves]  # how far the sulci wander, mm
    sulcus_depth: Waves  # departure from the mean depth, mm
    thickness: Waves  # departure of bone and scalp from their means, fraction
    skull_mm: float
    scalp_mm: float
    sylvian: FloatArray  # (2 sides, 2): height at y = 0, rise per mm forward
    detail_mm: ClassVar[float] = 2.0

    @classmethod
    def from_seed(cls, seed: int) -> Head:
        """Draw a head: its size, shape, folds and asymmetry.

        Parameters
        ----------
        seed : int
            The same number gives the same head on every call.
        """
        rng = generator(seed, 0x4EAD)
        size = np.exp(rng.normal(0, 0.035, 3)) * np.exp(rng.normal(0, 0.02))

        def blob(
            tissue: str,
            centre: Sequence[float],
            semi_axes: Sequence[float],
            turn_deg: Sequence[float] = (0, 0, 0),
            loose: float = 1.0,
        ) -> Blob:
            c = np.array(centre) + rng.normal(0, 0.8 * loose, 3)
            a = np.array(semi_axes) * np.exp(rng.normal(0, 0.06 * loose, 3))
            turn = np.array(turn_deg) + rng.normal(0, 2.0 * loose, 3)
            axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().T
            return Blob(tissue, c * size, a * size, axes)

        def both(
            tissue: str,
            centre: Sequence[float],
            semi_axes: Sequence[float],
            turn_deg: Sequence[float] = (0, 0, 0),
        ) -> list[Blob]:
            (x, y, z), (a, b, c) = centre, turn_deg
            return [
                blob(tissue, (x, y, z), semi_axes, (a, b, c)),
                blob(tissue, (-x, y, z), semi_axes, (a, -b, -c)),
            ]

        temporal = both("grey", (42, 3, -24), (22, 38, 19), (8, 0, 8))
        ears = both("skin", (82, -20, -30), (6, 16, 28), (12, 0, -18))
        parts = {
            "cerebrum": blob("grey", (0, -3, 6), (66, 84, 64), loose=0.5),
            "temporal right": temporal[0],
            "temporal left": temporal[1],
            "cerebellum": blob("grey", (0, -54, -40), (48, 30, 25), (-8, 0, 0), 0.5),
            "stem": blob("white", (0, -26, -38), (10.5, 10.5, 52), (-9, 0, 0), 0.5),
            "pons": blob("white", (0, -19, -34), (16, 12, 14), (-10, 0, 0), 0.5),
            "face": blob("muscle", (0, 40, -52), (57, 53, 58), (0, 0, 0), 0.5),
            "chin": blob("muscle", (0, 76, -97), (23, 17, 16)),
            "nose": blob("skin", (0, 95, -44), (13, 22, 17), (-28, 0, 0)),
            "brow": blob("muscle", (0, 75, 0), (40, 20, 20)),
            "neck": blob("muscle", (0, -22, -74), (58, 61, 46), loose=0.5),
            "ear right": ears[0],
            "ear left": ears[1],
        }
        large = float(np.exp(rng.normal(0.1, 0.25)))  # ventricles vary the most
        left = float(np.exp(rng.normal(0.2, 0.1)))

        def horn(
            centre: Sequence[float], semi_axes: Sequence[float], turn: Sequence[float]
        ) -> list[Blob]:
            a = np.array(semi_axes) * (large, 1, large)
            right_left = both("csf", centre, a.tolist(), turn)
            wider = right_left[1].semi_axes * (left, 1, left)
            return [right_left[0], right_left[1]._replace(semi_axes=wider)]

        face = (
            *both("muscle", (64, 12, -18), (13, 32, 36)),
            *both("bone", (46, 57, -38), (13, 14, 8), (0, 0, -30)),
            *both("bone", (55, -34, -46), (15, 15, 19)),
            *both("fat", (60, 2, -62), (9, 14, 17)),
            *both("fat", (40, -8, -92), (13, 15, 34), (-15, 0, 0)),
            *both("muscle", (40, -8, -92), (11.5, 13, 33), (-15, 0, 0)),
            *both("fat", (20, -52, -84), (20, 16, 36)),
            *both("muscle", (20, -52, -84), (18, 14, 34)),
            blob("bone", (0, -26, -96), (16, 16, 30), (-6, 0, 0)),
            blob("csf", (0, -35, -96), (8.5, 7.5, 34), (-6, 0, 0)),
            blob("white", (0, -35, -96), (6, 5, 33), (-6, 0, 0)),
            blob("bone", (0, 61, -57), (36, 24, 24)),
            blob("bone", (0, 30, -32), (30, 34, 12)),
            *both("fat", (31, 55, -21), (19, 24, 17), (0, 0, -18)),
            *both("muscle", (24, 49, -21), (2.5, 20, 6), (0, 0, -18)),
            *both("muscle", (39, 51, -21), (2.5, 18, 6), (0, 0, -28)),
            *both("white", (29, 43, -22), (2.2, 17, 2.2), (0, 0, -18)),
            *both("vitreous", (33, 64, -21), (12, 12, 12)),
            *both("lens", (33.5, 72.5, -21), (4.6, 2.3, 4.6)),
            *both("air", (23, 63, -50), (12, 16, 16)),
            blob("air", (0, 68, -46), (10, 28, 19), (-15, 0, 0)),
            blob("muscle", (1.5, 66, -46), (1.6, 30, 22), (-15, 4, 0)),
            *both("muscle", (5.5, 64, -50), (2.6, 20, 4), (0, 20, 0)),
            *both("muscle", (5.5, 62, -40), (2.2, 16, 4), (0, 20, 0)),
            blob("air", (2, 24, -30), (11, 11, 8)),
            blob("air", (5, 84, 8), (15, 4, 9)),
            blob("air", (0, 16, -66), (10, 6, 26)),
            blob("air", (0, 6, -104), (8, 8, 14)),
            blob("muscle", (0, 47, -82), (22, 31, 13)),
            blob("air", (3, 60, -71), (14, 20, 2.0)),
            *both("air", (68, -16, -33), (17, 3, 3)),
            *(
                blob("air", (side * x, y, z), (a, a, a))
                for side in (1, -1)
                for x, y, z, a in rng.normal(
                    (56, -34, -48, 3.2), (4.5, 5, 7, 0.8), (9, 4)
                ).tolist()
                if a > 1
            ),
        )
        nuclei = (
            blob("white", (0, -4, 24), (17, 38, 5), (0, 0, 0)),
            blob("white", (0, 32, 13), (15, 5, 9)),
            blob("white", (0, -39, 13), (16, 6, 9)),
            *both("deep", (26, 4, 3), (6.5, 18, 10), (0, 12, 8)),
            *both("white", (20, 2, 2), (5.5, 12, 7), (0, 12, 10)),
            *both("deep", (12.5, -17, 7), (9.5, 15, 9), (0, 0, 22)),
            *both("deep", (14, 13, 11), (5, 13, 8), (20, 0, 6)),
            *both("deep", (26, -20, -19), (5, 16, 4), (20, 0, 12)),
            *horn((9.5, 8, 17), (4.5, 25, 6), (-6, 20, 10)),
            *horn((17, -26, 16), (5.5, 19, 7), (16, 25, 25)),
            *horn((25, -50, 5), (4.5, 17, 6), (10, 0, 6)),
            *horn((34, -22, -14), (3.0, 18, 3.0), (-18, 0, 12)),
            blob("csf", (0, -10, 2), (2.4 * large, 14, 9)),
            blob("csf", (0, -41, -34), (7, 4.5, 10), (-15, 0, 0)),
        )
        sylvian = np.array([(-4, -0.40), (-7, -0.30)]) + rng.normal(
            0, (2, 0.04), (2, 2)
        )
        return cls(
            bend=tuple(Waves.draw(rng, 4, (85, 190), 1.9) for _ in range(3)),  # type: ignore[arg-type]
            parts=parts,
            face=face,
            nuclei=nuclei,
            folds=Waves.draw(rng, 32, (19, 29), 1.0),
            winding=tuple(Waves.draw(rng, 3, (22, 40), 1.9) for _ in range(3)),  # type: ignore[arg-type]
            sulcus_depth=Waves.draw(rng, 4, (25, 60), 4.5),
            thickness=Waves.draw(rng, 4, (60, 120), 0.15),
            skull_mm=float(rng.normal(6.8, 0.6)),
            scalp_mm=float(rng.normal(6.5, 0.8)),
            sylvian=sylvian,
        )

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return a bound on the head along unit directions (n, 3), in mm."""
        wrap = 2.5 + self.skull_mm * 1.3 + self.scalp_mm * 1.3
        most = [
            part.reach(directions) + (wrap if part.tissue in BRAIN else 0)
            for part in self.parts.values()
        ]
        swing = max(w.amplitude * len(w.phases) for w in self.bend)
        reach: FloatArray = np.max(most, axis=0) + swing
        return reach

    @cached_property
    def boxes(self) -> Mapping[str, FloatArray]:
        """Boxes (n, 2, 3) around the whole head and around each of its shapes."""
        whole = np.array([[-self.reach(-np.eye(3)), self.reach(np.eye(3))]])
        lists = {
            "parts": tuple(self.parts.values()),
            "face": self.face,
            "nuclei": self.nuclei,
        }
        boxes = {
            name: np.array([b.box for b in blobs]) for name, blobs in lists.items()
        }
        return {"head": whole, **boxes}

    def sample(
        self,
        points: npt.ArrayLike,
        intensities: Mapping[str, float],
        *,
        edge_mm: float = 0.5,
    ) -> Values:
        """Say how bright the head is at some points.

        Parameters
        ----------
        points : (..., 3) array_like
            Where to look, in head coordinates (RAS+ mm).
        intensities : mapping of str to float
            Intensity of each of `TISSUES`; one for a tissue and zero for the
            others gives that tissue's fraction.
        edge_mm : float, optional
            Width over which one tissue gives way to the next: about the distance
            between the points, for the mixing within a voxel.

        Returns
        -------
        (...) ndarray
            Intensities, float32.

        Examples
        --------
        >>> from mireg.phantom import TISSUES
        >>> fluid = dict.fromkeys(TISSUES, 0.0) | {"csf": 1.0}
        >>> Head.from_seed(0).sample([[0.0, -10.0, 2.0], [200.0, 0.0, 0.0]], fluid)
        array([1., 0.], dtype=float32)
        """
        at = np.asarray(points, dtype=np.float64)
        flat = at.reshape(-1, 3)
        out = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = self.paint(flat[part].T, intensities, edge_mm)
        return out.reshape(at.shape[:-1])

    def paint(
        self, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
    ) -> Values:
        """Do what `sample` does for one block of points, given as (3, n)."""
        return _paint(self, points, intensities, edge_mm)


def _paint(
    head: Head, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
) -> Values:
    """Return the intensities at points (3, n): from the skin to the ventricles."""
    straight = points.astype(np.float32)
    canvas = Canvas(points.shape[1], intensities, edge_mm)
    if not touching(head.boxes["head"], straight, edge_mm).any():
        return canvas.values
    bent = straight + np.stack([wave(straight) for wave in head.bend])
    # Parts that are far from all points do not count.
    near = touching(head.boxes["parts"], bent, _FAR_MM)
    nowhere = np.full(points.shape[1], -_FAR_MM, np.float32)
    parts = {
        name: part.depth(bent) if close else nowhere
        for (name, part), close in zip(head.parts.items(), near, strict=True)
    }
    uneven = 1 + head.thickness(bent)

    # The cavity of the skull is the union of what it holds.
    z = bent[2]
    cerebrum = np.minimum(parts["cerebrum"], z + 20 - 0.05 * bent[1])
    for side in ("temporal right", "temporal left"):
        cerebrum = joined(cerebrum, parts[side], 6)
    stem = joined(parts["stem"], parts["pons"], 6)
    cavity = joined(joined(cerebrum, parts["cerebellum"], 4), stem, 5) + 2.5
    # Below its end the spinal cord goes on as part of the neck.
    end = float(head.parts["stem"].reach(np.array([0.0, 0.0, -1.0])))
    cavity = np.minimum(cavity, z + np.float32(end))

    # Scalp, face and neck.
    skull = np.float32(head.skull_mm) * uneven
    surface = cavity + skull + np.float32(head.scalp_mm) * (2 - uneven)
    for name in ("face", "neck", "brow"):
        surface = joined(surface, parts[name], 14)
    for name in ("chin", "nose", "ear right", "ear left"):
        surface = joined(surface, parts[name], 6)
    canvas.lay("skin", surface)
    canvas.lay("fat", surface - np.float32(2.0))
    canvas.lay("muscle", surface - np.float32(7.5) * uneven)
    canvas.lay_blobs(head.face, head.boxes["face"], bent, surface - np.float32(2.0))
    _lay_jaw(canvas, bent)

    # Skull and what is in it.
    canvas.lay("bone", cavity + skull)
    canvas.lay("diploe", np.float32(0.24) * skull - np.abs(cavity + skull * 0.5))
    canvas.lay("csf", cavity)
    inside = np.flatnonzero(cavity > -edge_mm)
    if inside.size:
        depths = (cerebrum[inside], parts["cerebellum"][inside], stem[inside])
        _lay_brain(canvas, head, bent[:, inside], inside, depths)
    return canvas.values


def _lay_jaw(canvas: Canvas, points: Values) -> None:
    """Lay the lower jaw, a horseshoe of bone."""
    x, y, z = points
    if z.min() > -80 or y.max() < 0:
        return
    around = np.sqrt((x / 42) ** 2 + ((y - 20) / 56) ** 2)
    ring = 5 - np.abs(around - 1) * 45
    canvas.lay("bone", np.minimum(np.minimum(ring, 11 - np.abs(z + 93)), y - 6))


def _lay_brain(
    canvas: Canvas,
    head: Head,
    points: Values,
    where: npt.NDArray[np.intp],
    depths: tuple[Values, Values, Values],
) -> None:
    """Lay cortex, white matter, cerebellum, stem, nuclei and ventricles."""
    x, y, z = points
    cerebrum, cerebellum, stem = depths
    cerebrum = np.minimum(cerebrum, -cerebellum - np.float32(1.4))
    to_fluid = _distance_to_fluid(head, points, cerebrum)
    canvas.lay("grey", to_fluid, where)
    canvas.lay("white", to_fluid - np.float32(_CORTEX_MM), where)

    # Cerebellum: fine leaves that fan out, around a tree of white matter.
    if cerebellum.max() > -2:
        fan = np.arctan2(z + 40, -(y + 30)) * 26 + np.abs(x) * 0.12
        leaf = np.sin(fan + np.sin(x * 0.15))
        bark = cerebellum - 1.2 * np.maximum(leaf, 0) ** 4
        canvas.lay("grey", bark, where)
        cleft = np.minimum(leaf * 2.2 - 1.85, 7 - cerebellum)
        canvas.lay("csf", np.minimum(cleft, cerebellum + 1), where)
        tree = cerebellum - 8.5 - 3.5 * np.sin(fan * 0.34 + 1)
        canvas.lay("white", tree, where)
    canvas.lay("white", stem, where)
    brain = np.maximum(cerebrum, np.maximum(cerebellum, stem))
    canvas.lay_blobs(head.nuclei, head.boxes["nuclei"], points, brain, where)

    # The venous sinus under the top of the skull.
    vein = np.minimum(4 - np.abs(x), np.minimum(4.5 - cerebrum, z - 5))
    canvas.lay("blood", np.minimum(vein, cerebrum + 3.0), where)


def _distance_to_fluid(head: Head, points: Values, depth: Values) -> Values:
    """Return the distance in mm to the nearest fluid around or between the folds."""
    x, y, z = points
    nearest = depth.copy()

    # Sulci: sheets that go down from the surface where a field of waves is zero.
    shell = np.flatnonzero((depth > -3) & (depth < 30))
    if shell.size:
        centre = np.array([[0], [0], [_CENTRE_Z_MM]], np.float32)
        semi_axes = head.parts["cerebrum"].semi_axes[:, None].astype(np.float32)
        out = points[:, shell] - centre
        scaled = out / semi_axes
        radius = np.sqrt(np.einsum("an,an->n", scaled, scaled) + np.float32(0.2))
        spread = np.float32(0.75) / radius + np.float32(0.3)
        out += np.stack([wave(points[:, shell]) for wave in head.winding])
        field, slope = head.folds.with_gradient(out * spread)
        radial = np.einsum("an,an->n", slope, out)
        radial *= radial / np.einsum("an,an->n", out, out)
        steep = np.einsum("an,an->n", slope, slope) - radial
        sine = np.abs(field) / np.sqrt(steep / _FOLD_RATE**2 + field**2 + 1e-6)
        apart = np.arcsin(np.minimum(sine, 1)) / (_FOLD_RATE * spread)
        floor = np.float32(16.0) + head.sulcus_depth(points[:, shell])
        below = np.maximum(depth[shell] - floor, 0)
        gap = 0.95 - 0.02 * depth[shell]
        nearest[shell] = np.minimum(nearest[shell], np.hypot(apart, below) - gap)

    # The cleft between the hemispheres, down to the corpus callosum.
    bow = np.sqrt(((y + 4) / 44) ** 2 + ((z - 6) / 26) ** 2)
    cleft = np.hypot(x, np.maximum(1 - bow, 0) * 26) - np.float32(1.0)
    cleft = np.hypot(cleft, np.maximum(-14 - z, 0))
    nearest = np.minimum(nearest, cleft)

    # The Sylvian fissures, one on each side, not alike.
    for side, (height, rise) in zip((1, -1), head.sylvian, strict=True):
        wavy = 2.5 * np.sin(0.13 * x + side) + 2.0 * np.sin(0.16 * y)
        off_plane = (z - height - rise * y + wavy) / np.sqrt(1 + rise**2)
        inward = np.maximum(36 - side * x, 0)
        beyond = np.maximum(np.abs(y - 2) - 36, 0)
        sheet = np.sqrt(off_plane**2 + inward**2 + beyond**2) - np.float32(1.2)
        nearest = np.minimum(nearest, sheet)
    distance: Values = nearest.astype(np.float32, copy=False)
    return distance
