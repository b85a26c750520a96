"""All scans of a patient at once, each answer checked by all others."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import __version__
from . import _parameters as parameters
from ._engine.verdict import in_percent
from ._errors import DoubtWarning, InputError, MiregWarning, not_written, warn
from ._files import nifti
from ._files import transforms as transform_files
from ._files.formats import ImageLike
from ._files.records import json_number, to_json
from ._files.writing import new_files
from ._image import Image
from ._moved import Output, writer
from ._pose_graph import Edge, mean_frame, rms_mm, solve
from ._prepare import PreparedImage, prepare
from ._progress import Progress, checked_progress
from ._register import register
from ._registration import Registration
from ._results import opened
from ._settings import Settings, settings_or_default
from ._transform import RigidTransform

FloatArray = npt.NDArray[np.float64]

#: Which pairs are registered: all, each with the next one and the last with the first,
#: or each with so many others.
PairChoice = Literal["all", "ring"] | int

#: Standard error of a transform of which nothing is known, mm.
_UNKNOWN_MM = 10.0

_SCHEMA = "mireg-session/1"


@dataclass(frozen=True, eq=False)
class SessionPair:
    """Two images of a session, registered by themselves.

    Attributes
    ----------
    fixed, moving : int
        Which images, from 0.
    moving_from_fixed : RigidTransform
        As it was found from these two.
    standard_error_mm : float
        Error expected from noise.
    residual_mm : float
        How far it is from what all pairs together say, root mean square over the
        anatomy.
    used : bool
        Whether it took part in the common solution.
    reason : str
        Why it did not; empty if it did.
    probability, same_anatomy, mirrored : float
        As the verdict on these two has it: that the transform is right, that both are
        of one person, that one is stored mirrored.
    """

    fixed: int
    moving: int
    moving_from_fixed: RigidTransform
    standard_error_mm: float
    residual_mm: float
    used: bool
    reason: str
    probability: float
    same_anatomy: float
    mirrored: float

    @property
    def doubtful(self) -> bool:
        """Whether it is doubtful, by itself."""
        return not self.probability >= parameters.DOUBTFUL_BELOW


@dataclass(frozen=True, eq=False, repr=False)
class Session:
    """Images of one patient in one frame.

    Attributes
    ----------
    images : tuple of Image
        The images, as they were given.
    names : tuple of str
        What they are called.
    reference : int or None
        The image in whose space the frame is; None for the mean frame.
    transforms : tuple of RigidTransform
        For each image ``image_from_reference``: maps points of the reference to points
        of the image, RAS+ mm.
    errors_mm : (n,) ndarray
        Expected error of each image against the first, from noise and from how far
        loops through three images are open, root mean square over the anatomy; 0 for
        the first.
    pairs : tuple of SessionPair
        What was registered.
    between_mm : float
        Error of a pair besides noise, as the loops show it; NaN without loops.
    strangers : tuple of int
        The images that do not belong: of another patient, or stored mirrored.
    warnings : tuple of str
        Which image does not belong, or may bend, and why; what was odd.
    """

    images: tuple[Image, ...]
    names: tuple[str, ...]
    reference: int | None
    transforms: tuple[RigidTransform, ...]
    errors_mm: FloatArray
    pairs: tuple[SessionPair, ...]
    between_mm: float
    strangers: tuple[int, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Say in one line what was found."""
        used = sum(pair.used for pair in self.pairs)
        frame = "the mean frame"
        if self.reference is not None:
            frame = f"the frame of {self.names[self.reference]}"
        return (
            f"<Session of {len(self.images)} images in {frame}: {used} of "
            f"{len(self.pairs)} pairs used, largest residual {self.worst_mm:.2f} mm>"
        )

    @property
    def worst_mm(self) -> float:
        """Largest residual of a pair that was used, mm."""
        return max((pair.residual_mm for pair in self.pairs if pair.used), default=0.0)

    @property
    def grid(self) -> Image:
        """The grid of the frame: that of the reference, or of the first image."""
        if self.reference is not None:
            return self.images[self.reference]
        first = self.images[0]
        mm_from_ijk = (~self.transforms[0]).matrix @ first.mm_from_ijk
        return Image(first.data, mm_from_ijk)

    def to_dict(self) -> dict[str, Any]:
        """Give all that was found, ready for JSON."""
        return {
            "schema": _SCHEMA,
            "reference": "mean" if self.reference is None else self.reference,
            "between_mm": json_number(self.between_mm),
            "images": [
                {
                    "name": name,
                    "path": None if image.source is None else image.source.path,
                    "image_from_reference": transform.matrix.tolist(),
                    "expected_error_mm": json_number(error),
                }
                for name, image, transform, error in zip(
                    self.names,
                    self.images,
                    self.transforms,
                    self.errors_mm.tolist(),
                    strict=True,
                )
            ],
            "pairs": [
                {
                    "fixed": pair.fixed,
                    "moving": pair.moving,
                    "moving_from_fixed": pair.moving_from_fixed.matrix.tolist(),
                    "standard_error_mm": json_number(pair.standard_error_mm),
                    "residual_mm": pair.residual_mm,
                    "used": pair.used,
                    "reason": pair.reason,
                    "probability": pair.probability,
                    "same_anatomy": pair.same_anatomy,
                    "mirrored": pair.mirrored,
                }
                for pair in self.pairs
            ],
            "strangers": list(self.strangers),
            "warnings": list(self.warnings),
            "mireg_version": __version__,
        }

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        transform_formats: Sequence[str] = ("itk",),
        images: bool = False,
        report: bool = False,
        output: Output | None = None,
        threads: int | None = None,
        force: bool = False,
    ) -> list[Path]:
        """Write the transforms, a table of pairs and the record: all files or none.

        Parameters
        ----------
        folder : str or path
            Where to write; it is made if need be.
        transform_formats : sequence of str, optional
            Formats of the transforms, one file an image and format.
        images : bool, optional
            Write each image on the grid of the frame, too.
        report : bool, optional
            Write ``session.html``: a page with the pairs and every image in one frame.
        output : Output, optional
            How.
        threads : int, optional
            Threads to use.
        force : bool, optional
            Replace files that exist.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        InputError
            If one exists or cannot be written; then none is.
        """
        files = SessionFiles.named(
            folder,
            self.names,
            self.reference,
            transform_formats,
            images=images,
            report=report,
        )
        output, grid = output or Output(), self.grid
        made: dict[Path, bytes] = {}
        for path, (i, kind) in files.transforms.items():
            made[path] = transform_files.transform_bytes(
                path,
                self.transforms[i],
                fixed=grid,
                moving=self.images[i],
                format=kind,
            )
        made[files.table] = self._pair_table().encode()
        made[files.record] = to_json(self.to_dict()).encode()
        if files.report is not None:
            # Slow to import, and only needed here.
            from ._report.session import session_page  # noqa: PLC0415

            page = session_page(self.to_dict(), self.images, grid, threads=threads)
            made[files.report] = page.encode()
        moved = {
            path: writer(
                opened(self.images[i]),
                grid,
                self.transforms[i],
                output,
                volume=self.images[i],
                space=nifti.space_code(opened(grid)),
                threads=threads,
            )
            for path, i in files.images.items()
        }
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: {not_written(error)}") from error
        with new_files([*made, *moved], force=force) as taken:
            for path, content in made.items():
                taken[path].write(content)
            for path, write in moved.items():
                write(taken[path], path)
        return [*made, *moved]

    def _pair_table(self) -> str:
        """Write the pairs as a table."""
        file = io.StringIO()
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(
            ["fixed", "moving", "residual_mm", "standard_error_mm", "used", "reason"]
        )
        for pair in self.pairs:
            numbers = (pair.residual_mm, pair.standard_error_mm)
            table.writerow(
                [
                    self.names[pair.fixed],
                    self.names[pair.moving],
                    *(f"{n:.4f}" if math.isfinite(n) else "n/a" for n in numbers),
                    "yes" if pair.used else "no",
                    pair.reason or "n/a",
                ]
            )
        return file.getvalue()


@dataclass(frozen=True)
class SessionFiles:
    """The files to write.

    Attributes
    ----------
    transforms : dict of Path to (int, str)
        Of which image, and in which format.
    images : dict of Path to int
        The image that is moved.
    table, record : Path
        The pairs; all that was found.
    report : Path or None
        A page to look at.
    """

    transforms: dict[Path, tuple[int, str]]
    images: dict[Path, int]
    table: Path
    record: Path
    report: Path | None

    @classmethod
    def named(
        cls,
        folder: str | os.PathLike[str],
        names: Sequence[str],
        reference: int | None,
        transform_formats: Sequence[str],
        *,
        images: bool,
        report: bool,
    ) -> SessionFiles:
        """Name the files after the images."""
        folder = Path(folder)
        where = "mean" if reference is None else names[reference]
        bases = [f"{name}_to_{where}" for name in names]
        kinds = dict.fromkeys(map(transform_files.format_name, transform_formats))
        return cls(
            {
                folder / f"{base}{transform_files.suffix_of(kind)}": (i, kind)
                for i, base in enumerate(bases)
                for kind in kinds
            },
            {folder / f"{base}.nii.gz": i for i, base in enumerate(bases) if images},
            folder / "pairs.tsv",
            folder / "session.json",
            folder / "session.html" if report else None,
        )

    @property
    def paths(self) -> list[Path]:
        """All files."""
        one = [] if self.report is None else [self.report]
        return [*self.transforms, *self.images, self.table, self.record, *one]


def register_session(
    images: Sequence[ImageLike],
    *,
    names: Sequence[str] | None = None,
    masks: Sequence[ImageLike | None] | None = None,
    reference: int | Literal["mean"] = 0,
    pairs: PairChoice = "all",
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Session:
    """Bring all scans of a patient into line at once.

    Each image is prepared once, pairs of them are registered, and the poses that fit
    all pairs best are found. So each answer is checked by all others: what a pair is
    off is measured on the patient's own data, and a wrong pair, or an image that does
    not belong, shows.

    Parameters
    ----------
    images : sequence of images
        Two or more, of any contrasts; each is taken as `mireg.register` takes one.
    names : sequence of str, optional
        What to call them (default: after their files, or their numbers).
    masks : sequence, optional
        For each image where to compare, or None.
    reference : int or "mean", optional
        Whose space the frame is: that of an image (default: of the first), or one
        half-way between all, where none is resampled less than another, as follow-up
        studies want it.
    pairs : {"all", "ring"} or int, optional
        Which pairs are registered: all; a ring; or each image with so many others.
    settings : Settings, optional
        As for `mireg.register`.
    progress : callable, optional
        Called with what is done, and the share of the work.

    Returns
    -------
    Session

    Raises
    ------
    InputError
        If there are fewer than two images, two of one name, or one cannot be used.

    See Also
    --------
    mireg.register : Two images.

    Examples
    --------
    A patient's scans in the space of the first::

        session = mireg.register_session(["t1.nii.gz", "t2.nii.gz", "bold.nii.gz"])
        session.transforms[2]  # bold_from_t1
        session.save("session", images=True)
    """
    settings, progress = settings_or_default(settings), checked_progress(progress)
    if isinstance(images, str) or not isinstance(images, Sequence):
        raise InputError(f"images is a {type(images).__name__}; give a list of images")
    n = len(images)
    if n < 2:
        raise InputError(f"a session needs two images or more, not {n}; give more")
    masks = [None] * n if masks is None else masks
    for what, given in (("names", names), ("masks", masks)):
        if given is not None and len(given) != n:
            raise InputError(
                f"there are {len(given)} {what} for {n} images; give one for each"
            )
    if names is not None and len(set(names)) < n:
        raise InputError(
            f"two images have one name, of {', '.join(names)}; name each differently"
        )
    if reference != "mean" and not 0 <= reference < n:
        raise InputError(
            f"the reference is {reference!r}; give mean, or a number from 0 to {n - 1}"
        )
    chosen = chosen_pairs(n, pairs)
    prepared = [
        one if isinstance(one, PreparedImage) else prepare(one, mask)
        for one, mask in zip(images, masks, strict=True)
    ]
    found: list[Registration] = []
    for k, (i, j) in enumerate(chosen):
        if progress is not None:
            progress(f"pair {k + 1} of {len(chosen)}", k / len(chosen))
        found.append(_registered(prepared[i], prepared[j], settings))
    edges = [
        _edge(i, j, one, prepared[i]) for (i, j), one in zip(chosen, found, strict=True)
    ]
    solution = solve(edges, n)
    told = tuple(names or names_of([path_of(one.image) for one in prepared]))
    results = tuple(
        SessionPair(
            i,
            j,
            one.transform,
            one.standard_error_mm,
            float(residual),
            bool(used),
            _reason(one, edge, float(residual), used=bool(used)),
            one.verdict.probability,
            one.verdict.same_anatomy,
            one.verdict.mirrored,
        )
        for (i, j), one, edge, residual, used in zip(
            chosen, found, edges, solution.residuals_mm, solution.used, strict=True
        )
    )
    strangers, notes = judged(told, results)
    for note in notes:
        warn(note, DoubtWarning)
    frame = (
        mean_frame(solution.poses) if reference == "mean" else solution.poses[reference]
    )
    return Session(
        images=tuple(one.image for one in prepared),
        names=told,
        reference=None if reference == "mean" else reference,
        transforms=tuple(pose @ ~frame for pose in solution.poses),
        errors_mm=solution.errors_mm,
        pairs=results,
        between_mm=solution.between_mm,
        strangers=strangers,
        warnings=notes,
    )


def chosen_pairs(n: int, pairs: PairChoice) -> list[tuple[int, int]]:
    """Choose which of `n` images are registered with which.

    Examples
    --------
    >>> chosen_pairs(4, "ring")
    [(0, 1), (0, 3), (1, 2), (2, 3)]
    >>> len(chosen_pairs(6, "all")), len(chosen_pairs(10, 4))
    (15, 20)
    """
    if pairs == "all":
        return list(itertools.combinations(range(n), 2))
    partners = 2 if pairs == "ring" else pairs
    if not isinstance(partners, int) or partners < 2:
        raise InputError(
            f"pairs is {pairs!r}; give all, ring, or with how many others each image "
            "is registered, 2 or more"
        )
    steps = range(1, partners // 2 + 1)
    ring = {tuple(sorted((i, (i + step) % n))) for i in range(n) for step in steps}
    return sorted((i, j) for i, j in ring if i != j)


def _registered(
    fixed: PreparedImage, moving: PreparedImage, settings: Settings | None
) -> Registration:
    """Register two images; that one pair is doubtful is told of the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MiregWarning)
        return register(fixed, moving, settings=settings)


def _edge(i: int, j: int, found: Registration, fixed: PreparedImage) -> Edge:
    """State a registration for the solution."""
    radius = fixed.foreground.rms_radius
    covariance = found.covariance
    if covariance is None:
        covariance = np.diag(np.repeat([1 / radius, 1.0], 3) * _UNKNOWN_MM) ** 2
    coarser = max(
        float(np.prod(image.voxel_size_mm)) ** (1 / 3)
        for image in (found.fixed, found.moving)
    )
    return Edge(
        i,
        j,
        found.transform,
        covariance,
        radius,
        parameters.GRAPH_LEAST_VOXELS * coarser,
        trusted=not found.doubtful,
    )


def _reason(found: Registration, edge: Edge, residual: float, *, used: bool) -> str:
    """Say why a pair took no part."""
    if used:
        return ""
    if found.doubtful:
        return "doubtful by itself"
    return (
        f"{residual:.1f} mm from what the others say, with a standard error of "
        f"{rms_mm(edge.covariance, edge.radius_mm):.2g} mm"
    )


def judged(
    names: Sequence[str], pairs: Sequence[SessionPair]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Find the images that do not belong; name them, those that may bend, wrong pairs.

    An image that is of another patient or mirrored fits all others badly, and they fit
    each other: what the verdicts on its pairs say is taken together.
    """
    strangers: dict[int, str] = {}
    of = [
        [pair for pair in pairs if image in (pair.fixed, pair.moving)]
        for image in range(len(names))
    ]
    # The worst first: of its pairs each is one of another image, too.
    for image in sorted(range(len(names)), key=lambda i: _fit(of[i])):
        mine = [
            pair for pair in of[image] if not {pair.fixed, pair.moving} & {*strangers}
        ]
        why = _stranger(mine)
        if len(mine) >= 2 and why:
            strangers[image] = f"{names[image]} does not fit the others: {why}"
    notes = [*strangers.values()]
    for image, name in enumerate(names):
        mine = [
            pair for pair in of[image] if not {pair.fixed, pair.moving} & {*strangers}
        ]
        rest = [
            pair
            for pair in pairs
            if pair.used and not {pair.fixed, pair.moving} & {image, *strangers}
        ]
        if image in strangers or len(rest) < 3 or not mine:
            continue
        middle, usual = (_median("residual_mm", some) for some in (mine, rest))
        noise = _median("standard_error_mm", mine)
        if middle > parameters.BENDING_RATIO * math.hypot(usual, noise):
            notes.append(
                f"{name} fits all others less well than they fit each other "
                f"({middle:.2g} mm against {usual:.2g}): it may be distorted, or of "
                "another patient"
            )
    for pair in pairs:
        if {pair.fixed, pair.moving} & {*strangers}:
            continue
        what = f"{names[pair.moving]} to {names[pair.fixed]}"
        if not pair.used:
            notes.append(f"{what} was left out: {pair.reason}")
        elif pair.doubtful:
            notes.append(
                f"{what} is doubtful, but used, as no other pair joins them: look "
                "whether it is right"
            )
    return tuple(strangers), tuple(notes)


def _fit(pairs: Sequence[SessionPair]) -> tuple[float, float]:
    """Order images by how well their pairs fit, the worst first."""
    wrong = sum(pair.doubtful or not pair.used for pair in pairs)
    return -wrong / len(pairs), _median("same_anatomy", pairs)


def _stranger(pairs: Sequence[SessionPair]) -> str:
    """Say why an image with these pairs does not belong; nothing if it does."""
    if not pairs:
        return ""
    if _median("mirrored", pairs) > parameters.MIRRORED_ABOVE:
        return "left and right are exchanged"
    wrong = sum(pair.doubtful or not pair.used for pair in pairs)
    if wrong > parameters.STRANGER_SHARE * len(pairs):
        return (
            f"{wrong} of its {len(pairs)} pairs are doubtful or lead elsewhere; is it "
            "of another patient, or mirrored?"
        )
    same = _median("same_anatomy", pairs)
    if same < parameters.STRANGER_SAME:
        return (
            f"{in_percent(same)} likely of the same anatomy, in the median of its "
            f"{len(pairs)} pairs; is it of another patient?"
        )
    return ""


def _median(name: str, pairs: Sequence[SessionPair]) -> float:
    """Take the median of a figure of some pairs."""
    return float(np.nanmedian([getattr(pair, name) for pair in pairs]))


def path_of(image: Image) -> str | None:
    """Give the file that an image was read from, if it was."""
    return None if image.source is None else image.source.path


def names_of(paths: Sequence[str | None]) -> list[str]:
    """Name images after their files, each by a name of its own.

    Examples
    --------
    >>> names_of(["a/t1.nii.gz", "b/t1.nii", "b/t2.nii", None])
    ['1_t1', '2_t1', 't2', 'image4']
    """
    stems = [
        Path(path).name.partition(".")[0] if path else f"image{k}"
        for k, path in enumerate(paths, 1)
    ]
    return [
        stem if stems.count(stem) == 1 else f"{k}_{stem}"
        for k, stem in enumerate(stems, 1)
    ]
