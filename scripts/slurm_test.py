"""Run what the guide says of SLURM on a SLURM of this machine, begun for that.

    apt install slurm-wlm munge
    pip install dask-jobqueue
    python scripts/slurm_test.py

A SLURM of one node, on loopback, with files and ports of its own, is begun as this
user, who must be root: slurmd wants that. Each job of the guide's page on cohorts is
then done as it stands there, on small phantoms, with no more resources than there are,
and the results are looked for. For PBS and SGE there is no such package: the job
scripts that dask-jobqueue makes for them are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "mireg" / "guide" / "cohort.md"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    """Find ports that nobody uses."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def slurm(folder: Path, cpus: int) -> Iterator[None]:
    """Begin SLURM, and end it."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o711 if name == "munge" else 0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2), cpus=cpus)
    )
    os.environ["SLURM_CONF"] = str(configuration)
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [
        f"--{name}={folder}/munge/{name.removesuffix('-file')}"
        for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    daemons = (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host])
    with contextlib.ExitStack() as running:
        for words in daemons:
            path = shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin")
            if path is None:
                raise SystemExit("needs: apt install slurm-wlm munge")
            with (folder / f"{words[0]}.out").open("wb") as file:
                process = subprocess.Popen(
                    [path, *words[1:]], stdout=file, stderr=subprocess.STDOUT
                )
            running.callback(process.wait)
            running.callback(process.terminate)
            time.sleep(1)
        for _ in range(60):
            told = subprocess.run(
                ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False
            ).stdout
            if told.strip() == "idle":
                break
            time.sleep(1)
        else:
            logs = [path.read_text() for path in folder.glob("*.log")]
            raise SystemExit(f"SLURM does not begin: {told}\n" + "\n".join(logs))
        yield


def jobs_of_guide() -> list[str]:
    """Read the jobs that the guide has."""
    blocks = re.findall(r"```\w*\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if block.startswith("#!/bin/bash\n#SBATCH")]


def program_of_guide() -> str:
    """Read the program that the guide has for dask-jobqueue."""
    blocks = re.findall(r"```\w*\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return next(block for block in blocks if "dask_jobqueue" in block)


def submit(job: str, *options: str) -> None:
    """Do a job, to its end, and show what it said."""
    Path("job.sh").write_text(job)
    words = ["sbatch", "--wait", "--output=job-%j.txt", *options, "job.sh"]
    code = subprocess.run(words, check=False).returncode
    for path in sorted(Path().glob("job-*.txt")):
        print(f"--- {path}\n{path.read_text()}")
        path.unlink()
    if code != 0:
        raise SystemExit(f"a job of the guide failed, with exit code {code}")


def done(results: Path) -> None:
    """Look whether all pairs are done."""
    with results.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    print(f"{results}: {[(row['id'], row['status'], row['verdict']) for row in rows]}")
    if not rows or {row["status"] for row in rows} != {"done"}:
        raise SystemExit("not all pairs are done")


def make_scans(folder: Path) -> None:
    """Make what the jobs of the guide work on: a table of pairs, and a data set."""
    lines = ["id\tfixed\tmoving"]
    for label in ("01", "02"):
        words = ["phantom", "-q", "-o", label, "--contrast", "T2", "--voxel-size", "6"]
        subprocess.run([sys.executable, "-m", "mireg", *words], check=True)
        lines.append(f"{label}\t{label}/t1.nii.gz\t{label}/t2.nii.gz")
        anatomy = folder / "study" / f"sub-{label}" / "anat"
        anatomy.mkdir(parents=True)
        for kind in ("1", "2"):
            name = f"sub-{label}_T{kind}w.nii.gz"
            shutil.copy(f"{label}/t{kind}.nii.gz", anatomy / name)
    Path("pairs.tsv").write_text("\n".join(lines) + "\n")
    Path("labels.txt").write_text("01\n02\n")


def main() -> int:
    """Do the jobs of the guide."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="the folder of the test")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs to be root, as slurmd does")
    # Jobs find the same programs.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
    folder.chmod(0o755)
    try:
        os.chdir(folder)
        make_scans(folder)
        with slurm(folder, cpus=4):
            array, dask = jobs_of_guide()
            submit(array, "--array=1-2", "--cpus-per-task=1", "--mem=0")
            group = ["bids", "study", "study/derivatives/mireg", "group"]
            subprocess.run([sys.executable, "-m", "mireg", *group], check=True)
            done(Path("study/derivatives/mireg/results.tsv"))
            submit(dask, "--ntasks=2", "--mem-per-cpu=0")
            done(Path("cohort/results.tsv"))
            shutil.rmtree("cohort")
            program = program_of_guide().replace("jobs=32", "jobs=2")
            Path("on_cluster.py").write_text(program)
            subprocess.run([sys.executable, "on_cluster.py", "SLURM"], check=True)
            done(Path("cohort/results.tsv"))
        show_scripts()
    finally:
        os.chdir("/")
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def show_scripts() -> None:
    """Show the jobs that dask-jobqueue makes for other queues."""
    import dask_jobqueue  # noqa: PLC0415, not needed before

    for queue in ("PBS", "SGE"):
        made = getattr(dask_jobqueue, f"{queue}Cluster")(
            cores=1, processes=1, memory="4GB", walltime="04:00:00"
        )
        print(f"--- {queue}\n{made.job_script()}")
        made.close()


if __name__ == "__main__":
    sys.exit(main())
