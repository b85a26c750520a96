# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg convert``: a transform from one program's file to another's, and in words."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable
from .._files.records import to_json
from .common import (
    FORMAT_NAMES,
    check_outputs,
    notes_told,
    respelt,
    say,
    show_rows,
    translations,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._transform import Transform

    FloatArray = npt.NDArray[np.float64]

#: Kinds of files that hold the transforms of a series only.
_SERIES_ONLY = ("par", "volreg")

#: Radius, mm, of the head that is thought of when there is no image.
_HEAD_MM = 80

#: Names of options of version 0.1.
_OLD_NAMES = {"--invert": "--inverse", "--to": "--transform-format"}

#: How a turn about the axes to the right, forward and up shows, right hand.
_TURNS = (
    ("nose up", "nose down"),
    ("top to the right", "top to the left"),
    ("face to the left", "face to the right"),
)


class _Convert(click.Command):
    """A command whose options had other names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the old names."""
        return super().parse_args(ctx, respelt(args, _OLD_NAMES))


@click.command(
    cls=_Convert, short_help="Convert a transform file, and say what it does."
)
@click.argument("transform", type=click.Path(), metavar="IN")
@click.argument("out", type=click.Path(), required=False)
@click.option(
    "--fixed",
    type=click.Path(),
    metavar="F",
    help="The image that the other is brought onto.",
)
@click.option(
    "--moving", type=click.Path(), metavar="M", help="The image that is moved."
)
@click.option(
    "--from",
    "from_format",
    type=click.Choice((*FORMAT_NAMES, *_SERIES_ONLY)),
    help="Format of IN [by its content and name].",
)
@click.option(
    "--transform-format",
    "to_format",
    metavar="FORMAT",
    type=click.Choice((*FORMAT_NAMES, *_SERIES_ONLY)),
    help="Format of OUT [by its name].",
)
@click.option("--inverse", is_flag=True, help="Go from M to F instead.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notes and errors.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
def convert(
    *,
    transform: str,
    out: str | None,
    fixed: str | None,
    moving: str | None,
    from_format: str | None,
    to_format: str | None,
    inverse: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the transform in IN as another program's file OUT, and say what it does.

    Without OUT it is only said. F and M are the images that IN is between: it takes
    points of F to points of M, and so brings M onto F.

    \b
    Format   files                  needs F and M
      itk    .tfm .txt .h5 .mat     no             ITK, ANTs, 3D Slicer, fMRIPrep
      itk-rigid  .rigid.tfm         no             the same as VersorRigid3DTransform
      fsl    .mat                   yes            FSL (FLIRT)
      lta    .lta                   to write       FreeSurfer
      afni   .aff12.1D .1D          yes            AFNI
      x5     .x5                    no             BIDS X5
      json   .json                  no             mireg's record, truth.json
      dicom  .dicom.txt             no             4 x 4, M to F, LPS mm: DICOM
                                                   Spatial Registration, radiotherapy
      matrix .matrix.txt .txt       no             4 x 4, F to M, RAS+ mm
      npy    .npy                   no             the same from numpy

    Of a series, as mireg series writes it, all transforms are converted: itk, afni, x5
    and npy are one file then, fsl and lta a folder (OUT.mat with MAT_0000 and so on);
    par is the motion of MCFLIRT, volreg (.volreg.1D) that of 3dvolreg, both need F, M.

    \b
    Examples:
      mireg convert bold_to_t1.tfm bold_to_t1.lta --fixed t1.nii.gz --moving bold.nii.gz
      mireg convert flirt.mat --fixed t1.nii.gz --moving bold.nii.gz
    """
    inputs = [Path(path) for path in (transform, fixed, moving) if path]
    if out is not None:
        check_outputs([Path(out)], inputs, force=force)
    from .._files.formats import read_grid, warn_of
    from .._files.transforms import read_with_format
    from .._files.transforms.common import Images
    from .._files.transforms.series import holds_series
    from .._transform import as_transform

    if from_format in _SERIES_ONLY or holds_series(transform):
        _convert_series(
            transform,
            out,
            (fixed, moving),
            from_format,
            to_format,
            inverse=inverse,
            force=force,
            quiet=quiet,
            as_json=as_json,
        )
        return
    if to_format in _SERIES_ONLY:
        raise InputError(
            f"{transform}: one transform; --transform-format {to_format} is for a "
            "series"
        )
    matrix, name = read_with_format(transform, Images(fixed, moving), from_format)
    found = as_transform(matrix, name=transform)
    if inverse:
        found, fixed, moving = ~found, moving, fixed
    with notes_told():
        points, over = _head(fixed)
        if moving is not None:  # it is spoken of, so it must be there
            warn_of(read_grid(moving))
    if out is not None:
        found.save(out, fixed=fixed, moving=moving, format=to_format, force=force)
    record = {
        "file": transform,
        "format": name,
        "inverted": inverse,
        "written": out,
        "fixed": fixed,
        "moving": moving,
        "moving_from_fixed": found.matrix.tolist(),
        **_motion(found, points),
        "displacement_over": over,
    }
    if as_json:
        say(to_json(record), nl=False)
    elif not quiet:
        _say(record, found)


def _convert_series(
    transform: str,
    out: str | None,
    images: tuple[str | None, str | None],
    from_format: str | None,
    to_format: str | None,
    *,
    inverse: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Convert the transforms of a series, and say how far they go."""
    import numpy as np

    from .._files.faults import in_file
    from .._files.transforms.common import Images
    from .._files.transforms.series import (
        inverses,
        read_series_matrices,
        series_content,
        series_format,
        series_format_to_write,
    )
    from .._series_results import write_content
    from .._transform import AffineTransform

    with notes_told():
        matrices = read_series_matrices(transform, Images(*images), from_format)
        points, over = _head(images[0])
    if inverse:
        matrices, images = inverses(matrices), (images[1], images[0])
    if out is not None:
        row = series_format(to_format) if to_format else series_format_to_write(out)
        with in_file(out):
            content = series_content(row.name, matrices, Images(*images))
        write_content(Path(out), content, force=force)
    away = [AffineTransform(m).displacements(points[1:]) for m in matrices]
    record = {
        "file": transform,
        "volumes": len(matrices),
        "inverted": inverse,
        "written": out,
        "mean_displacement_mm": [float(one.mean()) for one in away],
        "max_displacement_mm": float(np.max(away)),
        "displacement_over": over,
        "moving_from_fixed": matrices.tolist(),
    }
    if as_json:
        say(to_json(record), nl=False)
    elif not quiet:
        farthest = int(np.argmax(record["mean_displacement_mm"]))
        rows = {
            "moves": f"{over} by {record['max_displacement_mm']:.2f} mm at most; "
            f"on average most in volume {farthest}: "
            f"{record['mean_displacement_mm'][farthest]:.2f} mm"
        }
        if out is not None:
            rows["written"] = out
        show_rows(f"{transform}, {len(matrices)} volumes:", rows, err=False)


def _head(fixed: str | None) -> tuple[FloatArray, str]:
    """Choose the points whose displacement is told, their centre first."""
    import numpy as np

    if fixed is None:
        axis = np.arange(-_HEAD_MM, _HEAD_MM + 1, 8.0)
        ball = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
        ball = ball[np.linalg.norm(ball, axis=1) <= _HEAD_MM]
        first = np.zeros((1, 3))
        return np.concatenate([first, ball]), f"a ball of {_HEAD_MM} mm at the origin"
    from .._files.formats import read_grid, read_image
    from .._prepare import prepare

    try:
        foreground = prepare(read_image(fixed)).foreground
    except InputError:  # constant, for instance: say it of the whole grid
        whole = read_grid(fixed)
        steps = np.indices((9, 9, 9)).reshape(3, -1).T / 8
        points = whole.to_mm(steps * (np.array(whole.shape) - 1))
        first = whole.centre_mm[None]
        return np.concatenate([first, points]), f"the field of view of {fixed}"
    return np.concatenate(
        [foreground.centroid[None], foreground.points]
    ), f"the head in {fixed}"


def _motion(transform: Transform, points: FloatArray) -> dict[str, Any]:
    """Put a transform into numbers that people know.

    The rotation is the nearest one if the transform also stretches.
    """
    import numpy as np
    from scipy.spatial.transform import Rotation

    from .._transform import RigidTransform

    matrix = transform.matrix
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    mirrors = bool(np.linalg.det(matrix[:3, :3]) < 0)
    unflipped = np.diag([-1.0 if mirrors else 1.0, 1, 1])
    turn = Rotation.from_matrix(left @ right @ unflipped)
    with warnings.catch_warnings():  # at 90 degrees forward the last one is 0, of many
        warnings.simplefilter("ignore", UserWarning)
        angles = turn.as_euler("xyz", degrees=True)
    shifts = transform.apply(points) - points
    distances = np.linalg.norm(shifts[1:], axis=1)
    return {
        "rigid": isinstance(transform, RigidTransform),
        "mirrors": mirrors,
        "stretch": stretch[::-1].tolist(),
        "rotation_deg": float(np.rad2deg(turn.magnitude())),
        "rotation_about_right_forward_up_deg": angles.tolist(),
        "centre_mm": points[0].tolist(),
        "translation_of_centre_mm": shifts[0].tolist(),
        "mean_displacement_mm": float(distances.mean()),
        "max_displacement_mm": float(distances.max()),
    }


def _say(record: dict[str, Any], transform: Transform) -> None:
    """Tell people what a transform does."""
    fixed, moving = record["fixed"], record["moving"]
    if fixed and moving and Path(fixed).name != Path(moving).name:
        fixed, moving = Path(fixed).name, Path(moving).name
    fixed = printable(fixed or "the fixed image")
    moving = printable(moving or "the moving image")
    turns = ", ".join(
        f"{abs(angle):.2f} {plus if angle >= 0 else minus}"
        for angle, (plus, minus) in zip(
            record["rotation_about_right_forward_up_deg"], _TURNS, strict=True
        )
    )
    over = printable(record["displacement_over"])
    rows = {
        "maps": f"points of {fixed}\nto points of {moving},\n"
        f"so it brings {moving}\nonto {fixed}",
        "rotation": f"{record['rotation_deg']:.2f} degrees:\n{turns},\n"
        "turned in this order about the axes to the right, forward and up",
        "translation": translations(
            transform, record["centre_mm"], f"the centre of {over}"
        ),
        "moves": f"{record['mean_displacement_mm']:.2f} mm on average, "
        f"{record['max_displacement_mm']:.2f} mm at most, over\n"
        f"{over}",
        "matrix": "\n".join(
            " ".join(f"{x + 0.0:12.6f}" for x in row)
            for row in record["moving_from_fixed"]
        ),
    }
    if record["mirrors"]:
        rows["not rigid"] = "it mirrors; the rotation is told as if after exchanging\n"
        rows["not rigid"] += "left and right"
    elif not record["rigid"]:
        low, *_, high = record["stretch"]
        rows["not rigid"] = f"it stretches by {low:.4f} to {high:.4f}"
    if record["written"]:
        rows["written"] = printable(record["written"])
    also = ", inverted" if record["inverted"] else ""
    show_rows(f"{record['file']} ({record['format']}{also}):", rows, err=False)
