"""Pairs an hour of ``mireg batch`` against a shell loop, and its memory over a run.

    python scripts/cohort_study.py FOLDER --pairs 48 --loop 12 --rounds 2
    python scripts/cohort_study.py FOLDER --memory 1000 --init header
    python scripts/cohort_study.py FOLDER --all 400 --cases CASES.json --poses 2

The pairs are phantoms of mixed kinds, T1 to each of T2, PD, FLAIR, EPI, CT and PET, in
random poses; FOLDER keeps them for the next time. With ``--pairs`` a shell loop of
``mireg register`` over some of them, and ``mireg batch`` over all of them, by each
scheduler on 1 and 2 workers, take turns; starting up is counted in each. Given are wall
time, which depends on what else the machine does, and processor time, which hardly
does. Efficiency is that of two workers against one.

With ``--memory`` so many pairs, 60 under many names, are done on two workers, and the
memory (resident set) of each process is given at every tenth of them. With ``--all`` so
many are done, and with ``--cases`` the real pairs of a case file, each in so many
poses, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

import mireg
from mireg.phantom import phantom_pair, random_pose

KINDS = ("T2", "PD", "FLAIR", "EPI", "CT", "PET")
MIREG = (sys.executable, "-m", "mireg")
#: The same in each: no image, no talk.
HOW = ("--no-image", "-q")

#: So many different pairs are enough to watch memory.
FEW = 60

#: Name, fixed and moving image of a pair.
Row = tuple[str, Path, Path]


def phantoms(folder: Path, count: int, size_mm: float) -> list[Row]:
    """Make pairs of mixed kinds, those that are not there."""
    folder = folder / f"scans-{size_mm:g}mm"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(count):
        kind = KINDS[k % len(KINDS)]
        name = f"{kind}-{k:04}"
        fixed, moving = (folder / f"{name}-{role}.nii.gz" for role in ("T1", kind))
        if not moving.exists():
            made = phantom_pair(
                "T1",
                kind,
                seed=k,
                pose=random_pose(np.random.default_rng(k)),
                fixed_voxel_size_mm=size_mm,
                moving_voxel_size_mm=size_mm,
            )
            mireg.write_image(fixed, made.fixed, force=True)
            mireg.write_image(moving, made.moving, force=True)
        rows.append((name, fixed, moving))
    return rows


def real_pairs(folder: Path, cases: Path, poses: int) -> list[Row]:
    """Put the moving images of a case file into other poses, by their headers."""
    folder = folder / "real"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in json.loads(cases.read_bytes()):
        fixed, moving = (cases.parent / case[role] for role in ("fixed", "moving"))
        for k in range(poses):
            name = f"{case['id']}-{k}"
            path = folder / f"{name}.nii"
            if not path.exists():
                image = nib.load(moving)
                pose = random_pose(np.random.default_rng(k), max_angle_deg=30).matrix
                data = np.asanyarray(image.dataobj)
                nib.Nifti1Image(data, pose @ image.affine).to_filename(path)
            rows.append((name, fixed, path))
    return rows


def table(path: Path, rows: list[Row]) -> Path:
    """Write a table of pairs."""
    lines = ["id\tfixed\tmoving"]
    lines += ["\t".join((n, str(f.resolve()), str(m.resolve()))) for n, f, m in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def memory_mb(parent: int) -> list[float]:
    """Give the memory of a process, then of those that it began, MB, largest first."""
    parents, held = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            pages = int((entry / "statm").read_text().split()[1])
        except OSError:  # it has ended
            continue
        parents[int(entry.name)] = int(fields[1])
        held[int(entry.name)] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    family = {parent}
    while more := {pid for pid, of in parents.items() if of in family} - family:
        family |= more
    others = sorted((held[pid] for pid in family - {parent}), reverse=True)
    return [held.get(parent, 0.0), *others]


def timed(
    command: list[str], each: Callable[[int, int, str], None] | None = None
) -> tuple[float, float, int]:
    """Run a command; give wall and processor seconds, and how many lines it wrote.

    Called with each line are the number of the process, and of the line.
    """
    began, lines = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines += 1
            if each is not None:
                each(process.pid, lines, line)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    wall = time.perf_counter() - began
    return wall, used.ru_utime + used.ru_stime, lines


def batch(
    folder: Path, rows: list[Row], scheduler: str, workers: int, options: list[str]
) -> list[str]:
    """Give the command that does pairs anew."""
    words = ["batch", str(table(folder / "pairs.tsv", rows)), "-o", str(folder / "out")]
    how = [f"--scheduler={scheduler}", f"--nprocs={workers}", "--json-lines"]
    return [*MIREG, *words, *how, "--redo=all", *HOW, *options]


def loop(folder: Path, rows: list[Row], options: list[str]) -> list[str]:
    """Give the shell's loop over pairs; a line is written for each."""
    words = " ".join([*MIREG, "register", *HOW, "--force", *options])
    where = folder / "loop"
    where.mkdir(exist_ok=True)
    body = f'{words} -o {where}/"$id" "$fixed" "$moving"; echo "$id"'
    lines = "\n".join(" ".join(map(str, row)) for row in rows)
    return ["sh", "-c", f"while read id fixed moving; do {body}; done <<E\n{lines}\nE"]


def in_turns(folder: Path, rows: list[Row], args: argparse.Namespace) -> None:
    """Compare the loop, and batches by each scheduler on 1 and 2 workers."""
    ways = {"loop": loop(folder, rows[: args.loop], args.options)}
    for scheduler in args.schedulers:
        for workers in (1, 2):
            ways[f"{scheduler}, {workers}"] = batch(
                folder, rows, scheduler, workers, args.options
            )
    # What is compiled is kept, and files are in memory.
    timed(loop(folder, rows[:1], args.options))
    took = defaultdict(list)
    for number in range(args.rounds):
        for way, command in ways.items():
            wall, cpu, count = timed(command)
            took[way].append((wall / count, cpu / count))
            load = os.getloadavg()[0]
            print(
                f"round {number} {way:13} {count:4} pairs  {wall:7.1f} s  "
                f"processors {cpu:7.1f} s  load {load:.1f}",
                flush=True,
            )
    print("\nway            pairs/h  ratio   wall s/pair   processor s/pair  ratio")
    mean = {way: np.mean(values, axis=0) for way, values in took.items()}
    base = mean["loop"]
    for way, (wall, cpu) in mean.items():
        print(
            f"{way:13} {3600 / wall:8.0f} {base[0] / wall:6.2f} {wall:13.3f} "
            f"{cpu:18.3f} {base[1] / cpu:6.2f}"
        )
    for scheduler in args.schedulers:
        one, two = (mean[f"{scheduler}, {workers}"] for workers in (1, 2))
        print(f"efficiency of 2 workers, {scheduler}: {one[0] / two[0] / 2:.2f}")


def memory(folder: Path, rows: list[Row], args: argparse.Namespace) -> None:
    """Watch the memory of a run."""
    every = max(1, len(rows) // 10)

    def look(process: int, count: int, _line: str) -> None:
        if count == 10 or count % every == 0:
            parent, *others = memory_mb(process)
            shown = " ".join(f"{held:.0f}" for held in others)
            print(f"{count:5} {parent:6.0f} MB  {shown}", flush=True)

    for scheduler in args.schedulers:
        print(f"{scheduler}: pairs, memory of the parent and of each other process")
        wall, cpu, count = timed(batch(folder, rows, scheduler, 2, args.options), look)
        print(
            f"{count} pairs in {wall:.0f} s, processors {cpu:.0f} s, "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def everything(folder: Path, rows: list[Row], args: argparse.Namespace) -> None:
    """Do all, and say what came of each kind."""
    became: dict[str, Counter[str]] = defaultdict(Counter)

    def count_in(_process: int, _count: int, line: str) -> None:
        outcome = json.loads(line)
        kind = str(outcome["id"]).rpartition("-")[0]
        became[kind][outcome["row"].get("verdict", outcome["message"])] += 1

    wall, cpu, count = timed(
        batch(folder, rows, args.schedulers[0], 2, args.options), count_in
    )
    print(
        f"{count} pairs in {wall:.0f} s, {3600 * count / wall:.0f} an hour; "
        f"processors {cpu:.0f} s; load {os.getloadavg()[0]:.1f}"
    )
    for kind, verdicts in sorted(became.items()):
        print(f"  {kind:16} {dict(verdicts)}")


def main() -> int:
    """Make pairs, do them, and say what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--loop", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--all", type=int, default=0)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--poses", type=int, default=1)
    parser.add_argument("--size-mm", type=float, default=6.0)
    parser.add_argument(
        "--schedulers", nargs="+", default=["processes", "dask"], metavar="NAME"
    )
    args, args.options = parser.parse_known_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.pairs:
        in_turns(args.folder, phantoms(args.folder, args.pairs, args.size_mm), args)
    if args.memory:
        made = phantoms(args.folder, min(args.memory, FEW), args.size_mm)
        again = [
            (f"{made[k % len(made)][0]}-{k:06}", *made[k % len(made)][1:])
            for k in range(args.memory)
        ]
        memory(args.folder, again, args)
    if args.all:
        rows = phantoms(args.folder, args.all, args.size_mm)
        if args.cases:
            rows += real_pairs(args.folder, args.cases, args.poses)
        everything(args.folder, rows, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
