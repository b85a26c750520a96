# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg check``: the verdict on a pose that anybody found."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._files.records import to_json
from .command import Command
from .common import (
    mask_options,
    notes_told,
    prior_options,
    progress_bar,
    read_prior,
    say,
    show_rows,
    verdict_options,
    verdict_rows,
)

if TYPE_CHECKING:
    from .._check import Check


@click.command(cls=Command, short_help="Judge a transform that anybody found.")
@click.argument("fixed", type=click.Path())
@click.argument("moving", type=click.Path())
@click.option(
    "-t",
    "--transform",
    type=click.Path(),
    metavar="FILE",
    help="From FIXED to MOVING, in any format that mireg reads [as the headers say].",
)
@mask_options
@prior_options
@verdict_options
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads to use [all processors]; the result is the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    *,
    fixed: str,
    moving: str,
    transform: str | None,
    fixed_mask: str | None,
    moving_mask: str | None,
    prior: str | None,
    prior_strength: float | None,
    tolerance: float | None,
    accept: bool,
    threads: int | None,
    as_json: bool,
) -> int:
    """Tell how likely a transform from FIXED to MOVING is right, whoever found it.

    How far it is from the nearest optimum, whether a better one lies elsewhere, and
    how far the answer is expected to be off. The exit code is 1 if it is doubtful:
    less than 75 % likely right. In JSON "verdict" and "residuals" are of the
    transform that was given; what was measured at the best pose is under "best".

    \b
    Example:
      mireg check t1.nii.gz bold.nii.gz --transform flirt.mat
    """
    from .._check import check as check_pair
    from .._files import formats
    from .._settings import Settings
    from .._transform import as_rigid

    settings = Settings(threads=threads, tolerance_mm=tolerance)
    learned = read_prior(prior, prior_strength)
    if learned is not None:
        settings = replace(settings, metric="prior")
    if prior_strength is not None:
        settings = replace(settings, prior_strength=prior_strength)
    with notes_told():
        images = formats.read_image(fixed), formats.read_image(moving)
        masks = [
            formats.read_mask(mask) if mask else None
            for mask in (fixed_mask, moving_mask)
        ]
        pose = None
        if transform is not None:
            pose = as_rigid(transform, fixed=images[0], moving=images[1])
        with progress_bar(quiet=as_json) as progress:
            checked = check_pair(
                images[0],
                images[1],
                pose,
                fixed_mask=masks[0],
                moving_mask=masks[1],
                settings=settings,
                prior=learned,
                progress=progress,
            )
    if as_json:
        files = {"fixed": fixed, "moving": moving, "transform": transform}
        say(to_json({**files, **checked.to_dict()}), nl=False)
    else:
        what = "the headers" if transform is None else Path(transform).name
        heading = f"{what}, from {Path(fixed).name} to {Path(moving).name}:"
        rows = _summary(checked)
        if checked.off:
            rows["next"] = f"find the better pose: {shlex.join(_next(fixed, moving))}"
        show_rows(heading, rows, err=False)
    return int(checked.doubtful and not accept)


def _next(fixed: str, moving: str) -> list[str]:
    """Give the words of the command that finds the best pose."""
    return ["mireg", "register", fixed, moving]


def _summary(checked: Check) -> dict[str, str]:
    """Say what is said of the pose, for people."""
    nearest, best = checked.nearest, checked.best
    error = None
    if checked.off:
        error = f"{best.mean_mm:.1f} mm, if the best pose found is right"
    elsewhere = "the same"
    if checked.elsewhere:
        elsewhere = (
            f"elsewhere: {best.mean_mm:.2f} mm away on average, {best.max_mm:.2f} mm "
            f"at most ({checked.metric} {best.score:.4f})"
        )
    return {
        f"score ({checked.metric})": f"{checked.score:.4f}",
        "overlap": f"{100 * checked.overlap_fraction:.0f} %",
        "nearest best": f"{nearest.mean_mm:.2f} mm away on average, "
        f"{nearest.max_mm:.2f} mm at most ({checked.metric} {nearest.score:.4f})",
        "best of all": elsewhere,
        **verdict_rows(checked.verdict, error),
    }
