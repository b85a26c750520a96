"""Motion over time as a picture: the six numbers, displacement, DVARS, a carpet."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ._confounds import Signals, Thresholds
from ._errors import InputError

FloatArray = npt.NDArray[np.float64]


def series_picture(
    columns: Mapping[str, FloatArray],
    signals: Signals,
    repetition_time: float,
    thresholds: Thresholds,
) -> bytes:
    """Draw the table of motion and a carpet; give a PNG.

    Parameters
    ----------
    columns : mapping of str to (n,) array
        As `_confounds.confounds` gives them.
    signals : Signals
        With the carpet.
    repetition_time : float
        Between volumes; NaN if not known.
    thresholds : Thresholds
        Drawn as lines.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            "pictures need matplotlib, which is not installed; get it by: pip install "
            "matplotlib"
        ) from error
    count = len(columns["rmsd"])
    known = math.isfinite(repetition_time) and repetition_time > 0
    x = np.arange(count) * (repetition_time if known else 1.0)
    figure = Figure(figsize=(10, 9), layout="constrained")
    shifts, turns, moved, change, carpet = figure.subplots(
        5, 1, sharex=True, height_ratios=[1, 1, 1, 1, 2]
    )
    for axis, colour in zip("xyz", ("C0", "C1", "C2"), strict=True):
        shifts.plot(x, columns[f"trans_{axis}"], colour, label=axis)
        turns.plot(x, np.rad2deg(columns[f"rot_{axis}"]), colour, label=axis)
    shifts.set_ylabel("shift, mm")
    turns.set_ylabel("rotation, degrees")
    shifts.legend(loc="upper right", ncols=3, frameon=False)
    moved.plot(x, columns["framewise_displacement"], "C3")
    moved.axhline(thresholds.framewise_displacement_mm, color="0.6", ls="--")
    moved.set_ylabel("framewise\ndisplacement, mm")
    if "std_dvars" in columns:
        change.plot(x, columns["std_dvars"], "C4")
        change.axhline(thresholds.std_dvars, color="0.6", ls="--")
    change.set_ylabel("std DVARS")
    outliers = [columns[n] for n in columns if n.startswith("motion_outlier")]
    for axes in (moved, change):
        for column in outliers:
            axes.axvline(x[column.argmax()], color="C3", alpha=0.25)
        for volume in np.flatnonzero(columns["doubted"]):
            axes.axvline(x[volume], color="k", alpha=0.5, ls=":")
    rows = signals.z_scores()
    if rows.size:
        step = (x[-1] - x[0]) / max(count - 1, 1) / 2
        carpet.imshow(
            rows,
            aspect="auto",
            cmap="gray",
            vmin=-2,
            vmax=2,
            interpolation="none",
            extent=(x[0] - step, x[-1] + step, len(rows), 0),
        )
    carpet.set_yticks([])
    carpet.set_ylabel("voxels, z scores")
    carpet.set_xlabel("s" if known else "volume")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()
