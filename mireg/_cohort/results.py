"""The results of all pairs: a table, what its columns are, and what to leave out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from .._contrast import Cohort, Contrast, Histogram, cohort, compare
from .._engine.verdict import DOUBT
from .._errors import InputError
from .._files import bids
from .._files.records import to_json
from .._files.writing import new_file, new_files
from .._report.document import data_url
from .._report.index import index
from .state import Outcome, picture_file

#: Numbers further from the median than this many robust standard deviations stand out;
#: 3.5 is what Iglewicz and Hoaglin propose (How to detect and handle outliers, 1993).
OUTLIER = 3.5

#: A distribution of fewer pairs than this has no outliers worth the name.
_FEWEST = 8


@dataclass(frozen=True)
class Column:
    """A column of ``results.tsv``: what it is, its unit, whether it is a figure."""

    about: str
    unit: str = ""
    figure: bool = False


#: What ``results.tsv`` holds, in this order.
COLUMNS = {
    "id": Column("Name of the pair, and of its folder"),
    "status": Column("done, or failed: then message says why"),
    "verdict": Column("right, doubtful, or failed, as mireg judges it"),
    "decision": Column("keep or drop, as a person decided in exclude.tsv"),
    "probability": Column("Probability that the transform is right", figure=True),
    "expected_error_mm": Column("Expected error of the transform", "mm", True),
    "handedness": Column("Whether left is left, as far as the images tell"),
    "standard_error_mm": Column("Error expected from noise alone", "mm", True),
    "runner_up": Column(
        "What the best pose elsewhere explains, as a share of the answer", "", True
    ),
    "reasons": Column("Why it may be wrong, and what was odd about the images"),
    "rotation_deg": Column("Angle of the rotation", "deg", True),
    "translation_mm": Column(
        "Length of the translation about the centre of the fixed foreground", "mm", True
    ),
    "mean_displacement_mm": Column("How far the head moved on average", "mm", True),
    "max_displacement_mm": Column("How far the head moved at most", "mm", True),
    "overlap_fraction": Column("Share of the compared points in both", "", True),
    "metric": Column("Similarity that was maximised"),
    "initial_score": Column("Similarity by the headers", "", True),
    "score": Column("Similarity at the answer", "", True),
    "fixed_contrast_bits": Column(
        "KL contrast score of the fixed image: 0 is best", "bit", True
    ),
    "fixed_js_bits": Column(
        "Jensen-Shannon divergence of the fixed image's histogram from its cohort's",
        "bit",
        True,
    ),
    "fixed_wasserstein": Column(
        "Wasserstein distance of the same, as a share of the axis", "", True
    ),
    "moving_contrast_bits": Column(
        "KL contrast score of the moving image: 0 is best", "bit", True
    ),
    "moving_js_bits": Column(
        "Jensen-Shannon divergence of the moving image's histogram from its cohort's",
        "bit",
        True,
    ),
    "moving_wasserstein": Column(
        "Wasserstein distance of the same, as a share of the axis", "", True
    ),
    "outlier_in": Column("Figures in which the pair stands out from the others"),
    "seconds": Column("Wall time", "s", True),
    "peak_mb": Column(
        "Most memory of its process while it worked on the pair, with what the process "
        "holds anyway; where the system cannot tell (not Linux), up to its end",
        "MB",
        True,
    ),
    "record": Column("Record of the registration, seen from here"),
    "message": Column("Why it failed"),
}

#: The page on all shows pictures of so many pairs, the worst: with those of 100,000 no
#: browser would open it.
MOST_PICTURES = 2000

#: Figures of which an outlier is worth a look.
_WATCHED = (
    *("standard_error_mm", "expected_error_mm", "mean_displacement_mm"),
    *("fixed_contrast_bits", "fixed_js_bits", "fixed_wasserstein"),
    *("moving_contrast_bits", "moving_js_bits", "moving_wasserstein"),
)

#: What a person may decide.
DECISIONS = ("keep", "drop")


def figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """Take the figures of a pair from its record."""
    # Seconds are those of the whole pair, which the outcome has.
    names = (name for name in COLUMNS if name not in ("id", "seconds"))
    row = {name: record[name] for name in names if name in record}
    verdict = record["verdict"]
    row["probability"] = verdict["probability"]
    row["expected_error_mm"] = verdict["error_mm"]
    row["handedness"] = verdict["handedness"]
    row["verdict"] = "doubtful" if record["doubtful"] else "right"
    reasons, notes = verdict["reasons"], record["warnings"]
    if reasons:  # the note on doubt says them again
        notes = [note for note in notes if not note.startswith(DOUBT)]
    row["reasons"] = "; ".join([*reasons, *notes])
    row["translation_mm"] = math.hypot(*record["translation_mm"])
    for role in ("fixed", "moving"):
        row[f"{role}_contrast_bits"] = record[role]["contrast"]["score_bits"]
    return row


def histograms(record: Mapping[str, Any]) -> dict[str, tuple[str, Contrast]]:
    """Take both images' contrast from a record, and what kind of scan each is."""
    found = {}
    for role in ("fixed", "moving"):
        of = record[role]["contrast"]
        name = bids.parse(record[role]["path"] or "")
        kind = name.suffix if name else role
        contrast = Contrast(
            score=of["score_bits"],
            structure=of["structure"],
            whole=Histogram(np.array(of["whole_histogram"])),
            foreground=Histogram(np.array(of["foreground_histogram"])),
            foreground_fraction=of["foreground_fraction"],
            limits=(of["low"], of["high"]),
        )
        found[role] = (kind, contrast)
    return found


def table(
    outcomes: Sequence[Outcome], root: Path, decisions: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Make the rows of ``results.tsv``, with each scan held against its cohort.

    Parameters
    ----------
    outcomes : sequence of Outcome
        In the order of the table.
    root : Path
        Folder of the results.
    decisions : mapping of str to str
        What a person decided, by pair.
    """
    rows = []
    scans: dict[str, dict[str, tuple[str, Contrast]]] = {}
    for outcome in outcomes:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row.update(outcome.row)
        row.update(
            id=outcome.id,
            status=outcome.status,
            decision=decisions.get(outcome.id),
            seconds=round(outcome.seconds, 3),
            peak_mb=round(outcome.peak_mb, 1),
            record=outcome.record,
            message=outcome.message or None,
        )
        if outcome.status == "failed":
            row["verdict"] = "failed"
        elif outcome.record:
            try:
                content = json.loads((root / outcome.record).read_bytes())
                scans[outcome.id] = histograms(content)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # somebody removed it meanwhile
        rows.append(row)
    learnt = _cohorts(scans.values())
    for row in rows:
        for role, (kind, contrast) in scans.get(row["id"], {}).items():
            beside = compare(contrast, learnt[kind])
            row[f"{role}_js_bits"] = beside.js
            row[f"{role}_wasserstein"] = beside.wasserstein
    for row, names in zip(rows, _outliers(rows), strict=True):
        row["outlier_in"] = ", ".join(names) or None
    return rows


def _cohorts(
    scans: Iterable[Mapping[str, tuple[str, Contrast]]],
) -> dict[str, Cohort]:
    """Learn what scans of each kind look like together."""
    kinds: dict[str, list[Contrast]] = {}
    for pair in scans:
        for kind, contrast in pair.values():
            kinds.setdefault(kind, []).append(contrast)
    return {kind: cohort(those) for kind, those in kinds.items()}


def _outliers(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Name the figures in which each pair stands out upwards: all mean trouble there.

    By the modified z-score: the distance from the median in robust standard deviations,
    1.4826 times the median distance.
    """
    found: list[list[str]] = [[] for _ in rows]
    for name in _WATCHED:
        values = np.array(
            [np.nan if row[name] is None else row[name] for row in rows], np.float64
        )
        known = values[np.isfinite(values)]
        if known.size < _FEWEST:
            continue
        middle = np.median(known)
        spread = 1.4826 * np.median(np.abs(known - middle))
        # Where more than half are equal, rounding must make no outlier.
        spread = max(spread, 1e-3 * abs(middle))
        for names, value in zip(found, values, strict=True):
            if value - middle > OUTLIER * spread > 0:
                names.append(name)
    return found


def write_all(
    root: Path, outcomes: Sequence[Outcome], decisions: Mapping[str, str]
) -> None:
    """Write the tables and the page on all pairs."""
    rows = table(outcomes, root, decisions)
    write_tables(root, rows)
    pictures, links = {}, {}
    for row in sorted(rows, key=_worst_first)[:MOST_PICTURES]:
        try:
            content = picture_file(root, row["id"]).read_bytes()
            pictures[row["id"]] = data_url("image/jpeg", content)
        except OSError:
            pass  # there is none of a pair that failed
    for outcome in outcomes:
        if outcome.record:
            page = Path(outcome.record).with_suffix(".html")
            there = page if (root / page).is_file() else Path(outcome.record)
            links[outcome.id] = quote(there.as_posix())
    about = {name: asdict(column) for name, column in COLUMNS.items()}
    title = f"Registrations in {root.absolute().name}"
    page_of_all = index(title, rows, about, pictures=pictures, links=links)
    with new_file(root / "index.html", force=True) as file:
        file.write(page_of_all.encode("utf-8", "backslashreplace"))


def _worst_first(row: Mapping[str, Any]) -> tuple[bool, bool, float]:
    """Sort those first that are to be looked at first."""
    is_right, is_usual = row["verdict"] == "right", not row["outlier_in"]
    return is_right, is_usual, row["probability"] or 0.0


def write_tables(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``results.tsv`` and what its columns are, ``results.json``; both or none.

    `exclude.tsv` goes with them: what is doubtful or failed, and what a person said.
    """
    about = {
        name: {
            "Description": column.about,
            **({"Units": column.unit} if column.unit else {}),
        }
        for name, column in COLUMNS.items()
    }
    excluded = read_decisions(root)
    lines = []
    for row in rows:
        decision, comment = excluded.get(row["id"], ("", ""))
        if row["verdict"] != "right" or decision or comment:
            why = row["message"] or row["reasons"]
            lines.append((row["id"], decision, row["verdict"], why, comment))
    made = {
        "results.tsv": _tsv(COLUMNS, [[row[name] for name in COLUMNS] for row in rows]),
        "results.json": to_json(about),
        "exclude.tsv": _tsv(EXCLUDE, lines),
    }
    with new_files([root / name for name in made], force=True) as files:
        for name, content in made.items():
            files[root / name].write(content.encode())


#: Columns of ``exclude.tsv``; a person fills the second and the last.
EXCLUDE = ("id", "decision", "verdict", "reason", "comment")


def read_decisions(root: Path) -> dict[str, tuple[str, str]]:
    """Read what a person decided: decision and comment, by pair.

    Raises
    ------
    InputError
        If the file is none of ours, or a decision is neither keep nor drop.
    """
    path = root / "exclude.tsv"
    if not path.exists():
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); repair it") from error
    found = {}
    for number, row in enumerate(rows, 2):
        decision = (row.get("decision") or "").strip().lower()
        if "id" not in row or decision not in ("", "n/a", *DECISIONS):
            raise InputError(
                f"{path}, line {number}: the decision is {decision!r}; write keep or "
                "drop, or leave it empty; columns are separated by tabs"
            )
        comment = (row.get("comment") or "").strip()
        decision = "" if decision == "n/a" else decision
        found[row["id"]] = (decision, "" if comment == "n/a" else comment)
    return found


def _tsv(names: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table as BIDS has it: tabs, ``n/a`` for what is not known."""
    lines = ["\t".join(names)]
    lines += ["\t".join(map(_cell, row)) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    """Write a value; no tab or line break of a text makes another cell."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "n/a"
    text = " ".join(str(value).split())
    # A spreadsheet would take it for a formula.
    return f"'{text}" if text[0] in "=+-@" and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
