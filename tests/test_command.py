"""How commands take their words apart: mistakes are told in a line; help has order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib import resources

import click
import pytest

from mireg.cli import cli, main
from mireg.cli.command import HEADINGS, Command, headings
from mireg.cli.foreign import FOREIGN
from mireg.cli.reference import leaves

COMMANDS = [
    (" ".join(path[1:]), command)
    for path, command in leaves(cli, ("mireg",))
    if not isinstance(command, click.Group)
]


def refused(capsys, *argv):
    """Run what must be refused; give the line that says why."""
    assert main([str(word) for word in argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.strip().removeprefix("mireg: error: ")


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Work in an empty folder, in which nothing may appear."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("-")]


# --- values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("register a b -o --report", "-o needs a value; --report is an option"),
        ("register a b --output --report", "--output needs a value; --report is an"),
        ("register a b -qo --report", "--output needs a value; --report is an option"),
        ("register a b -o -q", "-o needs a value; -q is an option"),
        ("register a b --init --force", "--init needs a value; --force is an option"),
        ("register a b --threads --json", "--threads needs a value; --json is an"),
        ("register a b -o --help", "-o needs a value; --help is an option"),
        ("register a b -o --metric=mi", "-o needs a value; --metric is an option"),
        ("register -o -- a b", "-o needs a value; -- is none"),
        ("register a b --prior --prior-strength 1", "--prior needs a value; --prior-s"),
        ("apply a --like b -t --inverse -o c", "-t needs a value; --inverse is an"),
        ("apply a --like b -t c -o --inverse", "-o needs a value; --inverse is an"),
        ("contrast a --range 0 --json", "--range needs a value; --json is an option"),
        ("convert a --then --inverse", "--then needs a value; --inverse is an option"),
        ("prior learn a -o --force", "-o needs a value; --force is an option"),
        ("batch a -o --no-image", "-o needs a value; --no-image is an option"),
    ],
)
def test_an_option_is_no_value(argv, says, capsys):
    said = refused(capsys, *argv.split())
    assert said.startswith(says)
    command = argv.split()[0] if argv.split()[0] != "prior" else "prior learn"
    assert said.endswith(f"; see mireg {command} --help")


def test_a_mistyped_option_is_no_value(capsys):
    said = refused(capsys, "register", "a", "b", "-o", "--reprot")
    assert "No such option" in said
    assert "--reprot" in said
    assert "--report" in said


@pytest.mark.parametrize(
    "argv",
    [
        "contrast none.nii --range -1000 3000",
        "contrast none.nii --csv -",
        "apply none.nii --like b.nii -t c.tfm -o d.nii --fill -1024",
        "register none.nii b.nii -o -odd",
        "register none.nii b.nii --fill=-5",
    ],
)
def test_negative_numbers_and_a_dash_are_values(argv, capsys):
    assert "there is no such file" in refused(capsys, *argv.split())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["register", "a", ""], "MOVING is an empty name, as from a variable that is"),
        (["register", "", "b"], "FIXED is an empty name"),
        (["inspect", "a", ""], "IMAGE is an empty name"),
        (["session", "a", "", "-o", "c"], "IMAGES is an empty name"),
        (["prior", "learn", "", "-o", "c"], "PAIRS.csv is an empty name"),
        (["register", "a", "b", "-o", ""], "-o has an empty value, as from a variable"),
        (["register", "a", "b", "--fixed-mask", ""], "--fixed-mask has an empty value"),
        (["register", "a", "b", "--fixed-mask="], "--fixed-mask has an empty value"),
        (["apply", "a", "-t", "b", "", "-o", "c"], "-t has an empty value"),
        (
            ["batch", "a", "-o", "b", "--strict", ""],
            "Got unexpected extra arguments ('')",
        ),
        (["batch", "a", "-o", "b", "--metric", ""], "--metric has an empty value"),
    ],
)
def test_an_empty_name_is_told(argv, says, capsys):
    assert refused(capsys, *argv).startswith(says)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            "register a b c d",
            "Got unexpected extra arguments (c d): -o names the output",
        ),
        (
            "apply a b -t c -o d",
            "Got unexpected extra arguments (b): FIXED is given by",
        ),
        (
            "check a b c",
            "Got unexpected extra arguments (c): a transform is given by -t",
        ),
        (
            "show a b c",
            "Got unexpected extra arguments (c): a transform is given by -t",
        ),
        ("apply --like a -t b c -o d", "MOVING is missing: -t takes all files up to"),
        ("apply --like a -t b -o d", "Missing argument 'MOVING'; see"),
        ("apply a -t b c", "Missing option '-o' / '--output'; see"),
        ("register a b -o=c", "-o=c has a sign too many; write -o c; see mireg"),
        ("apply a --like b -t=c -o d", "-t=c has a sign too many; write -t c; see"),
        (
            "register a my scan.nii",
            "Got unexpected extra arguments (scan.nii): put the ",
        ),
        (
            "inspect ~/c",
            "~/c: there is no such file; in quotes and behind",
        ),
        ("batch a b -o c", "Got unexpected extra arguments (b): one table of pairs;"),
        ("compare a b c", "Got unexpected extra arguments (c); see mireg compare"),
        ("register a b \N{EN DASH}o c", "\N{EN DASH}o begins with a long dash, as"),
        ("register a b \N{EM DASH}strict", "\N{EM DASH}strict begins with a long dash"),
        ("report a b -o page", "page: the name of a page must end in .html"),
        ("scan.nii scan.nii", "scan.nii is a file, and no command; write the command"),
        ("version", "version is an option: --version; see mireg --help"),
        ("--register a b", "--register is a command: mireg register; see mireg --help"),
        ("prior --learn a", "--learn is a command: mireg prior learn; see mireg prior"),
        ("guide flirt", "the guide has no topic 'flirt'; nearest: coming-from; mireg"),
    ],
)
def test_what_may_have_been_meant_is_told(argv, says, capsys, tmp_path):
    for name in ("scan.nii", "my scan.nii"):
        (tmp_path / name).touch()
    assert refused(capsys, *argv.split()).startswith(says)


def test_help_is_a_command_too(capsys):
    for wanted, asked in (
        (["--help"], ["help"]),
        (["register", "--help"], ["help", "register"]),
        (["prior", "learn", "--help"], ["help", "prior", "learn"]),
        (["prior", "--help"], ["prior"]),
    ):
        assert main(wanted) == 0
        shown = capsys.readouterr().out
        assert main(asked) == 0
        assert capsys.readouterr().out == shown
    assert "No such command 'nothing'" in refused(capsys, "help", "nothing")


# --- help -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [one for _, one in COMMANDS], ids=lambda c: c.name)
def test_each_option_has_one_place_in_the_help(command):
    assert isinstance(command, Command)
    context = click.Context(command, help_option_names=["-h", "--help"])
    found = headings(command, context)
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    shown = [option for under in found.values() for option in under]
    assert sorted(map(id, shown)) == sorted(map(id, options))
    if "Output" in found:
        assert found["Options"] == []
        assert max(map(len, found.values())) <= 12
    for option in options:
        named = [h for h, names in HEADINGS.items() if {*names} & {*option.opts}]
        assert len(named) == 1, option.opts


def test_no_heading_names_what_is_no_option():
    known = {name for _, c in COMMANDS for p in c.params for name in p.opts}
    known |= {name for param in cli.params for name in param.opts} | {"--help"}
    assert {name for names in HEADINGS.values() for name in names} <= known


def test_the_help_of_register_has_headings(capsys):
    assert main(["register", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line[:-1] for line in lines if line[:-1] in HEADINGS]
    assert found == list(HEADINGS)
    assert "Options:" not in lines
    assert "--help  " in lines[-1]
    # What an option does is in one column, whatever the heading.
    starts = {
        len(line) - len(line.lstrip())
        for line in lines[lines.index("Output:") :]
        if line.startswith(" " * 10)
    }
    assert len(starts) == 1


# --- a reader that goes ---------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no such signal here")
@pytest.mark.parametrize(
    "argv", [["guide", "commands"], ["guide"], ["--help"], ["nonsense"]]
)
@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_a_reader_that_has_gone_ends_it_in_silence(argv, closed):
    reader, writer = os.pipe()
    os.close(reader)
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    for name in streams if closed == "both" else (closed,):
        streams[name] = writer
    done = subprocess.run(
        [sys.executable, "-m", "mireg", *argv],
        **streams,
        timeout=60,
        check=False,
    )
    os.close(writer)
    spoken = "stderr" if argv == ["nonsense"] else "stdout"
    if closed in (spoken, "both"):
        assert done.returncode == -signal.SIGPIPE  # 141 in a shell
        assert not done.stderr
        assert not done.stdout
    else:
        assert done.returncode == (2 if argv == ["nonsense"] else 0)


def test_another_pipe_that_breaks_is_a_bug(monkeypatch):
    def broken(**_options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli.commands["guide"], "callback", broken)
    with pytest.raises(RuntimeError, match="pipe between processes"):
        main(["guide"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.parametrize("argv", [["guide", "commands"], ["guide"]])
def test_a_full_disk_behind_stdout_is_told(argv):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mireg", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "mireg: error: what is printed cannot be written (No space left on device); "
        "choose another place for it\n"
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("register -in b -ref a", "-in is no option here; name the images as in mireg"),
        ("register a b -omat x.mat", "-omat is no option here; give --transform-form"),
        ("register a b --omat=x.mat", "--omat is no option here; give --transform-f"),
        ("register --fixed a --moving b", "--fixed is no option here; name the images"),
        ("register a b -dof 6", "-dof is no option here; leave it out: it is always 6"),
        ("apply b --ref a -t c -o d", "--ref is no option here; name the images as in"),
        ("convert a --concat b c", "--concat is no option here; give --then T"),
        ("series a -refvol 0", "-refvol is no option here; give --reference N"),
        ("register a b -- -ref", "Got unexpected extra arguments (-ref)"),
        ("convert a b --fixed c --nothing", "No such option '--nothing'; see mireg"),
    ],
)
def test_what_does_the_same_here_is_named(argv, says, capsys):
    assert refused(capsys, *argv.split()).startswith(says)


def test_what_is_named_for_other_programs_is_there():
    """What stands for an option of another program is in the help and in the guide."""
    options = {
        name
        for _, command in leaves(cli, ("mireg",))
        for one in command.params
        for name in one.opts
    }
    page = (resources.files("mireg") / "guide" / "coming-from.md").read_text("utf-8")
    for name, what in FOREIGN.items():
        assert {*re.findall(r"(?<!\w)--?[a-z][a-z-]*", what)} <= options, name
        assert f"-{name}" in page or name in ("fixed", "moving"), name


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--tolerance x", "'--tolerance': 'x' is not a number above 0; see"),
        ("--tolerance 2mm", "'--tolerance': '2mm' is not a number above 0; see"),
        ("--tolerance 0", "'--tolerance': '0' is not a number above 0; see"),
        ("--tolerance nan", "'--tolerance': 'nan' is not a number above 0; see"),
        ("--threads two", "'--threads': 'two' is not a whole number, 1 or more; see"),
        ("--threads 1.5", "'--threads': '1.5' is not a whole number, 1 or more; see"),
        ("--time-limit -1", "'--time-limit': '-1' is not a number, 0 or more; see"),
        ("--prior-strength 1e4", "'1e4' is not a number from 0 to 1000; see"),
        ("--fill x", "'--fill': 'x' is not a number; see"),
        ("--output-grid isotropic -q", "'isotropic' is not fixed, moving or isotropic"),
    ],
)
def test_what_is_no_number_is_told(argv, says, capsys):
    assert says in refused(capsys, "register", "a", "b", *argv.split())


def test_a_mistyped_command_is_told(capsys):
    said = refused(capsys, "registrr", "a", "b")
    assert said == "No such command 'registrr'; nearest: register; see mireg --help"
    assert refused(capsys, "flirt") == "No such command 'flirt'; see mireg --help"
