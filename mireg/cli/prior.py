# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg prior``: what aligned pairs of two contrasts look like, for later pairs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._errors import InputError, not_read, printable
from .command import Group
from .common import check_outputs, notes_told, progress_bar, say

if TYPE_CHECKING:
    from .._image import Image
    from .._transform import Transform

_COLUMNS = ("fixed", "moving", "transform")


@click.group(cls=Group, short_help="Learn what aligned pairs look like.")
def prior() -> None:
    """Learn from aligned pairs of two contrasts, to register more of their kind."""


@prior.command(short_help="Learn a prior from aligned pairs.")
@click.argument("pairs", type=click.Path(), metavar="PAIRS.csv")
@click.option(
    "-o", "--output", required=True, metavar="NAME", help="File to write: .json or .npz"
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads to use [all processors]; the result is the same.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notes and errors.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def learn(
    *, pairs: str, output: str, threads: int | None, quiet: bool, force: bool
) -> None:
    """Learn how the intensities of two contrasts go together, from aligned pairs.

    PAIRS.csv has the columns fixed, moving and transform: file names, from the
    folder of the table. All fixed images are of one contrast, all moving ones of
    another. An empty transform says that the headers are right.

    \b
    Example:
      mireg prior learn pairs.csv -o t1_epi.json
      mireg register t1.nii.gz slab.nii.gz --prior t1_epi.json
    """
    from .._prior import check_suffix, learn_prior

    out, table = check_suffix(output), Path(pairs)
    check_outputs([out], [table], force=force)
    rows = _rows(table)
    with notes_told(), progress_bar(quiet=quiet) as progress:

        def aligned() -> Iterator[tuple[Image, Image, Transform]]:
            for done, row in enumerate(rows):
                progress(f"pair {done + 1} of {len(rows)}", done / len(rows))
                yield _pair(*row)

        learned = learn_prior(aligned(), threads=threads)
        learned.write(out, force=force)
    if not quiet:
        say(f"learned from {learned.pairs} pairs: {printable(str(out))}")


def _rows(table: Path) -> list[tuple[Path, Path, Path | None]]:
    """Read which files to learn from."""
    from .._files.faults import check_there, in_file

    with in_file(table):
        check_there(table)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = reader.fieldnames or ()
            found = list(reader)
    except OSError as error:
        raise InputError(f"{table}: {not_read(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table}: not a table ({error}); save it as CSV in UTF-8"
        ) from error
    if not {"fixed", "moving"} <= set(columns) <= set(_COLUMNS):
        raise InputError(
            f"{table}: its columns are {', '.join(columns) or 'none'}; call them "
            "fixed, moving and, where the headers are not right, transform"
        )
    rows = []
    for number, row in enumerate(found, 2):
        if None in row or not row["fixed"] or not row["moving"]:
            raise InputError(
                f"{table}, line {number}: does not name a fixed and a moving image; "
                "fill the cells in, and put those that hold a comma into quotes"
            )
        transform = row.get("transform")
        rows.append(
            (
                table.parent / row["fixed"],
                table.parent / row["moving"],
                table.parent / transform if transform else None,
            )
        )
    if not rows:
        raise InputError(f"{table}: holds no pairs; give a line for each")
    return rows


def _pair(
    fixed: Path, moving: Path, transform: Path | None
) -> tuple[Image, Image, Transform]:
    """Read two images and the transform between them."""
    from .._files.formats import read_image
    from .._transform import RigidTransform, as_transform

    images = read_image(fixed), read_image(moving)
    if transform is None:
        return *images, RigidTransform.identity()
    return *images, as_transform(transform, fixed=images[0], moving=images[1])
