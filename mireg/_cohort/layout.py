"""Which images of a BIDS data set belong together.

Few lines of our own: what is needed is which images a session has, and the libraries
that index data sets read every sidecar for that, which takes minutes for a large one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._errors import InputError, MissingFileError, not_read
from .._files import bids
from .._files.bids import BidsName

#: Folders of images of the head as it lay in the scanner; field maps have none.
_KINDS = ("anat", "func", "dwi", "perf", "pet")

#: What is no image to register: labels, and maps without anatomy.
_NOT_MOVING = ("defacemask", "mask", "dseg", "probseg", "phase", "aslcontext")

#: Names of entities in a filter file, as other tools of BIDS have them.
_LONG_NAMES = {
    **{"subject": "sub", "session": "ses", "acquisition": "acq"},
    **{"reconstruction": "rec", "ceagent": "ce", "tracer": "trc", "direction": "dir"},
}


@dataclass(frozen=True)
class Scan:
    """An image of a data set.

    Attributes
    ----------
    path : Path
        The file.
    name : BidsName
        Its name, taken apart.
    kind : str
        Its folder: anat, func, ...
    """

    path: Path
    name: BidsName
    kind: str


@dataclass(frozen=True)
class ScanPair:
    """Two images of one person, and where the results belong.

    Attributes
    ----------
    fixed, moving : Path
        The images.
    id : str
        Name of the pair: that of the moving image.
    folder : str
        Where a derived data set holds its results, from its root.
    """

    fixed: Path
    moving: Path
    id: str
    folder: str


def find_pairs(
    root: Path,
    *,
    fixed: Sequence[str] = ("T1w",),
    participants: Collection[str] = (),
    sessions: Collection[str] = (),
    filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[ScanPair], list[str]]:
    """Pair the images of each session with its anatomical one.

    Parameters
    ----------
    root : Path
        The data set.
    fixed : sequence of str
        Suffixes of the image to register to, the first that there is; of several the
        first by name. Where a session has none, that of the person's first session.
    participants, sessions : collection of str
        Labels, with or without ``sub-`` and ``ses-``; all if empty.
    filters : mapping of str to mapping
        Entities that images must have, by suffix in lower case (as ``t1w``, ``bold``).

    Returns
    -------
    list of ScanPair
        By participant, session and name.
    list of str
        What was left out, and why.

    Raises
    ------
    InputError
        If this is no data set, or a participant is not in it.

    Notes
    -----
    A series that has a single-band reference is represented by it; of several echoes
    by the first; a phase image by its magnitude.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: there is no such folder; check the path")
    people = sorted(path for path in root.glob("sub-*") if path.is_dir())
    if not people:
        raise InputError(
            f"{root}: holds no folders sub-*, so it is not the root of a BIDS data "
            "set; give the root"
        )
    wanted = [label.removeprefix("sub-") for label in participants]
    known = {path.name.removeprefix("sub-") for path in people}
    missing = [label for label in wanted if label not in known]
    if missing:
        raise InputError(f"{root}: there is no sub-{missing[0]}; check the label")
    visits = [label.removeprefix("ses-") for label in sessions]
    pairs: list[ScanPair] = []
    notes: list[str] = []
    for person in people:
        if wanted and person.name.removeprefix("sub-") not in wanted:
            continue
        scans = [scan for scan in _scans(person) if _passes(scan, filters or {})]
        for visit in sorted({scan.name.get("ses") for scan in scans}):
            if visits and visit not in visits:
                continue
            here = [scan for scan in scans if scan.name.get("ses") == visit]
            target = _target(here, fixed) or _target(scans, fixed)
            name = "_".join([person.name, *([f"ses-{visit}"] if visit else [])])
            if target is None:
                notes.append(
                    f"{name}: left out, as it has no {' or '.join(fixed)} to register "
                    "to; name another kind with --fixed"
                )
                continue
            pairs += [
                _pair(target, scan)
                for scan in _moving(here)
                if scan.path != target.path
            ]
    return pairs, notes


def read_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a filter file as fMRIPrep has it: entities by kind of image.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{path}: there is no such file; check the path"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: {not_read(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error}); repair it") from error
    if not isinstance(found, dict) or not all(
        isinstance(entities, dict) for entities in found.values()
    ):
        raise InputError(
            f"{path}: does not hold entities by kind of image; write them as "
            '{"t1w": {"run": "1"}}'
        )
    return found


def _scans(person: Path) -> Iterator[Scan]:
    """Give the images of a person, by name."""
    folders = [person, *sorted(person.glob("ses-*"))]
    for folder in folders:
        for kind in _KINDS:
            for path in sorted((folder / kind).glob("*.nii*")):
                name = bids.parse(path.name)
                if name is not None and re.search(r"\.nii(\.gz)?$", path.name):
                    yield Scan(path, name, kind)


def _passes(scan: Scan, filters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether an image has the entities that a filter asks of its kind."""
    for key, wanted in filters.get(scan.name.suffix.lower(), {}).items():
        if key in ("datatype", "suffix", "extension"):  # a suffix tells them
            continue
        allowed = wanted if isinstance(wanted, list) else [wanted]
        has = scan.name.get(_LONG_NAMES.get(key, key))
        if has not in ["" if value is None else str(value) for value in allowed]:
            return False
    return True


def _target(scans: Sequence[Scan], fixed: Sequence[str]) -> Scan | None:
    """Choose the image to register to."""
    for suffix in fixed:
        for scan in scans:
            if scan.name.suffix == suffix and scan.name.get("part") in ("", "mag"):
                return scan
    return None


def _moving(scans: Sequence[Scan]) -> Iterator[Scan]:
    """Leave out what another image stands for."""
    references = {
        str(scan.name.without("echo", "part"))
        for scan in scans
        if scan.name.suffix == "sbref"
    }
    seen: set[str] = set()
    for scan in scans:
        name = scan.name
        if name.suffix in _NOT_MOVING or name.get("part") in ("phase", "imag"):
            continue
        bare = name.without("echo", "part")
        stem = str(bare).rpartition("_")[0]
        if name.suffix != "sbref" and f"{stem}_sbref" in references:
            continue
        if str(bare) not in seen:
            seen.add(str(bare))
            yield scan


def _pair(fixed: Scan, moving: Scan) -> ScanPair:
    """Say where the results of two images belong."""
    folders = [
        f"{key}-{moving.name.get(key)}"
        for key in ("sub", "ses")
        if moving.name.get(key)
    ]
    return ScanPair(
        fixed.path, moving.path, str(moving.name), "/".join([*folders, moving.kind])
    )
