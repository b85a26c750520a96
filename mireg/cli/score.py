# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg score``: what every similarity metric says of two images at a pose."""

from __future__ import annotations

from dataclasses import replace

import click

from .._files.records import to_json
from .command import Command
from .common import mask_options, notes_told, prior_options, read_prior, say


@click.command(cls=Command, short_help="Score two scans at a pose by every metric.")
@click.argument("fixed", type=click.Path())
@click.argument("moving", type=click.Path())
@click.option(
    "-t",
    "--transform",
    type=click.Path(),
    metavar="FILE",
    help="From FIXED to MOVING, as written by mireg register [as the headers say].",
)
@mask_options
@prior_options
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads to use [all processors]; the result is the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(
    *,
    fixed: str,
    moving: str,
    transform: str | None,
    fixed_mask: str | None,
    moving_mask: str | None,
    prior: str | None,
    prior_strength: float | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Tell how well MOVING lies on FIXED by every similarity metric.

    Higher is better. Scores of one pair at different poses can be compared; those
    of different pairs cannot.

    \b
    Example:
      mireg score t1.nii.gz bold.nii.gz --transform bold_to_t1.tfm
    """
    from .._contrast import contrast
    from .._files import formats
    from .._prepare import prepare
    from .._score import score as score_pair
    from .._settings import METRICS, Settings
    from .._transform import as_transform

    settings = Settings(threads=threads)
    learned = read_prior(prior, prior_strength)
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
            pose = as_transform(transform, fixed=images[0], moving=images[1])
        prepared = [
            prepare(image, mask, threads=threads)
            for image, mask in zip(images, masks, strict=True)
        ]
        scores = score_pair(
            prepared[0], prepared[1], pose, settings=settings, prior=learned
        )
        bits = {
            f"contrast_{role}_bits": contrast(one).score
            for role, one in zip(("fixed", "moving"), prepared, strict=True)
        }
    if as_json:
        files = {
            "fixed": fixed,
            "moving": moving,
            "transform": transform,
            "prior": prior,
        }
        say(to_json({**files, "scores": dict(scores), **bits}), nl=False)
        return
    words: dict[str, str] = {name: about.words for name, about in METRICS.items()}
    words["overlap_fraction"] = "share of the samples inside both images"
    words["contrast_fixed_bits"] = (
        "FIXED's divergence from uniform where compared, 0 to 4"
    )
    words["contrast_moving_bits"] = "MOVING's; 0 is best, 4 is nothing to see"
    for name, value in {**scores, **bits}.items():
        say(f"{name:20}{value:9.5f}  {words[name]}")
