"""The motion of a series: every volume brought into line with one reference.

Two passes by default. In the first one the middle volume is the reference; volumes are
followed in blocks, each from where the last block ended, and a volume that is lost is
searched for in every orientation. The mean of what was brought into line is the
reference of the second pass, if it explains more of the volumes than the first did.

Not solved, in any mode: slices acquired one after the other, so that a volume is no
rigid snapshot; motion within a volume; distortion that changes with the motion.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from . import __version__, _threads
from . import _parameters as parameters
from . import _series_results as results
from ._confounds import Thresholds, confounds
from ._engine.pair import inverse
from ._engine.series import Reference, Sampling, Tracked, track
from ._errors import InputError, MiregWarning
from ._files.formats import ImageLike, as_image, as_mask
from ._files.records import json_number
from ._files.series.names import SeriesFiles, bids_named, named
from ._files.series.reader import Series, SeriesLike
from ._files.transforms.common import Images
from ._files.transforms.series import fsl_matrices, fsl_motion
from ._files.writing import PathLike
from ._image import Image
from ._moved import Output
from ._prepare import PreparedImage, prepare
from ._progress import Progress, Stages
from ._register import register
from ._registration import Registration
from ._resample import Interpolation, resample
from ._settings import Settings, settings_or_default
from ._threads import shared
from ._transform import RigidTransform

FloatArray = npt.NDArray[np.float64]
Item = TypeVar("Item")

#: What the volumes of a series are brought into line with.
ReferenceChoice = Literal["two-pass", "mean", "median"] | int | ImageLike


@dataclass(frozen=True, eq=False, repr=False)
class SeriesMotion:
    """How a head moved from volume to volume, and how that was found.

    Made by `register_series`. `save` writes the moved series, the transforms, and the
    table of motion; `volumes` gives the moved series one volume at a time.

    Attributes
    ----------
    series : Series
        What was read.
    reference : PreparedImage
        What the volumes were brought into line with.
    moving_from_fixed : (n, 4, 4) ndarray
        For each volume: maps points of the reference to points of the volume with the
        same anatomy, RAS+ mm.
    standard_error_mm : (n,) ndarray
        Error that noise alone leaves in each of these, root mean square over the
        samples; NaN where it cannot be told.
    doubted : (n,) ndarray, bool
        Whether an answer may be wrong: a standard error above half a voxel or unknown,
        or an optimisation that did not end.
    searched : (n,) ndarray, bool
        Whether every orientation was searched, because the volume explained too little.
    kind : str
        What the reference is: "volume 30", "mean of the first pass", ...
    to : Registration or None
        From the image that was given as `to` (its fixed) to the reference (its moving).
    seconds : dict of str to float
        Time of each stage.
    settings : Settings
        How it was found.
    """

    series: Series
    reference: PreparedImage
    moving_from_fixed: FloatArray
    standard_error_mm: FloatArray
    doubted: npt.NDArray[np.bool_]
    searched: npt.NDArray[np.bool_]
    kind: str
    to: Registration | None
    seconds: dict[str, float]
    settings: Settings

    def __repr__(self) -> str:
        """Say how many volumes moved how far."""
        return (
            f"SeriesMotion({len(self.series)} volumes of {self.series.name} to the "
            f"{self.kind}, {int(self.doubted.sum())} doubted)"
        )

    @property
    def transforms(self) -> list[RigidTransform]:
        """The transforms as values, about the centroid of the reference."""
        centre = self.reference.foreground.centroid
        return [RigidTransform.from_matrix(m, centre) for m in self.moving_from_fixed]

    def volumes(
        self,
        *,
        interpolation: Interpolation = "cubic",
        threads: int | None = None,
    ) -> Iterator[Image]:
        """Give the volumes, one after the other, as moved onto the reference's grid.

        Parameters
        ----------
        interpolation : str, optional
            See `mireg.resample`; here the cubic B-spline by default.
        threads : int, optional
            Threads to use; the volumes are the same.

        Yields
        ------
        Image
            A volume; NaN where nothing of it is seen.
        """
        yield from results.moved_volumes(
            self.series,
            self.moving_from_fixed,
            self.reference.image,
            Output(interpolation=interpolation),
            threads,
        )

    def files(
        self,
        prefix: PathLike | None = None,
        *,
        formats: Sequence[str] = ("itk",),
        image: bool = True,
        picture: bool = False,
        report: bool = False,
        folder: PathLike = "",
    ) -> SeriesFiles:
        """Name what `save` writes, for the same arguments."""
        if prefix is not None:
            return named(prefix, formats, image=image, picture=picture, report=report)
        to = None if self.to is None else self.to.fixed.source
        made = bids_named(
            folder,
            self.series.path or "",
            formats,
            to=to.path if to is not None else None,
            image=image,
            picture=picture,
            report=report,
        )
        if made is None:
            raise InputError(
                f"{self.series.name}: not a name of BIDS; give a prefix for the files"
            )
        return made

    def save(
        self,
        prefix: PathLike | None = None,
        *,
        formats: Sequence[str] = ("itk",),
        image: bool = True,
        picture: bool = False,
        report: bool = False,
        folder: PathLike = "",
        output: Output | None = None,
        radius_mm: float = 50.0,
        thresholds: Thresholds | None = None,
        threads: int | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> SeriesFiles:
        """Write the moved series, transforms and the table of motion: all, or none.

        The series is read once more, one volume at a time.

        Parameters
        ----------
        prefix : str or path, optional
            Start of the names; without it, names as BIDS and fMRIPrep have them.
        formats : sequence of str, optional
            Of the transforms: "itk", "fsl" (``MAT_0000`` and so on), "par" (MCFLIRT's
            motion), "afni" (twelve numbers a row), "volreg" (3dvolreg's motion), "lta",
            "x5", "npy".
        image : bool, optional
            Whether to write the moved series.
        picture : bool, optional
            Whether to draw the motion; needs matplotlib.
        report : bool, optional
            Whether to write a page: a film before and after, the motion, a carpet.
        folder : str or path, optional
            Where to put files with names of BIDS.
        output : Output, optional
            How the moved series is written (default: cubic B-spline, voxels of the
            series); its type and scaling are those of the series.
        radius_mm : float, optional
            Radius of the sphere of the framewise displacement; less than 50 mm for
            rodents.
        thresholds : Thresholds, optional
            What makes a volume an outlier of motion.
        threads, force, progress : optional
            As elsewhere.

        Returns
        -------
        SeriesFiles
            What was written.

        Raises
        ------
        OutputExistsError
            If a file exists and not `force`.
        InputError
            If one cannot be written.
        """
        files = self.files(
            prefix,
            formats=formats,
            image=image,
            picture=picture,
            report=report,
            folder=folder,
        )
        self.write(
            files,
            output=output,
            radius_mm=radius_mm,
            thresholds=thresholds,
            threads=threads,
            force=force,
            progress=progress,
        )
        return files

    def write(
        self,
        files: SeriesFiles,
        *,
        output: Output | None = None,
        radius_mm: float = 50.0,
        thresholds: Thresholds | None = None,
        threads: int | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, FloatArray]:
        """Write files of these names, as `save` does; give the table of motion."""
        to = None
        if self.to is not None:
            to = self.to.fixed, self.to.moving_from_fixed
        each = results.record_of(
            self.moving_from_fixed, self.standard_error_mm, self.doubted
        )
        return results.write(
            files,
            series=self.series,
            reference=self.reference,
            moving_from_fixed=self.moving_from_fixed,
            standard_error_mm=self.standard_error_mm,
            doubted=self.doubted,
            to=to,
            record={**self.to_dict(), "volumes": each},
            output=output or Output(grid="moving", interpolation="cubic"),
            radius_mm=radius_mm,
            thresholds=thresholds or Thresholds(),
            threads=threads,
            force=force,
            progress=progress,
        )

    def confounds(
        self, *, radius_mm: float = 50.0, thresholds: Thresholds | None = None
    ) -> dict[str, FloatArray]:
        """Give the columns of the table of motion, by name, without the DVARS.

        Those need the moved series: `save` writes them.
        """
        images = Images(self.reference.image, self.series.grid())
        return confounds(
            fsl_motion(self.moving_from_fixed, images),
            fsl_matrices(self.moving_from_fixed, images),
            results.grid_centre(images),
            standard_error_mm=self.standard_error_mm,
            doubted=self.doubted,
            radius_mm=radius_mm,
            thresholds=thresholds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Say how it was found, for a record."""
        return {
            "mireg": __version__,
            "series": {"path": self.series.path, "volumes": len(self.series)},
            "reference": self.kind,
            "to": None
            if self.to is None
            else {
                "path": None
                if self.to.fixed.source is None
                else self.to.fixed.source.path,
                "reference_from_to": self.to.moving_from_fixed.tolist(),
                "doubtful": self.to.doubtful,
            },
            "doubted": np.flatnonzero(self.doubted).tolist(),
            "searched": np.flatnonzero(self.searched).tolist(),
            "median_standard_error_mm": json_number(
                float(np.nanmedian(self.standard_error_mm))
                if np.isfinite(self.standard_error_mm).any()
                else math.nan
            ),
            "settings": asdict(self.settings),
            "seconds": self.seconds,
        }


def register_series(
    series: SeriesLike | Series,
    *,
    reference: ReferenceChoice = "two-pass",
    to: ImageLike | None = None,
    mask: ImageLike | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> SeriesMotion:
    """Bring every volume of a series into line with one reference.

    Parameters
    ----------
    series : path, nibabel image, (array, affine), or list of images
        A 4-D image or a list of 3-D ones. Volumes are read one at a time: memory does
        not grow with their number.
    reference : {"two-pass", "mean", "median"}, int or image, optional
        "two-pass" takes the middle volume, then the mean of what that brought into
        line; a number takes that volume, from 0; "mean" and "median" those of the
        series as it is. An image may be any scan of the same head in about the same
        place: contrasts may differ.
    to : image, optional
        Another scan of the same head, a T1 for instance, found from anywhere as by
        `mireg.register`. The moved series is then on it, by one interpolation.
    mask : as an image, optional
        Above 0.5 where to compare, in the space of the reference.
    settings : Settings, optional
        The numbers of the method.
    progress : callable, optional
        Called with the name of a stage and the share of the work done, 0 to 1.

    Returns
    -------
    SeriesMotion
        One transform a volume, with its standard error.

    Raises
    ------
    InputError
        If the series has fewer than two volumes or cannot be read, a volume has no
        contrast, or hardly meets the reference.

    Notes
    -----
    The similarity is that of `mireg.register`, mutual information: contrasts may change
    from volume to volume. Taking one contrast for granted was no gain: with least
    squares (correlation) or the correlation ratio in its place, the error on a phantom
    run of BOLD was two and a half times as large, because a coil's fixed shading is not
    the head's (``scripts/series_study.py``).

    Where the intensity changes smoothly along the head from volume to volume, as in
    slices of ASL with background suppression, each volume is divided by that gain in
    the second pass, if this explains more: on a phantom it took the error from 0.65 to
    0.22 mm.

    Slices are taken to be acquired at once. Motion within a volume, and distortion that
    changes with the motion, are not modelled.

    Examples
    --------
    >>> import numpy as np
    >>> x, y, z = np.indices((24, 24, 20))
    >>> head = lambda at: np.exp(-((x - at) ** 2 + (y - 11) ** 2 + (z - 9) ** 2) / 30)
    >>> inside = lambda at: np.exp(-((x - at - 4) ** 2 + (y - 9) ** 2 + z ** 2) / 20)
    >>> volumes = [head(at) + inside(at) for at in (11, 12, 11)]
    >>> moved = register_series((np.stack(volumes, -1), np.eye(4)), reference=0)
    >>> (moved.moving_from_fixed @ [11, 11, 9, 1])[:, 0].round(1)  # of the head
    array([11., 12., 11.])
    """
    settings = settings_or_default(settings)
    if settings.metric == "prior":
        raise InputError('metric "prior" is for pairs; choose another for a series')
    threads = settings.threads or _threads.available()
    told = Stages(progress)
    told.start("read", 0.0)
    volumes = series if isinstance(series, Series) else Series(series)
    region = as_mask(mask, "the mask")
    shares = (0.05, 0.45, 0.85) if to is not None else (0.05, 0.5, 1.0)
    if isinstance(reference, str) and reference == "two-pass":
        middle = len(volumes) // 2
        image = next(volumes.read([middle]))
        first = Reference.of(_prepared(image, region, threads), settings, threads)
        told.start("first pass", shares[0])
        guess, seen = _follow(volumes, first, threads, told, shares[:2], keep=True)
        against, kind = _second_reference(first, middle, guess, seen, region, threads)
        told.start("second pass", shares[1])
        found, _ = _follow(volumes, against, threads, told, shares[1:], starts=guess)
        lost = np.array([one.searched for one in guess])
    else:
        prepared, kind = _given_reference(volumes, reference, region, threads)
        against = Reference.of(prepared, settings, threads)
        told.start("register", shares[0])
        found, _ = _follow(volumes, against, threads, told, (shares[0], shares[2]))
        lost = np.zeros(len(volumes), bool)
    registration = None
    if to is not None:
        told.start("to", shares[2])
        registration = register(to, against.prepared, settings=settings)
    told.start("", 1.0)
    return SeriesMotion(
        series=volumes,
        reference=against.prepared,
        moving_from_fixed=np.array([inverse(one.tracked.fit.pose) for one in found]),
        standard_error_mm=np.array([one.tracked.standard_error_mm for one in found]),
        doubted=np.array([one.tracked.doubted for one in found]),
        searched=lost | [one.searched for one in found],
        kind=kind,
        to=registration,
        seconds=told.seconds,
        settings=settings,
    )


@dataclass(frozen=True, eq=False)
class VolumeMotion:
    """Where one volume lies, as `SeriesRegistration.add` found it.

    Attributes
    ----------
    transform : RigidTransform
        `moving_from_fixed`: maps points of the reference to points of the volume, RAS+
        mm, stated about the centroid of the reference.
    standard_error_mm : float
        Error that noise alone leaves in it; NaN where that cannot be told.
    doubted : bool
        Whether it may be wrong.
    searched : bool
        Whether every orientation was searched.
    seconds : float
        From the call to the answer.
    """

    transform: RigidTransform
    standard_error_mm: float
    doubted: bool
    searched: bool
    seconds: float


class SeriesRegistration:
    """Volumes brought into line with a reference as they come, one by one.

    For scanners, and for loops of your own. All that can be done before the first
    volume is done when it is made, compiling included.

    Parameters
    ----------
    reference : image
        What to bring volumes into line with: the first volume, for instance.
    mask : as an image, optional
        Above 0.5 where to compare, in the space of the reference.
    search : bool, optional
        Whether to search every orientation for a volume that is lost, which takes a
        second or so; if not, it is only doubted.
    settings : Settings, optional
        The numbers of the method.

    Examples
    --------
    >>> import numpy as np
    >>> x, y, z = np.indices((24, 24, 20))
    >>> head = lambda at: np.exp(-((x - at) ** 2 + (y - 11) ** 2 + (z - 9) ** 2) / 30)
    >>> live = SeriesRegistration((head(11), np.eye(4)))
    >>> live.add((head(12), np.eye(4))).transform.translation.round(1) + 0
    array([1., 0., 0.])
    """

    def __init__(
        self,
        reference: ImageLike,
        *,
        mask: ImageLike | None = None,
        search: bool = True,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings_or_default(settings)
        self._threads = self._settings.threads or _threads.available()
        if not isinstance(reference, PreparedImage):
            reference = _prepared(
                as_image(reference), as_mask(mask, "the mask"), self._threads
            )
        elif mask is not None:
            raise InputError(
                "a prepared image has its mask already; give the mask to prepare"
            )
        prepared = Reference.of(reference, self._settings, self._threads)
        self._follower = _Follower(prepared, search)
        self._follower.add(reference.image, self._threads)  # compiles
        self._follower.forget()

    def __repr__(self) -> str:
        """Tell on one line what volumes are brought into line with."""
        return f"<SeriesRegistration onto {self.reference.image!r}>"

    @property
    def reference(self) -> PreparedImage:
        """What volumes are brought into line with."""
        return self._follower.reference.prepared

    def add(self, volume: ImageLike) -> VolumeMotion:
        """Bring one more volume into line, starting from the last one or from none.

        Parameters
        ----------
        volume : image
            On any grid, in about the place of the reference.

        Returns
        -------
        VolumeMotion
            Its transform and standard error.
        """
        began = time.perf_counter()
        found = self._follower.add(as_image(volume), self._threads)
        centre = self.reference.foreground.centroid
        transform = RigidTransform.from_matrix(inverse(found.tracked.fit.pose), centre)
        return VolumeMotion(
            transform,
            found.tracked.standard_error_mm,
            found.tracked.doubted,
            found.searched,
            time.perf_counter() - began,
        )


# --- one reference, many volumes ------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Found:
    """What was found of one volume, and whether it was searched for."""

    tracked: Tracked
    searched: bool = False


class _Follower:
    """Follows a head from volume to volume."""

    def __init__(
        self,
        reference: Reference,
        search: bool = True,
        samples: int | None = None,
    ) -> None:
        settings = reference.settings
        self.reference = reference
        self._settings, self._search = settings, search
        self._samples = samples or settings.samples
        self._sampling: Sampling | None = None
        self.forget()

    def forget(self) -> None:
        """Forget the volumes before."""
        self._last = np.eye(4)
        self._floor = math.inf  # least information that was accepted
        self._inverse_hessian: FloatArray | None = None

    def add(self, volume: Image, threads: int) -> _Found:
        """Follow to one more volume."""
        return self.add_block([volume], threads)[0]

    def add_block(
        self,
        volumes: Sequence[Image],
        threads: int,
        starts: Sequence[FloatArray] | None = None,
        *,
        judge: bool = True,
    ) -> list[_Found]:
        """Follow to a block of volumes, side by side, from where the last one ended."""
        one_each = len(volumes) >= threads
        within = 1 if one_each else threads
        samplings = [self._sampled(volume) for volume in volumes]
        if self._inverse_hessian is None and not judge:
            level = self.reference.level(volumes[0], samplings[0], self._last, threads)
            first = track(self.reference, level, [self._last], threads, judge=False)
            self._inverse_hessian = first.fit.inverse_hessian
        common = [self._last, np.eye(4)]

        def follow(job: tuple[int, Image]) -> Tracked:
            number, volume = job
            begin = common if starts is None else [starts[number]]
            level = self.reference.level(volume, samplings[number], begin[0], within)
            return track(
                self.reference,
                level,
                begin,
                within,
                inverse_hessian=self._inverse_hessian,
                judge=judge,
            )

        tracked = shared(follow, enumerate(volumes), threads if one_each else 1)
        found = []
        for volume, sampling, one in zip(volumes, samplings, tracked, strict=True):
            lost = not one.fit.converged or (judge and one.doubted)
            lost |= one.information < parameters.SERIES_LOST_SHARE * self._floor
            if lost and self._search and math.isfinite(self._floor):
                found.append(self._searched(volume, sampling, one, threads, judge))
            else:
                found.append(_Found(one))
            if found[-1].tracked.fit.converged:
                self._floor = min(self._floor, found[-1].tracked.information)
                self._last = found[-1].tracked.fit.pose
        return found

    def _sampled(self, volume: Image) -> Sampling:
        """Choose where to sample a volume: as the last one, if it is on that grid."""
        if self._sampling is None or not self._sampling.fits(volume):
            self._sampling = self.reference.sampling(volume, self._samples)
        return self._sampling

    def _searched(
        self,
        volume: Image,
        sampling: Sampling,
        before: Tracked,
        threads: int,
        judge: bool,
    ) -> _Found:
        """Search every orientation for a volume; keep what is found if it is better."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MiregWarning)
                settings = replace(self._settings, threads=threads)
                found = register(self.reference.prepared, volume, settings=settings)
        except InputError:  # nothing to compare
            return _Found(before, searched=True)
        start = inverse(found.moving_from_fixed)
        level = self.reference.level(volume, sampling, start, threads)
        tracked = track(self.reference, level, [start], threads, judge=judge)
        better = tracked.information > before.information
        return _Found(tracked if better else before, searched=True)


def _follow(
    series: Series,
    reference: Reference,
    threads: int,
    told: Stages,
    shares: Sequence[float],
    *,
    starts: Sequence[_Found] | None = None,
    keep: bool = False,
) -> tuple[list[_Found], dict[int, Image]]:
    """Follow a head through a whole series; keep some volumes, spread evenly."""
    samples = None
    if keep:
        samples = min(reference.settings.samples, parameters.SERIES_FIRST_SAMPLES)
    follower = _Follower(reference, samples=samples)
    found: list[_Found] = []
    count = len(series)
    wanted = np.linspace(0, count - 1, min(count, parameters.SERIES_MEAN_VOLUMES))
    chosen = set(np.rint(wanted).astype(int).tolist()) if keep else set()
    kept: dict[int, Image] = {}
    for block in ahead(blocks(series, parameters.SERIES_BLOCK)):
        here = range(len(found), len(found) + len(block))
        begin = None
        if starts is not None:
            begin = [starts[number].tracked.fit.pose for number in here]
        found += follower.add_block(block, threads, begin, judge=not keep)
        kept.update({t: block[t - here.start] for t in here if t in chosen})
        told.reach(shares[0] + (shares[1] - shares[0]) * len(found) / count)
    return found, kept


def _second_reference(
    first: Reference,
    middle: int,
    found: Sequence[_Found],
    seen: dict[int, Image],
    mask: Image | None,
    threads: int,
) -> tuple[Reference, str]:
    """Choose the mean of the first pass, if it explains more than the first reference.

    In a series whose contrast inverts, the mean may be flat.
    """
    poses = {t: inverse(found[t].tracked.fit.pose) for t in seen}
    like = first.prepared.image
    mean = Image(mean_of(seen, poses, like, threads), like.mm_from_ijk)
    try:
        second = Reference.of(_prepared(mean, mask, threads), first.settings, threads)
    except InputError:  # it is flat
        return first, f"volume {middle}"
    others = {t: volume for t, volume in seen.items() if t != middle}
    starts = {t: found[t].tracked.fit.pose for t in others}
    best = _best([first, second], others, starts, threads)
    is_mean = best.prepared is second.prepared
    kind = "mean of the first pass" if is_mean else f"volume {middle}"
    return best, kind + (", gains divided out" if best.correct_gain else "")


def _best(
    references: Sequence[Reference],
    volumes: dict[int, Image],
    starts: dict[int, FloatArray],
    threads: int,
) -> Reference:
    """Choose the reference that explains most of some volumes, with or without gains.

    Where intensities change smoothly along the head from volume to volume, dividing by
    that gain adds much to what is explained; where tissues change, next to nothing.
    """
    few = list(volumes)[:: -(-len(volumes) // parameters.SERIES_COMPARED_VOLUMES)]
    candidates = [
        replace(one, correct_gain=gain) for gain in (False, True) for one in references
    ]
    explained = []
    for reference in candidates:
        follower = _Follower(
            reference, search=False, samples=parameters.SERIES_FIRST_SAMPLES
        )
        found = follower.add_block(
            [volumes[t] for t in few], threads, [starts[t] for t in few], judge=False
        )
        worth = parameters.SERIES_GAIN_WORTH if reference.correct_gain else 1.0
        explained.append(sum(one.tracked.information for one in found) / worth)
    return candidates[int(np.argmax(explained))]


def mean_of(
    volumes: dict[int, Image],
    moving_from_fixed: dict[int, FloatArray],
    like: Image,
    threads: int,
) -> npt.NDArray[np.float32]:
    """Take the mean of volumes that are brought into line, where half of them are."""
    total, number = np.zeros(like.shape), np.zeros(like.shape)
    for t, volume in volumes.items():
        moved = resample(
            volume, like, moving_from_fixed[t], interpolation="cubic", threads=threads
        ).data
        known = np.isfinite(moved)
        total += np.where(known, moved, 0)
        number += known
    enough = number >= max(1, len(volumes) / 2)
    mean = np.divide(total, number, out=np.full(like.shape, np.nan), where=enough)
    return mean.astype(np.float32)


def _prepared(image: Image, mask: Image | None, threads: int) -> PreparedImage:
    return prepare(image, mask, threads=threads)


def _given_reference(
    series: Series, choice: Any, mask: Image | None, threads: int
) -> tuple[PreparedImage, str]:
    """Make the reference that was asked for."""
    if isinstance(choice, PreparedImage):
        if mask is not None:
            raise InputError(
                "a prepared image has its mask already; give the mask to prepare"
            )
        return choice, "image given"
    if isinstance(choice, int | np.integer) and not isinstance(choice, bool):
        volume = next(series.read([int(choice)]))
        return _prepared(volume, mask, threads), f"volume {choice}"
    if isinstance(choice, str) and choice in ("mean", "median"):
        return _prepared(_typical(series, choice), mask, threads), f"{choice} volume"
    return _prepared(
        as_image(choice, name="the reference"), mask, threads
    ), "image given"


def _typical(series: Series, choice: str) -> Image:
    """Take the mean of all volumes as they are, or the median of some of them."""
    grid = series.grid()
    if choice == "mean":
        total, number = np.zeros(grid.shape), np.zeros(grid.shape)
        for volume in series:
            known = np.isfinite(volume.data)
            total += np.where(known, volume.data, 0)
            number += known
        data = np.divide(
            total, number, out=np.full(grid.shape, np.nan), where=number > 0
        )
        return Image(data, grid.mm_from_ijk)
    count = len(series)
    wanted = np.linspace(0, count - 1, min(count, parameters.SERIES_MEAN_VOLUMES))
    numbers = np.unique(np.rint(wanted).astype(int)).tolist()
    stack = np.stack([volume.data for volume in series.read(numbers)])
    return Image(np.median(stack, axis=0), grid.mm_from_ijk)


def blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut a stream into lists of `size`; the last may be shorter."""
    block: list[Item] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Take the next item from a stream while the last one is still in use."""
    with ThreadPoolExecutor(1, "mireg-read") as pool:
        waiting: Future[Item | None] = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
