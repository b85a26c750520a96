"""Draw the pictures of the README and the guide, from synthetic scans.

    python scripts/make_pictures.py

Each is of a synthetic pair, registered as well as it can be, as `mireg show` draws it,
shrunk for the web. They are written into ``mireg/guide/pictures``, and the page of the
gallery with them.
"""

from __future__ import annotations

import io
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image

import mireg
from mireg.cli import guide
from mireg.phantom import hard_pair, phantom_pair

PICTURES = guide.FOLDER / "pictures"

#: Height of a slice in pixels, and colours of a picture: a page should be light.
_HEIGHT, _COLOURS = 210, 80

#: Millimetres to the left become millimetres to the right.
_MIRROR = np.diag([-1.0, 1, 1, 1])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans of the gallery, and what they are to show."""

    name: str
    title: str
    fixed: mireg.Image
    moving: mireg.Image
    truth: mireg.RigidTransform | None
    why: str


def pairs() -> Iterator[Pair]:
    """Make the pairs of the gallery: right ones, wrong ones, and what hardly tells."""
    for name, kind, title, why in (
        (
            "slab",
            "slab",
            "A slab of EPI on a T1",
            "Only some slices of the head are in it.",
        ),
        ("ct", "ct", "A CT with table and metal on a T1", "The table is not the head."),
        ("spect", "spect", "SPECT on a T1", "Blur, noise and coarse voxels."),
    ):
        fixed, moving, truth, _ = hard_pair(kind, 1)
        yield Pair(name, title, fixed, moving, truth, why)
    size = {"fixed_voxel_size_mm": 2.0, "moving_voxel_size_mm": 2.0}
    one = phantom_pair("T1", "T2", seed=1, **size)
    other = phantom_pair("T1", "T2", seed=2, **size)
    yield Pair(
        "strangers",
        "Two people",
        one.fixed,
        other.moving,
        None,
        "A T1 of one head and a T2 of another: no rigid transform is right.",
    )
    mirrored = mireg.Image(one.moving.data, _MIRROR @ one.moving.mm_from_ijk)
    yield Pair(
        "mirrored",
        "One image is stored mirrored",
        one.fixed,
        mirrored,
        None,
        "Left is right in one of them, as a lost header can make it.",
    )
    fixed, moving, truth, _ = hard_pair("near-symmetric", 2, voxel_scale=1.5)
    yield Pair(
        "few_slices",
        "A mirrored head of six slices, nearly the same on both sides",
        fixed,
        _few_slices(mireg.Image(moving.data, _MIRROR @ moving.mm_from_ijk)),
        None,
        "What could tell left from right is hardly seen: so near to right are wrong "
        "answers that pass.",
    )
    fixed, moving, truth, _ = hard_pair("slab-surface-coil", 1)
    yield Pair(
        "surface_coil",
        "A slab of the back of the head, shaded by surface coils",
        fixed,
        moving,
        truth,
        "The coils' shading is larger than the contrast, and the slab is distorted: "
        "wrong poses explain more than the right one. Headers that are about right, "
        "with `--init header`, or a mask, help.",
    )
    noise = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    grid = np.diag([4.0, 4, 4, 1])
    grid[:3, 3] = -80
    yield Pair(
        "noise",
        "A head and noise",
        one.fixed,
        mireg.Image(noise, grid),
        None,
        "There is nothing to see in one of them.",
    )


def _few_slices(image: mireg.Image) -> mireg.Image:
    """Keep six slices from the middle."""
    first = image.shape[2] // 2 - 3
    offset = np.eye(4)
    offset[2, 3] = first
    return mireg.Image(image.data[:, :, first : first + 6], image.mm_from_ijk @ offset)


def strips(figure: object, rows: list[int], of: int) -> PIL.Image.Image:
    """Cut the slices out of a figure of `mireg.show`: planes beside each other.

    `of` rows belong to each plane, of which `rows` are taken.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="black")
    whole = PIL.Image.open(file).convert("RGB")
    cells = []
    for axes in figure.axes:
        (x0, y0), (x1, y1) = axes.get_position().get_points()
        left, right = round(x0 * whole.width), round(x1 * whole.width)
        top, bottom = round((1 - y1) * whole.height), round((1 - y0) * whole.height)
        cells.append(whole.crop((left, top, right, bottom)))
    scale = _HEIGHT / max(cell.height for cell in cells)  # all are of one scale
    cells = [
        cell.resize(
            (round(cell.width * scale), round(cell.height * scale)),
            PIL.Image.Resampling.LANCZOS,
        )
        for cell in cells
    ]
    lines = [[cells[of * plane + row] for plane in range(3)] for row in rows]
    width = sum(cell.width for cell in lines[0])
    picture = PIL.Image.new("RGB", (width, _HEIGHT * len(rows)))
    for i, line in enumerate(lines):
        left = 0
        for cell in line:
            picture.paste(cell, (left, i * _HEIGHT + (_HEIGHT - cell.height) // 2))
            left += cell.width
    return picture.quantize(_COLOURS)


def save(picture: PIL.Image.Image, name: str) -> None:
    """Write a picture of the guide."""
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


def before_and_after() -> None:
    """Draw the picture of the README, and of "Is it right?"."""
    pair = phantom_pair("T1", "EPI", seed=0)
    found = mireg.register(pair.fixed, pair.moving)
    figure = mireg.show(pair.fixed, pair.moving, found.transform, slices=1)
    save(strips(figure, [0, 1], of=3), "before_after")
    save(strips(figure, [1, 2], of=3), "right")


def gallery() -> None:
    """Draw the gallery, and write its page."""
    parts = [
        "# A gallery of right and wrong answers",
        "Eight synthetic pairs as `mireg show` draws them: above, the fixed image\n"
        "with the contours of the moving one, in orange; below, the moving image with\n"
        "the contours of the fixed one, in blue. Under each stands what mireg said of\n"
        "its answer. Made by `python scripts/make_pictures.py`.",
    ]
    for pair in pairs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mireg.MiregWarning)
            found = mireg.register(pair.fixed, pair.moving)
        inverse = np.linalg.inv(found.moving_from_fixed)
        in_line = mireg.Image(pair.moving.data, inverse @ pair.moving.mm_from_ijk)
        figure = mireg.show(pair.fixed, in_line, slices=1)
        save(strips(figure, [0, 1], of=2), pair.name)
        parts += [
            f"## {pair.title}",
            f"![{pair.title}](pictures/{pair.name}.png)",
            textwrap.fill(f"{pair.why} {_said(pair, found)}", 88),
        ]
    text = "\n\n".join(parts) + "\n"
    (guide.FOLDER / "gallery.md").write_text(text, "utf-8")


def _said(pair: Pair, found: mireg.Registration) -> str:
    """Say what is true of an answer, and what mireg said of it."""
    words = "The answer cannot be right."
    if pair.truth is not None:
        points = mireg.prepare(pair.fixed).foreground.points
        error = found.transform.mean_displacement(points, pair.truth)
        words = f"The answer is {error:.2f} mm off."
    verdict = found.verdict
    sides = {
        "as stored": "left is left",
        "mirrored": "one image is mirrored",
        "cannot be told": "left and right cannot be told",
    }
    told = f"{verdict.summary}; {sides[verdict.handedness]}"
    if verdict.reasons:
        told += f". Against it: {'; '.join(verdict.reasons)}"
    return f"{words} What mireg said of it: *{told}.*"


if __name__ == "__main__":
    before_and_after()
    gallery()
    sys.exit()
