"""What breaks under a run on many pairs: nothing is lost but the pairs in work.

After each fault the next run does what is missing, and the results are, bit for bit,
those of a run that nothing disturbed.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from checks import Here

from mireg import RigidTransform, write_image
from mireg._cohort import needs, state
from mireg._cohort.state import Task
from mireg.cli import main, many
from mireg.phantom import phantom_pair

PAIRS = 4
HOW = ("--init", "header", "--effort", "quick")
SOON_S = 900  # on a machine that does much else


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Small pairs and a table of them."""
    folder = tmp_path_factory.mktemp("scans")
    lines = ["id\tfixed\tmoving"]
    for i in range(PAIRS):
        pose = RigidTransform([0.02 * i, 0.01, 0], [1, -1, 0.3 * i])
        pair = phantom_pair(
            "T1", "T2", seed=i, pose=pose, fixed_voxel_size_mm=8, moving_voxel_size_mm=8
        )
        write_image(folder / f"f{i}.nii.gz", pair.fixed)
        write_image(folder / f"m{i}.nii.gz", pair.moving)
        lines.append(f"p{i}\tf{i}.nii.gz\tm{i}.nii.gz")
    (folder / "pairs.tsv").write_text("\n".join(lines))
    return folder


def command(table, out, *options, scheduler="processes"):
    words = ["batch", str(table), "-o", str(out), "--scheduler", scheduler]
    workers = [] if "://" in scheduler else ["--nprocs", "2"]
    return [sys.executable, "-m", "mireg", *words, *workers, *HOW, *options]


@contextmanager
def begun(words, **more):
    """Begin a program in a session of its own, and leave none of its processes."""
    # What a shell starts in the background lets what it begins ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(words, **more):
    """Run a program to its end."""
    with begun(words, **more) as process:
        out, err = process.communicate(timeout=SOON_S)
    return process.returncode, out, err


def wait_until(condition, what):
    until = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def states(out):
    return sorted(path.stem for path in (out / state.FOLDER).glob("*.json"))


def without_times(record):
    """Leave out of a record what is of the run, not of the result."""
    options = {**record["options"], "command": ""}  # it names its own folder
    return {**record, "seconds": 0, "options": options}


def results_of(out):
    """Read all that a run made, but what times and memory are in."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or path.suffix == ".lock" or name in ("index.html",):
            continue
        assert ".mireg-" not in path.name, f"{path} is left"
        if path.parent.name == state.FOLDER and path.suffix == ".json":
            outcome = json.loads(path.read_text())["outcome"]
            found[name] = {**outcome, "seconds": 0, "peak_mb": 0}
        elif name == "results.tsv":
            with path.open() as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            found[name] = [{**row, "seconds": 0, "peak_mb": 0} for row in rows]
        elif path.parent.parent == out and path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(scans, tmp_path_factory):
    """Give what a run makes that nothing disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    code, _, err = ended(command(scans / "pairs.tsv", out))
    assert code == 0, err
    return results_of(out)


def go_on(scans, out, undisturbed, *options):
    """Begin again, and find all as if nothing had happened."""
    code, _, err = ended(command(scans / "pairs.tsv", out, *options))
    assert code == 0, err
    assert results_of(out) == undisturbed


# --- processes that die ---------------------------------------------------------------


def workers_of(process):
    """Find the processes that work for another one, on Linux."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if parent == process and b"spawn_main" in words:
            found.append(int(entry.name))
    return found


def is_there(process):
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds processes in /proc"
)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["processes", "dask"])
def test_workers_killed_at_random_cost_nothing(scans, tmp_path, undisturbed, scheduler):
    if scheduler == "dask":
        pytest.importorskip("distributed")
    out, rng = tmp_path / "out", random.Random(1)
    words = command(scans / "pairs.tsv", out, scheduler=scheduler)
    with begun(words) as process:
        # While the first are in work, and later; Dask cannot lose one as it begins.
        for done in (0, 1) if scheduler == "processes" else (1, 2):
            wait_until(
                lambda done=done: (
                    process.poll() is not None
                    or (len(states(out)) >= done and workers_of(process.pid))
                ),
                "no worker began",
            )
            time.sleep(rng.uniform(0, 2))
            for worker in workers_of(process.pid)[:1]:
                os.kill(worker, signal.SIGKILL)
        _, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    go_on(scans, out, undisturbed)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["processes", "dask"])
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_run_that_is_stopped_is_gone_on_with(
    scans, tmp_path, undisturbed, scheduler, how
):
    if scheduler == "dask":
        pytest.importorskip("distributed")
    out = tmp_path / "out"
    with begun(command(scans / "pairs.tsv", out, scheduler=scheduler)) as process:
        wait_until(
            lambda: process.poll() is not None or states(out), "no pair was done"
        )
        workers = workers_of(process.pid)
        assert len(workers) == 2
        sent = time.monotonic()
        # Ctrl-C goes to all processes of a terminal, others to the one meant.
        kill = os.killpg if how == "SIGINT" else os.kill
        kill(process.pid, getattr(signal, how))
        _, err = process.communicate(timeout=SOON_S)
        took = time.monotonic() - sent
    number = getattr(signal, how)
    if how == "SIGKILL":
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number, err
        assert "Traceback" not in err
        # Python's resource tracker may have a word on semaphores after it.
        assert "mireg: stopped\n" in err
        assert "the same command again does what is missing\n" in err
        assert took < 5  # 1 s on a machine that does nothing else
    before = states(out)
    assert 0 < len(before) < PAIRS
    wait_until(lambda: not any(map(is_there, workers)), "workers are left")
    if how == "SIGKILL":  # nobody could remove them; they are swept when old
        for path in out.rglob(".mireg-*.part"):
            path.unlink()

    def written():
        files = [out / state.FOLDER / f"{name}.json" for name in before]
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]

    as_left = written()
    go_on(scans, out, undisturbed)
    assert written() == as_left  # what was done is not done again


@pytest.mark.slow
def test_a_scheduler_may_end_and_its_workers_come_late(scans, tmp_path, undisturbed):
    pytest.importorskip("distributed")
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    where = elsewhere / "scheduler.json"
    quiet = {"cwd": elsewhere}  # paths are those of who asks
    dask = [sys.executable, "-m", "distributed.cli"]
    serve = ["--scheduler-file", str(where), "--no-dashboard"]
    code = "from distributed.cli.dask_{0} import main; main()"
    dask = {
        who: [sys.executable, "-c", code.format(who)] for who in ("scheduler", "worker")
    }
    with begun([*dask["scheduler"], "--port", "0", *serve], **quiet) as scheduler:
        wait_until(where.exists, "no scheduler")
        wait_until(lambda: where.read_text().endswith("}"), "no address")
        address = json.loads(where.read_text())["address"]
        relative = os.path.relpath(out, scans)
        with begun(
            command("pairs.tsv", relative, scheduler=address), cwd=scans
        ) as process:
            time.sleep(2)  # a job may get its workers much later
            work = [*dask["worker"], *serve, "--nthreads", "1", "--nworkers", "2"]
            with begun(work, **quiet):
                wait_until(
                    lambda: process.poll() is not None or states(out),
                    "no pair was done",
                )
                scheduler.kill()
                sent = time.monotonic()
                _, err = process.communicate(timeout=SOON_S)
        assert process.returncode == 2, err
        assert "the Dask scheduler is gone; run the command again" in err
        assert "Traceback" not in err
        assert time.monotonic() - sent < 60
    assert 0 < len(states(out)) < PAIRS
    code, _, err = ended(command("pairs.tsv", relative), cwd=scans)
    assert code == 0, err
    # Its paths are as they were given: beside the table.
    code, _, err = ended(command(scans / "pairs.tsv", out, "--redo", "all"))
    assert code == 0, err
    assert results_of(out) == undisturbed


@pytest.mark.slow
def test_workers_of_several_threads_are_refused(scans, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=True,
        dashboard_address=":0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        code, _, err = ended(
            command(
                scans / "pairs.tsv", tmp_path / "o", scheduler=cluster.scheduler_address
            )
        )
    assert code == 2
    assert "its workers have several threads; start workers" in err


# --- disks and scans ------------------------------------------------------------------


@contextmanager
def small_disk(folder, size):
    """Mount a disk of so little room, if we may."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs to mount a small disk: run it as root")
    try:
        yield lambda more: subprocess.run(
            ["mount", "-o", f"remount,size={more}", str(folder)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_gone_on_with(scans, tmp_path, undisturbed):
    with small_disk(tmp_path / "disk", "160k") as grow:
        out = tmp_path / "disk" / "out"
        code, _, err = ended(command(scans / "pairs.tsv", out))
        assert code in (2, many.SOME_FAILED), err
        assert "No space left on device" in err
        assert "Traceback" not in err
        grow("64m")
        go_on(scans, out, undisturbed)


@pytest.mark.slow
def test_scans_that_cannot_be_read_stop_no_other(scans, tmp_path, undisturbed):
    whole = (scans / "m0.nii.gz").read_bytes()
    spoilt = {
        "nonsense": b"nonsense",
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "flipped": whole[:3000] + bytes(64) + whole[3064:],
    }
    lines = (scans / "pairs.tsv").read_text().split("\n")
    for name, content in spoilt.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
        lines.append(f"{name}\tf0.nii.gz\t{tmp_path / name}.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii")
    lines.append(f"pipe\tf0.nii.gz\t{tmp_path / 'pipe.nii'}")
    lines.append(f"none\tf0.nii.gz\t{tmp_path / 'none.nii'}")
    table = scans / "spoilt.tsv"
    table.write_text("\n".join(lines))
    out = tmp_path / "out"
    code, _, err = ended(command(table, out))
    assert code == many.SOME_FAILED
    assert "Traceback" not in err
    with (out / "results.tsv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    for name in (*spoilt, "pipe", "none"):
        assert rows.pop(name)["status"] == "failed", name
        shutil.rmtree(out / name)
        (out / state.FOLDER / f"{name}.json").unlink()
        (out / "logs" / f"{name}.txt").unlink()
    assert {row["status"] for row in rows.values()} == {"done"}
    go_on(scans, out, undisturbed)


HANGS = """
import builtins, io, os, time
there = builtins.open
def hangs(path, *how, **more):
    if str(path).endswith("m2.nii.gz") and os.path.exists({mark!r}):
        time.sleep(600)
    return there(path, *how, **more)
builtins.open = io.open = hangs
"""


@pytest.mark.slow
def test_a_read_that_hangs_costs_its_own_pair_only(scans, tmp_path, undisturbed):
    mark, out = tmp_path / "the disk hangs", tmp_path / "out"
    mark.touch()
    (tmp_path / "sitecustomize.py").write_text(HANGS.format(mark=str(mark)))
    hangs = {"env": {**os.environ, "PYTHONPATH": str(tmp_path)}}
    words = command(scans / "pairs.tsv", out, "--most-seconds", "20")
    code, _, err = ended(words, **hangs)
    assert code == many.SOME_FAILED, err
    assert "p2: failed: no answer within 20 seconds" in err
    assert set(states(out)) == {f"p{i}" for i in range(PAIRS)}
    with (out / "results.tsv").open() as file:
        rows = {
            row["id"]: row["status"] for row in csv.DictReader(file, delimiter="\t")
        }
    assert [name for name, status in rows.items() if status == "failed"] == ["p2"]
    mark.unlink()
    go_on(scans, out, undisturbed)


def test_a_header_that_hangs_does_not_stop_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(needs, "_PATIENCE_S", 0.05)
    go = threading.Event()
    monkeypatch.setattr(needs.formats, "open_nibabel", lambda _: go.wait(20))
    path = str(tmp_path / "x.nii")
    task = Task("a", {"fixed": path, "moving": path}, (), "", "")
    assert needs.memory_mb(task) == needs._BASE_MB
    go.set()


# --- what is done again ---------------------------------------------------------------


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Run batches in this process, and tell the pairs that were done."""
    monkeypatch.setattr(many, "_pool", lambda *_: Here())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(many, "_last_fixed", many._last_fixed.__wrapped__)

    def run(capsys, *argv):
        capsys.readouterr()
        code = main(["batch", *map(str, argv), "--json-lines", *HOW])
        said = capsys.readouterr()
        return (
            code,
            [json.loads(line)["id"] for line in said.out.splitlines()],
            said.err,
        )

    return run


def test_lines_of_json_have_stdout_for_themselves_and_pairs_can_be_redone(
    scans, tmp_path, here, capsys
):
    # An image without anything makes a doubtful pair, a file of nonsense a failed one.
    rng = np.random.default_rng(0)
    noise = rng.random((16, 16, 16)).astype(np.float32)
    write_image(tmp_path / "noise.nii", (noise, np.diag([8.0, 8, 8, 1])))
    (tmp_path / "bad.nii").write_bytes(b"nonsense")
    table = tmp_path / "t.tsv"
    f, m = scans / "f0.nii.gz", scans / "m0.nii.gz"
    table.write_text(
        f"id\tfixed\tmoving\ngood\t{f}\t{m}\nodd\t{f}\tnoise.nii\nbad\t{f}\tbad.nii\n"
    )
    words = (capsys, table, "-o", "out", "--no-image")
    code, done, err = here(*words)
    assert (code, done) == (many.SOME_FAILED, ["good", "odd", "bad"])
    assert "3 pairs done" in err
    assert "1 doubtful, 1 failed" in err
    assert "out/index.html" in err
    said = Path("out", "exclude.tsv").read_text()
    assert "the answer is doubtful" not in said  # the reasons tell it
    assert here(*words)[:2] == (many.SOME_FAILED, [])
    assert here(*words, "--redo", "failed")[1] == ["bad"]
    assert here(*words, "--redo", "doubtful")[1] == ["odd"]
    assert here(*words, "--redo", "good,failed")[1] == ["good", "bad"]
    assert here(*words, "--redo", "all")[1] == ["good", "odd", "bad"]
    code, done, err = here(*words, "--redo", "nobody")
    assert (code, done) == (2, [])
    assert "--redo nobody: no such pair" in err
    # Strict is another way to ask: the answer that is doubtful is not written.
    assert here(*words, "--strict")[1] == ["good", "odd", "bad"]
    strict = (*words[:3], "strict", "--no-image", "--strict")
    assert here(*strict)[1] == ["good", "odd", "bad"]
    assert here(*strict)[1] == []
    with (tmp_path / "strict/results.tsv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert (rows["odd"]["verdict"], rows["odd"]["record"]) == ("doubtful", "n/a")
    assert list((tmp_path / "strict/odd").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (MemoryError(), True),
        (OSError(28, "No space left on device"), True),
        (OSError(22, "Invalid argument"), False),  # damaged files give that
        (ValueError("not a head"), False),
    ],
)
def test_what_the_machine_failed_at_is_done_again(
    scans, tmp_path, here, capsys, monkeypatch, error, again
):
    table = tmp_path / "t.tsv"
    table.write_text(f"fixed\tmoving\n{scans / 'f0.nii.gz'}\t{scans / 'm0.nii.gz'}\n")
    words = (capsys, table, "-o", "out", "--no-image")

    def fails(_task):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(many, "_registered", fails)
        assert here(*words)[:2] == (many.SOME_FAILED, ["m0_to_f0"])
    assert here(*words)[1] == (["m0_to_f0"] if again else [])


def test_a_file_that_is_missing_is_told_with_its_row(tmp_path, here, capsys):
    (tmp_path / "m.nii").write_bytes(b"nonsense")
    (tmp_path / "t.tsv").write_text(
        "fixed\tmoving\tid\nm.nii\tgone.nii\tb\ngone.nii\tm.nii\ta\n"
    )
    words = (capsys, "t.tsv", "-o", "out")
    code, done, err = here(*words)
    assert (code, done) == (many.SOME_FAILED, ["b", "a"])
    # As mireg register tells it.
    assert main(["register", "gone.nii", "m.nii"]) == 2
    line = capsys.readouterr().err.removeprefix("mireg: error: ")
    assert line == "gone.nii: there is no such file; check the path\n"
    assert f"t.tsv, line 3, a: failed: {line}" in err
    assert "t.tsv, line 2, b: failed: " in err
    assert here(*words)[1] == []  # nothing has changed
    (tmp_path / "gone.nii").write_bytes(b"more nonsense")
    assert here(*words)[1] == ["b", "a"]


def test_a_run_that_is_stopped_says_how_to_go_on(tmp_path, here, capsys, monkeypatch):
    (tmp_path / "t.tsv").write_text("fixed\tmoving\nf.nii\tm.nii\ng.nii\tm.nii\n")
    words = (capsys, "t.tsv", "-o", "out")
    done = []

    def stopped_in_the_second(_task):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        raise ValueError("no head")

    monkeypatch.setattr(many, "_registered", stopped_in_the_second)
    code, _, err = here(*words)
    assert code == 130
    told = "1 of 2 pairs done; the same command again does what is missing\n"
    assert told in err
    assert err.endswith("mireg: stopped\n")
    assert told not in here(*words, "-q")[2]


@pytest.mark.slow
def test_two_runs_do_not_work_in_one_folder(scans, tmp_path):
    words = command(scans / "pairs.tsv", tmp_path / "out")
    with begun(words) as first:
        wait_until((tmp_path / "out/.mireg/lock.lock").exists, "no run")
        time.sleep(0.5)
        code, _, err = ended(words)
        assert code == 2
        assert "another run of mireg works here" in err
        first.communicate(timeout=SOON_S)
    assert first.returncode == 0
