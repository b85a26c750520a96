# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg batch``: all pairs of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import many


@click.command(
    cls=many.ManyCommand,
    short_help="Register all pairs of a table.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("pairs", type=click.Path(dir_okay=False))
@click.option(
    "-o",
    "--output",
    "output",
    required=True,
    metavar="OUT_DIR",
    type=click.Path(file_okay=False),
    help="Folder for the results; one that holds some is gone on with.",
)
@many.pool_options
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def batch(
    context: click.Context,
    /,
    *,
    pairs: str,
    output: str,
    options: Sequence[str],
    dry_run: bool,
    **how: Any,
) -> None:
    """Register all pairs of a table, and say which to look at.

    PAIRS is a TSV or CSV file with a line for each pair. Its columns are fixed and
    moving; id (a name for the pair), fixed_mask, moving_mask, init and prior, if
    wanted; and any other option of mireg register by its name, such as metric or
    no_image (yes or no). Paths are relative to the table. OPTIONS are options of
    mireg register, for all pairs.

    \b
    Writes OUT_DIR/ID/         what mireg register writes, a folder for each pair
           OUT_DIR/results.tsv one line for each pair; results.json says what is in it
           OUT_DIR/index.html  a page on all: distributions, pictures, a table
           OUT_DIR/exclude.tsv what is doubtful or failed: write keep or drop
           OUT_DIR/logs/       what was said of each pair

    Stopped at any moment and begun again, it does what is missing: a pair is done when
    its results are there from the same images, options and version.

    \b
    Example:
      mireg batch pairs.tsv -o cohort --no-image
      mireg batch pairs.tsv -o cohort --redo failed

    Exit codes: 0 all pairs are registered (some may be doubtful), 3 some failed.
    """
    from .._cohort.state import Task
    from .._cohort.table import read_table

    many.check_options(context, options)
    rows = read_table(pairs, many.column_options())
    tasks = []
    for row in rows:
        where = f"{pairs}, line {row.line}"
        own = many.as_arguments(where, dict(row.options))
        task = Task(
            row.id,
            {role: str(path) for role, path in row.files.items()},
            (*options, *own),
            str(Path(output, row.id)),
            output,
            where,
        )
        many.check_arguments(where, task.arguments)
        tasks.append(task)
    if dry_run:
        many.tell_missing(tasks, Path(output), how["redo"])
        return
    context.exit(many.do_all(tasks, Path(output), **how))
