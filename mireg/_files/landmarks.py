"""Landmarks from files: Slicer's .fcsv and .mrk.json, and plain CSV."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .._errors import FrameNeededError, InputError, not_read
from .faults import check_there, in_file
from .writing import PathLike

#: Frames that points may be stated in: +x is to the right in one, to the left in the
#: other.
Frame = Literal["ras", "lps"]

#: How each file says its frame; the numbers are those of older versions of Slicer.
_FRAMES: Mapping[str, Frame] = {"ras": "ras", "0": "ras", "lps": "lps", "1": "lps"}

#: No list of landmarks is longer.
_MOST_BYTES = 1 << 24

#: Labels that a message names, at most.
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

    def in_order_of(self, others: Landmarks) -> npt.NDArray[np.float64]:
        """Give the points in the order in which other landmarks have their labels.

        Raises
        ------
        InputError
            If both have not the same labels, each once; or, without labels, not as many
            points.
        """
        for one in (others, self):
            for label, count in Counter(one.labels).items():
                if count > 1:
                    raise InputError(
                        f"{one.name}: {count} landmarks are called {label!r}; give "
                        "each a label of its own"
                    )
        if set(self.labels) != set(others.labels):
            raise InputError(_why_unpaired(others, self))
        return self.points[[self.labels.index(label) for label in others.labels]]


def numbers(count: int) -> tuple[str, ...]:
    """Call landmarks that have no labels."""
    return tuple(map(str, range(1, count + 1)))


def read_landmarks(path: PathLike, frame: Frame | None = None) -> Landmarks:
    """Read landmarks.

    Parameters
    ----------
    path : str or path
        A Slicer file, ``.fcsv`` or ``.mrk.json``, or a table with commas or tabs: x, y
        and z in mm, with a label before or behind them, or under a heading.
    frame : {"ras", "lps"}, optional
        Frame of a plain table. A Slicer file says its own.

    Returns
    -------
    Landmarks

    Raises
    ------
    InputError
        If the file is missing, holds no points or other things, names voxels, or its
        frame is unknown or another than `frame`.
    """
    path = Path(path)
    with in_file(path):
        try:
            check_there(path)
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                "not a text file; give landmarks as .fcsv, .mrk.json or CSV"
            ) from error
        except InputError:  # that a file is missing is an OSError, too
            raise
        except OSError as error:
            raise InputError(not_read(error)) from error
        if len(content) > _MOST_BYTES:
            raise InputError("too large for a list of landmarks; split it")
        if path.name.lower().endswith(".json"):
            found, stated = _markups(text)
        else:
            found, stated = _table(text, slicer=path.suffix.lower() == ".fcsv")
        if frame is not None and stated is not None and frame != stated:
            raise InputError(
                f"says that its frame is {stated.upper()}, not {frame.upper()}; leave "
                "out the frame"
            )
        frame = frame or stated
        if frame is None:
            raise FrameNeededError(
                "does not say in which frame its points are; say whether +x is to the "
                "right, ras, or to the left, lps"
            )
        if not found:
            raise InputError("holds no points; give a file with some")
    signs = [1, 1, 1] if frame == "ras" else [-1, -1, 1]
    labels, points = zip(*found, strict=True)
    return Landmarks(labels, np.array(points, np.float64) * signs, str(path))


def _why_unpaired(first: Landmarks, second: Landmarks) -> str:
    """Say why the landmarks of two images are not the same."""
    plain = [one for one in (first, second) if one.labels == numbers(len(one.labels))]
    if len(plain) == 2:
        counts = f"{len(first.labels)} points, and {second.name} {len(second.labels)}"
        return (
            f"{first.name} has {counts}; neither has labels: mark the same points in "
            "both images, in the same order"
        )
    if len(plain) == 1:
        named = second if plain[0] is first else first
        return (
            f"{named.name} has labels, and {plain[0].name} has none; give the points "
            "in both images the same labels"
        )
    lacks = []
    for one, other in ((first, second), (second, first)):
        missing = [label for label in other.labels if label not in set(one.labels)]
        names = ", ".join(map(repr, missing[:_MOST_NAMED]))
        if len(missing) > _MOST_NAMED:
            names += f" and {len(missing) - _MOST_NAMED} more"
        if missing:
            lacks.append(f"{one.name} lacks {names}")
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
    delimiter = "\t" if any("\t" in line for line in lines.values()) else ","
    found: list[tuple[str, list[float]]] = []
    for number, line in lines.items():
        row = next(csv.reader([line], delimiter=delimiter), [])
        if not any(row):
            continue
        if columns is None and not found and {"x", "y", "z"} <= set(_names(row)):
            columns = _names(row)
            continue
        cells = dict(zip(columns or _guessed(row), row, strict=False))
        with in_file(f"line {number}"):
            if not {"x", "y", "z"} <= set(cells):
                raise InputError(
                    f"{line[:60]!r} is not x, y, z in mm and a label; a heading may "
                    "name the columns"
                )
            place = _position([cells[axis] for axis in "xyz"])
        label = next((cells[name] for name in _LABELS if cells.get(name)), "")
        found.append((label.strip() or str(len(found) + 1), place))
    return found, frame


def _guessed(row: list[str]) -> list[str]:
    """Tell by its first cell where in a row the label is."""
    try:
        float(row[0])
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
