"""A synthetic head in many contrasts, in an exactly known pose.

A `Head` is a set of formulas in head coordinates (RAS+ mm, origin in the middle of
the brain), drawn from a seed. A scan is made by asking the formulas what lies at
each voxel, so a head in another pose is never an interpolated copy of the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .errors import InputError
from .image import Image
from .transform import RigidTransform

FloatArray = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]
Grid = tuple[tuple[int, int, int], FloatArray]  # shape and mm_from_ijk

#: What a head is made of.
TISSUES = (
    *("air", "skin", "fat", "muscle", "bone", "diploe", "blood", "csf"),
    *("grey", "white", "deep", "vitreous", "lens"),
)
#: The tissues of the brain itself.
BRAIN = ("grey", "white", "deep")

_FWHM_PER_SIGMA = 2.3548
_DENSE_MM = 2.0  # larger voxels are the mean of several samples
_FAR_MM = 40.0  # beyond this no part of the head touches another's surface
_BLOCK = 32  # voxels along the edge of a block that is painted at once
_MARGIN_MM = 6.0  # of air around the head in a default field of view
_CENTRE_Z_MM = 6.0  # height of the centre from which the sulci fan out
_FOLD_RATE = 2 * np.pi / 24.0  # radians per mm along the surface
_CORTEX_MM = 2.7
_DROPOUTS = (  # centre and reach in mm of signal loss above sinuses and ears
    ((0.0, 40.0, -22.0), 17.0),
    ((52.0, -18.0, -30.0), 13.0),
    ((-52.0, -18.0, -30.0), 13.0),
)


@dataclass(frozen=True)
class Contrast:
    """How a kind of scanner shows a head.

    Parameters
    ----------
    intensities : mapping of str to float
        Intensity of each of `TISSUES`.
    voxel_size_mm : float
        Usual voxel size.
    blur_fwhm_mm : float
        Full width at half maximum of the Gaussian point spread, besides the
        averaging within each voxel.
    noise : {"rician", "gaussian", "poisson"}
        Rician for MR magnitudes, Gaussian for CT; "poisson" has a variance in
        proportion to the intensity and the grain of the point spread.
    noise_level : float
        Standard deviation of the noise, in units of intensity (for "poisson",
        in grey matter).
    bias : float
        Standard deviation of the logarithm of the smooth shading.
    dropout : float
        Fraction of signal lost above the nasal sinuses and the ear canals.

    Examples
    --------
    The T1 contrast without noise and shading:

    >>> from dataclasses import replace
    >>> clean = replace(CONTRASTS["T1"], noise_level=0.0, bias=0.0)
    >>> clean.intensities["white"] > clean.intensities["grey"]
    True
    """

    intensities: Mapping[str, float]
    voxel_size_mm: float = 1.0
    blur_fwhm_mm: float = 0.0
    noise: Literal["rician", "gaussian", "poisson"] = "rician"
    noise_level: float = 0.0
    bias: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the table once."""
        if set(self.intensities) != set(TISSUES):
            odd = sorted(set(self.intensities) ^ set(TISSUES))
            raise InputError(f"a contrast needs one intensity per tissue; see {odd}")


def _table(*intensities: float) -> Mapping[str, float]:
    """Name intensities given in the order of `TISSUES`."""
    return MappingProxyType(dict(zip(TISSUES, intensities, strict=True)))


#: The contrasts that can be asked for by name. CT is in Hounsfield units.
CONTRASTS: Mapping[str, Contrast] = MappingProxyType(
    # air skin fat muscle bone diploe blood csf grey white deep vitreous lens
    {
        "T1": Contrast(
            _table(0, 420, 930, 400, 50, 430, 230, 160, 510, 740, 600, 140, 300),
            noise_level=18,
            bias=0.08,
        ),
        "T2": Contrast(
            _table(0, 280, 600, 210, 40, 300, 110, 980, 540, 390, 430, 960, 180),
            noise_level=20,
            bias=0.06,
        ),
        "PD": Contrast(
            _table(0, 500, 880, 560, 60, 450, 200, 860, 800, 660, 730, 850, 480),
            noise_level=18,
            bias=0.06,
        ),
        "FLAIR": Contrast(
            _table(0, 380, 820, 300, 40, 380, 150, 90, 600, 460, 520, 80, 220),
            noise_level=20,
            bias=0.08,
        ),
        "EPI": Contrast(
            _table(0, 90, 110, 140, 20, 70, 250, 980, 700, 540, 560, 800, 110),
            voxel_size_mm=3.0,
            blur_fwhm_mm=2.5,
            noise_level=20,
            bias=0.18,
            dropout=0.75,
        ),
        "CT": Contrast(
            _table(-1000, 20, -95, 55, 1350, 550, 52, 8, 39, 28, 37, 12, 85),
            blur_fwhm_mm=1.0,
            noise="gaussian",
            noise_level=9,
        ),
        "PET": Contrast(
            _table(0, 110, 50, 190, 60, 140, 220, 70, 1000, 330, 950, 60, 60),
            voxel_size_mm=4.0,
            blur_fwhm_mm=7.0,
            noise="poisson",
            noise_level=70,
        ),
    }
)


class _Waves(NamedTuple):
    """A sum of plane waves: rates in radians per mm, phases, one amplitude each."""

    rates: FloatArray  # (m, 3)
    phases: FloatArray  # (m,)
    amplitude: float

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        n: int,
        lengths_mm: tuple[float, float],
        rms: float,
    ) -> _Waves:
        """Draw `n` waves of random direction whose sum has the given rms."""
        directions = rng.standard_normal((n, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        rates = 2 * np.pi / rng.uniform(*lengths_mm, (n, 1)) * directions
        return cls(rates, rng.uniform(0, 2 * np.pi, n), rms * np.sqrt(2 / n))

    def __call__(self, points: Values) -> Values:
        """Return the sum at points given as (3, n)."""
        total = np.zeros(points.shape[1], np.float32)
        for rate, phase in zip(self.rates, self.phases, strict=True):
            total += np.sin(_along(rate, points, phase))
        total *= np.float32(self.amplitude)
        return total

    def with_gradient(self, points: Values) -> tuple[Values, Values]:
        """Return the sum (n,) and its gradient (3, n)."""
        total = np.zeros(points.shape[1], np.float32)
        gradient = np.zeros_like(points)
        for rate, phase in zip(self.rates, self.phases, strict=True):
            angle = _along(rate, points, phase)
            total += np.sin(angle)
            slope = np.cos(angle)
            for axis in range(3):
                gradient[axis] += slope * np.float32(rate[axis])
        scale = np.float32(self.amplitude)
        return total * scale, gradient * scale


def _along(rate: FloatArray, points: Values, phase: float) -> Values:
    """Return rate . point + phase without a float64 detour."""
    a, b, c = rate.astype(np.float32)
    along: Values = a * points[0] + b * points[1] + (c * points[2] + np.float32(phase))
    return along


class _Blob(NamedTuple):
    """An ellipsoid of one tissue."""

    tissue: str
    centre: FloatArray  # (3,)
    semi_axes: FloatArray  # (3,)
    axes: FloatArray  # (3, 3), rows are the directions of the semi-axes

    def depth(self, points: Values) -> Values:
        """Return the depth in mm below the surface (first order), points (3, n)."""
        centred = points - self.centre[:, None].astype(np.float32)
        scaled = (self.axes / self.semi_axes[:, None]).astype(np.float32) @ centred
        inverse = (1 / self.semi_axes[:, None]).astype(np.float32)
        square = np.einsum("an,an->n", scaled, scaled)
        scaled *= inverse
        slope = np.sqrt(np.einsum("an,an->n", scaled, scaled)) + np.float32(1e-6)
        root = np.sqrt(square)
        depth: Values = (1 - root) * root / slope
        return depth

    def reach(self, directions: FloatArray) -> FloatArray:
        """Return how far the ellipsoid reaches along each unit direction (n, 3)."""
        half = np.linalg.norm((directions @ self.axes.T) * self.semi_axes, axis=-1)
        reach: FloatArray = directions @ self.centre + half
        return reach

    @property
    def box(self) -> FloatArray:
        """Lowest and highest corner, (2, 3)."""
        return np.array([-self.reach(-np.eye(3)), self.reach(np.eye(3))])


def _joined(a: Values, b: Values, width_mm: float) -> Values:
    """Return the depth in the union of two shapes, with a rounded seam."""
    near = np.maximum(np.float32(width_mm) - np.abs(a - b), 0)
    joined: Values = np.maximum(a, b) + near * near * np.float32(0.25 / width_mm)
    return joined


@dataclass(frozen=True, eq=False)
class Head:
    """A head as formulas; make one with `Head.from_seed`.

    Its coordinates are RAS+ mm with the origin in the middle of the brain.
    """

    bend: tuple[_Waves, _Waves, _Waves]  # how far the shape is bent along x, y, z
    parts: Mapping[str, _Blob]  # the large shapes, by name
    face: tuple[_Blob, ...]  # painted in order below the skull
    nuclei: tuple[_Blob, ...]  # painted in order over cortex and white matter
    folds: _Waves  # zero where there is a sulcus
    winding: tuple[_Waves, _Waves, _Waves]  # how far the sulci wander, mm
    sulcus_depth: _Waves  # departure from the mean depth, mm
    thickness: _Waves  # departure of bone and scalp from their means, fraction
    skull_mm: float
    scalp_mm: float
    sylvian: FloatArray  # (2 sides, 2): height at y = 0, rise per mm forward

    @classmethod
    def from_seed(cls, seed: int) -> Head:
        """Draw a head: its size, shape, folds and asymmetry.

        Parameters
        ----------
        seed : int
            The same number gives the same head on every call.
        """
        rng = np.random.default_rng([seed, 0x4EAD])
        size = np.exp(rng.normal(0, 0.035, 3)) * np.exp(rng.normal(0, 0.02))

        def blob(
            tissue: str,
            centre: Sequence[float],
            semi_axes: Sequence[float],
            turn_deg: Sequence[float] = (0, 0, 0),
            loose: float = 1.0,
        ) -> _Blob:
            c = np.array(centre) + rng.normal(0, 0.8 * loose, 3)
            a = np.array(semi_axes) * np.exp(rng.normal(0, 0.06 * loose, 3))
            turn = np.array(turn_deg) + rng.normal(0, 2.0 * loose, 3)
            axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().T
            return _Blob(tissue, c * size, a * size, axes)

        def both(
            tissue: str,
            centre: Sequence[float],
            semi_axes: Sequence[float],
            turn_deg: Sequence[float] = (0, 0, 0),
        ) -> list[_Blob]:
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
        ) -> list[_Blob]:
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
            bend=tuple(_Waves.draw(rng, 4, (85, 190), 1.9) for _ in range(3)),  # type: ignore[arg-type]
            parts=parts,
            face=face,
            nuclei=nuclei,
            folds=_Waves.draw(rng, 32, (19, 29), 1.0),
            winding=tuple(_Waves.draw(rng, 3, (22, 40), 1.9) for _ in range(3)),  # type: ignore[arg-type]
            sulcus_depth=_Waves.draw(rng, 4, (25, 60), 4.5),
            thickness=_Waves.draw(rng, 4, (60, 120), 0.15),
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
        >>> import numpy as np
        >>> fluid = dict.fromkeys(TISSUES, 0.0) | {"csf": 1.0}
        >>> Head.from_seed(0).sample([[0.0, -10.0, 2.0], [200.0, 0.0, 0.0]], fluid)
        array([1., 0.], dtype=float32)
        """
        at = np.asarray(points, dtype=np.float64)
        flat = at.reshape(-1, 3)
        out = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), _BLOCK**3):
            part = slice(start, start + _BLOCK**3)
            out[part] = _paint(self, flat[part].T, intensities, edge_mm)
        return out.reshape(at.shape[:-1])


class _Canvas:
    """The intensities of one block of points while tissues are laid on."""

    def __init__(
        self, n: int, intensities: Mapping[str, float], edge_mm: float
    ) -> None:
        self.intensities = intensities
        self.per_edge = np.float32(1 / edge_mm)
        self.values = np.full(n, intensities["air"], np.float32)

    def lay(
        self, tissue: str, depth: Values, where: npt.NDArray[np.intp] | None = None
    ) -> None:
        """Lay a tissue where its depth is positive, with a soft edge."""
        share = np.clip(depth * self.per_edge + np.float32(0.5), 0, 1)
        value = np.float32(self.intensities[tissue])
        if where is None:
            self.values += (value - self.values) * share
        else:
            self.values[where] += (value - self.values[where]) * share

    def lay_blobs(
        self,
        blobs: Sequence[_Blob],
        boxes: FloatArray,
        points: Values,
        within: Values,
        where: npt.NDArray[np.intp] | None = None,
    ) -> None:
        """Lay those ellipsoids that touch the block, in order, inside a shape."""
        touched = _touching(boxes, points, float(1 / self.per_edge))
        for index in np.flatnonzero(touched).tolist():
            blob = blobs[index]
            self.lay(blob.tissue, np.minimum(blob.depth(points), within), where)


def _touching(
    boxes: FloatArray, points: Values, margin_mm: float
) -> npt.NDArray[np.bool_]:
    """Say which boxes (n, 2, 3) come within a margin of the points' own box."""
    low, high = points.min(axis=1) - margin_mm, points.max(axis=1) + margin_mm
    overlap = (boxes[:, 0] <= high) & (boxes[:, 1] >= low)
    return np.asarray(overlap.all(axis=1))


def _paint(
    head: Head, points: FloatArray, intensities: Mapping[str, float], edge_mm: float
) -> Values:
    """Return the intensities at points (3, n): from the skin to the ventricles."""
    straight = points.astype(np.float32)
    canvas = _Canvas(points.shape[1], intensities, edge_mm)
    if not _touching(head.boxes["head"], straight, edge_mm).any():
        return canvas.values
    bent = straight + np.stack([wave(straight) for wave in head.bend])
    # Parts that are far from all points do not count.
    near = _touching(head.boxes["parts"], bent, _FAR_MM)
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
        cerebrum = _joined(cerebrum, parts[side], 6)
    stem = _joined(parts["stem"], parts["pons"], 6)
    cavity = _joined(_joined(cerebrum, parts["cerebellum"], 4), stem, 5) + 2.5
    # Below its end the spinal cord goes on as part of the neck.
    end = float(head.parts["stem"].reach(np.array([0.0, 0.0, -1.0])))
    cavity = np.minimum(cavity, z + np.float32(end))

    # Scalp, face and neck.
    skull = np.float32(head.skull_mm) * uneven
    surface = cavity + skull + np.float32(head.scalp_mm) * (2 - uneven)
    for name in ("face", "neck", "brow"):
        surface = _joined(surface, parts[name], 14)
    for name in ("chin", "nose", "ear right", "ear left"):
        surface = _joined(surface, parts[name], 6)
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


def _lay_jaw(canvas: _Canvas, points: Values) -> None:
    """Lay the lower jaw, a horseshoe of bone."""
    x, y, z = points
    if z.min() > -80 or y.max() < 0:
        return
    around = np.sqrt((x / 42) ** 2 + ((y - 20) / 56) ** 2)
    ring = 5 - np.abs(around - 1) * 45
    canvas.lay("bone", np.minimum(np.minimum(ring, 11 - np.abs(z + 93)), y - 6))


def _lay_brain(
    canvas: _Canvas,
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


def head_grid(
    voxel_size_mm: npt.ArrayLike,
    *,
    seed: int = 0,
    box_from_head: RigidTransform | None = None,
    fov_mm: npt.ArrayLike | None = None,
) -> Grid:
    """Lay a grid of voxels around a head.

    Parameters
    ----------
    voxel_size_mm : float or (3,) array_like
        Voxel size along the axes of the box.
    seed : int, optional
        Which head.
    box_from_head : RigidTransform, optional
        How the head lies in the box: maps head coordinates to mm along the axes
        of the box (default: straight).
    fov_mm : float or (3,) array_like, optional
        Field of view, about the middle of the head. By default it holds the
        whole head, however it is turned.

    Returns
    -------
    shape : tuple of int
        Number of voxels along each axis.
    box_from_ijk : (4, 4) ndarray
        Maps voxel indices to mm along the axes of the box.

    Examples
    --------
    >>> shape, box_from_ijk = head_grid(4.0, fov_mm=200.0)
    >>> shape
    (50, 50, 50)
    """
    size = np.broadcast_to(np.asarray(voxel_size_mm, float), 3)
    if not (np.isfinite(size) & (size > 0)).all():
        raise InputError(f"voxel size must be positive, got {voxel_size_mm!r} mm")
    pose = box_from_head or RigidTransform.identity()
    turned = pose.rotation_matrix  # rows: the axes of the box in head coordinates
    head = Head.from_seed(seed)
    high = head.reach(turned) + pose.matrix[:3, 3]
    low = -head.reach(-turned) + pose.matrix[:3, 3]
    if fov_mm is None:
        extent = high - low + 2 * _MARGIN_MM
    else:
        extent = np.broadcast_to(np.asarray(fov_mm, float), 3)
    shape = np.maximum(np.ceil(extent / size - 1e-6), 1).astype(int)
    box_from_ijk = np.diag([*size, 1.0])
    box_from_ijk[:3, 3] = (low + high) / 2 - size * (shape - 1) / 2
    return (int(shape[0]), int(shape[1]), int(shape[2])), box_from_ijk


def make_phantom(
    contrast: str | Contrast,
    *,
    seed: int = 0,
    noise_seed: int = 0,
    scan_from_head: RigidTransform | None = None,
    voxel_size_mm: npt.ArrayLike | None = None,
    fov_mm: npt.ArrayLike | None = None,
    grid: Grid | None = None,
) -> Image:
    """Scan a synthetic head.

    Parameters
    ----------
    contrast : str or Contrast
        One of `CONTRASTS`, or your own.
    seed : int, optional
        Which head.
    noise_seed : int, optional
        Which noise and shading.
    scan_from_head : RigidTransform, optional
        Where the head lies: maps head coordinates to the mm of the scan
        (default: they are the same).
    voxel_size_mm : float or (3,) array_like, optional
        Voxel size (default: that of the contrast).
    fov_mm : float or (3,) array_like, optional
        Field of view about the middle of the head (default: the whole head).
    grid : (shape, mm_from_ijk), optional
        The voxels to fill, instead of a box along the axes of the scan with the
        size and field of view above.

    Returns
    -------
    Image
        The scan. Equal arguments give equal bits.

    Raises
    ------
    InputError
        If there is no such contrast, or `grid` comes with a voxel size or a
        field of view.

    Examples
    --------
    >>> import numpy as np
    >>> ct = make_phantom("CT", voxel_size_mm=8.0)
    >>> bool(-1100 < np.percentile(ct.data, 5) < -900)
    True
    """
    look = _contrast(contrast)
    pose = scan_from_head or RigidTransform.identity()
    if grid is None:
        size = look.voxel_size_mm if voxel_size_mm is None else voxel_size_mm
        grid = head_grid(size, seed=seed, box_from_head=pose, fov_mm=fov_mm)
    elif voxel_size_mm is not None or fov_mm is not None:
        raise InputError("give either a grid, or a voxel size and a field of view")
    shape, mm_from_ijk = grid
    head_from_ijk = pose.inverse().matrix @ np.asarray(mm_from_ijk, float)
    name = zlib.crc32(repr(look).encode())
    rng = np.random.default_rng([seed, noise_seed, name])
    signal = _signal(Head.from_seed(seed), look, shape, head_from_ijk)
    if look.bias:
        signal *= _shading(shape, look.bias, rng)
    if look.noise_level:
        size_mm = np.linalg.norm(head_from_ijk[:3, :3], axis=0)
        signal = _noisy(signal, look, size_mm, rng)
    return Image(signal, mm_from_ijk)


def _contrast(contrast: str | Contrast) -> Contrast:
    """Return a contrast by name, or as it is."""
    if isinstance(contrast, Contrast):
        return contrast
    if contrast not in CONTRASTS:
        known = ", ".join(CONTRASTS)
        raise InputError(f"there is no contrast {contrast!r}; choose one of {known}")
    return CONTRASTS[contrast]


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a grid into cubes."""
    for i in range(0, shape[0], _BLOCK):
        for j in range(0, shape[1], _BLOCK):
            for k in range(0, shape[2], _BLOCK):
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + _BLOCK, n))
                    for start, n in zip((i, j, k), shape, strict=True)
                )


def _signal(
    head: Head, look: Contrast, shape: tuple[int, int, int], head_from_ijk: FloatArray
) -> Values:
    """Return what a perfect scanner with this point spread would see."""
    size = np.linalg.norm(head_from_ijk[:3, :3], axis=0)
    coarsest = max(_DENSE_MM, float(np.cbrt(np.prod(size))) / 2)
    per_voxel = np.ceil(size / coarsest - 1e-6).astype(int)
    fine = np.array(shape) * per_voxel
    # Sample f of a voxel cut into n lies at (f + 1/2) / n - 1/2.
    ijk_from_fine = np.diag([*(1 / per_voxel), 1.0])
    ijk_from_fine[:3, 3] = 0.5 / per_voxel - 0.5
    head_from_fine = head_from_ijk @ ijk_from_fine
    step = size / per_voxel
    edge_mm = float(np.cbrt(np.prod(step)))
    values = np.empty(tuple(fine), np.float32)
    for block in _blocks(values.shape):
        index = np.mgrid[block].reshape(3, -1)
        points = head_from_fine[:3, :3] @ index + head_from_fine[:3, 3:]
        painted = _paint(head, points, look.intensities, edge_mm)
        if look.dropout:
            painted *= _kept(points, look.dropout)
        values[block] = painted.reshape(values[block].shape)
    if look.blur_fwhm_mm:
        sigma = look.blur_fwhm_mm / _FWHM_PER_SIGMA / step
        values = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)
    if (per_voxel > 1).any():
        n = [(s, p) for s, p in zip(shape, per_voxel.tolist(), strict=True)]
        values = values.reshape([m for pair in n for m in pair]).mean(axis=(1, 3, 5))
    return values


def _kept(points: FloatArray, dropout: float) -> Values:
    """Return the fraction of signal that survives near the air-filled sinuses."""
    kept = np.ones(points.shape[1], np.float32)
    for centre, reach in _DROPOUTS:
        apart = (points - np.array(centre)[:, None]).astype(np.float32)
        square = np.einsum("an,an->n", apart, apart)
        kept *= 1 - np.float32(dropout) * np.exp(square * np.float32(-0.5 / reach**2))
    return kept


def _shading(
    shape: tuple[int, int, int], amplitude: float, rng: np.random.Generator
) -> Values:
    """Draw a smooth field about one, made of the lowest cosines of the box."""
    weight = rng.standard_normal((3, 3, 3))
    order = np.indices((3, 3, 3)).sum(axis=0)
    weight[(order == 0) | (order > 2)] = 0
    # A product of cosines of which m are not constant has mean square 2**-m.
    square = weight**2 * 0.5 ** (np.indices((3, 3, 3)) > 0).sum(axis=0)
    weight *= amplitude / np.sqrt(square.sum())
    x, y, z = (
        np.cos(np.pi * np.arange(3)[:, None] * (np.arange(n) + 0.5) / n) for n in shape
    )
    plane = np.einsum("abc,ax,by->xyc", weight, x, y).astype(np.float32)
    shading: Values = np.exp(plane @ z.astype(np.float32))
    return shading


def _noisy(
    signal: Values, look: Contrast, size_mm: FloatArray, rng: np.random.Generator
) -> Values:
    """Add the noise of the scanner."""
    level = np.float32(look.noise_level)
    first = rng.standard_normal(signal.shape, dtype=np.float32)
    noisy: Values
    if look.noise == "gaussian":
        noisy = signal + first * level
    elif look.noise == "rician":
        second = rng.standard_normal(signal.shape, dtype=np.float32)
        noisy = np.hypot(signal + first * level, second * level)
    else:
        sigma = look.blur_fwhm_mm / 2 / _FWHM_PER_SIGMA / size_mm
        grain = ndimage.gaussian_filter(first, sigma, mode="wrap")
        grain *= level / max(float(grain.std()), 1e-12)
        share = np.maximum(signal, 0) / np.float32(look.intensities["grey"])
        noisy = np.maximum(signal + grain * np.sqrt(share), 0)
    return noisy


def random_pose(
    rng: np.random.Generator,
    *,
    max_offset_mm: float = 100.0,
    max_angle_deg: float = 180.0,
) -> RigidTransform:
    """Draw a rigid transform about the origin.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the randomness comes from.
    max_offset_mm : float, optional
        Largest translation; its direction and length are uniform.
    max_angle_deg : float, optional
        Largest angle of rotation. Orientations are uniform (Haar) among those
        with at most this angle; 180 means every orientation.

    Examples
    --------
    >>> import numpy as np
    >>> pose = random_pose(np.random.default_rng(0), max_angle_deg=10)
    >>> bool(pose.angle_deg <= 10)
    True
    """
    axis, offset = rng.standard_normal((2, 3))
    # The angle t of a uniform rotation has the density 1 - cos(t), 0 <= t <= pi.
    top = np.deg2rad(max_angle_deg)
    angles = np.linspace(0, top, 4097)
    cumulated = angles - np.sin(angles)
    angle = np.interp(rng.uniform(0, cumulated[-1]), cumulated, angles)
    length = rng.uniform(0, max_offset_mm)
    return RigidTransform(
        angle * axis / np.linalg.norm(axis), length * offset / np.linalg.norm(offset)
    )


class PhantomPair(NamedTuple):
    """Two scans of one head, and the truth about them."""

    fixed: Image
    moving: Image
    moving_from_fixed: RigidTransform


def phantom_pair(
    fixed_contrast: str | Contrast = "T1",
    moving_contrast: str | Contrast = "T2",
    *,
    seed: int = 0,
    pose: RigidTransform | None = None,
    fixed_voxel_size_mm: npt.ArrayLike | None = None,
    moving_voxel_size_mm: npt.ArrayLike | None = None,
    max_tilt_deg: float = 6.0,
    turned_in_box: bool = False,
) -> PhantomPair:
    """Scan one synthetic head twice.

    Parameters
    ----------
    fixed_contrast, moving_contrast : str or Contrast, optional
        Two of `CONTRASTS`, or your own.
    seed : int, optional
        Which head, noise, tilt and (by default) pose.
    pose : RigidTransform, optional
        The true `moving_from_fixed`. By default any orientation, with the head
        up to 100 mm away.
    fixed_voxel_size_mm, moving_voxel_size_mm : float or (3,) array_like, optional
        Voxel sizes (default: those of the contrasts).
    max_tilt_deg : float, optional
        How obliquely the head may lie in each box of voxels; its position in the
        box varies too.
    turned_in_box : bool, optional
        How `pose` comes about. False (default): the head lies about straight in
        both boxes, and the header of the moving scan is far off. True: the box of
        the moving scan lies along the axes of its mm, and the head is turned in it.

    Returns
    -------
    PhantomPair
        `fixed`, `moving` and `moving_from_fixed`, which maps a point of `fixed`
        (RAS+ mm, the coordinates of the head) to the point of `moving` (RAS+ mm)
        with the same anatomy. Both boxes hold the whole head.

    Examples
    --------
    >>> pair = phantom_pair(
    ...     "T1", "PET", seed=3, fixed_voxel_size_mm=8, moving_voxel_size_mm=8
    ... )
    >>> bool(pair.moving_from_fixed.max_displacement([[0, 0, 0]]) <= 100)
    True
    """
    rng = np.random.default_rng([seed, 0x9A12])
    drawn = random_pose(rng)
    truth = drawn if pose is None else pose
    straight = RigidTransform.identity()
    tilts = [
        random_pose(rng, max_offset_mm=0, max_angle_deg=max_tilt_deg) for _ in range(2)
    ]
    if turned_in_box:
        tilts[1] = truth
    scans = (
        (fixed_contrast, fixed_voxel_size_mm, straight, tilts[0]),
        (moving_contrast, moving_voxel_size_mm, truth, tilts[1]),
    )
    images = []
    for number, (contrast, size, scan_from_head, box_from_head) in enumerate(scans):
        look = _contrast(contrast)
        shape, box_from_ijk = head_grid(
            look.voxel_size_mm if size is None else size,
            seed=seed,
            box_from_head=box_from_head,
        )
        shift = np.eye(4)  # so that the two grids have nothing in common
        shift[:3, 3] = rng.uniform(-2, 2, 3)
        scan_from_box = scan_from_head.matrix @ box_from_head.inverse().matrix
        images.append(
            make_phantom(
                look,
                seed=seed,
                noise_seed=number,
                scan_from_head=scan_from_head,
                grid=(shape, scan_from_box @ shift @ box_from_ijk),
            )
        )
    return PhantomPair(images[0], images[1], truth)


def brain_points(seed: int = 0, *, spacing_mm: float = 5.0) -> FloatArray:
    """Return points spread evenly over a brain, to measure errors at.

    Parameters
    ----------
    seed : int, optional
        Which head.
    spacing_mm : float, optional
        Distance between neighbours.

    Returns
    -------
    (n, 3) ndarray
        Points in head coordinates, which are the RAS+ mm of the fixed scan of
        `phantom_pair`.

    Examples
    --------
    >>> points = brain_points(spacing_mm=10)
    >>> len(points) > 500
    True
    """
    (nx, ny, nz), head_from_ijk = head_grid(spacing_mm, seed=seed)
    ijk = np.indices((nx, ny, nz)).reshape(3, -1).T
    points = ijk @ head_from_ijk[:3, :3].T + head_from_ijk[:3, 3]
    table = {tissue: float(tissue in BRAIN) for tissue in TISSUES}
    inside = Head.from_seed(seed).sample(points, table) > 0.5
    return points[inside]
