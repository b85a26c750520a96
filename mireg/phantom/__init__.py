"""Synthetic anatomy in many contrasts, in an exactly known pose.

A `Head` is a set of formulas in head coordinates (RAS+ mm, origin in the middle of
the brain), drawn from a seed. A scan is made by asking the formulas what lies at
each voxel, so a head in another pose is never an interpolated copy of the first.
The pairs that defeat registration are in `KINDS`; `hard_pair` makes one.
"""

from .contrast import BRAIN, CONTRASTS, TISSUES, Contrast
from .hard import HardPair, hard_pair
from .head import Head
from .kinds import KINDS, Acquisition, Kind
from .pair import PhantomPair, brain_points, phantom_pair, random_pose
from .scanner import Grid, head_grid, make_phantom
from .shapes import Blob, Waves

__all__ = [
    "BRAIN",
    "CONTRASTS",
    "KINDS",
    "TISSUES",
    "Acquisition",
    "Blob",
    "Contrast",
    "Grid",
    "HardPair",
    "Head",
    "Kind",
    "PhantomPair",
    "Waves",
    "brain_points",
    "hard_pair",
    "head_grid",
    "make_phantom",
    "phantom_pair",
    "random_pose",
]


def __dir__() -> list[str]:
    """Name what is public."""
    return [*__all__]
