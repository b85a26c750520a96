"""What a user may set of the method; `mireg._parameters` has every other number."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from . import _parameters as parameters
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
        Bins of the joint histogram along each axis, 8 to 250.
    samples : int
        Most points compared in the end, 8000 or more. They lie in the image with the
        smaller foreground, or in the other one where noise then moves the answer less.
        Candidates are judged by a fourth of them.
    orientations : int
        Orientations tried by each global search, spread evenly over SO(3).
    candidates : int
        Poses that the global search hands on to be refined.
    seed : int
        Seed of the jitter of the sample positions, 0 or more.
    threads : int or None
        Threads to use; None is all processors. The answer does not depend on it.
    tolerance_mm : float or None
        An answer is right, says its verdict, if its error is within this; None is one
        voxel of the coarser image, 2 mm at least.
    effort : {"quick", "normal", "thorough"}
        How long to search on where the first search leaves doubt, until noise is
        unlikely to have made the answer and it is 90 % likely right: not at all, four
        times, or twelve times.
    time_limit : float or None
        Seconds after which no further search is begun, and what was found so far is
        refined and returned, which may take as long as a sure registration; a warning
        says so. With a limit the answer can depend on the machine and on what else it
        does; without one (None) it does not.

    Raises
    ------
    InputError
        If there is no such choice, or a number is none, or out of its limits.

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
        """Refuse what cannot work; numbers of numpy become those of Python."""
        for name, choices in (("metric", tuple(METRICS)), ("effort", EFFORTS)):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; choose one of "
                    f"{', '.join(choices)}"
                )
        for name, limits in _LIMITS.items():
            object.__setattr__(self, name, limits.checked(name, getattr(self, name)))


class _Limits(NamedTuple):
    """What a number may be.

    Attributes
    ----------
    kind : {int, float}
        Of which kind it is.
    least, most : float
        Its limits; no number is infinite.
    above : bool
        Whether it must be more than the least.
    optional : bool
        Whether it may be None.
    """

    kind: Callable[[Any], float]
    least: float
    most: float = math.inf
    above: bool = False
    optional: bool = False

    def checked(self, name: str, given: Any) -> float | None:
        """Return a number as one of Python, or say what it must be."""
        if given is None and self.optional:
            return None
        fits = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(given, fits) and not isinstance(given, bool):
            number = self.kind(given)
            enough = number > self.least if self.above else number >= self.least
            if enough and number <= self.most and number < math.inf:
                return number
        what = "a whole number" if self.kind is int else "a number"
        if self.most < math.inf:
            what += f" from {self.least:g} to {self.most:g}"
        else:
            what += f" {'above' if self.above else 'of at least'} {self.least:g}"
        none = ", or None" if self.optional else ""
        raise InputError(f"{name} is {given!r}; it must be {what}{none}")


#: What the numbers among the settings may be.
_LIMITS = {
    "prior_strength": _Limits(float, 0, 1000),
    "bins": _Limits(int, 8, 250),
    "samples": _Limits(int, parameters.MIN_SAMPLES),
    "orientations": _Limits(int, 1),
    "candidates": _Limits(int, 1),
    "seed": _Limits(int, 0),
    "threads": _Limits(int, 1, optional=True),
    "tolerance_mm": _Limits(float, 0, above=True, optional=True),
    "time_limit": _Limits(float, 0, optional=True),
}


def settings_or_default(given: Settings | None) -> Settings:
    """Take the settings that a function was given, or the defaults."""
    if given is None:
        return Settings()
    if isinstance(given, Settings):
        return given
    raise InputError(
        f"settings is a {type(given).__name__}; give mireg.Settings(...), such as "
        'mireg.Settings(metric="mi"), or None'
    )
