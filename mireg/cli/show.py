# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg show``: a picture of two scans, each with the contours of the other."""

from __future__ import annotations

from pathlib import Path

import click

from . import terminal
from .command import Command
from .common import check_outputs, check_picture, notes_told, say, stem


@click.command(
    cls=Command, short_help="Draw two scans, each with the contours of the other."
)
@click.argument("fixed", type=click.Path())
@click.argument("moving", type=click.Path())
@click.option(
    "-t",
    "--transform",
    type=click.Path(),
    metavar="FILE",
    help="From FIXED to MOVING, as written by mireg register or any program whose "
    "files mireg convert reads; shows before and after [as the headers say].",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE.png",
    help="Where to draw; .svg, .pdf too [in the terminal, where it can show pictures; "
    "else <moving>_on_<fixed>.png in the current folder].",
)
@click.option(
    "--slices",
    type=click.IntRange(1, 40),
    default=7,
    show_default=True,
    help="How many in each plane.",
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notes and errors.")
def show(
    *,
    fixed: str,
    moving: str,
    transform: str | None,
    output: str | None,
    slices: int,
    force: bool,
    quiet: bool,
) -> None:
    """Draw slices of FIXED with the contours of MOVING, and the other way round.

    What is on the right of a picture is on the right of the patient, or in front.
    With a transform MOVING is drawn before, where its header puts it, and after.

    \b
    Examples:
      mireg show t1.nii.gz bold.nii.gz -t bold_to_t1.tfm
      mireg show t1.nii.gz bold.nii.gz -t flirt.mat -o flirt.pdf
    """
    check_picture("mireg show" if output is None else "-o", output or "picture.png")
    how = terminal.graphics() if output is None else None
    path = Path(output or f"{stem(Path(moving))}_on_{stem(Path(fixed))}.png")
    if how is None:
        inputs = [Path(name) for name in (fixed, moving, transform) if name]
        check_outputs([path], inputs, force=force)
    from .._files.formats import read_image
    from .._files.writing import new_file
    from .._report.mosaic import picture
    from .._report.mosaic import show as draw

    with notes_told():
        images = read_image(fixed), read_image(moving)
        content = picture(draw(*images, transform, slices=slices), path)
    if how is not None:
        terminal.put(content, how)
        return
    with new_file(path, force=force) as file:
        file.write(content)
    if not quiet:
        say(f"wrote {path}")
