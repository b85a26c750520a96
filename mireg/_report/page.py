"""A page on one pair: what was found, and the images, to be looked at from every side.

`page_data` makes plain data of two images, a pose and, if there is one, a record;
`page` lays it into one HTML file together with the viewer. The images travel as grey
volumes of 8 bits on one grid along the axes of the world.
"""

from __future__ import annotations

import html
import os
import platform
import shlex
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__, _threads
from .._contrast import BINS, Contrast, contrast
from .._engine.verdict import Verdict, in_percent, in_short
from .._files import formats
from .._files.writing import new_file
from .._image import Image
from .._picture import three_planes
from .._prepare import prepare
from .._settings import Settings
from .._transform import TransformLike, as_transform
from . import figures, panels, volumes
from .document import asset, data_url, document, text
from .words import expected_error

FloatArray = npt.NDArray[np.float64]

#: Bytes that the pictures of a page may take, as text.
MOST_BYTES = 2_200_000

#: The same in a notebook, which keeps what each cell shows.
NOTEBOOK_BYTES = 500_000

#: Height of the picture for where no script runs, pixels.
_STILL_HEIGHT = 220

#: Height of the viewer in a notebook, pixels.
_NOTEBOOK_HEIGHT = 640


def write_page(
    path: str | os.PathLike[str],
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    record: Mapping[str, Any] | None = None,
    *,
    residuals: Mapping[str, npt.ArrayLike] | None = None,
    threads: int | None = None,
    force: bool = False,
) -> None:
    """Write the page on a pair, whole or not at all; see `page_data`."""
    made = page_bytes(
        fixed, moving, moving_from_fixed, record, residuals=residuals, threads=threads
    )
    with new_file(path, force=force) as file:
        file.write(made)


def page_bytes(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    record: Mapping[str, Any] | None = None,
    *,
    residuals: Mapping[str, npt.ArrayLike] | None = None,
    threads: int | None = None,
) -> bytes:
    """Make the page on a pair, as the content of a file; see `page_data`."""
    data = page_data(
        fixed, moving, moving_from_fixed, record, residuals=residuals, threads=threads
    )
    return page(data).encode()


def notebook_view(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    record: Mapping[str, Any],
    *,
    threads: int | None = None,
) -> str:
    """Make what a notebook shows of a pair: a picture, what was found, the viewer.

    The viewer is in a frame that can reach nothing outside. Where a notebook drops
    frames or scripts, as a page on GitHub does, the picture and the table stay.
    """
    data = page_data(
        fixed,
        moving,
        moving_from_fixed,
        record,
        most_bytes=NOTEBOOK_BYTES,
        threads=threads,
    )
    notes = [(f"note {i}", note) for i, note in enumerate(record["warnings"], 1)]
    whole = html.escape(page(data), quote=True)
    return (
        f"<figure>{_still(data)}<figcaption>Edges of the moving image (orange) on "
        "the fixed one; right is right.</figcaption></figure>"
        f"{panels.table([*data['facts'], *notes])}"
        '<details open><summary>Viewer</summary><iframe sandbox="allow-scripts" '
        'title="Viewer of the pair" width="100%" '
        f'height="{_NOTEBOOK_HEIGHT}" style="border:0" srcdoc="{whole}"></iframe>'
        "</details>"
    )


def page_data(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    record: Mapping[str, Any] | None = None,
    *,
    residuals: Mapping[str, npt.ArrayLike] | None = None,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Make all that the page shows, as plain data.

    Parameters
    ----------
    fixed, moving : Image
        Two scans.
    moving_from_fixed : RigidTransform, AffineTransform or (4, 4) array_like
        Maps points of `fixed` to points of `moving`, RAS+ mm.
    record : mapping, optional
        What a registration found, as `Registration.to_dict` gives it.
    residuals : mapping, optional
        How far off blocks of the anatomy are: "centres_mm" and "shifts_mm", (n, 3) in
        RAS+ mm of the fixed image, and "standard_errors_mm", (n,). NaN where a block
        does not tell. By default those of the record, if it has any.
    most_bytes : int, optional
        What the images may take.
    threads : int, optional
        Threads to use (default: all processors); the page is the same.

    Returns
    -------
    dict
        Strings, finite numbers, None, lists and dicts.

    Raises
    ------
    InputError
        If an image has no contrast.
    """
    threads = threads or _threads.available()
    if residuals is None and record is not None:
        residuals = record["residuals"]
    transform = as_transform(moving_from_fixed)
    prepared = prepare(fixed, threads=threads), prepare(moving, threads=threads)
    settings = Settings(**record["settings"]) if record else Settings()
    similarity = figures.Similarity.of(*prepared, settings, threads)
    matrix, centre = transform.matrix, prepared[0].foreground.centroid
    if record is not None:  # about which the registration states it, in its mask
        centre = np.array(record["centre_mm"])
    scans = {"fixed": fixed, "moving": moving}
    names = {role: _name(image, role) for role, image in scans.items()}
    return {
        "title": f"{names['moving']} on {names['fixed']}",
        "names": names,
        "viewer": _viewer(prepared, matrix, most_bytes, threads),
        "still": still_picture(prepared, matrix, threads),
        "verdict": _verdict(record),
        "facts": _facts(record),
        "residuals": None if residuals is None else _residuals(residuals),
        "joint": {
            "after": similarity.joint(matrix),
            "before": similarity.joint(np.eye(4)),
        },
        "profiles": similarity.profiles(matrix),
        "contrast": {
            role: _contrast(_contrast_of(role, record, one.image))
            for role, one in zip(scans, prepared, strict=True)
        },
        "transform": {
            "words": figures.motion_words(transform, centre),
            "matrices": figures.matrices(transform, fixed, moving),
        },
        "inputs": [_input(role, image, record) for role, image in scans.items()],
        "command": command(record),
        "versions": versions(record),
        "made": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }


def page(data: Mapping[str, Any]) -> str:
    """Lay data into the page."""
    body = asset("page.html")
    for mark, made in (
        ("TITLE", text(data["title"])),
        ("VERDICT", panels.verdict_panel(data["verdict"])),
        ("STILL", _still(data)),
        ("PANELS", panels.panels(data)),
    ):
        # Such a mark in a text from outside is escaped, so it is none.
        body = body.replace(f"<!-- {mark} -->", made, 1)
    return document(
        data["title"],
        body=body,
        style=asset("page.css"),
        script=asset("page.js") + asset("copy.js") + "main();\n",
        data={name: data[name] for name in ("viewer", "residuals")},
    )


def command(record: Mapping[str, Any] | None) -> str | None:
    """Tell the command that makes a record again: as it was given, or one like it.

    None where no files were given.
    """
    given = None if record is None else record.get("options", {}).get("command")
    if given is not None:
        return str(given)
    if record is None or None in (record["fixed"]["path"], record["moving"]["path"]):
        return None
    words = ["mireg", "register", record["fixed"]["path"], record["moving"]["path"]]
    settings, options = record["settings"], record.get("options", {})
    if settings["metric"] not in (Settings().metric, "prior"):
        words += ["--metric", settings["metric"]]
    for name, default in (
        ("init", "auto"),
        ("prior", None),
        ("fixed_mask", None),
        ("moving_mask", None),
    ):
        if options.get(name, default) != default:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if settings["metric"] == "prior" and settings["prior_strength"] != 1:
        words += ["--prior-strength", f"{settings['prior_strength']:g}"]
    for role in ("fixed", "moving"):
        if record[role]["volume"] not in (None, "mean"):
            words += [f"--{role}-volume", str(record[role]["volume"])]
    return shlex.join(words)


# --- parts ----------------------------------------------------------------------------


def _viewer(
    prepared: tuple[Any, Any], matrix: FloatArray, most_bytes: int, threads: int
) -> dict[str, Any]:
    """Pack both images, the moving one after and before, on one grid."""
    fixed, moving = prepared
    images = {
        "fixed": (fixed, np.eye(4)),
        "after": (moving, matrix),
        "before": (moving, np.eye(4)),
    }
    return {
        **volumes.on_one_grid(images, fixed.image, most_bytes, threads),
        "fixed": volumes.levels_of(fixed),
        "moving": volumes.levels_of(moving),
        "place_mm": fixed.foreground.centroid.tolist(),
    }


def still_picture(prepared: tuple[Any, Any], matrix: FloatArray, threads: int) -> str:
    """Draw the edges of the moving image on the fixed one, as an address."""
    corners = prepared[0].image.corners_mm
    pixel_mm = float(np.ptp(corners, axis=0).max()) / _STILL_HEIGHT
    small = [one.shrunk(pixel_mm, threads) for one in prepared]
    centre = prepared[0].foreground.centroid
    picture = three_planes(small[0], small[1], matrix, centre, height=_STILL_HEIGHT)
    return data_url("image/png", picture)


def _still(data: Mapping[str, Any]) -> str:
    """Show a picture where no script runs."""
    return still_image(data["still"])


def still_image(address: str) -> str:
    """Show the edges of one image on another, where no script runs."""
    return (
        f'<img src="{address}" alt="Edges of the moving image on the fixed one: '
        'sagittal, coronal, axial">'
    )


def _verdict(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say whether there is doubt, and why."""
    if record is None:
        return {
            "doubtful": None,
            "words": "A transform from elsewhere: nothing is said for or against it.",
            "reasons": [],
        }
    judged = record["verdict"]
    likely = (
        f"{in_percent(judged['probability'])} likely right within "
        f"{in_short(judged['tolerance_mm'])} mm."
    )
    words = f"{likely[0].upper()}{likely[1:]} Look all the same."
    if record["doubtful"]:
        words = f"Doubtful: {likely} Look whether it is right."
    # That it is doubtful, and why, is said already.
    said = Verdict.from_dict(judged).warning
    others = [warning for warning in record["warnings"] if warning != said]
    return {
        "doubtful": record["doubtful"],
        "words": words,
        "reasons": [*judged["reasons"], *others],
    }


def _facts(record: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Say what was found, in rows."""
    if record is None:
        return []

    def number(name: str, form: str) -> str:
        return "unknown" if record[name] is None else format(record[name], form)

    judged = Verdict.from_dict(record["verdict"])
    noise = record["standard_error_mm"]
    rows = {
        "expected error": expected_error(judged, np.nan if noise is None else noise),
        "from noise alone": f"{number('standard_error_mm', '.2g')} mm",
        "left and right": judged.handedness,
        "same anatomy": f"{in_percent(judged.same_anatomy)} likely",
        "score": f"{number('score', '.4f')} ({record['metric']}); before "
        + ("no overlap" if record["initial_score"] is None else "")
        + ("" if record["initial_score"] is None else number("initial_score", ".4f")),
        "rotation": f"{record['rotation_deg']:.2f} degrees",
        "anatomy moved": f"{number('mean_displacement_mm', '.2f')} mm on average, "
        f"{number('max_displacement_mm', '.2f')} mm at most",
        "overlap": f"{number('overlap_fraction', '.0%')} of the compared points",
        "runner-up": "none"
        if not record["runner_up"]
        else f"explains {record['runner_up']:.0%} as much as the answer",
        "optimiser": "came to rest" if record["converged"] else "did not come to rest",
        "took": f"{record['seconds']['register']:.1f} s",
    }
    return list(rows.items())


def _residuals(given: Mapping[str, npt.ArrayLike]) -> list[dict[str, Any]]:
    """Take the blocks that tell how far off they are."""
    names = ("centres_mm", "shifts_mm", "standard_errors_mm")
    # A record has None where an array has NaN, and numpy makes NaN of it.
    centres, shifts, errors = (np.asarray(given[name], float) for name in names)
    centres, shifts = centres.reshape(-1, 3), shifts.reshape(-1, 3)
    told = np.isfinite(shifts).all(axis=1) & np.isfinite(errors)
    return [
        {
            "at": centre.round(2).tolist(),
            "shift": shift.round(3).tolist(),
            "error": round(float(error), 3),
        }
        for centre, shift, error in zip(
            centres[told], shifts[told], errors[told], strict=True
        )
    ]


def _contrast_of(
    role: str, record: Mapping[str, Any] | None, image: Image
) -> Mapping[str, Any]:
    """Take the contrast of an image from the record, or measure it."""
    if record is not None:
        return dict(record[role]["contrast"])
    found: Contrast = contrast(image)
    return {
        **found.figures(),
        "foreground_histogram": found.foreground.p.tolist(),
        "whole_histogram": found.whole.p.tolist(),
    }


def _contrast(figures_of: Mapping[str, Any]) -> dict[str, Any]:
    """Take what the page shows of a contrast."""
    return {
        "score": round(figures_of["score_bits"], 3),
        "structure": round(figures_of["structure"], 3),
        "kl": round(figures_of["foreground_kl_bits"], 3),
        "levels": round(figures_of["foreground_levels"], 1),
        "bins": BINS,
        "low": figures_of["low"],
        "high": figures_of["high"],
        "histogram": np.round(figures_of["foreground_histogram"], 5).tolist(),
    }


def _name(image: Image, role: str) -> str:
    """Call an image by its file, if it has one."""
    path = None if image.source is None else image.source.path
    return f"the {role} image" if path is None else Path(path).name


def _input(role: str, image: Image, record: Mapping[str, Any] | None) -> dict[str, str]:
    """Identify an image."""
    path = None if image.source is None else image.source.path
    digest = record[role]["sha256"] if record is not None else None
    if record is None and path and Path(path).is_file():
        digest = formats.sha256(path)
    opened = None if image.source is None else image.source.opened
    shape = image.shape if opened is None else opened.shape
    volume = None if image.source is None else image.source.volume
    rows = {
        "role": role,
        "file": str(path or "given in memory"),
        "voxels": " x ".join(str(n) for n in shape)
        + (f", volume: {volume}" if volume is not None else ""),
        "voxel size": " x ".join(f"{side:.4g}" for side in image.voxel_size_mm) + " mm",
        "SHA-256": str(digest or "none: it was no file"),
    }
    if path and Path(path).is_file():
        rows["size"] = f"{Path(path).stat().st_size:,} bytes"
    return rows


def versions(record: Mapping[str, Any] | None) -> str:
    """Say what made the answer and the page."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "scipy", "numba", "nibabel")
    )
    found = "" if record is None else f"found by mireg {record['mireg_version']}; "
    return (
        f"{found}page by mireg {__version__}, Python {platform.python_version()}, "
        f"{libraries}"
    )
