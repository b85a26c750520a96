"""Say from how far off registrations come right, and draw it.

    python scripts/capture_range.py --kinds coil --kinds ct
    python scripts/capture_range.py CASES.json --only slab --starts 20

Each pair is registered from many starts: the header of its moving image is moved so
that the middle of the anatomy is off by 0 to 150 mm, and turned by 0 to 180 degrees,
about a random axis and along a random direction. Starts fill a grid of cells, so many
in each. A start succeeds if the mean target registration error (TRE) of its answer is
within the limit (that of the kind, 2 mm for most; for a case file, the uncertainty of
the reference plus 1 mm).

The 90 % capture range is the distance of starts, as a mean over the anatomy, from
which one in ten fails (van Herk, Handbook of Medical Imaging, 2000): here up to where
in every bin of 10 mm at least 90 % succeed.

Writes a JSON record, and beside it, if matplotlib is there, a picture: the share of
starts that succeed in each cell.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evaluate import (
    Case,
    FloatArray,
    Record,
    Register,
    about_run,
    cases_from_file,
    check_cases,
    distances,
    kind_cases,
    library,
    parser_of_cases,
    ready,
    run_pose,
    selected,
    store,
)

from mireg.transform import RigidTransform

FARTHEST_MM, LARGEST_DEG = 150.0, 180.0
BIN_MM = 10.0
SHARE = 0.9


def start_in(
    cell: tuple[int, int], cells: int, middle: FloatArray, rng: np.random.Generator
) -> tuple[RigidTransform, float, float]:
    """Draw a start in a cell of the grid: the pose, its displacement and angle."""
    (away, turn) = (np.array(cell) + rng.uniform(size=2)) / cells
    away, turn = away * FARTHEST_MM, turn * LARGEST_DEG
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
    case: Case, register: Register, args: argparse.Namespace
) -> tuple[Record, list[Record]]:
    """Register a pair from all its starts; return what they sum up to, and them."""
    pair, points, _ = ready(case)
    middle = points.mean(axis=0)
    aligned = np.linalg.inv(pair.moving_from_fixed)
    starts: list[Record] = []
    cells = [(i, j) for i in range(args.cells) for j in range(args.cells)]
    for cell in cells:
        rng = np.random.default_rng([args.seed, zlib.crc32(case.id.encode()), *cell])
        for _ in range(args.starts):
            pose, away, turn = start_in(cell, args.cells, middle, rng)
            start: Record = {"cell": cell, "displacement_mm": away, "angle_deg": turn}
            start["start_mm"] = float(distances(np.eye(4), pose.matrix, points).mean())
            try:
                run = run_pose(register, pair, pose.matrix @ aligned, points)
            except Exception as error:
                if not args.keep_going:
                    raise
                start |= {"error": f"{type(error).__name__}: {error}", "good": False}
            else:
                tre = run["tre_mean_mm"]
                start |= {"tre_mm": tre, "good": tre <= case.limit_mm}
                start["seconds"] = run["seconds"]
            starts.append(start)
        if not args.quiet:
            good = sum(start["good"] for start in starts)
            done = f"{len(starts)}/{len(cells) * args.starts}"
            print(f"{case.id}: {good} good of {done}", file=sys.stderr, flush=True)
    share = np.zeros((args.cells, args.cells))
    for start in starts:
        share[start["cell"]] += start["good"] / args.starts
    far = np.array([start["start_mm"] for start in starts])
    record = {
        "id": case.id,
        "limit_mm": case.limit_mm,
        "success": float(share.mean()),
        "capture_range_mm": capture_range_mm(far, [s["good"] for s in starts]),
        "success_by_displacement_and_angle": share,
    }
    return record, starts


def table(record: Record) -> str:
    """Return the share of successes as text: rows displacement, columns angle."""
    share = record["success_by_displacement_and_angle"]
    n = len(share)
    ends = LARGEST_DEG * np.arange(1, n + 1) / n
    lines = ["   up to" + "".join(f"{end:>7.0f}°" for end in ends)]
    for end, row in zip(FARTHEST_MM * np.arange(1, n + 1) / n, share, strict=True):
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
        axis.imshow(
            record["success_by_displacement_and_angle"],
            extent=(0, LARGEST_DEG, 0, FARTHEST_MM),
            origin="lower",
            aspect="auto",
            vmin=0,
            vmax=1,
            cmap="RdYlGn",
        )
        axis.set_title(f"{record['id']}: {100 * record['success']:.0f} %")
        axis.set_xlabel("angle, degrees")
        axis.set_ylabel("displacement, mm")
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return True


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("capture_range.json"))
    add = parser.add_argument
    add("--starts", type=int, default=100, help="starts in a cell (%(default)s)")
    add("--cells", type=int, default=6, help="cells along each side (%(default)s)")
    args = parser.parse_args(argv)
    check_cases(parser, args)
    if min(args.starts, args.cells) < 1:
        parser.error("--starts and --cells must be at least 1")
    return args


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    cases = [] if args.cases is None else cases_from_file(args.cases, poses=0)
    cases = selected(cases + kind_cases(args.kinds, 1, args.seed), args.only)
    if not cases:
        print(f"no case has {' or '.join(args.only)} in its name", file=sys.stderr)
        return 2
    register = register or library(args.settings)
    records: list[Record] = []
    starts: list[Record] = []
    for case in cases:
        record, own = run_starts(case, register, args)
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
