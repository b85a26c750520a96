"""What aligned pairs of two contrasts look like: learn it, store it, read it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _threads
from ._engine.levels import finest_mm, levels, pyramid
from ._engine.similarity import joint_histogram
from ._errors import InputError
from ._files.formats import ImageLike, as_image
from ._files.writing import new_file
from ._prepare import scan, smaller_first, views
from ._settings import Settings
from .information import from_counts

FloatArray = npt.NDArray[np.float64]

#: Looks at a pair, see `mireg._prepare.views`.
N_VIEWS = 3
#: Which view each becomes when the images change places.
_EXCHANGED = [0, 2, 1]

#: Grey levels of what is learned along each axis.
_GREY_LEVELS = 64

#: Most bytes of a prior's file, unpacked: far more than any needs.
_MOST_BYTES = 20_000_000

_KIND = "mireg prior"


@dataclass(frozen=True, eq=False)
class Prior:
    """The joint intensity distribution of aligned pairs of two contrasts.

    Intensities are the grey levels of `mireg._intensity`, 0 to 1: they depend on the
    ranks of the foreground's intensities and on nothing that a scanner may scale.

    Parameters
    ----------
    joints : (3, g, g) array
        For each of `mireg._prepare.views` (as they are, the fixed image evened, the
        moving image evened) the joint distribution of the grey levels; rows are
        those of the fixed image. Each adds up to 1.
    pairs : int
        How many pairs it was learned from.

    Raises
    ------
    InputError
        If the arrays are no such distributions.
    """

    joints: FloatArray
    pairs: int

    def __post_init__(self) -> None:
        """Check the shape; bring the sums to 1."""
        joints = np.array(self.joints, dtype=np.float64)
        if joints.ndim != 3 or joints.shape != (N_VIEWS, *2 * joints.shape[1:2]):
            raise InputError(
                f"a prior holds {N_VIEWS} square joint distributions, not an array of "
                f"shape {joints.shape}"
            )
        joints = np.stack([from_counts(joint) for joint in joints])
        joints.setflags(write=False)
        object.__setattr__(self, "joints", joints)

    def transposed(self) -> Prior:
        """Return the same knowledge for the two contrasts the other way round."""
        return Prior(self.joints[_EXCHANGED].transpose(0, 2, 1), self.pairs)

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write a file, whole or not at all; neither kind can hold code.

        Parameters
        ----------
        path : str or path
            Ends in .json or .npz.
        force : bool, optional
            Replace a file that exists.

        Raises
        ------
        InputError
            If the suffix is another, or the file exists or cannot be made.
        """
        path = check_suffix(path)
        about = {"kind": _KIND, "version": 1, "pairs": self.pairs}
        with new_file(path, force=force) as file:
            if path.suffix == ".npz":
                np.savez_compressed(file, about=json.dumps(about), joints=self.joints)
                return
            rows = [
                [[float(f"{p:.6g}") for p in row] for row in j] for j in self.joints
            ]
            file.write(json.dumps({**about, "joints": rows}).encode() + b"\n")

    @classmethod
    def read(cls, path: str | Path) -> Prior:
        """Read what `write` wrote; nothing in the file is executed.

        Raises
        ------
        InputError
            If there is no such file, or it holds anything else.
        """
        path = check_suffix(path)
        try:
            data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            read = _from_npz if path.suffix == ".npz" else json.loads
            record = read(data)
            if record["kind"] != _KIND or record["version"] != 1:
                raise ValueError
            return cls(np.array(record["joints"], np.float64), int(record["pairs"]))
        except (
            ValueError,  # InputError is one
            KeyError,
            TypeError,
            RecursionError,
            zipfile.BadZipFile,
        ) as error:
            raise InputError(
                f"{path}: this is no prior as mireg prior learn writes"
            ) from error


def check_suffix(path: str | Path) -> Path:
    """Refuse a name that does not say how a prior is stored."""
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise InputError(f"{path}: a prior is stored as .json or .npz")
    return path


def learn_prior(
    aligned: Iterable[tuple[ImageLike, ImageLike, npt.ArrayLike]],
    *,
    threads: int | None = None,
) -> Prior:
    """Learn a prior from pairs that are in line.

    Parameters
    ----------
    aligned : iterable of (fixed, moving, moving_from_fixed)
        Two images, as `mireg.register` takes them, and the (4, 4) matrix that maps
        points of the first to points of the second, RAS+ mm. The first are all of
        one contrast, the second of another.
    threads : int, optional
        Threads to use (default: all processors); the answer does not depend on it.

    Returns
    -------
    Prior
        Every pair counts the same, and so does every level of the pyramid.

    Raises
    ------
    InputError
        If there is no pair, or one of them does not overlap.

    Examples
    --------
    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> fixed = ball + (x > 12), np.eye(4)
    >>> negative = 3 - fixed[0], np.eye(4)
    >>> prior = learn_prior([(fixed, negative, np.eye(4))])
    >>> dark = prior.joints[0, :9]  # of the fixed image
    >>> bool(dark[:, -9:].sum() > 10 * dark[:, :9].sum())
    True
    """
    n_threads = threads or _threads.available()
    joints = [_joints(*pair, n_threads) for pair in aligned]
    if not joints:
        raise InputError("there is no pair to learn from")
    return Prior(sum(joints, np.zeros_like(joints[0])), len(joints))


def _joints(
    fixed: ImageLike, moving: ImageLike, moving_from_fixed: npt.ArrayLike, threads: int
) -> FloatArray:
    """Joint distributions of one pair, as `Prior` holds them."""
    fixed, moving = as_image(fixed), as_image(moving)
    settings, finest = Settings(), finest_mm(fixed, moving)
    scans = (scan(image, None, finest, threads) for image in (fixed, moving))
    still, moved, swapped = smaller_first(*scans)
    pose = np.asarray(moving_from_fixed, np.float64)
    if swapped:
        pose = np.asarray(np.linalg.inv(pose))
    pairs = pyramid(still, moved, threads)
    looks = views(still, moved, threads)
    joints = np.zeros((N_VIEWS, _GREY_LEVELS, _GREY_LEVELS))
    for pair in pairs:
        for view, at in enumerate(levels(pair, looks, settings, threads)):
            _, seen = joint_histogram(at, pose, threads)
            inside = seen[4] > 0
            if not inside.any():
                raise InputError(
                    "two images to learn from do not overlap: are they in line?"
                )
            moving_grey = (seen[0, inside] - 1) / (at.n_bins - 3.001)
            counts, _, _ = np.histogram2d(
                at.fixed_grey[inside],
                moving_grey.clip(0, 1),
                bins=_GREY_LEVELS,
                range=((0, 1), (0, 1)),
                weights=seen[4, inside],
            )
            joints[view] += from_counts(counts) / len(pairs)
    return joints[_EXCHANGED].transpose(0, 2, 1) if swapped else joints


def _from_npz(data: bytes) -> dict[str, Any]:
    """Read the arrays of an .npz file, none of them pickled or vast."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {**json.loads(str(arrays["about"])), "joints": arrays["joints"]}
