"""The guide: its command, its pages, and that their examples print what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import run_guide

import mireg
from mireg import _parameters
from mireg.cli import cli, guide, main, reference

ROOT = Path(__file__).parents[1]
TOPICS = guide.topics()
WITH_EXAMPLES = {
    name: text
    for name, path in run_guide.pages().items()
    if path.exists() and list(run_guide.steps(text := path.read_text("utf-8")))
}


# --- examples -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WITH_EXAMPLES.keys() - {"README"}))
def test_examples_print_what_a_page_says(name, tmp_path):
    wrong = run_guide.run_page(WITH_EXAMPLES[name], tmp_path)
    assert not wrong, "\n".join(f"{step.text}\n{printed}" for step, printed in wrong)


@pytest.mark.slow
@pytest.mark.skipif("README" not in WITH_EXAMPLES, reason="no README beside tests")
def test_examples_of_the_readme_can_be_run_again_where_they_were(tmp_path):
    for _ in range(2):
        assert run_guide.run_page(WITH_EXAMPLES["README"], tmp_path) == []


def test_most_pages_have_examples():
    assert len(WITH_EXAMPLES) > 8


@pytest.mark.parametrize(
    ("printed", "said", "same"),
    [
        ("1.2348 mm", "1.2346 mm", True),
        ("1.2648 mm", "1.2346 mm", False),  # more than 2 % off
        ("0.13 mm", "0.11 mm", True),
        ("0.14 mm", "0.11 mm", False),  # 3 units of the last digit, 27 %
        ("17 pairs", "18 pairs", False),  # counted, not measured
        ("a\n  b  c\n", "a b c", True),
        ("a b", "a c", False),
        ("3 s in all, and more", "... in all...", True),
        ("3 s in all", "... at all...", False),
        ("(0.02 left)", "(0.01 right)", True),
        ("(0.42 left)", "(0.42 right)", False),
        ("", "", True),
        ("something", "", False),
    ],
)
def test_numbers_are_held_to_what_a_page_says_within_a_tolerance(printed, said, same):
    assert run_guide.matches(printed, said) is same


def test_a_wrong_example_is_found(tmp_path):
    page = (
        "```console\n$ mireg guide bidz\nmireg: error: it is fine\n```\n"
        "```python\n>>> 1 + 1\n3\n>>> x = 2\n```\n"
        "```python\n>>> x\n2\n```\n"
        "```console\n$ echo one \\\n  two\none two\n```\n"
    )
    wrong = run_guide.run_page(page, tmp_path)
    assert [step.text.strip().splitlines()[0] for step, _ in wrong] == [
        "mireg guide bidz",
        ">>> 1 + 1",
    ]


def test_what_is_printed_is_put_into_a_page(tmp_path):
    page = "```console\n$ echo 1.5\n1.0\n```\n\n```console\n$ echo 2\n...3\n```\n"
    wrong = run_guide.run_page(page, tmp_path)
    mended = page.replace("1.0", "1.5")
    assert run_guide.written(page, wrong) == mended  # what holds ... is left alone


# --- pages ----------------------------------------------------------------------------


def test_every_page_is_listed_once_and_nothing_else_is():
    written = {path.stem for path in guide.FOLDER.glob("*.md")} - {"index"}
    assert set(TOPICS) == written | set(guide.GENERATED)
    index = (guide.FOLDER / "index.md").read_text("utf-8")
    assert len(re.findall(r"\]\([\w-]+\.md\)", index)) == len(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_begins_with_its_title_and_links_to_what_there_is(topic):
    text = guide.page(topic)
    assert text.startswith(f"# {TOPICS[topic]}\n")
    for target in re.findall(
        r"\]\(([^):]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)
    ):
        page = target.partition("#")[0].removesuffix(".md")
        assert page in TOPICS or (guide.FOLDER / target).is_file(), target


def test_the_readme_links_to_what_there_is():
    if not run_guide.README.exists():
        pytest.skip("no README beside the tests")
    text = run_guide.README.read_text("utf-8")
    targets = re.findall(r"\]\(([^):]+)\)", text)
    assert len(targets) > 10
    assert [one for one in targets if not (ROOT / one).is_file()] == []
    assert 120 < len(text.splitlines()) <= 200


def test_the_limits_in_the_readme_are_those_of_the_guide():
    if not run_guide.README.exists():
        pytest.skip("no README beside the tests")
    (said,) = re.findall(
        r"^## Limits\n\n(.*?)\n\n## ", run_guide.README.read_text("utf-8"), re.M | re.S
    )
    assert guide.page("limits") == f"# Limits\n\n{said}\n"


def test_pictures_are_light():
    pictures = list((guide.FOLDER / "pictures").iterdir())
    assert all(path.stat().st_size < 150_000 for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < 1_000_000


def test_every_command_and_option_is_in_the_reference():
    text = guide.page("commands")
    for path, command in reference.leaves(cli, ("mireg",)):
        assert f"## {' '.join(path)}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in text


def test_every_public_name_is_in_the_reference():
    text = guide.page("python")
    for name in set(dir(mireg)) - {"__version__"}:
        assert f"`mireg.{name}" in text, name


def test_every_number_of_the_method_is_listed_with_its_reason():
    text = guide.page("numbers")
    names = [name for name in vars(_parameters) if name.isupper()]
    assert len(names) > 40
    for name in names:
        assert re.search(rf"^[^\n]*\b{name}\b[^\n]*=", text, re.M), name
    # A block of code without words behind it has no reason.
    assert not re.search(r"```\n\n(```python|## |\Z)", text)


def test_every_field_of_the_record_is_listed():
    text = guide.page("record")
    path = Path(mireg.__file__).with_name("_files") / "registration.schema.json"
    schema = json.loads(path.read_text("utf-8"))
    for name in schema["properties"]:
        assert f"`{name}` (" in text
    assert "`image.contrast.score_bits` (number)" in text


# --- the command ----------------------------------------------------------------------


def test_topics_are_listed(capsys):
    assert main(["guide"]) == 0
    said = capsys.readouterr().out
    for topic, title in TOPICS.items():
        assert re.search(rf"^  {topic} +{re.escape(title)}$", said, re.M)


def test_a_page_is_plain_when_piped():
    command = [sys.executable, "-m", "mireg", "guide", "start"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("# Start here\n")
    assert "\x1b" not in said
    assert "(mireg guide is-it-right)" in said
    assert ".md)" not in said
    assert max(map(len, said.splitlines())) < 140


@pytest.mark.parametrize("topic", guide.GENERATED)
def test_lines_of_text_fit_a_terminal(topic):
    shown = guide.for_terminal(guide.page(topic))
    outside = re.sub(r"```.*?```", "", shown, flags=re.S)
    assert max(map(len, outside.splitlines())) <= 100


def test_a_wrong_topic_is_told_the_nearest(capsys):
    assert main(["guide", "trnsforms"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "mireg: error: the guide has no topic 'trnsforms'; nearest: transforms; "
        "mireg guide lists all\n"
    )


def test_how_to_cite(capsys):
    assert main(["--cite"]) == 0
    said = capsys.readouterr().out
    assert f"version = {{{mireg.__version__}}}" in said
    assert said.count("{") == said.count("}")
