"""What is done already: one small file a pair, written last of all its files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from .._errors import InputError
from .._files import formats
from .._files.records import to_json
from .._files.writing import new_file

#: What the file of a pair says that it is.
_SCHEMA = "mireg-pair/1"

#: Folder below that of the results in which the files of the pairs lie.
FOLDER = ".mireg"

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class Task:
    """One pair to register: plain data, for any process.

    Attributes
    ----------
    id : str
        Its name, also that of its folder.
    files : mapping of str to str
        Paths of its inputs, by role: fixed, moving, fixed_mask, ...
    arguments : tuple of str
        Options of ``mireg register``, besides the two images, inputs and outputs.
    output : str
        Folder of its results.
    root : str
        Folder of the results of all.
    where : str
        Where it was asked for, such as a line of a table; for messages.
    """

    id: str
    files: Mapping[str, str]
    arguments: tuple[str, ...]
    output: str
    root: str
    where: str = ""

    @property
    def state_file(self) -> Path:
        """Where is written what became of it."""
        return Path(self.root, FOLDER, f"{self.id}.json")

    @property
    def picture_file(self) -> Path:
        """Where a small picture of it is."""
        return picture_file(Path(self.root), self.id)

    @property
    def log_file(self) -> Path:
        """Where is written what ``mireg register`` said."""
        return Path(self.root, "logs", f"{self.id}.txt")


@dataclass(frozen=True)
class Outcome:
    """What became of a pair.

    Attributes
    ----------
    id : str
        The pair.
    status : {"done", "failed"}
        Whether there is a registration; it may be doubtful.
    message : str
        Why it failed, in one line.
    row : mapping
        Its figures, by the columns of ``results.tsv``.
    record : str or None
        Its record, relative to the folder of all results.
    seconds, peak_mb : float
        What it took.
    """

    id: str
    status: Status
    message: str
    row: Mapping[str, Any]
    record: str | None
    seconds: float
    peak_mb: float


def picture_file(root: Path, pair: str) -> Path:
    """Where the small picture of a pair is."""
    return root / FOLDER / f"{pair}.jpg"


def known(task: Task) -> Outcome | None:
    """Give what became of a pair earlier, if it was asked the same way.

    The same are: the content of all inputs, the options, the version of mireg, and that
    the record is there. A file of the same size and time of change is not read again.
    """
    try:
        found = json.loads(task.state_file.read_bytes())
        if found["schema"] != _SCHEMA or found["mireg_version"] != __version__:
            return None
        if found["arguments"] != list(task.arguments):
            return None
        outcome = Outcome(**found["outcome"])
        if outcome.record and not Path(task.root, outcome.record).is_file():
            return None
        before = found["files"]
        if before.keys() != task.files.keys():
            return None
        same = all(_is_same(path, before[role]) for role, path in task.files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return outcome if same else None


def remember(
    task: Task,
    outcome: Outcome,
    digests: Mapping[str, str | None] | None = None,
    *,
    lasting: bool = True,
) -> None:
    """Write what became of a pair.

    Parameters
    ----------
    task, outcome
        The pair.
    digests : mapping of str to str, optional
        SHA-256 of inputs that are known, by role; others are read.
    lasting : bool, optional
        False for what has nothing to do with the pair, such as a full disk: it is in
        the tables, and the next run does the pair again. No input is read.
    """
    digests = digests or {}
    state = {
        "schema": _SCHEMA,
        "mireg_version": __version__,
        "arguments": list(task.arguments),
        "files": {
            role: _identity(path, digests.get(role))
            for role, path in (task.files if lasting else {}).items()
        },
        "outcome": asdict(outcome),
    }
    with new_file(task.state_file, force=True) as file:
        file.write(to_json(state).encode())


def _identity(path: str, digest: str | None) -> dict[str, Any] | None:
    """Tell a file from any other; None where there is none."""
    try:
        found = os.stat(path)
        digest = digest or formats.sha256(Path(path))
    except (OSError, InputError):
        return None
    return {"size": found.st_size, "changed_ns": found.st_mtime_ns, "sha256": digest}


def _is_same(path: str, before: dict[str, Any] | None) -> bool:
    """Tell whether a file is as it was; what is no file is so for good."""
    try:
        found = os.stat(path)
    except OSError:
        return before is None
    if not stat.S_ISREG(found.st_mode):
        return before is None
    if before is None or found.st_size != before["size"]:
        return False
    if found.st_mtime_ns == before["changed_ns"]:
        return True
    return formats.sha256(Path(path)) == before["sha256"]


def all_outcomes(root: Path) -> list[Outcome]:
    """Give what became of all pairs of a folder, by name; whoever did them."""
    found = []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found.append(Outcome(**json.loads(path.read_bytes())["outcome"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not the state of a pair; remove it, and the pair is done anew"
            ) from error
    return found
