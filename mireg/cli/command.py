"""How every command takes its words apart, and lays out its help."""

from __future__ import annotations

import math
import os
import select
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import click

#: Options by what they are about, in the order of the help of a command with many.
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Output": (
        *("--output", "--transform-format", "--no-image", "--inverse", "--images"),
        *("--residuals", "--picture", "--slices", "--plot", "--report", "--centre"),
        *("--save-cohort", "--csv", "--force"),
    ),
    "Voxels of the output": (
        *("--output-grid", "--interpolation", "--antialias", "--fill", "--dtype"),
        *("--header-only", "--all-volumes", "--voxel-size"),
    ),
    "Input": (
        *("--fixed", "--moving", "--like", "--transform", "--then", "--from"),
        *("--fixed-mask", "--moving-mask", "--mask", "--over"),
        *("--fixed-volume", "--moving-volume", "--volume", "--range"),
        *("--points", "--fixed-points", "--moving-points", "--points-frame"),
        *("--participant-label", "--session-id", "--bids-filter-file", "--work-dir"),
        *("--contrast", "--kind", "--seed"),
    ),
    "Start and method": (
        *("--init", "--reference", "--to", "--pairs", "--metric", "--prior"),
        *("--prior-strength", "--effort", "--time-limit"),
        *("--fd-radius", "--fd-threshold", "--dvars-threshold"),
    ),
    "Doubt": ("--tolerance", "--accept", "--strict"),
    "Run and messages": (
        *("--threads", "--nprocs", "--mem", "--scheduler", "--most-seconds", "--redo"),
        *("--dry-run", "--json", "--json-lines", "--quiet", "--verbose", "--version"),
        *("--cite", "--help"),
    ),
}

#: A command with no more options than these lists them without headings.
_FEW = 9

#: What may have been meant by a word too many.
_TOO_MANY: Mapping[str | None, str] = {
    "register": "-o names the output; mireg batch takes a table of pairs, mireg "
    "session all scans of a patient",
    "batch": "one table of pairs; mireg register takes two images",
    "apply": "FIXED is given by --like, transforms by -t",
    **dict.fromkeys(("check", "show", "score", "report"), "a transform is given by -t"),
}

#: Words that are looked at as one name.
_MOST_BLANKS = 5

#: What text programs make of a hyphen or two.
_LONG_DASHES = ("\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}")

#: How similar a name must be to be suggested: FLIRT's -in is not like our --init.
_SIMILAR = 0.82

#: Fewest letters of a word that is looked for in names: --mask in --fixed-mask.
_A_WORD = 3

#: Longest option that its explanation stands beside, letters; click's.
_WIDEST = 30


def names_of(command: click.Command) -> list[str]:
    """Give the names of all options of a command."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    return [name for one in options for name in (*one.opts, *one.secondary_opts)]


def near(option: str, names: Iterable[str]) -> list[str]:
    """Give the options that one may have been meant for; -in may be for --in."""
    names, bare = sorted(names), option.lstrip("-")
    if len(bare) >= _A_WORD:
        parts = [name for name in names if f"-{bare}" in name]
        if parts:
            return parts
    return get_close_matches(f"--{bare}", names, 1, _SIMILAR)


def nearest(error: click.NoSuchOption) -> list[str]:
    """Give the options of the command that an unknown one may have been meant for."""
    if error.ctx is None:
        return []
    command = error.ctx.command
    known = command.known_options() if isinstance(command, Command) else ()
    return near(error.option_name, known or names_of(command))


def _check_number(param: click.Parameter, value: str, ctx: click.Context) -> None:
    """Say which numbers an option takes where its value is none of them."""
    kind = param.type
    if isinstance(kind, click.types.IntParamType):
        wanted = "a whole number"
    elif isinstance(kind, click.types.FloatParamType):
        wanted = "a number"
    else:
        return
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    with suppress(click.BadParameter):
        # NaN passes for a number of any range.
        if not math.isnan(param.type.convert(value, param, ctx)) or low is None:
            return
    if high is not None:
        wanted += f" from {low:g} to {high:g}"
    elif low is not None:
        is_open = getattr(kind, "min_open", False)
        wanted += f" above {low:g}" if is_open else f", {low:g} or more"
    raise click.BadParameter(f"{value!r} is not {wanted}", ctx, param)


def headings(
    command: click.Command, ctx: click.Context
) -> dict[str, list[click.Option]]:
    """Give the options of a command in the order of its help, by their headings."""
    options = [p for p in command.get_params(ctx) if isinstance(p, click.Option)]
    if len(options) <= _FEW:
        return {"Options": options}
    by_name = {name: option for option in options for name in option.opts}
    found = {
        heading: [by_name.pop(name) for name in names if name in by_name]
        for heading, names in HEADINGS.items()
    }
    rest = [o for o in options if not any(o in under for under in found.values())]
    return {**found, "Options": rest}


class TooManyError(click.UsageError):
    """Words are left over."""

    def __init__(
        self, words: list[str], ctx: click.Context, meant: str | None = None
    ) -> None:
        self.words = words
        meant = meant or _TOO_MANY.get(ctx.command.name)
        what = (
            f"Got unexpected extra arguments ({' '.join(w or repr(w) for w in words)})"
        )
        super().__init__(f"{what}: {meant}" if meant else what, ctx)


class Command(click.Command):
    """A command that takes no option for a value, and groups its options."""

    def known_options(self) -> Collection[str]:
        """Give the names of the options that may be among its words."""
        return {*names_of(self), "-h", "--help"}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option in the place of a value or a name, and an empty one."""
        if not ctx.resilient_parsing:  # for the Tab key
            given, rest, _ = self.make_parser(ctx).parse_args(list(args))
            for param in self.params:
                for value in _words(given.get(param.name)):
                    self._check(param, value, args, ctx)
            for word in args:
                if word.startswith(_LONG_DASHES) and not os.path.exists(word):
                    raise click.UsageError(
                        f"{word} begins with a long dash, as text programs make of "
                        "two; type - or --",
                        ctx,
                    )
            if rest and not ctx.allow_extra_args:
                raise TooManyError(rest, ctx, _unquoted(args))
        return super().parse_args(ctx, args)

    def _check(
        self, param: click.Parameter, value: str, args: list[str], ctx: click.Context
    ) -> None:
        """Check one word that is the value of an option, or an argument."""
        unset = "as from a variable that is not set"
        word = value.partition("=")[0]
        if isinstance(param, click.Option):
            name = next((name for name in param.opts if name in args), param.opts[-1])
            if not value:
                raise click.UsageError(f"{name} has an empty value, {unset}", ctx)
            if f"{param.opts[0]}{value}" in args and value.startswith("="):
                written = f"{param.opts[0]} {value[1:]}"
                raise click.UsageError(
                    f"{param.opts[0]}{value} has a sign too many; write {written}", ctx
                )
            if value == "--":
                raise click.UsageError(f"{name} needs a value; -- is none", ctx)
            odd, instead = value.startswith("--"), f"{name} needs a value"
        elif param.type is click.UNPROCESSED:  # they are checked by whom they are for
            return
        else:
            name = (param.metavar or str(param.name).upper()).split()[0].rstrip(".")
            if not value:
                raise click.UsageError(f"{name} is an empty name, {unset}", ctx)
            if not ctx.ignore_unknown_options or "--" in args:
                return
            odd, instead = value[0] == "-" != value, f"{name} comes before the options"
        if word in self.known_options():
            raise click.UsageError(f"{instead}; {word} is an option", ctx)
        if odd:
            raise click.NoSuchOption(word, ctx=ctx)
        _check_number(param, value, ctx)

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the options, under headings if there are many."""
        records = {
            heading: [record for o in options if (record := o.get_help_record(ctx))]
            for heading, options in headings(self, ctx).items()
        }
        widths = [len(first) for rows in records.values() for first, _ in rows]
        width = min(max(widths), _WIDEST)
        for heading, rows in records.items():
            if rows:
                with formatter.section(heading):  # the columns of all are in line
                    formatter.write_dl([(f"{one:{width}}", what) for one, what in rows])


class UnreadError(Exception):
    """Nobody reads what is printed; of a BrokenPipeError click makes exit code 1."""


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words apart, which may print a help; help COMMAND does, too."""
        alone = not (args or self.invoke_without_command or ctx.resilient_parsing)
        if args[:1] == ["help"] or alone:
            args = [*args[1:], "--help"]
        try:
            with _told_unread():
                return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            word = error.option_name.lstrip("-")
            if word not in self.commands:
                raise
            command = f"{ctx.command_path} {word}"
            raise click.UsageError(
                f"{error.option_name} is a command: {command}", ctx
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; say what to do where the first word is none."""
        word = args[0]
        if word not in self.commands and not ctx.resilient_parsing:
            if f"--{word}" in names_of(self):
                raise click.UsageError(f"{word} is an option: --{word}", ctx)
            if os.path.exists(word):
                raise click.UsageError(
                    f"{word} is a file, and no command; write the command first, as in "
                    "mireg register FIXED MOVING",
                    ctx,
                )
            if word[:1] != "-":
                like = get_close_matches(word, self.commands, 1)
                meant = f"; nearest: {like[0]}" if like else ""
                raise click.UsageError(f"No such command '{word}'{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _told_unread():
            return super().invoke(ctx)


@contextmanager
def _told_unread() -> Iterator[None]:
    """Keep a broken pipe from click."""
    try:
        yield
    except BrokenPipeError as error:
        if _is_read():  # as of a worker that has died; click would hide it
            raise RuntimeError("a pipe between processes is broken") from error
        raise UnreadError(*error.args) from error


def _is_read() -> bool:
    """Tell whether somebody reads both stdout and stderr."""
    if not hasattr(select, "poll"):  # Windows
        return False
    waiting = select.poll()
    for number in (1, 2):
        waiting.register(number, 0)  # told are errors alone
    return not waiting.poll(0)


def _unquoted(args: list[str]) -> str | None:
    """Say which words are the name of one file that holds blanks."""
    for first in range(len(args)):
        for last in range(first + 2, min(first + _MOST_BLANKS, len(args)) + 1):
            name = " ".join(args[first:last])
            if os.path.exists(name):
                return f"put the name of a file with blanks into quotes, '{name}'"
    return None


def _words(value: Any) -> Iterator[str]:
    """Give the words that a parameter was given."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _words(one)
