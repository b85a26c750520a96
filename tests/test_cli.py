"""The command line as its users meet it: files, words, exit codes."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import nibabel as nib
import numpy as np
import pytest
from checks import assert_close_pose

from mireg import Registration, __version__
from mireg._engine.verdict import Verdict
from mireg._errors import InputError
from mireg._files import nifti
from mireg._image import Image
from mireg._report.words import expected_error
from mireg._settings import Settings
from mireg._transform import RigidTransform, read_transform, write_transform
from mireg.cli import cli, main
from mireg.cli import phantom as cli_phantom
from mireg.cli.reference import leaves
from mireg.phantom import KINDS, hard_pair, phantom_pair

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
SIZE = 6.0


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=SIZE, moving_voxel_size_mm=SIZE
    )


@pytest.fixture
def scans(pair, tmp_path, monkeypatch):
    """Put both scans into a folder of their own, and go there."""
    monkeypatch.chdir(tmp_path)
    int16 = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    nifti.write_image("t1.nii.gz", pair.fixed, template=int16)
    nifti.write_image("t2.nii.gz", pair.moving, template=int16)
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, *argv):
    """Run a command that must be refused; return its one line."""
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mireg: error: ")
    return lines[0]


# --- help -------------------------------------------------------------------


def test_help_needs_no_heavy_module():
    code = (
        "import sys; from mireg.cli import main; status = main(['register', '--help']);"
        "heavy = {'numba', 'scipy', 'nibabel', 'numpy', 'skimage'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--moving-mask" in done.stdout


def test_python_m_mireg_tells_what_it_runs_on():
    done = subprocess.run(
        [sys.executable, "-m", "mireg", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    ours, others, machine = done.stdout.splitlines()
    assert ours == f"mireg {__version__}"
    for module in (np, nib):
        assert f"{module.__name__} {module.__version__}" in others
    assert "numba " in others
    assert re.search("[1-9][0-9]* threads", machine)


@pytest.mark.parametrize(
    "command", ["register", "apply", "convert", "demo", "phantom", "inspect"]
)
def test_each_help_has_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example" in said
    assert f"  mireg {command} " in said
    assert max(len(line) for line in said.splitlines()) <= 88


def test_alone_it_shows_its_help(capsys):
    assert main([]) == 0
    assert "mireg demo" in capsys.readouterr().out


# --- register ---------------------------------------------------------------


def test_register_writes_three_files(scans, capsys):
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "--json"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert files(scans) == [
        "t1.nii.gz",
        "t2.nii.gz",
        *("t2_to_t1.json", "t2_to_t1.nii.gz", "t2_to_t1.tfm"),
    ]
    text = (scans / "t2_to_t1.json").read_text()
    assert said.out == text
    record = json.loads(text)
    found = np.array(record["moving_from_fixed"])
    assert_close_pose(found, POSE.matrix, mm=1)
    in_file = read_transform("t2_to_t1.tfm")
    np.testing.assert_allclose(in_file, found, rtol=0, atol=1e-12)
    for name in ("fixed", "moving"):
        path = scans / record[name]["path"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert record[name]["sha256"] == digest
        assert record[name]["shape"] == list(nib.load(path).shape)
        np.testing.assert_allclose(record[name]["voxel_size_mm"], SIZE, rtol=1e-5)
    assert (
        Registration.load("t2_to_t1.json").moving_from_fixed.tolist()
        == (record["moving_from_fixed"])
    )
    assert set(record["seconds"]) >= {"start", "load", "register", "resample", "write"}
    assert record["metric"] in ("mi", "nmi")
    assert record["score"] > record["initial_score"]
    assert 0.8 < record["overlap_fraction"] <= 1
    assert record["rotation_deg"] == pytest.approx(POSE.angle_deg, abs=0.7)
    assert len(record["translation_mm"]) == 3
    assert record["settings"]["seed"] == 0
    assert record["mireg_version"] == __version__
    assert record["warnings"] == []
    moved, fixed = nib.load("t2_to_t1.nii.gz"), nib.load("t1.nii.gz")
    assert moved.get_data_dtype() == np.int16
    assert moved.shape == fixed.shape
    np.testing.assert_allclose(moved.affine, fixed.affine)
    scores = f"{record['score']:.4f} (before: {record['initial_score']:.4f})"
    assert f"score ({record['metric']})   {scores}" in said.err
    error = f"error expected from noise: {record['standard_error_mm']:.2g} mm"
    assert error in said.err
    fixed_bits, moving_bits = (
        record[role]["contrast"]["score_bits"] for role in ("fixed", "moving")
    )
    bits = f"{fixed_bits:.2f} bits from uniform, FIXED; {moving_bits:.2f}, MOVING"
    assert f"contrast      {bits}" in said.err
    rows = ("rotation", "translation", "image moved", "anatomy moved", "overlap")
    for word in (*rows, "t2_to_t1.tfm"):
        assert word in said.err
    there = np.linalg.inv(record["moving_from_fixed"]) @ [*record["centre_mm"], 1]
    moved = there[:3] - record["centre_mm"]
    (shown,) = re.findall(r"image moved +(.*)", said.err)
    side = "right" if moved[0] > 0 else "left"
    length = np.linalg.norm(moved)
    assert shown.startswith(f"{length:.2f} mm ({abs(moved[0]):.2f} {side}, ")
    parts = record["residuals"]
    half, most = (parts[name] for name in ("median_mm", "worst_mm"))
    fit = f"half fit best within {half:.2g} mm, 9 of 10 within {most:.2g} mm"
    assert fit in said.err


@pytest.mark.parametrize(
    ("error", "noise", "probability", "says"),
    [
        (0.5, 0.2, 0.9, "0.5 mm; 9 of 10 within 2 mm, if it is right"),
        (0.5, 0.7, 0.9, "about the 0.7 mm of noise, if it is right"),
        (0.5, 0.2, 0.1, "0.5 mm; 9 of 10 within 2 mm, if it is right"),
        (3.6, 0.2, 0.1, "not known, as the answer is doubtful"),
        (0.5, 120, 0.1, "not known, as the answer is doubtful"),
        (np.nan, np.nan, 0.1, "not known, as the answer is doubtful"),
    ],
)
def test_no_error_is_told_that_contradicts_the_rest(error, noise, probability, says):
    judged = Verdict(probability, 2.0, error, 4 * error, 0.9, 0.1, (), {})
    assert expected_error(judged, noise) == says


@pytest.mark.parametrize(
    ("argv", "of_others"),
    [
        (["-in", "a", "-ref", "b"], True),
        (["a", "b", "--cost", "mi"], True),
        (["a", "b", "-d", "3"], True),
        (["a", "b", "-omat", "x.mat"], True),  # click sees -o mat
        (["a", "b", "--outpt", "x"], False),
        (["a"], False),
    ],
)
def test_options_of_other_programs_are_sent_to_the_guide(argv, of_others, capsys):
    said = refused(capsys, "register", *argv)
    assert ("mireg guide coming-from" in said) is of_others
    assert "see mireg register --help" in said


@pytest.mark.parametrize(
    ("argv", "written", "suggests"),
    [
        (["a", "b", "-inn=6"], "-inn", None),  # not like --init
        (["a", "b", "-qz"], "-qz", None),
        (["a", "b", "-oout", "-qzap"], "-qzap", None),
        (["a", "b", "-o", "x", "-init", "header"], "-init", "--init"),
        (["a", "b", "-reports"], "-reports", "--report"),
        (["a", "b", "--metrik", "mi"], "--metrik", "--metric"),
        (["a", "b", "--verbsoe"], "--verbsoe", "--verbose"),
        (["a", "b", "--mask", "m"], "--mask", "--fixed-mask, --moving-mask"),
        (["a", "b", "--lambda", "1"], "--lambda", None),
        (["a", "b", "-d", "3"], "-d", None),
    ],
)
def test_an_unknown_option_is_told_as_it_was_written(argv, written, suggests, capsys):
    said = refused(capsys, "register", *argv)
    nearest = f"; nearest: {suggests}" if suggests else ""
    assert said.startswith(
        f"mireg: error: No such option '{written}'{nearest}; see mireg register --help"
    )


def test_of_a_missing_value_it_is_told_of_which_command(capsys):
    options = [
        (path, name)
        for path, command in leaves(cli, ("mireg",))
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag
        for name in option.opts
    ]
    assert len(options) > 100
    for path, name in options:
        said = refused(capsys, *path[1:], name)
        assert re.search(rf"Option '?{name}'? requires (an|2) argument", said)
        assert said.endswith(f"; see {' '.join(path)} --help")


def test_a_metric_that_needs_a_prior_says_how_to_give_one(scans, capsys):
    said = refused(capsys, "register", "t1.nii.gz", "t2.nii.gz", "--metric", "prior")
    assert "--metric prior needs --prior FILE; mireg prior learn makes one" in said
    assert files(scans) == ["t1.nii.gz", "t2.nii.gz"]


def test_quiet_says_nothing(scans, capsys):
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", "out", "--init", "identity"]
    assert main([*argv, "--quiet", "--metric", "mi", "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert json.loads((scans / "out.json").read_text())["metric"] == "mi"


def test_register_starts_from_a_file_and_within_masks(scans):
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -160
    nib.save(nib.Nifti1Image(np.ones((40, 40, 40), np.uint8), affine), "mask.nii")
    write_transform("start.tfm", POSE)
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "start.tfm", "-o", "x"]
    masks = ["--fixed-mask", "mask.nii", "--moving-mask", "mask.nii"]
    assert main([*argv, *masks]) == 0
    record = json.loads((scans / "x.json").read_text())
    assert_close_pose(record["moving_from_fixed"], POSE.matrix, mm=1)


@pytest.mark.parametrize(
    ("command", "start"), [("register", "--init"), ("score", "--transform")]
)
def test_each_mask_is_that_of_its_image(command, start, scans, pair):
    # So far apart that a mask of the other image would miss this one.
    away = RigidTransform([0, 0, 0], [5000, 0, 0]).matrix
    far = Image(pair.moving.data, away @ pair.moving.mm_from_ijk)
    nifti.write_image(scans / "far.nii.gz", far)
    write_transform("start.tfm", RigidTransform.from_matrix(away @ POSE.matrix))
    argv = [command, "t1.nii.gz", "far.nii.gz", start, "start.tfm"]
    for role, x in (("fixed", 0), ("moving", 5000)):
        affine = np.diag([8.0, 8, 8, 1])
        affine[:3, 3] = x - 160, -160, -160
        nib.save(
            nib.Nifti1Image(np.ones((40, 40, 40), np.uint8), affine), f"{role}.nii"
        )
        argv += [f"--{role}-mask", f"{role}.nii"]
    assert main(argv) == 0


def test_notes_are_told_and_recorded(scans, pair, capsys):
    series = np.stack([pair.moving.data] * 2, axis=-1)
    nib.save(nib.Nifti1Image(series, pair.moving.mm_from_ijk), "bold.nii")
    argv = ["register", "t1.nii.gz", "bold.nii", "--init", "header"]
    assert main(argv) == 0
    note = "bold.nii: has 2 volumes; their mean is used"
    assert f"mireg: note: {note}" in capsys.readouterr().err
    record = json.loads((scans / "bold_to_t1.json").read_text())
    assert record["warnings"] == [note]
    assert record["moving"]["volume"] == "mean"
    assert nib.load("bold_to_t1.nii.gz").ndim == 3
    assert main([*argv, "--moving-volume", "1", "--force"]) == 0
    record = json.loads((scans / "bold_to_t1.json").read_text())
    assert (record["warnings"], record["moving"]["volume"]) == ([], 1)


def test_existing_files_are_safe(scans, capsys):
    (scans / "out.tfm").write_text("mine")
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", "out", "--init", "header"]
    assert "out.tfm: exists already" in refused(capsys, *argv)
    assert files(scans) == ["out.tfm", "t1.nii.gz", "t2.nii.gz"]
    assert (scans / "out.tfm").read_text() == "mine"
    assert main([*argv, "--force"]) == 0
    assert (scans / "out.tfm").read_text().startswith("#Insight")


@pytest.mark.usefixtures("scans")
def test_an_input_is_never_replaced(capsys):
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", "t2", "--force"]
    assert "this is an input" in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (KeyboardInterrupt, (130, "mireg: stopped")),
        (OSError(28, "No space left"), (2, "cannot be written (No space left)")),
    ],
)
def test_nothing_is_left_when_it_stops(stop, expected, scans, capsys, monkeypatch):
    def fail(*_args, **_more):
        raise stop

    # The image is written by then.
    monkeypatch.setattr(sys.modules["mireg._results"], "to_json", fail)
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", "out", "--init", "header"]
    code, says = expected
    assert main([*argv, "--quiet"]) == code
    assert says in capsys.readouterr().err
    assert files(scans) == ["t1.nii.gz", "t2.nii.gz"]


@pytest.mark.usefixtures("scans")
def test_a_name_that_is_taken_meanwhile_leaves_no_other_file(capsys, monkeypatch):
    results = sys.modules["mireg._results"]
    real = results.to_json

    def taken(record):
        Path("out.json").mkdir()
        return real(record)

    monkeypatch.setattr(results, "to_json", taken)
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", "out", "--init", "header"]
    assert "out.json: this is a folder" in refused(capsys, *argv, "-q")
    assert files(Path()) == ["out.json", "t1.nii.gz", "t2.nii.gz"]


def test_unknown_errors_keep_their_traceback(scans, monkeypatch):
    def fail(*_args, **_more):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["mireg._register"], "register", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["register", "t1.nii.gz", "t2.nii.gz"])
    assert files(scans) == ["t1.nii.gz", "t2.nii.gz"]


@pytest.mark.usefixtures("scans")
def test_progress_is_for_terminals(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["register", "t1.nii.gz", "t2.nii.gz", "--init", "header"]) == 0
    said = capsys.readouterr().err
    assert "#] " in said
    assert "\r" in said


@pytest.mark.parametrize("folder", [".", "sub/", "sub", None])
def test_an_output_may_be_a_folder(folder, scans):
    Path("sub").mkdir()
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--no-image", "--init", "header"]
    assert main([*argv, *(["-o", folder] if folder else [])]) == 0
    where = scans / (folder or ".")
    assert {"t2_to_t1.json", "t2_to_t1.tfm"} <= set(files(where))
    assert len(files(scans)) + len(files(scans / "sub")) == 5
    argv = ["apply", "t2.nii.gz", "--like", "t1.nii.gz", "-q"]
    argv += ["-t", str(where / "t2_to_t1.tfm")]
    assert main([*argv, "-o", folder or "."]) == 0
    assert (where / "t2_to_t1.nii.gz").is_file()


@pytest.mark.parametrize(
    ("output", "image"), [("x.nii.gz", "x.nii.gz"), ("x.nii", "x.nii"), ("x.tfm", None)]
)
def test_an_output_may_be_the_very_name_of_a_file(output, image, scans):
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-q"]
    argv += ["-o", output, "--inverse"]
    assert main(argv) == 0
    image = image or "x.nii.gz"
    back = image.replace("x", "x_inverse")
    made = {"x.json", "x.tfm", image, back}
    assert set(files(scans)) - {"t1.nii.gz", "t2.nii.gz"} == made
    assert nib.load(image).shape == nib.load("t1.nii.gz").shape


def test_names_of_bids_go_to_a_folder(scans):
    Path("sub-1_T1w.nii.gz").symlink_to("t1.nii.gz")
    Path("sub-1_T2w.nii.gz").symlink_to("t2.nii.gz")
    Path("derivatives").mkdir()
    argv = ["register", "sub-1_T1w.nii.gz", "sub-1_T2w.nii.gz", "--init", "header"]
    assert main([*argv, "-o", "derivatives/", "--no-image"]) == 0
    assert files(scans / "derivatives") == [
        "sub-1_from-T2w_to-T1w_mode-image_xfm.json",
        "sub-1_from-T2w_to-T1w_mode-image_xfm.txt",
    ]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("gone/", "gone: there is no such folder"),
        ("gone/x", "gone: there is no such folder"),
        ("t1.nii.gz/x", "Not a directory"),
        ("x" * 250, "File name too long"),
        (".nii.gz", "add how the names of the files begin"),
        ("loop", "loop.json: cannot be written (Too many levels of symbolic links)"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_search(
    output, says, scans, capsys, monkeypatch
):
    def fail(*_args, **_more):
        raise AssertionError

    monkeypatch.setattr(sys.modules["mireg._register"], "register", fail)
    Path("loop.json").symlink_to("loop.json")
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", output, "--force"]
    assert says in refused(capsys, *argv)
    assert files(scans) == ["loop.json", "t1.nii.gz", "t2.nii.gz"]


def test_long_names_work(scans):
    name = "x" * (255 - len(".nii.gz"))
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "-o", name, "--init", "header", "-q"]
    assert main(argv) == 0
    assert f"{name}.nii.gz" in files(scans)


@pytest.mark.usefixtures("scans")
def test_the_summary_goes_to_stdout(capsys):
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-o", "x"]
    began = time.perf_counter()
    assert main(argv) == 0
    took = time.perf_counter() - began
    said = capsys.readouterr()
    assert said.err == ""
    for word in ("rotation", "translation", "overlap", "x.tfm"):
        assert word in said.out
    (line,) = re.findall("seconds +(.*) in all", said.out)
    *parts, total = map(float, re.findall("[0-9.]+", line))
    assert len(parts) == 5
    assert total == pytest.approx(sum(parts), abs=0.31)  # each is rounded
    assert total == pytest.approx(took, abs=0.15)
    for word in ("verdict", "likely right within", "9 of 10 within"):
        assert word in said.out


@pytest.fixture
def doubt(monkeypatch):
    """Let every answer be doubtful."""
    module = sys.modules["mireg._register"]
    real = module.verdict

    def doubtful(*args, **more):
        return replace(real(*args, **more), probability=0.12, reasons=("a", "b", "c"))

    monkeypatch.setattr(module, "verdict", doubtful)


REGISTER = ("register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-o", "x", "-q")


@pytest.mark.usefixtures("scans", "doubt")
def test_a_doubtful_answer_is_told_and_has_an_exit_code(capsys):
    assert main(REGISTER) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("mireg: note: the answer is doubtful, 12 % likely right")
    assert line.endswith(": a; b; look whether it is right")
    record = Registration.load("x.json")
    assert record.doubtful
    assert record.verdict.reasons == ("a", "b", "c")
    assert main([*REGISTER, "--force", "--accept"]) == 0


@pytest.mark.usefixtures("doubt")
def test_a_doubtful_answer_is_not_written_where_that_is_asked_for(scans, capsys):
    before = files(scans)
    assert main([*REGISTER[:-1], "--strict", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["verdict"]["probability"] == 0.12
    assert "nothing, as --strict says" in said.err
    assert files(scans) == before
    assert main([*REGISTER, "--strict", "--accept"]) == 0
    assert files(scans) == before


def test_an_answer_that_is_trusted_is_written_though_strict(scans):
    assert main([*REGISTER, "--strict", "--tolerance", "9"]) == 0
    assert "x.json" in files(scans)
    assert Registration.load("x.json").verdict.tolerance_mm == 9


# --- what is refused --------------------------------------------------------


@pytest.fixture
def odd(scans):
    """Add files that other tools broke on."""
    data = np.arange(60.0).reshape(3, 4, 5)

    def save(name, array):
        nib.save(nib.Nifti1Image(array, np.eye(4)), scans / name)

    save("constant.nii", np.ones((3, 4, 5)))
    save("complex.nii", data.astype(np.complex64))
    save("flat.nii", data[0])
    save("rgb.nii", np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    save("nan.nii", np.full((3, 4, 5), np.nan))
    save("zeros.nii", np.zeros((3, 4, 5)))
    far = np.eye(4)
    far[:3, 3] = 999
    nib.save(nib.Nifti1Image(np.eye(3)[..., None], far), scans / "far.nii")
    content = (scans / "t1.nii.gz").read_bytes()
    (scans / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (scans / "text.nii").write_text("no image")
    write_transform("scaled.tfm", np.diag([1.1, 1, 1, 1]))
    return scans


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--init", "banana"], "--init banana: neither auto"),
        (["--init", "scaled.tfm"], "scaled.tfm: the transform is not rigid"),
        (["--init", "t1.nii.gz"], "t1.nii.gz: not recognised as a transform"),
        (["--metric", "cc"], "--metric"),
        (["--threads", "0"], "--threads"),
        (["--moving-volume", "x"], "--moving-volume"),
        (["--moving-volume", "3"], "t2.nii.gz: there is no volume 3"),
        (["--fixed-mask", "zeros.nii"], "zeros.nii: the mask is empty"),
        (["--moving-mask", "far.nii"], "far.nii: the mask and its image overlap in 0"),
        (["--fixed-mask", "gone.nii"], "gone.nii: there is no such file"),
        (["--fill", "1e9"], "cannot hold the fill value"),
        (["-o", "gone/x"], "gone: there is no such folder"),
        (["--wrong"], "--wrong"),
    ],
)
def test_wrong_options(options, says, odd, capsys):
    before = files(odd)
    assert says in refused(capsys, "register", "t1.nii.gz", "t2.nii.gz", *options)
    assert files(odd) == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.nii", "no such file"),
        ("constant.nii", "constant"),
        ("complex.nii", "complex"),
        ("flat.nii", "2-D"),
        ("rgb.nii", "RGB"),
        ("nan.nii", "every voxel is NaN"),
        ("cut.nii.gz", "cut short"),
        ("text.nii", "cannot be read"),
        (".", "folder"),
    ],
)
def test_wrong_images(name, says, odd, capsys):
    before = files(odd)
    for argv in (["t1.nii.gz", name], [name, "t1.nii.gz"]):
        line = refused(capsys, "register", *argv, "-o", "out")
        assert says in line
        assert name in line
    assert files(odd) == before


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["register", "t1.nii.gz"], "MOVING"),
        (["nothing"], "No such command"),
        (["apply", "t1.nii.gz", "--like", "t1.nii.gz", "-o", "a.nii"], "--transform"),
        (["demo", "-o", "t1.nii.gz"], "not a folder"),
        (["demo", "-o", "gone/demo"], "no such folder"),
        (["phantom", "--contrast", "banana"], "--contrast"),
        (["phantom", "--seed", "-1"], "seed is -1"),
    ],
)
def test_wrong_usage(argv, says, odd, capsys):
    before = files(odd)
    assert says in refused(capsys, *argv)
    assert files(odd) == before


# --- apply ------------------------------------------------------------------


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Put a small image and two shifts into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    data = np.arange(1, 217, dtype=np.int16).reshape(6, 6, 6)
    nib.save(nib.Nifti1Image(data, np.eye(4)), "moving.nii.gz")
    write_transform("right.tfm", RigidTransform([0, 0, 0], [1, 0, 0]))
    write_transform("turn.tfm", RigidTransform([0, 0, np.pi / 2], [0, 0, 0]))
    return data


def apply(*argv, image="moving.nii.gz", out="out.nii.gz"):
    """Run `mireg apply` on the small image's own grid; return the result."""
    assert main(["apply", image, "--like", image, "-o", out, "-q", *argv]) == 0
    return np.asarray(nib.load(out).dataobj)


def test_apply_looks_where_the_transform_points(steps):
    found = apply("--transform", "right.tfm")
    np.testing.assert_array_equal(found[:-1], steps[1:])
    assert (found[-1] == 0).all()


@pytest.mark.usefixtures("steps")
def test_a_chain_is_given_in_the_order_in_which_the_image_travels():
    # The image is first moved with right.tfm, and what comes out with turn.tfm; in
    # one go nothing is lost at the border between.
    found = apply("-t", "right.tfm", "-t", "turn.tfm")
    apply("-t", "right.tfm", out="middle.nii.gz")
    twice = apply("-t", "turn.tfm", image="middle.nii.gz", out="twice.nii.gz")
    inside = twice > 0
    assert inside.sum() >= 6
    np.testing.assert_array_equal(found[inside], twice[inside])
    other = apply("-t", "turn.tfm", "right.tfm", out="other.nii.gz")
    assert (other != found).any()
    both = apply("--transform", "right.tfm", "turn.tfm", out="both.nii.gz")
    np.testing.assert_array_equal(both, found)


def test_four_dimensions_move_volume_by_volume(steps):
    series = np.stack([steps, 2 * steps, 3 * steps], axis=-1)
    image = nib.Nifti1Image(series, np.eye(4))
    image.header.set_zooms((1, 1, 1, 2.5))
    nib.save(image, "series.nii")
    found = apply("-t", "right.tfm", image="series.nii")
    np.testing.assert_array_equal(found[:-1], series[1:])
    assert nib.load("out.nii.gz").header.get_zooms()[3] == 2.5


@pytest.mark.usefixtures("steps")
def test_labels_by_nearest_stay_labels(rng):
    labels = rng.choice([0, 2, 1035, 14175], size=(6, 6, 6)).astype(np.int32)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), "labels.nii")
    write_transform("bit.tfm", RigidTransform([0.1, 0, 0.2], [0.6, -0.4, 0.3]))
    found = apply("-t", "bit.tfm", "--interpolation", "nearest", image="labels.nii")
    assert set(np.unique(found)) == {0, 2, 1035, 14175}
    assert found.dtype == np.int32


@pytest.mark.usefixtures("steps")
def test_cubic_overshoot_does_not_wrap():
    data = np.zeros((6, 6, 6), np.uint8)
    data[3:] = 255
    nib.save(nib.Nifti1Image(data, np.eye(4)), "edge.nii")
    write_transform("half.tfm", RigidTransform([0, 0, 0], [0.5, 0, 0]))
    found = apply("-t", "half.tfm", "--interpolation", "cubic", image="edge.nii")
    assert found.dtype == np.uint8
    row = found[:, 3, 3].astype(int)
    assert row[0] < 30
    assert row[1] == 0
    assert row[3] == 255
    assert row[4] > 225


@pytest.mark.usefixtures("steps")
def test_air_in_ct_is_not_zero():
    ct = np.full((6, 6, 6), -1000, np.int16)
    ct[2:4, 2:4, 2:4] = 40
    nib.save(nib.Nifti1Image(ct, np.eye(4)), "ct.nii")
    assert (apply("-t", "right.tfm", image="ct.nii")[-1] == -1000).all()
    filled = apply("-t", "right.tfm", "--fill", "-7", "--force", image="ct.nii")
    assert (filled[-1] == -7).all()


def test_apply_takes_a_matrix_that_scales(steps):
    np.savetxt("scale.txt", np.diag([0.5, 0.5, 0.5, 1]))
    found = apply("-t", "scale.txt", "--interpolation", "nearest")
    assert found[4, 4, 4] == steps[2, 2, 2]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-t", "gone.tfm", "-o", "a.nii"], "gone.tfm: there is no such file"),
        (["-t", "right.tfm", "-o", "a.img"], "must end in .nii or .nii.gz"),
        (["-t", "right.tfm", "-o", "right.tfm"], "right.tfm: exists already"),
        (["-t", "right.tfm", "-o", "moving.nii.gz", "--force"], "this is an input"),
        (["-t", "right.tfm", "-o", "a.nii", "--fill", "nan"], "cannot hold"),
    ],
)
@pytest.mark.usefixtures("steps")
def test_apply_refuses(argv, says, capsys, tmp_path):
    before = files(tmp_path)
    line = refused(capsys, "apply", "moving.nii.gz", "--like", "moving.nii.gz", *argv)
    assert says in line
    assert files(tmp_path) == before


# --- phantom and demo -------------------------------------------------------


def test_phantom_writes_scans_and_the_truth(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["phantom", "--contrast", "EPI", "--contrast", "CT", "--voxel-size", "8"]
    assert main(argv) == 0
    folder = tmp_path / "mireg-phantom"
    names = ["ct.nii.gz", "epi.nii.gz", "t1.nii.gz", "truth.json"]
    assert files(folder) == names
    truth = json.loads((folder / "truth.json").read_text())
    pair = phantom_pair("T1", "CT", fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    np.testing.assert_array_equal(
        truth["moving_from_fixed"], pair.moving_from_fixed.matrix
    )
    assert truth["schema"] == "mireg-transform/1"
    assert (truth["fixed"], truth["moving"]) == (
        "t1.nii.gz",
        ["epi.nii.gz", "ct.nii.gz"],
    )
    assert read_transform(folder / "truth.json") == pair.moving_from_fixed
    epi = phantom_pair("T1", "EPI", fixed_voxel_size_mm=20, moving_voxel_size_mm=20)
    assert epi.moving_from_fixed == pair.moving_from_fixed  # one pose for all
    np.testing.assert_array_equal(
        nib.load(folder / "ct.nii.gz").get_fdata(), np.rint(pair.moving.data)
    )
    np.testing.assert_array_equal(
        nib.load(folder / "t1.nii.gz").get_fdata(), np.rint(pair.fixed.data)
    )
    capsys.readouterr()
    assert "exists already" in refused(capsys, *argv)
    assert main([*argv, "--force", "-q"]) == 0


def test_a_phantom_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = cli_phantom.to_json

    def taken(record):
        Path("mouse/truth.json").write_text("mine")
        return real(record)

    monkeypatch.setattr(cli_phantom, "to_json", taken)
    argv = ["phantom", "--kind", "mouse", "-o", "mouse"]
    assert "truth.json: exists already" in refused(capsys, *argv, "-q")
    assert files(tmp_path / "mouse") == ["truth.json"]


def test_phantom_writes_a_hard_pair(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["phantom", "--kind", "mouse", "--seed", "3", "-o", "mouse"]
    assert main(argv) == 0
    assert files(tmp_path / "mouse") == ["fixed.nii.gz", "moving.nii.gz", "truth.json"]
    truth = json.loads((tmp_path / "mouse" / "truth.json").read_text())
    pair = hard_pair("mouse", seed=3)
    np.testing.assert_array_equal(
        truth["moving_from_fixed"], pair.moving_from_fixed.matrix
    )
    stored = nib.load(tmp_path / "mouse" / "moving.nii.gz")
    np.testing.assert_array_equal(stored.get_fdata(), np.rint(pair.moving.data))
    np.testing.assert_allclose(stored.affine, pair.moving.mm_from_ijk, atol=1e-4)
    capsys.readouterr()
    assert "its own contrasts" in refused(capsys, *argv, "--contrast", "CT")


def test_the_command_line_knows_all_kinds():
    assert tuple(KINDS) == cli_phantom.KINDS


@pytest.mark.slow
def test_demo_ends_at_the_truth(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    said = capsys.readouterr()
    told = re.search("error against the truth: mean ([0-9.]+) mm", said.out)
    assert float(told[1]) < 0.1
    assert "translation " in said.out
    assert files(tmp_path / "mireg-demo") == [
        *("t1.nii.gz", "t2.nii.gz", "t2_to_t1.json", "t2_to_t1.nii.gz"),
        *("t2_to_t1.tfm", "truth.json"),
    ]
    monkeypatch.setattr(cli_phantom, "register_files", lambda *_, **__: None)
    Path("mireg-demo/truth.json").write_text("{}")  # no longer a demo's
    assert "exists already" in refused(capsys, "demo")


def test_a_demo_can_be_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class DoneError(Exception):
        """Ends a demo once its scans are written."""

    def stop(*_args, force, **_more):
        raise DoneError(force)

    monkeypatch.setattr(cli_phantom, "register_files", stop)
    for force in (False, True):
        with pytest.raises(DoneError, match=str(force)):
            main(["demo", "-q"])


@pytest.mark.usefixtures("scans")
def test_effort_and_time_limit_are_settings_of_the_record(capsys):
    asked = ["--effort", "quick", "--time-limit", "90"]
    how = ["--init", "header", "--json", "--no-image"]
    main(["register", "t1.nii.gz", "t2.nii.gz", "-o", "limited", *asked, *how])
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["effort"] == "quick"
    assert settings["time_limit"] == 90


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"effort": "hard"}, "effort is 'hard'"),
        ({"time_limit": -1}, "time_limit is -1"),
    ],
)
def test_settings_of_the_search_are_checked(wrong, says):
    with pytest.raises(InputError, match=says):
        Settings(**wrong)
