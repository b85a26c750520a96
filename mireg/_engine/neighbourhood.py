"""Poses next door: where anatomy repeats itself, or nearly fits when it is turned.

Vertebrae are alike, and a head nearly fits upside down or a little tilted. A search can
end at such a twin of the right pose, from which no small step leads away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.spatial.transform import Rotation

from .. import _parameters as parameters
from .._image import memory_order
from .._prepare import Foreground, PreparedImage, downsample, shrink_factors
from .uncertainty import Uncertainty

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


def twins(
    sampled: PreparedImage, interpolated: PreparedImage, pose: FloatArray
) -> FloatArray:
    """List the poses in which the anatomy may nearly fit as well as in one.

    Parameters
    ----------
    sampled, interpolated : PreparedImage
        The images.
    pose : (4, 4) array
        `interpolated_from_sampled`, RAS+ mm to RAS+ mm.

    Returns
    -------
    (n, 4, 4) ndarray
        The pose after shifts by the periods of either image, and after half a turn
        about each principal axis of the sampled foreground.
    """
    shifts = [*periods(sampled), *(periods(interpolated) @ pose[:3, :3])]
    shifted = np.tile(np.eye(4), (len(shifts), 1, 1))
    if shifts:
        shifted[:, :3, 3] = shifts
    turned = turns(sampled.foreground, np.pi)[:3]  # the others are the same
    return np.asarray(pose @ np.concatenate([shifted, turned]))


def periods(prepared: PreparedImage) -> FloatArray:
    """Find the shifts by which an image most resembles itself.

    They are maxima of the autocorrelation of its foreground.

    Parameters
    ----------
    prepared : PreparedImage
        The image.

    Returns
    -------
    (n, 3) ndarray
        RAS+ mm, in pairs of opposite shifts, the most alike first; empty for an image
        that repeats nothing.
    """
    foreground = prepared.foreground
    low = prepared.low_resolution
    size = foreground.rms_radius / parameters.REPEATS_RADIUS_VOXELS
    image = downsample(low, shrink_factors(low, size))
    planes = prepared.corrected.planes_of(image)(slice(None))
    values = planes.transpose(np.argsort(memory_order(image.data)))
    inside = prepared.scale.is_foreground(image.data) & np.isfinite(values)
    box = ndimage.find_objects(inside.astype(int))
    if box:
        inside, values = inside[box[0]], values[box[0]]
    if inside.sum() < parameters.REPEATS_VOXELS:
        return np.empty((0, 3))
    contrast = np.where(inside, values - values[inside].mean(), np.float32(0))
    shape = [next_fast_len(2 * n - 1, real=True) for n in inside.shape]

    def correlated(volume: Volume) -> Volume:
        spectrum = rfftn(volume, shape)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        return np.asarray(np.fft.fftshift(irfftn(power, shape)), np.float32)

    overlap = correlated(inside.astype(np.float32))
    alike = correlated(contrast) / np.maximum(overlap, 1)
    alike /= np.square(contrast[inside]).mean()
    shifts = np.indices(shape).reshape(3, -1).T - np.array(shape) // 2
    shifts = shifts @ image.mm_from_ijk[:3, :3].T
    length = np.linalg.norm(shifts, axis=1) / foreground.rms_radius
    good = (
        (alike == ndimage.maximum_filter(alike, 3)).ravel()
        & (alike > parameters.REPEATS_ALIKE).ravel()
        & (overlap > parameters.REPEATS_OVERLAP * inside.sum()).ravel()
        & (length > parameters.DISTINCT_RADII)
        & (length < parameters.REPEATS_RADII)
    )
    found = np.flatnonzero(good)
    best = np.argsort(-alike.ravel()[found].round(9), kind="stable")
    return shifts[found[best]][: 2 * parameters.REPEATS]


def within_error(found: Uncertainty, radius: float) -> FloatArray:
    """Motions (6, 4, 4), before a pose, by as much as noise leaves it uncertain.

    Two standard errors either way along the three directions, of the six, that are the
    least certain; `radius`, mm, is the RMS radius of what is moved.
    """
    lengths = np.repeat([radius, 1.0], 3)
    square, directions = np.linalg.eigh(found.covariance * np.outer(lengths, lengths))
    steps = 2 * np.sqrt(square.clip(0)) * directions
    steps = np.concatenate([steps[:, :2:-1], -steps[:, :2:-1]], axis=1).T / lengths
    motions = np.tile(np.eye(4), (6, 1, 1))
    motions[:, :3, :3] = Rotation.from_rotvec(steps[:, :3]).as_matrix()
    motions[:, :3, 3] = found.centre - motions[:, :3, :3] @ found.centre + steps[:, 3:]
    return motions


def turns(foreground: Foreground, angle: float) -> FloatArray:
    """Motions (6, 4, 4) by an angle (rad) either way about the principal axes."""
    off = foreground.points - foreground.centroid
    _, axes = np.linalg.eigh(off.T @ off)
    turned = Rotation.from_rotvec(angle * np.concatenate([axes.T, -axes.T]))
    motions = np.tile(np.eye(4), (6, 1, 1))
    motions[:, :3, :3] = turned.as_matrix()
    motions[:, :3, 3] = foreground.centroid - motions[:, :3, :3] @ foreground.centroid
    return motions
