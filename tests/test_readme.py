"""What the README says can be typed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import click
import pytest

from mireg.cli import cli

README = Path(__file__).parents[1] / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="no README beside tests")


def commands():
    """Every command of the command line by its words, as ``prior learn``."""
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            for inner, leaf in command.commands.items():
                yield f"{name} {inner}", leaf
        else:
            yield name, command


def test_its_examples_give_what_it_says():
    failed, tried = doctest.testfile(str(README), module_relative=False)
    assert tried > 3
    assert failed == 0


def test_its_commands_exist_and_none_is_forgotten():
    text = README.read_text(encoding="utf-8")
    known = dict(commands())
    for name in known:
        assert f"mireg {name}" in text
    for said in re.findall(r"mireg ([a-z]+(?: learn)?)\b", text):
        if f"`mireg {said}" in text or f"$ mireg {said}" in text:
            assert said in known


def test_its_options_exist():
    options = {
        option
        for _, command in commands()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    text = README.read_text(encoding="utf-8")
    spans = re.findall(r"`(--[a-z-]+)|`mireg [^`]*?(--[a-z-]+)", text)
    said = {first or second for first, second in spans} - {"--help", "--fast"}
    said.discard("--kinds")  # of the scripts
    assert len(said) > 5
    assert said <= options


def test_ci_finds_its_two_commands():
    text = README.read_text(encoding="utf-8")
    for name in ("demo", "test"):
        assert re.search(rf"<!-- {name} command -->\n```sh\n[^\n]+\n```", text)
