"""May an answer be trusted, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._contrast import Contrast
from .._prepare import Anatomy
from .multistart import Answer
from .optimize import Fit
from .search import APART, RIVAL


@dataclass(frozen=True)
class Verdict:
    """What speaks against an answer.

    Attributes
    ----------
    rival : float
        Share of what the answer explains that the best pose elsewhere does; 0 if there
        is none.
    doubtful : bool
        Whether the answer may be wrong.
    notes : tuple of str
        Why, and which image has too little contrast, in plain words.
    """

    rival: float
    doubtful: bool
    notes: tuple[str, ...]


def verdict(answer: Answer, anatomy: Anatomy, contrasts: Sequence[Contrast]) -> Verdict:
    """Judge an answer.

    Parameters
    ----------
    answer : Answer
        With all that was followed as far.
    anatomy : Anatomy
        Of the image that the search sampled; measures how far apart poses are.
    contrasts : sequence of Contrast
        Of the fixed and the moving image.

    Returns
    -------
    Verdict
        What speaks against it.
    """
    rival, apart_mm = _rival(answer.followed, anatomy)
    doubts = []
    if rival > RIVAL:
        doubts.append(
            f"a pose {apart_mm:.0f} mm away explains {100 * rival:.0f} % as much as "
            "this one: look whether it is right"
        )
    if answer.is_unsure:
        doubts.append(
            f"noise leaves the answer unsure by {answer.error_mm:.2g} mm: look whether "
            "it is right"
        )
    too_flat = [
        f"the {name} image {one.doubt}"
        for name, one in zip(("fixed", "moving"), contrasts, strict=True)
        if one.doubt
    ]
    return Verdict(rival, bool(doubts), (*too_flat, *doubts))


def _rival(fits: Sequence[Fit], anatomy: Anatomy) -> tuple[float, float]:
    """Share of the answer that the best pose elsewhere explains, and how far it is."""
    best = fits[0]
    for fit in fits[1:]:
        apart = anatomy.distance(best.moving_from_fixed, fit.moving_from_fixed)
        if apart > APART * anatomy.radius and fit.explained > 0:
            return fit.explained / best.explained, apart
    return 0.0, 0.0
