# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""The command line: arguments to an exit code. The only room that prints.

Numpy, numba, scipy and nibabel are imported by the commands that need them, so
that ``mireg --help`` answers at once.
"""

from __future__ import annotations

import atexit
import errno
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from .. import __version__
from .._errors import (
    FormatNeededError,
    FrameNeededError,
    ImagesNeededError,
    MiregError,
    OutputExistsError,
    printable,
)
from .._files import writing
from . import (
    apply,
    batch,
    bids,
    check,
    compare,
    contrast,
    convert,
    guide,
    inspect,
    phantom,
    prior,
    register,
    report,
    score,
    series,
    session,
    show,
)
from .command import Group, UnreadError, names_of, nearest
from .common import as_written, colour, notes_told, say, usage_words
from .foreign import here
from .stop import Stop

#: How what an error asks for is given here: the library knows of no options.
_BY_OPTION: dict[type, str] = {
    ImagesNeededError: ", by --fixed and --moving",
    FormatNeededError: ", by --transform-format",
    FrameNeededError: ", by --points-frame",
}


#: What the system says where what is printed has no room.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def run() -> None:
    """Run the command line and leave Python with its exit code.

    All is done then. Python would take every module apart again, which takes time.
    A reader that has gone, as head, ends it as it ends cat: by SIGPIPE, in silence.
    """
    _mend_streams()
    # Where colorama is installed, numba's colours would end the output in an escape.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    stop = Stop()
    try:
        with stop:
            code = main()
            _flush()
            atexit._run_exitfuncs()
            _flush()  # what these have said
    except BaseException as error:  # of an interrupt may have become any error
        if stop.code is not None:
            os.write(2, b"mireg: stopped\n")
        elif isinstance(error, BrokenPipeError):
            _end_as_by_sigpipe()
        elif isinstance(error, OSError) and error.errno in _NO_ROOM:
            code = _fail(
                f"what is printed cannot be written ({error.strerror}); choose another "
                "place for it"
            )
        else:
            raise
    writing.discard_all()
    os._exit(code if stop.code is None else stop.code)


def _mend_streams() -> None:
    """Let what is printed go nowhere where a shell has closed stdout or stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)


def _flush() -> None:
    """Hand over what was printed."""
    sys.stdout.flush()
    sys.stderr.flush()


def _end_as_by_sigpipe() -> NoReturn:
    """End as programs do that write to a reader that has gone; shells see 141."""
    writing.discard_all()
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        # Not from the start: it would end us for a socket that is closed, too.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments (default: those of the process).

    Returns
    -------
    int
        0 done; 1 done, but the answer is doubtful; 2 bad input or usage, told in one
        line on stderr; 130 stopped. Any other error is a bug and keeps its traceback,
        but a `BrokenPipeError`: nobody reads what is printed.
    """
    began = time.perf_counter()
    if argv is None:  # Python has started for this alone: the clock shows that, too
        began -= time.process_time()
    try:
        with notes_told():
            return int(
                cli.main(
                    args=None if argv is None else list(argv),
                    prog_name="mireg",
                    standalone_mode=False,
                    obj=began,
                )
                or 0
            )
    except UnreadError as error:
        raise BrokenPipeError(*error.args) from error
    except click.Abort as abort:
        if isinstance(abort.__cause__, EOFError):  # which click takes for Ctrl-D
            raise abort.__cause__ from None
        say("mireg: stopped", err=True)
        return 130
    except click.UsageError as error:
        words = sys.argv[1:] if argv is None else argv
        error = as_written(error, words)
        where = error.ctx.command_path if error.ctx else _command_path(words)
        what, hint = usage_words(error), f"see {where} --help"
        known = here(words, names_of(error.ctx.command)) if error.ctx else None
        if known is not None:
            what = f"{known[0]} is no option here; {known[1]}"
        if known is not None or _of_another_program(error, words):
            hint += ", or mireg guide coming-from for the options of other programs"
        return _fail(f"{what}; {hint}")
    except click.ClickException as error:
        return _fail(" ".join(error.format_message().split()))
    except OutputExistsError as error:
        return _fail(str(error).replace("force=True", "--force"))
    except MiregError as error:
        return _fail(f"{error}{_BY_OPTION.get(type(error), '')}")


def _command_path(words: Sequence[str]) -> str:
    """Name the command that is called: of a missing value click does not say whose."""
    path, command = "mireg", cast("click.Command", cli)
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word in command.commands:
            path, command = f"{path} {word}", command.commands[word]
    return path


def _of_another_program(error: click.UsageError, argv: Sequence[str]) -> bool:
    """Tell whether an option looks like one of FLIRT's, ANTs' and so on."""
    if isinstance(error, click.NoSuchOption):
        return not nearest(error)
    # As -omat: click takes that for -o with the value mat. But -qo is two of ours.
    own = [] if error.ctx is None else names_of(error.ctx.command)
    return any(
        re.match(r"-[a-zA-Z]{2,}$", word) and not {f"-{x}" for x in word[1:]} <= {*own}
        for word in argv
    )


def _fail(message: str) -> int:
    """Say in one line what is wrong."""
    mark = click.style("mireg: error:", fg="red", bold=True)
    say(f" {printable(message)}", mark=mark, err=True)
    return 2


def _show_versions(context: click.Context, _option: Any, wanted: bool) -> None:
    """Say what runs, for reports of bugs."""
    if not wanted:
        return
    from importlib.metadata import version

    from .._threads import available

    runs_on = ", ".join(
        f"{name} {version(name)}"
        for name in ("numpy", "scipy", "numba", "nibabel", "scikit-image")
    )
    say(
        f"mireg {__version__}\n"
        f"Python {platform.python_version()}, {runs_on}\n"
        f"{platform.platform()}; {available()} threads, of a pool of Python's own: "
        "numba's threading layer is not used"
    )
    context.exit()


def _show_citation(context: click.Context, _option: Any, wanted: bool) -> None:
    """Say how to cite."""
    if not wanted:
        return
    say(
        f"The mireg developers. mireg: rigid registration of medical images of\n"
        f"different contrast by mutual information. Version {__version__}. Software,\n"
        f"BSD-3-Clause.\n\n"
        f"@software{{mireg,\n"
        f"  author  = {{{{The mireg developers}}}},\n"
        f"  title   = {{mireg: rigid registration of medical images of different\n"
        f"             contrast by mutual information}},\n"
        f"  version = {{{__version__}}},\n"
        f"  license = {{BSD-3-Clause}}\n"
        f"}}"
    )
    context.exit()


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the version, and those of what it runs on.",
)
@click.option(
    "--cite",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_citation,
    help="Show how to cite mireg, in words and for BibTeX.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Bring two scans of one patient into line, whatever their contrast.

    \b
    First steps:
      mireg demo
      mireg register t1.nii.gz bold.nii.gz
      mireg guide start

    Exit codes: 0 done; 1 done, but the answer is doubtful, less than 75 % likely right;
    2 bad input or usage, told in one line; 130 stopped by Ctrl-C (143 by SIGTERM, 129
    by SIGHUP, 141 where nobody reads on). Files are written whole or not at all.

    Colours and progress are for terminals; NO_COLOR=1 turns colours off. For
    completion by the Tab key put this into ~/.bashrc (or zsh_source, fish_source
    into those of zsh and fish):

    \b
      eval "$(_MIREG_COMPLETE=bash_source mireg)"
    """
    context.color = colour()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    register.register,
    session.session,
    series.series,
    batch.batch,
    bids.bids,
    apply.apply,
    convert.convert,
    check.check,
    show.show,
    compare.compare,
    score.score,
    report.report,
    prior.prior,
    inspect.inspect,
    contrast.contrast,
    phantom.demo,
    phantom.phantom,
    guide.guide,
):
    cli.add_command(command)
