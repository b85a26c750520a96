# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg series``: the motion of a 4-D image, and the image without it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import click

from .._errors import InputError
from .common import (
    OutputCommand,
    check_outputs,
    folder_of,
    notes_told,
    output_options,
    progress_bar,
    read_output,
    say,
    show_rows,
    stem,
)

if TYPE_CHECKING:
    from .._series import SeriesMotion

#: Names of the kinds of files; series.SERIES_FORMATS, which is slow to load.
SERIES_FORMATS = ("itk", "fsl", "par", "afni", "volreg", "lta", "x5", "npy")


def _read_formats(
    _context: Any, _option: Any, values: Sequence[str]
) -> tuple[str, ...]:
    """Read the formats to write, once each, given one by one or with commas."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in (*SERIES_FORMATS, "ants"):
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(SERIES_FORMATS)}"
            )
    return tuple(dict.fromkeys(names)) or ("itk",)


def _read_reference(_context: Any, _option: Any, value: str) -> int | str:
    """Read the number of a volume, or leave a word or a file as it is."""
    return int(value) if value.isdecimal() else value


@click.command(
    cls=OutputCommand, short_help="Bring every volume of a 4-D image into line."
)
@click.argument("series", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="PREFIX",
    help="Start of the names of the files written, or a folder for them "
    "[<series>_moved in the current folder].",
)
@click.option(
    "--reference",
    default="two-pass",
    show_default=True,
    callback=_read_reference,
    metavar="two-pass|N|mean|median|IMAGE",
    help="What to bring volumes into line with: the middle volume and then the mean of "
    "what that gave; volume N, from 0; the mean or median of all; an image.",
)
@click.option(
    "--to",
    type=click.Path(),
    metavar="T1W",
    help="Bring the whole series onto this scan, by one interpolation.",
)
@click.option(
    "--mask", type=click.Path(), metavar="FILE", help="Compare only here; any grid."
)
@click.option(
    "--transform-format",
    "formats",
    multiple=True,
    callback=_read_formats,
    metavar="FORMAT",
    help=f"Write transforms for other programs: {', '.join(SERIES_FORMATS)}; several "
    "with commas [itk].",
)
@click.option(
    "--no-image",
    "image",
    flag_value=False,
    default=True,
    help="Write no moved series.",
)
@click.option(
    "--plot", is_flag=True, help="Draw the motion over time (needs matplotlib)."
)
@click.option(
    "--report",
    is_flag=True,
    help="Write PREFIX.html, too: a film before and after, and the motion, to be "
    "looked at in a browser.",
)
@click.option(
    "--fd-radius",
    type=click.FloatRange(min=0, min_open=True),
    default=50.0,
    show_default=True,
    metavar="MM",
    help="Radius of the sphere of the framewise displacement.",
)
@click.option(
    "--fd-threshold",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="MM",
    help="A volume with more framewise displacement is an outlier,",
)
@click.option(
    "--dvars-threshold",
    type=click.FloatRange(min=0),
    default=1.5,
    show_default=True,
    metavar="X",
    help="and one with more standardised DVARS.",
)
@output_options
@click.option("--json", "as_json", is_flag=True, help="Print the record on stdout.")
def series(
    *,
    series: Sequence[str],
    output: str | None,
    reference: int | str,
    to: str | None,
    mask: str | None,
    formats: Sequence[str],
    image: bool,
    plot: bool,
    report: bool,
    fd_radius: float,
    fd_threshold: float,
    dvars_threshold: float,
    threads: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring every volume of SERIES into line with one reference.

    SERIES is a 4-D image, or several 3-D ones. It is read one volume at a time.
    Contrasts may change from volume to volume.

    \b
    Writes PREFIX.nii.gz            the moved series
           PREFIX_reference.nii.gz  what the volumes were brought into line with
           PREFIX_xfm.txt           a transform a volume (ITK, ANTs, nitransforms)
           PREFIX_confounds.tsv     motion, displacement, DVARS, standard errors, with
                                    the names of fMRIPrep; .json says what they mean
           PREFIX.json              the transforms as matrices, how they were found

    If SERIES has a BIDS name and there is no -o, the files have BIDS names too.

    Not solved: slices acquired one after the other, motion within a volume,
    distortion that changes with the motion.

    \b
    Examples:
      mireg series bold.nii.gz -o moved --plot
      mireg series bold.nii.gz -o on_t1 --to t1.nii.gz --transform-format itk,fsl
    """
    began = time.perf_counter()
    defaulted = click.get_current_context().get_parameter_source
    own = click.core.ParameterSource.DEFAULT
    if defaulted("grid") == own:
        options["grid"] = "moving"
    if defaulted("interpolation") == own:
        options["interpolation"] = "cubic"
    how = read_output(options)
    if how.header_only:
        raise InputError(
            "--header-only is for one transform, not for a series; leave it out"
        )
    from .._confounds import Thresholds
    from .._files.records import to_json
    from .._files.series.names import bids_named, named
    from .._files.series.reader import Series
    from .._series import register_series
    from .._settings import Settings

    folder = Path() if output is None else folder_of(output)
    files = None
    if folder is not None:
        if len(series) == 1:
            files = bids_named(
                folder,
                series[0],
                formats,
                to=to,
                image=image,
                picture=plot,
                report=report,
            )
        output = str(folder / f"{stem(Path(series[0]))}_moved")
    assert output is not None
    files = files or named(output, formats, image=image, picture=plot, report=report)
    named_files = [*series, to, mask, reference]
    inputs = [Path(path) for path in named_files if _is_file(path)]
    check_outputs(files.single, inputs, force=force)
    given = Series(series[0] if len(series) == 1 else list(series))
    with notes_told(), progress_bar(quiet=quiet) as progress:
        found = register_series(
            given,
            reference=reference,
            to=to,
            mask=mask,
            settings=Settings(threads=threads),
            progress=progress,
        )
        columns = found.write(
            files,
            output=how,
            radius_mm=fd_radius,
            thresholds=Thresholds(fd_threshold, dvars_threshold),
            threads=threads,
            force=force,
            progress=progress,
        )
    if not quiet:
        seconds = time.perf_counter() - began
        written = [*files.single, *files.folders]
        rows = _summary(found, columns, seconds, written)
        show_rows(f"{given.name}, {len(given)} volumes:", rows, err=as_json)
    if as_json:
        say(to_json(found.to_dict()), nl=False)


def _is_file(path: object) -> TypeGuard[str]:
    """Tell the name of a file from what else a reference may be."""
    return isinstance(path, str) and path not in ("two-pass", "mean", "median")


def _speed(volumes: int, seconds: float) -> str:
    """Say how fast it went, in a number that is not 0.

    Examples
    --------
    >>> _speed(300, 12), _speed(3, 2), _speed(3, 12)
    ('25 volumes a second', '1.5 volumes a second', '4.0 seconds a volume')
    """
    rate = volumes / seconds
    if rate < 1:
        return f"{seconds / volumes:.1f} seconds a volume"
    return f"{rate:.{0 if rate >= 10 else 1}f} volumes a second"


def _summary(
    found: SeriesMotion, columns: dict[str, Any], seconds: float, written: list[Path]
) -> dict[str, str]:
    """Say what was found, for people."""
    from .._series_results import facts

    rows = facts(found.kind, columns, found.doubted, found.standard_error_mm)
    rows["seconds"] = f"{seconds:.1f}, {_speed(len(found.doubted), seconds)}"
    rows["written"] = "\n".join(map(str, written))
    return rows
