# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg convert``: a transform from one program's file to another's, and in words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable, warn
from .._files.records import to_json
from .._report.words import in_directions
from .chain import composed, composed_series
from .command import Command
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

    from .._image import Image
    from .._transform import Transform

    FloatArray = npt.NDArray[np.float64]

#: Kinds of files that hold the transforms of a series only.
_SERIES_ONLY = ("par", "volreg")

#: Radius, mm, of the head that is thought of when there is no image.
_HEAD_MM = 80

#: Signs of the axes of frames against RAS.
_FRAMES = {"ras": (1, 1, 1), "lps": (-1, -1, 1)}

#: Names of options of version 0.1.
_OLD_NAMES = {"--invert": "--inverse", "--to": "--transform-format"}

#: How a turn about the axes to the right, forward and up shows, right hand.
_TURNS = (
    ("nose up", "nose down"),
    ("top to the right", "top to the left"),
    ("face to the left", "face to the right"),
)


@dataclass(frozen=True)
class _Point:
    """A point and the frame that it was given in.

    Attributes
    ----------
    frame : str
        "ras" or "lps".
    given : tuple of float
        Its numbers there, mm.
    """

    frame: str
    given: tuple[float, ...]

    @property
    def ras(self) -> list[float]:
        """The point in RAS+ mm."""
        return self.in_frame(self.given)

    def in_frame(self, numbers: Iterable[float]) -> list[float]:
        """Take a vector from RAS+ to this frame, or back: the same signs do both."""
        signs = _FRAMES[self.frame]
        return [sign * x + 0.0 for sign, x in zip(signs, numbers, strict=True)]


def _read_centre(_context: Any, _option: Any, value: str | None) -> _Point | None:
    """Read a point with its frame."""
    if value is None:
        return None
    frame, _, numbers = value.partition(":")
    try:
        given = tuple(map(float, numbers.split(",")))
    except ValueError:
        given = ()
    if frame.lower() not in _FRAMES or len(given) != 3 or not all(map(isfinite, given)):
        raise click.BadParameter(
            f"{value!r} is not ras:X,Y,Z or lps:X,Y,Z, mm: +x is to the right in RAS, "
            "to the left in LPS (DICOM)"
        )
    return _Point(frame.lower(), given)


class _Convert(Command):
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
    "--then",
    type=click.Path(),
    multiple=True,
    metavar="T",
    help="Put T behind IN, in the order in which the image travels; several times for "
    "more. F is then the image that the last one leads to, M that IN begins with.",
)
@click.option(
    "--from",
    "from_format",
    type=click.Choice((*FORMAT_NAMES, *_SERIES_ONLY)),
    help="Format of IN and T [by their content and names].",
)
@click.option(
    "--transform-format",
    "to_format",
    metavar="FORMAT",
    type=click.Choice((*FORMAT_NAMES, *_SERIES_ONLY)),
    help="Format of OUT [by its name; from .mat to .mat that of IN].",
)
@click.option("--inverse", is_flag=True, help="Turn it round: it brings F onto M.")
@click.option(
    "--centre",
    callback=_read_centre,
    metavar="ras:X,Y,Z|lps:X,Y,Z",
    help="Say the shift at this point of F (of M with --inverse), mm, such as an "
    "isocentre; lps is DICOM's frame [the centre of the anatomy].",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notes and errors.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
def convert(
    *,
    transform: str,
    out: str | None,
    fixed: str | None,
    moving: str | None,
    then: Sequence[str],
    from_format: str | None,
    to_format: str | None,
    inverse: bool,
    centre: _Point | None,
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

    Files of FSL or AFNI that follow each other need no image between. The image is
    moved the other way than points are, so "image moved" is told besides: by it M comes
    onto F, turned about the centre that is named, then shifted.

    \b
    Examples:
      mireg convert bold_to_t1.tfm bold_to_t1.lta --fixed t1.nii.gz --moving bold.nii.gz
      mireg convert flirt.mat --fixed t1.nii.gz --moving bold.nii.gz
      mireg convert bold_to_t1.tfm --then t1_to_mni.tfm bold_to_mni.tfm
      mireg convert mr_to_ct.tfm --fixed ct.nii.gz --centre lps:-12.5,40,-88
    """
    chain = [transform, *then]
    inputs = [Path(path) for path in (*chain, fixed, moving) if path]
    if out is not None:
        check_outputs([Path(out)], inputs, force=force)
    from .._files.formats import read_grid, warn_of
    from .._files.transforms.series import holds_series

    if from_format in _SERIES_ONLY or any(map(holds_series, chain)):
        if centre is not None:
            raise InputError(
                "--centre is for one transform, not for a series; leave it out"
            )
        _convert_series(
            chain,
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
            f"{transform}: holds one transform, and --transform-format {to_format} is "
            "for a series; choose another"
        )
    found, name = composed(chain, moving, fixed, from_format)
    if out is not None and to_format is None and _both_mat(transform, out):
        to_format = name  # FSL's stays FSL's
    if inverse:
        found, fixed, moving = ~found, moving, fixed
    with notes_told():
        points, over = _anatomy(fixed)
        if centre is not None:
            points[0] = centre.ras
            if fixed is not None:
                _note_outside(centre, read_grid(fixed), fixed)
        if moving is not None:  # it is spoken of, so it must be there
            warn_of(read_grid(moving))
    if out is not None:
        found.save(out, fixed=fixed, moving=moving, format=to_format, force=force)
    record = {
        "file": transform,
        "then": list(then),
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
        _say(record, found, centre)


def _both_mat(*paths: str) -> bool:
    return all(path.lower().endswith(".mat") for path in paths)


def _convert_series(
    chain: Sequence[str],
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
        series_content,
        series_format,
        series_format_to_write,
    )
    from .._series_results import write_content
    from .._transform import AffineTransform

    with notes_told():
        matrices = composed_series(chain, images[1], images[0], from_format)
        points, over = _anatomy(images[0])
    if inverse:
        matrices, images = inverses(matrices), (images[1], images[0])
    if out is not None:
        row = series_format(to_format) if to_format else series_format_to_write(out)
        with in_file(out):
            content = series_content(row.name, matrices, Images(*images))
        write_content(Path(out), content, force=force)
    away = [AffineTransform(m).displacements(points[1:]) for m in matrices]
    record = {
        "file": chain[0],
        "then": list(chain[1:]),
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
        show_rows(f"{', then '.join(chain)}, {len(matrices)} volumes:", rows, err=False)


def _anatomy(fixed: str | None) -> tuple[FloatArray, str]:
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
    ), f"the anatomy in {fixed}"


def _note_outside(centre: _Point, image: Image, name: str) -> None:
    """Warn of a centre that lies outside the image."""
    from .._image import are_inside

    if not are_inside(image, centre.ras):
        warn(
            f"--centre lies outside {name}; check its frame and unit, and that it is "
            "not counted from an origin of the planning system's"
        )


def _motion(transform: Transform, points: FloatArray) -> dict[str, Any]:
    """Put a transform into numbers that people know, about the first of the points."""
    import numpy as np

    from .._transform import RigidTransform

    matrix = transform.matrix
    stretch = np.linalg.svd(matrix[:3, :3])[1]
    turn, angles = _turn(matrix)
    shifts = transform.apply(points) - points
    distances = np.linalg.norm(shifts[1:], axis=1)
    back = ~transform
    return {
        "rigid": isinstance(transform, RigidTransform),
        "mirrors": bool(np.linalg.det(matrix[:3, :3]) < 0),
        "stretch": stretch[::-1].tolist(),
        "rotation_deg": turn,
        "rotation_about_right_forward_up_deg": angles,
        "centre_mm": points[0].tolist(),
        "translation_of_centre_mm": shifts[0].tolist(),
        "image_rotation_about_right_forward_up_deg": _turn(back.matrix)[1],
        "image_translation_mm": (back.apply(points[0]) - points[0]).tolist(),
        "mean_displacement_mm": float(distances.mean()),
        "max_displacement_mm": float(distances.max()),
    }


def _turn(matrix: FloatArray) -> tuple[float, list[float]]:
    """Give a rotation's angle and its turns about the axes, degrees.

    The rotation is the nearest one if the matrix also stretches.
    """
    import numpy as np
    from scipy.spatial.transform import Rotation

    left, _, right = np.linalg.svd(matrix[:3, :3])
    mirrors = np.linalg.det(matrix[:3, :3]) < 0
    unflipped = np.diag([-1.0 if mirrors else 1.0, 1, 1])
    turn = Rotation.from_matrix(left @ right @ unflipped)
    with warnings.catch_warnings():  # at 90 degrees forward the last one is 0, of many
        warnings.simplefilter("ignore", UserWarning)
        angles = turn.as_euler("xyz", degrees=True)
    return float(np.rad2deg(turn.magnitude())), angles.tolist()


def _turns(angles: Sequence[float]) -> str:
    """Say turns about the axes as they look."""
    return ", ".join(
        f"{abs(angle):.2f} {plus if angle >= 0 else minus}"
        for angle, (plus, minus) in zip(angles, _TURNS, strict=True)
    )


def _say(record: dict[str, Any], transform: Transform, centre: _Point | None) -> None:
    """Tell people what a transform does."""
    fixed, moving = record["fixed"], record["moving"]
    if fixed and moving and Path(fixed).name != Path(moving).name:
        fixed, moving = Path(fixed).name, Path(moving).name
    roles = ["the fixed image", "the moving image"]
    if record["inverted"]:  # they have changed places
        roles.reverse()
    fixed, moving = printable(fixed or roles[0]), printable(moving or roles[1])
    over = printable(record["displacement_over"])
    moved = record["image_translation_mm"]
    about = "that centre" if any(record["centre_mm"]) else "the origin"
    vector = ""
    if centre is not None:
        numbers = ", ".join(f"{round(x, 2) + 0.0:.2f}" for x in centre.in_frame(moved))
        vector = f",\nas {centre.frame.upper()} mm: {numbers}"
    rows = {
        "maps": f"points of {fixed}\nto points of {moving},\n"
        f"so it brings {moving}\nonto {fixed}",
        "rotation": f"{record['rotation_deg']:.2f} degrees:\n"
        f"{_turns(record['rotation_about_right_forward_up_deg'])},\n"
        "turned in this order about fixed axes to the right, forward and up",
        "translation": translations(
            transform,
            record["centre_mm"],
            f"the centre of {over}" if centre is None else "the centre given",
        ),
        "image moved": f"{moving} is turned about {about}:\n"
        f"{_turns(record['image_rotation_about_right_forward_up_deg'])},\n"
        f"then shifted by {hypot(*moved):.2f} mm ({in_directions(moved)}){vector}",
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
    what = ", then ".join([record["file"], *record["then"]])
    show_rows(f"{what} ({record['format']}{also}):", rows, err=False)
