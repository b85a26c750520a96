"""Register the same pairs with mireg and with other programs, side by side.

    pip install 'mireg[peers]'      # ANTs, elastix, greedy and SimpleITK
    apt-get install cmtk            # CMTK, from Debian or Ubuntu
    python scripts/compare_peers.py --cases CASES.json --poses 5
    python scripts/compare_peers.py --phantoms 5 --peers mireg cmtk greedy-search

Pairs, poses and errors are those of `evaluate.py`: each pair of a case file is
registered at its own pose and at N random ones; phantoms and the hard kinds are in a
random pose already.
All programs get the same NIfTI files: 16 bits, qform and sform alike, the lowest grey
level where an image has no data. Each registration runs in a fresh process. How each
program is called, and on whose advice, is in `peers.py`; one that is not installed is
left out, and the reason told.

An answer is good when its mean TRE is at most the uncertainty of the reference plus
1 mm; on phantoms at most 2 mm, on hard kinds what they say. No answer (an error, or no
end in time) is not good.

First every program is tried on an easy phantom, 10 degrees and 12 mm off: should one
not end within 1 mm there, suspect `peers.py`. This also fills the caches, of the disk
and of compiled kernels.

Tables in Markdown go to stdout, the full record to a file after each registration. A
run that was interrupted, or ended by --minutes, goes on with --keep; so does one to
which more programs, poses or cases are added.

Times count only on a machine that does nothing else, and ratios more than seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import nibabel as nib
import numpy as np
import peers
from measuring import FLAG, SEVERAL, Case, FloatArray, Pair, Record

import mireg
from mireg._image import Image
from mireg._transform import RigidTransform
from mireg.phantom import KINDS, phantom_pair

WORKER = Path(__file__).with_name("peers.py")
PHANTOM_LIMIT_MM = 2.0
EASY_POSE = RigidTransform(np.deg2rad([6, -5, 7]), [6.0, -9.0, 5.0])
EASY_MM = 1.0
#: With more programs at work than this, before the first of ours, times are rough.
QUIET_LOAD = 0.3

Register = Callable[[str, Path, Path, Path], Record]

# --- files ---------------------------------------------------------------------------


def write_scan(image: Image, path: Path) -> None:
    """Write an image as a scanner does: whole numbers of 16 bits, no missing values."""
    data = np.where(np.isfinite(image.data), image.data, np.nanmin(image.data))
    info = np.iinfo(np.int16)
    whole = bool((data == np.rint(data)).all())
    if not whole or data.min() < info.min or data.max() > info.max:
        # Without slope and intercept, which some read and some do not.
        span = float(data.max() - data.min()) or 1.0
        data = (data - data.min()) * (16_000 / span)
    scan = nib.Nifti1Image(np.rint(data).astype(np.int16), image.mm_from_ijk)
    scan.set_sform(image.mm_from_ijk, code=1)
    scan.set_qform(image.mm_from_ijk, code=1)
    nib.save(scan, path)


def moved(image: Image, pose: FloatArray) -> Image:
    """Change the header of an image by a rigid motion (RAS+ mm)."""
    return Image(image.data, pose @ image.mm_from_ijk)


def easy_case() -> Case:
    """Make the pair on which every program must be right."""

    def load() -> Pair:
        pair = phantom_pair(
            seed=5, pose=EASY_POSE, fixed_voxel_size_mm=2, moving_voxel_size_mm=2.5
        )
        return Pair(pair.fixed, pair.moving, pair.moving_from_fixed.matrix)

    return Case("easy", "easy", load, EASY_MM, poses=0)


# --- one registration ----------------------------------------------------------------


def end(worker: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and what it has started."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)


def fresh_process(threads: int, timeout_s: float) -> Register:
    """Return a function that runs a program in a process of its own."""
    count = str(threads)
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS")
    limits = dict.fromkeys((*names, "OPENBLAS_NUM_THREADS", "CMTK_NUM_THREADS"), count)

    def register(name: str, fixed: Path, moving: Path, folder: Path) -> Record:
        words = [sys.executable, WORKER, name, fixed, moving, folder]
        log = folder / "log.txt"
        with log.open("w", encoding="utf-8") as out:
            start = time.perf_counter()
            worker = subprocess.Popen(
                [*map(str, words), "--threads", count],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **limits},
                start_new_session=True,
            )
            # Not wait(timeout), which looks only every 50 ms.
            alarm = threading.Timer(timeout_s, end, (worker,))
            alarm.start()
            try:
                code = worker.wait()
                seconds = time.perf_counter() - start
            finally:
                alarm.cancel()
                end(worker)
        if code == -signal.SIGKILL and seconds >= timeout_s:
            return {"error": f"no answer after {timeout_s:g} s"}
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            return {"error": f"exit code {code}: {last.strip()}"}
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        report["seconds"] = report["seconds"] or seconds
        return {**report, "moving_from_fixed": peers.PEERS[name].read(folder)}

    return register


def judged(
    run: Record, truth: FloatArray, points: FloatArray, limit_mm: float
) -> Record:
    """Add the errors of an answer, and whether it is good."""
    tre = {}
    if "error" not in run:
        found = np.asarray(run["moving_from_fixed"])
        apart = measuring.distances(found, truth, points)
        tre = {"tre_mean_mm": float(apart.mean()), "tre_max_mm": float(apart.max())}
    good = tre.get("tre_mean_mm", math.inf) <= limit_mm
    return {**run, **tre, "limit_mm": limit_mm, "good": good}


def run_case(
    case: Case,
    programs: Sequence[str],
    register: Register,
    seed: int,
    done: Callable[[int, str], bool] = lambda _number, _program: False,
) -> Iterator[Record]:
    """Register a case in all its poses with all programs, but what is done."""
    wanted = [
        (number, [name for name in programs if not done(number, name)])
        for number in range(case.poses + 1)
    ]
    if not any(names for _, names in wanted):
        return
    pair, points, _ = measuring.ready(case)
    with tempfile.TemporaryDirectory() as place:
        fixed, moving = Path(place, "fixed.nii.gz"), Path(place, "moving.nii.gz")
        write_scan(pair.fixed, fixed)
        for number, names in wanted:
            pose = measuring.pose_of(case, number, seed, pair)
            write_scan(moved(pair.moving, pose), moving)
            for name in names:
                folder = Path(place, name)
                folder.mkdir()
                try:
                    run = register(name, fixed, moving, folder)
                except (OSError, ValueError, KeyError) as error:
                    run = {"error": f"{type(error).__name__}: {error}"}
                shutil.rmtree(folder)
                truth = pose @ pair.moving_from_fixed
                yield {
                    "case": case.id,
                    "set": case.group,
                    "pose": number,
                    "far": number > 0 or case.brief,
                    "program": name,
                    **judged(run, truth, points, case.limit_mm),
                }


# --- tables --------------------------------------------------------------------------


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def accuracy(runs: Sequence[Record]) -> list[Record]:
    """Sum up each program on each set, at the pairs' own poses and far from them."""
    groups: dict[tuple[str, str], list[Record]] = {}
    programs = dict.fromkeys(run["program"] for run in runs)
    sets = dict.fromkeys(run["set"] for run in runs)
    for name in (*sets, *(["all"] if len(sets) > 1 else [])):
        for program in programs:
            groups[name, program] = [
                run
                for run in runs
                if run["program"] == program and name in (run["set"], "all")
            ]
    lines = []
    for (name, program), members in groups.items():
        line: Record = {"set": name, "program": program}
        for kind, far in (("own", False), ("far", True)):
            some = [run for run in members if run["far"] is far]
            line[f"{kind}_good"] = sum(run["good"] for run in some)
            line[f"{kind}_runs"] = len(some)
            line[f"{kind}_tre_mm"] = middle([run.get("tre_mean_mm") for run in some])
        right = [run["tre_mean_mm"] for run in members if run["good"]]
        line["good_tre_mm"] = middle(right)
        if members:
            lines.append(line)
    return lines


def cost(runs: Sequence[Record], ours: str) -> list[Record]:
    """Sum up each program's cost, and divide ours by it, registration by registration.

    A ratio of errors counts only registrations that both got right.
    """
    tables: dict[str, dict[tuple[str, int], Record]] = {}
    for run in runs:
        if "error" not in run:
            tables.setdefault(run["program"], {})[run["case"], run["pose"]] = run
    own = tables.get(ours, {})
    keys = ("seconds", "registration_seconds", "peak_mb", "tre_mean_mm")
    lines = []
    for program, table in tables.items():
        both = [(own[key], run) for key, run in table.items() if key in own]
        line: Record = {"program": program, "runs": len(table), "pairs": len(both)}
        for key in keys:
            line[key] = middle([run[key] for run in table.values()])
            line[f"{key}_ratio"] = middle(
                [
                    us[key] / them[key]
                    for us, them in both
                    if them[key]
                    and (key != "tre_mean_mm" or (us["good"] and them["good"]))
                ]
            )
        lines.append(line)
    return lines


def shown(value: Any, digits: int = 2) -> str:
    """Write a cell."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def table(
    words: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """Lay out a table in Markdown: columns of words, then columns of numbers."""
    marks = ["---"] * len(words) + ["---:"] * len(numbers)
    lines = ((*words, *numbers), marks, *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_table(lines: Sequence[Record]) -> str:
    """Show who is right, and how closely."""

    def share(line: Record, kind: str) -> str:
        runs = line[f"{kind}_runs"]
        return f"{line[f'{kind}_good']}/{runs}" if runs else "-"

    good, tre = ("good, own pose", "good, random"), ("TRE, own pose", "TRE, random")
    return table(
        ("set", "program"),
        (*good, *tre, "TRE of good"),
        [
            (
                *(line["set"], line["program"]),
                *(share(line, "own"), share(line, "far")),
                *(shown(line[f"{kind}_tre_mm"]) for kind in ("own", "far", "good")),
            )
            for line in lines
        ],
    )


def cost_table(lines: Sequence[Record], ours: str) -> str:
    """Show seconds and memory, and what share of them ours needs."""
    measures = ("runs", "s, process", "s, registration", "MB")
    ratios = ("process", "registration", "memory", "TRE")
    return table(
        ("program",),
        (*measures, *(f"{ours} / it: {name}" for name in ratios)),
        [
            (
                *(line["program"], str(line["runs"])),
                *(shown(line["seconds"]), shown(line["registration_seconds"])),
                shown(line["peak_mb"], 0),
                *(
                    shown(line[f"{key}_ratio"])
                    for key in (
                        *("seconds", "registration_seconds"),
                        *("peak_mb", "tre_mean_mm"),
                    )
                ),
            )
            for line in lines
        ],
    )


_LEGEND = """\
TRE: median over registrations of the mean target registration error, mm; of good:
over those within the limit. s: median seconds of a fresh process from files to
transform, and of the registration alone. MB: median of the most memory held. Ratios:
medians over the same registrations, of TRE over those that both got right. All else is
over what each program has run: compare lines of as many runs.
"""


def report(record: Record, ours: str) -> str:
    """Write all tables."""
    about = record["about"]
    parts = [
        table(
            ("program", "version", "called with"),
            ("TRE on the easy phantom",),
            [
                (name, one["version"], one["settings"], shown(one["easy_tre_mm"]))
                for name, one in about["programs"].items()
            ],
        ),
        accuracy_table(accuracy(record["runs"])),
        cost_table(cost(record["runs"], ours), ours),
        _LEGEND.rstrip(),
        *(f"{name} is left out: {why}." for name, why in about["left_out"].items()),
    ]
    setting = f"{about['threads']} threads on {about['processors']} processors"
    if about["load_before"] > QUIET_LOAD:
        parts.append(
            f"{setting}. Times are ROUGH: others kept {about['load_before']:.1f} "
            "processors busy before the run began."
        )
    else:
        parts.append(f"{setting}, nothing else running when the run began.")
    return "\n\n".join(parts)


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    some: Record = {"nargs": "+", "metavar": "NAME", "choices": list(peers.PEERS)}
    kinds: Record = {"nargs": "+", "metavar": "KIND", "choices": ["all", *KINDS]}
    add("--cases", type=Path, help="JSON file of pairs to register, see evaluate.py")
    add("--poses", type=int, default=0, help="random poses per case")
    add("--phantoms", type=int, default=0, help="seeds of phantom pairs to register")
    add("--turned", **FLAG, help="turn phantoms in their voxels, not by their header")
    add("--kinds", **kinds, default=[], help=f"hard kinds: all, {', '.join(KINDS)}")
    add("--seeds", type=int, default=1, help="pairs of each kind (%(default)s)")
    add("--seed", type=int, default=0, help="of the poses; the first of the phantoms")
    add("--only", "--set", **SEVERAL, help="cases with this in their id or set")
    names = ", ".join(peers.PEERS)
    add("--peers", **some, help=f"programs to run, the first is ours (all: {names})")
    add("--threads", type=int, default=2, help="for each program (%(default)s)")
    add("--timeout", type=float, default=900, help="seconds each (%(default)g)")
    minutes = "begin no registration after so long (no limit)"
    add("--minutes", type=float, default=math.inf, help=minutes)
    add("--keep", **FLAG, help="keep what the output file holds; run what is missing")
    add("--redo", **some, default=[], help="with --keep: run these again")
    add("--quiet", **FLAG, help="no progress on stderr")
    default = Path("comparison.json")
    add("-o", "--output", type=Path, default=default, help="full record (%(default)s)")
    args = parser.parse_args(argv)
    if args.cases is None and not args.phantoms and not args.kinds:
        parser.error("give --cases FILE, --phantoms N or --kinds KIND, or several")
    if args.cases is not None and not args.cases.is_file():
        parser.error(f"there is no case file {args.cases}")
    if min(args.poses, args.phantoms, args.seeds, args.seed) < 0 or args.threads < 1:
        parser.error("--poses, --phantoms, --seeds and --seed must not be negative")
    if "all" in args.kinds:
        args.kinds = list(KINDS)
    args.peers = list(dict.fromkeys(args.peers or peers.PEERS))
    return args


def kept(args: argparse.Namespace) -> Record:
    """Read what an earlier run has left, if it may be added to."""
    new: Record = {
        "about": {
            "mireg_version": mireg.__version__,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "seed": args.seed,
            "threads": args.threads,
            "programs": {},
        },
        "runs": [],
    }
    if not args.keep or not args.output.exists():
        return new
    old = json.loads(args.output.read_text(encoding="utf-8"))
    for name in ("seed", "threads", "processors"):
        was, now = old["about"][name], new["about"][name]
        if was != now:
            raise SystemExit(f"{args.output} was made with {name} {was}, not {now}")
    load = max(old["about"]["load_before"], new["about"]["load_before"])
    programs = old["about"]["programs"]
    runs = [run for run in old["runs"] if run["program"] not in args.redo]
    new["about"].update(load_before=load, programs=programs)
    return {**new, "runs": runs}


def selected(args: argparse.Namespace) -> list[Case]:
    """Gather the cases that were asked for."""
    cases = []
    if args.cases is not None:
        cases += measuring.cases_from_file(args.cases, args.poses)
    phantoms = measuring.phantom_cases(args.phantoms, args.seed, args.turned)
    cases += [replace(case, limit_mm=PHANTOM_LIMIT_MM) for case in phantoms]
    cases += measuring.kind_cases(args.kinds, args.seeds, args.seed)
    return measuring.selected(cases, args.only)


def left_out(names: Sequence[str]) -> dict[str, str]:
    """Tell which programs are not installed, and what to do about it."""
    reasons = {name: peers.PEERS[name].missing() for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    end_at = time.monotonic() + 60 * args.minutes

    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    cases = selected(args)
    if not cases:
        print(f"no case has {' or '.join(args.only)} in its name", file=sys.stderr)
        return 2
    record = kept(args)
    absent = {} if register else left_out(args.peers)
    record["about"]["left_out"] = absent
    programs = [name for name in args.peers if name not in absent]
    register = register or fresh_process(args.threads, args.timeout)
    done = {(run["case"], run["pose"], run["program"]) for run in record["runs"]}
    tried = record["about"]["programs"]
    untried = [name for name in programs if name not in tried or name in args.redo]
    for run in run_case(easy_case(), untried, register, args.seed):
        peer = peers.PEERS[run["program"]]
        tried[peer.name] = {
            "version": peer.version(),
            "settings": peer.settings,
            "easy_tre_mm": run.get("tre_mean_mm"),
        }
        say(f"easy phantom {peer.name}: {told(run)}")
        if not run["good"]:
            say(f"  that is not right: suspect {WORKER.name}")
    for case in cases:

        def is_done(number: int, name: str, case_id: str = case.id) -> bool:
            return (case_id, number, name) in done

        for run in run_case(case, programs, register, args.seed, is_done):
            record["runs"].append(run)
            say(f"{run['case']} pose {run['pose']} {run['program']}: {told(run)}")
            measuring.store(args.output, record)
            if time.monotonic() > end_at:
                break
        if time.monotonic() > end_at:
            say(f"{args.minutes:g} minutes are over: --keep goes on from here")
            break
    measuring.store(args.output, record)
    print(report(record, args.peers[0]))
    return 0


def told(run: Record) -> str:
    """Say how a registration went."""
    if "error" in run:
        return run["error"]
    return f"TRE {run['tre_mean_mm']:.3f} mm, {run['seconds']:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
