"""Kill commands at random moments, and look at what they leave.

Each try starts ``mireg register``, ``apply`` or ``batch`` in a folder of its own, some
over files of an earlier run, and sends a signal at a random moment. Then the set of
outputs must be whole, new or old, or none of it there; nothing else may be left, but by
KILL, and that is swept by what writes there next, once it is old. A batch makes several
sets: that of its pair must be whole, and each file that is about all pairs.

    python scripts/kill_test.py --kills 300

With ``--interrupts``, Ctrl-C comes once a file is being written, and must end the
command within a second.

    python scripts/kill_test.py --kills 0 --interrupts 100
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mireg import Registration
from mireg._files.writing import new_file

WAYS = ("KILL", "TERM", "INT", "HUP")
REGISTER = ("register", "../t1.nii.gz", "../t2.nii.gz", "-o", "out")
APPLY = ("apply", "../t2.nii.gz", "--like", "../t1.nii.gz", "-o", "out.nii.gz")
COMMANDS = {
    "register": (*REGISTER, "--init", "header", "-q", "--force"),
    "apply": (*APPLY, "-t", "../truth.json", "-q", "--force"),
    "batch": ("batch", "../pairs.csv", "-o", ".", "--jobs", "1", "--init", "header"),
}
#: What a batch writes of its pair, all or none: the files of this folder.
PAIR = "pair"
OLD = b"of an earlier run"


def mireg(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a folder."""
    words = [sys.executable, "-m", "mireg", *COMMANDS[command]]
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder and of those in it, but locks, which stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def earlier(folder: Path, whole: dict[str, bytes]) -> dict[str, bytes]:
    """Write files of an earlier run; of a batch, those of its pair."""
    pair = [file for file in whole if Path(file).parent.name == PAIR]
    for file in pair or whole:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(OLD)
    return dict.fromkeys(pair or whole, OLD)


def faults(
    before: dict[str, bytes], folder: Path, whole: dict[str, bytes], way: str
) -> list[str]:
    """Say what is wrong with what a killed command has left."""
    after = contents(folder)
    left = {name for name in after if Path(name).name.startswith(".mireg-")}
    found = {name: after[name] for name in after.keys() - left}
    wrong = [f"unknown: {name}" for name in found.keys() - whole.keys()]
    for part in {Path(name).parent for name in whole}:
        old, new, here = (
            {name: held for name, held in files.items() if Path(name).parent == part}
            for files in (before, whole, found)
        )
        if here == old:
            continue
        about_all = part.name != PAIR and any(n.startswith(f"{PAIR}/") for n in whole)
        if here.keys() != new.keys() and not about_all:
            wrong.append(f"a broken set: {', '.join(sorted(here)) or 'nothing'}")
        for name in here:
            if not is_whole(folder / name, new.get(name)):
                wrong.append(f"{name} is neither old nor new")
    if left and way != "KILL":
        wrong.append(f"left: {', '.join(sorted(left))}")
    for name in left:
        os.utime(folder / name, (time.time() - 7200,) * 2)
    for part in {(folder / name).parent for name in left}:
        with new_file(part / "next"):
            pass
        (part / "next").unlink()
    if any(folder.rglob(".mireg-*")):
        wrong.append("what was left is not swept")
    return wrong


def is_whole(path: Path, new: bytes | None) -> bool:
    """Tell whether a file that tells the time can be read, or another is as before."""
    if path.suffix in (".nii", ".gz", ".tfm"):
        return path.read_bytes() == new
    if path.parent.name == PAIR:
        Registration.load(path)
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".html":
        return path.read_bytes().rstrip().endswith(b"</html>")
    return True


def interrupted(
    count: int, root: Path, whole: dict[str, dict[str, bytes]], rng: random.Random
) -> int:
    """Interrupt commands while they write; tell how many tries went wrong."""
    took, bad = [], 0
    while len(took) < count:
        command = rng.choice([*COMMANDS])
        folder = Path(tempfile.mkdtemp(dir=root))
        with mireg(command, folder) as process:
            while process.poll() is None and not any(folder.rglob(".mireg-*.part")):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate()
        if process.returncode == 0:  # it was quicker
            continue
        took.append(time.monotonic() - sent)
        wrong = faults({}, folder, whole[command], "INT")
        if process.returncode != 130:
            wrong.append(f"exit code {process.returncode}: {said.decode()}")
        if took[-1] > 1:
            wrong.append(f"ended after {took[-1]:.2f} s")
        if wrong:
            bad += 1
            print(f"{command} while writing: {'; '.join(wrong)}", flush=True)
    if took:
        print(
            f"{bad} of {count} went wrong while writing; the slowest ended after "
            f"{max(took):.2f} s"
        )
    return bad


def main() -> int:
    """Kill, look, and say how many tries went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--interrupts", type=int, default=0, help="during writing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voxel-size", default="1.5", help="of the scans, mm")
    args = parser.parse_args()
    # A shell lets what it starts in the background ignore Ctrl-C, but not this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        words = ["phantom", "-o", name, "--contrast", "T2", "--force", "-q"]
        words += ["--voxel-size", args.voxel_size]
        subprocess.run([sys.executable, "-m", "mireg", *words], check=True)
        table = f"id,fixed,moving\n{PAIR},t1.nii.gz,t2.nii.gz\n"
        Path(root, "pairs.csv").write_text(table, encoding="utf-8")
        whole, seconds = {}, {}
        for command in COMMANDS:
            for _ in range(2):  # the first compiles
                folder = Path(tempfile.mkdtemp(dir=root))
                began = time.monotonic()
                with mireg(command, folder) as process:
                    process.communicate()
                seconds[command] = time.monotonic() - began
                whole[command] = contents(folder)
        codes: Counter[str] = Counter()
        bad, slowest = interrupted(args.interrupts, root, whole, rng), 0.0
        for n in range(args.kills):
            command, way = rng.choice([*COMMANDS]), rng.choice(WAYS)
            folder = Path(tempfile.mkdtemp(dir=root))
            before = earlier(folder, whole[command]) if rng.random() < 0.5 else {}
            number = getattr(signal, f"SIG{way}")
            with mireg(command, folder) as process:
                time.sleep(rng.uniform(0.1, 1.1) * seconds[command])
                sent = time.monotonic()
                process.send_signal(number)
                said, _ = process.communicate()
            took = time.monotonic() - sent
            code = process.returncode
            wrong = faults(before, folder, whole[command], way)
            if code not in (0, 128 + number, -number):
                wrong.append(f"exit code {code}: {said.decode()}")
            if code != 0:
                slowest = max(slowest, took)
            codes[f"{way} {code}"] += 1
            if wrong:
                bad += 1
                print(f"{n} {command} {way}: {'; '.join(wrong)}", flush=True)
    print(", ".join(f"{what}: {count}" for what, count in sorted(codes.items())))
    tries = args.kills + args.interrupts
    print(f"{bad} of {tries} went wrong; the slowest ended after {slowest:.2f} s")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
