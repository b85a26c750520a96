"""Two prepared images in their roles, and the channels in which they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .._prepare import Normalisation, PreparedImage
from .._threads import shared

FloatArray = npt.NDArray[np.float64]

#: Channels by the image whose bias field is divided out: to the engine, and to the user
#: where the fixed image is sampled and where the moving one is.
_USER_NAMES = {
    "original": ("original", "original"),
    "sampled_corrected": ("fixed_corrected", "moving_corrected"),
    "interpolated_corrected": ("moving_corrected", "fixed_corrected"),
}
_EXCHANGED = {
    "original": "original",
    "sampled_corrected": "interpolated_corrected",
    "interpolated_corrected": "sampled_corrected",
}


@dataclass(frozen=True, eq=False)
class Channel:
    """One way to look at a pair.

    Attributes
    ----------
    sampled, interpolated : Normalisation
        How the intensities of either image are normalised.
    prior : (g, g) ndarray or None
        Joint distribution of the normalised intensities of aligned pairs of this kind,
        rows of the sampled image, times the strength with which it is believed.
    """

    sampled: Normalisation
    interpolated: Normalisation
    prior: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two prepared images in their roles.

    Points are drawn from one image, `sampled`, and the other, `interpolated`, is read
    between its voxels. All poses of the engine are `interpolated_from_sampled`, RAS+ mm
    to RAS+ mm; `engine_pose` and `moving_from_fixed` bring the user's in and out.

    Attributes
    ----------
    sampled, interpolated : PreparedImage
        The images.
    channels : mapping of str to Channel
        By the names of `parameters.CHANNELS`.
    sampled_is_fixed : bool
        Whether the sampled image is the user's fixed one.
    """

    sampled: PreparedImage
    interpolated: PreparedImage
    channels: Mapping[str, Channel]
    sampled_is_fixed: bool

    @classmethod
    def of(
        cls,
        fixed: PreparedImage,
        moving: PreparedImage,
        prior: Mapping[str, FloatArray] | None = None,
        threads: int = 1,
        *,
        channels: Sequence[str] | None = None,
    ) -> Pair:
        """Give the images their roles: the smaller foreground is sampled.

        It is likely to lie inside the other one. The roles do not depend on which
        image is fixed.

        Parameters
        ----------
        fixed, moving : PreparedImage
            The pair.
        prior : mapping of str to (g, g) array, optional
            By "original", "fixed_corrected" and "moving_corrected", as in
            `mireg.Prior`, times its strength; rows of the fixed image.
        threads : int, optional
            Threads to use.
        channels : sequence of str, optional
            Those that are wanted (default: `parameters.CHANNELS`).
        """

        def size(one: PreparedImage) -> tuple[float, float]:
            return one.foreground.volume, float(np.nanmean(one.sampling_mask.data))

        names = parameters.CHANNELS if channels is None else channels
        if set(names) != {"original"}:
            shared(lambda one: one.corrected, (fixed, moving), threads)  # kept
        sampled_is_fixed = not size(moving) < size(fixed)
        return cls.in_roles(
            fixed, moving, prior, names, sampled_is_fixed=sampled_is_fixed
        )

    @classmethod
    def in_roles(
        cls,
        fixed: PreparedImage,
        moving: PreparedImage,
        prior: Mapping[str, FloatArray] | None,
        channels: Sequence[str],
        *,
        sampled_is_fixed: bool,
    ) -> Pair:
        """Give the images the roles that are said; see `of` for the arguments."""
        sampled, interpolated = fixed, moving
        if not sampled_is_fixed:
            sampled, interpolated = moving, fixed

        def channel(name: str) -> Channel:
            joint = (prior or {}).get(_USER_NAMES[name][0 if sampled_is_fixed else 1])
            of_sampled, of_interpolated = sampled.original, interpolated.original
            if name == "sampled_corrected":
                of_sampled = sampled.corrected
            if name == "interpolated_corrected":
                of_interpolated = interpolated.corrected
            if joint is not None and not sampled_is_fixed:
                joint = np.ascontiguousarray(joint.T)
            return Channel(of_sampled, of_interpolated, joint)

        made = {name: channel(name) for name in channels}
        return cls(sampled, interpolated, made, sampled_is_fixed)

    def exchanged(self) -> Pair:
        """Exchange the roles of the images."""
        channels = {}
        for name, before in _EXCHANGED.items():  # in one order, whatever the roles
            channel = self.channels.get(before)
            if channel is not None:
                prior = channel.prior
                if prior is not None:
                    prior = np.ascontiguousarray(prior.T)
                channels[name] = Channel(channel.interpolated, channel.sampled, prior)
        return Pair(
            self.interpolated, self.sampled, channels, not self.sampled_is_fixed
        )

    def only(self, *names: str) -> Pair:
        """Leave out all other channels."""
        return replace(self, channels={name: self.channels[name] for name in names})

    @property
    def fixed(self) -> PreparedImage:
        """The user's fixed image."""
        return self.sampled if self.sampled_is_fixed else self.interpolated

    @property
    def moving(self) -> PreparedImage:
        """The user's moving image."""
        return self.interpolated if self.sampled_is_fixed else self.sampled

    @property
    def header_pose(self) -> FloatArray:
        """The pose that the headers state."""
        return np.eye(4)

    @property
    def centroid_pose(self) -> FloatArray:
        """The pose that brings centroid onto centroid without turning."""
        pose = np.eye(4)
        pose[:3, 3] = self.interpolated.foreground.centroid
        pose[:3, 3] -= self.sampled.foreground.centroid
        return pose

    def user_channel(self, name: str) -> str:
        """Name a channel by the user's images, as a prior does."""
        of_fixed, of_moving = _USER_NAMES[name]
        return of_fixed if self.sampled_is_fixed else of_moving

    def engine_pose(self, moving_from_fixed: FloatArray) -> FloatArray:
        """Turn the user's pose into `interpolated_from_sampled`."""
        return (
            moving_from_fixed if self.sampled_is_fixed else inverse(moving_from_fixed)
        )

    def moving_from_fixed(self, interpolated_from_sampled: FloatArray) -> FloatArray:
        """Turn a pose of the engine into the user's."""
        if self.sampled_is_fixed:
            return interpolated_from_sampled
        return inverse(interpolated_from_sampled)


def inverse(pose: FloatArray) -> FloatArray:
    """Invert a pose."""
    return np.asarray(np.linalg.inv(pose), np.float64)
