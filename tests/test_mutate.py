"""The mutation test, on a project of a few lines."""

from __future__ import annotations

import ast
import json

import mutate
import pytest

SOURCE = '''"""A text with 1 + 1."""
from numpy import maximum

LIMIT: "int" = 3


@decorated(level=1)
def clip(x: int = 7, *, low=0):
    """Say 2."""
    if not x < low and x != 9:  # 5 µm
        return -x
    text = f"{x + 1}"
    x += maximum(
        low, text
    )
    return A @ (B - low * (x + 1))


class Box:
    width = True

    def grow(self):
        self.width = max(1, 2)
        self.tell(self.width, flush=False)
'''


def test_every_kind_of_mutant():
    found = [
        (m.function, m.kind, m.before, m.after)
        for m in mutate.mutants("f.py", SOURCE)
        if m.kind != "constant"
    ]
    condition = "if not x < low and x != 9:  # 5 µm"
    last = "return A @ (B - low * (x + 1))"
    assert sorted(found) == sorted(
        [
            ("clip", "operator", condition, "if (not x < low or x != 9):  # 5 µm"),
            ("clip", "sign", condition, "if (x < low) and x != 9:  # 5 µm"),
            ("clip", "comparison", condition, "if not (x <= low) and x != 9:  # 5 µm"),
            ("clip", "comparison", condition, "if not x < low and (x == 9):  # 5 µm"),
            ("clip", "deletion", "return -x", "pass"),
            ("clip", "sign", "return -x", "return (x)"),
            (
                "clip",
                "operator",
                "x += maximum( low, text )",
                "x -= maximum(low, text)",
            ),
            ("clip", "deletion", "x += maximum( low, text )", "pass"),
            (
                "clip",
                "extremum",
                "x += maximum( low, text )",
                "x += minimum(low, text)",
            ),
            (
                "clip",
                "exchange",
                "x += maximum( low, text )",
                "x += maximum(text, low)",
            ),
            ("clip", "deletion", last, "pass"),
            ("clip", "exchange", last, "return ((B - low * (x + 1)) @ A)"),
            ("clip", "operator", last, "return A @ ((B + low * (x + 1)))"),
            ("clip", "operator", last, "return A @ (B - (low / (x + 1)))"),
            ("clip", "operator", last, "return A @ (B - low * ((x - 1)))"),
            ("Box.grow", "deletion", "self.width = max(1, 2)", "pass"),
            (
                "Box.grow",
                "extremum",
                "self.width = max(1, 2)",
                "self.width = min(1, 2)",
            ),
            (
                "Box.grow",
                "exchange",
                "self.width = max(1, 2)",
                "self.width = max(2, 1)",
            ),
            ("Box.grow", "deletion", "self.tell(self.width, flush=False)", "pass"),
        ]
    )


def test_numbers_of_texts_annotations_and_decorators_are_left_alone():
    found = [m for m in mutate.mutants("f.py", SOURCE) if m.kind == "constant"]
    assert [(m.line, m.function, m.after) for m in found] == [
        (4, "", 'LIMIT: "int" = 4'),
        (8, "clip", "def clip(x: int = 8, *, low=0):"),
        (8, "clip", "def clip(x: int = 7, *, low=1):"),
        (10, "clip", "if not x < low and x != 10:  # 5 µm"),
        (16, "clip", "return A @ (B - low * (x + 2))"),
        (20, "Box", "width = False"),
        (23, "Box.grow", "self.width = max(2, 2)"),
        (23, "Box.grow", "self.width = max(1, 3)"),
        (24, "Box.grow", "self.tell(self.width, flush=True)"),
    ]


def test_a_mutant_is_python_and_another_program():
    original = ast.dump(ast.parse(SOURCE))
    others = [ast.dump(ast.parse(m.source)) for m in mutate.mutants("f.py", SOURCE)]
    assert original not in others
    assert len(set(others)) == len(others)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write a project: a function with a test that does not see all of it."""
    root = tmp_path / "project"
    for name in ("mireg", "tests"):
        (root / name).mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / "mireg/__init__.py").write_text("")
    source = "def f(x):\n    while x > 7:\n        x -= 1\n    return x\n"
    (root / "mireg/down.py").write_text(source)
    (root / "tests/test_down.py").write_text(
        "import sys\n"
        "from mireg.down import f\n"
        "def test():\n"
        f"    assert {str(root)!r} not in sys.modules['mireg'].__file__\n"
        "    assert f(9) == 7\n"
    )
    monkeypatch.setattr(mutate, "ROOT", root)
    monkeypatch.setattr(mutate, "COPIED", ("mireg", "tests", "pyproject.toml"))
    monkeypatch.setattr(mutate, "TESTS", {"mireg": ("tests/test_down.py",)})
    monkeypatch.setattr(mutate, "EXPLAINED", root / "explained.json")
    monkeypatch.setattr(mutate, "GRACE_S", 0.0)
    (root / "explained.json").write_text("[]")
    return root


@pytest.mark.slow
def test_survivors_are_told_until_they_are_explained(project, monkeypatch, capsys):
    assert mutate.main(["mireg/down.py", "--jobs", "2"]) == 1
    said = capsys.readouterr().out
    assert "6 of 6 mutants" in said
    assert said.count(" killed ") == 3
    assert said.count(" timed out ") == 2  # x never falls
    assert "5 of 6 noticed, 0 explained, 1 not" in said
    assert "mireg/down.py:3 f: constant\n- x -= 1\n+ x -= 2\n{" in said
    assert "x -= 1" in (project / "mireg/down.py").read_text()

    entry = json.loads(said.splitlines()[-1])
    gone = {**entry, "before": "x -= 3"}
    (project / "explained.json").write_text(json.dumps([entry, gone]))
    source = (project / "mireg/down.py").read_text()
    found = mutate.mutants("mireg/down.py", source)
    some = [mutant for mutant in found if mutant.after == "x -= 2"]
    monkeypatch.setattr(mutate, "mutants", lambda file, _: some[: file == some[0].file])
    assert mutate.main(["mireg"]) == 0
    said = capsys.readouterr().out
    assert "0 of 1 noticed, 1 explained, 0 not" in said
    assert "explained is what is no more: x -= 3" in said


@pytest.mark.slow
def test_tests_that_fail_anyhow_notice_nothing(project):
    (project / "tests/test_down.py").write_text("def test():\n    assert False\n")
    with pytest.raises(SystemExit, match="without a mutant these fail"):
        mutate.main(["mireg"])


@pytest.mark.usefixtures("project")
def test_the_draw_depends_on_the_seed_alone(capsys):
    draws = []
    for seed in "001":
        assert mutate.main(["mireg", "--list", "--sample", "3", "--seed", seed]) == 0
        draws.append(capsys.readouterr().out)
    assert draws[0] == draws[1] != draws[2]
    assert draws[0].startswith("3 of 6 mutants")


def test_tests_are_there_for_what_is_mutated_by_default():
    for file in mutate.files_of(mutate.DEFAULT):
        assert all((mutate.ROOT / test).is_file() for test in mutate.tests_of(file))
    with pytest.raises(SystemExit, match="names no tests"):
        mutate.tests_of("mireg/__main__.py")
    with pytest.raises(SystemExit, match=r"there is no mireg/gone\.py"):
        mutate.files_of(["mireg/gone.py"])


def test_every_explanation_is_of_a_mutant_that_there_is():
    files = {key[0] for key in mutate.explained()}
    keys = {
        mutant.key
        for file in files
        for mutant in mutate.mutants(file, (mutate.ROOT / file).read_text())
    }
    assert set(mutate.explained()) <= keys
