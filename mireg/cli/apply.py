# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg apply``: an image moved with transforms found before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable
from .chain import composed, composed_series
from .common import (
    OutputCommand,
    check_outputs,
    folder_of,
    notes_told,
    output_options,
    progress_bar,
    read_output,
    say,
    stem,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._moved import Output

    FloatArray = npt.NDArray[np.float64]


class _Chain(OutputCommand):
    """A command whose ``--transform`` takes every file up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say ``-t`` before each file of a chain, as click wants it."""
        spelt_out: list[str] = []
        within = False
        for arg in args:
            if arg.startswith("-"):
                within = arg in ("-t", "--transform")
            elif within and spelt_out[-1] not in ("-t", "--transform"):
                spelt_out.append("-t")
            spelt_out.append(arg)
        try:
            return super().parse_args(ctx, spelt_out)
        except click.MissingParameter as error:
            if len(spelt_out) == len(args) or error.param is not self.params[0]:
                raise
            raise click.UsageError(
                "MOVING is missing: -t takes all files up to the next option; give "
                "MOVING before it",
                ctx,
            ) from error


@click.command(cls=_Chain, short_help="Move an image with transforms found before.")
@click.argument("moving", type=click.Path())
@click.option(
    "--like",
    type=click.Path(),
    metavar="FIXED",
    help="Bring MOVING into line with this image; not needed with --header-only.",
)
@click.option(
    "-t",
    "--transform",
    "transforms",
    type=click.Path(),
    multiple=True,
    required=True,
    metavar="T [T ...]",
    help="Transform files, in the order in which the image travels.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help=".nii or .nii.gz; in a folder, <moving>_to_<fixed>.nii.gz.",
)
@click.option(
    "--inverse",
    is_flag=True,
    help="Go the other way: MOVING is what the transforms take FIXED onto.",
)
@output_options
def apply(
    *,
    moving: str,
    like: str | None,
    transforms: Sequence[str],
    output: str,
    inverse: bool,
    threads: int | None,
    force: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Bring MOVING onto the grid of FIXED with transforms found before.

    A chain is composed first: the image is interpolated once. Every volume of a
    4-D image is moved. Type and scaling of the voxels are kept. Of the files, some may
    hold a transform for each volume, as mireg series writes them. FLIRT's .mat are read
    as of MOVING (-in) and FIXED (-ref); several in a row need no image between.

    \b
    Example, BOLD to T1 to template:
      mireg apply bold.nii.gz --like template.nii.gz \\
        --transform bold_to_t1.tfm t1_to_template.tfm -o out.nii.gz
    and labels of the template back to BOLD:
      mireg apply labels.nii.gz --like bold.nii.gz --inverse \\
        --transform bold_to_t1.tfm t1_to_template.tfm -o out.nii.gz \\
        --interpolation label
    """
    how = read_output(options, all_volumes=True)
    folder, out = folder_of(output), Path(output)
    if folder is not None:
        end = "moved" if like is None else f"to_{stem(Path(like))}"
        out = folder / f"{stem(Path(moving))}_{end}.nii.gz"
    check_outputs([out], [Path(path) for path in (moving, like) if path], force=force)
    from .._files import formats, nifti
    from .._files.writing import new_file
    from .._moved import writer

    nifti.check_suffix(out)
    if like is None and not how.header_only:
        raise InputError(
            "there is no --like FIXED; give the image whose space and grid MOVING takes"
        )
    first, last = (like, moving) if inverse else (moving, like)
    from .._files.transforms.series import holds_series, inverses

    if any(map(holds_series, transforms)):
        if how.header_only:
            raise InputError(
                "--header-only is for one transform, not for a series; leave it out"
            )
        matrices = composed_series(transforms, first, last)
        if inverse:
            matrices = inverses(matrices)
        _apply_series(moving, str(like), matrices, out, how, threads, force, quiet)
        return
    moving_from_fixed, _ = composed(transforms, first, last)
    if inverse:
        moving_from_fixed = ~moving_from_fixed
    with notes_told(), progress_bar(quiet=quiet) as progress:
        moving_file = formats.open_nibabel(moving)
        fixed_file = moving_file if like is None else formats.open_nibabel(like)
        grids = [formats.grid_of(opened) for opened in (moving_file, fixed_file)]
        for grid in grids:
            formats.warn_of(grid)
        write = writer(
            moving_file,
            grids[1],
            moving_from_fixed,
            how,
            space=2 if like is None else nifti.space_code(fixed_file),
            threads=threads,
            progress=progress,
        )
        with new_file(out, force=force) as file:
            write(file, out)
    if not quiet:
        say(f"wrote {printable(str(out))}")


def _apply_series(
    moving: str,
    like: str,
    matrices: FloatArray,
    out: Path,
    how: Output,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Move each volume of a series by a transform of its own."""
    from .._files import formats, nifti
    from .._files.series.reader import Series
    from .._files.writing import new_file
    from .._series_results import dump_moved

    with notes_told(), progress_bar(quiet=quiet) as progress:
        series, fixed_file = Series(moving), formats.open_nibabel(like)
        fixed = formats.grid_of(fixed_file)
        formats.warn_of(fixed)
        with new_file(out, force=force) as file:
            dump_moved(
                file,
                out,
                series,
                matrices,
                fixed,
                how,
                space=nifti.space_code(fixed_file),
                threads=threads,
                progress=progress,
            )
    if not quiet:
        say(f"wrote {out}")
