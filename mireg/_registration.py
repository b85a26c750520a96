# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What a registration found, and what can be done with it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import __version__
from . import _results as results
from ._contrast import Contrast, Histogram
from ._engine.residuals import LocalResiduals
from ._engine.verdict import Verdict, in_short
from ._errors import DoubtfulError, InputError, not_read
from ._files import formats
from ._files.faults import check_there, in_file
from ._files.records import SCHEMA, json_number, read_record
from ._image import Image
from ._moved import Grid, Output, resampled
from ._resample import Interpolation
from ._settings import Settings
from ._transform import RigidTransform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _StoredImage:
    """An image that a record names; it is read when it is first used.

    Attributes
    ----------
    role : str
        Which of the two it is: fixed or moving.
    record : mapping
        What the record says of it.
    folder : Path
        Where the record was.
    """

    role: str
    record: Mapping[str, Any]
    folder: Path

    @cached_property
    def image(self) -> Image:
        """The image, the same as when it was registered."""
        given, digest = self.record["path"], self.record["sha256"]
        if given is None or digest is None:
            raise InputError(
                f"the {self.role} image was not read from a file, so it cannot be "
                "read again; register files (mireg.write_image makes one), or go on "
                "with the images at hand: mireg.resample(moving, fixed, "
                "found.transform)"
            )
        # The whole folder may have moved, the record with the images.
        places = [Path(self.record["absolute_path"] or given), self.folder / given]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise InputError(
                f"{places[0]}: the {self.role} image is no longer there; put it back, "
                "or beside the record"
            )
        try:
            changed = formats.sha256(path) != digest
        except OSError as error:
            raise InputError(f"{path}: {not_read(error)}") from error
        if changed:
            raise InputError(
                f"{path}: the {self.role} image has changed since it was registered; "
                "put the old file back, or register anew"
            )
        # What was odd about it is among the warnings of the record.
        return formats.read_quietly(path, self.record["volume"])


class _ImageField:
    """A field that holds an image, or where one is stored."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.kept = f"_{name}"

    def __get__(self, found: Registration | None, owner: type) -> Image:
        if found is None:
            raise AttributeError(self.kept)  # so dataclasses see no default
        kept = found.__dict__[self.kept]
        return kept.image if isinstance(kept, _StoredImage) else kept

    def __set__(self, found: Registration, image: Image | _StoredImage) -> None:
        found.__dict__[self.kept] = image


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Registration:
    """A rigid transform between two images, and how it was found.

    Attributes
    ----------
    fixed, moving : Image
        The images that were registered; those given, or as they were read. Of a
        loaded record they are read when they are first used: `InputError` if one is
        missing or has changed.
    transform : RigidTransform
        Maps points of the fixed image to points of the moving one, RAS+ mm, stated
        about the centre of the fixed image's foreground.
    metric : str
        The similarity that was maximised.
    score, initial_score : float
        Similarity at the answer, and before registration, where the headers put the
        images; NaN where the two do not overlap.
    overlap_fraction : float
        Share of the compared points that lie inside both images. They are points of
        the smaller foreground or, where noise matters, of the larger, of which less
        may lie inside.
    mean_displacement_mm, max_displacement_mm : float
        How far the transform moves the foreground of the fixed image.
    seconds : mapping
        Wall time by stage.
    settings : Settings
        The settings used.
    fixed_contrast, moving_contrast : Contrast
        How much contrast each image has.
    warnings : tuple of str
        What was odd about the inputs, and what was done about it; and why the answer
        is doubtful, if it is.
    runner_up : float
        How much the best pose elsewhere explains, as a share of the answer; 0 without
        one. Near 1 the answer is one of several, and may be wrong.
    standard_error_mm : float
        Error expected from noise in the images, root mean square over the compared
        points, if the answer is near the right one; NaN if unknown. Distortion of an
        image adds to it.
    covariance : (6, 6) ndarray or None
        Covariance of the answer from noise, or None if unknown. The six numbers are
        ``(dw_x, dw_y, dw_z, dt_x, dt_y, dt_z)``: a small motion in the space of the
        moving image, RAS+, after the transform T. With ``c = transform.centre``, a
        point x of the fixed image lies at ``R(dw) (T(x) - T(c)) + T(c) + dt``, where
        R(dw) rotates about dw by its length in radians, and dt is in mm.
    converged : bool
        Whether the optimiser came to rest at the answer.
    verdict : Verdict
        How likely the answer is right, how far off it is expected to be, and why; made
        by weighing what was measured. No doubt is no proof.
    residuals : LocalResiduals or None
        Where the anatomy fits, and how far off it is elsewhere: blocks of it, each
        shifted by itself, with the size and the standard error of each shift. None
        where it was not measured.
    mireg_version : str
        Version of mireg that found the transform.

    Raises
    ------
    InputError
        If `covariance` is not a finite, symmetric matrix of shape (6, 6).

    See Also
    --------
    mireg.register : Make one from two images.

    Examples
    --------
    In a notebook, the last line of a cell shows both images, to be looked at::

        found = mireg.register("t1.nii.gz", "bold.nii.gz")
        found.save("bold_to_t1")
        found

    and another day::

        found = mireg.Registration.load("bold_to_t1.json")
        found.resample(interpolation="lanczos")
    """

    fixed: _ImageField = _ImageField()
    moving: _ImageField = _ImageField()
    transform: RigidTransform
    metric: str
    score: float
    initial_score: float
    overlap_fraction: float
    mean_displacement_mm: float
    max_displacement_mm: float
    seconds: Mapping[str, float]
    settings: Settings
    fixed_contrast: Contrast
    moving_contrast: Contrast
    verdict: Verdict
    warnings: tuple[str, ...] = ()
    runner_up: float = 0.0
    standard_error_mm: float = math.nan
    covariance: FloatArray | None = None
    converged: bool = True
    residuals: LocalResiduals | None = None
    mireg_version: str = __version__

    def __post_init__(self) -> None:
        """Check the covariance."""
        if self.covariance is not None:
            object.__setattr__(self, "covariance", _checked_covariance(self.covariance))

    def __repr__(self) -> str:
        """Say in one line what was found."""
        names = [
            Path(path).name if path else f"the {role} image"
            for role, path in (
                ("fixed", self._path("fixed")),
                ("moving", self._path("moving")),
            )
        ]
        doubt = self.verdict.summary
        return (
            f"<Registration from {names[0]} to {names[1]}: rotation "
            f"{self.transform.angle_deg:.2f} degrees, moved "
            f"{self.mean_displacement_mm:.2f} mm on average, {self.metric} "
            f"{self.score_summary}, {doubt}>"
        )

    @property
    def moving_from_fixed(self) -> FloatArray:
        """The transform as a (4, 4) matrix, RAS+ mm to RAS+ mm."""
        return self.transform.matrix

    @property
    def doubtful(self) -> bool:
        """Whether the answer is doubtful: less than 75 % likely right."""
        return self.verdict.doubtful

    def raise_if_doubtful(self) -> None:
        """Refuse to go on with an answer that is doubtful.

        Raises
        ------
        DoubtfulError
            If `doubtful`; the message says why.
        """
        if self.doubtful:
            raise DoubtfulError(self.verdict.warning)

    @property
    def score_summary(self) -> str:
        """The score and the one before registration, for people."""
        before = "no overlap"
        if math.isfinite(self.initial_score):
            before = f"{self.initial_score:.4f}"
        return f"{self.score:.4f} (before: {before})"

    @property
    def noise_summary(self) -> str:
        """How large an error noise alone may cause, for people."""
        error = self.standard_error_mm
        known = "unknown" if math.isnan(error) else f"{in_short(error)} mm"
        return f"error expected from noise: {known}"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Registration:
        """Read the record that `save` or ``mireg register`` wrote.

        The two images are read when they are first used, from where they were; what
        needs none of them works without. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The record, ``PREFIX.json``.

        Returns
        -------
        Registration

        Raises
        ------
        InputError
            If there is no such file, or it is not such a record, or one of another
            schema than this version of mireg writes.
        """
        with in_file(path):
            check_there(Path(path))
        record = read_record(path)
        with in_file(path):
            return cls(
                fixed=_StoredImage("fixed", record["fixed"], Path(path).parent),
                moving=_StoredImage("moving", record["moving"], Path(path).parent),
                transform=_transform(record),
                metric=record["metric"],
                **{name: _float(record[name]) for name in _NUMBERS},
                seconds=record["seconds"]["register_stages"],
                settings=Settings(**record["settings"]),
                fixed_contrast=_contrast(record["fixed"]["contrast"]),
                moving_contrast=_contrast(record["moving"]["contrast"]),
                warnings=tuple(record["warnings"]),
                covariance=record["covariance"],
                converged=record["converged"],
                verdict=Verdict.from_dict(record["verdict"]),
                residuals=_residuals(record["residuals"]),
                mireg_version=record["mireg_version"],
            )

    def resample(
        self,
        *,
        grid: Grid = "fixed",
        interpolation: Interpolation = "linear",
        fill: float | None = None,
        antialias: bool = True,
        threads: int | None = None,
    ) -> Image:
        """Bring the moving image onto the grid of the fixed one.

        Parameters
        ----------
        grid : {"fixed", "moving"} or float, optional
            Voxels of the fixed image; or, over its field of view, voxels of the size
            of the moving ones, or cubes of so many mm; see `mireg.Output`.
        interpolation, antialias : optional
            How to read between voxels; see `mireg.resample`.
        fill : float, optional
            Value outside the moving image; see `mireg.Output`.
        threads : int, optional
            Threads to use (default: those of the settings). The answer is the same.
        """
        output = Output(grid, interpolation, fill, antialias)
        (moved,) = resampled(
            [self.moving],
            self.fixed,
            self.moving_from_fixed,
            output,
            threads or self.settings.threads,
        )
        return moved.whole()

    def save(
        self,
        prefix: str | os.PathLike[str],
        *,
        transform_formats: Sequence[str] = ("itk",),
        output: Output | None = None,
        image: bool = True,
        inverse: bool = False,
        report: bool = False,
        residuals: bool = False,
        force: bool = False,
    ) -> list[Path]:
        """Write the files that ``mireg register -o PREFIX`` writes.

        The record names files and holds no voxels: with images that were no files, as
        arrays are, `load` reads it, but cannot `resample`, `show` or `report` again.
        Save them by `mireg.write_image` first, and register the files, for that.

        Parameters
        ----------
        prefix : str or path
            Start of the files' names: the moved image ``PREFIX.nii.gz``, the
            transform ``PREFIX.tfm`` and the record ``PREFIX.json``. One that ends as
            a file does, such as ``x.nii``, is the very name of that file.
        transform_formats : sequence of str, optional
            Formats of the transform, of those that `mireg.read_transform` lists.
        output : Output, optional
            How the moved image is written: grid, interpolation, type.
        image : bool, optional
            Write the moved image (default), not the transform and the record alone.
        inverse : bool, optional
            Write ``PREFIX_inverse.nii.gz`` as well: the fixed image, brought onto the
            moving one in the same way.
        report : bool, optional
            Write ``PREFIX.html`` as well: a page to look at, see `report`.
        residuals : bool, optional
            Write ``PREFIX_residuals.nii.gz`` as well: how far off each part of the
            fixed image is, in mm; NaN where that cannot be told. Its voxels are half
            as large as the blocks that were compared.
        force : bool, optional
            Replace files that exist.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        InputError
            If a file exists or cannot be written; then none is. If residuals are
            wanted and were not measured.
        """
        if residuals and self.residuals is None:
            raise InputError(
                "the record has no residuals; register anew, which measures them"
            )
        files = results.Files.named(
            str(prefix),
            transform_formats,
            image=image,
            inverse=inverse,
            report=report,
            residuals=residuals,
        )
        results.write(
            self.to_dict(),
            files,
            fixed=self.fixed,
            moving=self.moving,
            transform=self.transform,
            output=output,
            threads=self.settings.threads,
            force=force,
            residuals=self.residuals,
        )
        return files.paths

    def show(self, *, slices: int = 7) -> Figure:
        """Draw both images as a mosaic of slices, before and after; see `mireg.show`.

        Parameters
        ----------
        slices : int, optional
            How many slices in each of the three planes.

        Returns
        -------
        matplotlib.figure.Figure
            ``figure.savefig("found.png")`` writes it.

        Raises
        ------
        InputError
            If matplotlib is not installed.
        """
        # Slow to import, and only needed here.
        from ._report.mosaic import show  # noqa: PLC0415

        return show(self.fixed, self.moving, self.transform, slices=slices)

    def report(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a page to look at the answer in a browser, as one file.

        It shows both images in three linked planes, one on the other, before and after,
        and what was found. It needs no network, and nothing in it is loaded or run but
        its own script. The images travel in it as grey levels, on a coarser grid where
        they are fine: it identifies the patient as a picture of the face does.

        Parameters
        ----------
        path : str or path
            The file, ``.html``; 3 MB at most.
        force : bool, optional
            Replace a file that exists.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        InputError
            If the file exists or cannot be written.
        """
        # Slow to import, and only needed here.
        from ._report.page import write_page  # noqa: PLC0415

        write_page(
            path,
            self.fixed,
            self.moving,
            self.transform,
            self.to_dict(),
            threads=self.settings.threads,
            force=force,
        )
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        """Give the record: everything that was found, ready for JSON.

        Files that were read are named by path and SHA-256. The JSON Schema
        ``mireg/_files/registration.schema.json`` says what each field is.
        """
        transform, covariance = self.transform, self.covariance
        return {
            "schema": SCHEMA,
            "moving_from_fixed": self.moving_from_fixed.tolist(),
            "rotation_vector_rad": transform.rotation_vector.tolist(),
            "translation_mm": transform.translation.tolist(),
            "centre_mm": transform.centre.tolist(),
            "rotation_deg": transform.angle_deg,
            "metric": self.metric,
            **{name: json_number(getattr(self, name)) for name in _NUMBERS},
            "covariance": None if covariance is None else covariance.tolist(),
            "converged": self.converged,
            "doubtful": self.doubtful,
            "verdict": self.verdict.to_dict(),
            "residuals": None if self.residuals is None else self.residuals.to_dict(),
            "seconds": {
                "register": sum(self.seconds.values()),
                "register_stages": dict(self.seconds),
            },
            "fixed": self._image_record("fixed", self.fixed_contrast),
            "moving": self._image_record("moving", self.moving_contrast),
            "settings": asdict(self.settings),
            "mireg_version": self.mireg_version,
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        """Show a still picture, what was found, and the viewer, in a notebook."""
        # Slow to import, and only needed here.
        from ._report.page import notebook_view  # noqa: PLC0415

        return notebook_view(
            self.fixed,
            self.moving,
            self.transform,
            self.to_dict(),
            threads=self.settings.threads,
        )

    def _path(self, role: str) -> str | None:
        """Path of one of the images, if it is a file, without reading it."""
        kept = self.__dict__[f"_{role}"]
        if isinstance(kept, _StoredImage):
            return kept.record["path"]
        return None if kept.source is None else kept.source.path

    def _image_record(self, role: str, contrast: Contrast) -> dict[str, Any]:
        """Identify one of the images, and tell how much contrast it has."""
        kept = self.__dict__[f"_{role}"]
        if isinstance(kept, _StoredImage):
            return dict(kept.record)
        path, source = self._path(role), kept.source
        file = Path(path) if path and Path(path).is_file() else None
        return {
            "path": path,
            "absolute_path": str(file.absolute()) if file else None,
            "shape": [int(n) for n in (source.opened if source else kept).shape],
            "voxel_size_mm": kept.voxel_size_mm.tolist(),
            "volume": None if source is None else source.volume,
            "sha256": formats.sha256(file) if file else None,
            "contrast": {
                **contrast.figures(),
                "foreground_histogram": contrast.foreground.p.tolist(),
                "whole_histogram": contrast.whole.p.tolist(),
            },
        }


#: Numbers that a record holds under their own names; NaN is null there.
_NUMBERS = (
    "score",
    "initial_score",
    "overlap_fraction",
    "runner_up",
    "standard_error_mm",
    "mean_displacement_mm",
    "max_displacement_mm",
)


def _float(number: float | None) -> float:
    """Take a number from JSON, which has no NaN."""
    return math.nan if number is None else float(number)


def _checked_covariance(given: npt.ArrayLike) -> FloatArray:
    """Return a covariance as float64 (6, 6), or say what is wrong."""
    covariance = np.array(given, dtype=np.float64)
    if covariance.shape != (6, 6) or not np.isfinite(covariance).all():
        raise InputError("a covariance must be a finite matrix of shape (6, 6)")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=0):
        raise InputError("a covariance must be symmetric")
    return covariance


def _transform(record: Mapping[str, Any]) -> RigidTransform:
    """Take the transform from a record, to the last bit."""
    names = ("rotation_vector_rad", "translation_mm", "centre_mm")
    transform = RigidTransform(*(record[name] for name in names))
    if not np.allclose(
        transform.matrix, record["moving_from_fixed"], rtol=0, atol=1e-6
    ):
        raise InputError(
            f"moving_from_fixed is another transform than {', '.join(names)} give; "
            "the record was changed: register anew"
        )
    matrix = record["moving_from_fixed"]
    return RigidTransform.from_matrix(matrix, record["centre_mm"])


def _residuals(figures: Mapping[str, Any] | None) -> LocalResiduals | None:
    """Take the local residuals from a record."""
    return None if figures is None else LocalResiduals.from_dict(figures)


def _contrast(figures: Mapping[str, Any]) -> Contrast:
    """Take the contrast of an image from a record."""
    return Contrast(
        score=float(figures["score_bits"]),
        structure=float(figures["structure"]),
        whole=Histogram(np.array(figures["whole_histogram"], dtype=np.float64)),
        foreground=Histogram(
            np.array(figures["foreground_histogram"], dtype=np.float64)
        ),
        foreground_fraction=float(figures["foreground_fraction"]),
        limits=(float(figures["low"]), float(figures["high"])),
    )
