"""The list of messages finds them all, and they are as they should be."""

from __future__ import annotations

import re
from pathlib import Path

import list_messages

import mireg

FOUND = list_messages.messages()


def test_every_kind_is_found(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text(
        "raise InputError(f'{path}: it is bad; ' + 'mend it')\n"
        "warn('this is odd, and was left')\n"
        "notes.append(f'{name}: has {n} volumes')\n"
        "_ADVICE = 'is in voxels; give both'\n"
        "raise InputError(f'{path}: {_ADVICE}')\n"
        "notes += ('it is odd',)\n"
        "REASONS = {'overlap': 'too little {x}'}\n"
        "raise ValueError('not for people')\n"
    )
    found = [tuple(one) for one in list_messages.messages(tmp_path / "p")]
    assert found == [
        ("error", "p/a.py", 1, "{path}: it is bad; mend it"),
        ("warning", "p/a.py", 2, "this is odd, and was left"),
        ("note", "p/a.py", 3, "{name}: has {n} volumes"),
        ("error", "p/a.py", 5, "{path}: is in voxels; give both"),
        ("note", "p/a.py", 6, "it is odd"),
        ("note", "p/a.py", 7, "too little {x}"),
    ]


def test_no_error_of_the_package_is_missed():
    raised = 0
    for path in Path(mireg.__file__).parent.rglob("*.py"):
        raised += len(
            re.findall(r"raise \w*(?:InputError|FileError)\(", path.read_text())
        )
    errors = [one for one in FOUND if one.kind == "error"]
    assert len(errors) > 150
    assert len(errors) > 0.8 * raised  # the rest pass on what others say


def test_every_error_says_what_to_do():
    for one in FOUND:
        if one.kind == "error" and not one.text.rstrip(" /").endswith(
            "}"
        ):  # what others say
            assert re.search(r"; | must ", one.text), one


def test_messages_are_one_line_and_end_as_ours_do():
    for one in FOUND:
        assert "\n" not in one.text or one.kind == "part", one
        assert not one.text.rstrip().endswith((".", "!")), one


def test_the_script_prints_a_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["list_messages.py", "--kind", "warning"])
    assert list_messages.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said
    assert all(line.startswith("warning ") for line in said)
