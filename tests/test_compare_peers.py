"""The comparison with other programs: what of it needs none of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import compare_peers
import nibabel as nib
import numpy as np
import peers
import pytest
import SimpleITK
from scipy.io import savemat

from mireg._image import Image
from mireg._transform import RigidTransform
from mireg.phantom import phantom_pair

GRID = np.array([[2.5, 0, 0, 7], [0, 3, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1.0]])

# Turns the front to the left about the point (10, 20, 30) RAS, which goes to
# (11, 22, 33): (10, 25, 30), 5 mm in front of it, lands 5 mm to its left.
# In LPS the centre is (-10, -20, 30) and the shift (-1, -2, 3).
QUARTER = np.array([[0, -1, 0, 31], [1, 0, 0, 12], [0, 0, 1, 3], [0, 0, 0, 1.0]])


def ball(shape=(16, 15, 14)):
    """Return a bright ball of radius 4 voxels in the middle of a box."""
    off = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    return 100 * ((off**2).sum(axis=0) < 16).astype(np.float32)


def result(program, case="a", pose=0, **more):
    """Make the record of a registration that took a second and was 1 mm off."""
    return {
        "case": case,
        "set": "heads",
        "pose": pose,
        "far": pose > 0,
        "program": program,
        "seconds": 1.0,
        "registration_seconds": 0.5,
        "peak_mb": 100.0,
        "tre_mean_mm": 1.0,
        "tre_max_mm": 2.0,
        "good": True,
        **more,
    }


def failure(program, case="a", pose=0):
    """Make the record of a registration that gave no answer."""
    run = result(program, case, pose, good=False, error="lost")
    for key in ("seconds", "registration_seconds", "peak_mb", "tre_mean_mm"):
        del run[key]
    return run


# --- frames --------------------------------------------------------------------------


def test_the_quarter_turn_of_these_tests_is_what_it_says():
    np.testing.assert_allclose(QUARTER @ [10, 20, 30, 1], [11, 22, 33, 1])
    np.testing.assert_allclose(QUARTER @ [10, 25, 30, 1], [6, 22, 33, 1])


def test_an_ants_file_is_read(tmp_path):
    # A turn about z is the same in LPS and in RAS.
    numbers = np.float32([[0, -1, 0, 1, 0, 0, 0, 0, 1, -1, -2, 3]]).T
    path = tmp_path / "out_0GenericAffine.mat"
    content = {"AffineTransform_float_3_3": numbers, "fixed": [[-10], [-20], [30.0]]}
    savemat(path, content, format="4")
    np.testing.assert_allclose(peers.PEERS["ants"].read(tmp_path), QUARTER, atol=1e-6)


@pytest.mark.parametrize("order", ["true", "false"])
def test_an_elastix_file_is_read(tmp_path, order):
    path = tmp_path / "out.txt"
    path.write_text(
        '(Transform "EulerTransform")\n(NumberOfParameters 6)\n'
        "(TransformParameters 0 0 1.5707963267948966 -1 -2 3)\n"
        f'(CenterOfRotationPoint -10 -20 30)\n(ComputeZYX "{order}")\n'
    )
    found = peers.PEERS["elastix"].read(tmp_path)
    np.testing.assert_allclose(found, QUARTER, atol=1e-12)


@pytest.mark.parametrize("zyx", [True, False])
def test_elastix_angles_are_those_of_itk(tmp_path, zyx):
    angles, shift, centre = [0.4, -0.7, 1.1], [3.0, -5.0, 8.0], [20.0, -30.0, 50.0]
    itk = SimpleITK.Euler3DTransform(centre, *angles, shift)
    itk.SetComputeZYX(zyx)
    (tmp_path / "out.txt").write_text(
        '(Transform "EulerTransform")\n'
        f"(TransformParameters {' '.join(map(str, angles + shift))})\n"
        f"(CenterOfRotationPoint {' '.join(map(str, centre))})\n"
        f'(ComputeZYX "{str(zyx).lower()}")\n'
    )
    found = peers.PEERS["elastix"].read(tmp_path)
    for point in ([0.0, 0, 0], [60.0, -40, 25]):
        x, y, z = itk.TransformPoint([-point[0], -point[1], point[2]])
        np.testing.assert_allclose(found @ [*point, 1], [-x, -y, z, 1], atol=1e-9)


def test_another_kind_of_elastix_transform_is_refused(tmp_path):
    (tmp_path / "out.txt").write_text('(Transform "BSplineTransform")\n')
    with pytest.raises(ValueError, match="BSpline"):
        peers.PEERS["elastix"].read(tmp_path)


def test_a_greedy_file_is_read(tmp_path):
    (tmp_path / "out.mat").write_text("0 -1 0 31 \n1 0 0 12 \n0 0 1 3 \n0 0 0 1 \n")
    np.testing.assert_array_equal(peers.PEERS["greedy"].read(tmp_path), QUARTER)


def test_a_cmtk_file_is_read(tmp_path):
    # As `cmtk xform2itk` writes it: about the origin, so the shift is (-31, -12, 3).
    (tmp_path / "out.tfm").write_text(
        "#Insight Transform File V1.0\n# Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        "Parameters: 0 -1 0 1 0 0 0 0 1 -31 -12 3 \nFixedParameters: 0 0 0\n"
    )
    found = peers.PEERS["cmtk"].read(tmp_path)
    np.testing.assert_allclose(found, QUARTER, atol=1e-12)


# --- files ---------------------------------------------------------------------------


def test_scans_are_whole_numbers_in_the_right_place(tmp_path):
    data = ball() - 1024
    data[0, 0, 0] = np.nan
    compare_peers.write_scan(Image(data, GRID), tmp_path / "scan.nii.gz")
    scan = nib.load(tmp_path / "scan.nii.gz")
    assert scan.get_data_dtype() == np.int16
    assert (scan.header["qform_code"], scan.header["sform_code"]) == (1, 1)
    np.testing.assert_allclose(scan.get_qform(), GRID, atol=1e-5)
    np.testing.assert_allclose(scan.affine, GRID)
    data[0, 0, 0] = -1024
    np.testing.assert_array_equal(scan.get_fdata(), data)


def test_fractions_and_large_numbers_keep_their_proportions(tmp_path):
    for scale in (0.001, 1000.0):
        compare_peers.write_scan(Image(scale * ball(), GRID), tmp_path / "scan.nii")
        values = np.unique(nib.load(tmp_path / "scan.nii").get_fdata())
        np.testing.assert_array_equal(values, [0, 16_000])


# --- sums ----------------------------------------------------------------------------


def test_right_answers_are_counted_at_own_and_random_poses():
    runs = [
        result("mireg", tre_mean_mm=0.1),
        result("mireg", pose=1, tre_mean_mm=0.3),
        result("mireg", pose=2, tre_mean_mm=50.0, good=False),
        result("cmtk", tre_mean_mm=0.2),
        failure("cmtk", pose=1),
    ]
    ours, theirs = compare_peers.accuracy(runs)
    assert (ours["own_good"], ours["own_runs"]) == (1, 1)
    assert (ours["far_good"], ours["far_runs"]) == (1, 2)
    assert ours["own_tre_mm"] == pytest.approx(0.1)
    assert ours["far_tre_mm"] == pytest.approx(25.15)
    assert ours["good_tre_mm"] == pytest.approx(0.2)
    assert (theirs["far_good"], theirs["far_runs"]) == (0, 1)
    assert theirs["far_tre_mm"] is None


def test_several_sets_are_also_summed_up_together():
    runs = [result("mireg"), result("mireg", case="b", set="slabs", good=False)]
    lines = compare_peers.accuracy(runs)
    assert [line["set"] for line in lines] == ["heads", "slabs", "all"]
    assert (lines[2]["own_good"], lines[2]["own_runs"]) == (1, 2)


def test_ratios_are_of_the_same_registration_and_their_median_is_taken():
    runs = [
        result("mireg", "a", seconds=1.0),
        result("mireg", "b", seconds=2.0),
        result("mireg", "c", seconds=9.0),
        result("cmtk", "a", seconds=2.0),  # 1/2
        result("cmtk", "b", seconds=20.0),  # 1/10
        result("cmtk", "c", seconds=30.0),  # 3/10
        result("cmtk", "d", seconds=1000.0),  # has no counterpart
    ]
    ours, theirs = compare_peers.cost(runs, "mireg")
    assert ours["seconds_ratio"] == 1
    assert (theirs["runs"], theirs["pairs"]) == (4, 3)
    assert theirs["seconds_ratio"] == pytest.approx(0.3)
    assert theirs["seconds"] == 25


def test_errors_are_compared_where_both_are_right_and_failures_cost_nothing():
    runs = [
        result("mireg", "a", tre_mean_mm=0.1),
        result("mireg", "b", tre_mean_mm=0.1),
        result("mireg", "c"),
        result("cmtk", "a", tre_mean_mm=0.4),
        result("cmtk", "b", tre_mean_mm=100.0, good=False),
        failure("cmtk", "c"),
    ]
    _, theirs = compare_peers.cost(runs, "mireg")
    assert theirs["tre_mean_mm_ratio"] == pytest.approx(0.25)
    assert (theirs["runs"], theirs["pairs"]) == (2, 2)


def test_errors_are_measured_against_the_truth():
    away = RigidTransform([0, 0, 0], [3.0, 0, 4.0]).matrix
    points = np.array([[0.0, 0, 0], [10, 20, 30]])
    run = compare_peers.judged({"moving_from_fixed": away}, np.eye(4), points, 4.9)
    assert run["tre_mean_mm"] == run["tre_max_mm"] == pytest.approx(5)
    assert not run["good"]
    assert not compare_peers.judged({"error": "lost"}, np.eye(4), points, 9.0)["good"]


# --- the command, with a stub in place of the programs -------------------------------


class Stub:
    """Answer with the header's motion; elastix loses its way and greedy stops."""

    def __init__(self):
        self.calls = []

    def __call__(self, name, fixed, moving, folder):
        """Read how far the moving header is off."""
        assert fixed.exists()
        assert folder.is_dir()
        pose = nib.load(moving).affine @ np.linalg.inv(GRID)
        self.calls.append(name)
        if name == "greedy":
            return {"error": "no answer after 1 s"}
        if name == "elastix":
            pose = RigidTransform([0, 0, 0], [0, 50.0, 0]).matrix @ pose
        report = {"seconds": 2.0, "registration_seconds": 1.0, "peak_mb": 64.0}
        return {**report, "moving_from_fixed": pose}


@pytest.fixture(autouse=True)
def easy_pair(monkeypatch):
    """Take balls, not heads, for the easy pair; their grids do not coincide."""

    def load():
        pair = [Image(ball(), grid) for grid in (np.diag([2.0, 2, 2, 1]), GRID)]
        return compare_peers.Pair(*pair, np.eye(4))

    case = compare_peers.Case("easy", "easy", load, 1.0, poses=0)
    monkeypatch.setattr(compare_peers, "easy_case", lambda: case)


@pytest.fixture
def case_file(tmp_path):
    """Write a case of two balls."""
    for role, affine in (("fixed", np.diag([2.0, 2, 2, 1])), ("moving", GRID)):
        nib.save(nib.Nifti1Image(ball(), affine), tmp_path / f"{role}.nii")
    entry = {"id": "balls_1", "fixed": "fixed.nii", "moving": "moving.nii"}
    more = {"moving_from_fixed": np.eye(4).tolist(), "reference_uncertainty_mm": 0.5}
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([{**entry, **more}]))
    return path


def compare(case_file, *options, stub=None):
    """Run the command; return its record and the programs it called."""
    stub = stub or Stub()
    out = case_file.with_name("out.json")
    words = ["--cases", str(case_file), "-o", str(out), *options]
    assert compare_peers.main(words, stub) == 0
    return json.loads(out.read_text()), stub.calls


def test_all_programs_get_the_same_poses_and_are_judged(case_file, capsys):
    names = ["mireg", "elastix", "greedy"]
    record, calls = compare(case_file, "--poses", "2", "--peers", *names)
    assert calls == 4 * names  # the easy pair, the own pose, and two more
    runs = record["runs"]
    assert [run["pose"] for run in runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [run["good"] for run in runs] == 3 * [True, False, False]
    assert runs[0]["tre_mean_mm"] < 1e-3
    assert runs[1]["tre_mean_mm"] == pytest.approx(50, abs=1e-3)
    assert runs[0]["limit_mm"] == 1.5
    assert "tre_mean_mm" not in runs[2]
    assert record["about"]["programs"]["elastix"]["easy_tre_mm"] == pytest.approx(50)
    out, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")] for line in out.splitlines()]
    by_start = {tuple(row[1:3]): row for row in rows if len(row) > 3}
    assert by_start["balls", "mireg"][3:6] == ["1/1", "2/2", "0.00"]
    assert by_start["balls", "elastix"][3:7] == ["0/1", "0/2", "50.00", "50.00"]
    assert by_start["balls", "greedy"][3:6] == ["0/1", "0/2", "-"]
    assert by_start["elastix", "3"][3:6] == ["2.00", "1.00", "64"]
    assert err.count("suspect peers.py") == 2


def test_a_run_goes_on_where_it_stopped(case_file):
    first, _ = compare(case_file, "--peers", "mireg")
    more = ("--keep", "--quiet", "--poses", "1", "--peers", "mireg", "cmtk")
    second, calls = compare(case_file, *more)
    assert calls == ["cmtk", "cmtk", "mireg", "cmtk"]  # its easy pair, poses 0, 1, 1
    assert second["runs"][0] == first["runs"][0]
    third, calls = compare(case_file, *more)
    assert not calls
    assert third["runs"] == second["runs"]
    _, calls = compare(case_file, *more, "--redo", "mireg")
    assert calls == ["mireg"] * 3
    with pytest.raises(SystemExit, match="was made with seed 0, not 5"):
        compare(case_file, *more, "--seed", "5")


def test_a_run_whose_time_is_over_ends_and_can_go_on(case_file, capsys):
    words = ("--poses", "1", "--peers", "mireg", "cmtk")
    first, _ = compare(case_file, *words, "--minutes", "0")
    assert [run["program"] for run in first["runs"]] == ["mireg"]
    assert "0 minutes are over" in capsys.readouterr().err
    second, _ = compare(case_file, *words, "--keep", "--quiet")
    assert [run["program"] for run in second["runs"]] == ["mireg", "cmtk"] * 2


def test_a_program_that_is_not_installed_is_left_out_with_the_reason(
    case_file, monkeypatch, capsys
):
    monkeypatch.setattr(
        peers, "_version", lambda name: "1" if name == "mireg" else None
    )
    out = case_file.with_name("out.json")
    call = ["--cases", str(case_file), "-o", str(out), "--only", "balls", "--quiet"]
    monkeypatch.setattr(compare_peers, "fresh_process", lambda *_limits: Stub())
    assert compare_peers.main([*call, "--peers", "mireg", "ants", "cmtk"]) == 0
    runs = json.loads(out.read_text())["runs"]
    assert [run["program"] for run in runs] == ["mireg"]
    said = capsys.readouterr().out
    assert "ants is left out: antspyx not found: pip install 'mireg[peers]'." in said
    assert "cmtk is left out: cmtk not found: apt-get install cmtk" in said


def test_bad_calls_end_with_2(case_file, capsys):
    assert compare_peers.main(["--cases", str(case_file), "--only", "no"], Stub()) == 2
    for call in ([], ["--cases", "none.json"], ["--phantoms", "1", "--peers", "flirt"]):
        with pytest.raises(SystemExit) as stop:
            compare_peers.main(call, Stub())
        assert stop.value.code == 2
    assert "flirt" in capsys.readouterr().err


# --- processes -----------------------------------------------------------------------

WORKER = """
import json, subprocess, sys, time
name, fixed, moving, folder = sys.argv[1:5]
if name == "ants":
    time.sleep(60)
if name == "cmtk":
    sys.exit("no such file")
with open(folder + "/out.mat", "w") as out:
    out.write("1 0 0 7\\n0 1 0 0\\n0 0 1 0\\n0 0 0 1\\n")
whole = 0.25 if name == "greedy-search" else None
with open(folder + "/report.json", "w") as out:
    json.dump({"registration_seconds": 0.1, "seconds": whole, "peak_mb": 5}, out)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Run a worker that needs no program."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    monkeypatch.setattr(compare_peers, "WORKER", worker)

    def run(name, timeout_s=60):
        register = compare_peers.fresh_process(threads=1, timeout_s=timeout_s)
        return register(name, Path("f"), Path("m"), tmp_path)

    return run


def test_a_process_is_timed_and_its_transform_is_read(process):
    run = process("greedy")
    assert run["moving_from_fixed"][0, 3] == 7
    assert run["seconds"] > 0
    assert process("greedy-search")["seconds"] == 0.25  # it knows better


def test_a_process_that_fails_or_does_not_end_is_an_error(process):
    assert process("cmtk")["error"] == "exit code 1: no such file"
    assert process("ants", timeout_s=1)["error"] == "no answer after 1 s"


def test_the_peak_counts_what_was_held():
    block = np.ones(30_000_000)  # 240 MB
    assert peers.peak_mb(command=False) > block.nbytes / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(peers.PEERS) - {"ants-search"}))  # minutes
def test_a_program_that_is_installed_finds_an_easy_pose(name, tmp_path):
    missing = peers.PEERS[name].missing()
    if missing:
        pytest.skip(missing)
    truth = RigidTransform(np.deg2rad([4, -3, 5]), [4.0, -6.0, 3.0])
    pair = phantom_pair(
        seed=2, pose=truth, fixed_voxel_size_mm=4, moving_voxel_size_mm=(4, 5, 4)
    )
    for role in ("fixed", "moving"):
        compare_peers.write_scan(getattr(pair, role), tmp_path / f"{role}.nii.gz")
    register = compare_peers.fresh_process(threads=2, timeout_s=300)
    files = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    run = register(name, *files, tmp_path)
    points = compare_peers.measuring.foreground_points(pair.fixed)
    run = compare_peers.judged(run, truth.matrix, points, 1.0)
    assert run["good"], run
    assert 0 < run["registration_seconds"] < run["seconds"]
    assert sys.platform != "linux" or run["peak_mb"] > 10
