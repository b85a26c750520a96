"""What the README and the guide say can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from mireg.cli import cli, guide

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="no README beside tests")

PAGES = {
    path.stem: path.read_text("utf-8")
    for path in (README, *sorted(guide.FOLDER.glob("*.md")))
    if path.exists()
}


def blocks(language, text):
    """Fenced blocks of one language, by their text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(text):
    """Everything that is typed into a shell, a line each."""
    for language in ("sh", "text"):
        for block in blocks(language, text):
            yield from block.replace("\\\n", " ").splitlines()
    for block in blocks("console", text):
        yield from re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def calls(text):
    """Every call of mireg, by its words behind ``mireg``."""
    for line in shell_lines(text):
        before, name, words = line.partition("mireg ")
        if name and before.split("/")[-1].strip() in {"", "&& .venv/bin"}:
            yield shlex.split(words.partition(" > ")[0], comments=True)


def command_of(words):
    """Return the command that words call, and what is left of them."""
    command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def leaves(group):
    """Yield all commands below a group."""
    for command in group.commands.values():
        yield from leaves(command) if isinstance(command, click.Group) else [command]


def passed_on(command):
    """Give the parameters of ``mireg register`` if a command takes them, too."""
    takes = command.context_settings.get("ignore_unknown_options")
    return cli.commands["register"].params if takes else ()


@pytest.mark.parametrize("name", PAGES)
def test_its_commands_and_their_options_exist(name):
    for words in calls(PAGES[name]):
        command, rest = command_of(words)
        known = {
            option
            for parameter in (*command.params, *passed_on(command))
            for option in (*parameter.opts, *parameter.secondary_opts)
        } | {"--help", "-h"}
        assert not isinstance(command, click.Group) or set(rest) <= known, words
        wrong = {"--metrik"}  # on purpose
        said = {word for word in rest if word.startswith("-")}
        assert said - wrong <= known, words


def test_it_forgets_no_command():
    said = {id(command_of(words)[0]) for words in calls(PAGES["README"])}
    missing = [one.name for one in leaves(cli) if id(one) not in said]
    assert not missing


# Of other programs are the options in "Coming from".
@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"coming-from"}))
def test_options_that_stand_alone_are_of_some_command_or_script(name):
    known = {
        option
        for command in leaves(cli)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    scripts = "".join(p.read_text(encoding="utf-8") for p in ROOT.glob("scripts/*.py"))
    lines = shell_lines(PAGES[name])
    said = {re.split(r"[ =]", line)[0] for line in lines if line.startswith("--")}
    said -= {"--help", "--version", "--cite"}
    assert {one for one in said - known if f'"{one}"' not in scripts} == set()


def test_its_scripts_and_their_options_exist():
    text = PAGES["README"] + PAGES["measured"] + PAGES["method"]
    lines = [line for line in shell_lines(text) if re.search(r"\.py --|scripts/", line)]
    assert len(lines) > 5
    for line in lines:
        script, *words = line.removeprefix("python ").split()
        path = ROOT / "scripts" / script.removeprefix("scripts/")
        both = {path, path.with_name("measuring.py")}
        text = "".join(p.read_text(encoding="utf-8") for p in both)
        for option in words:
            assert not option.startswith("--") or f'"{option}"' in text, line


def test_its_extras_exist():
    said = set(re.findall(r"'(?:mireg|\.)\[(\w+)\]'", PAGES["README"]))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert said <= set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    assert len(said) > 3


def test_ci_finds_its_two_commands():
    text = PAGES["README"]
    for name in ("demo", "test"):
        assert re.search(rf"<!-- {name} command -->\n```sh\n[^\n]+\n```", text)
