"""Say how well answers agree with each other, where no reference could tell.

    python scripts/consistency.py CASES.json --jobs 2
    python scripts/consistency.py CASES.json --only msmni --poses 0 --copies 0
    python scripts/consistency.py --kinds coil --seeds 2
    python scripts/consistency.py --loop T1.nii.gz T2.nii.gz FLAIR.nii.gz

swapped
    Each pair is registered in both roles, at its own pose and at N random ones (those
    of `evaluate.py`): how far the answer is from the inverse of the swapped one.
moved
    The header of the moving image is moved a little, up to 5 mm and 5 degrees, many
    times: how far the answers, brought back, spread.
regridded
    The moving image is resampled onto many grids, each turned by up to 5 degrees,
    shifted by part of a voxel, with voxels 0.8 to 1 times as large: the same.
loops
    Of three or more images of one patient, each three are registered in a circle: how
    far a point is from itself when it comes round. A case file tells by its pairs which
    images are of one patient. An image whose grid is that of another is first resampled
    onto one of its own, or interpolation artefacts would close the loop.

Distances are in mm, over points of the foreground of the fixed image (the first of a
loop): their mean (for spreads, the root mean square about the mean answer), and the
largest at any point (for spreads, between any two answers).

The exit code is 0 if every largest distance is within its bound, 1 if not, 2 for a bad
call. Bounds: 0.3 mm when swapped; 0.1 mm for spreads; for loops 0.5 mm, or 1 mm if the
slices of an image are more than twice as thick as its pixels are wide.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from measuring import (
    JOBS,
    Case,
    FloatArray,
    Pair,
    Record,
    Register,
    about_run,
    cases_of,
    check_cases,
    distances,
    each,
    foreground_points,
    library,
    none_left,
    parser_of_cases,
    pose_of,
    ready,
    regrid,
    say,
    share_grid,
    spread,
    store,
)
from scipy.spatial.transform import Rotation

from mireg._files.formats import read_image
from mireg._image import Image
from mireg._transform import RigidTransform
from mireg.phantom import random_pose

SWAPPED_MM, SPREAD_MM, LOOP_MM, THICK_LOOP_MM = 0.3, 0.1, 0.5, 1.0
MOVE_MM, TURN_DEG, SMALLEST_VOXEL = 5.0, 5.0, 0.8
KINDS_OF_COPY = ("moved", "regridded")


# --- one pair ------------------------------------------------------------------------


def compare(
    case: Case, register: Register, seed: int, copies: int, quiet: bool
) -> Record:
    """Register a pair in both roles, and copies of it."""
    pair, points, _ = ready(case)
    record: Record = {"id": case.id, "set": case.group}
    apart = np.array(
        [
            swapped(register, pair, pose_of(case, number, seed, pair), points)
            for number in range(case.poses + 1)
        ]
    )
    record["swapped"] = bounded(apart.mean(), apart.max(), SWAPPED_MM)
    record["swapped_by_pose_mm"] = apart.max(axis=1)
    for how in KINDS_OF_COPY if copies else ():
        rng = np.random.default_rng([seed, zlib.crc32(f"{case.id} {how}".encode())])
        found = [copied(register, pair, how, rng) for _ in range(copies)]
        record[how] = bounded(rms(found, points), spread(found, points), SPREAD_MM)
        record[f"{how}_answers"] = found
    say(row(case.id, record), quiet)
    return record


def bounded(mean_mm: float, max_mm: float, limit_mm: float) -> Record:
    """Note distances, and whether they are within their bound."""
    good = bool(max_mm <= limit_mm)
    return {"mean_mm": mean_mm, "max_mm": max_mm, "limit_mm": limit_mm, "good": good}


def swapped(
    register: Register, pair: Pair, pose: FloatArray, points: FloatArray
) -> FloatArray:
    """Return how far apart a pair and its swap put each point."""
    moving = Image(pair.moving.data, pose @ pair.moving.mm_from_ijk)
    there = register(pair.fixed, moving).moving_from_fixed
    back = register(moving, pair.fixed).moving_from_fixed
    return distances(there, np.linalg.inv(back), points)


def copied(
    register: Register, pair: Pair, how: str, rng: np.random.Generator
) -> FloatArray:
    """Register a copy of the moving image that shows the same; return the answer."""
    small = random_pose(rng, max_offset_mm=MOVE_MM, max_angle_deg=TURN_DEG)
    if how == "regridded":
        return register(pair.fixed, on_a_grid(pair.moving, rng)).moving_from_fixed
    pose = RigidTransform(
        small.rotation_vector, small.translation, pair.moving.centre_mm
    ).matrix
    moved = Image(pair.moving.data, pose @ pair.moving.mm_from_ijk)
    return np.linalg.inv(pose) @ register(pair.fixed, moved).moving_from_fixed


def on_a_grid(image: Image, rng: np.random.Generator) -> Image:
    """Resample an image onto a grid turned, shifted and scaled at random."""
    turn = random_pose(rng, max_angle_deg=TURN_DEG).rotation_vector
    shift, scale = rng.uniform(size=3), rng.uniform(SMALLEST_VOXEL, 1)
    return regrid(image, Rotation.from_rotvec(turn), shift, scale)


def rms(answers: Sequence[FloatArray], points: FloatArray) -> float:
    """Return how far answers put points from where they do on average, in mm."""
    # The mean of the matrices puts each point at the mean of its places.
    mean = np.mean(answers, axis=0)
    return float(np.sqrt(np.mean([distances(a, mean, points) ** 2 for a in answers])))


# --- loops ---------------------------------------------------------------------------


def patients(path: Path, cases: Iterable[Case]) -> list[list[Path]]:
    """Gather the images that pairs of a case file join, each three or more."""
    wanted = {case.id for case in cases}
    groups: list[set[Path]] = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        if entry["id"] in wanted:
            joined = {path.parent / entry[role] for role in ("fixed", "moving")}
            touched = [group for group in groups if group & joined]
            groups = [group for group in groups if not group & joined]
            groups.append(joined.union(*touched))
    return [sorted(group) for group in groups if len(group) > 2]


def close_loops(
    paths: Sequence[Path], register: Register, seed: int, quiet: bool
) -> list[Record]:
    """Register the images of one patient, and go round with each three of them."""
    images: list[Image] = []
    rng = np.random.default_rng([seed, len(paths)])
    for path in paths:
        image = read_image(path)
        if any(share_grid(Pair(image, other, np.eye(4))) for other in images):
            image = on_a_grid(image, rng)
        images.append(image)
    circles = [(a, b, c, a) for a, b, c in combinations(range(len(images)), 3)]
    steps = {step for way in circles for step in pairwise(way)}
    found = {}
    for a, b in sorted(steps):
        found[a, b] = register(images[a], images[b]).moving_from_fixed
        say(f"{paths[a].name} to {paths[b].name}: done", quiet)
    records = []
    for way in circles:
        first, second, third = (found[step] for step in pairwise(way))
        points = foreground_points(images[way[0]])
        apart = distances(third @ second @ first, np.eye(4), points)
        sizes = [np.array(images[one].voxel_size_mm) for one in way]
        thick = any(size.max() > 2 * size.min() for size in sizes)
        limit = THICK_LOOP_MM if thick else LOOP_MM
        names = [paths[one].name.partition(".")[0] for one in way]
        records.append(
            {
                "id": f"{paths[0].parent.name}: {' '.join(names)}",
                "loop": bounded(apart.mean(), apart.max(), limit),
            }
        )
    return records


# --- the table -----------------------------------------------------------------------

_COLUMNS = ("swapped", *KINDS_OF_COPY)


def heading() -> str:
    """Return the two lines above the table of pairs."""
    names = "".join(f"{name:>18}" for name in _COLUMNS)
    kinds = "".join(f"{kind:>9}{'max':>9}" for kind in ("mean", "rms", "rms"))
    return f"{'':28}{names}\n{'pair':28}{kinds}"


def cells(measured: Record | None) -> str:
    """Return two numbers; what is beyond its bound is marked."""
    if measured is None:
        return f"{'-':>9}{'-':>8} "
    mark = " " if measured["good"] else "!"
    return f"{measured['mean_mm']:>9.3f}{measured['max_mm']:>8.3f}{mark}"


def row(name: str, record: Record) -> str:
    """Return one line of the table of pairs."""
    return f"{name:28}" + "".join(cells(record.get(column)) for column in _COLUMNS)


def worst_of(records: Sequence[Record]) -> list[Record]:
    """Sum up each set by its largest distances; the means are means."""
    sets = dict.fromkeys(record["set"] for record in records)
    lines = []
    for name in sets:
        members = [record for record in records if record["set"] == name]
        line: Record = {"set": f"{name} ({len(members)})"}
        for column in _COLUMNS:
            some = [record[column] for record in members if column in record]
            if some:
                mean = float(np.mean([one["mean_mm"] for one in some]))
                largest = max(one["max_mm"] for one in some)
                line[column] = bounded(mean, largest, some[0]["limit_mm"])
        lines.append(line)
    return lines


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("consistency.json"))
    add = parser.add_argument
    add("--poses", type=int, default=5, help="random poses to swap at (%(default)s)")
    add("--copies", type=int, default=20, help="copies of each kind (%(default)s)")
    add("--seeds", type=int, default=1, help="subjects of each kind (%(default)s)")
    loop: Record = {"nargs": "+", "action": "append", "default": [], "type": Path}
    add("--loop", **loop, metavar="IMAGE", help="three or more images of one patient")
    add("--jobs", **JOBS)
    args = parser.parse_args(argv)
    check_cases(parser, args, len(args.loop))
    if args.copies < 0:
        parser.error("--copies must not be negative")
    if any(len(paths) < 3 for paths in args.loop):
        parser.error("--loop needs three images or more")
    return args


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    cases = cases_of(args)
    circles = list(args.loop)
    if args.cases is not None:
        circles += patients(args.cases, cases)
    if not cases and not circles:
        print(none_left(args), file=sys.stderr)
        return 2
    shared = {
        "register": register or library(args.settings),
        "seed": args.seed,
        "quiet": args.quiet,
    }
    work = partial(compare, copies=args.copies, **shared)
    pairs: list[Record] = []
    loops: list[Record] = []

    def keep() -> None:
        store(args.output, {**about_run(args), "pairs": pairs, "loops": loops})

    if cases:
        print(heading(), flush=True)
    for record in each(work, cases, args.jobs):
        pairs.append(record)
        print(row(record["id"], record), flush=True)
        keep()
    for line in worst_of(pairs):
        print(row(line["set"], line))
    if circles:
        print(f"\n{'loop':60}{'mean':>9}{'max':>9}")
    for records in each(partial(close_loops, **shared), circles, args.jobs):
        loops += records
        for record in records:
            print(f"{record['id']:60}{cells(record['loop'])}", flush=True)
        keep()
    print("\nmm; ! is beyond the bound")
    measured = [r[c] for r in pairs for c in _COLUMNS if c in r]
    measured += [record["loop"] for record in loops]
    return 0 if all(one["good"] for one in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
