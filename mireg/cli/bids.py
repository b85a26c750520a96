# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg bids``: all sessions of a BIDS data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import __version__
from .._errors import InputError, not_written
from . import many
from .common import say_note

#: What a derived data set says of itself.
_README = f"""\
# Rigid registrations by mireg {__version__}

Each image of a session was registered to the anatomical one of the same person. The
transforms are `*_xfm.txt` (ITK), with the record of the registration beside them.
`results.tsv` has a line for each pair, `results.json` says what is in it, and
`exclude.tsv` lists what is doubtful or failed; `mireg bids ... group` writes these, and
`index.html`, a page on all.
"""


@click.command(
    cls=many.ManyCommand,
    short_help="Register all images of a BIDS data set.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("bids_dir", type=click.Path(file_okay=False))
@click.argument("output_dir", type=click.Path(file_okay=False))
@click.argument("level", type=click.Choice(["participant", "group"]))
@click.option(
    "--participant-label",
    "participants",
    multiple=True,
    metavar="LABEL",
    help="Only these, with or without sub-; several with blanks or commas.",
)
@click.option(
    "--session-id",
    "sessions",
    multiple=True,
    metavar="LABEL",
    help="Only these, with or without ses-.",
)
@click.option(
    "--fixed",
    default="T1w",
    show_default=True,
    metavar="SUFFIXES",
    help="Image to register to, in order of preference, as T1w,T2w.",
)
@click.option(
    "--bids-filter-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Entities that images must have, by kind, in JSON, as fMRIPrep has it.",
)
@click.option(
    "-w",
    "--work-dir",
    type=click.Path(),
    metavar="DIR",
    help="Taken for the sake of scripts, and not used: nothing is kept there.",
)
@many.pool_options
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def bids(
    context: click.Context,
    /,
    *,
    bids_dir: str,
    output_dir: str,
    level: str,
    participants: Sequence[str],
    sessions: Sequence[str],
    fixed: str,
    bids_filter_file: str | None,
    options: Sequence[str],
    dry_run: bool,
    **how: Any,
) -> None:
    """Register the images of each session of a BIDS data set to its T1w.

    Every other image of the session is moving: T2w, FLAIR, bold, dwi, asl, pet, ... A
    series with a single-band reference is represented by it, several echoes by the
    first. Without a T1w in its session, that of the person's first one is taken.
    OPTIONS are options of mireg register, for all pairs.

    \b
    participant  registers, and writes derivatives of BIDS into OUTPUT_DIR
    group        writes results.tsv and exclude.tsv of what is there

    \b
    Example:
      mireg bids study study/derivatives/mireg participant --no-image
      mireg bids study study/derivatives/mireg group

    Stopped and begun again, it does what is missing. Several may run at a time, if
    each has participants of its own. Exit codes: 0 done, 3 some pairs failed.
    """
    from .._cohort import layout
    from .._cohort.state import Task

    del how["work_dir"]
    root = Path(output_dir)
    if level == "group":
        context.exit(many.tell_all(root, quiet=how["quiet"]))
    many.check_options(context, options)
    filters = layout.read_filters(Path(bids_filter_file)) if bids_filter_file else None
    pairs, notes = layout.find_pairs(
        Path(bids_dir),
        fixed=[suffix.strip() for suffix in fixed.split(",")],
        participants=_words(participants),
        sessions=_words(sessions),
        filters=filters,
    )
    for note in notes:
        say_note(note)
    tasks = [
        Task(
            pair.id,
            {"fixed": str(pair.fixed), "moving": str(pair.moving)},
            tuple(options),
            str(root / pair.folder),
            output_dir,
        )
        for pair in pairs
    ]
    if not tasks:
        raise InputError(
            f"{bids_dir}: there is no pair of images to register; check --fixed, "
            "--participant-label and --session-id"
        )
    if dry_run:
        many.tell_missing(tasks, root, how["redo"])
        return
    _describe(root, Path(bids_dir))
    people = sorted({pair.folder.partition("/")[0] for pair in pairs})
    context.exit(many.do_all(tasks, root, locks=people, tables=False, **how))


def _words(values: Sequence[str]) -> list[str]:
    """Take labels apart that were given together."""
    return [word for value in values for word in value.replace(",", " ").split()]


def _describe(root: Path, source: Path) -> None:
    """Write what this derived data set is, if nobody has."""
    from .._files.records import to_json
    from .._files.writing import new_files

    path = root / "dataset_description.json"
    if path.exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root}: {not_written(error)}") from error
    content = {
        "Name": "Rigid registrations by mireg",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mireg", "Version": __version__}],
        "SourceDatasets": [{"URL": Path(os.path.relpath(source, root)).as_posix()}],
    }
    # The rules of BIDS do not know these yet; fMRIPrep leaves them out like this.
    ours = ("results.tsv", "results.json", "exclude.tsv", "index.html", "logs/")
    made = {
        path: to_json(content),
        root / ".bidsignore": "".join(
            f"{name}\n" for name in (*ours, "*_xfm.*", "*_boldref.*")
        ),
        root / "README.md": _README,
    }
    with new_files(made, force=True) as files:
        for name, text in made.items():
            files[name].write(text.encode())
