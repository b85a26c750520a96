# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg apply``: an image moved with transforms found before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import click

from .common import check_outputs, notes_told, progress_bar, resampling_options


class _Chain(click.Command):
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
        return super().parse_args(ctx, spelt_out)


@click.command(cls=_Chain, short_help="Move an image with transforms found before.")
@click.argument("moving")
@click.option("--like", required=True, metavar="FIXED", help="Take this grid.")
@click.option(
    "-t",
    "--transform",
    "transforms",
    multiple=True,
    required=True,
    metavar="T [T ...]",
    help="Transform files, in the order in which the image travels.",
)
@click.option("-o", "--output", required=True, metavar="OUT", help=".nii or .nii.gz")
@resampling_options
def apply(
    *,
    moving: str,
    like: str,
    transforms: Sequence[str],
    output: str,
    interpolation: Any,
    fill: float | None,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Bring MOVING onto the grid of FIXED with transforms found before.

    A chain is composed first: the image is interpolated once. Every volume of a
    4-D image is moved. Type and scaling of the voxels are kept.

    \b
    Example, BOLD to T1 to template:
      mireg apply bold.nii.gz --like template.nii.gz \\
        --transform bold_to_t1.tfm t1_to_template.tfm -o out.nii.gz
    """
    out = Path(output)
    check_outputs([out], [Path(moving), Path(like)], force=force)
    import numpy as np

    from .. import formats
    from ..resample import fill_value, resample
    from ..transform_files import read_transform

    formats.check_suffix(out)
    # moving_from_fixed = moving_from_middle @ middle_from_fixed: as they are given.
    # Of the images in between nothing is known here; FSL's and AFNI's files need them.
    last = len(transforms) - 1
    moving_from_fixed = reduce(
        np.matmul,
        (
            read_transform(
                path,
                moving=moving if i == 0 else None,
                fixed=like if i == last else None,
            )
            for i, path in enumerate(transforms)
        ),
    )
    with notes_told(quiet=quiet), progress_bar(quiet=quiet) as progress:
        moving_file = formats.open_nibabel(moving)
        grid = formats.read_grid(like)
        count = formats.n_volumes(moving_file)
        if fill is not None:
            formats.check_fill(fill, moving_file)

        def moved() -> Iterator[Any]:
            exact = interpolation == "nearest"
            value = fill
            for t, volume in enumerate(formats.read_volumes(moving_file, exact=exact)):
                progress(f"volume {t + 1} of {count}", t / count)
                value = fill_value(volume) if value is None else value
                yield resample(
                    volume,
                    grid,
                    moving_from_fixed,
                    interpolation=interpolation,
                    fill=value,
                    threads=threads,
                )

        formats.write_image(out, moved(), template=moving_file, force=force)
    if not quiet:
        click.echo(f"wrote {out}", err=True)
