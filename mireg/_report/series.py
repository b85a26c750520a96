"""A page on a series: a film before and after, the motion, a carpet.

The film shows one slice of each plane, small: enough to see what moves and what does
not.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from .. import _threads
from .._image import Image
from .._resample import resample
from . import panels, volumes
from .document import asset, data_url, document, text
from .page import MOST_BYTES, versions

FloatArray = npt.NDArray[np.float64]

#: Frames at most; of more volumes every so many are shown.
MOST_FRAMES = 200

#: Voxels of the grid that the slices are from: about 96 along each side.
_MOST_VOXELS = 96.0**3

#: Names of the planes, the axes that run to the right and up, and the one through.
_PLANES = (("axial", 0, 1, 2), ("coronal", 0, 2, 1), ("sagittal", 1, 2, 0))

#: Shares of the intensities that are black and white.
_BLACK, _WHITE = 1.0, 99.7

#: Sides of a chart, and where its curves are.
_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640.0, 120.0, 60.0, 630.0, 8.0, 100.0


def frames(count: int, most: int = MOST_FRAMES) -> list[int]:
    """Choose the volumes that are shown.

    Examples
    --------
    >>> frames(4), frames(1000, 3)
    ([0, 1, 2, 3], [0, 334, 668])
    """
    return list(range(0, count, -(-count // most)))


def film(
    shown: Iterable[Image],
    numbers: Sequence[int],
    volume_from_page: FloatArray,
    still_from_page: FloatArray,
    over: Image,
    place_mm: FloatArray,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Make the film, as plain data.

    Parameters
    ----------
    shown : iterable of Image
        The volumes that are shown.
    numbers : sequence of int
        Which they are.
    volume_from_page : (n, 4, 4) array
        For each of them: maps points of the page, RAS+ mm of `over`, to points of the
        volume; of the film after.
    still_from_page : (4, 4) array
        The same for all, of the film before.
    over : Image
        Whose field of view the page covers.
    place_mm : (3,) array
        Where the slices meet.
    most_bytes, threads : int, optional
        As for a page on a pair.
    """
    threads = threads or _threads.available()
    grid = volumes.DisplayGrid.over(over, _MOST_VOXELS)
    slices = [_slice(grid, plane[3], place_mm) for plane in _PLANES]
    taken: list[list[npt.NDArray[np.float32]]] = [[] for _ in range(2 * len(_PLANES))]
    for volume, after in zip(shown, volume_from_page, strict=True):
        for p, pose in enumerate((still_from_page, after)):
            for k, (_, _, up, through) in enumerate(_PLANES):
                read = resample(
                    volume, slices[k], pose, antialias=False, threads=threads
                ).data.squeeze(axis=through)
                # Rows of pictures go down; of two axes left, `up` is the last one.
                assert up == max({0, 1, 2} - {through})
                taken[p * len(_PLANES) + k].append(read[:, ::-1])
    stacks = [np.stack(some, axis=-1) for some in taken]
    before = np.concatenate([one.ravel() for one in stacks[: len(_PLANES)]])
    before = before[np.isfinite(before)]
    low, high = np.percentile(before, (_BLACK, _WHITE)) if before.size else (0, 1)
    scale = 255 / max(float(high - low), 1e-6)
    grey = [
        np.clip(np.nan_to_num((one - low) * scale), 0, 255).astype(np.uint8)
        for one in stacks
    ]
    every, how = 1, None
    while how is None:
        addresses, how = volumes.packed([one[..., ::every] for one in grey], most_bytes)
        every *= 2
    every //= 2
    count = grey[0][..., ::every].shape[-1]
    planes = []
    for k, (name, right, _, _) in enumerate(_PLANES):
        shape = grey[k].shape
        planes.append(
            {
                "name": name,
                "left": ("left", "back", "down")[right],
                "shape": list(shape[:2]),
                "columns": volumes.columns((*shape[:2], count)),
                "tile": [volumes.tile(n) for n in shape[:2]],
                "sheets": {
                    "before": addresses[k],
                    "after": addresses[len(_PLANES) + k],
                },
            }
        )
    return {"planes": planes, "numbers": list(numbers)[::every], "packing": how}


def series_page(
    title: str,
    made: Mapping[str, Any],
    columns: Mapping[str, npt.NDArray[np.floating]],
    carpet: npt.NDArray[np.float32],
    facts: Mapping[str, str],
    *,
    lines: Mapping[str, float],
    repetition_time: float,
) -> str:
    """Lay a film and the motion into a page.

    Parameters
    ----------
    title : str
        What the series is called.
    made : mapping
        As `film` gives it.
    columns : mapping of str to (n,) array
        The table of motion.
    carpet : (voxels, n) array
        Intensities over time as z scores.
    facts : mapping of str to str
        What was found, in words.
    lines : mapping of str to float
        Thresholds of columns.
    repetition_time : float
        Between volumes, s; NaN if not known.
    """
    doubted = np.flatnonzero(columns["doubted"]).tolist()
    listed = ", ".join(map(str, doubted))
    verdict = {
        "doubtful": bool(doubted),
        "words": f"Doubted: volumes {listed}. Look at them."
        if doubted
        else "No volume is doubted. Look all the same.",
        "reasons": [],
    }
    unit = f"{repetition_time:.3g} s each" if repetition_time > 0 else "volumes"
    turns = {axis: np.rad2deg(columns[f"rot_{axis}"]) for axis in "xyz"}
    charts = [
        _chart("shift, mm", {axis: columns[f"trans_{axis}"] for axis in "xyz"}),
        _chart("rotation, degrees", turns),
    ]
    for name, words in (
        ("framewise_displacement", "framewise displacement, mm"),
        ("std_dvars", "standardised DVARS"),
        ("standard_error", "standard error, mm"),
    ):
        if name in columns:
            charts.append(_chart(words, {"": columns[name]}, lines.get(name)))
    charts.append(_carpet(carpet))
    laid = "".join(
        (
            panels.card("What was found", panels.table(facts.items())),
            panels.card(
                "Over time",
                "".join(charts),
                f"From left to right: {unit}. Curves of three colours: x, y, z of FSL. "
                "Dashed: thresholds of outliers. Carpet: intensities of the head, each "
                "row a voxel.",
                wide=True,
            ),
            panels.card(
                "Made by",
                f"<p>{text(versions(None))}; made "
                f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}</p>",
                wide=True,
            ),
        )
    )
    body = asset("series.html")
    for mark, markup in (
        ("TITLE", text(title)),
        ("VERDICT", panels.verdict_panel(verdict)),
        ("PANELS", laid),
    ):
        # Such a mark in a text from outside is escaped, so it is none.
        body = body.replace(f"<!-- {mark} -->", markup, 1)
    return document(
        title,
        body=body,
        style=asset("page.css"),
        script=asset("series.js"),
        data={"film": made},
    )


def _slice(grid: volumes.DisplayGrid, through: int, place_mm: FloatArray) -> Image:
    """Take one plane of the page's grid, through a place."""
    index = round(float((place_mm - grid.origin_mm)[through] / grid.step_mm))
    index = min(max(index, 0), grid.shape[through] - 1)
    mm_from_ijk = grid.image.mm_from_ijk.copy()
    mm_from_ijk[through, 3] += index * grid.step_mm
    shape = [1 if axis == through else n for axis, n in enumerate(grid.shape)]
    return Image(np.broadcast_to(np.float32(np.nan), shape), mm_from_ijk)


def _chart(
    title: str,
    curves: Mapping[str, npt.NDArray[np.floating]],
    threshold: float | None = None,
) -> str:
    """Draw curves over time; gaps where nothing is known."""
    ends = [] if threshold is None else [threshold]
    values = np.concatenate([*curves.values(), ends])
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if threshold is not None:
        low = min(low, 0.0)
    count = len(next(iter(curves.values())))
    step = (_RIGHT - _LEFT) / max(count - 1, 1)
    up = (_BOTTOM - _TOP) / ((high - low) or 1.0)
    drawn = ""
    for k, curve in enumerate(curves.values()):
        points = " ".join(
            f"{_LEFT + t * step:.1f},{_BOTTOM - (value - low) * up:.1f}"
            for t, value in enumerate(curve.tolist())
            if np.isfinite(value)
        )
        drawn += f'<polyline points="{points}" class="curve curve{k}"/>'
    if threshold is not None:
        y = _BOTTOM - (threshold - low) * up
        drawn += (
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'class="guide"/>'
        )
    drawn += (
        f'<line x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{_BOTTOM}" class="cursor" '
        f'data-left="{_LEFT}" data-step="{step:.4f}"/>'
        f'<text x="{_LEFT - 5}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 5}" y="{_BOTTOM}" text-anchor="end">{low:.3g}</text>'
    )
    spoken = text(f"{title}: {low:.3g} to {high:.3g}")
    return (
        f"<figure><h3>{text(title)}</h3>"
        f'<svg class="time" viewBox="0 0 {_WIDE:g} {_HIGH:g}" role="img" '
        f'aria-label="{spoken}">{drawn}</svg></figure>'
    )


def _carpet(rows: npt.NDArray[np.float32]) -> str:
    """Draw z scores over time as a picture."""
    if not rows.size:
        return ""
    grey = np.clip((rows + 2) / 4 * 255, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(grey).save(file, "PNG")
    return (
        '<figure><h3>carpet</h3><img class="carpet" '
        f'src="{data_url("image/png", file.getvalue())}" '
        'alt="Intensities of voxels of the head over time"></figure>'
    )
