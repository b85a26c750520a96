"""A page on a session: how well its pairs fit, and every image in one frame.

The viewer is that of a page on a pair; any two of the images can be put into it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _threads
from .._image import Image
from .._prepare import prepare
from .._transform import RigidTransform
from . import panels, volumes
from .document import asset, document, text
from .page import MOST_BYTES, still_image, still_picture, versions
from .words import in_directions

#: Of the graph: sides of the drawing, radius of the circle and of a node.
_WIDE, _HIGH, _CIRCLE, _NODE = 560.0, 400.0, 145.0, 9.0

#: More images than these, and the residuals are not written beside the lines.
_MOST_LABELLED = 7


def session_page(
    record: Mapping[str, Any],
    images: Sequence[Image],
    grid: Image,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
) -> str:
    """Make the page.

    Parameters
    ----------
    record : mapping
        What was found, as `Session.to_dict` gives it.
    images : sequence of Image
        The images, in its order.
    grid : Image
        The grid of the frame.
    most_bytes : int, optional
        What the pictures may take.
    threads : int, optional
        Threads to use; the page is the same.

    Returns
    -------
    str
        An HTML document.
    """
    threads = threads or _threads.available()
    prepared = [prepare(image, threads=threads) for image in images]
    poses = [np.array(one["image_from_reference"]) for one in record["images"]]
    names = [str(one["name"]) for one in record["images"]]
    seen = {str(k): one for k, one in enumerate(zip(prepared, poses, strict=True))}
    viewer = volumes.on_one_grid(seen, grid, most_bytes, threads)
    levels = [volumes.levels_of(one) for one in prepared]
    centroid = prepared[0].foreground.centroid
    viewer |= {
        "images": [
            {"name": name, "levels": of} for name, of in zip(names, levels, strict=True)
        ],
        "fixed": levels[0],
        "moving": levels[1],
        "place_mm": RigidTransform.from_matrix(np.linalg.inv(poses[0]))
        .apply(centroid)
        .tolist(),
    }
    second_from_first = poses[1] @ np.linalg.inv(poses[0])
    still = still_picture((prepared[0], prepared[1]), second_from_first, threads)
    title = f"{len(names)} images of one session"
    body = asset("page.html")
    for mark, made in (
        ("TITLE", text(title)),
        ("VERDICT", panels.verdict_panel(_verdict(record))),
        ("STILL", still_image(still)),
        ("PANELS", _panels(record, names)),
    ):
        # Such a mark in a text from outside is escaped, so it is none.
        body = body.replace(f"<!-- {mark} -->", made, 1)
    return document(
        title,
        body=body,
        style=asset("page.css"),
        script=asset("page.js") + asset("session.js"),
        data={"viewer": viewer, "residuals": None},
    )


def _verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    """Say whether all fits."""
    used = [pair["residual_mm"] for pair in record["pairs"] if pair["used"]]
    words = (
        f"{len(used)} of {len(record['pairs'])} pairs agree, within "
        f"{max(used, default=0.0):.2f} mm. Look all the same."
    )
    notes = record["warnings"]
    return {"doubtful": bool(notes), "words": words, "reasons": notes}


def _panels(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """Lay out tables and the graph."""
    return "".join(
        (
            panels.card("Images", _image_table(record, names), _FRAME),
            panels.card("Pairs as a graph", _graph(record, names), _GRAPH),
            panels.card("Pairs", _pair_table(record, names), _RESIDUAL, wide=True),
            panels.card(
                "Made by",
                f"<p>{text(versions(None))}; made "
                f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}</p>",
                wide=True,
            ),
        )
    )


_FRAME = (
    "How each image moves from the frame, and its expected error against the first, "
    "from noise and from how far the pairs disagree."
)
_GRAPH = (
    "Each line is a pair; the thicker it is, the larger its residual, mm. Dashed: left "
    "out."
)
_RESIDUAL = (
    "Residual: how far the transform of a pair is from what all pairs together say, "
    "root mean square over the anatomy. Standard error: what noise alone leaves in it."
)


def _image_table(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """Say how each image moves."""
    rows = []
    for name, one in zip(names, record["images"], strict=True):
        moved = RigidTransform.from_matrix(one["image_from_reference"])
        error = one["expected_error_mm"]
        rows.append(
            (
                name,
                f"{moved.angle_deg:.2f} degrees",
                in_directions(moved.translation) + " mm",
                "unknown" if error is None else f"{error:.2f} mm",
            )
        )
    return _table(("image", "rotation", "shift of the origin", "expected error"), rows)


def _pair_table(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """List the pairs, the largest residual first; each can be put into the viewer."""
    rows, marks = [], []
    for pair in sorted(record["pairs"], key=lambda pair: -pair["residual_mm"]):
        error = pair["standard_error_mm"]
        rows.append(
            (
                names[pair["fixed"]],
                names[pair["moving"]],
                f"{pair['residual_mm']:.3f} mm",
                "unknown" if error is None else f"{error:.3f} mm",
                f"left out: {pair['reason']}" if not pair["used"] else "yes",
            )
        )
        marks.append(f"{pair['fixed']} {pair['moving']}")
    heads = ("fixed", "moving", "residual", "standard error", "used")
    return _table(heads, rows, marks)


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    marks: Sequence[str] | None = None,
) -> str:
    """Lay out a table; rows with marks have a button that shows their pair."""
    head = "".join(f'<th scope="col">{text(words)}</th>' for words in heads)
    head += '<th scope="col"></th>' if marks else ""
    lines = []
    for k, row in enumerate(rows):
        cells = "".join(f"<td>{text(words)}</td>" for words in row)
        begin = "<tr>"
        if marks:
            begin = f'<tr data-pair="{text(marks[k])}">'
            cells += (
                '<td><button type="button" class="controls" aria-label="show '
                f'{text(row[0])} and {text(row[1])}">show</button></td>'
            )
        lines.append(f"{begin}{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _graph(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """Draw images on a circle, and pairs as lines between them."""
    across, down, count = _WIDE / 2, _HIGH / 2, len(names)
    angles = [2 * math.pi * k / count - math.pi / 2 for k in range(count)]
    places = [
        (across + _CIRCLE * math.cos(angle), down + _CIRCLE * math.sin(angle))
        for angle in angles
    ]
    used = [pair["residual_mm"] for pair in record["pairs"] if pair["used"]]
    most = max(used, default=0.0) or 1.0
    lines, labels = [], []
    for pair in record["pairs"]:
        (x1, y1), (x2, y2) = places[pair["fixed"]], places[pair["moving"]]
        wide = 1 + 5 * min(pair["residual_mm"] / most, 1)
        kind = "edge" if pair["used"] else "edge out"
        words = (
            f"{names[pair['fixed']]}, {names[pair['moving']]}: "
            f"{pair['residual_mm']:.3f} mm" + ("" if pair["used"] else ", left out")
        )
        lines.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'class="{kind}" stroke-width="{wide:.1f}"><title>{text(words)}</title>'
            "</line>"
        )
        if count <= _MOST_LABELLED:
            # Off the middle, where the lines across the circle meet.
            x, y = x1 + 0.4 * (x2 - x1), y1 + 0.4 * (y2 - y1)
            labels.append(_words(x, y, f"{pair['residual_mm']:.2f}", "middle"))
    for name, (x, y), angle in zip(names, places, angles, strict=True):
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_NODE}" class="node"/>')
        side = math.cos(angle)
        anchor = "middle" if abs(side) < 0.3 else ("start" if side > 0 else "end")
        far = 1 + 22 / _CIRCLE
        labels.append(
            _words(
                across + (x - across) * far,
                down + (y - down) * far + 4,
                _short(name),
                anchor,
            )
        )
    spoken = "Residuals of the pairs; the table has the same figures"
    return (
        f'<svg class="graph" viewBox="0 0 {_WIDE:g} {_HIGH:g}" role="img" '
        f'aria-label="{spoken}">{"".join(lines)}{"".join(labels)}</svg>'
    )


def _short(name: str) -> str:
    """Shorten a long name in the middle: its ends tell most.

    Examples
    --------
    >>> _short("sub-01_ses-02_acq-highres_T1w")
    'sub-01_\u2026res_T1w'
    """
    return name if len(name) <= 16 else f"{name[:7]}\u2026{name[-7:]}"


def _words(x: float, y: float, words: str, anchor: str) -> str:
    """Write into the graph."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'
