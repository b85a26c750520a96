"""Pairs with a known answer, the poses to register them from, and the errors.

What the scripts that register share: `evaluate.py` says what a case file holds.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.filters import threshold_otsu

import mireg
from mireg._files.formats import read_image
from mireg._image import Image
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import KINDS, hard_pair, phantom_pair, random_pose

FloatArray = npt.NDArray[np.float64]
Record = dict[str, Any]

#: An answer may differ from the reference by this on top of its uncertainty.
TOLERANCE_MM = 1.0
#: Points of the fixed foreground at which errors are measured.
N_POINTS = 5000
#: The grid for pairs that share one: turned about no axis of symmetry, and shifted.
REGRID_TURN = Rotation.from_rotvec(np.deg2rad(11) * np.array([0.27, -0.53, 0.80]))
REGRID_SHIFT_VOX = np.array([0.37, 0.59, 0.43])
#: Grids coincide when the far corners are less than this from fitting.
SAME_GRID_VOX = 0.25
PHANTOMS = (("T1", "T2"), ("T1", "EPI"), ("T1", "CT"), ("T1", "PET"))
MB = 1e6


class Answer(Protocol):
    """What is read of a `mireg._register.Registration`."""

    @property
    def moving_from_fixed(self) -> FloatArray: ...
    @property
    def score(self) -> float: ...
    @property
    def overlap_fraction(self) -> float: ...
    @property
    def runner_up(self) -> float: ...
    @property
    def standard_error_mm(self) -> float: ...
    @property
    def doubtful(self) -> bool: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


Register = Callable[[Image, Image], Answer]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Pair(NamedTuple):
    """Two images and the matrix that maps points of `fixed` to points of `moving`.

    Errors are measured at `points` (RAS+ mm of `fixed`), or over its foreground.
    """

    fixed: Image
    moving: Image
    moving_from_fixed: FloatArray
    points: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A pair to register from several poses."""

    id: str
    group: str
    load: Callable[[], Pair]
    limit_mm: float  # mean TRE of a good answer
    poses: int  # random ones, besides its own
    brief: bool = False  # show it in the table only if something is wrong
    reach: tuple[float, float] | None = None  # of random poses off the truth: deg, mm


# --- cases ---------------------------------------------------------------------------


def cases_from_file(path: Path, poses: int, split: str | None = None) -> list[Case]:
    """Read the cases of a file, a list or one as data/truth.json; or of one split."""
    read = json.loads(path.read_text(encoding="utf-8"))
    return [
        Case(
            id=entry["id"],
            group=group_of(entry),
            load=partial(
                pair_of_files,
                path.parent / entry["fixed"],
                path.parent / entry["moving"],
                np.array(entry["moving_from_fixed"], dtype=np.float64),
            ),
            limit_mm=float(entry["reference_uncertainty_mm"]) + TOLERANCE_MM,
            poses=poses,
        )
        for entry in (read if isinstance(read, list) else [read])
        if split in (None, split_of(subject_of(entry)))
    ]


def pair_of_files(fixed: Path, moving: Path, moving_from_fixed: FloatArray) -> Pair:
    """Read a pair."""
    return Pair(read_image(fixed), read_image(moving), moving_from_fixed)


def group_of(entry: Record) -> str:
    """Name the set of a case: the first folder of its fixed file, or its id's start."""
    folders = Path(entry["fixed"]).parts[:-1]
    return folders[0] if folders else entry["id"].split("_")[0]


def phantom_cases(count: int, seed: int, turned: bool) -> list[Case]:
    """Make cases of synthetic heads, each already in a random pose of its own."""
    cases = []
    for contrasts in PHANTOMS:
        group = "_".join(("phantom", *contrasts, *(["turned"] if turned else [])))
        cases += [
            Case(
                f"{group}_{number:04d}",
                group,
                partial(pair_of_phantom, contrasts, number, turned),
                TOLERANCE_MM,
                poses=0,
                brief=True,
            )
            for number in range(seed, seed + count)
        ]
    return cases


def pair_of_phantom(contrasts: tuple[str, str], seed: int, turned: bool) -> Pair:
    """Make a pair of synthetic heads."""
    made = phantom_pair(*contrasts, seed=seed, turned_in_box=turned)
    return Pair(made.fixed, made.moving, made.moving_from_fixed.matrix)


def kind_cases(
    names: Sequence[str], count: int, seed: int, poses: int = 0
) -> list[Case]:
    """Make cases of the hard kinds, each in a random pose of its own, and in more.

    Kinds that are to start aligned have no other pose.
    """
    cases = []
    for name in names:
        reach = KINDS[name].max_angle_deg, KINDS[name].max_offset_mm
        cases += [
            Case(
                f"{name}_{number:04d}",
                name,
                partial(pair_of_kind, name, number),
                KINDS[name].limit_mm,
                poses=poses if any(reach) else 0,
                brief=True,
                reach=reach,
            )
            for number in range(seed, seed + count)
        ]
    return cases


def pair_of_kind(name: str, seed: int) -> Pair:
    """Make a pair of one of the hard kinds."""
    made = hard_pair(name, seed)
    return Pair(made.fixed, made.moving, made.moving_from_fixed.matrix, made.points)


# --- what is chosen on, and what is reported -----------------------------------------

SPLITS = ("choose", "report")
#: Phantoms have seeds below this to choose on, and from here on to report.
FIRST_REPORTED_SEED = 1000
#: Kinds that no choice may see, about a third: of each family of several (part of a
#: head, EPI, CT, emission, thick slices, lesions, brain alone, other bodies) the one
#: that the others of the family say least of.
HELD_OUT = frozenset(
    {
        "slab-occipital",
        "neck",
        "epi-both",
        "ct-gantry",
        "spect",
        "thick-planes",
        "resection",
        "stripped",
        "knee",
    }
)
ABOUT_SPLIT = f"""\
Numbers of the method are chosen on one split and figures reported on the other.
choose: phantoms with seeds below {FIRST_REPORTED_SEED}, without the kinds
{", ".join(sorted(HELD_OUT))};
of a case file the subjects whose name has an odd CRC-32. report: phantoms with seeds
from {FIRST_REPORTED_SEED} on (to which --seed is added), all kinds; the other subjects.
The subject of a case is its key `subject`; without it, the BIDS name (sub-...) in the
path of its fixed image, or else the folder which holds that image, or else the start
of its id. It does not depend on what else the file holds.
"""


def subject_of(entry: Record) -> str:
    """Name the subject of a case; see `ABOUT_SPLIT`."""
    if "subject" in entry:
        return str(entry["subject"])
    *folders, name = Path(entry["fixed"]).parts
    bids = [part.split("_")[0] for part in (*folders, name) if part.startswith("sub-")]
    return (bids or folders[-1:] or [entry["id"].split("_")[0]])[0]


def split_of(subject: str) -> str:
    """Say to which split a subject of a case file belongs."""
    return "choose" if zlib.crc32(subject.encode()) % 2 else "report"


def check_split(
    parser: argparse.ArgumentParser, args: argparse.Namespace, subjects: int
) -> None:
    """Leave out the kinds that the split lacks; set `first_seed`, of the phantoms."""
    args.first_seed = args.seed
    if args.split == "report":
        args.first_seed += FIRST_REPORTED_SEED
    elif args.split == "choose":
        if args.seed + subjects > FIRST_REPORTED_SEED:
            parser.error(f"seeds from {FIRST_REPORTED_SEED} on are those to report")
        if args.kinds == list(KINDS):
            args.kinds = [kind for kind in KINDS if kind not in HELD_OUT]
        elif held := sorted(HELD_OUT & set(args.kinds)):
            parser.error(f"the kind {held[0]} is not to be chosen on; see --help")


# --- poses and grids -----------------------------------------------------------------


def pose_of(case: Case, number: int, seed: int, pair: Pair) -> FloatArray:
    """Return pose `number` of a case as a matrix (RAS+ mm); number 0 is no motion."""
    if number == 0:
        return np.eye(4)
    rng = np.random.default_rng([seed, zlib.crc32(case.id.encode()), number])
    if case.reach is None:
        drawn = random_pose(rng)
        middle = pair.moving.centre_mm
        return RigidTransform(drawn.rotation_vector, drawn.translation, middle).matrix
    degrees, mm = case.reach
    truth = random_pose(rng, max_angle_deg=degrees, max_offset_mm=mm)
    return truth.matrix @ np.linalg.inv(pair.moving_from_fixed)


def share_grid(pair: Pair) -> bool:
    """Tell whether at the true pose the grids have the same axes and voxel size."""
    fixed_mm_from_moving_ijk = (
        np.linalg.inv(pair.moving_from_fixed) @ pair.moving.mm_from_ijk
    )
    step = (np.linalg.inv(pair.fixed.mm_from_ijk) @ fixed_mm_from_moving_ijk)[:3, :3]
    whole = np.rint(step)
    axes = np.abs(whole)
    if not (axes.sum(axis=0) == 1).all() or not (axes.sum(axis=1) == 1).all():
        return False
    drift = np.abs(step - whole) @ np.array(pair.moving.shape)
    return bool(drift.max() < SAME_GRID_VOX)


def regrid(
    image: Image,
    turn: Rotation = REGRID_TURN,
    shift_vox: FloatArray = REGRID_SHIFT_VOX,
    scale: float = 1.0,
) -> Image:
    """Resample an image onto a turned, shifted grid that holds it all.

    Voxels `scale` times as large, cubic splines; NaN where the image had no data.
    """
    about = np.eye(4)
    about[:3, :3] = turn.as_matrix()
    about[:3, 3] = image.centre_mm - about[:3, :3] @ image.centre_mm
    size = np.diag([scale, scale, scale, 1.0])
    turned = Image(image.data, about @ image.mm_from_ijk @ size)
    corners = turned.to_ijk(image.corners_mm)
    start = np.floor(corners.min(axis=0)) - shift_vox
    shape = np.ceil(corners.max(axis=0) - start).astype(int) + 1
    shift = np.eye(4)
    shift[:3, 3] = start
    mm_from_ijk = turned.mm_from_ijk @ shift
    old_from_new = np.linalg.inv(image.mm_from_ijk) @ mm_from_ijk

    def sampled(data: npt.NDArray[np.float32], order: int) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = ndimage.affine_transform(
            data, old_from_new, output_shape=tuple(shape), order=order, prefilter=False
        )
        return values

    known = np.isfinite(image.data)
    data = np.where(known, image.data, np.nanmin(image.data))
    spline = ndimage.spline_filter(data, order=3, output=np.float32, mode="mirror")
    values = sampled(spline, 3).clip(data.min(), data.max())
    # Seen wholly through voxels that hold data: those of linear interpolation.
    inside = sampled(known.astype(np.float32), 1) > 0.999
    return Image(np.where(inside, values, np.float32(np.nan)), mm_from_ijk)


# --- errors --------------------------------------------------------------------------


def foreground_points(image: Image, count: int = N_POINTS) -> FloatArray:
    """Draw points of the foreground, shape (n, 3), RAS+ mm.

    Foreground is what differs from the background more than Otsu's threshold says;
    background is the median along the edges of the box.
    """
    # Less than air is padding of a CT; spikes must not stretch the histogram.
    data = np.maximum(image.data, np.float32(-1024))
    low, high = np.nanpercentile(data, [0.1, 99.9])
    data = data.clip(low, high)
    at_border = [np.isin(np.arange(n), (0, n - 1)).astype(int) for n in data.shape]
    edge = data[sum(np.ix_(*at_border)) >= 2]
    edge = edge[np.isfinite(edge)]
    contrast = np.abs(data - (np.median(edge) if edge.size else low))
    threshold = threshold_otsu(contrast[np.isfinite(contrast)])
    found = np.flatnonzero(contrast > threshold)
    chosen = np.random.default_rng(0).choice(
        found, min(count, found.size), replace=False
    )
    return image.to_mm(np.transpose(np.unravel_index(chosen, data.shape)))


def coarser_voxel_mm(pair: Pair) -> float:
    """Return the voxel size of the coarser image, as a geometric mean."""
    return max(image.voxel_volume_mm3 for image in pair[:2]) ** (1 / 3)


def distances(a: FloatArray, b: FloatArray, points: FloatArray) -> FloatArray:
    """Return how far apart in mm two matrices put each point."""
    difference = a - b
    apart = np.einsum("ij,nj->ni", difference[:3, :3], points) + difference[:3, 3]
    lengths: FloatArray = np.linalg.norm(apart, axis=1)
    return lengths


def spread(answers: Sequence[FloatArray], points: FloatArray) -> float:
    """Return the largest distance in mm between any two answers at any point."""
    return max(
        (
            float(distances(a, b, points).max())
            for i, a in enumerate(answers)
            for b in answers[:i]
        ),
        default=0.0,
    )


# --- one registration ----------------------------------------------------------------


class Usage:
    """Seconds, processor seconds and peak memory from now until `stop`."""

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(OSError):  # Linux: start the high-water mark anew
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before_mb = peak_mb()
        self._since = time.perf_counter(), time.process_time()

    def stop(self) -> Record:
        seconds, cpu = time.perf_counter(), time.process_time()
        return {
            "seconds": seconds - self._since[0],
            "cpu_seconds": cpu - self._since[1],
            "before_mb": self._before_mb,
            "peak_mb": peak_mb(),
        }


def peak_mb() -> float:
    """Return the most memory that the process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MB


def run_pose(
    register: Register, pair: Pair, pose: FloatArray, points: FloatArray
) -> Record:
    """Register a pair in a pose; `found` is the answer brought back to its own pose."""
    moving = Image(pair.moving.data, pose @ pair.moving.mm_from_ijk)
    truth = pose @ pair.moving_from_fixed
    usage = Usage()
    answer = register(pair.fixed, moving)
    used = usage.stop()
    tre = distances(answer.moving_from_fixed, truth, points)
    return {
        "pose": pose,
        "moving_from_fixed": answer.moving_from_fixed,
        "found": np.linalg.inv(pose) @ answer.moving_from_fixed,
        "tre_mean_mm": float(tre.mean()),
        "tre_max_mm": float(tre.max()),
        "score": answer.score,
        "overlap_fraction": answer.overlap_fraction,
        "runner_up": answer.runner_up,
        "standard_error_mm": answer.standard_error_mm,
        "doubtful": answer.doubtful,
        "stages": dict(answer.seconds),
        **used,
    }


def ready(case: Case) -> tuple[Pair, FloatArray, bool]:
    """Load a pair; return it, where to measure, and whether it was regridded."""
    pair = case.load()
    if pair.points is not None:
        return pair, pair.points, False
    regridded = share_grid(pair)
    if regridded:
        pair = pair._replace(moving=regrid(pair.moving))
    return pair, foreground_points(pair.fixed), regridded


# --- the options and the file --------------------------------------------------------

FLAG: Record = {"action": "store_true"}
SEVERAL: Record = {"action": "append", "default": [], "metavar": "TEXT"}
JOBS: Record = {"type": int, "default": 1, "help": "processes, each of one thread"}


def parser_of_cases(about: str, output: Path) -> argparse.ArgumentParser:
    """Make a parser with the options of all scripts that register cases."""
    parser = argparse.ArgumentParser(
        description=f"{about}\n{ABOUT_SPLIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("cases", nargs="?", type=Path, help="JSON file of pairs to register")
    add("--kinds", **SEVERAL, help=f"hard kinds: all, or {', '.join(KINDS)}")
    add("--seed", type=int, default=0, help="of the poses; the first of the phantoms")
    add("--only", "--set", **SEVERAL, help="cases with this in their id or set")
    add("--setting", **SEVERAL, help="NAME=VALUE of mireg.Settings, as metric=mi")
    add("--quiet", **FLAG, help="no progress on stderr")
    add("--split", choices=SPLITS, help="of subjects and kinds; see above")
    parser.set_defaults(jobs=1, phantoms=0, poses=0, seeds=1, turned=False)
    add("-o", "--output", type=Path, default=output, help="full record (%(default)s)")
    return parser


def check_cases(
    parser: argparse.ArgumentParser, args: argparse.Namespace, others: int = 0
) -> None:
    """Refuse a call without cases, read the settings, and find the split's phantoms.

    `others` are subjects that a script has of its own.
    """
    if "all" in args.kinds:
        args.kinds = list(KINDS)
    if unknown := sorted(set(args.kinds) - set(KINDS)):
        parser.error(f"there is no kind {unknown[0]}; choose from {', '.join(KINDS)}")
    if args.cases is None and not args.kinds and not args.phantoms and not others:
        parser.error("give a case file, --kinds NAME, or both")
    if args.cases is not None and not args.cases.is_file():
        parser.error(f"there is no case file {args.cases}")
    if args.seed < 0 or args.jobs < 1:
        parser.error("--seed must not be negative, --jobs at least 1")
    for name in ("phantoms", "poses", "seeds"):
        if getattr(args, name) < 0:
            parser.error(f"--{name} must not be negative")
    of_kinds = args.seeds if args.kinds else 0
    check_split(parser, args, max(of_kinds, args.phantoms, others))
    try:
        args.settings = Settings(**dict(map(setting, args.setting)))
        if args.jobs > 1:
            args.settings = replace(args.settings, threads=1)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def setting(text: str) -> tuple[str, Any]:
    """Split ``name=value`` and read the value."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def cases_of(args: argparse.Namespace) -> list[Case]:
    """Collect the cases that were asked for, of the split."""
    cases: list[Case] = []
    if args.cases is not None:
        cases += cases_from_file(args.cases, args.poses, args.split)
    cases += phantom_cases(args.phantoms, args.first_seed, args.turned)
    cases += kind_cases(args.kinds, args.seeds, args.first_seed, args.poses)
    return selected(cases, args.only)


def selected(cases: list[Case], only: Sequence[str]) -> list[Case]:
    """Keep the cases that were asked for; all if nothing was."""
    return [
        case
        for case in cases
        if not only or any(part in case.id or part in case.group for part in only)
    ]


def none_left(args: argparse.Namespace) -> str:
    """Say why there is nothing to register."""
    where = "" if args.split is None else f" of the split {args.split}"
    named = f" has {' or '.join(args.only)} in its name" if args.only else " is there"
    return f"no case{where}{named}"


def about_run(args: argparse.Namespace) -> Record:
    """Say with what the registrations were made."""
    return {
        "mireg_version": mireg.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processors": os.cpu_count(),
        "seed": args.seed,
        "split": args.split,
        "settings": vars(args.settings),
    }


def library(settings: Settings, init: str = "auto") -> Register:
    """Return `mireg._register.register` with settings, compiled."""
    from mireg._register import register  # noqa: PLC0415, not needed with a stub

    compile_all()
    return partial(register, settings=settings, init=init)


def resumed(args: argparse.Namespace, about: Record) -> list[Record]:
    """Read the cases that an earlier run, made the same way, has left."""
    if not args.resume or not args.output.exists():
        return []
    old: Record = json.loads(args.output.read_text(encoding="utf-8"))
    for name, now in about.items():
        if old.get(name) != now:
            raise SystemExit(f"{args.output} was made with {name} {old.get(name)}")
    cases: list[Record] = old["cases"]
    return cases


def compile_all() -> None:
    """Register something small, so that compiling is in no one's time."""
    from mireg._register import register  # noqa: PLC0415

    small = phantom_pair(fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    register(small.fixed, small.moving)


def each(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Result]:
    """Call `work` on each item, in several processes if so many are wanted."""
    if jobs == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), compile_all) as pool:
        yield from pool.map(work, items)


def say(text: str, quiet: bool) -> None:
    """Tell how far things are."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """Turn records and arrays into what JSON can hold; NaN becomes null."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def store(path: Path, record: Record) -> None:
    """Write all that is known so far, in one piece."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(plain(record), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
