# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg contrast``: how much contrast scans have, beside each other or a cohort."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable
from .._files.records import to_json
from .._files.tables import to_csv
from .command import Command
from .common import (
    check_outputs,
    check_picture,
    notes_told,
    read_volume_choice,
    say,
    say_note,
)

if TYPE_CHECKING:
    from .._contrast import Cohort, Contrast
    from .._image import VolumeChoice

#: Heading and name of the columns of the table.
_COLUMNS = {
    "score": "score_bits",
    "structure": "structure",
    "KL": "foreground_kl_bits",
    "levels": "foreground_levels",
    "KL all": "whole_kl_bits",
    "JS": "js_bits",
    "Jeffreys": "jeffreys_bits",
    "Wasserst.": "wasserstein",
    "deviation": "deviation",
}


@click.command(cls=Command, short_help="Score the contrast of scans.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--reference",
    metavar="IMAGE|COHORT.json",
    help="Compare each scan with this one, or with a cohort.",
)
@click.option(
    "--range",
    "limits",
    type=(float, float),
    metavar="LOW HIGH",
    help="Nominal range of the intensities [that of each scan].",
)
@click.option(
    "--volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of 4-D scans, from 0 [mean].",
)
@click.option(
    "--save-cohort", metavar="COHORT.json", help="Write what the scans share."
)
@click.option("--plot", metavar="FILE.png", help="Draw the histograms; .pdf, .svg too.")
@click.option("--csv", "table", metavar="FILE|-", help="Write the table; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--quiet", "-q", is_flag=True, help="Say nothing but notes where a file is written."
)
def contrast(
    *,
    images: Sequence[str],
    reference: str | None,
    limits: tuple[float, float] | None,
    volume: VolumeChoice | None,
    save_cohort: str | None,
    plot: str | None,
    table: str | None,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Score the contrast of scans; the one with most comes first.

    \b
    score      divergence from uniform, bits, of a foreground voxel given its
               surroundings: 0 is best, 4 is nothing to see. A change of scale or
               an inversion leaves it alone; washing out and blurring raise it.
    structure  share of information that neighbouring parts have in common, 0 to 1:
               below 0.2 noise drowns the scan, and registration begins to fail.
    KL         divergence from uniform of the foreground's histogram, bits.
    levels     effective grey levels of the foreground, of 64.
    KL all     as KL, of all voxels; depends on how much air there is.

    With --reference, of the foreground's histogram: the Jensen-Shannon divergence
    (JS, 0 to 1 bit), the Jeffreys divergence (bits, 1e-4 added to every bin), the
    Wasserstein distance (share of the range), and how many standard deviations the
    score is above the mean of the cohort.

    \b
    Examples:
      mireg contrast t1.nii.gz t2.nii.gz
      mireg contrast good/*.nii.gz --save-cohort good.json
      mireg contrast new.nii.gz --reference good.json --csv -
    """
    outputs = [Path(p) for p in (save_cohort, plot, table) if p and p != "-"]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"{outputs[-1]}: two outputs have this name; choose another")
    inputs = [Path(p) for p in (*images, reference) if p]
    check_outputs(outputs, inputs, force=force)
    if as_json and table == "-":
        raise InputError("--json and --csv - both want stdout; give --csv a file")
    if plot:
        check_picture("--plot", plot)
    from .._contrast import cohort, cohort_text
    from .._files.writing import new_files

    with notes_told():
        beside = _reference(reference, limits, volume)
        found = {
            name: _measured(name, limits, volume) for name in dict.fromkeys(images)
        }
    rows = [_row(name, one, beside) for name, one in found.items()]
    rows.sort(key=lambda row: (row["score_bits"], row["image"]))
    made = {}
    if save_cohort:
        made[Path(save_cohort)] = cohort_text(cohort(list(found.values()))).encode()
    if plot:
        order = {row["image"]: found[row["image"]] for row in rows}
        made[Path(plot)] = _picture(order, beside, Path(plot).suffix[1:].lower())
    if table and table != "-":
        made[Path(table)] = to_csv(rows).encode()
    with new_files(made, force=force) as files:
        for path, content in made.items():
            files[path].write(content)
    if as_json:
        say(to_json({"reference": reference, "images": rows}), nl=False)
    elif table == "-":
        say(to_csv(rows), nl=False)
    elif not (quiet and made):
        say(_as_table(rows), nl=False)
    for row in rows:
        doubt = found[row["image"]].doubt
        if doubt:
            say_note(f"{row['image']} {doubt}")


def _measured(
    name: str, limits: tuple[float, float] | None, volume: VolumeChoice | None
) -> Contrast:
    """Measure the scan in a file."""
    from .._contrast import contrast as measure
    from .._files.formats import read_image

    image = read_image(name, volume)
    try:
        return measure(image, limits=limits)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _reference(
    reference: str | None,
    limits: tuple[float, float] | None,
    volume: VolumeChoice | None,
) -> Contrast | Cohort | None:
    """Read what the scans are compared with."""
    if reference is None:
        return None
    if Path(reference).suffix.lower() == ".json":
        from .._contrast import read_cohort

        return read_cohort(reference)
    return _measured(reference, limits, volume)


def _row(name: str, one: Contrast, beside: Contrast | Cohort | None) -> dict[str, Any]:
    """Give the figures of a scan by the names of their columns."""
    row: dict[str, Any] = {"image": name, **one.figures()}
    if beside is not None:
        from .._contrast import compare

        compared = compare(one, beside)
        row |= {
            "js_bits": compared.js,
            "jeffreys_bits": compared.jeffreys,
            "wasserstein": compared.wasserstein,
            "deviation": compared.deviation,
        }
    return row


def _as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the table for people."""
    columns = {head: key for head, key in _COLUMNS.items() if key in rows[0]}
    lines = [["", *columns]]
    for row in rows:
        numbers = [row[key] for key in columns.values()]
        digits = [1 if head in ("levels", "deviation") else 3 for head in columns]
        lines.append(
            [
                printable(row["image"]),
                *(
                    "-" if number is None else f"{number:.{n}f}"
                    for number, n in zip(numbers, digits, strict=True)
                ),
            ]
        )
    width = max(len(line[0]) for line in lines)
    return "".join(
        f"{line[0]:{width}}" + "".join(f"{cell:>11}" for cell in line[1:]) + "\n"
        for line in lines
    )


# --- the picture ------------------------------------------------------------------


def _picture(
    found: Mapping[str, Contrast], beside: Contrast | Cohort | None, suffix: str
) -> bytes:
    """Draw each scan's histograms against the uniform one."""
    import numpy as np
    from matplotlib.figure import Figure

    from .._contrast import BINS

    figure = Figure(figsize=(8, 0.6 + 1.9 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, 1, BINS + 1)
    for panel, (name, one) in zip(axes, found.items(), strict=True):
        of_uniform = BINS * one.foreground.p
        panel.stairs(of_uniform, edges, fill=True, color="#7aa6c2", label="foreground")
        panel.stairs(BINS * one.whole.p, edges, color="#444444", label="all voxels")
        if beside is not None:
            panel.stairs(
                BINS * beside.foreground.p, edges, color="#c0392b", label="reference"
            )
        panel.axhline(1, color="black", linewidth=0.8, linestyle="--", label="uniform")
        panel.set_ylim(0, 1.1 * max(2.0, float(of_uniform.max())))
        panel.set_ylabel("times uniform")
        panel.set_title(
            f"{Path(name).name}: score {one.score:.2f}, "
            f"KL {one.foreground.divergence:.2f} bits",
            fontsize="medium",
            loc="left",
        )
    axes[0].legend(fontsize="small", ncols=4, loc="upper right")
    axes[-1].set_xlabel("grey level, from the low to the high end of the range")
    picture = io.BytesIO()
    figure.savefig(picture, format=suffix, dpi=120)
    return picture.getvalue()
