"""The script that measures capture ranges, with a stub in place of the method."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mireg.transform import RigidTransform

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    """Run the file, as a script finds its neighbours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    path = SCRIPTS / "capture_range.py"
    return SimpleNamespace(**runpy.run_path(str(path), run_name="capture_range"))


def test_a_start_is_as_far_off_as_its_cell(script):
    rng = np.random.default_rng(0)
    middle = np.array([10.0, -40.0, 7.0])
    for cell in ((0, 0), (2, 5), (5, 1)):
        pose, away, turn = script.start_in(cell, 6, middle, rng)
        assert 25 * cell[0] <= away <= 25 * (cell[0] + 1)
        assert 30 * cell[1] <= turn <= 30 * (cell[1] + 1)
        assert pose.angle_deg == pytest.approx(turn)
        assert np.linalg.norm(pose.apply(middle) - middle) == pytest.approx(away)


def test_capture_range_ends_before_the_first_bad_bin(script):
    far = np.array([1.0, 5, 12, 14, 18, 31, 35, 47])
    good = [True] * 8
    assert script.capture_range_mm(far, good) == 47
    assert script.capture_range_mm(far, [*good[:6], False, True]) == 30
    assert script.capture_range_mm(far, [False, *good[1:]]) == 0


def test_success_is_told_for_each_cell(script, tmp_path, capsys):
    truths = []

    def stay_near(fixed, moving):
        """Give the truth if the start was turned by less than 90 degrees."""
        again = moving.mm_from_ijk @ np.linalg.inv(fixed.mm_from_ijk)
        truths.append(RigidTransform.from_matrix(again))
        near = truths[-1].angle_deg < 90
        return SimpleNamespace(
            moving_from_fixed=again if near else np.eye(4),
            score=1.0,
            overlap_fraction=1.0,
            seconds={},
        )

    out = tmp_path / "range.json"
    call = ["--kinds", "identical", "--cells", "2", "--starts", "3", "-o", str(out)]
    assert script.main([*call, "--quiet"], stay_near) == 0
    (pair,) = json.loads(out.read_text())["pairs"]
    assert pair["success_by_displacement_and_angle"] == [[1, 0], [1, 0]]
    assert pair["success"] == 0.5
    assert len(truths) == 12
    assert "50 % within 2.0 mm" in capsys.readouterr().out
    for call in ([], ["--kinds", "identical", "--starts", "0"]):
        with pytest.raises(SystemExit):
            script.main(call, stay_near)
