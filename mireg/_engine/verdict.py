"""May an answer be trusted: from signals to a probability, an error, and reasons.

The model adds up log-odds that a handful of signals have, each by a table that goes one
way; for the error it is a line in logarithms. Its numbers are in ``verdict.json``, with
where they come from: ``scripts/verdict_study.py`` makes answers right and wrong, and
learns from them.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit, ndtr

from .. import _parameters as parameters
from .._files.records import json_number
from .._prepare import Foreground
from .optimize import Fit

#: 90 % of a normal distribution lie below so many standard deviations.
NORMAL_90 = 1.2815515655446004

#: What is said of left and right.
Handedness = Literal["as stored", "mirrored", "cannot be told"]

#: What a signal says where it speaks against an answer, by its name; it is given the
#: signal as ``x``, with two digits as ``short``, and in percent as ``percent``.
REASONS = {
    "error_voxels": "noise alone moves it by {short} voxels",
    "runner_up": "a pose elsewhere explains {percent:.0f} % as much",
    "overlap": "only {percent:.0f} % of the compared points lie inside both images",
    "information": "the images tell only {short} nats a sample of each other",
    "coarse_share": "the coarse images tell {percent:.0f} % as much as the fine ones, "
    "as those of two people do",
    "cost_voxel": "a move by a voxel costs only {percent:.1f} % of the information",
    "least_cost_voxel": "in one direction a move by a voxel costs only {percent:.1f} % "
    "of the information",
    "wrong_pose_z": "it explains only {x:.1f} standard deviations more than wrong "
    "poses",
    "wrong_pose_share": "poses turned at random explain up to {percent:.0f} % as much",
    "residual_told": "only {percent:.0f} % of the anatomy tells where it fits",
    "residual_median_mm": "half of the anatomy fits best {short} mm off or more",
    "residual_rms_mm": "parts of the anatomy fit best {short} mm off",
    "residual_worst_mm": "a tenth of the anatomy fits best {short} mm off or more",
    "residual_fit": "only {percent:.0f} % of the anatomy fits within a voxel",
    "residual_share": "few parts of the anatomy are seen to fit within a voxel",
    "residual_rigid_mm": "the anatomy as a whole fits best {short} mm off",
    "residual_gain": "parts of the anatomy gain {percent:.0f} % by moving",
    "mirrored_share": "its mirror image explains {percent:.0f} % as much",
    "mirrored_z": "its mirror image fits as well, or better",
}
#: How the note begins that a doubtful answer gets.
DOUBT = "the answer is doubtful"

_UNKNOWN = "too little overlaps to tell how far noise moves it"


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an answer is right, how far off it may be, and why.

    Attributes
    ----------
    probability : float
        That the answer is right: that its error, the mean over the anatomy, is within
        `tolerance_mm`; if right and wrong were as likely before the images were seen.
    tolerance_mm : float
        What counts as right.
    error_mm, error_bound_mm : float
        Median of the error expected of an answer that is right, mm, and what 9 of 10
        stay below; NaN if unknown. Distortion of an image may add to it.
    same_anatomy : float
        Probability that both images show the same person's anatomy.
    mirrored : float
        Probability that one of the images is stored mirrored, if that were as likely as
        not; 0.5 if unknown.
    reasons : tuple of str
        What speaks against the answer, the most important first, in plain words.
    signals : mapping of str to float
        What was measured; NaN where it could not be.
    """

    probability: float
    tolerance_mm: float
    error_mm: float
    error_bound_mm: float
    same_anatomy: float
    mirrored: float
    reasons: tuple[str, ...]
    signals: Mapping[str, float]

    def __repr__(self) -> str:
        """Say in one line how likely the answer is right."""
        return f"<Verdict: {self.summary}; error {self.error_summary}>"

    @property
    def doubtful(self) -> bool:
        """Whether the answer is less than 75 % likely right."""
        return not self.probability >= parameters.DOUBTFUL_BELOW

    @property
    def handedness(self) -> Handedness:
        """Whether left is left: "as stored", "mirrored" or "cannot be told"."""
        if self.mirrored > parameters.MIRRORED_ABOVE:
            return "mirrored"
        if self.mirrored < 1 - parameters.MIRRORED_ABOVE:
            return "as stored"
        return "cannot be told"

    @property
    def summary(self) -> str:
        """Say in one line how likely the answer is right."""
        doubt = "doubtful, " if self.doubtful else ""
        chance = in_percent(self.probability)
        return f"{doubt}{chance} likely right within {in_short(self.tolerance_mm)} mm"

    @property
    def warning(self) -> str:
        """Say that the answer is doubtful, and why."""
        why = "; ".join(self.reasons[:2]) or "taken together, all that was measured"
        return (
            f"{DOUBT}, {in_percent(self.probability)} likely right "
            f"within {in_short(self.tolerance_mm)} mm: {why}; look whether it is right"
        )

    @property
    def error_summary(self) -> str:
        """Say how far off the answer is expected to be, if it is right."""
        if math.isnan(self.error_mm):
            return "unknown"
        median, bound = in_short(self.error_mm), in_short(self.error_bound_mm)
        return f"{median} mm; 9 of 10 within {bound} mm"

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, ready for JSON."""
        return {
            "probability": self.probability,
            "tolerance_mm": self.tolerance_mm,
            "error_mm": json_number(self.error_mm),
            "error_bound_mm": json_number(self.error_bound_mm),
            "same_anatomy": self.same_anatomy,
            "mirrored": self.mirrored,
            "handedness": self.handedness,
            "reasons": list(self.reasons),
            "signals": {name: json_number(x) for name, x in self.signals.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """Take it from what `to_dict` gave."""

        def number(value: float | None) -> float:
            return math.nan if value is None else float(value)

        return cls(
            **{
                name: number(record[name])
                for name in (
                    "probability",
                    "tolerance_mm",
                    "error_mm",
                    "error_bound_mm",
                    "same_anatomy",
                    "mirrored",
                )
            },
            reasons=tuple(record["reasons"]),
            signals={name: number(x) for name, x in record["signals"].items()},
        )


def verdict(
    signals: Mapping[str, float],
    *,
    standard_error_mm: float,
    voxel_mm: float,
    usual_mm: float,
    tolerance_mm: float,
    distance_mm: float = 0.0,
) -> Verdict:
    """Judge an answer, or a pose that lies off one.

    Parameters
    ----------
    signals : mapping of str to float
        What was measured at the answer.
    standard_error_mm : float
        Of the answer; NaN where that cannot be told.
    voxel_mm : float
        Voxel of the coarser image.
    usual_mm, tolerance_mm : float
        Error up to which an answer is right, usually and here.
    distance_mm : float, optional
        How far from the answer the pose lies that is judged, the mean over the anatomy.

    Notes
    -----
    The probability that the answer is right is learned for the usual tolerance. The
    error is lognormal about a power of the standard error, beside what real scans are
    off for other reasons than noise; the distance of a pose off the optimum adds to it
    at a right angle, as errors in many dimensions do.
    """
    model = _model()
    signals = {**signals, "residual_share": residual_share(signals)}
    median = _median_error(model["error"], standard_error_mm, voxel_mm, usual_mm)
    spread = model["error"]["spread"]
    mirrored = 0.5
    if not math.isnan(signals.get("mirrored_z", math.nan)):
        mirrored = 1 - _probability(model["as_stored"], signals)
        # Beside a pose that explains no more than any other, a mirrored one may well.
        if not signals.get("wrong_pose_share", 0.0) < parameters.MIRRORED_SHARE:
            mirrored = min(mirrored, 0.5)
    right = min(_probability(model["right"], signals), float(expit(_ahead(signals))))
    right *= min(1.0, _not_mirrored(mirrored) / _not_mirrored(0.5))
    beside = math.sqrt(max(tolerance_mm**2 - distance_mm**2, 0.0))
    usually = _within(usual_mm, median, spread)
    # Of answers that are right within the usual tolerance, some are within this one.
    right *= min(1.0, _within(beside, median, spread) / max(usually, 1e-9))
    bound = median * math.exp(NORMAL_90 * spread)
    return Verdict(
        probability=right,
        tolerance_mm=tolerance_mm,
        error_mm=math.hypot(median, distance_mm),
        error_bound_mm=math.hypot(bound, distance_mm),
        same_anatomy=_probability(model["same_anatomy"], signals),
        mirrored=mirrored,
        reasons=_reasons(model["right"], signals, mirrored),
        signals=dict(signals),
    )


def usual_tolerance_mm(voxel_mm: float, foreground: Foreground) -> float:
    """Error, mm, up to which an answer is right where nothing else is said.

    One voxel of the coarser image, but 2 mm at least; less for small anatomy.
    """
    small = parameters.TOLERANCE_RADII * foreground.rms_radius
    return max(voxel_mm, min(parameters.TOLERANCE_MM, small))


@functools.cache
def _model() -> Mapping[str, Any]:
    """Read the numbers of the model."""
    return json.loads(Path(__file__).with_suffix(".json").read_bytes())


def residual_share(signals: Mapping[str, float]) -> float:
    """Share of the anatomy that fits, drawn to a half where little of it tells.

    As if a few per cent of the anatomy told, too, and half of those fitted.
    """
    told, fits = (signals.get(f"residual_{x}", math.nan) for x in ("told", "fit"))
    few = parameters.RESIDUALS_TOLD
    return (told * (fits if told > 0 else 0.0) + few / 2) / (told + few)


def _contributions(
    part: Mapping[str, Any], signals: Mapping[str, float]
) -> dict[str, float]:
    """Log-odds that each signal adds to those of a typical right answer.

    One that could not be measured adds what that was seen to mean; nothing, where it
    was not looked for.
    """
    added = {}
    for name, term in part["signals"].items():
        x = signals.get(name, math.nan)
        added[name] = (
            term["unknown"]
            if math.isnan(x)
            else float(np.interp(x, term["at"], term["adds"]))
        )
    return added


def _probability(part: Mapping[str, Any], signals: Mapping[str, float]) -> float:
    """Turn log-odds into a probability; the intercept is that of a typical answer."""
    return float(expit(part["intercept"] + sum(_contributions(part, signals).values())))


def runner_up(fits: Sequence[Fit], foreground: Foreground) -> tuple[float, float]:
    """Find the best pose elsewhere.

    Parameters
    ----------
    fits : sequence of Fit
        What was followed to the finest level, the best, which led to the answer, first.
    foreground : Foreground
        Of the image that was sampled for them; measures how far apart poses are.

    Returns
    -------
    share : float
        Share of what the best explains that this one does; 0 if there is none.
    apart_mm : float
        How far it is from the best; 0 if there is none.
    """
    best = fits[0]
    for fit in fits[1:]:
        apart = foreground.distance(best.pose, fit.pose)
        elsewhere = apart > parameters.DISTINCT_RADII * foreground.rms_radius
        if elsewhere and fit.weighted_information > 0:
            return fit.weighted_information / best.weighted_information, apart
    return 0.0, 0.0


def _reasons(
    part: Mapping[str, Any], signals: Mapping[str, float], mirrored: float
) -> tuple[str, ...]:
    """Say what speaks against an answer, the most important first.

    Nothing of a mirror image where left is said to be left.
    """
    added = _contributions(part, signals)
    behind = _ahead(signals) - part["intercept"]
    added["runner_up"] = min(added.get("runner_up", 0.0), behind, 0.0)
    if mirrored < 1 - parameters.MIRRORED_ABOVE:
        added = {name: x for name, x in added.items() if "mirrored" not in name}
    against = sorted(added, key=added.__getitem__)
    said = (
        _UNKNOWN
        if not math.isfinite(signals.get(name, math.nan))
        else REASONS[name].format(
            x=signals[name],
            short=in_short(signals[name]),
            percent=max(100 * signals[name], 0.0),  # rounding, and noise, go below
        )
        for name in against[: parameters.MOST_REASONS]
        if added[name] < -parameters.REASON_LOG_ODDS
    )
    return tuple(dict.fromkeys(said))  # what is unknown is said once


def _median_error(
    part: Mapping[str, float],
    standard_error_mm: float,
    voxel_mm: float,
    usual_mm: float,
) -> float:
    """Median of the error, mm, of an answer with this standard error.

    Beside noise, scanners and patients bend what a rigid motion should explain.
    """
    if not standard_error_mm > 0:
        return math.nan
    by_noise = math.exp(
        part["constant"]
        + part["log_standard_error"] * math.log(standard_error_mm)
        + part["log_voxel"] * math.log(voxel_mm)
    )
    return math.hypot(by_noise, part["bent"] * min(usual_mm, parameters.TOLERANCE_MM))


def _within(limit_mm: float, median_mm: float, spread: float) -> float:
    """Probability that a lognormal error is within a limit; 1 if nothing is known."""
    if math.isnan(median_mm) or median_mm == 0:
        return 1.0
    if limit_mm <= 0:
        return 0.0
    return float(ndtr(math.log(limit_mm / median_mm) / spread))


def _ahead(signals: Mapping[str, float]) -> float:
    """Most that an answer's log-odds can be: even where a runner-up is as good."""
    share = signals.get("runner_up", math.nan)
    if math.isnan(share):
        return math.inf
    return parameters.RUNNER_UP_SLOPE * (1 - share)


def _not_mirrored(probability: float) -> float:
    """Turn the probability of a mirrored image at even odds into that of none."""
    yes = probability * parameters.MIRRORED_PRIOR
    no = (1 - probability) * (1 - parameters.MIRRORED_PRIOR)
    return no / (yes + no)


def in_short(x: float) -> str:
    """Write two digits of a number, without an exponent where it is large.

    Examples
    --------
    >>> in_short(0.0123), in_short(100), in_short(1234)
    ('0.012', '100', '1200')
    """
    return f"{float(f'{x:.2g}'):.15g}"


def in_percent(probability: float) -> str:
    """Say a probability in percent, without claiming certainty.

    Examples
    --------
    >>> in_percent(0.123), in_percent(0.9997)
    ('12 %', 'more than 99.9 %')
    """
    if probability > 0.999:
        return "more than 99.9 %"
    if probability < 0.001:
        return "less than 0.1 %"
    return (
        f"{100 * probability:.1f} %"
        if probability > 0.99
        else (f"{100 * probability:.2g} %")
    )
