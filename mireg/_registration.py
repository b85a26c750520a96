# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What a registration found, and what can be done with it."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__
from . import _results as results
from ._contrast import Contrast
from ._files import formats
from ._files.records import json_number
from ._image import Image
from ._moved import Grid, Output, resampled
from ._resample import Interpolation
from ._settings import Settings
from ._transform import RigidTransform

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid transform between two images, and how it was found.

    Attributes
    ----------
    fixed, moving : Image
        The images that were registered; those given, or as they were read.
    transform : RigidTransform
        Maps points of the fixed image to points of the moving one, RAS+ mm, stated
        about the centre of the fixed image's foreground.
    metric : str
        The similarity that was maximised.
    score, score_before : float
        Similarity at the answer and at the headers' own pose; NaN where the two
        images do not overlap.
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
        What was odd about the inputs, and what was done about it; and whether a pose
        elsewhere explains nearly as much as the answer.
    rival : float
        How much the best pose elsewhere that was followed to the end explains, as a
        share of what the answer does; 0 without one. Near 1 the answer is one of
        several, and may be wrong.
    standard_error_mm : float
        How far off, root mean square over the compared points, noise in the images
        leaves the answer if it is near the right one; NaN where that cannot be told.
        What bends an image adds to it.
    doubtful : bool
        Whether the answer may be wrong, as its rival or its standard error tells; then
        a note among the warnings says why. No doubt is no proof.

    Examples
    --------
    In a notebook, the last line of a cell shows both images in three planes::

        found = mireg.register("t1.nii.gz", "bold.nii.gz")
        found.save("bold_to_t1")
        found
    """

    fixed: Image = field(repr=False)
    moving: Image = field(repr=False)
    transform: RigidTransform
    metric: str
    score: float
    score_before: float
    overlap_fraction: float
    mean_displacement_mm: float
    max_displacement_mm: float
    seconds: Mapping[str, float]
    settings: Settings
    fixed_contrast: Contrast
    moving_contrast: Contrast
    warnings: tuple[str, ...] = ()
    rival: float = 0.0
    standard_error_mm: float = math.nan
    doubtful: bool = False

    @property
    def moving_from_fixed(self) -> FloatArray:
        """The transform as a (4, 4) matrix, RAS+ mm to RAS+ mm."""
        return self.transform.matrix

    @property
    def noise_in_words(self) -> str:
        """What noise alone leaves unsure, for people."""
        if math.isnan(self.standard_error_mm):
            return "cannot be told"
        return f"leaves the answer unsure by {self.standard_error_mm:.2g} mm"

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
            Value outside the moving image (default: what `fill_value` chooses: 0,
            the air of a CT, or NaN).
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
        return moved

    def save(
        self,
        prefix: str | os.PathLike[str],
        *,
        transform_formats: Sequence[str] = ("itk",),
        output: Output | None = None,
        inverse: bool = False,
        force: bool = False,
    ) -> list[Path]:
        """Write the files that ``mireg register -o PREFIX`` writes.

        Parameters
        ----------
        prefix : str or path
            Start of the files' names: the moved image ``PREFIX.nii.gz``, the
            transform ``PREFIX.tfm`` and the record ``PREFIX.json``.
        transform_formats : sequence of str, optional
            Formats of the transform, of `mireg._files.transforms.NAMES`.
        output : Output, optional
            How the moved image is written: grid, interpolation, type.
        inverse : bool, optional
            Write ``PREFIX_inverse.nii.gz`` as well: the fixed image, brought onto the
            moving one in the same way.
        force : bool, optional
            Replace files that exist.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        InputError
            If a file exists or cannot be written; then none is.
        """
        files = results.Files.named(str(prefix), transform_formats, inverse=inverse)
        results.write(self, files, output=output, force=force)
        return files.paths

    def to_dict(self) -> dict[str, Any]:
        """Give the record: everything that was found, ready for JSON.

        Files that were read are named by path and SHA-256.
        """
        transform = self.transform
        return {
            "moving_from_fixed": self.moving_from_fixed.tolist(),
            "metric": self.metric,
            "score": json_number(self.score),
            "score_before": json_number(self.score_before),
            "overlap_fraction": json_number(self.overlap_fraction),
            "rotation_deg": transform.angle_deg,
            "rotation_vector_deg": np.rad2deg(transform.rotation_vector).tolist(),
            "translation_mm": transform.translation.tolist(),
            "centre_mm": transform.centre.tolist(),
            "rival": self.rival,
            "standard_error_mm": json_number(self.standard_error_mm),
            "doubtful": self.doubtful,
            "mean_displacement_mm": self.mean_displacement_mm,
            "max_displacement_mm": self.max_displacement_mm,
            "seconds": {
                "register": sum(self.seconds.values()),
                "register_stages": dict(self.seconds),
            },
            "fixed": _image_record(self.fixed, self.fixed_contrast),
            "moving": _image_record(self.moving, self.moving_contrast),
            "settings": asdict(self.settings),
            "mireg_version": __version__,
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        """Show both images in three planes and what was found, in a notebook."""
        # Slow to import, and only needed here.
        from ._picture import three_planes  # noqa: PLC0415

        picture = base64.b64encode(
            three_planes(
                self.fixed, self.moving, self.moving_from_fixed, self.transform.centre
            )
        ).decode()
        rows = {
            "rotation": f"{self.transform.angle_deg:.2f} degrees",
            "head moved": f"{self.mean_displacement_mm:.2f} mm on average, "
            f"{self.max_displacement_mm:.2f} mm at most",
            self.metric: f"{self.score:.4f}, by the headers {self.score_before:.4f}",
            "overlap": f"{100 * self.overlap_fraction:.0f} %",
            "noise": self.noise_in_words,
            **{f"note {i}": note for i, note in enumerate(self.warnings, 1)},
        }
        cells = "".join(
            f"<tr><th>{label}</th><td>{html.escape(text)}</td></tr>"
            for label, text in rows.items()
        )
        return (
            f'<figure><img src="data:image/png;base64,{picture}" alt="Edges of the '
            'moving image on the fixed one: sagittal, coronal, axial">'
            "<figcaption>Edges of the moving image (orange) on the fixed one; right "
            f"is right.</figcaption></figure><table>{cells}</table>"
        )


def _image_record(image: Image, contrast: Contrast) -> dict[str, Any]:
    """Identify an input, and tell how much contrast it has."""
    source = image.source
    path = None if source is None else source.path
    return {
        "path": path,
        "shape": [int(n) for n in (source.opened if source else image).shape],
        "voxel_size_mm": image.voxel_size_mm.tolist(),
        "volume": None if source is None else source.volume,
        "sha256": formats.sha256(path) if path and Path(path).is_file() else None,
        "contrast": contrast.figures(),
    }
