"""Say where the time and the memory go: kernels, stages, levels, start-up, scale.

    python scripts/bench.py
    python scripts/bench.py --fixed T1.nii.gz --moving BOLD.nii.gz --against old.json
    python scripts/bench.py --only scale --largest 512 --plot scale.png

kernels   Nanoseconds per sample (per voxel for what goes through a volume) on one core,
          on heads of two voxel sizes, the best of many calls. Beside it a bound, the
          sum of three: to read as many bytes in a row as the kernel reads and writes
          (what is written counts twice, as it is fetched first); to gather the voxels
          that it reads, at the same places in the same order; and to add to a small
          table at the bins that it adds to. A kernel at 100 % is as fast as memory;
          one far below is held up by its arithmetic.
start     Seconds and memory to import, for `mireg --help`, and to compile: first run
          with an empty cache less the second.
steps     Processor time of each function that `register` calls, level by level, on one
          thread.
pairs     Seconds of each stage for two files, and the most memory held, in a fresh
          process; medians. `register()` is compared with the time that nibabel needs to
          load the files as float32, in turns in one process: the median of the ratios.
          "beyond" is the memory besides the two volumes as float32. `command` is all
          of `mireg register` from its start to its end.
beside    All of `mireg register` beside all of CMTK's `registration` (no search, no
          moved image), in turns: medians of the seconds, of the processor time, and of
          the ratios. Take 7 --repeats or more.
scale     `register()` against voxels, samples, bins and threads; and with --largest
          512, a CT of 512 x 512 x 400 to an MR of 256^3.

Tables in Markdown go to stdout, the record to a file; what it held is compared. Times
count only on a machine that does nothing else, and ratios more than seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import nibabel as nib
import numpy as np
from bench_kernels import Rows, all_kernels
from compare_peers import write_scan
from peers import peak_mb

import mireg
from mireg._files.formats import read_image
from mireg._files.records import to_json
from mireg._files.writing import new_file
from mireg._image import Image
from mireg._register import register
from mireg._resample import regrid, resample
from mireg._settings import Settings
from mireg._threads import available
from mireg.phantom import phantom_pair

PARTS = ("kernels", "start", "steps", "pairs", "beside", "scale")
NOTABLE = 1.1
#: Columns of which more is better.
MORE_IS_BETTER = ("GB/s", "% of bound")
#: Columns that describe, and are not compared.
GIVEN = ("x", "volumes MB")
EDGES = (64, 96, 128, 192, 256, 384, 512)
SAMPLES = (25_000, 50_000, 100_000, 200_000, 400_000)
BINS = (16, 32, 64, 128)
#: Voxels along an edge where not they but samples, bins or threads vary.
EDGE = 128
STAGES = ("prepare", "pyramid", "search", "refine")
#: What `register` calls, and what takes time in it.
STEPS = {
    *("prepare", "contrast", "pyramid", "levels_at", "global_search", "evaluate"),
    *("optimise_best", "optimise_all", "pruned"),
    *("maximise", "inverse_hessian_at", "uncertainty"),
}

# --- fresh processes -----------------------------------------------------------------

#: At its end, a process tells its processor time, s, and the most it held, KiB.
TELL = """
import atexit, os, resource, time
@atexit.register
def tell():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if os.path.exists("/proc/self/status"):
        lines = open("/proc/self/status").read().splitlines()
        peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    print(time.process_time(), peak)
"""
RUN_MIREG = "import runpy; runpy.run_module('mireg', run_name='__main__')"


def user_environment(**more: str) -> dict[str, str]:
    """Environment of a process, in which Python keeps the bytecode of what it imports.

    Else all of mireg would be translated in each process, as it is for no user.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | more


def spawn(words: Sequence[object], **environment: str) -> tuple[float, str]:
    """Run Python in a process of its own; give its seconds and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=user_environment(**environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, done.stdout


def started(code: str, *words: object, **environment: str) -> dict[str, float]:
    """Run code in a process of its own; give its seconds and the most memory held."""
    seconds, text = spawn(["-c", TELL + code, *words], **environment)
    busy, peak = map(float, text.split()[-2:])
    return {"s": seconds, "processor s": busy, "peak MB": peak * 1024 / 1e6}


def start_rows(folder: Path, repeats: int) -> Rows:
    """Time what comes before the first registration."""
    runs: dict[str, Sequence[object]] = {"python -c pass": ["pass"]}
    for name in ("numpy", "nibabel", "numba", "scipy.optimize", "mireg.register"):
        runs[f"import {name}"] = [f"import {name}"]
    runs["mireg --help"] = [RUN_MIREG, "--help"]
    rows = {}
    for name, words in runs.items():
        tried = [started(*map(str, words)) for _ in range(repeats)]
        rows[name] = {key: median(one[key] for one in tried) for key in tried[0]}
    words = ["register", *small_pair(folder), "-o", folder / "out", "-q", "--force"]
    with tempfile.TemporaryDirectory() as cache:
        first, second = (
            started(RUN_MIREG, *words, NUMBA_CACHE_DIR=cache) for _ in range(2)
        )
    rows["mireg register of 8 mm, first run"] = first
    rows["mireg register of 8 mm, second run"] = second
    rows["compile"] = {key: first[key] - second[key] for key in first}
    return rows


def written(name: str, fixed: Image, moving: Image, folder: Path) -> tuple[Path, Path]:
    """Write two scans."""
    paths = folder / f"{name}_fixed.nii.gz", folder / f"{name}_moving.nii.gz"
    for image, path in zip((fixed, moving), paths, strict=True):
        write_scan(image, path)
    return paths


def small_pair(folder: Path) -> tuple[Path, Path]:
    """Write two scans of few voxels."""
    pair = phantom_pair(fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    return written("small", pair.fixed, pair.moving, folder)


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
    volumes = sum(image.data.nbytes for image in images) / 1e6
    load_by_nibabel(fixed, moving)  # the files are in the disk's cache from here on
    runs = []
    for _ in range(repeats):
        begin, busy = time.perf_counter(), time.process_time()
        found = register(*images, settings=numbers)
        between, busy = time.perf_counter(), time.process_time() - busy
        load_by_nibabel(fixed, moving)
        end = time.perf_counter()
        whole, nibabel = between - begin, end - between
        stages = {f"{name} s": found.seconds[name] for name in STAGES}
        ratio = {"register / nibabel": whole / nibabel}
        times = {"register s": whole, "processor s": busy, "nibabel s": nibabel}
        runs.append({**stages, **times, **ratio})
    medians = {key: median(run[key] for run in runs) for key in runs[0]}
    memory = {"peak MB": peak, "volumes MB": volumes, "beyond MB": peak - volumes}
    return {"load s": load, **medians, **memory}


def stepped(fixed: Path, moving: Path, repeats: int) -> Rows:
    """Time the functions that `register` calls, on one thread; those of one level."""
    page = sys.modules["mireg._register"]
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:

        def call(first: Any, *others: Any, **options: Any) -> Any:
            start = time.process_time()
            answer = inner(first, *others, **options)
            told = [first, *others[:1]]
            if isinstance(first, dict):  # of the levels, and metrics, of all channels
                told = [next(iter(first.values()))[0]]
            size = next((at.size_mm for at in told if hasattr(at, "size_mm")), None)
            key = name if size is None else f"{name}, {size:.3g} mm"
            spent[key].append(1000 * (time.process_time() - start))
            return answer

        return call

    images, settings = (read_image(fixed), read_image(moving)), Settings(threads=1)
    register(*images, settings=settings)  # compiles
    steps = {name: timed(name, getattr(page, name)) for name in STEPS}
    with patch.multiple(page, **steps):
        for _ in range(repeats):
            register(*images, settings=settings)
    total = sum(map(sum, spent.values()))
    return {
        key: {
            "calls": len(times) / repeats,
            "processor ms": sum(times) / repeats,
            "%": 100 * sum(times) / total,
        }
        for key, times in spent.items()
    }


def in_worker(name: str, *numbers: Any) -> Any:
    """Call `registered` or `stepped` in a fresh process."""
    work = json.dumps([name, *numbers], default=str)
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
        told = {f"{k} s": record["seconds"][k] for k in ("resample", "write")}
        runs.append({**told, "command s": seconds})
    return {key: median(run[key] for run in runs) for key in runs[0]}


def step_rows(files: dict[str, tuple[Path, Path]], repeats: int) -> Rows:
    """Time each step for pairs of files."""
    return {
        f"{name}: {step}": row
        for name, paths in files.items()
        for step, row in in_worker("stepped", *paths, repeats).items()
    }


def pair_rows(
    files: dict[str, tuple[Path, Path]],
    threads: Sequence[int],
    repeats: int,
    folder: Path,
) -> Rows:
    """Time each stage for pairs of files."""
    return {
        f"{name}, {count} thread{'s'[: count > 1]}": {
            **in_worker("registered", *paths, {"threads": count}, repeats),
            **command(*paths, count, repeats, folder),
        }
        for name, paths in files.items()
        for count in threads
    }


def beside_rows(
    files: dict[str, tuple[Path, Path]], repeats: int, folder: Path
) -> Rows:
    """Time the whole command and CMTK's in turns."""
    mireg_words = [sys.executable, "-m", "mireg", "register", "--quiet", "--force"]
    cmtk = ["cmtk", "registration", "--dofs", "6", "--nmi"]
    cmtk += ["--auto-multi-levels", "4", "--initxlate"]
    rows: Rows = {}
    for name, paths in files.items():
        runs = []
        for n in range(repeats + 1):
            ours = whole([*mireg_words, "-o", folder / "out", *paths])
            theirs = whole(
                [*cmtk, "-o", folder / f"{name}_{n}".replace("/", "_"), *paths]
            )
            runs.append(
                {f"mireg {key}": value for key, value in ours.items()}
                | {f"CMTK {key}": value for key, value in theirs.items()}
                | {f"{key} / CMTK": ours[key] / theirs[key] for key in ours}
            )
        # The first one compiles, and brings files and programs into memory.
        rows[name] = {key: median(run[key] for run in runs[1:]) for key in runs[0]}
    return rows


def whole(words: Sequence[object]) -> dict[str, float]:
    """Time a program from its start to its end."""
    start, busy = time.perf_counter(), os.times()
    subprocess.run(
        [*map(str, words)], env=user_environment(), capture_output=True, check=True
    )
    end = os.times()
    processor = end.children_user + end.children_system
    processor -= busy.children_user + busy.children_system
    return {"s": time.perf_counter() - start, "processor s": processor}


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


def boxed(image: Image, shape: tuple[int, int, int], path: Path) -> Path:
    """Write an image on a grid of this shape; its longest axis fills the longest."""
    size = max(image.shape) * image.voxel_size_mm.max() / max(shape)
    grid = regrid(image, size).mm_from_ijk
    like = Image(np.broadcast_to(np.float32(0), shape), grid)
    lowest = float(np.nanmin(image.data))
    write_scan(resample(image, like, np.eye(4), fill=lowest), path)
    return path


def scale_rows(
    edges: Sequence[int], threads: Sequence[int], repeats: int, folder: Path
) -> Rows:
    """Time `register` against one number at a time, and on a large pair."""
    pair = phantom_pair(fixed_voxel_size_mm=2, moving_voxel_size_mm=2)
    files = folder / "boxed_fixed.nii", folder / "boxed_moving.nii"
    most = threads[-1]

    def boxes(*shapes: tuple[int, int, int]) -> list[Path]:
        return [
            boxed(image, shape, path)
            for image, shape, path in zip(pair[:2], shapes, files, strict=True)
        ]

    def row(x: float, **numbers: int) -> dict[str, float]:
        settings = {"threads": most, **numbers}
        return {"x": x, **in_worker("registered", *files, settings, repeats)}

    rows: Rows = {}
    for edge in edges:
        boxes((edge,) * 3, (edge,) * 3)
        rows[f"voxels {edge}^3"] = row(edge**3)
    edge = min(EDGE, max(edges))
    boxes((edge,) * 3, (edge,) * 3)
    varied = {"samples": SAMPLES, "bins": BINS, "threads": threads}
    for name, values in varied.items():
        for value in values:
            rows[f"{name} {value}"] = row(value, **{name: value})
    if max(edges) >= 512:
        pair = phantom_pair("CT", "T1", fixed_voxel_size_mm=2, moving_voxel_size_mm=2)
        boxes((512, 512, 400), (256, 256, 256))
        rows["CT of 512 x 512 x 400 to MR of 256^3"] = row(0)
    return rows


def plot(rows: Rows, path: Path) -> None:
    """Draw seconds and memory against what was varied; along grey lines is linear."""
    import matplotlib.pyplot as plt  # noqa: PLC0415, optional

    seconds = ("load s", "register s", *(f"{name} s" for name in STAGES))
    kinds = {"s": seconds, "MB": ("peak MB", "volumes MB", "beyond MB")}
    figure, axes = plt.subplots(2, 4, figsize=(15, 8), sharex="col", sharey="row")
    for name, column in zip(
        ("voxels", "samples", "bins", "threads"), axes.T, strict=True
    ):
        found = [row for key, row in rows.items() if key.startswith(name)]
        x = np.array([row["x"] for row in found])
        for axis, keys in zip(column, kinds.values(), strict=True):
            axis.set(xscale="log", yscale="log")
            for key in keys:
                axis.plot(x, [row[key] for row in found], "o-", ms=4)
            for slope in np.geomspace(1e-5, 1e5, 21) / np.median(x):
                axis.plot(x, slope * x, color="0.85", lw=0.8, zorder=0)
        labels = [key.removeprefix(name) for key in rows if key.startswith(name)]
        column[1].set_xticks(x, labels, fontsize="small", rotation=30)
        column[1].minorticks_off()
        column[1].set_xlabel(name)
    for axis, (unit, keys) in zip(axes[:, 0], kinds.items(), strict=True):
        shown = np.array([[row[key] for key in keys] for row in rows.values()])
        axis.set(ylabel=unit, ylim=(shown.min() / 1.5, shown.max() * 1.5))
        axis.legend([key.rpartition(" ")[0] for key in keys], fontsize="small")
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
                if column in GIVEN or not before.get(column):
                    continue
                ratio = value / before[column]
                mark = ""
                if ratio <= 0 or not 1 / NOTABLE <= ratio <= NOTABLE:
                    more = ratio > 1
                    mark = "better" if more == (column in MORE_IS_BETTER) else "worse"
                yield f"{part}: {key}: {column}", ratio, mark


def compared(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Write a comparison with an older record as Markdown: what has changed."""
    lines = [
        f"Not alike: {key} was {old['about'].get(key)}, is {value}.\n"
        for key, value in new["about"].items()
        if old["about"].get(key) != value
    ]
    measures = list(compare(old["parts"], new["parts"]))
    changed = [
        f"| {name} | {ratio:.2f} | {mark} |" for name, ratio, mark in measures if mark
    ]
    if changed:
        lines += ["| measure | new / old | |", "| --- | ---: | --- |", *changed, ""]
    within = len(measures) - len(changed)
    lines.append(f"{within} of {len(measures)} measures are as before, to 10 %.")
    return "\n".join(lines)


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=PARTS,
        help=f"parts to measure ({', '.join(PARTS[:-2])})",
    )
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
    largest = "edge of the largest cube (%(default)s; making 512 takes 3 GB)"
    add("--largest", type=int, default=256, help=largest)
    add("--plot", type=Path, help="picture of scale, with matplotlib")
    add("--against", type=Path, help="an older record (the one at --output)")
    output = "where the record goes (%(default)s)"
    add("-o", "--output", type=Path, default=Path("bench.json"), help=output)
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if (args.fixed is None) != (args.moving is None):
        parser.error("--fixed and --moving go together")
    args.threads = sorted(set(args.threads))
    if args.repeats < 1 or args.threads[0] < 1 or min(args.voxels_mm) <= 0:
        parser.error("--repeats, --threads and --voxels-mm must be above 0")
    if args.largest < EDGES[0]:
        parser.error(f"--largest must be at least {EDGES[0]}")
    args.only = set(args.only or PARTS[:-2])
    args.only |= {"scale"} if args.scale or args.plot else set()
    if "beside" in args.only and shutil.which("cmtk") is None:
        parser.error("beside needs CMTK: apt-get install cmtk")
    if args.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for."""
    args = parse(argv)
    if args.worker:
        name, *numbers = json.loads(args.worker)
        print(
            json.dumps({"registered": registered, "stepped": stepped}[name](*numbers))
        )
        return 0
    before, old = args.against or args.output, None
    if args.against or before.exists():
        old = json.loads(before.read_text(encoding="utf-8"))
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
        folder, given, repeats = Path(name), None, args.repeats
        if args.fixed is not None:
            given = args.fixed, args.moving
        edges = [edge for edge in EDGES if edge <= args.largest]
        files = {}
        if args.only & {"steps", "pairs", "beside"}:
            files = pairs_of_files(given, args.voxels_mm[-1], folder)
        work: dict[str, Callable[[], Rows]] = {
            "kernels": lambda: all_kernels(args.voxels_mm, args.seconds),
            "start": lambda: start_rows(folder, repeats),
            "steps": lambda: step_rows(files, repeats),
            "pairs": lambda: pair_rows(files, args.threads, repeats, folder),
            "beside": lambda: beside_rows(files, repeats, folder),
            "scale": lambda: scale_rows(edges, args.threads, repeats, folder),
        }
        if args.only & {"pairs", "scale"}:
            # Compiling takes memory, too; those that follow find it done.
            in_worker("registered", *small_pair(folder), {}, 1)
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
