"""Feed damaged files to everything that reads files, and see that it stays polite.

Each case is a good file with some damage: bits, header fields, lines, lengths. What
reads it must succeed or raise a `MiregError` of one printable line; commands end with
code 0, or with 2 and one line. No other warning, no traceback, no hang, and no more
memory than three times what the file honestly holds, with a margin for small ones.

    python scripts/fuzz.py --count 10000
    python scripts/fuzz.py --count 10000 --first 10001       (the next ones)
    python scripts/fuzz.py --kind transforms --only 1234     (one case, in full)

Every case depends on the seed, its kind and its number alone. Where Python itself
breaks, faulthandler tells where, and the files of the case stay in the folder named.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import faulthandler
import gzip
import io
import json
import logging
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

import mireg
from mireg._contrast import cohort, cohort_text, contrast, read_cohort
from mireg._errors import MiregError, MiregWarning
from mireg._files import formats, nifti
from mireg._files.transforms import FORMATS, transform_bytes
from mireg._prior import CHANNELS, Prior
from mireg._transform import RigidTransform
from mireg.cli import main as mireg_main

#: Seconds after which a case hangs, and those after which Python itself does.
ALARM_S, DEAD_S = 30, 120
#: Memory that a small case may take beyond what its file holds, and the most ever.
MARGIN, MOST = 24 << 20, 1 << 30
#: No file of gzip holds more than this many bytes for each of its own.
MOST_GZIP_SHRINKS = 1032

NUMBERS = (
    *(0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 348, 352, 540, 544),
    *(1000, 32767, -32768, 65535, 10**5, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1),
    *(0.5, -0.5, 1e-3, 1e-30, 1e9, 1e30, -1e30, 1.0000002, 0.9999999),
    *(float("nan"), float("inf"), float("-inf")),
)
WORDS = (
    *("nan", "inf", "-inf", "1e999", "-0", "0", "1", "-1", "1e30", "0x10", "9" * 400),
    *("", "#", "\x00", "\x1b[31mred\x1b[0m", "\r", "\n", "\t", "\u202e", "\x9b31m"),
    *("null", "true", "[]", "{}", '""', "[1, 2, 3]", "=1+1", "'", ",", ";", "\udcff"),
)
STRUCTS = "bBhHiIqQfd"


class Hang(BaseException):
    """A case takes too long; nothing that catches errors catches it."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them.

    Attributes
    ----------
    seeds : callable
        Makes good files in a folder: the files of each, the one to be read first.
    uses : tuple of callables
        Each reads a file in its own way, and may write into the folder beside it.
    """

    seeds: Callable[[Path], list[list[Path]]]
    uses: tuple[Callable[[Path, Path], Any], ...]


# --- good files -------------------------------------------------------------


def an_image() -> tuple[Any, Any]:
    """Make a small head, and where its voxels are."""
    x, y, z = np.indices((12, 10, 8))
    head = 900 * np.exp(-((x - 6) ** 2 + (y - 4) ** 2 + (z - 4) ** 2) / 12) + 10 * x
    affine = np.diag([-2.0, 2.5, 3.0, 1.0])
    affine[:3, :3] = (
        Rotation.from_euler("x", 10, degrees=True).as_matrix() @ (affine[:3, :3])
    )
    affine[:3, 3] = 10, -12, -9
    return head.astype(np.int16), affine


def images(folder: Path) -> list[list[Path]]:
    """Write an image in every format that nibabel writes, and take those it ships."""
    head, affine = an_image()
    plain = nib.Nifti1Image(head, affine)
    plain.set_qform(affine, 1)
    by_qform = nib.Nifti1Image(head, affine)
    by_qform.set_qform(affine, 1)
    by_qform.set_sform(None)
    series = nib.Nifti1Image(np.stack([head, head + 1, head + 5], -1), affine)
    scaled = nib.Nifti1Image(head, affine)
    scaled.header.set_slope_inter(0.5, -10)
    swapped = nib.Nifti1Image(
        head.astype(">f4"), affine, nib.Nifti1Header(endianness=">")
    )
    extended = nib.Nifti1Image(head, affine)
    for code in (4, 6, 40):
        extended.header.extensions.append(
            nib.nifti1.Nifti1Extension(code, b"<xml>" + b"x" * 40)
        )
    made = {
        "plain.nii": plain,
        "zipped.nii.gz": plain,
        "qform.nii": by_qform,
        "series.nii": series,
        "scaled.nii": scaled,
        "swapped.nii": swapped,
        "extended.nii": extended,
        "two.nii": nib.Nifti2Image(head, affine),
        "two.nii.gz": nib.Nifti2Image(head.astype(np.float64), affine),
        "bytes.nii": nib.Nifti1Image((head % 256).astype(np.uint8), affine),
        "pair.hdr": nib.Nifti1Pair(head, affine),
        "pair2.hdr": nib.Nifti2Pair(head, affine),
        "analyze.hdr": nib.AnalyzeImage(head, np.diag([-2.0, 2, 2, 1])),
        "spm.hdr": nib.Spm2AnalyzeImage(head, np.diag([-2.0, 2, 2, 1])),
        "head.mgh": nib.MGHImage(head, affine),
        "head.mgz": nib.MGHImage(head.astype(np.float32), affine),
    }
    found = []
    for name, image in made.items():
        path = folder / name
        nib.save(image, path)
        beside = path.with_suffix(".img")
        found.append([path, beside] if beside.exists() else [path])
    shipped = Path(nib.__file__).parent / "tests" / "data"
    for names in (
        ("tiny.mnc",),
        ("small.mnc",),
        ("example4d+orig.HEAD", "example4d+orig.BRIK.gz"),
        ("phantom_EPI_asc_CLEAR_2_1.PAR", "phantom_EPI_asc_CLEAR_2_1.REC"),
        ("ascii.gii",),
    ):
        paths = [shipped / name for name in names]
        # PAR/REC is a few megabytes: a few of them say enough.
        if all(path.exists() for path in paths):
            found.append(paths)
    return found


def transforms(folder: Path) -> list[list[Path]]:
    """Write a transform in every format, and as ITK's and FreeSurfer's other kinds."""
    head, affine = an_image()
    nib.save(nib.Nifti1Image(head, affine), folder / "grid.nii")
    given = RigidTransform([0.1, -0.2, 0.3], [4, -5, 6], centre=[1, 2, 3])
    image = mireg.read_image(folder / "grid.nii")
    found = []
    for i, row in enumerate(FORMATS):
        for suffix in row.suffixes:
            path = folder / f"t{i}{suffix}"
            path.write_bytes(
                transform_bytes(
                    path, given.matrix, fixed=image, moving=image, format=row.name
                )
            )
            found.append([path])
    head_line = "#Insight Transform File V1.0\n"
    one = "#Transform {}\nTransform: {}_double_3_3\nParameters: {}\n"
    one += "FixedParameters: {}\n"
    texts = {
        "euler.tfm": head_line
        + one.format(0, "Euler3DTransform", "0.1 0.2 0.3 4 5 6", "1 2 3 0"),
        "versor.tfm": head_line
        + one.format(0, "VersorRigid3DTransform", "0.1 0.2 0.3 4 5 6", "1 2 3"),
        "similar.txt": head_line
        + one.format(0, "Similarity3DTransform", "0.1 0.2 0.3 4 5 6 1.1", "1 2 3"),
        "composite.tfm": head_line
        + "#Transform 0\nTransform: CompositeTransform_double_3_3\n"
        + one.format(1, "Euler3DTransform", "0.1 0.2 0.3 4 5 6", "1 2 3 0")
        + one.format(2, "TranslationTransform", "4 5 6", ""),
        "voxels.lta": "type = 0\nnxforms = 1\nmean = 0 0 0\nsigma = 1\n1 4 4\n"
        "1 0 0 2\n0 1 0 3\n0 0 1 4\n0 0 0 1\n"
        + "".join(
            f"{side} volume info\nvalid = 1\nfilename = x.mgz\nvolume = 12 10 8\n"
            "voxelsize = 2 2.5 3\nxras = -1 0 0\nyras = 0 0 -1\nzras = 0 1 0\n"
            "cras = 1 2 3\n"
            for side in ("src", "dst")
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        found.append([folder / name])
    return found


def priors(folder: Path) -> list[list[Path]]:
    """Write a prior in both kinds of file, and the figures of a cohort."""
    joint = np.add.outer(np.arange(1.0, 9), np.arange(8) ** 2)
    prior = Prior({name: joint / joint.sum() for name in CHANNELS}, 3)
    paths = [folder / "prior.json", folder / "prior.npz"]
    for path in paths:
        prior.write(path)
    one = contrast(mireg.Image(*an_image()))
    (folder / "cohort.json").write_text(cohort_text(cohort([one, one])))
    return [[path] for path in (*paths, folder / "cohort.json")]


def records(folder: Path) -> list[list[Path]]:
    """Write what a registration wrote, and the truth of a phantom."""
    head, affine = an_image()
    for name in ("fixed.nii", "moving.nii"):
        nib.save(nib.Nifti1Image(head, affine), folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MiregWarning)
        found = mireg.register(folder / "fixed.nii", folder / "moving.nii")
    found.save(folder / "found", image=False)
    return [[folder / "found.json", folder / "fixed.nii", folder / "moving.nii"]]


def tables(folder: Path) -> list[list[Path]]:
    """Write the table that a prior is learned from."""
    rows = [["fixed", "moving", "transform"], ["a.nii", "b.nii", "t.tfm"]]
    text = io.StringIO()
    csv.writer(text).writerows([*rows, ["c.nii", "d.nii", ""]])
    (folder / "pairs.csv").write_text(text.getvalue())
    return [[folder / "pairs.csv"]]


# --- what reads them --------------------------------------------------------


def command(*words: str | Path) -> None:
    """Run a command; it must end with 0, or with 2 and one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = mireg_main([str(word) for word in words])
    talk = err.getvalue().splitlines()
    if code not in (0, 2) or [line for line in talk if not line.startswith("mireg: ")]:
        raise AssertionError(f"code {code}, and on stderr: {err.getvalue()!r}")
    if sum(line.startswith("mireg: error:") for line in talk) != (code == 2):
        raise AssertionError(f"code {code}, and on stderr: {err.getvalue()!r}")
    for text in (*talk, *out.getvalue().split("\n")):
        if not text.isprintable():
            raise AssertionError(f"prints {text!r}")


def read_image(path: Path, _folder: Path) -> None:
    """Read an image, and look at it."""
    np.isfinite(mireg.read_image(path).data).all()


def read_grid(path: Path, _folder: Path) -> None:
    """Read where the voxels are."""
    _ = formats.read_grid(path).corners_mm


def read_mask(path: Path, _folder: Path) -> None:
    """Read an image as a mask."""
    formats.read_mask(path)


def read_opened(path: Path, _folder: Path) -> None:
    """Take what nibabel has opened."""
    try:
        opened = nib.load(path)
    except Exception:  # its own concern
        return
    finally:
        tracemalloc.reset_peak()
    if isinstance(opened, nib.spatialimages.SpatialImage):
        mireg.read_image(opened)


def inspect(path: Path, _folder: Path) -> None:
    """Run ``mireg inspect``."""
    command("inspect", path)


def write_like(path: Path, folder: Path) -> None:
    """Write an image over its own header."""
    opened = formats.open_nibabel(path)
    mireg.write_image(folder / "out.nii.gz", path, template=path)
    with (folder / "in place.nii").open("wb") as file:
        nifti.dump_in_place(file, "in place.nii", opened, np.eye(4))


def bring_onto(path: Path, folder: Path) -> None:
    """Move an image onto a grid."""
    words = ("--like", path, "-t", folder / "one.npy", "-o", folder / "onto.nii")
    command("apply", path, *words)


def register(path: Path, folder: Path) -> None:
    """Register an image with itself."""
    words = ("-o", folder / "out", "--init", "header", "-q", "--header-only")
    command("register", path, path, *words)


def read_transform(path: Path, _folder: Path) -> None:
    """Read a transform with no image; what is read can be said."""
    repr(mireg.read_transform(path))


def read_with_images(path: Path, folder: Path) -> None:
    """Read a transform with its images; what is read can be written."""
    image = folder / "grid.nii"
    found = mireg.read_transform(path, fixed=image, moving=image)
    for name in ("a.tfm", "a.lta", "a.aff12.1D", "a.npy", "a.json"):
        found.save(folder / name, fixed=image, moving=image, force=True)
        again = mireg.read_transform(folder / name, fixed=image, moving=image)
        scale = 1 + abs(found.matrix).max()
        assert abs(again.matrix - found.matrix).max() < 1e-6 * scale, name


def convert(path: Path, folder: Path) -> None:
    """Run ``mireg convert``."""
    command("convert", path, folder / "out.tfm", "--force")


def read_prior(path: Path, _folder: Path) -> None:
    """Read a prior."""
    Prior.read(path)


def read_a_cohort(path: Path, _folder: Path) -> None:
    """Read the figures of a cohort."""
    read_cohort(path)


def read_record(path: Path, folder: Path) -> None:
    """Read a record, and write it again."""
    found = mireg.Registration.load(path)
    repr(found)
    found.save(folder / "again", image=False, force=True)


def read_images_of_record(path: Path, _folder: Path) -> None:
    """Read a record, and the images that it names."""
    found = mireg.Registration.load(path)
    repr((found.fixed, found.moving))


def read_table(path: Path, folder: Path) -> None:
    """Run ``mireg prior learn``."""
    command("prior", "learn", path, "-o", folder / "prior.json", "-q")


KINDS = {
    "images": Kind(
        images,
        (
            *(read_image,) * 4,
            *(read_grid,) * 4,
            *(read_opened,) * 3,
            *(read_mask, inspect, write_like, write_like, bring_onto),
        ),
    ),
    "transforms": Kind(transforms, (read_transform, read_with_images, convert)),
    "priors": Kind(priors, (read_prior, read_a_cohort)),
    "records": Kind(records, (read_record, read_images_of_record, read_transform)),
    "tables": Kind(tables, (read_table,)),
}

#: How many cases of 20 are of a kind.
SHARES = {"images": 11, "transforms": 5, "priors": 2, "records": 1, "tables": 1}


# --- damage -----------------------------------------------------------------


def damage(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to four ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        content = rng.choice(WAYS)(content, rng)
    return content


def flip(content: bytes, rng: random.Random) -> bytes:
    """Flip some bits, most often in the header."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[place(len(changed), rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def put(content: bytes, rng: random.Random) -> bytes:
    """Put an odd number where one may be."""
    form = rng.choice("<>") + rng.choice(STRUCTS)
    number = rng.choice(NUMBERS)
    size = struct.calcsize(form)
    if form[1] not in "fd":
        number = int(number) if abs(number) < 2**64 else 0  # NaN is not less
        bits = 8 * size
        number &= (1 << bits) - 1
        if form[1].islower() and number >> (bits - 1):
            number -= 1 << bits
    elif form[1] == "f" and 3e38 < abs(number) < float("inf"):
        number = 3e38
    at = place(len(content), rng)
    at -= at % rng.choice((1, 2, size))
    return content[:at] + struct.pack(form, number) + content[at + size :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cut a piece out, or the end off."""
    at = place(len(content), rng)
    if rng.random() < 0.5:
        return content[:at]
    return content[:at] + content[at + rng.choice((1, 2, 16, 400)) :]


def double(content: bytes, rng: random.Random) -> bytes:
    """Say a piece twice, or put noise in."""
    at = place(len(content), rng)
    size = rng.choice((1, 4, 60, 1000))
    piece = content[at : at + size]
    if rng.random() < 0.5:
        piece = rng.randbytes(size)
    return content[:at] + piece + content[at:]


def clear(content: bytes, rng: random.Random) -> bytes:
    """Overwrite a piece with one byte."""
    at, size = place(len(content), rng), rng.choice((2, 8, 100))
    byte = bytes([rng.choice((0, 255, 32, 10, 27))])
    piece = content[at : at + size]
    return content[:at] + byte * len(piece) + content[at + len(piece) :]


def reword(content: bytes, rng: random.Random) -> bytes:
    """Put an odd word for one of a text, or for a whole line."""
    by_line = rng.random() < 0.3
    words = [
        *re.finditer(rb"[^\n]+" if by_line else rb"[^\s,\[\]{}:]+", content[:8192])
    ]
    if not words:
        return content
    word = rng.choice(words)
    other = rng.choice(WORDS).encode("utf-8", "surrogateescape")
    if rng.random() < 0.2:
        other = rng.choice(words)[0]
    return content[: word.start()] + other + content[word.end() :]


WAYS = (flip, flip, put, put, put, cut, double, clear, reword, reword, reword)


def place(size: int, rng: random.Random) -> int:
    """Choose a place in a file, most often in the header."""
    return rng.randrange(max(1, min(size, rng.choice((348, 348, 560, size, size)))))


def damaged(path: Path, content: bytes, rng: random.Random) -> bytes:
    """Damage a file: what is in it where it is compressed, or as it is."""
    inner = rng.random() < 0.75
    if path.suffix in (".gz", ".mgz") and inner:
        return gzip.compress(damage(gzip.decompress(content), rng), 1)
    if path.suffix == ".npz" and inner:
        packed = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(content)) as old,
            zipfile.ZipFile(packed, "w") as new,
        ):
            names = old.namelist()
            hit = rng.choice(names)
            for name in names:
                inside = old.read(name)
                new.writestr(name, damage(inside, rng) if name == hit else inside)
        return packed.getvalue()
    return damage(content, rng)


# --- the cases --------------------------------------------------------------


class Cases:
    """The cases of one kind: made, run, judged."""

    def __init__(self, name: str, seed: int, root: Path) -> None:
        self.name, self.seed, self.root = name, seed, root
        folder = root / f"{name} seeds"
        folder.mkdir()
        self._files = [
            [(path.name, path.read_bytes()) for path in paths]
            for paths in KINDS[name].seeds(folder)
        ]
        self.folder = root / name
        self.folder.mkdir()
        np.save(self.folder / "one.npy", np.eye(4))
        if (folder / "grid.nii").exists():
            (self.folder / "grid.nii").write_bytes((folder / "grid.nii").read_bytes())
        self._kept = {path.name for path in self.folder.iterdir()}

    def make(self, number: int) -> tuple[Path, Callable[[Path, Path], Any], int]:
        """Make the files of a case; also say how they are read, and what they hold."""
        rng = random.Random(f"{self.seed} {self.name} {number}")
        for path in self.folder.iterdir():
            if path.name not in self._kept:
                path.unlink()
        files = rng.choice(self._files) if number else self._files[0]
        hit = rng.choice([0, 0, len(files) - 1]) if number else -1
        holds = 0
        for i, (name, content) in enumerate(files):
            path = self.folder / name
            if len(content) > 1 << 20 and rng.random() < 0.9:  # few of the large ones
                return self.make(number + 10**9)
            made = damaged(path, content, rng) if i == hit else content
            path.write_bytes(made)
            zipped = path.suffix in (".gz", ".mgz")
            holds += len(made) * (MOST_GZIP_SHRINKS if zipped else 1)
        first = files[0][0]
        path = self.folder / first
        if rng.random() < 0.03:
            path = path.rename(self.folder / rng.choice(("a.nii", "a.nii.gz", "a.mgz")))
        return path, rng.choice(KINDS[self.name].uses), holds

    def warm(self) -> None:
        """Load and compile whatever is loaded, or compiled, at the first time."""
        for use in dict.fromkeys(KINDS[self.name].uses):
            path, _, _ = self.make(0)
            with warnings.catch_warnings(), contextlib.suppress(MiregError):
                warnings.simplefilter("ignore")
                use(path, self.folder)

    def run(self, number: int, *, limit: bool = True) -> str | None:
        """Run a case; say what is wrong with how it ended, or nothing."""
        path, use, holds = self.make(number)
        nibabel_says = io.StringIO()
        handler = logging.StreamHandler(nibabel_says)
        logging.getLogger("nibabel.global").addHandler(handler)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        wrong = None
        try:
            with alarm(), warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                # Python hides these: nibabel leaves files to be closed.
                warnings.simplefilter("ignore", ResourceWarning)
                try:
                    use(path, self.folder)
                except MiregError as error:
                    message = str(error)
                    if not message.isprintable():
                        wrong = f"an error that is no line: {message!r}"
                    if "not enough memory" in message:
                        wrong = f"runs out of memory: {message}"
        except Hang:
            wrong = f"hangs: {innermost(sys.exc_info()[2])}"
        except Exception as error:
            where = innermost(error.__traceback__)
            wrong = f"{type(error).__name__} at {where}: {str(error)[:200]}"
            if not limit:
                traceback.print_exc()
        finally:
            logging.getLogger("nibabel.global").removeHandler(handler)
        took = tracemalloc.get_traced_memory()[1] - before
        if wrong is None and took > 3 * holds + MARGIN:
            wrong = f"takes {took >> 20} MiB for {holds >> 10} KiB"
        if wrong is None and use is not read_opened and nibabel_says.getvalue():
            wrong = f"nibabel says {nibabel_says.getvalue()[:200]!r}"
        for one in told:
            known = issubclass(one.category, MiregWarning)
            if use is read_opened and "nibabel" in one.filename:
                continue
            if wrong is None and not (known and str(one.message).isprintable()):
                wrong = f"warns {one.category.__name__}: {str(one.message)[:200]!r}"
        return None if wrong is None else f"{use.__name__}: {wrong}"


def innermost(trace: Any) -> str:
    """Say where in mireg an error came from."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "mireg" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """Let no case hang."""

    def ring(_number: int, _frame: Any) -> None:
        raise Hang

    faulthandler.dump_traceback_later(DEAD_S, exit=True)
    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        faulthandler.cancel_dump_traceback_later()


def limit_memory() -> None:
    """Let no case take much more than there is now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def fuzz(
    kinds: Iterable[str], count: int, seed: int, root: Path, *, first: int = 1
) -> Iterator[tuple[str, int, str]]:
    """Run cases from the first number on, and yield what is wrong with which."""
    cases = {name: Cases(name, seed, root) for name in kinds}
    turns = [name for name in cases for _ in range(SHARES[name])]
    for one in cases.values():
        one.warm()
    tracemalloc.start()
    limit_memory()
    for number in range(first, first + count):
        name = turns[(number - 1) % len(turns)]
        wrong = cases[name].run(number)
        if wrong is not None:
            yield name, number, wrong


def main() -> int:
    """Run the cases, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="how many cases")
    parser.add_argument("--first", type=int, default=1, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="[all]")
    parser.add_argument("--only", type=int, help="one case of one --kind, in full")
    args = parser.parse_args()
    faulthandler.enable()
    kinds = args.kind or [*KINDS]
    root = Path(tempfile.mkdtemp(prefix="mireg-fuzz-"))
    print(f"files are in {root}", flush=True)
    if args.only is not None:
        wrong = Cases(kinds[0], args.seed, root).run(args.only, limit=False)
        print(wrong or "all is well")
        return int(wrong is not None)
    began = time.monotonic()
    seen: Counter[str] = Counter()
    for name, number, wrong in fuzz(
        kinds, args.count, args.seed, root, first=args.first
    ):
        sort = re.sub(r"[\d.]+(?! \w+$)|'.*'|/\S+", "_", wrong)
        seen[sort] += 1
        if seen[sort] <= 3:
            print(f"{name} {number}: {wrong}", flush=True)
    for sort, times in seen.most_common():
        print(f"{times:6} x {sort}")
    took = time.monotonic() - began
    print(
        json.dumps(
            {
                "first": args.first,
                "cases": args.count,
                "seconds": round(took, 1),
                "wrong": seen.total(),
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                // 1024,
            }
        )
    )
    if not seen:
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        root.rmdir()
    return int(bool(seen))


if __name__ == "__main__":
    sys.exit(main())
