"""Say from how far off registrations come right, and draw it.

    python scripts/capture_range.py --kinds coil --kinds ct
    python scripts/capture_range.py CASES.json --only slab --starts 20
    python scripts/capture_range.py --kinds coil --init header --farthest 60 --widest 60

The last tells what refinement captures without a search.

Each pair is registered from many starts: the header of its moving image is moved so
that the middle of the anatomy is off by 0 to 150 mm, and turned by 0 to 180 degrees,
about a random axis and along a random direction. Starts fill a grid of cells, so many
in each. A start succeeds if the mean target registration error (TRE) of its answer is
within the limit (that of the kind, 2 mm for most; for a case file, the uncertainty of
the reference plus 1 mm).

The 90 % capture range is the distance of starts, as a mean over the anatomy, from
which one in ten fails (van Herk, Handbook of Medical Imaging, 2000): here up to where
in every bin of 10 mm at least 90 % succeed. Starts in the first row of cells, where the
displacement is small, still are as far off as their turn takes the anatomy.

Writes a JSON record, and beside it, if matplotlib is there, a picture: the share of
starts that succeed in each cell.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from measuring import (
    JOBS,
    Case,
    FloatArray,
    Record,
    Register,
    about_run,
    cases_of,
    check_cases,
    distances,
    each,
    library,
    none_left,
    parser_of_cases,
    ready,
    run_pose,
    say,
    store,
)

from mireg._errors import InputError
from mireg._transform import RigidTransform

BIN_MM = 10.0
SHARE = 0.9
_MIDDLE: Record = {"ha": "center", "va": "center", "fontsize": "small"}


def start_in(
    corners: FloatArray, middle: FloatArray, rng: np.random.Generator
) -> tuple[RigidTransform, float, float]:
    """Draw a start in a cell of the grid: the pose, its displacement and angle.

    `corners` of the cell are two of these, in mm and degrees.
    """
    away, turn = rng.uniform(*corners)
    axis, direction = rng.standard_normal((2, 3))
    pose = RigidTransform(
        np.deg2rad(turn) * axis / np.linalg.norm(axis),
        away * direction / np.linalg.norm(direction),
        middle,
    )
    return pose, float(away), float(turn)


def capture_range_mm(start_mm: FloatArray, good: Sequence[bool]) -> float:
    """Return the distance of starts within which nine in ten succeed in every bin."""
    bins = np.floor_divide(start_mm, BIN_MM).astype(int)
    for number in range(int(bins.max()) + 1):
        here = np.asarray(good)[bins == number]
        if here.size and here.mean() < SHARE:
            return number * BIN_MM
    return float(start_mm.max())


def run_starts(
    part: tuple[Case, Sequence[tuple[int, int]]],
    register: Register,
    args: argparse.Namespace,
) -> list[Record]:
    """Register a pair from its starts in some cells."""
    case, chosen = part
    pair, points, _ = ready(case)
    middle = points.mean(axis=0)
    aligned = np.linalg.inv(pair.moving_from_fixed)
    reach = args.farthest, args.widest
    starts: list[Record] = []
    for cell in chosen:
        rng = np.random.default_rng([args.seed, zlib.crc32(case.id.encode()), *cell])
        corners = np.array([cell, np.add(cell, 1)]) / args.cells * reach
        for _ in range(args.starts):
            pose, away, turn = start_in(corners, middle, rng)
            start: Record = {"cell": cell, "displacement_mm": away, "angle_deg": turn}
            start["start_mm"] = float(distances(np.eye(4), pose.matrix, points).mean())
            try:
                run = run_pose(register, pair, pose.matrix @ aligned, points)
            except InputError as error:  # without a search, images may miss each other
                start |= {"error": str(error), "good": False}
            else:
                tre = run["tre_mean_mm"]
                start |= {"tre_mm": tre, "good": tre <= case.limit_mm}
                start["seconds"] = run["seconds"]
            starts.append(start)
        good = sum(start["good"] for start in starts[-args.starts :])
        say(f"{case.id} cell {cell}: {good} good of {args.starts}", args.quiet)
    return starts


def sum_up(
    case: Case, starts: Sequence[Record], cells: int, reach: tuple[float, float]
) -> Record:
    """Return the share of good starts in each cell, and the capture range."""
    counts = np.zeros((2, cells, cells))
    for start in starts:
        counts[int(start["good"])][tuple(start["cell"])] += 1
    far = np.array([start["start_mm"] for start in starts])
    return {
        "id": case.id,
        "limit_mm": case.limit_mm,
        "farthest_mm": reach[0],
        "widest_deg": reach[1],
        "success": float(counts[1].sum() / counts.sum()),
        "capture_range_mm": capture_range_mm(far, [s["good"] for s in starts]),
        "success_by_displacement_and_angle": counts[1] / counts.sum(axis=0),
    }


def table(record: Record) -> str:
    """Return the share of successes as text: rows displacement, columns angle."""
    share = record["success_by_displacement_and_angle"]
    ends = np.arange(1, len(share) + 1) / len(share)
    degrees, mm = record["widest_deg"] * ends, record["farthest_mm"] * ends
    lines = ["   up to" + "".join(f"{end:>7.0f}°" for end in degrees)]
    for end, row in zip(mm, share, strict=True):
        lines.append(f"{end:>5.0f} mm" + "".join(f"{100 * s:>7.0f}%" for s in row))
    return "\n".join(lines)


def draw(records: Sequence[Record], path: Path) -> bool:
    """Draw a heat map for each pair; say whether there was anything to draw with."""
    try:
        import matplotlib as mpl  # noqa: PLC0415, it is optional
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    wide = min(4, len(records))
    high = -(-len(records) // wide)
    figure, axes = plt.subplots(
        high, wide, figsize=(3.6 * wide, 3.4 * high), squeeze=False, layout="tight"
    )
    for axis in axes.ravel()[len(records) :]:
        axis.axis("off")
    for axis, record in zip(axes.ravel(), records, strict=False):
        share = np.asarray(record["success_by_displacement_and_angle"])
        widest, farthest = record["widest_deg"], record["farthest_mm"]
        axis.imshow(
            share,
            extent=(0, widest, 0, farthest),
            origin="lower",
            aspect="auto",
            vmin=0,
            vmax=1,
            cmap="RdYlBu",
        )
        for (row, column), one in np.ndenumerate(share):
            at = (np.array([column, row]) + 0.5) / len(share)
            ink = "black" if 0.2 < one < 0.8 else "white"
            axis.text(
                *at * (widest, farthest), f"{100 * one:.0f}", color=ink, **_MIDDLE
            )
        axis.set_title(
            f"{record['id']}: {100 * record['success']:.0f} % come right,\n"
            f"90 % from up to {record['capture_range_mm']:.0f} mm",
            fontsize="medium",
        )
        axis.set_xticks(np.linspace(0, widest, 7))
        axis.set_yticks(np.linspace(0, farthest, 7))
        axis.set_xlabel("turned by, degrees")
        axis.set_ylabel("displaced by, mm")
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return True


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("capture_range.json"))
    add = parser.add_argument
    add("--starts", type=int, default=100, help="starts in a cell (%(default)s)")
    add("--farthest", type=float, default=150, help="mm displaced (%(default)g)")
    add("--widest", type=float, default=180, help="degrees turned (%(default)g)")
    add("--cells", type=int, default=6, help="cells along each side (%(default)s)")
    add("--init", choices=("auto", "header", "centre"), default="auto", help="start at")
    add("--jobs", **JOBS)
    args = parser.parse_args(argv)
    check_cases(parser, args)
    if min(args.starts, args.cells) < 1:
        parser.error("--starts and --cells must be at least 1")
    if args.farthest <= 0 or not 0 < args.widest <= 180:
        parser.error("--farthest must be above 0 mm, --widest from 0 to 180 degrees")
    return args


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    cases = cases_of(args)
    if not cases:
        print(none_left(args), file=sys.stderr)
        return 2
    work = partial(
        run_starts, register=register or library(args.settings, args.init), args=args
    )
    grid = list(product(range(args.cells), repeat=2))
    # Each process makes its own pair, for all that it does of it.
    parts = [
        (case, grid[job :: args.jobs]) for case in cases for job in range(args.jobs)
    ]
    answers = each(work, parts, args.jobs)
    records: list[Record] = []
    starts: list[Record] = []
    for case in cases:
        own = [start for _ in range(args.jobs) for start in next(answers)]
        record = sum_up(case, own, args.cells, (args.farthest, args.widest))
        records.append(record)
        starts.append({"id": case.id, "starts": own})
        print(
            f"{case.id}: {100 * record['success']:.0f} % within "
            f"{record['limit_mm']:.1f} mm; 90 % capture range "
            f"{record['capture_range_mm']:.0f} mm"
        )
        print(table(record) + "\n", flush=True)
        store(args.output, {**about_run(args), "pairs": records, "starts": starts})
    picture = args.output.with_suffix(".png")
    if not draw(records, picture):
        print("no picture: matplotlib is not installed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
