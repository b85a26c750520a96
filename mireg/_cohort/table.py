"""The table of pairs: rows of a TSV or CSV file, checked before any work."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .._errors import InputError, MissingFileError, not_read

#: Columns that name files, by the role of the file.
FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "init", "prior")

#: Cells that hold nothing; the second is how BIDS writes it.
_EMPTY = ("", "n/a")

#: Values of `init` that are no file.
_NO_FILE = ("auto", "header", "identity", "centre")

#: A table of a million pairs has some 100 MB.
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class Row:
    """One pair of a table.

    Attributes
    ----------
    id : str
        Its name, which is that of its folder, too.
    files : mapping of str to Path
        Images, masks and so on, by column; those that were given.
    options : mapping of str to str
        Other options of ``mireg register``, by column.
    line : int
        Line of the table, from 1.
    """

    id: str
    files: Mapping[str, Path]
    options: Mapping[str, str]
    line: int


def read_table(path: str | Path, options: Collection[str]) -> list[Row]:
    """Read a table of pairs.

    Parameters
    ----------
    path : str or Path
        Tab-separated, or comma-separated if its first line has no tab. Paths in it are
        relative to its folder. Blanks around names and cells, empty lines and lines
        that begin with ``#`` do not matter; ``n/a`` is an empty cell.
    options : collection of str
        Options of ``mireg register`` that may be columns, with underscores.

    Returns
    -------
    list of Row

    Raises
    ------
    InputError
        Says line and column, what is wrong, and what to do.
    """
    path = Path(path)
    lines = _cells(path, _text(path))
    names = _header(path, next(lines, None), options)
    rows = []
    for line, cells in lines:
        where = f"{path}, line {line}"
        if len(cells) > len(names):
            raise InputError(
                f"{where}: has {len(cells)} cells, the header has {len(names)}; "
                "remove what is too much, or put cells that hold a comma into quotes"
            )
        given = {
            name: cell
            for name, cell in zip(names, cells, strict=False)
            if cell not in _EMPTY
        }
        rows.append(_row(where, line, given, path.parent))
    if not rows:
        raise InputError(f"{path}: holds no pairs; give a line for each")
    _check_distinct(path, rows)
    return rows


def _text(path: Path) -> str:
    """Read the file."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: too large for a table of pairs; split it")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{path}: there is no such file; check the path"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: {not_read(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file in UTF-8; save the table as TSV or CSV"
        ) from error


def _cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Give the cells of each line that holds any, with its number."""
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ","
    )
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not stripped[0].startswith("#"):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}; mend or quote the cell"
        ) from error


def _header(
    path: Path, line: tuple[int, list[str]] | None, options: Collection[str]
) -> list[str]:
    """Check the names of the columns."""
    known = ("id", *FILES, *options)
    names = [name.replace("-", "_").lower() for name in (line[1] if line else [])]
    for name in names if {"fixed", "moving"} & {*names} else ():
        if name not in known:
            raise InputError(
                f"{path}, line {line[0] if line else 1}: column {name!r} is not known; "
                f"choose one of {', '.join(dict.fromkeys(known))}"
            )
        if names.count(name) > 1:
            raise InputError(f"{path}: two columns are called {name!r}; remove one")
    for name in ("fixed", "moving"):
        if name not in names:
            raise InputError(
                f"{path}: there is no column {name!r}; the first line names the "
                "columns, fixed and moving at least, with tabs or commas between"
            )
    return names


def _row(where: str, line: int, given: dict[str, str], folder: Path) -> Row:
    """Make a row of its cells."""
    for name in ("fixed", "moving"):
        if name not in given:
            raise InputError(f"{where}, column {name}: empty; name an image")
    files = {
        name: folder / given[name]
        for name in FILES
        if name in given and not (name == "init" and given[name] in _NO_FILE)
    }
    pair = given.get("id") or "_to_".join(
        files[role].name.partition(".")[0] for role in ("moving", "fixed")
    )
    if not re.fullmatch(r"[\w+-][\w.+-]{0,199}", pair):
        raise InputError(
            f"{where}, column id: {pair!r} cannot name a folder; use letters, digits, "
            "dots, and _ - +"
        )
    options = {name: cell for name, cell in given.items() if name not in ("id", *files)}
    return Row(pair, files, options, line)


def _check_distinct(path: Path, rows: list[Row]) -> None:
    """Refuse two pairs of one name; some file systems do not tell case."""
    seen: dict[str, Row] = {}
    for row in rows:
        other = seen.setdefault(row.id.lower(), row)
        if other is not row:
            raise InputError(
                f"{path}, line {row.line}: the pair is called {row.id!r}, as that of "
                f"line {other.line}; give each an id of its own, in a column id"
            )
