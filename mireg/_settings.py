"""What a user may set of the method; `mireg._parameters` has every other number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from ._errors import InputError

if TYPE_CHECKING:
    from .information import Member

#: Names of the similarity metrics: the keys of `METRICS`, for those who check types.
MetricName = Literal["mi", "nmi", "ecc", "js", "hellinger", "chi2", "oimi", "prior"]


class AboutMetric(NamedTuple):
    """What a metric is.

    Attributes
    ----------
    words : str
        Its name in full, and its unit or range.
    divergence : str or None
        Of what f-divergence it is the f-information; None if it is written out in
        `mireg._engine.metrics`.
    """

    words: str
    divergence: Member | None = None


#: The similarity metrics. One more f-information is one more line, and its name in
#: `MetricName`.
METRICS: Mapping[MetricName, AboutMetric] = MappingProxyType(
    {
        "mi": AboutMetric("mutual information, nats"),
        "nmi": AboutMetric("normalised mutual information, 1 to 2"),
        "ecc": AboutMetric("entropy correlation coefficient, 0 to 1"),
        "js": AboutMetric("Jensen-Shannon divergence, nats", "jensen-shannon"),
        "hellinger": AboutMetric(
            "squared Hellinger distance, 0 to 1", "squared-hellinger"
        ),
        "chi2": AboutMetric("Pearson's chi-squared", "pearson-chi-squared"),
        "oimi": AboutMetric("mutual information with background outside MOVING, nats"),
        "prior": AboutMetric("mutual information informed by the prior, nats"),
    }
)

#: How long to search on where a quick search leaves doubt.
EffortName = Literal["quick", "normal", "thorough"]
EFFORTS: tuple[EffortName, ...] = get_args(EffortName)


@dataclass(frozen=True)
class Settings:
    """How to register. The defaults suit every pair that was measured.

    Lengths that depend on the anatomy come from the images.

    Parameters
    ----------
    metric : str
        Similarity that local optimisation maximises; candidates are compared by
        mutual information times overlap, whatever the metric. All measure how far the
        joint histogram is from that of two images that know nothing of each other:

        ===========  ==========================================================
        "mi"         mutual information
        "nmi"        Studholme's normalised mutual information
        "ecc"        Maes' entropy correlation coefficient
        "js"         Jensen-Shannon divergence
        "hellinger"  squared Hellinger distance
        "chi2"       Pearson's chi-squared
        "oimi"       mutual information, background outside the interpolated image
        "prior"      mutual information of the histogram pooled with a learned one
        ===========  ==========================================================
    prior_strength : float
        With metric "prior", what the learned histogram counts as, in units of the
        number of samples: from 0, which is "mi", to 1000.
    bins : int
        Bins of the joint histogram along each axis.
    samples : int
        Most points compared in the end, 8000 or more. They lie in the image with the
        smaller foreground, or in the other one where noise then moves the answer less.
        Candidates are judged by a fourth of them.
    orientations : int
        Orientations tried by each global search, spread evenly over SO(3).
    candidates : int
        Poses that the global search hands on to be refined.
    seed : int
        Seed of the jitter of the sample positions.
    threads : int or None
        Threads to use; None is all processors. The answer does not depend on it.
    tolerance_mm : float or None
        An answer is right, says its verdict, if its error is within this; None is one
        voxel of the coarser image, 2 mm at least.
    effort : {"quick", "normal", "thorough"}
        How long to search on where the first search leaves doubt: not at all, until
        two searches in a row leave no other pose, or many times as long.
    time_limit : float or None
        Seconds after which no further search is begun, and what was found so far is
        refined and returned, which may take as long as a sure registration; a warning
        says so. With a limit the answer can depend on the machine and on what else it
        does; without one (None) it does not.

    Examples
    --------
    >>> Settings(metric="mi").bins
    32
    """

    metric: MetricName = "nmi"
    prior_strength: float = 1.0
    bins: int = 32
    samples: int = 200_000
    orientations: int = 1000
    candidates: int = 20
    seed: int = 0
    threads: int | None = None
    tolerance_mm: float | None = None
    effort: EffortName = "normal"
    time_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        if self.metric not in METRICS:
            raise InputError(
                f"metric is {self.metric!r}; choose one of {', '.join(METRICS)}"
            )
        lowest = {"bins": 8, "samples": 500, "orientations": 1, "candidates": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise InputError(
                    f"{name} is {getattr(self, name)}; it must be at least {least}"
                )
        if self.bins > 250:
            raise InputError(f"bins is {self.bins}; it must be at most 250")
        if not 0 <= self.prior_strength <= 1000:
            raise InputError(
                f"prior_strength is {self.prior_strength}; it must be from 0 to 1000"
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")
        if self.tolerance_mm is not None and not 0 < self.tolerance_mm < math.inf:
            raise InputError(
                f"tolerance_mm is {self.tolerance_mm}; it must be above 0, or None"
            )
        if self.effort not in EFFORTS:
            raise InputError(
                f"effort is {self.effort!r}; choose one of {', '.join(EFFORTS)}"
            )
        if self.time_limit is not None and not self.time_limit >= 0:
            raise InputError(
                f"time_limit is {self.time_limit}; it must be 0 s or more, or None"
            )
