# scikit-image has no types:
# mypy: disallow-untyped-calls=False
"""A mosaic of slices: each image with the contours of the other one."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.measure import find_contours

from .._errors import InputError
from .._files.formats import ImageLike
from .._image import Image
from .._picture import LETTERS, PLANES, Pixels, Plane, grey, planes
from .._prepare import PreparedImage, prepare
from .._transform import TransformLike, as_transform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

#: Colours of the contours of the fixed and of the moving image.
_FIXED, _MOVING = "#56b4e9", "#ff8c00"

#: Pixels along the longest side of the box that is shown.
_PIXELS = 220

#: Pixels by which an image is smoothed before its contours are drawn, and how long a
#: contour is at least: shorter ones are noise.
_SMOOTH, _SHORTEST = 1.0, 16

#: Room around what is shown, as a share of its length.
_RIM = 0.06

#: A part of the foreground that is not joined to the largest one belongs to the anatomy
#: from this share of its size on: two legs do, a table or a speck does not. Where the
#: parts that do hold less than `_WHOLE` of the foreground, it is all in pieces.
_PART, _WHOLE = 0.5, 0.5

#: Shown is the part of the head that both images have, as no neck below an EPI, unless
#: it is less than this share: then a pose is wrong, and the whole head says how.
_COMMON = 0.05

#: Comes with matplotlib; its I has serifs, and is no bar.
_FONT = "DejaVu Sans Mono"

#: Width of the dark line round letters, so that they can be read on anything.
_HALO = 2.5

#: Of the picture, in inches: its width, unless few slices need less but for the
#: heading; the width of a slice at most; gaps, the margin and the heading.
_WIDTH, _LEAST_WIDTH, _SLICE = 11.0, 6.0, 2.5
_GAP, _MARGIN, _HEADING = 0.03, 0.3, 0.45


@dataclass(frozen=True, eq=False)
class _Row:
    """Slices of one image with the contours of another one.

    `under` and `over` say which, by their place in `Plane.pixels`: 0 the fixed image, 1
    the moving one, 2 that one where its header puts it.
    """

    label: str
    under: int
    over: int


def show(
    fixed: ImageLike,
    moving: ImageLike,
    moving_from_fixed: TransformLike | None = None,
    *,
    slices: int = 7,
) -> Figure:
    """Draw two images as a mosaic of slices, each with the contours of the other.

    Parameters
    ----------
    fixed, moving : Image, PreparedImage, path, nibabel image, SimpleITK image or tuple
        Two scans; a tuple is (array, affine).
    moving_from_fixed : transform, (4, 4) array_like or path, optional
        Maps points of `fixed` to points of `moving`, RAS+ mm (default: the images lie
        as their headers say). With one, the moving image is shown before, too.
    slices : int, optional
        How many slices in each of the three planes.

    Returns
    -------
    matplotlib.figure.Figure
        Planes lie along the axes of the world, so all is in true proportion, and what
        is on the right of a picture is on the right of the patient, or in front. Each
        slice has axes of its own, in mm.

    Raises
    ------
    InputError
        If matplotlib is not installed, `slices` is below 1, or an image or a transform
        cannot be used.

    Examples
    --------
    ::

        figure = mireg.show("t1.nii.gz", "bold.nii.gz", "bold_to_t1.tfm")
        figure.savefig("bold_to_t1.png", dpi=150)
    """
    make = _matplotlib()
    if slices < 1:
        raise InputError(f"slices is {slices}; draw 1 or more in each plane")
    both = prepare(fixed), prepare(moving)
    pose = np.eye(4)
    if moving_from_fixed is not None:
        images = both[0].image, both[1].image
        pose = as_transform(moving_from_fixed, fixed=images[0], moving=images[1]).matrix
    cut = _cut(both, pose, slices)
    rows = [_Row("", 0, 1), _Row("", 1, 0)]
    if moving_from_fixed is not None:
        rows = [_Row("before", 0, 2), _Row("after", 0, 1), _Row("after", 1, 0)]
    grid = [cut[i : i + slices] for i in range(0, len(cut), slices)]
    figure, axes = _layout(make, grid, len(rows))
    levels = [_levels(one) for one in both]
    greys = [one.scale.ends for one in both]  # as on the page
    for line, (shown, row) in zip(axes, product(grid, rows), strict=True):
        for panel, plane in zip(line, shown, strict=True):
            panel.imshow(
                grey(plane.pixels[row.under], *greys[row.under]).T,
                cmap="gray",
                vmin=0,
                vmax=1,
                origin="lower",
                extent=plane.extent_mm,
                interpolation="bilinear",
            )
            _draw_contours(panel, plane, row.over, levels[min(row.over, 1)])
        _label(line, shown, row)
        if row is rows[0]:
            _mark(line, shown)
    _scale_bar(axes[-1][-1], grid[-1][-1])
    names = _names(*(one.image for one in both))
    _heading(figure, names, with_before=moving_from_fixed is not None)
    return figure


def picture(figure: Figure, path: str | Path) -> bytes:
    """Give the content of a picture file; its suffix says which kind."""
    kind = Path(path).suffix[1:].lower()
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, facecolor=figure.get_facecolor())
    return file.getvalue()


def _matplotlib() -> type[Figure]:
    """Import what draws, which is not installed by default."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            "pictures need matplotlib, which is not installed; get it by: pip install "
            "matplotlib"
        ) from error
    return Figure


# --- what is shown ----------------------------------------------------------------


def _cut(
    both: tuple[PreparedImage, PreparedImage],
    pose: FloatArray,
    slices: int,
) -> list[Plane]:
    """Cut slices through the head of the fixed image where the moving one is, too.

    Nothing is shown of what lies beyond, but for a rim. Each slice shows the fixed
    image, the moving one, and that one where its header puts it.
    """
    fixed, moving = (one.image for one in both)
    points, reach = _anatomy(both[0])
    moved = moving.to_ijk(points @ pose[:3, :3].T + pose[:3, 3])
    inside = ((moved > -0.5) & (moved < np.array(moving.shape) - 0.5)).all(axis=1)
    common = points[inside] if inside.any() else points
    seen = common if len(common) > _COMMON * len(points) else points
    low, high = np.percentile(seen, reach, axis=0)
    rim = _RIM * (high - low).max()
    field = fixed.to_mm(
        np.indices((2, 2, 2)).reshape(3, 8).T * np.array(fixed.shape) - 0.5
    )
    low = np.maximum(low - rim, field.min(axis=0))
    high = np.minimum(high + rim, field.max(axis=0))
    first, last = np.percentile(common, [0.5, 99.5], axis=0)
    positions = np.linspace(first, last, slices + 2)[1:-1].T
    images = [(fixed, np.eye(4)), (moving, pose), (moving, np.eye(4))]
    return planes(images, low, high, positions, float((high - low).max()) / _PIXELS)


def _anatomy(prepared: PreparedImage) -> tuple[FloatArray, tuple[float, float]]:
    """Take the large parts of the foreground, (n, 3), and how much of them is shown.

    All, to the tip of the nose, as percentiles of their points; of what is in pieces
    all but a few, since some of those are noise.
    """
    grid, points = prepared.low_resolution, prepared.foreground.points
    foreground = np.zeros(grid.shape, bool)
    foreground[tuple(np.rint(grid.to_ijk(points)).astype(int).T)] = True
    parts, _ = ndimage.label(foreground)
    sizes = np.bincount(parts[foreground])
    large = foreground & (sizes[parts] >= _PART * sizes.max())
    if large.sum() < _WHOLE * len(points):
        return points, (0.5, 99.5)
    return grid.to_mm(np.argwhere(large)), (0.0, 100.0)


def _names(fixed: Image, moving: Image) -> tuple[str, str]:
    """Say what the two are called."""
    sources = (("fixed", fixed.source), ("moving", moving.source))
    named = [
        Path(source.path).name if source and source.path else f"the {role} image"
        for role, source in sources
    ]
    return named[0], named[1]


def _levels(prepared: PreparedImage) -> list[float]:
    """Choose the intensities of the contours: round the head, and of what is bright."""
    scale, data = prepared.scale, prepared.low_resolution.data
    values = np.clip(data[np.isfinite(data)], scale.low, scale.high)
    count = min(4, len(np.unique(values)))
    if count < 2:
        return []
    classes = np.digitize(values, threshold_multiotsu(values, classes=count))
    means = [values[classes == i].mean() for i in range(count)]
    # Half way, where an edge is; the threshold may lie anywhere between two classes.
    pairs = {(0, 1), (count - 2, count - 1)}
    return [float(means[i] + means[j]) / 2 for i, j in sorted(pairs)]


def contours(plane: Plane, image: int, levels: Sequence[float]) -> list[FloatArray]:
    """Trace the lines where an image has these intensities.

    Parameters
    ----------
    plane : Plane
        Where.
    image : int
        Which of its images.
    levels : sequence of float
        Intensities.

    Returns
    -------
    list of (n, 2) ndarray
        Points along each line, mm along the two axes of the plane.
    """
    smooth = _smoothed(plane.pixels[image])
    lines = [line for level in levels for line in find_contours(smooth, level)]
    return [
        plane.low_mm + plane.step_mm * line
        for line in lines
        if np.linalg.norm(np.diff(line, axis=0), axis=1).sum() > _SHORTEST
    ]


def _smoothed(pixels: Pixels) -> FloatArray:
    """Smooth what there is; NaN stays."""
    missing = np.isnan(pixels)
    share = ndimage.gaussian_filter((~missing).astype(float), _SMOOTH)
    smooth = ndimage.gaussian_filter(np.nan_to_num(pixels).astype(float), _SMOOTH)
    return np.where(missing, np.nan, smooth / np.maximum(share, 1e-9))


# --- how it is drawn ---------------------------------------------------------------


def _layout(
    make: type[Figure], grid: Sequence[Sequence[Plane]], rows: int
) -> tuple[Figure, list[list[Axes]]]:
    """Place axes for all slices, of one scale, `rows` rows for each kind of plane."""
    sizes = []
    for plane_slices in grid:
        left, right, bottom, top = plane_slices[0].extent_mm
        sizes.append((right - left, top - bottom))
    columns = len(grid[0])
    cell = min((_WIDTH - _MARGIN) / columns, _SLICE)
    wide = max(_MARGIN + cell * columns, _LEAST_WIDTH)
    scale = (cell - _GAP) / max(width for width, _ in sizes)
    heights = [height * scale + _GAP for _, height in sizes for _ in range(rows)]
    tall = _HEADING + sum(heights) + _MARGIN * len(grid) / 2
    figure = make(figsize=(wide, tall), facecolor="black")
    axes, above = [], tall - _HEADING
    for i, height in enumerate(heights):
        above -= height
        width = sizes[i // rows][0] * scale
        line = []
        for column in range(columns):
            left = _MARGIN + column * cell + (cell - width) / 2
            place = (left / wide, above / tall)
            box = (*place, width / wide, (height - _GAP) / tall)
            line.append(figure.add_axes(box, facecolor="black"))
            line[-1].set_axis_off()
        axes.append(line)
        if i % rows == rows - 1:
            above -= _MARGIN / 2
    return figure, axes


def _draw_contours(
    panel: Axes, plane: Plane, image: int, levels: Sequence[float]
) -> None:
    """Draw the contours of one image."""
    from matplotlib.collections import LineCollection  # noqa: PLC0415, an extra

    colour = _MOVING if image else _FIXED
    lines = contours(plane, image, levels)
    panel.add_collection(LineCollection(lines, colors=colour, linewidths=0.6))
    left, right, bottom, top = plane.extent_mm
    panel.set_xlim(left, right)
    panel.set_ylim(bottom, top)


def _label(axes: Sequence[Axes], shown: Sequence[Plane], row: _Row) -> None:
    """Name the ends of the axes at the first slice, and the row beside it."""
    halo = _halo()
    across, up = (LETTERS[axis] for axis in PLANES[shown[0].name])
    for letter, x, y, ha, va in (
        (across[0], 0.02, 0.5, "left", "center"),
        (across[1], 0.98, 0.5, "right", "center"),
        (up[0], 0.5, 0.02, "center", "bottom"),
        (up[1], 0.5, 0.98, "center", "top"),
    ):
        axes[0].text(
            x,
            y,
            letter,
            transform=axes[0].transAxes,
            color="white",
            path_effects=halo,
            fontsize=9,
            fontfamily=_FONT,
            ha=ha,
            va=va,
        )
    axes[0].text(
        -0.03,
        0.5,
        row.label,
        transform=axes[0].transAxes,
        color=_MOVING if row.over else _FIXED,
        fontsize=8,
        rotation=90,
        ha="right",
        va="center",
    )


def _halo() -> list[Any]:
    """Draw a dark line round what stands over contours."""
    from matplotlib.patheffects import withStroke  # noqa: PLC0415, an extra

    return [withStroke(linewidth=_HALO, foreground="black")]


def _mark(axes: Sequence[Axes], shown: Sequence[Plane]) -> None:
    """Say where each slice lies."""
    for panel, plane in zip(axes, shown, strict=True):
        low, high = LETTERS[plane.axis]
        digits = 0 if plane.step_mm * _PIXELS > 50 else 1  # of a head, or of a mouse
        place = round(plane.position_mm, digits)
        panel.text(
            0.98,
            0.02,
            f"{high if place >= 0 else low} {abs(place):.{digits}f}",
            transform=panel.transAxes,
            color="#eeeeee",
            fontsize=6.5,
            fontfamily=_FONT,
            ha="right",
            va="bottom",
            # Over the contours, on a ground that makes it readable on white, too.
            bbox={"facecolor": (0, 0, 0, 0.75), "edgecolor": "none", "pad": 1.2},
            zorder=5,
        )


def _scale_bar(panel: Axes, plane: Plane) -> None:
    """Draw a bar of a round length at the lower right."""
    halo = _halo()
    left, right, bottom, top = plane.extent_mm
    length = round_length(0.45 * (right - left))
    x, y = right - 0.04 * (right - left), bottom + 0.04 * (top - bottom)
    (bar,) = panel.plot([x - length, x], [y, y], color="white", linewidth=1.5)
    bar.set_path_effects(halo)
    panel.annotate(
        f"{length:g} mm",
        (x - length / 2, y),
        xytext=(0, 2),
        textcoords="offset points",
        color="white",
        path_effects=halo,
        fontsize=6,
        ha="center",
    )


def round_length(at_most: float) -> float:
    """Choose 1, 2 or 5 times a power of ten, no longer than so much.

    Examples
    --------
    >>> round_length(72), round_length(4.9), round_length(0.1)
    (50.0, 2.0, 0.1)
    """
    power = 10.0 ** math.floor(math.log10(at_most) + 1e-9)
    return max(n * power for n in (1, 2, 5) if n * power <= at_most * (1 + 1e-9))


def _heading(figure: Figure, names: tuple[str, str], *, with_before: bool) -> None:
    """Say what is shown; names are text and nothing else."""
    wide, tall = figure.get_size_inches()
    words = [
        (f"contours of {names[1]} on {names[0]}", _MOVING),
        (f"contours of {names[0]} on {names[1]}", _FIXED),
    ]
    if with_before:
        words[0] = f"{words[0][0]}, before and after", _MOVING
    for i, (line, colour) in enumerate(words):
        figure.text(
            _MARGIN / wide,
            1 - (0.12 + 0.17 * i) / tall,
            line,
            color=colour,
            fontsize=8,
            va="center",
            parse_math=False,
        )
    figure.text(
        1 - 0.05 / wide,
        1 - 0.12 / tall,
        "right is right",
        color="#bbbbbb",
        fontsize=7,
        ha="right",
        va="center",
    )
