# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg session``: all scans of a patient, brought into line at once."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .._errors import InputError
from .._files.records import to_json
from .common import (
    OutputCommand,
    check_folder,
    notes_told,
    output_options,
    progress_bar,
    read_output,
    say,
)
from .register import read_formats

if TYPE_CHECKING:
    from .._session import PairChoice, Session


def _read_pairs(_context: Any, _option: Any, value: str) -> PairChoice:
    """Read all, ring, or a number."""
    if value in ("all", "ring"):
        return value  # type: ignore[return-value]
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not all, ring or a number") from error


@click.command(
    cls=OutputCommand, short_help="Bring all scans of a patient into line at once."
)
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder for the files written; it is made if need be.",
)
@click.option(
    "--reference",
    metavar="IMAGE|mean",
    help="Whose space all are brought into: one of the images, or the frame half-way "
    "between all, as follow-up studies want it [the first image].",
)
@click.option(
    "--pairs",
    default="all",
    show_default=True,
    callback=_read_pairs,
    metavar="all|ring|N",
    help="Which pairs are registered: all, a ring, or each image with N others.",
)
@click.option(
    "--transform-format",
    "transform_formats",
    multiple=True,
    callback=read_formats,
    metavar="FORMAT",
    help="As for mireg register [itk].",
)
@click.option(
    "--images",
    "write_images",
    is_flag=True,
    help="Write each image on the grid of the frame, too.",
)
@click.option(
    "--report",
    is_flag=True,
    help="Write DIR/session.html, too: the pairs as a graph and a table, and every "
    "image in one frame, to be looked at in a browser.",
)
@output_options
@click.option("--json", "as_json", is_flag=True, help="Print the record on stdout.")
def session(
    *,
    images: Sequence[str],
    output: str,
    reference: str | None,
    pairs: PairChoice,
    transform_formats: Sequence[str],
    write_images: bool,
    report: bool,
    threads: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring all scans of a patient into line at once: T1, T2, BOLD, last year's, ...

    Pairs of the images are registered, and the poses that fit all pairs best are found.
    So each answer is checked by all others: the residuals say how far off the pairs
    are, and an image that does not belong is named.

    \b
    Writes DIR/<image>_to_<reference>.tfm  a transform for each image
           DIR/pairs.tsv                   the pairs: residuals, what was left out
           DIR/session.json                all of it

    The exit code is 1 if an image does not belong: of another patient, or mirrored.

    \b
    Examples:
      mireg session t1.nii.gz t2.nii.gz flair.nii.gz bold.nii.gz -o session
      mireg session 2024/t1.nii.gz 2025/t1.nii.gz -o both --reference mean --images
    """
    how = read_output(options)
    _check_different(images)
    from .._session import SessionFiles, names_of, register_session
    from .._settings import Settings

    which: int | Literal["mean"] = 0
    if reference == "mean":
        which = "mean"
    elif reference is not None:
        real = [os.path.realpath(path) for path in images]
        if os.path.realpath(reference) not in real:
            raise InputError(
                f"--reference {reference}: not one of the images; give one of them, or "
                "mean"
            )
        which = real.index(os.path.realpath(reference))
    files = SessionFiles.named(
        output,
        names_of(images),
        None if which == "mean" else which,
        transform_formats,
        images=write_images,
        report=report,
    )
    if os.path.exists(output):
        check_folder(Path(output), files.paths, force=force)
    with notes_told(), progress_bar(quiet=quiet) as progress:
        found = register_session(
            list(images),
            reference=which,
            pairs=pairs,
            settings=Settings(threads=threads),
            progress=progress,
        )
        progress("write", 1.0)
        written = found.save(
            output,
            transform_formats=transform_formats,
            images=write_images,
            report=report,
            output=how,
            threads=threads,
            force=force,
        )
    if as_json:
        say(to_json(found.to_dict()), nl=False)
    elif not quiet:
        _tell(found, written)
    if found.strangers:
        click.get_current_context().exit(1)


def _check_different(images: Sequence[str]) -> None:
    """Refuse an image that is given twice: it would fit itself, and check nothing."""
    seen: dict[str, str] = {}
    for path in images:
        before = seen.get(os.path.realpath(path))
        if before is not None:
            also = "" if before == path else f", as {before}, too"
            raise InputError(f"{path}: is given twice{also}; give each image once")
        seen[os.path.realpath(path)] = path


def _tell(found: Session, written: Sequence[Path]) -> None:
    """Say what was found."""
    where = "the mean frame" if found.reference is None else "the reference"
    heading = f"{len(found.images)} images, seen from {where}:"
    say("", mark=click.style(heading, bold=True))
    width = max(map(len, found.names))
    for k, name in enumerate(found.names):
        transform, error = found.transforms[k], found.errors_mm[k]
        moved = math.hypot(*transform.translation)
        what = f"rotation {transform.angle_deg:6.2f} degrees"
        what += f", centre moved {moved:6.2f} mm"
        if k in found.strangers:
            what += ", does not belong"
        elif k:
            what += f", expected error {error:.2f} mm"
        say(f"  {name:{width}}  {what}")
    used = [pair for pair in found.pairs if pair.used]
    say(
        f"  {len(used)} of {len(found.pairs)} pairs used; largest residual "
        f"{found.worst_mm:.2f} mm"
    )
    for path in written:
        say(f"  {path}")
