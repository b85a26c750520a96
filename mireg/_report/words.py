"""What a transform does, in words."""

from __future__ import annotations

from collections.abc import Iterable


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
