"""Register pairs with a known answer, and say how far off the answers are.

    python scripts/evaluate.py CASES.json --poses 20
    python scripts/evaluate.py --phantoms 50
    python scripts/evaluate.py --kinds all --seeds 20 --poses 4 --jobs 2
    python scripts/evaluate.py CASES.json --kinds all --split report

Each pair of a case file is registered at its own pose (pose 0) and at N random ones:
any orientation, the middle of the moving image up to 100 mm away. A random pose P
changes the header of the moving image only, to ``P @ mm_from_ijk``; the true answer
becomes ``P @ moving_from_fixed``. Pose k of a case depends on the seed, the case's id
and k, not on what else is selected.

A pair whose grids coincide at the true pose is an easy one: there the interpolation
artefacts of mutual information are at their strongest and pull to the truth. The
moving image of such a pair is first resampled, once, onto a turned and shifted grid.

The hard kinds of `mireg.phantom.KINDS` come with a pose and a subject from each seed,
and with the points at which to measure. All their poses are drawn from as far off as
the kind says; to make a subject takes longer than to register it once more.

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
import io
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from measuring import (
    FLAG,
    JOBS,
    MB,
    Case,
    FloatArray,
    Pair,
    Record,
    Register,
    about_run,
    cases_of,
    check_cases,
    coarser_voxel_mm,
    each,
    library,
    none_left,
    parser_of_cases,
    pose_of,
    ready,
    resumed,
    run_pose,
    say,
    spread,
    store,
)
from scipy.stats import binomtest

from mireg._image import Image
from mireg._picture import three_planes

# --- one case, one set ---------------------------------------------------------------


def run_case(
    case: Case,
    register: Register,
    seed: int,
    *,
    keep_going: bool = False,
    quiet: bool = True,
    pictures: Path | None = None,
) -> Record:
    """Register a case in all its poses."""
    pair, points, regridded = ready(case)
    voxel_mm = coarser_voxel_mm(pair)
    runs: list[Record] = []
    for number in range(case.poses + 1):
        pose = pose_of(case, number, seed, pair)
        label = f"{case.id} pose {number}/{case.poses}:"
        try:
            run = run_pose(register, pair, pose, points)
        except Exception as error:
            if not keep_going:
                raise
            run = {"pose": pose, "error": f"{type(error).__name__}: {error}"}
            say(f"{label} {run['error']}", quiet)
        else:
            tre, seconds = run["tre_mean_mm"], run["seconds"]
            run["tre_vox"] = tre / voxel_mm
            say(f"{label} TRE {tre:.3f} mm, {seconds:.2f} s", quiet)
        run["good"] = run.get("tre_mean_mm", math.inf) <= case.limit_mm
        runs.append(run)
    bad = [run for run in runs if "found" in run and not run["good"]]
    if pictures is not None and bad:
        worst = max(bad, key=lambda run: run["tre_mean_mm"])
        picture(pair, worst["found"], points).save(pictures / f"{case.id}.png")
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


def picture(pair: Pair, found: FloatArray, points: FloatArray) -> PIL.Image.Image:
    """Draw the moving image's edges on the fixed image: above as found, below right."""
    drawn = [
        three_planes(pair.fixed, pair.moving, matrix, points.mean(axis=0))
        for matrix in (found, pair.moving_from_fixed)
    ]
    rows = [np.asarray(PIL.Image.open(io.BytesIO(png))) for png in drawn]
    return PIL.Image.fromarray(np.concatenate(rows))


def grid_of(image: Image) -> Record:
    """Describe an image's grid."""
    return {"shape": image.shape, "voxel_size_mm": image.voxel_size_mm}


def summary(runs: Sequence[Record]) -> Record:
    """Sum up registrations; those that raised an error count as not good."""
    done = [run for run in runs if "error" not in run]

    def of(name: str, how: Callable[[list[float]], Any]) -> float | None:
        return float(how([run[name] for run in done])) if done else None

    good = sum(run["good"] for run in runs)
    return {
        "runs": len(runs),
        "good": good,
        "good_interval": binomtest(good, len(runs)).proportion_ci(0.95, "wilson"),
        "tre_median_mm": of("tre_mean_mm", np.median),
        "tre_median_vox": of("tre_vox", np.median),
        "tre_worst_mm": of("tre_mean_mm", max),
        "tre_max_mm": of("tre_max_mm", max),
        "standard_error_mm": of("standard_error_mm", np.median),
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


# --- the table -----------------------------------------------------------------------

#: What a column is called, where its number is, and how many digits it gets.
_COLUMNS = (
    ("own", "own_mm", 3),
    ("median", "tre_median_mm", 3),
    ("noise", "standard_error_mm", 3),
    ("voxels", "tre_median_vox", 3),
    ("worst", "tre_worst_mm", 3),
    ("max", "tre_max_mm", 3),
    ("spread", "spread_mm", 3),
    ("s", "seconds", 2),
    ("MB", "peak_mb", 0),
)
_LEGEND = """\
good: registrations with mean TRE within the limit, and the 95 % interval (Wilson) of
their share in percent. In mm: own, the mean TRE at the pair's own pose; median and
worst of the mean TRE over poses; noise, what the answers say of it themselves (median
of the standard errors, rms); max, the largest TRE at any point; spread, the largest
distance between the answers from two poses at any point. voxels: the median as a share
of the voxel size of the coarser image (geometric mean). s: median seconds. MB: most
memory of the process while it registered.
"""


def heading(name: str) -> str:
    """Return the line above a table."""
    columns = "".join(f"{word:>8}" for word, *_ in _COLUMNS)
    return f"{name:28}{'good':>9}{'95 %':>10}{columns}"


def row(name: str, record: Record) -> str:
    """Return one line of a table."""
    good = f"{record['good']}/{record['runs']}"
    low, high = record["good_interval"]
    line = f"{name:28}{good:>9}{f'{100 * low:.1f}-{100 * high:.0f}':>10}"
    for _, key, digits in _COLUMNS:
        value = record.get(key)
        line += f"{'-':>8}" if value is None else f"{value:>8.{digits}f}"
    return line


def told(records: Sequence[Record]) -> str:
    """Say how many answers called themselves doubtful."""
    runs = [run for record in records for run in record["poses"] if "doubtful" in run]
    words = []
    for name, some in (
        ("bad", [run for run in runs if not run["good"]]),
        ("good", [run for run in runs if run["good"]]),
    ):
        doubtful = sum(run["doubtful"] for run in some)
        words.append(f"{doubtful} of {len(some)} {name} answers")
    return f"With a note that they may be wrong: {', '.join(words)}."


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("evaluation.json"))
    add = parser.add_argument
    add("--poses", type=int, default=0, help="random poses per case, besides its own")
    add("--phantoms", type=int, default=0, help="seeds of phantom pairs to register")
    add("--turned", **FLAG, help="turn phantoms in their voxels, not by their header")
    add("--seeds", type=int, default=5, help="subjects of each kind (%(default)s)")
    add("--pictures", type=Path, metavar="DIR", help="draw the worst of each bad case")
    add("--resume", **FLAG, help="keep the cases that the output file already holds")
    add("--jobs", **JOBS)
    add("--keep-going", **FLAG, help="count an error as a bad answer and go on")
    args = parser.parse_args(argv)
    check_cases(parser, args)
    return args


def kept(args: argparse.Namespace, about: Record, cases: Sequence[Case]) -> Record:
    """Read the cases that an earlier run has left whole; by id."""
    runs = {case.id: case.poses + 1 for case in cases}
    return {
        record["id"]: record
        for record in resumed(args, about)
        if record["runs"] == runs.get(record["id"])
    }


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    cases = cases_of(args)
    if not cases:
        print(none_left(args), file=sys.stderr)
        return 2
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
    about = about_run(args)
    of_split = "" if args.split is None else f", split {args.split}"
    done = kept(args, about, cases)
    work = partial(
        run_case,
        register=register or library(args.settings),
        seed=args.seed,
        keep_going=args.keep_going,
        quiet=args.quiet,
        pictures=args.pictures,
    )
    records: list[Record] = list(done.values())
    brief = {case.id for case in cases if case.brief}
    print(heading(f"case{of_split}"), flush=True)
    for record in each(
        work, [case for case in cases if case.id not in done], args.jobs
    ):
        records.append(record)
        if record["id"] not in brief or record["good"] < record["runs"]:
            print(row(record["id"], record), flush=True)
        store(args.output, {**about, "sets": sum_up(records), "cases": records})
    print(f"\n{heading(f'set{of_split}')}")
    for line in sum_up(records):
        print(row(f"{line['set']} ({line['cases']})", line))
    print(f"\n{told(records)}\n\n{_LEGEND}")
    return 0 if all(record["good"] == record["runs"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
