"""The moved image as it is written: on which grid, how read, how stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ._errors import InputError, warn
from ._files import faults, formats, nifti
from ._image import Image, Slabs
from ._overlap import HARDLY, overlap_fraction
from ._resample import (
    EXACT,
    INTERPOLATIONS,
    Interpolation,
    fill_value,
    regrid,
    resampled_slabs,
    voxel_size_along,
)
from ._transform import Transform, TransformLike, as_transform

#: "fixed", "moving", or the length of isotropic voxels in mm.
Grid = Literal["fixed", "moving"] | float


@dataclass(frozen=True)
class Output:
    """How an image that is brought into line with a fixed one is written.

    Parameters
    ----------
    grid : {"fixed", "moving"} or float, optional
        The voxels of the fixed image; or, over its field of view and along its axes,
        voxels as large as those of the moving image, or cubes with edges of so many
        mm.
    interpolation, fill, antialias : optional
        See `mireg.resample`. By default `fill` is 0, or the air of a CT, or NaN where
        the moving image has voxels that are.
    dtype : str, optional
        Type of the voxels, such as "float32" (default: that of the moving image).
    header_only : bool, optional
        Keep the voxels of the moving image, and say in the header where they are:
        nothing is interpolated. No other option goes with it.
    all_volumes : bool, optional
        Write every volume of a 4-D image instead of the one that was registered.

    Raises
    ------
    InputError
        If options contradict each other, or there is no such choice.

    Examples
    --------
    A BOLD series in the space of the T1, with its own voxel size:

    >>> Output(grid="moving", all_volumes=True, interpolation="lanczos").grid
    'moving'
    """

    grid: Grid = "fixed"
    interpolation: Interpolation = "linear"
    fill: float | None = None
    antialias: bool = True
    dtype: str | None = None
    header_only: bool = False
    all_volumes: bool = False

    def __post_init__(self) -> None:
        """Check the choices before any work is done."""
        if isinstance(self.grid, str) and self.grid not in ("fixed", "moving"):
            raise InputError(
                f"the grid is {self.grid!r}; give fixed, moving, or a voxel size in mm"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation is {self.interpolation!r}; "
                f"choose one of {', '.join(INTERPOLATIONS)}"
            )
        if self.header_only:
            for option in fields(self):
                given = getattr(self, option.name) != option.default
                if given and option.name not in ("header_only", "all_volumes"):
                    raise InputError(
                        f"header_only interpolates nothing; leave out {option.name}"
                    )

    def _on_grid(
        self, moving: Image, fixed: Image, moving_from_fixed: Transform
    ) -> Image:
        """Give the grid to write on; its intensities mean nothing."""
        if self.grid == "fixed":
            return fixed
        if self.grid == "moving":
            return regrid(fixed, voxel_size_along(moving, fixed, moving_from_fixed))
        return regrid(fixed, self.grid)

    def _check(self, opened: Any) -> None:
        """Refuse, before the work, what the moving image cannot be written as."""
        if not self.header_only:
            self._stored(opened)

    def _stored(self, opened: Any) -> nifti.Storage:
        """Choose type and scaling; refuse what does not fit, before the work."""
        labels = self.interpolation in EXACT
        stored = nifti.storage(opened, self.dtype, labels=labels)
        if self.fill is not None:
            stored.check_fill(self.fill, str(opened.get_filename() or "the image"))
        return stored


def resampled(
    volumes: Iterable[Image],
    fixed: Image,
    moving_from_fixed: TransformLike,
    output: Output,
    threads: int | None = None,
) -> Iterator[Slabs]:
    """Bring volumes of one image, one by one, onto one grid with one fill value."""
    transform = as_transform(moving_from_fixed, fixed=fixed)
    grid, fill = None, output.fill
    for volume in volumes:
        grid = grid or output._on_grid(volume, fixed, transform)
        fill = fill_value(volume) if fill is None else fill
        yield resampled_slabs(
            volume,
            grid,
            transform,
            interpolation=output.interpolation,
            fill=fill,
            antialias=output.antialias,
            threads=threads,
        )


def writer(
    opened: Any,
    fixed: Image,
    moving_from_fixed: TransformLike,
    output: Output,
    *,
    volume: Image | None = None,
    space: int = 2,
    threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Callable[[BinaryIO, Path], None]:
    """Do the work that can be done before the file is open, and return the rest.

    Parameters
    ----------
    opened : nibabel image
        The moving image.
    fixed : Image
        What it is brought into line with.
    moving_from_fixed : RigidTransform, AffineTransform or (4, 4) array_like
        Maps points of `fixed` to points of the moving image, RAS+ mm.
    output : Output
        How.
    volume : Image, optional
        The volume to write, where not all are.
    space : int, optional
        NIfTI code of the space of `fixed`.
    threads : int, optional
        Threads to use.
    progress : callable, optional
        Called with what is done now, and the share that is done.

    Returns
    -------
    callable
        Writes into an open file of a given name.
    """
    if output.header_only:
        affine = (~as_transform(moving_from_fixed)).matrix @ opened.affine
        return lambda file, path: nifti.dump_in_place(
            file, path, opened, affine, space=space, threads=threads
        )
    _check_overlap(opened, fixed, as_transform(moving_from_fixed, fixed=fixed))
    stored = output._stored(opened)
    count = formats.n_volumes(opened)
    what: Image | Slabs | Iterator[Slabs]
    if volume is not None and (count == 1 or not output.all_volumes):
        (slabs,) = resampled([volume], fixed, moving_from_fixed, output, threads)
        small = slabs.step >= slabs.grid.shape[2]
        what = slabs.whole() if small else slabs
    else:
        what = resampled(
            _volumes(opened, output, progress),
            fixed,
            moving_from_fixed,
            output,
            threads,
        )
    return lambda file, path: nifti.dump_image(
        file,
        path,
        what,
        template=opened,
        stored=stored,
        space=space,
        threads=threads,
    )


def _check_overlap(opened: Any, fixed: Image, moving_from_fixed: Transform) -> None:
    """Refuse to write an image of which nothing would be seen; say if it is little."""
    name = faults.name_of(opened)
    moving = formats.grid_of(opened)
    moved = Image(moving.data, (~moving_from_fixed).matrix @ moving.mm_from_ijk)
    share = overlap_fraction(fixed, moved)
    if share >= HARDLY:
        return
    apart = float(np.linalg.norm(fixed.centre_mm - moved.centre_mm))
    where = f"the transform brings its centre {apart:.3g} mm from that of the grid"
    ask = "is it a transform of these two images, in this direction?"
    if share == 0:
        raise InputError(f"{name}: {where}, and nothing of it would be seen; {ask}")
    warn(f"{name}: {where}, and the two overlap by {100 * share:.1g} % only; {ask}")


def _volumes(
    opened: Any, output: Output, progress: Callable[[str, float], None] | None
) -> Iterator[Image]:
    """Read all volumes, one by one."""
    count = formats.n_volumes(opened)
    exact = output.interpolation in EXACT
    for t, volume in enumerate(formats.read_volumes(opened, exact=exact)):
        if progress is not None:
            progress(f"volume {t + 1} of {count}", t / count)
        yield volume
