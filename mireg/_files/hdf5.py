"""HDF5 files, looked at by another process first: damage can crash the library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .._errors import InputError

#: Seconds of processor time that a look may take, and of time where that cannot be
#: limited: one damaged byte can keep the library busy for ever.
_MOST_BUSY_S, _MOST_S = 4, 60

#: Looks at all that is small in a file, and at the first number of what is large.
_LOOK = """
import io, sys
busy, file, sys.path[:] = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (busy, busy))
except (ImportError, OSError, ValueError):  # on Windows, or it is limited already
    pass
import h5py
def tried(get, key):
    try:
        get(key)
    except Exception:
        pass
def look(_, node):
    for key in node.attrs:
        tried(node.attrs.__getitem__, key)
    if isinstance(node, h5py.Dataset) and node.shape is not None:
        tried(node.__getitem__, () if node.size < 1 << 20 else (0,) * node.ndim)
with h5py.File(file or io.BytesIO(sys.stdin.buffer.read()), "r") as opened:
    tried(lambda _: look(_, opened), "")
    opened.visititems(lambda *one: tried(lambda _: look(*one), ""))
"""


def h5py() -> Any:
    """Import what reads and writes HDF5, which is not installed by default."""
    try:
        import h5py  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            "HDF5 files need h5py, which is not installed; get it by: pip install h5py"
        ) from error
    return h5py


@contextmanager
def opened_hdf5(file: BinaryIO) -> Iterator[Any]:
    """Open an HDF5 file to be read, once it has been looked at."""
    library = h5py()
    check_hdf5(file)
    with library.File(file, "r") as opened:
        yield opened


def check_hdf5(file: BinaryIO) -> None:
    """Refuse a file that is damaged so that the library crashes, or hangs.

    What it merely complains of is left to whoever reads the file.
    """
    # Few files are of HDF5.
    import subprocess  # noqa: PLC0415

    if not sys.executable or getattr(sys, "frozen", False):  # no Python to be called
        return
    held = getattr(file, "name", None)  # a path, of what is a file
    name = held if isinstance(held, str) else ""
    try:
        done = subprocess.run(
            # Isolated: no module is taken from the folder where the user happens to be.
            [sys.executable, "-I", "-c", _LOOK, str(_MOST_BUSY_S), name, *sys.path],
            input=None if name else file.read(),
            stdin=subprocess.DEVNULL if name else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_MOST_S,
            check=False,
        )
        crashed = done.returncode not in (0, 1)
    except subprocess.TimeoutExpired:
        crashed = True
    except OSError:  # no other process may be started
        return
    file.seek(0)
    if crashed:
        raise InputError("damaged: the HDF5 library cannot read it; export it again")
