# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg report``: a page to look at two scans in, with anybody's transform."""

from __future__ import annotations

from pathlib import Path

import click

from .._errors import InputError
from .command import Command
from .common import check_outputs, folder_of, notes_told, stem, tell


@click.command(cls=Command, short_help="Write a page to look at two scans in.")
@click.argument("fixed", type=click.Path())
@click.argument("moving", type=click.Path())
@click.option(
    "-t",
    "--transform",
    type=click.Path(),
    metavar="FILE",
    help="From FIXED to MOVING, of any program [as the headers say].",
)
@click.option(
    "-o",
    "--output",
    default=".",
    metavar="OUT",
    help="The page, .html; in a folder, <moving>_to_<fixed>.html [.].",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads to use [all processors]; the result is the same.",
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notes and errors.")
def report(
    *,
    fixed: str,
    moving: str,
    transform: str | None,
    output: str,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write one HTML file that shows MOVING on FIXED from every side.

    It opens in a browser by a double click and needs no network. Nothing is
    registered: the images lie as FILE, or their headers, say.

    \b
    Example:
      mireg report t1.nii.gz bold.nii.gz -t flirt.mat -o flirt.html
    """
    out, folder = Path(output), folder_of(output)
    if folder is not None:
        out = folder / f"{stem(Path(moving))}_to_{stem(Path(fixed))}.html"
    elif out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: the name of a page must end in .html")
    inputs = [Path(path) for path in (fixed, moving, transform) if path]
    check_outputs([out], inputs, force=force)
    import numpy as np

    from .._files import formats
    from .._report.page import write_page
    from .._transform import as_transform

    with notes_told():
        images = formats.read_image(fixed), formats.read_image(moving)
        pose = as_transform(np.eye(4))
        if transform is not None:
            pose = as_transform(transform, fixed=images[0], moving=images[1])
        write_page(out, *images, pose, threads=threads, force=force)
    tell(f"wrote {out}", quiet=quiet)
