# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg register``: two scans to a transform, the moved image and a record."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Sequence
from dataclasses import astuple
from math import hypot, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable
from .._files import bids
from .._files.records import to_json
from .._report.words import expected_error, in_directions
from .._settings import EFFORTS, METRICS
from .common import (
    FORMAT_NAMES,
    TRANSFORM_FORMATS,
    OutputCommand,
    check_outputs,
    check_picture,
    contrasts,
    folder_of,
    log_told,
    mask_options,
    notes_told,
    output_options,
    prior_options,
    progress_bar,
    read_ahead,
    read_output,
    read_prior,
    read_volume_choice,
    say,
    say_note,
    show_rows,
    stem,
    translations,
    verdict_options,
    verdict_rows,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .._image import Image
    from .._moved import Output
    from .._prepare import PreparedImage
    from .._registration import Registration
    from .._settings import EffortName, MetricName

#: Under which name a context keeps the words of its command.
_COMMAND = "mireg.command"

#: What is timed.
_STAGES = ("start", "load", "register", "resample", "write")


def read_formats(_context: Any, _option: Any, values: Sequence[str]) -> tuple[str, ...]:
    """Read the formats to write, once each, given one by one or with commas."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in FORMAT_NAMES:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(TRANSFORM_FORMATS)}"
            )
    return tuple(dict.fromkeys(names)) or ("itk",)


class _Register(OutputCommand):
    """A command that knows how it was called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words for the record; a page has no name of its own."""
        for word, following in itertools.pairwise([*args, ""]):
            named = word == "--report" and following.lower().endswith((".html", ".htm"))
            if named or word.startswith("--report="):
                raise click.UsageError(
                    "--report takes no value: the page is PREFIX.html, and -o gives "
                    "PREFIX",
                    ctx,
                )
        ctx.meta[_COMMAND] = shlex.join(["mireg", "register", *args])
        return super().parse_args(ctx, args)


@click.command(cls=_Register, short_help="Find the rigid transform between two scans.")
@click.argument("fixed", type=click.Path())
@click.argument("moving", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="PREFIX",
    help="Start of the names of the files written, or a folder for them "
    "[<moving>_to_<fixed> in the current folder].",
)
@click.option(
    "--metric",
    type=click.Choice(list(METRICS)),
    help="Similarity to maximise [nmi]; mireg score prints them all.",
)
@prior_options
@click.option(
    "--init",
    default="auto",
    show_default=True,
    metavar="auto|header|centre|identity|FILE",
    help="Where to start: auto searches every pose; header (or identity) trusts "
    "the headers' coordinates; centre lays centre on centre; FILE is a transform.",
)
@click.option(
    "--transform-format",
    "transform_formats",
    multiple=True,
    callback=read_formats,
    metavar="FORMAT",
    help=f"Write the transform for other programs: {', '.join(TRANSFORM_FORMATS)}; "
    "several with commas [itk].",
)
@mask_options
@click.option(
    "--fixed-volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of a 4-D FIXED, from 0 [mean].",
)
@click.option(
    "--moving-volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of a 4-D MOVING, from 0 [mean].",
)
@click.option(
    "--all-volumes",
    is_flag=True,
    help="Write every volume of a 4-D MOVING, not the one that was registered.",
)
@click.option(
    "--no-image",
    "image",
    flag_value=False,
    default=True,
    help="Write the transform and the record only.",
)
@click.option(
    "--inverse",
    is_flag=True,
    help="Write PREFIX_inverse.nii.gz, too: FIXED brought onto MOVING the same way.",
)
@verdict_options
@click.option(
    "--strict", is_flag=True, help="Write nothing where the answer is doubtful."
)
@click.option(
    "--residuals",
    is_flag=True,
    help="Write PREFIX_residuals.nii.gz, too: how far off each part of FIXED is, mm.",
)
@click.option(
    "--picture",
    metavar="FILE.png",
    help="Draw both images, each with the contours of the other, before and after; "
    ".svg, .pdf too.",
)
@click.option(
    "--report",
    is_flag=True,
    help="Write PREFIX.html, too: both images and what was found, to be looked at in "
    "a browser.",
)
@click.option(
    "--effort",
    type=click.Choice(EFFORTS),
    default="normal",
    show_default=True,
    help="How long to search on in doubt, until the answer is 90 % likely right: not "
    "at all, four times, or twelve times.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Bounds what is searched again in doubt: begin no further search after S "
    "seconds. The first search, the refinement, reading and writing are always done. "
    "The answer can depend on the machine [no limit].",
)
@output_options
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Tell the stages and the best poses that the search found.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record on stdout.")
def register(*, accept: bool, **options: Any) -> int:
    """Find the rigid transform that brings MOVING into line with FIXED.

    \b
    Writes PREFIX.nii.gz  MOVING on the grid of FIXED
           PREFIX.tfm     the transform (ITK text, read by ITK, ANTs, 3D Slicer);
                          see --transform-format for other programs
           PREFIX.json    the transform as a matrix, and how it was found

    If both have BIDS names and there is no -o, the files have BIDS names too.

    The exit code is 1 if the answer is doubtful: less than 75 % likely right. The
    files are written all the same, unless --strict is given.

    \b
    Example:
      mireg register t1.nii.gz bold.nii.gz -o bold_to_t1
    """
    found = run_register(**options, began=click.get_current_context().obj)
    return int(found.doubtful and not accept)


def run_register(
    *,
    fixed: str,
    moving: str,
    output: str | None,
    all_volumes: bool,
    prepared: PreparedImage | None = None,
    began: float | None = None,
    **options: Any,
) -> Registration:
    """Do what ``mireg register`` does; the fixed image may be prepared already."""
    volumes = options.pop("fixed_volume"), options.pop("moving_volume")
    reading = read_ahead((Path(moving), volumes[1]))
    if prepared is None:
        reading = [*read_ahead((Path(fixed), volumes[0])), *reading]
    how = read_output(options, all_volumes=all_volumes)
    names, folder = None, Path() if output is None else folder_of(output)
    if folder is not None:
        series = how.all_volumes or how.header_only
        names = bids.output_names(fixed, moving, whole_series=series)
        if names is not None:
            names = bids.Outputs(*(str(folder / name) for name in astuple(names)))
        output = str(folder / f"{stem(Path(moving))}_to_{stem(Path(fixed))}")
    assert output is not None
    return register_files(
        Path(fixed),
        Path(moving),
        output,
        reading=reading,
        prepared=prepared,
        bids_names=names,
        how=how,
        began=began,
        command=click.get_current_context().meta[_COMMAND],
        **options,
    )


def register_files(
    fixed: Path,
    moving: Path,
    prefix: str,
    *,
    reading: Sequence[Future[Image]] | None = None,
    prepared: PreparedImage | None = None,
    bids_names: bids.Outputs | None = None,
    metric: MetricName | None = None,
    prior: str | None = None,
    prior_strength: float | None = None,
    init: str = "auto",
    fixed_mask: str | None = None,
    moving_mask: str | None = None,
    transform_formats: Sequence[str] = ("itk",),
    tolerance: float | None = None,
    strict: bool = False,
    how: Output | None = None,
    image: bool = True,
    inverse: bool = False,
    residuals: bool = False,
    picture: str | None = None,
    report: bool = False,
    effort: EffortName = "normal",
    time_limit: float | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    as_json: bool = False,
    began: float | None = None,
    command: str | None = None,
) -> Registration:
    """Register two files, write the three others, and tell what was found."""
    began = time.perf_counter() if began is None else began
    inputs = [Path(p) for p in (fixed, moving, fixed_mask, moving_mask, prior) if p]
    reading = reading or read_ahead((fixed, None), (moving, None))
    import numpy as np

    from .. import _results as results
    from .._files import formats
    from .._moved import Output
    from .._register import register as find
    from .._settings import Settings

    how = how or Output()
    files = results.Files.named(
        prefix,
        transform_formats,
        bids_names,
        image=image,
        inverse=inverse,
        report=report,
        residuals=residuals,
    )
    drawn = [] if picture is None else [Path(picture)]
    if picture is not None:
        check_picture("--picture", picture)
    check_outputs([*files.paths, *drawn], inputs, force=force)
    start = _start(init, fixed, moving)
    learned = read_prior(prior, prior_strength, metric)
    settings = Settings(
        metric=metric or ("prior" if learned else Settings.metric),
        prior_strength=Settings.prior_strength
        if prior_strength is None
        else prior_strength,
        threads=threads,
        tolerance_mm=tolerance,
        effort=effort,
        time_limit=time_limit,
    )
    started = time.perf_counter()
    with notes_told() as notes:
        images = [scan.result() for scan in reading]
        if prepared is not None:  # with its mask
            images.insert(0, prepared.image)
        fixed_image, moving_image = images
        if image:
            how._check(results.opened(moving_image))
        formats.warn_of(fixed_image)
        formats.warn_of(moving_image)
        masks = [formats.as_mask(mask) for mask in (fixed_mask, moving_mask)]
        # What a format lacks is said now rather than after the work.
        files.transform_bytes(np.eye(4), fixed_image, moving_image)
        loaded = time.perf_counter()
        bar = progress_bar(quiet=quiet or verbose)
        with log_told(verbose=verbose and not quiet), bar as progress:
            found = find(
                prepared or fixed_image,
                moving_image,
                init=start,
                fixed_mask=None if prepared else masks[0],
                moving_mask=masks[1],
                settings=settings,
                prior=learned,
                progress=progress,
            )
            progress("write", 1.0)
            unwritten = strict and found.doubtful
            record = (
                found.to_dict()
                if unwritten
                else results.write(
                    found.to_dict(),
                    files,
                    fixed=found.fixed,
                    moving=found.moving,
                    transform=found.transform,
                    output=how,
                    threads=threads,
                    force=force,
                    seconds={"start": started - began, "load": loaded - started},
                    options={
                        "init": init,
                        "prior": prior,
                        "fixed_mask": fixed_mask,
                        "moving_mask": moving_mask,
                        "command": command,
                    },
                    notes=notes,
                    residuals=found.residuals,
                    beside={path: _drawn(found, path) for path in drawn},
                )
            )
    if not quiet:
        took = {name: record["seconds"].get(name, 0.0) for name in _STAGES[:-1]}
        # With all that is short.
        took["write"] = time.perf_counter() - began - sum(took.values())
        rows = _summary(found, took, [] if unwritten else [*files.paths, *drawn])
        show_rows(f"from {fixed.name} to {moving.name}:", rows, err=as_json)
    for note in found.warnings:
        if note not in notes:  # told when it was read
            say_note(note)
    if as_json:
        say(to_json(record), nl=False)
    return found


def _drawn(found: Registration, path: Path) -> bytes:
    """Draw what was found."""
    from .._report.mosaic import picture

    return picture(found.show(), path)


def _start(init: str, fixed: Path, moving: Path) -> Any:
    """Turn ``--init`` into what the library takes."""
    if init in ("header", "identity"):
        return "header"
    if init in ("auto", "centre"):
        return init
    if not Path(init).exists():
        raise InputError(
            f"--init {init}: neither auto, header, centre or identity, nor a file that "
            "is there; check the path"
        )
    from .._transform import as_rigid

    return as_rigid(init, fixed=fixed, moving=moving)


def _fit(found: Registration) -> dict[str, str]:
    """Say how far off parts of the anatomy fit best, where they tell."""
    parts = found.residuals
    if parts is None or isnan(parts.worst_mm):
        return {}
    return {
        "parts": f"half fit best within {parts.median_mm:.2g} mm, 9 of 10 within "
        f"{parts.worst_mm:.2g} mm"
    }


def _summary(
    found: Registration,
    seconds: dict[str, Any],
    outputs: Sequence[Path],
) -> dict[str, str]:
    """Say what was found, for people."""
    times = [f"{name} {seconds[name]:.1f}" for name in _STAGES]
    centre = found.transform.centre
    moved = (~found.transform).apply(centre) - centre
    return {
        "rotation": f"{found.transform.angle_deg:.2f} degrees",
        "translation": translations(
            found.transform, found.transform.centre, "the centre of the anatomy"
        )
        + ": of points, from FIXED to MOVING",
        "image moved": f"{hypot(*moved):.2f} mm ({in_directions(moved)})\n"
        "at that centre, MOVING onto FIXED: what planning systems show",
        "anatomy moved": f"{found.mean_displacement_mm:.2f} mm on average, "
        f"{found.max_displacement_mm:.2f} mm at most",
        f"score ({found.metric})": found.score_summary,
        "overlap": f"{100 * found.overlap_fraction:.0f} %",
        "noise": found.noise_summary,
        **verdict_rows(
            found.verdict, expected_error(found.verdict, found.standard_error_mm)
        ),
        **_fit(found),
        "contrast": contrasts(found.fixed_contrast, found.moving_contrast),
        "seconds": f"{', '.join(times)}; {sum(seconds.values()):.1f} in all",
        "written": "\n".join(printable(str(path)) for path in outputs)
        or "nothing, as --strict says",
    }
