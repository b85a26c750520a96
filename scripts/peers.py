# ruff: noqa: PLC0415, N813
# (a program is imported in the process that runs it, and by its usual name)
"""Other programs for rigid registration, each at the settings its makers recommend.

    python scripts/peers.py NAME FIXED MOVING FOLDER --threads 2

runs one of them on two NIfTI files and leaves its transform and ``report.json`` in
FOLDER. `compare_peers.py` calls this once for each registration, so that every
program starts in a fresh process, and reads the transform with `Peer.read`.

A program has two halves. `run` registers, writes the transform in the program's own
format and frame, and returns the seconds it took between reading the images and
writing the transform. `read` turns that file into ``moving_from_fixed``, RAS+ mm.

Whoever looks for the orientation (``-search``) is measured besides the same program
without: the search costs time, and helps only from far away.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS from LPS, and LPS from RAS
KIB = 1024 / 1e6  # MB
INSTALL = "pip install 'mireg[peers]'"
INSTALL_DEBIAN = "apt-get install cmtk (Debian, Ubuntu)"


class Took(NamedTuple):
    """Seconds of a registration, and of the whole program if it is a command."""

    registration: float
    whole: float | None = None


Run = Callable[[Path, Path, Path, int], Took]


@dataclass(frozen=True)
class Peer:
    """A program that registers two files.

    Parameters
    ----------
    name : str
        Name on the command line and in tables.
    needs : tuple of str
        Packages of PyPI, or ``cmtk`` of Debian.
    settings : str
        How it is called, in a few words.
    run : callable
        Registers: fixed file, moving file, folder to write to, threads.
    result : str
        Name of the transform file that `run` leaves in the folder.
    reader : callable
        Reads that file as ``moving_from_fixed``, RAS+ mm.
    """

    name: str
    needs: tuple[str, ...]
    settings: str
    run: Run
    result: str
    reader: Callable[[Path], FloatArray]

    def read(self, folder: Path) -> FloatArray:
        """Read the transform that was left in a folder."""
        return self.reader(folder / self.result)

    def missing(self) -> str | None:
        """Say why it cannot run here, if so."""
        lacking = [package for package in self.needs if _version(package) is None]
        if not lacking:
            return None
        how = INSTALL_DEBIAN if "cmtk" in lacking else INSTALL
        return f"{' and '.join(lacking)} not found: {how}"

    def version(self) -> str:
        """Name the version that is installed."""
        return _version(self.needs[0]) or "none"


def _version(package: str) -> str | None:
    """Version of a package, None if it is not there."""
    if package == "cmtk":
        if shutil.which("cmtk") is None:
            return None
        command = ["cmtk", "registration", "--version"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        return shown.stdout.strip() or "unknown"
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- frames --------------------------------------------------------------------------


def ras_from_lps(
    linear: npt.ArrayLike, translation: npt.ArrayLike, centre: npt.ArrayLike
) -> FloatArray:
    """Turn ITK's ``linear @ (p - centre) + centre + translation`` (LPS) to RAS, 4x4."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.add(translation, centre) - matrix[:3, :3] @ np.array(centre)
    return FLIP @ matrix @ FLIP


def read_itk(path: Path) -> FloatArray:
    """Read an ITK text file: it maps points of fixed to points of moving, LPS."""
    from mireg import read_transform

    return read_transform(path).matrix


def read_ants(path: Path) -> FloatArray:
    """Read ANTs' ``0GenericAffine.mat``: as ITK's text, in Matlab's old format."""
    from scipy.io import loadmat

    content = loadmat(path)
    (kind,) = (name for name in content if name.startswith("AffineTransform"))
    numbers = content[kind].astype(np.float64).ravel()
    centre = content["fixed"].astype(np.float64).ravel()
    return ras_from_lps(numbers[:9].reshape(3, 3), numbers[9:], centre)


def read_elastix(path: Path) -> FloatArray:
    """Read elastix' transform parameters: Euler angles, fixed to moving, LPS.

    https://elastix.dev/doxygen/transformparameter.html
    """
    from scipy.spatial.transform import Rotation

    found = dict(re.findall(r"^\((\w+) (.*)\)$", path.read_text("utf-8"), re.M))
    if found["Transform"] != '"EulerTransform"':
        raise ValueError(f"{path} holds a {found['Transform']}")
    x, y, z, *shift = map(float, found["TransformParameters"].split())
    centre = [float(number) for number in found["CenterOfRotationPoint"].split()]
    if found["ComputeZYX"] == '"true"':
        turn = Rotation.from_euler("ZYX", [z, y, x])
    else:
        turn = Rotation.from_euler("ZXY", [z, x, y])
    return ras_from_lps(turn.as_matrix(), shift, centre)


def read_rows(path: Path) -> FloatArray:
    """Read greedy's matrix: four rows, points of fixed to points of moving, RAS."""
    return np.loadtxt(path)


# --- programs ------------------------------------------------------------------------


def run_mireg(fixed: Path, moving: Path, folder: Path, threads: int) -> Took:
    """Run the library as a script would."""
    from mireg import Settings, read_image, register, write_transform

    images = read_image(fixed), read_image(moving)
    start = time.perf_counter()
    answer = register(*images, settings=Settings(threads=threads))
    seconds = time.perf_counter() - start
    write_transform(folder / "out.tfm", answer.transform)
    return Took(seconds)


def run_mireg_command(fixed: Path, moving: Path, folder: Path, threads: int) -> Took:
    """Run ``mireg register``, which also resamples and writes the moved image."""
    prefix, options = folder / "out", ["--threads", str(threads), "--quiet"]
    words = [sys.executable, "-m", "mireg", "register", fixed, moving, "-o", prefix]
    whole = _command(*words, *options)
    record = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return Took(record["seconds"]["register"], whole)


def run_ants(
    fixed: Path, moving: Path, folder: Path, threads: int, *, search: bool
) -> Took:
    """Run ANTs' Rigid (Mattes MI, 4 levels), from centre on centre of mass.

    The search is what its authors advise for scans that are far apart: MI of both at
    4 mm, a start every 30 degrees, 5 steps from each
    (https://github.com/ANTsX/ANTsPy/issues/250, https://github.com/ANTsX/ANTs/issues/743).
    """
    del threads  # set by the environment
    import ants

    images = ants.image_read(str(fixed)), ants.image_read(str(moving))
    start = time.perf_counter()
    initial = None
    if search:
        coarse = [ants.resample_image(image, (4, 4, 4), False, 0) for image in images]
        initial = ants.affine_initializer(
            *coarse, search_factor=30, radian_fraction=1, local_search_iterations=5
        )
        _make_rigid(initial)
    ants.registration(
        *images,
        type_of_transform="Rigid",
        initial_transform=initial,
        outprefix=str(folder / "out_"),
        random_seed=1,
    )
    return Took(time.perf_counter() - start)


def _make_rigid(path: str) -> None:
    """Take scale and shear out of an ANTs transform: Rigid would keep them."""
    import ants

    transform = ants.read_transform(path)
    numbers = np.array(transform.parameters)
    u, _, vt = np.linalg.svd(numbers[:9].reshape(3, 3))
    flip = np.diag([1, 1, np.linalg.det(u @ vt)])
    numbers[:9] = (u @ flip @ vt).ravel()
    transform.set_parameters(numbers)
    ants.write_transform(transform, path)


def run_elastix(fixed: Path, moving: Path, folder: Path, threads: int) -> Took:
    """Run elastix' own rigid parameter map (Mattes MI, 4 levels).

    Initialisation: https://elastix.dev/doxygen/parameter.html,
    AutomaticTransformInitializationMethod.
    """
    import itk

    parameters = itk.ParameterObject.New()
    rigid = parameters.GetDefaultParameterMap("rigid")
    rigid["AutomaticTransformInitialization"] = ["true"]
    rigid["AutomaticTransformInitializationMethod"] = ["CenterOfGravity"]
    rigid["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(rigid)
    images = itk.imread(str(fixed), itk.F), itk.imread(str(moving), itk.F)
    start = time.perf_counter()
    method = itk.ElastixRegistrationMethod.New(*images)
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.SetNumberOfThreads(threads)
    method.UpdateLargestPossibleRegion()
    seconds = time.perf_counter() - start
    found = method.GetTransformParameterObject()
    found.WriteParameterFile(str(folder / "out.txt"))
    return Took(seconds)


def run_simpleitk(fixed: Path, moving: Path, folder: Path, threads: int) -> Took:
    """Run Mattes MI with 50 bins on three levels, as SimpleITK's notebooks do.

    https://simpleitk.readthedocs.io/en/master/registrationOverview.html and the
    notebooks 60 and 63. Two things are not the notebook's, which ends some mm off:
    10 % of the voxels instead of 1 %, and steps that shrink.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (fixed, moving)]
    start = time.perf_counter()
    transform = sitk.CenteredTransformInitializer(
        *images,
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,
        minStep=1e-4,
        numberOfIterations=200,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(*images)
    seconds = time.perf_counter() - start
    sitk.WriteTransform(transform, str(folder / "out.tfm"))
    return Took(seconds)


def run_greedy(
    fixed: Path, moving: Path, folder: Path, threads: int, *, search: bool
) -> Took:
    """Run greedy's rigid registration with NMI, from centre on centre of the images.

    https://greedy.readthedocs.io/en/latest/reference.html; the search draws 1000
    poses of any orientation.
    """
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    images = {
        "fixed": sitk.ReadImage(str(fixed)),
        "moving": sitk.ReadImage(str(moving)),
    }
    words = "-i fixed moving -a -dof 6 -m NMI -n 100x50x10 -ia-image-centers"
    if search:
        words += " -search 1000 any 20"
    out = folder / "out.mat"
    start = time.perf_counter()
    # -seed 0 would be a new one in each run.
    Greedy3D().execute(f"{words} -seed 1 -threads {threads} -o {out}", **images)
    return Took(time.perf_counter() - start)


def run_cmtk(
    fixed: Path, moving: Path, folder: Path, threads: int, *, by_mass: bool
) -> Took:
    """Run CMTK's rigid registration with NMI on four levels.

    https://manpages.debian.org/unstable/cmtk/cmtk-registration.1.en.html. It does not
    tell the time without reading files: what its other command needs to read both and
    to find their centres of mass is taken off.
    """
    initial, found = folder / "initial", folder / "found"
    centres = _command(
        "cmtk", "make_initial_affine", "--centers-of-mass", fixed, moving, initial
    )
    words = ["cmtk", "registration", "--threads", threads, "--dofs", "6", "--nmi"]
    words += ["--auto-multi-levels", "4"]
    words += ["--initial", initial] if by_mass else ["--initxlate"]
    whole = _command(*words, "-o", found, fixed, moving)
    written = _command("cmtk", "xform2itk", found, folder / "out.tfm")
    needed = whole + written + (centres if by_mass else 0)
    return Took(max(whole - centres, 0.0), needed)


def _command(*words: object) -> float:
    """Run a command and return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True)
    return time.perf_counter() - start


_ANTS, _ELASTIX, _SITK = ("antspyx",), ("itk-elastix",), ("SimpleITK",)
_GREEDY, _CMTK = ("picsl-greedy", "SimpleITK"), ("cmtk",)
_ANTS_FILE = "out_0GenericAffine.mat"

PEERS = {
    peer.name: peer
    for peer in (
        Peer("mireg", ("mireg",), "register()", run_mireg, "out.tfm", read_itk),
        Peer(
            "mireg-command",
            ("mireg",),
            "mireg register, with the moved image",
            run_mireg_command,
            "out.tfm",
            read_itk,
        ),
        Peer(
            "ants",
            _ANTS,
            "Rigid, centres of mass",
            partial(run_ants, search=False),
            _ANTS_FILE,
            read_ants,
        ),
        Peer(
            "ants-search",
            _ANTS,
            "affine_initializer, then Rigid",
            partial(run_ants, search=True),
            _ANTS_FILE,
            read_ants,
        ),
        Peer(
            "elastix",
            _ELASTIX,
            "default rigid map, centres of gravity",
            run_elastix,
            "out.txt",
            read_elastix,
        ),
        Peer(
            "simpleitk",
            _SITK,
            "Mattes MI, regular steps, 10 %, centres of mass",
            run_simpleitk,
            "out.tfm",
            read_itk,
        ),
        Peer(
            "greedy",
            _GREEDY,
            "NMI, image centres",
            partial(run_greedy, search=False),
            "out.mat",
            read_rows,
        ),
        Peer(
            "greedy-search",
            _GREEDY,
            "NMI, image centres, -search 1000 any 20",
            partial(run_greedy, search=True),
            "out.mat",
            read_rows,
        ),
        Peer(
            "cmtk",
            _CMTK,
            "NMI, 4 levels, image centres",
            partial(run_cmtk, by_mass=False),
            "out.tfm",
            read_itk,
        ),
        Peer(
            "cmtk-mass",
            _CMTK,
            "NMI, 4 levels, centres of mass",
            partial(run_cmtk, by_mass=True),
            "out.tfm",
            read_itk,
        ),
    )
}


# --- the command ---------------------------------------------------------------------


def peak_mb(command: bool) -> float:
    """Return the most memory that this process held, or the largest of its commands.

    `ru_maxrss` of a process begins with what its parent held when it was started, so
    that of a command is never under what this one holds, some 30 MB; Linux' VmHWM,
    which is read for this process, does not.
    """
    status = Path("/proc/self/status")
    if command or not status.exists():
        who = resource.RUSAGE_CHILDREN if command else resource.RUSAGE_SELF
        peak = resource.getrusage(who).ru_maxrss
        return peak * (1e-6 if sys.platform == "darwin" else KIB)
    (line,) = re.findall(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.M)
    return int(line) * KIB


def main(argv: Sequence[str] | None = None) -> int:
    """Run one program on two files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PEERS)
    for name in ("fixed", "moving", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    took = PEERS[args.name].run(args.fixed, args.moving, args.folder, args.threads)
    report = {
        "registration_seconds": took.registration,
        "seconds": took.whole,  # None: ask who started this process
        "peak_mb": peak_mb(took.whole is not None),
    }
    (args.folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
