# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg inspect``: what the headers of one image or a pair say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .._files.records import to_json
from .command import Command
from .common import read_volume_choice, say, say_note, show_rows

if TYPE_CHECKING:
    from .._image import Image, VolumeChoice
    from .._preflight import ImageReport, PairReport

#: Where a voxel axis can point.
_TO = {
    **{"R": "right", "L": "left", "A": "front", "P": "back"},
    **{"S": "top", "I": "bottom"},
}

#: What the codes of a NIfTI header say that its coordinates are.
_CODES = ("not set", "the scanner's", "another scan's", "Talairach's", "MNI's")


@click.command(cls=Command, short_help="Say what the headers of one scan or two say.")
@click.argument("images", nargs=-1, type=click.Path(), metavar="IMAGE [IMAGE]")
@click.option(
    "--volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of 4-D images, from 0 [mean].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    *, images: tuple[str, ...], volume: VolumeChoice | None, as_json: bool
) -> None:
    """Say what the headers of one scan or a pair say, and what register makes of it.

    Nothing is written or changed. Notes are about what is odd; mireg register finds
    the same, tells it, and puts it into its record.

    \b
    Example:
      mireg inspect t1.nii.gz bold.nii.gz
    """
    if not 1 <= len(images) <= 2:
        raise click.UsageError("give one image, or a fixed and a moving one")
    from .. import _preflight as preflight

    scans = [_read(path, volume) for path in images]
    reports = [preflight.inspect_image(scan) for scan in scans]
    pair = preflight.inspect_pair(scans[0], scans[1]) if len(scans) > 1 else None
    if as_json:
        record = {
            "images": [asdict(report) for report in reports],
            "pair": None if pair is None else asdict(pair),
        }
        say(to_json(record), nl=False)
        return
    for path, report in zip(images, reports, strict=True):
        show_rows(f"{path}:", _image_rows(report), err=False)
    if pair is not None:
        show_rows("by their headers:", _pair_rows(pair), err=False)
    for note in [*(n for report in reports for n in report.notes), *_notes(pair)]:
        say_note(note, err=False)


def _read(path: str, volume: VolumeChoice | None) -> Image:
    """Read an image, even one that could not be registered."""
    from .._files import formats

    return formats.take_volume(formats.open_nibabel(path), volume)


def _image_rows(report: ImageReport) -> dict[str, str]:
    """Tell of one image, in words."""
    several = "" if report.volumes == 1 else f", {report.volumes} volumes"
    ways = ", ".join(_TO[letter] for letter in report.axes)
    hand = "right" if report.right_handed else "left"
    turned = []
    if report.oblique_deg > 0.01:
        turned.append(f"oblique by {report.oblique_deg:.2f} degrees")
    if report.shear_deg > 0.01:
        turned.append(f"sheared by {report.shear_deg:.2f} degrees")
    grid = f"{_by(report.shape)} voxels of {_by(report.voxel_size_mm)} mm"
    rows = {
        "file": f"{report.kind}, {report.voxel_type}",
        "grid": grid + several,
        "field of view": f"{_by(report.field_of_view_mm)} mm",
        "axes": f"{report.axes} (to the {ways}), {hand}-handed"
        + "".join(f"\n{how}; used as it is" for how in turned),
        "placed by": _placed_by(report),
    }
    if report.low is not None:
        rows["intensities"] = f"{report.low:g} to {report.high:g}"
    if report.no_data_fraction > 0:
        rows["no data"] = (
            f"{100 * report.no_data_fraction:.2g} % of the voxels; left out"
        )
    if report.contrast_bits is not None and report.structure is not None:
        rows["contrast"] = (
            f"{report.contrast_bits:.2f} bits from uniform (0 best, 4 nothing to see)\n"
            f"neighbours share {100 * report.structure:.0f} % of their information"
        )
    if report.useless is not None:
        rows["refused"] = report.useless
    return rows


def _placed_by(report: ImageReport) -> str:
    """Tell which part of the header says where the image is."""
    if report.sform_code is None or report.qform_code is None:
        return "its affine"
    forms = {"sform": report.sform_code, "qform": report.qform_code}
    used = next((name for name, code in forms.items() if code > 0), None)
    if used is None:
        return "nothing: both codes are 0"
    said = f"the {used}, in {_code(forms[used])} coordinates"
    apart = report.qform_sform_mm
    if apart is not None:
        here = "agrees" if apart < 0.1 else f"is up to {apart:.3g} mm away"
        said += f"\nthe qform ({_code(report.qform_code)}) {here}"
    elif used == "sform":
        said += (
            f"; the qform is {'not set' if not report.qform_code else 'no rotation'}"
        )
    return said


def _code(code: int) -> str:
    """Say what coordinates a code of a NIfTI header means."""
    return _CODES[code] if code < len(_CODES) else f"code {code}"


def _pair_rows(pair: PairReport) -> dict[str, str]:
    """Tell of a pair, in words."""
    share = f"{100 * pair.overlap_fraction:.0f} % of the smaller field of view"
    return {
        "overlap": f"{pair.overlap_mm3:,.0f} mm3, {share}",
        "centres": f"{pair.centres_apart_mm:.2f} mm apart",
    }


def _notes(pair: PairReport | None) -> tuple[str, ...]:
    """Give what is odd about a pair, if there is one."""
    return () if pair is None else pair.notes


def _by(numbers: Iterable[float]) -> str:
    """Write three lengths."""
    return " x ".join(f"{number:.4g}" for number in numbers)
