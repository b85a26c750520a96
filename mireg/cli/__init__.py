# ruff: noqa: D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""The command line: arguments to an exit code. The only room that prints.

Numpy, numba, scipy and nibabel are imported by the commands that need them, so
that ``mireg --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..errors import MiregError
from . import apply, contrast, convert, inspect, phantom, prior, register, score


def run() -> None:
    """Run the command line and leave Python with its exit code."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments (default: those of the process).

    Returns
    -------
    int
        0 done; 2 bad input or usage, told in one line on stderr; 130 stopped.
        Any other error is a bug and keeps its traceback.
    """
    try:
        return int(
            cli.main(
                args=None if argv is None else list(argv),
                prog_name="mireg",
                standalone_mode=False,
            )
            or 0
        )
    except click.Abort:
        click.echo("mireg: stopped", err=True)
        return 130
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "mireg"
        hint = f"see {where} --help"
        return _fail(f"{error.format_message().rstrip('.')}; {hint}")
    except click.ClickException as error:
        return _fail(error.format_message())
    except MiregError as error:
        return _fail(str(error))


def _fail(message: str) -> int:
    """Say in one line what is wrong."""
    click.echo(f"mireg: error: {' '.join(message.split())}", err=True)
    return 2


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(__version__, message="mireg %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Bring two scans of one patient into line, whatever their contrast.

    \b
    First steps:
      mireg demo
      mireg register t1.nii.gz bold.nii.gz

    Exit codes: 0 done; 2 bad input or usage, told in one line; 130 stopped by
    Ctrl-C. Files are written whole or not at all.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    register.register,
    apply.apply,
    convert.convert,
    score.score,
    prior.prior,
    inspect.inspect,
    contrast.contrast,
    phantom.demo,
    phantom.phantom,
):
    cli.add_command(command)
