"""Say where the time goes: each kernel, each stage, start-up, and how cost grows.

    python scripts/bench.py -o new.json
    python scripts/bench.py --fixed T1.nii.gz --moving BOLD.nii.gz --against old.json
    python scripts/bench.py --only scale --largest 512 --plot scale.png

kernels   Nanoseconds per sample (per voxel for what goes through a volume) on one core,
          on heads of two voxel sizes, the best of many calls. Beside it a bound: to
          read as many bytes in a row as the kernel reads and writes (what is written
          counts twice, as it is fetched first), and to gather the voxels that it reads,
          at the same places in the same order, with next to no arithmetic. A kernel
          at 100 % is as fast as memory; one far below is held up by its arithmetic.
start     Seconds to import, for `mireg --help`, and to compile: first run with an empty
          cache less the second.
pairs     Seconds of each stage for two files, and the most memory held, in a fresh
          process; medians. `register()` is compared with the time that nibabel needs to
          load the files as float32, in turns in one process: the median of the ratios.
          `command` is all of `mireg register` from its start to its end.
scale     `register()` against voxels, samples, bins and threads.

Tables in Markdown go to stdout, the record to a file. Times count only on a machine
that does nothing else, and ratios more than seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
from compare_peers import write_scan
from numba import njit
from peers import peak_mb

import mireg
from mireg import kernels
from mireg.formats import new_file, read_image
from mireg.image import Image
from mireg.phantom import PhantomPair, phantom_pair
from mireg.pyramid import Level, finest_mm, level, pyramid
from mireg.records import to_json
from mireg.register import register
from mireg.resample import regrid, resample
from mireg.scan import flat_volume, scan, smaller_first
from mireg.search import counting_level, even_rotations, starting_poses
from mireg.settings import Settings
from mireg.threads import available

Array = np.ndarray[Any, Any]
#: Of one part: what was measured, and for each column a number.
Rows = dict[str, dict[str, float]]

PARTS = ("kernels", "start", "pairs", "scale")
NOTABLE = 1.1
#: Columns of which more is better.
MORE_IS_BETTER = ("GB/s", "% of bound")
DRAM_BYTES = 2**28
PLANES = 32
EDGES = (64, 96, 128, 192, 256, 384, 512)
SAMPLES = (25_000, 50_000, 100_000, 200_000, 400_000)
BINS = (16, 32, 64, 128)
#: Voxels along an edge where not they but samples, bins or threads vary.
EDGE = 128
STAGES = ("prepare", "pyramid", "search", "refine")

# --- kernels -------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def stream(memory):  # type: ignore[no-untyped-def]
    """Read memory from one end to the other."""
    total = np.float32(0)
    for a in range(memory.shape[0]):
        total += memory[a]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def gather(memory, first, x, y, z):  # type: ignore[no-untyped-def]
    """Read eight neighbours at many places; x, y, z are the steps to the next."""
    total = np.float32(0)
    x, y, z = np.uint64(x), np.uint64(y), np.uint64(z)
    for a in range(first.shape[0]):
        b = np.uint64(first[a])
        c = b + x
        total += memory[b] + memory[b + y] + memory[b + z] + memory[b + y + z]
        total += memory[c] + memory[c + y] + memory[c + z] + memory[c + y + z]
    return total


@njit(cache=True, nogil=True)
def pick(memory, first):  # type: ignore[no-untyped-def]
    """Read one voxel at many places."""
    total = np.uint64(0)
    for a in range(first.shape[0]):
        total += np.uint64(memory[np.uint64(first[a])])
    return total


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """Shortest time of a call, of as many as fit; the first, which compiles, is not."""
    call()
    best, end = math.inf, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def places(volume: tuple[Array, Array, Array], ijk: Array) -> Array:
    """Where voxels (3, n), or the nearest with a next one, are in flat memory."""
    _, shape, strides = volume
    low = np.clip(ijk.astype(np.int64), 0, np.maximum(shape - 2, 0)[:, None])
    return (strides @ low).astype(np.uint32)


def finest_level(pair: PhantomPair, settings: Settings) -> tuple[Level, Array]:
    """Bring a pair to its finest level as `register` does, and give its true pose."""
    size = finest_mm(pair.fixed, pair.moving)
    scans = [scan(image, finest_mm=size) for image in (pair.fixed, pair.moving)]
    *looks, swapped = smaller_first(*scans)
    pose = pair.moving_from_fixed
    truth = (pose.inverse() if swapped else pose).matrix
    return level(pyramid(*looks)[-1], *looks, settings), truth


def kernel_rows(pair: PhantomPair, seconds: float) -> Rows:
    """Time each kernel on one pair, on one core."""
    rows: Rows = {}
    rng = np.random.default_rng(0)

    def nanoseconds(call: Callable[[], object], n: int) -> float:
        return best_seconds(call, seconds) / n * 1e9

    def add(
        name: str,
        call: Callable[[], object],
        n: int,
        n_bytes: float,
        gathered: float = 0.0,
    ) -> None:
        """Time one kernel; `n_bytes` and `gathered`, ns, are for each of n samples."""
        ns = nanoseconds(call, n)
        bound = gathered
        if n_bytes:
            memory = np.ones(max(1, int(n * n_bytes / 4)), np.float32)
            bound += nanoseconds(lambda: stream(memory), n)
        rows[name] = {"ns": ns, "bound ns": bound, "% of bound": 100 * bound / ns}

    at, truth = finest_level(pair, Settings())
    n, bins = at.points.shape[1], at.n_bins
    matrix = at.moving_ijk_from_points(truth)
    memory, shape, strides = volume = at.moving
    ijk = matrix[:, :3] @ at.points + matrix[:, 3:]
    first = places(volume, ijk)
    anywhere = places(volume, rng.random((3, n)) * shape[:, None])
    eight = nanoseconds(lambda: gather(memory, first, *strides), n)
    rows["gather of 8, as sampled"] = {"ns": eight}
    random = nanoseconds(lambda: gather(memory, anywhere, *strides), n)
    rows["gather of 8, at random"] = {"ns": random}
    gb_s = memory.nbytes / best_seconds(lambda: stream(memory), seconds) / 1e9
    rows["read of the volume"] = {"ns": 4 / gb_s, "GB/s": gb_s}

    seen, histogram = np.zeros((8, n), np.float32), np.zeros((bins, bins))
    counted = (at.points, at.fixed_bin, *volume, matrix, 0, n, seen, histogram)
    add("joint_histogram", lambda: kernels.joint_histogram(*counted), n, 53, eight)
    slopes = rng.standard_normal((bins, bins)).astype(np.float32)
    by_matrix = np.zeros((3, 4))
    scored = (at.points, at.fixed_bin, seen, slopes, 0, n, by_matrix)
    add("score_gradient", lambda: kernels.score_gradient(*scored), n, 33)

    # As in the first round of the search, and as in its last.
    for grey, samples in ((8, 200), (16, 3000)):
        few = counting_level(at, grey, samples)
        poses = starting_poses(
            even_rotations(256), at.origin, truth[:3] @ [*at.origin, 1]
        )
        matrices = few.moving_ijk_from_mm @ poses
        matrices[:, :3, 3] += matrices[:, :3, :3] @ few.origin
        matrices = np.ascontiguousarray(matrices[:, :3])
        seen_at = matrices[:, :, :3] @ few.points + matrices[:, :, 3:]
        voxels = places(few.moving, np.moveaxis(seen_at, 1, 0).reshape(3, -1))
        one = nanoseconds(lambda m=few.moving[0], v=voxels: pick(m, v), len(voxels))
        counts = np.arange(few.points.shape[1] + 1.0)
        arguments = (
            *(few.points, few.fixed_bin, *few.moving, few.first_counts, matrices),
            *(counts * np.log(np.maximum(counts, 1)), np.empty((len(poses), 4))),
        )
        add(
            f"pose_entropies, {samples} samples",
            lambda a=arguments: kernels.pose_entropies(*a),
            len(voxels),
            0,
            one,
        )

    time_volumes(pair, add, nanoseconds)
    return rows


def time_volumes(
    pair: PhantomPair,
    add: Callable[..., None],
    nanoseconds: Callable[[Callable[[], object], int], float],
) -> None:
    """Time the kernels that go through a volume."""
    memory, shape, strides = volume = flat_volume(pair.moving.data)
    cube, n = memory.reshape(shape[np.argsort(-strides)]), memory.size
    limits, factors = np.array([0, 1e4], np.float32), np.full(3, 2)
    small = np.empty(-(-np.array(cube.shape) // 2), np.float32)
    add("downsample", lambda: kernels.downsample(cube, factors, limits, 0, small), n, 5)
    grey, levels = np.empty_like(memory), np.linspace(0, 1, 257)
    ends = float(memory.min()), float(memory.max())
    add("grey_levels", lambda: kernels.grey_levels(memory, *ends, levels, grey), n, 12)

    nx, ny, nz = pair.fixed.shape
    ijk_from_ijk = (
        np.linalg.inv(pair.moving.mm_from_ijk)
        @ pair.moving_from_fixed.matrix
        @ pair.fixed.mm_from_ijk
    )
    # The planes in the middle are enough.
    middle = max(0, (nz - PLANES) // 2)
    out = np.empty((min(nz, PLANES), ny, nx), np.float32)
    k, j, i = np.indices(out.shape, np.float32).reshape(3, -1)
    looked = ijk_from_ijk[:3] @ [i, j, k + middle, np.ones_like(i)]
    first = places(volume, looked)
    del i, j, k, looked
    one = nanoseconds(lambda: pick(memory, first), out.size)
    eight = nanoseconds(lambda: gather(memory, first, *strides), out.size)
    for name, before, gathered in (
        ("nearest", (), one),
        ("linear", (), eight),
        ("cubic", (), 64 / 8 * eight),
        ("lanczos", (3,), 216 / 8 * eight),
    ):
        loop = getattr(kernels, f"resample_{name}")
        arguments = (*before, *volume, ijk_from_ijk, middle, out)
        call = lambda loop=loop, a=arguments: loop(*a)  # noqa: E731
        add(f"resample_{name}", call, out.size, 8, gathered)


def all_kernels(sizes_mm: Sequence[float], seconds: float) -> Rows:
    """Time the kernels on heads of some voxel sizes."""
    large = partial(stream, np.ones(DRAM_BYTES // 4, np.float32))
    gb_s = DRAM_BYTES / best_seconds(large, seconds) / 1e9
    rows: Rows = {"read of 256 MB": {"ns": 4 / gb_s, "GB/s": gb_s}}
    del large
    for size in sizes_mm:
        pair = phantom_pair(fixed_voxel_size_mm=size, moving_voxel_size_mm=size)
        for name, row in kernel_rows(pair, seconds).items():
            rows[f"{name}, {size:g} mm"] = row
    return rows


# --- fresh processes -----------------------------------------------------------------


def spawn(words: Sequence[object], **environment: str) -> tuple[float, str]:
    """Run Python in a process of its own; give its seconds and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, done.stdout


def start_rows(folder: Path, repeats: int) -> Rows:
    """Time what comes before the first registration."""
    runs = {
        "python -c pass": ["-c", "pass"],
        "import mireg": ["-c", "import mireg"],
        "import mireg.register": ["-c", "import mireg.register"],
        "mireg --help": ["-m", "mireg", "--help"],
    }
    rows = {
        name: {"s": median(spawn(words)[0] for _ in range(repeats))}
        for name, words in runs.items()
    }
    small = phantom_pair(fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    files = written("small", small.fixed, small.moving, folder)
    words = ["-m", "mireg", "register", *files, "-o", folder / "out", "-q", "--force"]
    with tempfile.TemporaryDirectory() as cache:
        first, second = (spawn(words, NUMBA_CACHE_DIR=cache)[0] for _ in range(2))
    rows["mireg register of 8 mm, first run"] = {"s": first}
    rows["mireg register of 8 mm, second run"] = {"s": second}
    rows["compile"] = {"s": first - second}
    return rows


def written(name: str, fixed: Image, moving: Image, folder: Path) -> tuple[Path, Path]:
    """Write two scans."""
    paths = folder / f"{name}_fixed.nii.gz", folder / f"{name}_moving.nii.gz"
    for image, path in zip((fixed, moving), paths, strict=True):
        write_scan(image, path)
    return paths


def load_by_nibabel(*paths: Path) -> None:
    """Load files as float32, and forget them."""
    _ = [nib.load(path).get_fdata(dtype=np.float32) for path in paths]


def registered(
    fixed: Path, moving: Path, settings: dict[str, Any], repeats: int
) -> dict[str, float]:
    """Time `register` in this process, and nibabel in turns with it."""
    start = time.perf_counter()
    images = read_image(fixed), read_image(moving)
    load = time.perf_counter() - start
    numbers = Settings(**settings)
    register(*images, settings=numbers)  # compiles
    peak = peak_mb(command=False)
    load_by_nibabel(fixed, moving)  # the files are in the disk's cache from here on
    runs = []
    for _ in range(repeats):
        begin = time.perf_counter()
        found = register(*images, settings=numbers)
        between = time.perf_counter()
        load_by_nibabel(fixed, moving)
        end = time.perf_counter()
        whole, nibabel = between - begin, end - between
        stages = {f"{name} s": found.seconds[name] for name in STAGES}
        ratio = {"register / nibabel": whole / nibabel}
        runs.append({**stages, "register s": whole, "nibabel s": nibabel, **ratio})
    medians = {key: median(run[key] for run in runs) for key in runs[0]}
    return {"load s": load, **medians, "peak MB": peak}


def registered_afresh(
    fixed: Path, moving: Path, repeats: int, **settings: Any
) -> dict[str, float]:
    """Call `registered` in a fresh process."""
    work = json.dumps([str(fixed), str(moving), settings, repeats])
    return json.loads(spawn([__file__, "--worker", work])[1])


def command(
    fixed: Path, moving: Path, threads: int, repeats: int, folder: Path
) -> dict[str, float]:
    """Time the whole of `mireg register`."""
    words = ["-m", "mireg", "register", fixed, moving, "-o", folder / "out", "-q"]
    runs = []
    for _ in range(repeats):
        seconds, _ = spawn([*words, "--force", "--threads", threads])
        record = json.loads((folder / "out.json").read_text(encoding="utf-8"))
        told = {f"{k} s": record["seconds"][k] for k in ("load", "resample", "write")}
        runs.append({**told, "command s": seconds})
    return {key: median(run[key] for run in runs) for key in runs[0]}


def pair_rows(
    files: dict[str, tuple[Path, Path]],
    threads: Sequence[int],
    repeats: int,
    folder: Path,
) -> Rows:
    """Time each stage for pairs of files."""
    return {
        f"{name}, {count} thread{'s'[: count > 1]}": {
            **registered_afresh(*paths, repeats, threads=count),
            **command(*paths, count, repeats, folder),
        }
        for name, paths in files.items()
        for count in threads
    }


def pairs_of_files(
    given: tuple[Path, Path] | None, size_mm: float, folder: Path
) -> dict[str, tuple[Path, Path]]:
    """Take the user's files, or write phantoms."""
    if given is not None:
        return {given[1].name: given}
    t2 = phantom_pair(
        "T1", "T2", fixed_voxel_size_mm=size_mm, moving_voxel_size_mm=size_mm
    )
    epi = phantom_pair("T1", "EPI", fixed_voxel_size_mm=size_mm)
    return {
        "T1/T2": written("t2", t2.fixed, t2.moving, folder),
        "T1/EPI": written("epi", epi.fixed, epi.moving, folder),
    }


def scale_rows(
    edges: Sequence[int], threads: Sequence[int], repeats: int, folder: Path
) -> Rows:
    """Time `register` against one number at a time."""
    pair = phantom_pair(fixed_voxel_size_mm=2, moving_voxel_size_mm=2)
    most = threads[-1]

    def cube(edge: int) -> tuple[Path, Path]:
        """Bring both scans to so many voxels along their longest edge."""
        paths = folder / "cube_fixed.nii", folder / "cube_moving.nii"
        for image, path in zip((pair.fixed, pair.moving), paths, strict=True):
            size = max(image.shape) * image.voxel_size_mm.max() / edge
            grid = regrid(image, size)
            box = np.broadcast_to(np.float32(0), (edge, edge, edge))
            like = Image(box, grid.mm_from_ijk)
            write_scan(resample(image, like, np.eye(4)), path)
        return paths

    rows: Rows = {}
    for edge in edges:
        row = registered_afresh(*cube(edge), repeats, threads=most)
        rows[f"voxels {edge}^3"] = {"x": edge**3, **row}
    paths = cube(min(EDGE, max(edges)))
    varied = {"samples": SAMPLES, "bins": BINS, "threads": threads}
    for name, values in varied.items():
        for value in values:
            numbers = {"threads": most, name: value}
            row = registered_afresh(*paths, repeats, **numbers)
            rows[f"{name} {value}"] = {"x": value, **row}
    return rows


def plot(rows: Rows, path: Path) -> None:
    """Draw seconds and memory against what was varied; straight is linear."""
    import matplotlib.pyplot as plt  # noqa: PLC0415, optional

    names = ("voxels", "samples", "bins", "threads")
    seconds = ("register s", *(f"{name} s" for name in STAGES))
    figure, axes = plt.subplots(2, 4, figsize=(14, 6), sharex="col", sharey="row")
    for name, (above, below) in zip(names, axes.T, strict=True):
        found = [row for key, row in rows.items() if key.startswith(name)]
        for axis, keys in ((above, seconds), (below, ("peak MB",))):
            for key in keys:
                axis.plot(
                    [row["x"] for row in found], [row[key] for row in found], "o-"
                )
            axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        below.set_xlabel(name)
    axes[0, 0].set(ylabel="s", ylim=(0, None))
    axes[0, 0].legend(seconds, fontsize="small")
    axes[1, 0].set(ylabel="peak MB", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


# --- tables --------------------------------------------------------------------------


def table(name: str, rows: Rows) -> str:
    """Write the numbers of a part as Markdown."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    columns = [key for key in columns if key != "x"]
    lines = [[name, *columns], ["---", *("---:" for _ in columns)]]
    for key, row in rows.items():
        cells = [
            f"{row[c]:.3g}"
            if c in row and row[c] < 1000
            else f"{row[c]:.0f}"
            if c in row
            else ""
            for c in columns
        ]
        lines.append([key, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compare(
    old: dict[str, Rows], new: dict[str, Rows]
) -> Iterator[tuple[str, float, str]]:
    """Give what both records hold: its name, new over old, and what that means.

    Where that is beyond 10 % it is "better" or "worse"; else nothing is said.
    """
    for part, rows in new.items():
        for key, row in rows.items():
            before = old.get(part, {}).get(key, {})
            for column, value in row.items():
                if column == "x" or not before.get(column):
                    continue
                ratio = value / before[column]
                mark = ""
                if ratio <= 0 or not 1 / NOTABLE <= ratio <= NOTABLE:
                    more = ratio > 1
                    mark = "better" if more == (column in MORE_IS_BETTER) else "worse"
                yield f"{part}: {key}: {column}", ratio, mark


def compared(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Write a comparison with an older record as Markdown."""
    lines = [
        f"Not alike: {key} was {old['about'].get(key)}, is {value}.\n"
        for key, value in new["about"].items()
        if old["about"].get(key) != value
    ]
    lines += ["| measure | new / old | |", "| --- | ---: | --- |"]
    lines += [
        f"| {name} | {ratio:.2f} | {mark} |"
        for name, ratio, mark in compare(old["parts"], new["parts"])
    ]
    return "\n".join(lines)


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, help="parts to measure (all but scale)")
    add("--scale", action="store_true", help="measure scale as well")
    add("--fixed", type=Path, help="a file, in place of the phantoms")
    add("--moving", type=Path)
    add("--repeats", type=int, default=5, help="take the median of (%(default)s)")
    add("--seconds", type=float, default=0.3, help="for each kernel (%(default)s)")
    add("--threads", type=int, nargs="+", default=[1, available()])
    add(
        "--voxels-mm",
        type=float,
        nargs="+",
        default=[4.0, 1.0],
        metavar="MM",
        help="of the heads that kernels work on; pairs take the last (4 1)",
    )
    add(
        "--largest",
        type=int,
        default=256,
        help="edge of the largest cube (256; making 512 takes 3 GB)",
    )
    add("--plot", type=Path, help="picture of scale, with matplotlib")
    add("--against", type=Path, help="an older record")
    add("-o", "--output", type=Path, default=Path("bench.json"))
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if (args.fixed is None) != (args.moving is None):
        parser.error("--fixed and --moving go together")
    args.threads = sorted(set(args.threads))
    if args.repeats < 1 or args.threads[0] < 1 or min(args.voxels_mm) <= 0:
        parser.error("--repeats, --threads and --voxels-mm must be above 0")
    if args.largest < EDGES[0]:
        parser.error(f"--largest must be at least {EDGES[0]}")
    args.only = set(args.only or ("kernels", "start", "pairs"))
    args.only |= {"scale"} if args.scale or args.plot else set()
    if args.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for."""
    args = parse(argv)
    if args.worker:
        print(json.dumps(registered(*json.loads(args.worker))))
        return 0
    old = json.loads(args.against.read_text(encoding="utf-8")) if args.against else None
    about = {
        "mireg_version": mireg.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "processors": available(),
    }
    parts: dict[str, Rows] = {}
    record = {"about": about, "load": os.getloadavg()[0], "parts": parts}
    with tempfile.TemporaryDirectory() as name:
        folder, given = Path(name), None
        if args.fixed is not None:
            given = args.fixed, args.moving
        work: dict[str, Callable[[], Rows]] = {
            "kernels": lambda: all_kernels(args.voxels_mm, args.seconds),
            "start": lambda: start_rows(folder, args.repeats),
            "pairs": lambda: pair_rows(
                pairs_of_files(given, args.voxels_mm[-1], folder),
                args.threads,
                args.repeats,
                folder,
            ),
            "scale": lambda: scale_rows(
                [edge for edge in EDGES if edge <= args.largest],
                args.threads,
                args.repeats,
                folder,
            ),
        }
        for part in PARTS:
            if part in args.only:
                parts[part] = work[part]()
                print(table(part, parts[part]), end="\n\n", flush=True)
    with new_file(args.output, force=True) as file:
        file.write(to_json(record).encode())
    if args.plot:
        plot(parts["scale"], args.plot)
    if old is not None:
        print(compared(old, record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
