"""Errors that Python people catch, and warnings that name the caller's line."""

from __future__ import annotations

import ast
import logging
import pickle
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import ball

import mireg
from mireg._contrast import read_cohort
from mireg.cli import main
from mireg.cli.common import log_told

SMALL = mireg.Image(np.arange(24).reshape(2, 3, 4), np.eye(4))
BALL = ball() + np.arange(14)


@pytest.fixture
def odd_file(tmp_path):
    """Write an image with two volumes where one is asked for."""
    nib.Nifti1Image(np.stack([BALL, BALL], axis=-1), np.eye(4)).to_filename(
        tmp_path / "odd.nii"
    )
    return tmp_path / "odd.nii"


@pytest.mark.parametrize("kind", [FileNotFoundError, ValueError, mireg.MiregError])
def test_a_missing_file_is_caught_as_any_of(kind, tmp_path):
    with pytest.raises(kind) as caught:
        mireg.read_image(tmp_path / "gone.nii")
    assert isinstance(caught.value, mireg.MissingFileError)
    assert str(caught.value) == (
        f"{tmp_path / 'gone.nii'}: there is no such file; check the path"
    )


def test_the_command_says_the_same_line_of_a_missing_file(tmp_path, capsys):
    assert main(["contrast", str(tmp_path / "gone.nii")]) == 2
    line = f"{tmp_path / 'gone.nii'}: there is no such file; check the path"
    assert capsys.readouterr().err == f"mireg: error: {line}\n"


def test_missing_things_of_all_kinds(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder; make it first"):
        mireg.write_image(tmp_path / "gone" / "a.nii", SMALL)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_cohort(tmp_path / "gone.json")
    (tmp_path / "a.img").write_bytes(b"\0" * 100)
    with pytest.raises(FileNotFoundError, match=r"its header .*a\.hdr is missing"):
        mireg.read_image(tmp_path / "a.img")
    nib.Nifti1Pair(np.ones((2, 3, 4), np.int16), np.eye(4)).to_filename(
        tmp_path / "b.img"
    )
    (tmp_path / "b.img").unlink()
    with pytest.raises(FileNotFoundError, match=r"voxels are in .*b\.img, which is"):
        mireg.read_image(tmp_path / "b.hdr")


def test_an_output_that_exists_is_caught_as_such(tmp_path):
    mireg.write_image(tmp_path / "a.nii", SMALL)
    with pytest.raises(FileExistsError, match=r"a\.nii: exists already") as caught:
        mireg.write_image(tmp_path / "a.nii", SMALL)
    assert isinstance(caught.value, mireg.OutputExistsError)
    assert "--" not in str(caught.value)


def test_only_the_command_speaks_of_its_options(odd_file, capsys):
    argv = ["contrast", str(odd_file), "--csv", str(odd_file.with_suffix(".csv"))]
    assert main(argv) == 0
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mireg: error: {odd_file.with_suffix('.csv')}: exists")
    assert said.endswith("or give --force\n")


@pytest.mark.parametrize("kind", [mireg.MissingFileError, mireg.OutputExistsError])
def test_errors_travel_between_processes(kind):
    there = pickle.loads(pickle.dumps(kind("a.nii: is wrong")))
    assert (type(there), str(there)) == (kind, "a.nii: is wrong")


@pytest.mark.parametrize(
    "call",
    [
        lambda path: mireg.read_image(path).shape,
        lambda path: mireg.read_image(nib.load(path)),
        lambda path: mireg.contrast(path).score,
        lambda path: mireg.score(path, (BALL, np.eye(4))),
    ],
)
def test_a_warning_names_the_line_that_called(call, odd_file):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(odd_file)
    assert [one.category for one in caught] == [mireg.MiregWarning]
    assert caught[0].filename == __file__
    assert caught[0].lineno == call.__code__.co_firstlineno


def test_nothing_is_logged_unless_asked_for(tmp_path, capsys, caplog):
    mireg.write_image(tmp_path / "a.nii", SMALL)
    mireg.read_image(tmp_path / "a.nii")
    assert capsys.readouterr() == ("", "")
    caplog.set_level("DEBUG", "mireg")
    mireg.read_image(tmp_path / "a.nii")
    mireg.write_image(tmp_path / "b.nii", SMALL)
    assert caplog.record_tuples == [
        (
            "mireg._files.formats",
            10,
            f"read {tmp_path / 'a.nii'}: shape (2, 3, 4), float32",
        ),
        ("mireg._files.writing", 10, f"wrote {tmp_path / 'b.nii'}"),
    ]


def test_verbose_shows_what_every_module_logs(capsys):
    with log_told(verbose=True):
        logging.getLogger("mireg._engine.search").info("12 candidates")
        logging.getLogger("mireg._files.formats").debug("read a.nii")
    logging.getLogger("mireg._engine.search").info("nobody asked")
    assert capsys.readouterr().err == "12 candidates\n"


def test_only_one_place_warns_and_messages_name_no_option():
    package = Path(mireg.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "_errors.py":
            assert "warnings.warn(" not in text, path
        if "cli" not in path.parts:
            said = [
                node.value
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Raise)
                for node in ast.walk(node)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            options = [text for text in said if re.search(r"(^|\s)--\w", text)]
            assert options == [], path
