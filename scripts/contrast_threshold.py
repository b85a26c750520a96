"""Find how little contrast a scan may have before its registration fails.

    python scripts/contrast_threshold.py --heads 2 --json FILE

A T1 of a synthetic head is registered with its T2, EPI, CT and PET scan, in a random
pose; the latter is degraded step by step by noise, by pulling the intensities towards
the background until few whole numbers are left, and by blur. A registration fails when
its mean error over the brain is above 2 mm. For each figure of `mireg.contrast` the
script prints

- how well it alone tells the failures from the rest: the area under the ROC curve,
  0.5 for a coin, 1 for no mistake, over all scans and over those with noise;
- the threshold that makes the fewest mistakes, and how many of each kind.

`mireg._contrast.LEAST_STRUCTURE` is taken from its output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from mireg._contrast import contrast
from mireg._image import Image
from mireg._register import register
from mireg.phantom import brain_points, phantom_pair

Row = dict[str, Any]

FAILED_MM = 2.0
#: Contrast of the moving scan, and its voxel size in mm.
SCANS = (("T2", 2.0), ("EPI", 3.0), ("CT", 2.0), ("PET", 4.0))
#: Standard deviation of the noise in contrasts of foreground to background.
NOISES = (0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0)
#: Grey levels that are left, in whole numbers.
LEVELS = (16, 4, 1.2)
#: Standard deviation of the Gaussian blur, mm.
BLURS = (4.0, 8.0, 12.0, 18.0, 26.0)
FIGURES = {  # name: whether more of it is better
    "score_bits": False,
    "structure": True,
    "foreground_kl_bits": False,
    "foreground_levels": True,
    "whole_kl_bits": False,
    "whole_levels": True,
}


def degraded(image: Image, seed: int) -> Iterator[tuple[str, float, Image]]:
    """Yield a scan and what is left of it."""
    rng = np.random.default_rng([seed, 0xC0])
    data = image.data.astype(np.float64)
    background = float(np.median(data[:2]))
    full = np.percentile(np.abs(data - background), 99)
    yield "none", 0.0, image

    def like(values: npt.NDArray[np.float64]) -> Image:
        return Image(values, image.mm_from_ijk)

    for noise in NOISES:
        grain = rng.standard_normal(data.shape)
        yield "noise", noise, like(data + noise * full * grain)
    for levels in LEVELS:
        yield "levels", levels, like(np.rint((data - background) * levels / full))
    for blur in BLURS:
        sigma = blur / image.voxel_size_mm
        yield "blur", blur, like(ndimage.gaussian_filter(data, sigma, mode="nearest"))


def measured(heads: int) -> Iterator[Row]:
    """Register every degraded scan of every head."""
    for seed in range(100, 100 + heads):
        points = brain_points(seed)
        for name, size in SCANS:
            pair = phantom_pair(
                "T1",
                name,
                seed=seed,
                fixed_voxel_size_mm=2.0,
                moving_voxel_size_mm=size,
            )
            for kind, amount, moving in degraded(pair.moving, seed):
                found = register(pair.fixed, moving).transform
                errors = found.displacements(points, pair.moving_from_fixed)
                yield {
                    "seed": seed,
                    "scan": name,
                    "degraded": kind,
                    "amount": amount,
                    "tre_mm": float(errors.mean()),
                    **contrast(moving).figures(),
                }


def told_apart(rows: list[Row], figure: str, more_is_better: bool) -> str:
    """Tell in one line how well a figure predicts failure."""
    sign = 1 if more_is_better else -1
    failed = np.array([row["tre_mm"] > FAILED_MM for row in rows])
    value = sign * np.array([row[figure] for row in rows])
    ranks = stats.rankdata(value)
    n_bad, n_good = failed.sum(), (~failed).sum()
    if not n_bad or not n_good:
        return f"{figure:20} no two classes"
    area = (ranks[~failed].sum() - n_good * (n_good + 1) / 2) / (n_bad * n_good)
    distinct = np.unique(value)
    cuts = (distinct[1:] + distinct[:-1]) / 2
    missed = np.array([(failed & (value > cut)).sum() for cut in cuts])
    alarms = np.array([(~failed & (value <= cut)).sum() for cut in cuts])
    best = int(np.argmin(missed + alarms))
    return (
        f"{figure:20} area {area:.3f}, best threshold {sign * cuts[best]:.3f}: "
        f"{missed[best]} of {n_bad} failures missed, "
        f"{alarms[best]} of {n_good} false alarms"
    )


def main() -> None:
    """Measure, and print the table and the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args()
    rows = []
    for row in measured(given.heads):
        rows.append(row)
        figures = "  ".join(f"{name} {row[name]:.2f}" for name in FIGURES)
        print(
            f"{row['seed']} {row['scan']:4} {row['degraded']:6} {row['amount']:5g}  "
            f"TRE {row['tre_mm']:6.2f}  {figures}",
            flush=True,
        )
    for title, chosen in (
        ("all", rows),
        ("noise", [row for row in rows if row["degraded"] in ("none", "noise")]),
        ("blur", [row for row in rows if row["degraded"] in ("none", "blur")]),
    ):
        print(f"\n{title}:")
        for figure, more_is_better in FIGURES.items():
            print("  " + told_apart(chosen, figure, more_is_better))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
