# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg compare``: how far apart two transforms, or two series of them, are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .._errors import InputError, printable
from .._files.records import to_json
from .._report.words import in_directions
from .command import Command
from .common import notes_told, say, show_rows

if TYPE_CHECKING:
    from .._compare import Comparison, Distances, SeriesComparison

#: The axes of the fixed image's space, as pairs of directions.
_AXES = ("right or left", "front or back", "up or down")


@click.command(cls=Command, short_help="Tell how far apart two transforms are.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--fixed", type=click.Path(), metavar="F", help="The image both bring M onto."
)
@click.option(
    "--moving", type=click.Path(), metavar="M", help="The image that is moved."
)
@click.option(
    "--over",
    type=click.Path(),
    metavar="IMAGE|MASK",
    help="Where to compare, in the space of F: a mask, or the anatomy in an image "
    "[F, or else a box].",
)
@click.option(
    "--points",
    type=click.Path(),
    metavar="FILE",
    help="Landmarks in the space of F (Slicer's .fcsv or .mrk.json, CSV): tell how far "
    "A and B are apart at each.",
)
@click.option(
    "--fixed-points",
    type=click.Path(),
    metavar="FILE",
    help="Landmarks marked in F, and",
)
@click.option(
    "--moving-points",
    type=click.Path(),
    metavar="FILE",
    help="the same marked in M: tell the target registration error of A and of B at "
    "each. Those of the same label belong together; without labels, or where no label "
    "is in both files, those of the same place in the list.",
)
@click.option(
    "--points-frame",
    type=click.Choice(["ras", "lps"], case_sensitive=False),
    help="Frame of the landmarks of files that do not say it, as plain CSV: whether +x "
    "is to the right or to the left.",
)
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
def compare(
    *,
    a: str,
    b: str,
    fixed: str | None,
    moving: str | None,
    over: str | None,
    points: str | None,
    fixed_points: str | None,
    moving_points: str | None,
    points_frame: Literal["ras", "lps"] | None,
    as_json: bool,
) -> None:
    """Tell how far apart two transforms A and B between the same two images are.

    Each may be a file of any program that mireg convert reads, a record of mireg, a
    truth.json, or the word identity. Those of FSL and AFNI need F and M.

    \b
    mean, RMS, 95 %, maximum   distances in mm over the head, a mask or a box; with
                               the truth as A, the target registration error of B
    each axis                  the largest distance along each axis of F's space, mm
    rotation, translation      from where A shows M to where B shows it, on F, at the
                               centre that is named: of B's inverse after A
    rmsdiff                    what FSL's rmsdiff gives

    With the same landmarks marked in both images, --fixed-points and --moving-points
    tell the error of A and of B at them, from where each puts the point of F to the one
    marked in M. Give identity as A for the error before registration.

    A and B may also be transforms of a series, one a volume, in any format that mireg
    series writes; one of them may be a transform for all volumes. Told are the mean
    distances of the volumes, and their own figures with --json.

    \b
    Examples:
      mireg compare data/truth.json epi_to_t1.json --fixed data/phantom_T1.nii.gz
      mireg compare flirt.mat epi_to_t1.tfm --fixed t1.nii.gz --moving epi.nii.gz
      mireg compare manual.tfm epi_to_t1.tfm --points landmarks.mrk.json
      mireg compare identity mr_to_ct.tfm --fixed-points ct.fcsv --moving-points mr.fcsv
      mireg compare mcflirt.mat moved_xfm.txt --fixed ref.nii.gz --moving bold.nii.gz
    """
    from .._compare import compare as compare_two
    from .._compare import compare_series, is_series

    files = {"a": a, "b": b, "fixed": fixed, "moving": moving}
    if is_series(a) or is_series(b):
        if {points, fixed_points, moving_points, points_frame} != {None}:
            raise InputError(
                "landmarks are for two transforms, not for a series; leave them out"
            )
        with notes_told() as notes:
            series = compare_series(a, b, fixed=fixed, moving=moving, over=over)
        _tell(
            f"from {Path(a).name} to {Path(b).name}, {len(series.volumes)} volumes:",
            _series_rows(series),
            {**files, **series.to_dict(), "warnings": notes},
            as_json=as_json,
        )
        return
    with notes_told() as notes:
        found = compare_two(
            a,
            b,
            fixed=fixed,
            moving=moving,
            over=over,
            points=points,
            fixed_points=fixed_points,
            moving_points=moving_points,
            points_frame=points_frame,
        )
    marked = {"fixed_points": fixed_points, "moving_points": moving_points}
    record = {**files, "points": points, **marked, **found.to_dict()}
    record["warnings"] = notes
    heading = f"from {Path(a).name} to {Path(b).name}:"
    _tell(heading, _rows(found), record, as_json=as_json)


def _tell(
    heading: str, rows: dict[str, str], record: dict[str, Any], *, as_json: bool
) -> None:
    """Say what was found, to people or as JSON."""
    if as_json:
        say(to_json(record), nl=False)
    else:
        show_rows(heading, rows, err=False)


def _series_rows(found: SeriesComparison) -> dict[str, str]:
    """Say how far apart two series are, for people."""
    worst = found.volumes[found.worst]
    return {
        "over": found.over,
        **{
            name: f"{value} of the volumes' mean distances"
            for name, value in _summary(found.distances).items()
        },
        "worst": f"volume {found.worst}, {worst.mean:.3f} mm on average, "
        f"{worst.max:.3f} mm at most",
        "rotation": f"{found.rotations_deg.max():.3f} degrees at most",
    }


def _rows(found: Comparison) -> dict[str, str]:
    """Say how far apart two transforms are, for people."""
    shift = found.translation_mm.tolist()
    axes = zip(found.axes_max_mm, _AXES, strict=True)
    rows = {
        "over": found.over,
        **_summary(found.distances),
        "each axis": ", ".join(f"{largest:.2f} {axis}" for largest, axis in axes),
        "rotation": f"{found.rotation_deg:.3f} degrees",
        "translation": f"{math.hypot(*shift):.3f} mm ({in_directions(shift)})\n"
        "from where A shows the moving image to where B shows it,\n"
        f"in the fixed image, at the centroid, {_place(found.centre_mm)}",
        "rmsdiff": f"{found.fsl_rmsdiff_mm:.3f} mm, FSL's: over a sphere of 80 mm at\n"
        f"{_place(found.fsl_centre_mm)}",
    }
    if found.landmark_distances is not None:
        labels = list(map(printable, found.landmarks))
        width = max(map(len, labels))
        rows["landmarks"] = _columns(labels, width, found.landmark_errors_mm)
        far = _summary(found.landmark_distances)
        rows["of these"] = ", ".join(f"{name} {value}" for name, value in far.items())
    if found.target_errors is not None:
        errors = found.target_errors
        labels, names = list(map(printable, errors.labels)), ("mean", "RMS", "maximum")
        width = max(map(len, (*labels, *names)))
        rows["target error"] = (
            f"{'':{width}}  {'A':>8}     {'B':>8}\n"
            f"{_columns(labels, width, errors.a_mm, errors.b_mm)}"
        )
        of_each = ((far.mean, far.rms, far.max) for far in (errors.a, errors.b))
        rows["in all"] = _columns(names, width, *of_each)
    return rows


def _columns(labels: Sequence[str], width: int, *columns: Iterable[float]) -> str:
    """Write distances, mm, behind labels."""
    return "\n".join(
        f"{label:{width}}" + "".join(f"  {distance:8.3f} mm" for distance in row)
        for label, *row in zip(labels, *columns, strict=True)
    )


def _summary(distances: Distances) -> dict[str, str]:
    """Say what distances there are."""
    return {
        "mean": f"{distances.mean:.3f} mm",
        "RMS": f"{distances.rms:.3f} mm",
        "95 %": f"{distances.percentile_95:.3f} mm",
        "maximum": f"{distances.max:.3f} mm",
    }


def _place(point: object) -> str:
    """Write a point in RAS+ mm."""
    import numpy as np

    return ", ".join(f"{x + 0.0:.1f}" for x in np.round(np.asarray(point), 1))
