"""What aligned pairs of two contrasts look like: learn it, store it, read it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _parameters as parameters
from . import _threads
from ._engine.levels import levels_at, pyramid
from ._engine.pair import Pair
from ._engine.similarity import joint_histogram, values_of
from ._errors import InputError, not_read
from ._files.faults import check_there, hushed, in_file
from ._files.formats import ImageLike
from ._files.writing import new_file
from ._prepare import prepare
from ._settings import Settings
from ._transform import TransformLike, as_transform
from .information import from_counts

FloatArray = npt.NDArray[np.float64]

#: The channels of a pair, by the image whose bias field is divided out.
CHANNELS = ("original", "fixed_corrected", "moving_corrected")

#: Most bytes of a prior's file, unpacked: far more than any needs.
_MOST_BYTES = 20_000_000

_KIND, _VERSION = "mireg prior", 2


@dataclass(frozen=True, eq=False, repr=False)
class Prior:
    """The joint intensity distribution of aligned pairs of two contrasts.

    Intensities are normalised ones, 0 to 1, which no linear change of scale alters.

    Parameters
    ----------
    joints : mapping of str to (g, g) array
        For each channel ("original"; "fixed_corrected" and "moving_corrected", with the
        bias field of that image divided out) the joint distribution of the normalised
        intensities; rows are those of the fixed image. Each adds up to 1.
    pairs : int
        How many pairs it was learned from.

    Raises
    ------
    InputError
        If the arrays are no such distributions.
    """

    joints: Mapping[str, FloatArray]
    pairs: int

    def __post_init__(self) -> None:
        """Check names and shapes; bring the sums to 1."""
        if set(self.joints) != set(CHANNELS):
            raise InputError(
                f"a prior holds joint distributions by the names {', '.join(CHANNELS)}"
                f"; these are {', '.join(map(str, self.joints))}"
            )
        joints = {
            name: np.array(self.joints[name], np.float64, order="C")
            for name in CHANNELS
        }
        for name, joint in joints.items():
            if joint.ndim != 2 or joint.shape[0] != joint.shape[1]:
                raise InputError(
                    f"a prior holds square joint distributions; {name} is an array of "
                    f"shape {joint.shape}"
                )
            checked = from_counts(joint)
            # What adds up to 1 keeps its bits, so that a copy is the same prior.
            joints[name] = joint if abs(joint.sum() - 1) < 1e-12 else checked
            joints[name].setflags(write=False)
        object.__setattr__(self, "joints", MappingProxyType(joints))

    def __repr__(self) -> str:
        """Tell on one line how much it knows."""
        return f"<Prior learned from {self.pairs} pair{'s' * (self.pairs != 1)}>"

    def weighted(self, strength: float) -> dict[str, FloatArray]:
        """Return the joint distributions, each adding up to `strength`."""
        return {name: joint * strength for name, joint in self.joints.items()}

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
        about = {"kind": _KIND, "version": _VERSION, "pairs": self.pairs}
        with new_file(path, force=force) as file:
            if path.suffix == ".npz":
                np.savez_compressed(
                    file,
                    allow_pickle=False,
                    about=np.array(json.dumps(about)),
                    **self.joints,
                )
                return
            rows = {
                name: [[float(f"{p:.6g}") for p in row] for row in joint]
                for name, joint in self.joints.items()
            }
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
        with in_file(path):
            check_there(path)
        try:
            data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        except OSError as error:
            raise InputError(f"{path}: {not_read(error)}") from error
        try:
            read = _from_npz if path.suffix == ".npz" else json.loads
            record = read(data)
            if record["kind"] != _KIND or record["version"] != _VERSION:
                raise ValueError
            pairs = int(record["pairs"])
            if pairs > 2**53:  # more than a float can count
                raise ValueError
            return cls(dict(record["joints"]), pairs)
        except Exception as error:  # zip, zlib, numpy, json: each in its own way
            raise InputError(
                f"{path}: not a prior; give the file that mireg prior learn wrote"
            ) from error


def checked_prior(given: Prior | None) -> Prior | None:
    """Refuse what is no prior, before the work."""
    if given is None or isinstance(given, Prior):
        return given
    raise InputError(
        f"prior is a {type(given).__name__}; give what mireg.learn_prior or "
        "mireg.Prior.read returns, or None"
    )


def check_suffix(path: str | Path) -> Path:
    """Refuse a name that does not say how a prior is stored."""
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise InputError(f"{path}: the name of a prior must end in .json or .npz")
    return path


def learn_prior(
    aligned: Iterable[tuple[ImageLike, ImageLike, TransformLike]],
    *,
    threads: int | None = None,
) -> Prior:
    """Learn a prior from pairs that are in line.

    Parameters
    ----------
    aligned : iterable of (fixed, moving, moving_from_fixed)
        Two images, as `mireg.register` takes them, and the transform, (4, 4) matrix or
        path of a file that maps points of the first to points of the second, RAS+ mm.
        The first are all of one contrast, the second of another.
    threads : int, optional
        Threads to use (default: all processors); the answer does not depend on it.

    Returns
    -------
    Prior
        Every pair counts the same, and so does every level of the pyramid.

    Raises
    ------
    InputError
        If there is no pair, or one of them is not three things or does not overlap.

    Examples
    --------
    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> fixed = ball + (x > 12), np.eye(4)
    >>> negative = 3 - fixed[0], np.eye(4)
    >>> prior = learn_prior([(fixed, negative, np.eye(4))])
    >>> dark = prior.joints["original"][:9]  # of the fixed image
    >>> bool(dark[:, -9:].sum() > 10 * dark[:, :9].sum())
    True
    """
    n_threads = threads or _threads.available()
    joints = []
    for number, pair in enumerate(aligned, 1):
        with in_file(f"pair {number}"):
            if not isinstance(pair, Sequence) or len(pair) != 3:
                raise InputError("it must be (fixed, moving, moving_from_fixed)")
            joints.append(_joints(*pair, n_threads))
    if not joints:
        raise InputError("there is no pair to learn from; give one or more")
    total = {name: np.sum([one[name] for one in joints], axis=0) for name in CHANNELS}
    return Prior(total, len(joints))


def _joints(
    fixed: ImageLike,
    moving: ImageLike,
    moving_from_fixed: TransformLike,
    threads: int,
) -> dict[str, FloatArray]:
    """Joint distributions of one pair, as `Prior` holds them."""
    settings = Settings()
    prepared = prepare(fixed, threads=threads), prepare(moving, threads=threads)
    pair = Pair.of(*prepared, threads=threads)
    aligned = as_transform(
        moving_from_fixed, fixed=prepared[0].image, moving=prepared[1].image
    )
    pose = pair.engine_pose(aligned.matrix)
    resolutions = pyramid(pair, threads)
    shape = (parameters.PRIOR_INTERVALS, parameters.PRIOR_INTERVALS)
    joints = {name: np.zeros(shape) for name in CHANNELS}
    for resolution in (resolutions.rough, resolutions.coarse, *resolutions.finer):
        for name, level in levels_at(pair, resolution, settings, threads).items():
            _, readings = joint_histogram(level, pose, threads)
            inside = readings[4] > 0
            if not inside.any():
                raise InputError(
                    "the images do not overlap; give an aligned pair, or the transform"
                )
            counts, _, _ = np.histogram2d(
                level.sampled_values[inside],
                values_of(readings[0, inside], level.n_bins),
                bins=shape,
                range=((0, 1), (0, 1)),
                weights=readings[4, inside],
            )
            joint = from_counts(counts)
            joints[pair.user_channel(name)] += (
                joint if pair.sampled_is_fixed else joint.T
            )
    return joints


def _from_npz(data: bytes) -> dict[str, Any]:
    """Read the arrays of an .npz file, none of them pickled or vast."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError
    with hushed(), np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        joints = {name: arrays[name] for name in arrays.files if name != "about"}
        return {**json.loads(str(arrays["about"])), "joints": joints}
