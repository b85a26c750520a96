"""Register pairs with a known answer, and say how far off the answers are.

    python scripts/evaluate.py CASES.json --poses 20
    python scripts/evaluate.py --phantoms 50
    python scripts/evaluate.py --kinds all --seeds 5

Each pair of a case file is registered at its own pose (pose 0) and at N random ones:
any orientation, the middle of the moving image up to 100 mm away. A random pose P
changes the header of the moving image only, to ``P @ mm_from_ijk``; the true answer
becomes ``P @ moving_from_fixed``. Pose k of a case depends on the seed, the case's id
and k, not on what else is selected.

A pair whose grids coincide at the true pose is an easy one: there the interpolation
artefacts of mutual information are at their strongest and pull to the truth. The
moving image of such a pair is first resampled, once, onto a turned and shifted grid.

The hard kinds of `mireg.phantom.KINDS` come with a pose and a subject from each seed,
drawn from as far off as the kind says, and with the points at which to measure.

A case is a record with ``id``, ``fixed`` and ``moving`` (paths from the case file),
``moving_from_fixed`` (4x4, RAS+ mm, points of fixed to points of moving) and
``reference_uncertainty_mm``.

Errors are target registration errors (TRE): how far the answer puts each point of the
fixed foreground from where the reference puts it. An answer is good when its mean TRE
is at most the uncertainty of the reference plus 1 mm; for most of the hard kinds,
2 mm.

The exit code is 0 if all answers were good, 1 if some were not, 2 for a bad call.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.filters import threshold_otsu

import mireg
from mireg.formats import read_image
from mireg.image import Image
from mireg.phantom import KINDS, hard_pair, phantom_pair, random_pose
from mireg.settings import Settings
from mireg.transform import RigidTransform

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
    """What is read of a `mireg.register.Registration`."""

    @property
    def moving_from_fixed(self) -> FloatArray: ...
    @property
    def score(self) -> float: ...
    @property
    def overlap_fraction(self) -> float: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


Register = Callable[[Image, Image], Answer]


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


# --- cases ---------------------------------------------------------------------------


def cases_from_file(path: Path, poses: int) -> list[Case]:
    """Read the cases of a file."""

    def loader(entry: Record) -> Callable[[], Pair]:
        return lambda: Pair(
            read_image(path.parent / entry["fixed"]),
            read_image(path.parent / entry["moving"]),
            np.array(entry["moving_from_fixed"], dtype=np.float64),
        )

    return [
        Case(
            id=entry["id"],
            group=group_of(entry),
            load=loader(entry),
            limit_mm=float(entry["reference_uncertainty_mm"]) + TOLERANCE_MM,
            poses=poses,
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]


def group_of(entry: Record) -> str:
    """Name the set of a case: the first folder of its fixed file, or its id's start."""
    folders = Path(entry["fixed"]).parts[:-1]
    return folders[0] if folders else entry["id"].split("_")[0]


def phantom_cases(count: int, seed: int, turned: bool) -> list[Case]:
    """Make cases of synthetic heads, each already in a random pose of its own."""

    def loader(contrasts: tuple[str, str], number: int) -> Callable[[], Pair]:
        def load() -> Pair:
            pair = phantom_pair(*contrasts, seed=number, turned_in_box=turned)
            return Pair(pair.fixed, pair.moving, pair.moving_from_fixed.matrix)

        return load

    cases = []
    for contrasts in PHANTOMS:
        group = "_".join(("phantom", *contrasts, *(["turned"] if turned else [])))
        cases += [
            Case(
                f"{group}_{number:04d}",
                group,
                loader(contrasts, number),
                TOLERANCE_MM,
                poses=0,
                brief=True,
            )
            for number in range(seed, seed + count)
        ]
    return cases


def kind_pair(name: str, seed: int) -> Pair:
    """Make a pair of one of the hard kinds."""
    made = hard_pair(name, seed)
    return Pair(made.fixed, made.moving, made.moving_from_fixed.matrix, made.points)


def kind_cases(names: Sequence[str], count: int, seed: int) -> list[Case]:
    """Make cases of the hard kinds, each in a random pose of its own."""
    return [
        Case(
            f"{name}_{number:04d}",
            name,
            partial(kind_pair, name, number),
            KINDS[name].limit_mm,
            poses=0,
            brief=True,
        )
        for name in names
        for number in range(seed, seed + count)
    ]


# --- poses and grids -----------------------------------------------------------------


def pose_of(seed: int, case_id: str, number: int, middle: FloatArray) -> FloatArray:
    """Return pose `number` of a case as a matrix (RAS+ mm); number 0 is no motion."""
    if number == 0:
        return np.eye(4)
    rng = np.random.default_rng([seed, zlib.crc32(case_id.encode()), number])
    drawn = random_pose(rng)
    return RigidTransform(drawn.rotation_vector, drawn.translation, middle).matrix


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


def regrid(image: Image) -> Image:
    """Resample an image onto a turned, shifted grid that holds it all.

    Same voxel size, cubic splines; NaN where the image had no data.
    """
    turn = np.eye(4)
    turn[:3, :3] = REGRID_TURN.as_matrix()
    turn[:3, 3] = image.centre_mm - turn[:3, :3] @ image.centre_mm
    turned = Image(image.data, turn @ image.mm_from_ijk)
    corners = turned.to_ijk(image.corners_mm)
    start = np.floor(corners.min(axis=0)) - REGRID_SHIFT_VOX
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


# --- one registration, one case, one set ---------------------------------------------


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


def run_case(
    case: Case,
    register: Register,
    seed: int,
    keep_going: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Record:
    """Register a case in all its poses."""
    pair, points, regridded = ready(case)
    runs: list[Record] = []
    for number in range(case.poses + 1):
        pose = pose_of(seed, case.id, number, pair.moving.centre_mm)
        label = f"{case.id} pose {number}/{case.poses}:"
        try:
            run = run_pose(register, pair, pose, points)
        except Exception as error:
            if not keep_going:
                raise
            run = {"pose": pose, "error": f"{type(error).__name__}: {error}"}
            say(f"{label} {run['error']}")
        else:
            tre, seconds = run["tre_mean_mm"], run["seconds"]
            say(f"{label} TRE {tre:.3f} mm, {seconds:.2f} s")
        run["good"] = run.get("tre_mean_mm", math.inf) <= case.limit_mm
        runs.append(run)
    voxels = pair.fixed.data.size + pair.moving.data.size
    found = [run["found"] for run in runs if "found" in run]
    good = [run["found"] for run in runs if run["good"]]
    return {
        "id": case.id,
        "set": case.group,
        "limit_mm": case.limit_mm,
        "regridded": regridded,
        "fixed": grid_of(pair.fixed),
        "moving": grid_of(pair.moving),
        "reference": pair.moving_from_fixed,
        "own_mm": runs[0].get("tre_mean_mm"),
        **summary(runs),
        "spread_mm": spread(found, points),
        "spread_of_good_mm": spread(good, points),
        "budget_mb": 3 * 4 * voxels / MB + 300,
        "poses": runs,
    }


def grid_of(image: Image) -> Record:
    """Describe an image's grid."""
    return {"shape": image.shape, "voxel_size_mm": image.voxel_size_mm}


def summary(runs: Sequence[Record]) -> Record:
    """Sum up registrations; those that raised an error count as not good."""
    done = [run for run in runs if "error" not in run]

    def of(name: str, how: Callable[[list[float]], Any]) -> float | None:
        return float(how([run[name] for run in done])) if done else None

    return {
        "runs": len(runs),
        "good": sum(run["good"] for run in runs),
        "tre_median_mm": of("tre_mean_mm", np.median),
        "tre_worst_mm": of("tre_mean_mm", max),
        "tre_max_mm": of("tre_max_mm", max),
        "seconds": of("seconds", np.median),
        "cpu_seconds": of("cpu_seconds", np.median),
        "peak_mb": of("peak_mb", max),
    }


def sum_up(records: Sequence[Record]) -> list[Record]:
    """Sum up each set, and all sets if there are several."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["set"], []).append(record)
    if len(groups) > 1:
        groups["all"] = list(records)
    return [
        {
            "set": name,
            "cases": len(members),
            **summary([run for record in members for run in record["poses"]]),
            "spread_mm": max(record["spread_mm"] for record in members),
            "spread_of_good_mm": max(record["spread_of_good_mm"] for record in members),
        }
        for name, members in groups.items()
    ]


# --- the table and the file ----------------------------------------------------------

_HEADINGS = ("good", "own", "median", "worst", "max", "spread", "s", "MB")
_LEGEND = """\
good: registrations with mean TRE within the limit. In mm: own, the mean TRE at the
pair's own pose; median and worst of the mean TRE over poses; max, the largest TRE at
any point; spread, the largest distance between the answers from two poses at any
point. s: median seconds. MB: most memory of the process while it registered.
"""


def heading(name: str) -> str:
    """Return the line above a table."""
    good, *others = _HEADINGS
    return f"{name:28}{good:>9}" + "".join(f"{word:>9}" for word in others)


def row(name: str, record: Record) -> str:
    """Return one line of a table."""
    places = {
        "own_mm": 3,
        "tre_median_mm": 3,
        "tre_worst_mm": 3,
        "tre_max_mm": 3,
        "spread_mm": 3,
        "seconds": 2,
        "peak_mb": 0,
    }
    good = f"{record['good']}/{record['runs']}"
    line = f"{name:28}{good:>9}"
    for key, digits in places.items():
        value = record.get(key)
        line += f"{'-':>9}" if value is None else f"{value:>9.{digits}f}"
    return line


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


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("evaluation.json"))
    add = parser.add_argument
    add("--poses", type=int, default=0, help="random poses per case")
    add("--phantoms", type=int, default=0, help="seeds of phantom pairs to register")
    add("--turned", **FLAG, help="turn phantoms in their voxels, not by their header")
    add("--seeds", type=int, default=5, help="pairs of each kind (%(default)s)")
    args = parser.parse_args(argv)
    check_cases(parser, args, bool(args.phantoms))
    if min(args.poses, args.phantoms, args.seeds) < 0:
        parser.error("--poses, --phantoms and --seeds must not be negative")
    return args


FLAG: Record = {"action": "store_true"}
SEVERAL: Record = {"action": "append", "default": [], "metavar": "TEXT"}


def parser_of_cases(about: str, output: Path) -> argparse.ArgumentParser:
    """Make a parser with the options of all scripts that register cases."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("cases", nargs="?", type=Path, help="JSON file of pairs to register")
    add("--kinds", **SEVERAL, help=f"hard kinds: all, or {', '.join(KINDS)}")
    add("--seed", type=int, default=0, help="of the poses; the first of the phantoms")
    add("--only", "--set", **SEVERAL, help="cases with this in their id or set")
    add("--setting", **SEVERAL, help="NAME=VALUE of mireg.Settings, as metric=mi")
    add("--keep-going", **FLAG, help="count an error as a bad answer and go on")
    add("--quiet", **FLAG, help="no progress on stderr")
    add("-o", "--output", type=Path, default=output, help="full record (%(default)s)")
    return parser


def check_cases(
    parser: argparse.ArgumentParser, args: argparse.Namespace, others: bool = False
) -> None:
    """Refuse a call without cases, and read the settings."""
    if "all" in args.kinds:
        args.kinds = list(KINDS)
    if unknown := sorted(set(args.kinds) - set(KINDS)):
        parser.error(f"there is no kind {unknown[0]}; choose from {', '.join(KINDS)}")
    if args.cases is None and not args.kinds and not others:
        parser.error("give a case file, --kinds NAME, or both")
    if args.cases is not None and not args.cases.is_file():
        parser.error(f"there is no case file {args.cases}")
    if args.seed < 0:
        parser.error("--seed must not be negative")
    try:
        args.settings = Settings(**dict(map(setting, args.setting)))
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def setting(text: str) -> tuple[str, Any]:
    """Split ``name=value`` and read the value."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def selected(cases: list[Case], only: Sequence[str]) -> list[Case]:
    """Keep the cases that were asked for; all if nothing was."""
    return [
        case
        for case in cases
        if not only or any(part in case.id or part in case.group for part in only)
    ]


def about_run(args: argparse.Namespace) -> Record:
    """Say with what the registrations were made."""
    return {
        "mireg_version": mireg.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processors": os.cpu_count(),
        "seed": args.seed,
        "settings": vars(args.settings),
    }


def library(settings: Settings) -> Register:
    """Return `mireg.register.register` with settings, compiled."""
    from mireg.register import register  # noqa: PLC0415, not needed with a stub

    small = phantom_pair(fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    register(small.fixed, small.moving, settings=settings)
    return lambda fixed, moving: register(fixed, moving, settings=settings)


def run_all(
    cases: Iterable[Case], register: Register, args: argparse.Namespace
) -> Iterator[tuple[Case, Record]]:
    """Register case after case, and tell of each on stderr."""

    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    for case in cases:
        yield case, run_case(case, register, args.seed, args.keep_going, say)


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    cases = [] if args.cases is None else cases_from_file(args.cases, args.poses)
    cases += phantom_cases(args.phantoms, args.seed, args.turned)
    cases += kind_cases(args.kinds, args.seeds, args.seed)
    cases = selected(cases, args.only)
    if not cases:
        print(f"no case has {' or '.join(args.only)} in its name", file=sys.stderr)
        return 2
    about = about_run(args)
    records: list[Record] = []
    print(heading("case"), flush=True)
    for case, record in run_all(cases, register or library(args.settings), args):
        records.append(record)
        if not case.brief or record["good"] < record["runs"]:
            print(row(case.id, record), flush=True)
        whole = {**about, "sets": sum_up(records), "cases": records}
        store(args.output, whole)
    print(f"\n{heading('set')}")
    for line in sum_up(records):
        print(row(f"{line['set']} ({line['cases']})", line))
    print(f"\n{_LEGEND}")
    return 0 if all(record["good"] == record["runs"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
