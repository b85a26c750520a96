"""The evaluation script, with stubs in place of the method."""

from __future__ import annotations

import json

import evaluate
import measuring
import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from checks import FIXED, MOVING, TRUTH, answer, ball, shifted

from mireg.phantom import KINDS


def oracle(fixed, moving):
    """Give the truth, but 5 mm off for the case whose fixed grid is 17 wide."""
    pose = moving.mm_from_ijk @ np.linalg.inv(MOVING)
    off = shifted(5.0) if fixed.shape[0] == 17 else np.eye(4)
    return answer(pose @ TRUTH @ off, np.nan)


def broken(fixed, moving):
    """Fail on the case whose fixed grid is 17 wide."""
    if fixed.shape[0] == 17:
        raise ArithmeticError("lost")
    return oracle(fixed, moving)


@pytest.fixture
def case_file(tmp_path):
    """Write two cases, `good/` and `off/`."""
    entries = []
    for name, width in (("good", 16), ("off", 17)):
        (tmp_path / name).mkdir()
        entry = {"id": f"{name}_1", "moving_from_fixed": TRUTH.tolist()}
        for role, affine in (("fixed", FIXED), ("moving", MOVING)):
            entry[role] = f"{name}/{role}.nii"
            volume = nib.Nifti1Image(ball((width, 15, 14)), affine)
            nib.save(volume, tmp_path / entry[role])
        entries.append({**entry, "reference_uncertainty_mm": 0.5})
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(entries))
    return path


def run(case_file, *options, register=oracle):
    """Run the script; return its exit code and its record."""
    out = case_file.with_name("out.json")
    code = evaluate.main([str(case_file), "-o", str(out), *options], register)
    return code, json.loads(out.read_text())


def test_the_table_tells_good_from_5_mm_off(case_file, capsys):
    code, record = run(case_file, "--poses", "2")
    assert code == 1
    good, off = record["cases"]
    assert (good["good"], good["runs"], off["good"], off["runs"]) == (3, 3, 0, 3)
    assert good["tre_max_mm"] < 1e-9
    for key in ("own_mm", "tre_median_mm", "tre_worst_mm", "tre_max_mm"):
        assert off[key] == pytest.approx(5, abs=1e-9)
    assert off["spread_mm"] < 1e-9  # wrong, but the same from every pose
    # Of 3 in 6, Wilson's interval is 0.5 -+ 1.96 * sqrt(1/24 + 0.96/36) / 1.64.
    assert record["sets"][2]["good_interval"] == pytest.approx([0.188, 0.812], abs=1e-3)
    voxel_mm = (2.5 * 3 * 3) ** (1 / 3)
    assert off["tre_median_vox"] == pytest.approx(5 / voxel_mm)
    assert [line["set"] for line in record["sets"]] == ["good", "off", "all"]
    assert record["sets"][2]["good"] == 3
    assert off["poses"][1]["score"] is None
    np.testing.assert_allclose(off["poses"][2]["found"], TRUTH @ shifted(5), atol=1e-9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == ["good_1", "3/3", "43.9-100", "0.000", "0.000"]
    assert lines[2].split()[:5] == ["off_1", "0/3", "0.0-56", "5.000", "5.000"]


def test_a_pose_does_not_depend_on_what_else_runs(case_file):
    _, both = run(case_file, "--poses", "2", "--quiet")
    code, one = run(case_file, "--poses", "1", "--only", "good", "--quiet")
    assert code == 0
    assert len(one["cases"]) == 1
    good, off = ([run["pose"] for run in case["poses"]] for case in both["cases"])
    assert [run["pose"] for run in one["cases"][0]["poses"]] == good[:2]
    assert good[1] != off[1]


def test_an_error_stops_or_counts_as_bad(case_file):
    with pytest.raises(ArithmeticError):
        run(case_file, "--quiet", register=broken)
    code, record = run(case_file, "--quiet", "--keep-going", register=broken)
    assert code == 1
    off = record["cases"][1]
    assert off["poses"][0]["error"] == "ArithmeticError: lost"
    assert (off["good"], off["tre_worst_mm"]) == (0, None)


def test_bad_calls_end_with_2(case_file, capsys):
    assert evaluate.main([str(case_file), "--only", "nothing"], oracle) == 2
    for call in ([], ["no-such-file.json"], [str(case_file), "--setting", "bins=1"]):
        with pytest.raises(SystemExit) as stop:
            evaluate.main(call, oracle)
        assert stop.value.code == 2
    assert "bins is 1" in capsys.readouterr().err


def test_hard_kinds_are_measured_where_both_scans_show_anatomy(tmp_path):
    def nothing_moves(_fixed, _moving):
        return answer(np.eye(4))

    out = tmp_path / "kinds.json"
    call = ["--kinds", "identical", "--kinds", "mouse", "--seeds", "2", "-o", str(out)]
    assert evaluate.main(call, nothing_moves) == 1
    sets = {line["set"]: line for line in json.loads(out.read_text())["sets"]}
    assert sets["identical"]["good"] == sets["identical"]["runs"] == 2
    assert sets["identical"]["tre_max_mm"] == 0
    assert (sets["mouse"]["good"], sets["mouse"]["runs"]) == (0, 2)
    assert sets["mouse"]["tre_median_mm"] < 130
    with pytest.raises(SystemExit):
        evaluate.main(["--kinds", "elephant"], nothing_moves)


def test_what_is_done_is_not_done_again(case_file):
    registered = []

    def counted(fixed, moving):
        registered.append(fixed.shape[0])
        return oracle(fixed, moving)

    run(case_file, "--poses", "1", "--only", "good", "--quiet")
    options = ("--resume", "--quiet", "--poses")
    _, record = run(case_file, *options, "1", register=counted)
    assert registered == [17, 17]
    assert record == run(case_file, "--poses", "1", "--quiet")[1] | {
        "sets": record["sets"],
        "cases": record["cases"],
    }
    assert [case["id"] for case in record["cases"]] == ["good_1", "off_1"]
    run(case_file, *options, "2", register=counted)  # more poses: all anew
    assert len(registered) == 2 + 6
    with pytest.raises(SystemExit, match="seed 0"):
        run(case_file, *options, "2", "--seed", "1")


def test_a_bad_case_is_drawn(case_file, tmp_path):
    folder = tmp_path / "bad" / "ones"
    run(case_file, "--quiet", "--poses", "1", "--pictures", str(folder))
    (drawn,) = folder.iterdir()
    assert drawn.name == "off_1.png"
    rows = np.split(np.asarray(PIL.Image.open(drawn)).astype(int), 2)
    assert np.abs(rows[0] - rows[1]).max() > 100


def cases(split, *options):
    """Return the cases of a split."""
    call = ["--kinds", "all", "--seeds", "900", "--phantoms", "900", *options]
    return evaluate.cases_of(evaluate.parse([*call, "--split", split]))


def test_what_is_reported_was_not_chosen_on():
    chosen, reported = cases("choose"), cases("report")
    seeds = [{case.id[-4:] for case in split} for split in (chosen, reported)]
    assert [len(found) for found in seeds] == [900, 900]
    assert not seeds[0] & seeds[1]
    groups = [{case.group for case in split} for split in (chosen, reported)]
    assert groups[1] - groups[0] == measuring.HELD_OUT
    assert groups[1] >= set(KINDS)
    # The seed in the name is that of the subject.
    assert reported[-1].load.args == (reported[-1].group, int(reported[-1].id[-4:]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--kinds", "knee"], "the kind knee is not to be chosen on"),
        (["--kinds", "coil", "--seed", "996"], "seeds from 1000 on are those to"),
        (["--phantoms", "1001"], "seeds from 1000 on are those to report"),
    ],
)
def test_what_is_reported_is_not_chosen_on_by_mistake(options, says, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse([*options, "--split", "choose"])
    assert says in capsys.readouterr().err
    evaluate.parse(options)


def test_the_split_is_told_and_kept(case_file, capsys):
    # The CRC-32 of "good" is 1820610194, that of "off" 733764931.
    code, record = run(case_file, "--quiet", "--split", "report")
    assert (code, record["split"]) == (0, "report")
    assert [case["id"] for case in record["cases"]] == ["good_1"]
    assert capsys.readouterr().out.startswith("case, split report  ")
    with pytest.raises(SystemExit, match="split report"):
        run(case_file, "--quiet", "--resume", "--split", "choose")
    assert run(case_file, "--quiet")[1]["split"] is None
    call = [str(case_file), "--only", "good", "--split", "choose"]
    assert evaluate.main(call, oracle) == 2
    assert "no case of the split choose has good" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_give_what_one_gives(case_file):
    _, one = run(case_file, "--quiet", "--poses", "1")
    _, two = run(case_file, "--quiet", "--poses", "1", "--jobs", "2")
    for a, b in zip(one["cases"], two["cases"], strict=True):
        assert a["id"] == b["id"]
        assert [r["found"] for r in a["poses"]] == [r["found"] for r in b["poses"]]


def test_doubtful_answers_are_counted():
    runs = [(True, False), (True, True), (False, True), (False, True), (False, False)]
    poses = [{"good": good, "doubtful": doubtful} for good, doubtful in runs]
    line = evaluate.told([{"poses": poses}, {"poses": [{"good": False}]}])
    assert "2 of 3 bad answers, 1 of 2 good answers" in line
