# ruff: noqa: PLC0415
# (imports inside commands keep --help fast)
"""What commands on many pairs share: tasks, the work on one, progress, the end."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import (
    ExitStack,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._errors import InputError, MiregError, not_written
from .command import Command, TooManyError, names_of, near
from .common import as_written, progress_bar, say, usage_words
from .register import register, run_register

if TYPE_CHECKING:
    from .._cohort.kept import LastFixed
    from .._cohort.schedule import Pool
    from .._cohort.state import Outcome, Task

Function = TypeVar("Function", bound=Callable[..., Any])

#: Options of ``mireg register`` that are not for many pairs, or that a table has
#: columns of its own for.
_NOT_FOR_MANY = (
    *("output", "force", "quiet", "verbose", "as_json", "threads"),
    *("fixed_mask", "moving_mask", "init", "prior"),
)

#: A line of progress in a log file is written this often, seconds.
_LOG_EVERY_S = 30.0

#: Tables are written again this often while work goes on, seconds, or so many times
#: as long as it took: those of many pairs take a while, in which nobody is given work.
_TABLES_EVERY_S, _TABLES_REST = 60.0, 50.0

#: How text that is told is written: names of files may hold anything.
_UTF8 = ("utf-8", "backslashreplace")

#: Exit code where pairs failed.
SOME_FAILED = 3


def pool_options(command: Function) -> Function:
    """Add the options of commands that work on many pairs."""
    for add in (
        click.option(
            "--json-lines",
            is_flag=True,
            help="Print a line of JSON on stdout for each pair as it is done.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
        click.option(
            "--dry-run", is_flag=True, help="Print the pairs that would be done."
        ),
        click.option(
            "--most-seconds",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            help="A pair that takes longer has failed [no limit].",
        ),
        click.option(
            "--redo",
            multiple=True,
            metavar="doubtful|failed|all|ID",
            help="Do these again; several with commas.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS|dask|processes",
            help="Who does the work: a running Dask scheduler, a Dask cluster of this "
            "machine, or processes without Dask [dask, if it is installed].",
        ),
        click.option(
            "--mem",
            "memory_gb",
            type=click.FloatRange(min=0, min_open=True),
            metavar="GB",
            help="Memory that all pairs in work may need [what is free now].",
        ),
        click.option(
            "--nprocs",
            "--jobs",
            "processes",
            type=click.IntRange(min=1),
            metavar="N",
            help="Pairs in work at a time, a thread each [all processors].",
        ),
    ):
        command = add(command)
    return command


# --- one pair -------------------------------------------------------------------------


def column_options() -> dict[str, click.Option]:
    """Give the options of ``mireg register`` that may differ by pair, by column."""
    return {
        name.lstrip("-").replace("-", "_"): option
        for option in register.params
        if isinstance(option, click.Option) and option.name not in _NOT_FOR_MANY
        for name in option.opts
        if name.startswith("--")
    }


def as_arguments(where: str, options: dict[str, str]) -> list[str]:
    """Turn cells of a table into options of ``mireg register``."""
    known, arguments = column_options(), []
    for column, cell in options.items():
        name = f"--{column.replace('_', '-')}"
        option = known.get(column)
        if option is not None and option.is_flag:
            if cell.lower() in ("yes", "true", "1"):
                arguments.append(name)
            elif cell.lower() not in ("no", "false", "0"):
                raise InputError(
                    f"{where}, column {column}: {cell!r} is neither yes nor no; write "
                    "one of them"
                )
        else:
            arguments.append(f"{name}={cell}")
    return arguments


class ManyCommand(Command):
    """A command that takes options of ``mireg register``, too."""

    def known_options(self) -> Collection[str]:
        """Give the names of the options that may be among its words."""
        return {*super().known_options(), *names_of(register)}


def check_arguments(where: str, arguments: Sequence[str]) -> None:
    """Refuse, before the work, options that ``mireg register`` would."""
    error = _refused(arguments)
    if error is not None:
        raise InputError(f"{where}: {usage_words(error)}; see mireg register --help")


def check_options(context: click.Context, options: Sequence[str]) -> None:
    """Refuse, before the work, options for all pairs that ``mireg register`` would.

    What is none of its options may have been meant for one of the command itself.
    """
    error = _refused(options)
    if isinstance(error, click.NoSuchOption):
        own, others = names_of(context.command), names_of(register)
        like = near(error.option_name, [*own, *others])
        if like and like[0] not in own:
            context = _register_context(context)
        raise click.NoSuchOption(error.option_name, ctx=context)
    if error is not None:
        words = usage_words(error)
        if isinstance(error, TooManyError):  # none of its
            raise TooManyError(error.words, context)
        raise click.UsageError(words, _register_context(context))


def _register_context(context: click.Context) -> click.Context:
    """Stand for ``mireg register`` where the help is named."""
    return click.Context(register, info_name="register", parent=context.parent)


def _refused(arguments: Sequence[str]) -> click.UsageError | None:
    """Tell what ``mireg register`` says against options."""
    try:
        # Nothing follows them: an option without a value would take it for one.
        register.make_context("register", ["FIXED", "MOVING", *arguments])
    except click.UsageError as error:
        return as_written(error, arguments)
    return None


def _command_line(task: Task) -> list[str]:
    """Give the arguments of ``mireg register`` for a pair."""
    others = [
        f"--{role.replace('_', '-')}={path}"
        for role, path in task.files.items()
        if role not in ("fixed", "moving")
    ]
    return [
        *others,
        *task.arguments,
        f"--output={task.output}{os.sep}",
        *("--force", "--quiet", "--json", "--threads=1"),
        *("--", task.files["fixed"], task.files["moving"]),
    ]


def work_on(task: Task, folder: str | None = None) -> Outcome:
    """Do what ``mireg register`` does, and remember what became of it.

    Whatever goes wrong is in the outcome; what was said is in the log of the pair.

    Parameters
    ----------
    task : Task
        The pair.
    folder : str, optional
        Where the paths of the task begin, if not where this process is.
    """
    from .._cohort import results
    from .._cohort.state import Outcome, remember
    from .._cohort.workers import make_ready
    from .._files.writing import new_files

    make_ready()
    began = time.perf_counter()
    _forget_peak()
    said, printed = io.StringIO(), io.StringIO()
    figures: dict[str, Any] = {}
    record, message, lasting = None, "", True
    digests: dict[str, str | None] = {}
    try:
        if folder is not None:
            os.chdir(folder)
        with redirect_stderr(said), redirect_stdout(printed):
            picture = _registered(task)
        content = json.loads(printed.getvalue())
        figures = results.figures(content)
        digests = {role: content[role]["sha256"] for role in ("fixed", "moving")}
        record = _record_file(Path(task.output), printed.getvalue(), task.root)
    except Exception as error:
        lasting = not _may_pass(error)
        message = " ".join(str(error).split())
        if isinstance(error, MemoryError):
            message = (
                "there is not enough memory for this pair; do fewer at a time (--jobs)"
            )
        elif not isinstance(error, (MiregError, click.ClickException)):
            # A fault of ours stops no other pair.
            said.write(traceback.format_exc())
            message = f"{type(error).__name__}: {message[:300]}"
    outcome = Outcome(
        task.id,
        "failed" if message else "done",
        message,
        figures,
        record,
        time.perf_counter() - began,
        _peak_mb(),
    )
    try:
        told = {task.log_file: f"{said.getvalue()}{message}".encode(*_UTF8)}
        if not message:
            told[task.picture_file] = picture
        with new_files(told, force=True) as files:
            for path, text in told.items():
                files[path].write(text)
        remember(task, outcome, digests, lasting=lasting)  # the last of all its files
    except InputError as error:  # a full disk: the next run does it again
        return replace(
            outcome, status="failed", message=message or str(error), record=None
        )
    return outcome


def _may_pass(error: BaseException | None) -> bool:
    """Tell whether it was the machine that failed, such as a full disk, not a pair."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            return True  # these two are also what damaged files give
        error = error.__cause__ or error.__context__
    return False


def _registered(task: Task) -> bytes:
    """Register a pair as the command does, and return a small picture of it."""
    from .._picture import small_picture

    Path(task.output).mkdir(parents=True, exist_ok=True)
    with register.make_context("register", _command_line(task)) as context:
        options = context.params
        del options["accept"]  # of the exit code of one pair
        prepared = _last_fixed().get(
            options["fixed"], options["fixed_volume"], options["fixed_mask"]
        )
        found = run_register(**options, prepared=prepared)
    return small_picture(
        found.fixed, found.moving, found.moving_from_fixed, found.transform.centre
    )


@cache
def _last_fixed() -> LastFixed:
    """Give what a process keeps from one pair to the next."""
    from .._cohort.kept import LastFixed

    return LastFixed()


def _record_file(folder: Path, content: str, root: str) -> str | None:
    """Find the record that was printed, as seen from the folder of all results."""
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, UnicodeDecodeError):
            if path.read_text("utf-8") == content:
                return os.path.relpath(path, root)
    return None


def _forget_peak() -> None:
    """Measure the most memory of this process anew, where the system lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """Give the most memory that this process has had, MB."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (1e6 if sys.platform == "darwin" else 1e3)


# --- many -----------------------------------------------------------------------------


def do_all(
    tasks: Sequence[Task],
    root: Path,
    *,
    processes: int | None,
    memory_gb: float | None,
    scheduler: str | None,
    redo: Sequence[str],
    most_seconds: float | None,
    quiet: bool,
    json_lines: bool,
    locks: Sequence[str] = ("lock",),
    tables: bool = True,
) -> int:
    """Do what is missing, write the tables, and return the exit code.

    Runs that share none of the `locks` may work in one folder.
    """
    from .._cohort import needs, results
    from .._cohort.schedule import outcomes
    from .._cohort.state import FOLDER

    for folder in (root, root / FOLDER, root / "logs"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: {not_written(error)}") from error
    decisions = _decisions(root)
    with ExitStack() as held:
        for name in locks:
            held.enter_context(_the_only_run(root / FOLDER / f"{name}.lock"))
        found, todo = _what_is_missing(tasks, decisions, redo)
        for task in todo:
            found[task.id] = None
        places = {task.id: task.where for task in tasks}
        progress = _Progress(found, places, len(todo), quiet=quiet, err=json_lines)

        def write() -> float:
            if not tables:
                return math.inf
            began = time.monotonic()
            there = [found[task.id] for task in tasks]
            results.write_all(root, [one for one in there if one], decisions)
            now = time.monotonic()
            return now + max(_TABLES_EVERY_S, _TABLES_REST * (now - began))

        if todo:
            pool = _pool(scheduler, processes, memory_gb)
            next_tables = time.monotonic() + _TABLES_EVERY_S
            try:
                work = ((task, needs.memory_mb(task)) for task in todo)
                with progress_bar(quiet=quiet) as show:
                    for outcome in outcomes(
                        work,
                        partial(work_on, folder=os.getcwd()),
                        pool,
                        most_seconds=most_seconds,
                    ):
                        found[outcome.id] = outcome
                        progress.step(outcome, show)
                        if json_lines:
                            say(json.dumps(asdict(outcome)))
                        if time.monotonic() > next_tables:
                            next_tables = write()
            except KeyboardInterrupt:  # as SIGTERM, too; now: closing may take long
                progress.stopped()
                raise
            finally:
                pool.close()
        write()
    progress.end()
    if tables and not quiet:
        _tell_tables(root, err=json_lines)
    return SOME_FAILED if progress.failed else 0


def tell_missing(tasks: Sequence[Task], root: Path, redo: Sequence[str]) -> None:
    """Print the pairs that would be done."""
    for task in _what_is_missing(tasks, _decisions(root), redo)[1]:
        say("  ".join((task.id, task.files["fixed"], task.files["moving"])))


def _decisions(root: Path) -> dict[str, str]:
    """Read which pairs a person keeps or drops."""
    from .._cohort.results import read_decisions

    return {pair: said for pair, (said, _) in read_decisions(root).items()}


def _what_is_missing(
    tasks: Sequence[Task], decisions: Mapping[str, str], redo: Sequence[str]
) -> tuple[dict[str, Outcome | None], list[Task]]:
    """Find what became of the pairs before, and those that are to be done."""
    from .._cohort.state import known

    again = {word.strip() for words in redo for word in words.split(",")}
    strange = again - {"doubtful", "failed", "all", *(task.id for task in tasks)}
    if strange:
        raise InputError(
            f"--redo {min(strange)}: no such pair; give an id, doubtful, failed or all"
        )
    found = {task.id: known(task) for task in tasks}
    return found, [
        task
        for task in tasks
        if decisions.get(task.id) != "drop"
        and _is_wanted(task.id, found[task.id], again)
    ]


def tell_all(root: Path, *, quiet: bool) -> int:
    """Write the tables of all that is in a folder, and return the exit code."""
    from .._cohort import results
    from .._cohort.state import all_outcomes

    there = all_outcomes(root)
    if not there:
        raise InputError(
            f"{root}: no pairs have been registered here; run mireg bids with "
            "participant first"
        )
    results.write_all(root, there, _decisions(root))
    if not quiet:
        say(f"{len(there)} pair{'s' if len(there) != 1 else ''}")
        _tell_tables(root, err=False)
    return SOME_FAILED if any(one.status == "failed" for one in there) else 0


def _tell_tables(root: Path, *, err: bool) -> None:
    """Say where the results are."""
    for name in ("index.html", "results.tsv", "exclude.tsv"):
        say(f"  {root / name}", err=err)


def _is_wanted(pair: str, found: Outcome | None, again: set[str]) -> bool:
    """Tell whether a pair is to be done."""
    if found is None or "all" in again or pair in again:
        return True
    if found.status == "failed":
        return "failed" in again
    return "doubtful" in again and found.row.get("verdict") == "doubtful"


def _pool(
    scheduler: str | None, processes: int | None, memory_gb: float | None
) -> Pool:
    """Begin the processes, or join those of a scheduler that runs."""
    from importlib.util import find_spec

    from .._cohort import needs, workers
    from .._threads import available

    if scheduler is None:
        scheduler = "dask" if find_spec("distributed") else "processes"
    own = scheduler in ("dask", "processes")
    memory = 1e3 * memory_gb if memory_gb else needs.free_mb() if own else None
    count = processes or available()
    if scheduler == "processes":
        return workers.LocalPool(count, memory or float("inf"))
    address = None if scheduler == "dask" else scheduler
    return workers.DaskPool(count if own else processes, memory, address)


@contextmanager
def _the_only_run(path: Path) -> Iterator[None]:
    """Refuse to work in a folder in which another run does, and holds this file."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{path.parents[1]}: another run of mireg works here; wait for it, "
                "or choose another folder with -o"
            ) from None
        except OSError:
            pass  # the file system knows no locks
        yield


class _Progress:
    """Counts what is done, and says so: on a terminal at once, else now and then."""

    def __init__(
        self,
        found: Mapping[str, Outcome | None],
        places: Mapping[str, str],
        todo: int,
        *,
        quiet: bool,
        err: bool,
    ) -> None:
        self.places, self.todo, self.quiet, self.err = places, todo, quiet, err
        self.done = self.before = self.doubtful = self.failed = 0
        for one in found.values():
            if one is not None:
                self.before += 1
                self._count(one)
        self.began = self.told = time.monotonic()

    def _count(self, outcome: Outcome) -> None:
        """Count those to look at."""
        self.failed += outcome.status == "failed"
        self.doubtful += outcome.row.get("verdict") == "doubtful"

    def step(self, outcome: Outcome, show: Callable[[str, float], None]) -> None:
        """Count a pair that is done."""
        self.done += 1
        self._count(outcome)
        show(self.line(), self.done / self.todo)
        now = time.monotonic()
        on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if self.quiet or on_terminal:
            return
        if outcome.status == "failed":
            place = self.places[outcome.id]
            where = f"{place}, {outcome.id}" if place else outcome.id
            say(f"{where}: failed: {outcome.message}", err=True)
        if now - self.told > _LOG_EVERY_S:
            self.told = now
            say(self.line(), err=True)

    def line(self) -> str:
        """Say how far the work is."""
        hours = (time.monotonic() - self.began) / 3600
        left = hours / max(self.done, 1) * (self.todo - self.done)
        return (
            f"{self.done} of {self.todo} done{self._odd()}, "
            f"{self.done / max(hours, 1e-9):.0f} an hour, {_duration(left)} left"
        )

    def stopped(self) -> None:
        """Say how to go on."""
        if not self.quiet:
            say(
                f"{self.done} of {self.todo} pairs done; the same command again does "
                "what is missing",
                err=True,
            )

    def end(self) -> None:
        """Say what came of it."""
        if self.quiet:
            return
        took = _duration((time.monotonic() - self.began) / 3600)
        were = "was" if self.before == 1 else "were"
        before = f", {self.before} {were} done before" if self.before else ""
        pairs = "pair" if self.done == 1 else "pairs"
        heading = f"{self.done} {pairs} done in {took}{before}{self._odd()}"
        say("", mark=click.style(heading, bold=True), err=self.err)

    def _odd(self) -> str:
        """Say how many there are to look at."""
        counts = ((self.doubtful, "doubtful"), (self.failed, "failed"))
        return "".join(f", {count} {name}" for count, name in counts if count)


def _duration(hours: float) -> str:
    """Say a time for people."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 30 else f"{3600 * hours:.0f} s"
