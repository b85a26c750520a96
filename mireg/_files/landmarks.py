"""Landmarks from files: Slicer's .fcsv and .mrk.json, and plain CSV."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .._errors import FrameNeededError, InputError, not_read, warn
from .faults import check_there, in_file
from .writing import PathLike

#: Frames that points may be stated in: +x is to the right in one, to the left in the
#: other.
Frame = Literal["ras", "lps"]

#: What tells which landmarks of two images belong together.
PairedBy = Literal["label", "order"]

#: How each file says its frame; the numbers are those of older versions of Slicer.
_FRAMES: Mapping[str, Frame] = {"ras": "ras", "0": "ras", "lps": "lps", "1": "lps"}

#: No list of landmarks is longer.
_MOST_BYTES = 1 << 24

#: Labels, or pairs of them, that a message names, at most.
_MOST_NAMED = 5

#: What the columns of a table may be called.
_LABELS = ("label", "name", "id")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points.

    Attributes
    ----------
    labels : tuple of str
        What they are called; without labels their numbers, from 1.
    points : (n, 3) ndarray
        Where they are, RAS+ mm.
    name : str
        What messages call them, such as their file.
    """

    labels: tuple[str, ...]
    points: npt.NDArray[np.float64]
    name: str


def paired(
    fixed: Landmarks, moving: Landmarks
) -> tuple[npt.NDArray[np.float64], PairedBy]:
    """Give the points of the moving image in the order of those of the fixed one.

    Labels tell which belong together, in upper or lower case; where no label is in
    both, as of lists that Slicer names F-1, F-2 and M-1, M-2, the order does.

    Returns
    -------
    points : (n, 3) ndarray
        RAS+ mm of the moving image.
    by : {"label", "order"}
        What told.

    Raises
    ------
    InputError
        If a label is there twice, some are in one image only, or there are not as many
        points in both.
    """
    first, second = (
        [label.casefold() for label in one.labels] for one in (fixed, moving)
    )
    for one, labels in ((fixed, first), (moving, second)):
        for label, count in zip(
            one.labels, map(Counter(labels).get, labels), strict=True
        ):
            if count != 1:
                raise InputError(
                    f"{one.name}: {count} landmarks are called {label!r}; give each a "
                    "label of its own"
                )
    if set(first) == set(second):
        unlabelled = fixed.labels == numbers(len(first))
        order = [second.index(label) for label in first]
        return moving.points[order], "order" if unlabelled else "label"
    plain = {numbers(len(one.labels)) == one.labels for one in (fixed, moving)}
    if plain != {True} and set(first) & set(second):
        raise InputError(_what_lacks(fixed, moving))
    if len(first) != len(second):
        raise InputError(
            f"{fixed.name} has {len(first)} points, and {moving.name} {len(second)}, "
            "and no label is in both; mark the same points in both images, in the same "
            "order or with the same labels"
        )
    couples = [
        f"{a!r} with {b!r}" for a, b in zip(fixed.labels, moving.labels, strict=True)
    ]
    warn(
        f"{fixed.name} and {moving.name} have no label in common; their landmarks are "
        f"paired in their order: {some_of(couples)}"
    )
    return moving.points, "order"


def numbers(count: int) -> tuple[str, ...]:
    """Call landmarks that have no labels."""
    return tuple(map(str, range(1, count + 1)))


def read_landmarks(path: PathLike, frame: Frame | None = None) -> Landmarks:
    """Read landmarks; see `landmarks_in`."""
    return landmarks_in(text_of(path), path, frame)


def text_of(path: PathLike) -> str:
    """Read a file that may hold landmarks.

    Raises
    ------
    InputError
        If it is missing, cannot be read, is no text, or too large.
    """
    path = Path(path)
    with in_file(path):
        check_there(path)
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise InputError(not_read(error)) from error
        if len(content) > _MOST_BYTES:
            raise InputError("too large for a list of landmarks; split it")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                "not a text file; give landmarks as .fcsv, .mrk.json or CSV"
            ) from error


def landmarks_in(text: str, path: PathLike, frame: Frame | None = None) -> Landmarks:
    """Take landmarks from the text of a file.

    Parameters
    ----------
    text : str
        What `text_of` gives.
    path : str or path
        A Slicer file, ``.fcsv`` or ``.mrk.json``, or a table with commas, semicolons or
        tabs: x, y and z in mm, with a label before or behind them, or under a heading.
    frame : {"ras", "lps"}, optional
        Frame of a file that does not say its own, in upper or lower case. A Slicer
        file says it, and so may a table: what a file says is right, and a note says so
        if that is another.

    Returns
    -------
    Landmarks

    Raises
    ------
    InputError
        If there are no points or other things, the file names voxels, or its frame is
        unknown.
    """
    path = Path(path)
    given = None if frame is None else frame.lower()
    if given not in (None, "ras", "lps"):
        raise InputError(f"{frame!r} is no frame; give ras or lps")
    with in_file(path):
        if path.name.lower().endswith(".json"):
            found, stated = _markups(text)
        else:
            found, stated = _table(text, slicer=path.suffix.lower() == ".fcsv")
        if (stated or given) is None:
            raise FrameNeededError(
                "does not say in which frame its points are; say whether +x is to the "
                "right, ras, or to the left, lps"
            )
        if not found:
            raise InputError("holds no points; give a file with some")
    if given and stated and given != stated:
        warn(
            f"{path}: its points are in {stated.upper()}, as its content or format "
            f"says; the frame {given.upper()} is for files that do not say theirs"
        )
    signs = [1, 1, 1] if (stated or given) == "ras" else [-1, -1, 1]
    labels, points = zip(*found, strict=True)
    return Landmarks(labels, np.array(points, np.float64) * signs, str(path))


def some_of(names: Sequence[str]) -> str:
    """Name the first of many."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _what_lacks(fixed: Landmarks, moving: Landmarks) -> str:
    """Say which labels are in one image only."""
    lacks = []
    for one, other in ((fixed, moving), (moving, fixed)):
        there = {label.casefold() for label in one.labels}
        missing = [label for label in other.labels if label.casefold() not in there]
        if missing:
            lacks.append(f"{one.name} lacks {some_of(list(map(repr, missing)))}")
    return f"{'; '.join(lacks)}; every landmark must be in both, of the same label"


#: Label and coordinates of each landmark, and the frame that the file states.
_Found = tuple[list[tuple[str, list[float]]], Frame | None]


def _markups(text: str) -> _Found:
    """Read Slicer's JSON: points of all its lists."""
    try:
        lists = json.loads(text)["markups"]
        frames = {str(one.get("coordinateSystem", "LPS")) for one in lists}
        units = {str(one.get("coordinateUnits", "mm")) for one in lists}
        points = [
            point
            for one in lists
            for point in one.get("controlPoints", [])
            if point.get("positionStatus", "defined") == "defined"
        ]
        found = [
            (
                str(point.get("label") or "").strip() or str(i),
                _position(point["position"]),
            )
            for i, point in enumerate(points, 1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "not a file of markups as Slicer writes it, or damaged; export it again"
        ) from error
    if not all("mm" in unit for unit in units):  # a word, or a code with its scheme
        raise InputError(f"its unit is {units.pop()[:20]}; save it in mm")
    if len(frames) > 1:
        raise InputError("its lists are in different frames; save each by itself")
    return found, _frame(frames.pop()) if frames else None


def _table(text: str, *, slicer: bool) -> _Found:
    """Read rows of three numbers and a label; comments may say columns and frame."""
    # Slicer itself takes a file of its own that says nothing for RAS.
    frame: Frame | None = "ras" if slicer else None
    columns: list[str] | None = ["label", "x", "y", "z"] if slicer else None
    lines = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, value = line.lstrip("# ").partition("=")
        if not line.startswith("#"):
            lines[number] = line
        elif name.strip().lower() in ("coordinatesystem", "frame"):
            frame = _frame(value)
        elif name.strip().lower() == "columns":
            columns = _names(value.split(","))
    # As spreadsheets write where a comma is before the decimals.
    delimiter = ";" if any(line.count(";") > 1 for line in lines.values()) else ","
    if any("\t" in line for line in lines.values()):
        delimiter = "\t"
    comma = "." if delimiter == "," else ","  # before decimals, if not a point
    found: list[tuple[str, list[float]]] = []
    for number, line in lines.items():
        row = next(csv.reader([line], delimiter=delimiter), [])
        if not any(row):
            continue
        if columns is None and not found and {"x", "y", "z"} <= set(_names(row)):
            columns = _names(row)
            continue
        cells = dict(
            zip(columns or _guessed(row[0].replace(comma, ".")), row, strict=False)
        )
        with in_file(f"line {number}"):
            if not {"x", "y", "z"} <= set(cells):
                raise InputError(
                    f"{line[:60]!r} is not x, y, z in mm and a label; a heading may "
                    "name the columns"
                )
            place = _position([cells[axis].replace(comma, ".") for axis in "xyz"])
        label = next((cells[name] for name in _LABELS if cells.get(name)), "")
        found.append((label.strip() or str(len(found) + 1), place))
    return found, frame


def _guessed(first: str) -> list[str]:
    """Tell by its first cell where in a row the label is."""
    try:
        float(first)
    except ValueError:
        return ["label", "x", "y", "z"]
    return ["x", "y", "z", "label"]


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _frame(word: str) -> Frame:
    """Read what a file calls its frame."""
    frame = _FRAMES.get(word.strip().lower())
    if frame is None:
        what = {"ijk": "voxels of an image", "2": "voxels of an image"}
        said = what.get(word.strip().lower(), repr(word.strip()[:20]))
        raise InputError(f"its points are in {said}; save them in RAS or LPS mm")
    return frame


def _position(given: Any) -> list[float]:
    """Read three finite numbers."""
    try:
        x, y, z = (float(number) for number in given)
    except (ValueError, TypeError):
        x = y = z = math.nan
    if not all(map(math.isfinite, (x, y, z))):
        words = ", ".join(map(str, given)) if isinstance(given, list) else str(given)
        raise InputError(f"{words[:60]} are not three numbers in mm; mend them")
    return [x, y, z]
