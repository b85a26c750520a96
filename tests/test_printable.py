"""What files and their names hold never reaches a terminal as it is."""

from __future__ import annotations

import csv
import io
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mireg
from mireg._errors import printable, warn
from mireg._files.records import to_json
from mireg._files.tables import to_csv
from mireg.cli import main

RED = "\x1b[31m"
ODD = f"a{RED}\n\x9b2J\u202eb"
ESCAPED = r"a\x1b[31m\n\x9b2J\u202eb"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with an image under an odd name."""
    x = np.arange(1000).reshape(10, 10, 10)
    ball = np.exp(-((x // 100 - 5) ** 2 + (x // 10 % 10 - 5) ** 2) / 9.0) * 900
    image = nib.Nifti1Image((ball + x % 10).astype(np.float32), np.diag([3, 3, 3, 1]))
    nib.save(image, tmp_path / f"{ODD}.nii")
    np.save(tmp_path / "one.npy", np.eye(4))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_that_is_not_printable_is_escaped():
    assert printable(ODD) == ESCAPED
    assert printable("T1 größer 脳.nii") == "T1 größer 脳.nii"
    assert printable("\udcff\t\x00\x7f") == r"\udcff\t\x00\x7f"


def test_errors_and_warnings_are_one_printable_line():
    for kind in (mireg.InputError, mireg.MissingFileError, mireg.OutputExistsError):
        assert str(kind(ODD)) == ESCAPED
    with pytest.warns(mireg.MiregWarning, match=re.escape(ESCAPED)):
        warn(ODD)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", f"{ODD}.nii"],
        ["inspect", f"{ODD}.nii", "--json"],
        ["contrast", f"{ODD}.nii"],
        ["contrast", f"{ODD}.nii", "--csv", "-"],
        ["score", f"{ODD}.nii", f"{ODD}.nii", "--json"],
        ["score", f"{ODD}.nii", f"{ODD}.nii"],
        ["apply", f"{ODD}.nii", "--like", f"{ODD}.nii", "-t", "one.npy", "-o"],
        ["convert", "one.npy", "--fixed", f"{ODD}.nii"],
        ["convert", "one.npy", "--fixed", f"{ODD}.nii", "--json"],
        ["register", *[f"{ODD}.nii"] * 2, "--init", "header", "--accept", "-v", "-o"],
    ],
    ids=lambda words: " ".join(map(printable, words)),
)
@pytest.mark.usefixtures("folder")
def test_commands_print_names_escaped(words, capsys):
    if words[-1] == "-o":
        words = [*words, f"{ODD}_out.nii.gz"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(words) == 0
    out, err = capsys.readouterr()
    said = (out + err).split("\n")
    assert [line for line in said if not line.isprintable()] == []
    if words[0] != "score" or "--json" in words:
        assert r"\u202e" in out + err


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", f"{ODD}.gone"],
        ["convert", f"{ODD}.gone"],
        ["prior", "learn", f"{ODD}.gone", "-o", "p.json"],
        ["register", f"{ODD}.nii", f"{ODD}.nii", "--init", f"{ODD}.gone"],
        ["register", f"{ODD}.nii", f"{ODD}.nii", "--prior", f"{ODD}.json"],
        ["register", f"{ODD}.nii", f"{ODD}.nii", "--metric", ODD],
        ["register", f"{ODD}.nii", f"{ODD}.nii", "--transform-format", ODD],
        ["register", f"{ODD}.nii", f"{ODD}.nii", f"--{ODD}"],
        ["contrast", f"{ODD}.nii", "--reference", f"{ODD}.json"],
        [ODD],
    ],
    ids=lambda words: " ".join(map(printable, words)),
)
@pytest.mark.usefixtures("folder")
def test_errors_of_commands_are_one_printable_line(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err[:-1].isprintable()


def test_texts_in_files_are_escaped(folder, capsys):
    (folder / "t.tfm").write_text(
        f"#Insight Transform File V1.0\n#Transform 0\nTransform: Evil{RED}_double_3_3\n"
        "Parameters: 1\nFixedParameters: 0\n"
    )
    (folder / "pairs.csv").write_text(f"fixed,moving,{RED}\na,b,c\n")
    (folder / "link.tfm").symlink_to(f"gone{RED}")
    for words in (
        ["convert", "t.tfm"],
        ["convert", "link.tfm"],
        ["prior", "learn", "pairs.csv", "-o", "p.json"],
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert err[:-1].isprintable()
        assert r"\x1b[31m" in err


@pytest.mark.usefixtures("folder")
def test_the_type_of_an_x5_transform_is_escaped(capsys):
    h5py = pytest.importorskip("h5py")
    mireg.write_transform("t.x5", np.eye(4))
    with h5py.File("t.x5", "r+") as opened:
        opened["TransformGroup/0"].attrs["Type"] = f"evil{RED}"
    assert main(["convert", "t.x5"]) == 2
    assert r"evil\x1b[31m" in capsys.readouterr().err


def test_json_escapes_what_a_terminal_would_obey():
    text = to_json({"path": ODD, "good": "größer"})
    assert "größer" in text
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_runs_no_cell(start):
    rows = [{"image": f"{start}cmd|'/c calc'!A0", "score": -1.5, "note": "a, b"}]
    (made,) = csv.DictReader(io.StringIO(to_csv(rows)))
    assert made["image"].startswith("'")
    assert made["score"] == "-1.5"
    assert made["note"] == "a, b"


def test_one_function_prints():
    cli = Path(mireg.__file__).parent / "cli"
    prints = {
        f"{path.name}: {line.strip()}"
        for path in cli.glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(print|echo|secho)\(", line)
    }
    ours = {"__init__.py: click.echo(context.get_help())"}
    assert prints - ours == {
        "common.py: click.echo(mark + shown, err=err, nl=nl, color=colour())",
        # A picture as a terminal takes it.
        'terminal.py: click.echo(_kitty(picture) if how == "kitty" else '
        "_sixel(picture), color=True)",
        # The progress bar, which is all ours.
        'common.py: click.echo(f"\\r{line}\\x1b[K", err=True, nl=False, color=True)',
    }
