"""The table of a series' motion, with the names of fMRIPrep, and what they mean.

Arrays in, arrays out; the first value of what is taken from volume to volume is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import _parameters as parameters

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]

#: Names of the six numbers, shifts first.
_NAMES = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

#: Robust standard deviation of a normal distribution, from its quartiles.
_IQR_PER_SIGMA = 1.349

#: Median that DVARS are scaled to.
_DVARS_MEDIAN = 1000.0


@dataclass(frozen=True)
class Thresholds:
    """When a volume counts as an outlier of motion.

    Parameters
    ----------
    framewise_displacement_mm : float
        Above this.
    std_dvars : float
        Or above this.
    """

    framewise_displacement_mm: float = 0.5
    std_dvars: float = 1.5


def framewise_displacement(motion: FloatArray, radius_mm: float = 50.0) -> FloatArray:
    """Sum up how far each volume moved from the one before [1]_.

    Parameters
    ----------
    motion : (n, 6) array
        Three angles (rad), three shifts (mm) a volume, as in FSL's ``.par``.
    radius_mm : float, optional
        Radius of the sphere on which angles become lengths: 50 mm for a human head.

    Returns
    -------
    (n,) ndarray
        Millimetres; the first is NaN.

    References
    ----------
    .. [1] Power et al., "Spurious but systematic correlations in functional
       connectivity MRI networks arise from subject motion", NeuroImage 2012.

    Examples
    --------
    A nod of 0.01 rad, then a shift of 1 mm to one side and 2 mm back:

    >>> motion = np.array([[0, 0, 0, 0, 0, 0], [0.01, 0, 0, 0, 0, 0],
    ...                    [0.01, 0, 0, 1, -2, 0]])
    >>> framewise_displacement(motion)
    array([nan, 0.5, 3. ])
    """
    steps = np.abs(np.diff(motion, axis=0)) * np.repeat([radius_mm, 1.0], 3)
    return np.concatenate([[np.nan], steps.sum(axis=1)])


def rms_deviation(
    motions: FloatArray,
    centre: npt.ArrayLike,
    radius_mm: float = parameters.RMS_RADIUS_MM,
) -> FloatArray:
    """Root mean square change from one motion to the next, over a sphere [1]_.

    Parameters
    ----------
    motions : (n, 4, 4) array
        Rigid matrices, mm to mm.
    centre : (3,) array_like
        Centre of the sphere, mm, where the motions lead.
    radius_mm : float, optional
        Its radius.

    Returns
    -------
    (n,) ndarray
        Millimetres; the first is NaN.

    References
    ----------
    .. [1] Jenkinson, "Measuring transformation error by RMS deviation", FMRIB technical
       report TR99MJ1, 1999.

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[:3, 3] = [3, 0, 4]
    >>> rms_deviation(np.array([np.eye(4), shift]), [0, 0, 0])
    array([nan,  5.])
    """
    change = motions[1:] @ np.linalg.inv(motions[:-1]) - np.eye(4)
    turn = change[:, :3, :3]
    shift = change[:, :3, 3] + turn @ np.asarray(centre, np.float64)
    square = np.square(shift).sum(axis=1)
    square += radius_mm**2 / 5 * np.square(turn).sum(axis=(1, 2))
    return np.concatenate([[np.nan], np.sqrt(square)])


@dataclass
class Signals:
    """What is gathered of a series while its volumes go by.

    Parameters
    ----------
    where : (nx, ny, nz) ndarray, bool
        Voxels that are looked at.

    Attributes
    ----------
    carpet : list of (m,) ndarray
        Intensities of some of them, spread evenly, in each volume.
    """

    where: npt.NDArray[np.bool_]
    carpet: list[Volume] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose the voxels of the carpet."""
        voxels = np.flatnonzero(self.where)
        self._few = voxels[:: max(1, -(-len(voxels) // parameters.CARPET_VOXELS))]
        self._voxels = voxels
        self._before: Volume | None = None
        self._squares: list[float] = []

    def add(self, volume: Volume) -> None:
        """Take one more volume, (nx, ny, nz)."""
        flat = volume.ravel()
        here = flat[self._voxels]
        if self._before is not None:
            change = (here - self._before).astype(np.float64)
            known = np.isfinite(change)
            squares = np.square(change[known])
            self._squares.append(float(squares.mean()) if known.any() else np.nan)
        self._before = here
        self.carpet.append(flat[self._few])

    def z_scores(self) -> Volume:
        """Give the carpet, (voxels, volumes), each voxel in units of its own spread."""
        rows = np.array(self.carpet, np.float32).T
        rows = rows[np.isfinite(rows).all(axis=1)]
        if not rows.size:
            return rows
        spread = rows.std(axis=1, keepdims=True)
        return (rows - rows.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-6)

    def dvars(self) -> tuple[FloatArray, FloatArray]:
        """Give DVARS, and those in units of what noise alone would make of them [1]_.

        As nipype's ``ComputeDVARS``, which fMRIPrep uses, but that the spread over time
        is learned from the voxels of the carpet: memory does not grow with the voxels.

        References
        ----------
        .. [1] Nichols, "Notes on creating a standardized version of DVARS", 2013.
        """
        carpet = np.array(self.carpet, np.float64).T  # voxels, volumes
        carpet = carpet[np.isfinite(carpet).all(axis=1)]
        plain = np.concatenate([[np.nan], np.sqrt(self._squares)])
        if not carpet.size:
            return np.full_like(plain, np.nan), np.full_like(plain, np.nan)
        median = float(np.median(carpet))
        scale = _DVARS_MEDIAN / median if median > 0 else 1.0
        low, high = (
            np.percentile(carpet, share, axis=1, method="lower") for share in (25, 75)
        )
        spread = (high - low) / _IQR_PER_SIGMA * scale
        moves = spread > 1e-7
        around = carpet[moves] - carpet[moves].mean(axis=1, keepdims=True)
        square = np.square(around).sum(axis=1)
        lagged = (around[:, 1:] * around[:, :-1]).sum(axis=1)
        ar1 = np.divide(lagged, square, out=np.zeros_like(square), where=square > 0)
        expected = (
            float((np.sqrt(2 * (1 - ar1)) * spread[moves]).mean())
            if any(moves)
            else np.nan
        )
        plain *= scale
        return plain, plain / expected


def confounds(
    motion: FloatArray,
    motions: FloatArray,
    centre: npt.ArrayLike,
    *,
    standard_error_mm: FloatArray,
    doubted: npt.NDArray[np.bool_],
    dvars: tuple[FloatArray, FloatArray] | None = None,
    radius_mm: float = 50.0,
    thresholds: Thresholds | None = None,
) -> dict[str, FloatArray]:
    """Make the columns of the table, in their order; NaN where there is no value.

    Parameters
    ----------
    motion : (n, 6) array
        Angles (rad) and shifts (mm), as in FSL's ``.par``.
    motions : (n, 4, 4) array
        The same as matrices.
    centre : (3,) array_like
        Centre of the sphere of `rms_deviation`, mm.
    standard_error_mm, doubted : (n,) array
        As `SeriesMotion` has them.
    dvars : tuple of (n,) array, optional
        As `Signals.dvars` gives them.
    radius_mm : float, optional
        See `framewise_displacement`.
    thresholds : Thresholds, optional
        What makes a volume an outlier.

    Returns
    -------
    dict of str to (n,) ndarray
        By the names of the columns.
    """
    thresholds = thresholds or Thresholds()
    columns: dict[str, FloatArray] = {}
    displacement = framewise_displacement(motion, radius_mm)
    outlier = displacement > thresholds.framewise_displacement_mm
    columns["framewise_displacement"] = displacement
    columns["rmsd"] = rms_deviation(motions, centre)
    if dvars is not None:
        columns["dvars"], columns["std_dvars"] = dvars
        outlier |= columns["std_dvars"] > thresholds.std_dvars
    for name, values in zip(_NAMES, motion[:, [3, 4, 5, 0, 1, 2]].T, strict=True):
        derivative = np.concatenate([[np.nan], np.diff(values)])
        columns[name] = values
        columns[f"{name}_derivative1"] = derivative
        columns[f"{name}_derivative1_power2"] = derivative**2
        columns[f"{name}_power2"] = values**2
    columns["standard_error_mm"] = standard_error_mm
    columns["doubted"] = doubted.astype(np.float64)
    for number, volume in enumerate(np.flatnonzero(outlier)):
        column = np.zeros(len(motion))
        column[volume] = 1
        columns[f"motion_outlier{number:02d}"] = column
    return columns


def table_text(columns: Mapping[str, FloatArray]) -> str:
    """Write columns as tab-separated values; n/a where there is none.

    Examples
    --------
    >>> print(table_text({"a": np.array([np.nan, 0.5]), "b": np.array([1.0, 0.0])}))
    a	b
    n/a	1
    0.5	0
    <BLANKLINE>
    """
    rows = ["\t".join(columns)]
    for values in zip(*columns.values(), strict=True):
        rows.append(
            "\t".join("n/a" if np.isnan(x) else f"{x + 0.0:.10g}" for x in values)
        )
    return "\n".join(rows) + "\n"


def definitions(
    columns: Mapping[str, FloatArray], radius_mm: float, thresholds: Thresholds
) -> dict[str, dict[str, object]]:
    """Say what each column means, for the file beside the table."""
    frame = (
        "motion that brings the volume onto the reference, in the frame and about the "
        "centre of FSL's MCFLIRT"
    )
    said: dict[str, dict[str, object]] = {
        "framewise_displacement": {
            "Description": "sum of absolute changes of the six numbers from the volume "
            f"before, angles on a sphere of {radius_mm:g} mm (Power et al. 2012)",
            "Units": "mm",
        },
        "rmsd": {
            "Description": "root mean square deviation from the volume before over a "
            f"sphere of {parameters.RMS_RADIUS_MM:g} mm about the centre of the grid "
            "(Jenkinson 1999)",
            "Units": "mm",
        },
        "dvars": {
            "Description": "root mean square change of intensity from the volume "
            "before, over the head in the reference, after realignment; the median "
            f"intensity is {_DVARS_MEDIAN:g}",
        },
        "std_dvars": {
            "Description": "dvars divided by what it is expected to be, by the robust "
            "spread and autocorrelation over time (Nichols 2013) of each of up to "
            f"{parameters.CARPET_VOXELS} voxels"
        },
        "standard_error_mm": {
            "Description": "error that noise alone is expected to leave in the "
            "transform, root mean square over the head",
            "Units": "mm",
        },
        "doubted": {
            "Description": "1 where the transform may be wrong: its standard error is "
            "above half a voxel or cannot be told, or the optimisation did not end"
        },
    }
    for name in _NAMES:
        unit = "mm" if name.startswith("trans") else "rad"
        said[name] = {"Description": frame, "Units": unit}
        change = f"change of {name} from the volume before"
        said[f"{name}_derivative1"] = {"Description": change, "Units": unit}
        said[f"{name}_derivative1_power2"] = {"Description": f"square of the {change}"}
        said[f"{name}_power2"] = {"Description": f"square of {name}"}
    outlier = (
        "1 in one volume whose framewise_displacement is above "
        f"{thresholds.framewise_displacement_mm:g} mm or std_dvars above "
        f"{thresholds.std_dvars:g}"
    )
    return {name: said.get(name, {"Description": outlier}) for name in columns}
