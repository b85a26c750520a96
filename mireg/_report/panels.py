"""The panels of a page: tables and charts as markup, readable where no script runs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from .document import data_url, text

#: Of a chart: sides, and the edges of what is drawn in it.
_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 220, 98, 10, 210, 6, 80


def verdict_panel(verdict: Mapping[str, Any]) -> str:
    """Say whether there is doubt, and why."""
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in verdict["reasons"])
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    kind = " bad" if verdict["doubtful"] else ""
    if verdict["doubtful"] is False and not reasons:  # what has reasons is not green
        kind = " good"
    return f'<div class="verdict{kind}">{text(verdict["words"])}{listed}</div>'


def panels(data: Mapping[str, Any]) -> str:
    """Lay out all that a page has beside its viewer; see `page_data`."""
    joint, contrast, transform = data["joint"], data["contrast"], data["transform"]
    found = table(data["facts"])
    joints = joint_chart("after", joint["after"])
    joints += joint_chart("before (by the headers)", joint["before"])
    inputs = "".join(table(one.items()) for one in data["inputs"])
    again = ""
    if data["command"]:
        again = copied("Command that makes it again", data["command"])
    made = f"{data['versions']}; made {data['made']}"
    return "".join(
        (
            card("What was found", found) if found else "",
            card(
                "Joint histogram",
                f'<div class="pair">{joints}</div>',
                "Intensities of the moving image (up) against those of the fixed one "
                "(right), on scales of even use; bright is often. Where the "
                "images fit, the cloud is narrow. Of the images as they are; the score "
                "may be of images that were corrected for their bias fields.",
            ),
            card(
                "Contrast",
                '<div class="pair">'
                + "".join(contrast_chart(*item) for item in contrast.items())
                + "</div>",
                "Intensities of the anatomy; the dashed line is the uniform histogram, "
                "which uses all grey levels alike.",
            ),
            card(
                "Is it a peak?",
                '<div class="six">'
                + "".join(map(profile_chart, data["profiles"]))
                + "</div>",
                "Mutual information (nats) of the images as they are, when the anatomy "
                "is moved away from the answer along each axis and turned about it.",
                wide=True,
            ),
            card(
                "Transform",
                "".join(f"<p>{text(words)}</p>" for words in transform["words"])
                + '<div class="matrices">'
                + "".join(
                    copied(one["name"], one["text"], one["note"])
                    for one in transform["matrices"]
                )
                + "</div>",
                wide=True,
            ),
            card(
                "What went in",
                f'<div class="inputs">{inputs}</div>{again}',
                made,
                wide=True,
            ),
        )
    )


def card(title: str, content: str, note: str = "", *, wide: bool = False) -> str:
    """Frame a panel: a title, markup, and a note in plain text."""
    below = f'<p class="note">{text(note)}</p>' if note else ""
    return (
        f'<section class="card{" wide" if wide else ""}"><h2>{text(title)}</h2>'
        f"{content}{below}</section>"
    )


def table(rows: Iterable[Sequence[str]]) -> str:
    """Lay out pairs of a label and words; nothing of no rows."""
    lines = "".join(
        f'<tr><th scope="row">{text(label)}</th><td>{text(words)}</td></tr>'
        for label, words in rows
    )
    return f"<table>{lines}</table>" if lines else ""


def copied(title: str, words: str, note: str = "") -> str:
    """Show a text that a button copies."""
    below = f'<p class="note">{text(note)}</p>' if note else ""
    return (
        f'<div><div class="title"><h3>{text(title)}</h3><button type="button" '
        f'class="copy" aria-label="copy: {text(title)}">copy</button></div>{below}'
        f'<pre tabindex="0">{text(words)}</pre></div>'
    )


def joint_chart(title: str, joint: Mapping[str, Any] | None) -> str:
    """Draw a joint histogram."""
    if joint is None:
        return _figure(title, "<p>The images do not overlap.</p>", "")
    words = f"mutual information {joint['mi']} nats; {joint['inside']:.0%} inside"
    shades = np.array(joint["shades"], float).T[::-1, :, None] / 255
    colours = 255 * shades ** np.array([2.0, 1.3, 0.6])  # black, blue, white
    file = io.BytesIO()
    PIL.Image.fromarray(np.rint(colours).astype(np.uint8)).save(file, "PNG")
    picture = (
        f'<img src="{data_url("image/png", file.getvalue())}" '
        f'alt="{text(f"Joint histogram {title}: {words}")}">'
    )
    return _figure(title, picture, words)


def profile_chart(profile: Mapping[str, Any]) -> str:
    """Draw the mutual information along one axis."""
    at, scores, unit = profile["at"], profile["mi"], profile["unit"]
    known = [(place, one) for place, one in zip(at, scores, strict=True) if one]
    if not known:
        return _figure(profile["label"], "<p>The images do not overlap.</p>", "")
    low, high = (end(one for _, one in known) for end in (min, max))
    best = max(known, key=lambda pair: (pair[1], -abs(pair[0])))[0]
    words = "highest at the answer"
    if best:
        words = f"highest {abs(best):.1f} {unit} from the answer"
    middle, reach = (_LEFT + _RIGHT) / 2, at[-1]
    short = {"degrees": "\N{DEGREE SIGN}"}.get(unit, f" {unit}")
    across, up = (_RIGHT - _LEFT) / 2 / reach, (_BOTTOM - _TOP) / ((high - low) or 1)
    points = " ".join(
        f"{middle + place * across:.1f},{_BOTTOM - (one - low) * up:.1f}"
        for place, one in known
    )
    chart = (
        f'<line x1="{middle}" x2="{middle}" y1="{_TOP}" y2="{_BOTTOM}" '
        'class="guide"/>'
        f'<polyline points="{points}" class="curve"/>'
        + _label(_LEFT, f"-{reach:.0f}{short}")
        + _label(middle, f"{high:.3f}", "middle")
        + _label(_RIGHT, f"{reach:.0f}{short}", "end")
    )
    spoken = f"Mutual information {profile['label']}: {words}; {low} to {high}"
    return _figure(profile["label"], _svg(spoken, chart), words)


def contrast_chart(name: str, contrast: Mapping[str, Any]) -> str:
    """Draw the histogram of an image's anatomy against the uniform one."""
    shares, bins = contrast["histogram"], contrast["bins"]
    words = (
        f"score {contrast['score']} bits from uniform (0 best, 4 nothing to see), of a "
        f"voxel given its surroundings; this histogram {contrast['kl']} bits: "
        f"{contrast['levels']} of {bins} grey levels in use; neighbours share "
        f"{contrast['structure']:.0%} of their information"
    )
    up = (_BOTTOM - _TOP) / max(*shares, 2 / bins)
    across = (_RIGHT - _LEFT) / bins
    even = _BOTTOM - up / bins
    chart = "".join(
        f'<rect x="{_LEFT + k * across:.2f}" width="{across - 0.5:.2f}" '
        f'y="{_BOTTOM - share * up:.2f}" height="{share * up:.2f}" class="column"/>'
        for k, share in enumerate(shares)
    )
    chart += (
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{even:.2f}" y2="{even:.2f}" '
        'class="guide"/>'
        + _label(_LEFT, _short(contrast["low"]))
        + _label(_RIGHT, _short(contrast["high"]), "end")
    )
    spoken = f"Histogram of the {name} image: {words}"
    return _figure(f"{name} image", _svg(spoken, chart), words)


def _figure(title: str, content: str, caption: str) -> str:
    """Frame a chart."""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{text(title)}</h3>{content}{below}</figure>"


def _svg(spoken: str, content: str) -> str:
    """Frame what is drawn; `spoken` is for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{text(spoken)}">'
        f"{content}</svg>"
    )


def _short(number: float) -> str:
    """Write about four digits, without an exponent where that is short."""
    return f"{float(f'{number:.4g}'):,g}"


def _label(x: float, words: str, anchor: str = "start") -> str:
    """Write under a chart."""
    return f'<text x="{x}" y="95" text-anchor="{anchor}">{text(words)}</text>'
