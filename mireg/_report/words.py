"""What a transform does, and how far off it may be, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._engine.verdict import Verdict


def in_directions(shift_mm: Iterable[float]) -> str:
    """Say a shift in RAS+ mm in words.

    Examples
    --------
    >>> in_directions([1.5, -2, 0])
    '1.50 right, 2.00 back, 0.00 up'
    """
    sides = (("right", "left"), ("forward", "back"), ("up", "down"))
    return ", ".join(
        f"{abs(step):.2f} {plus if step >= 0 else minus}"
        for step, (plus, minus) in zip(shift_mm, sides, strict=True)
    )


def expected_error(judged: Verdict, noise_mm: float) -> str:
    """Say how far off an answer is expected to be, unless the rest contradicts that."""
    if judged.doubtful and not noise_mm <= judged.error_mm <= judged.tolerance_mm:
        return "not known, as the answer is doubtful"
    if judged.error_mm < noise_mm:
        return f"about the {noise_mm:.2g} mm of noise, if it is right"
    return f"{judged.error_summary}, if it is right"
