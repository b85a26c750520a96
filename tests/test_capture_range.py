"""The script that measures capture ranges, with a stub in place of the method."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import capture_range
import numpy as np
import pytest
from checks import answer

from mireg._transform import RigidTransform


def test_a_start_is_as_far_off_as_its_cell():
    rng = np.random.default_rng(0)
    middle = np.array([10.0, -40.0, 7.0])
    for near, few, far, many in ((0, 0, 25, 30), (50, 150, 75, 180), (2, 0, 3, 1)):
        corners = np.array([[near, few], [far, many]])
        pose, away, turn = capture_range.start_in(corners, middle, rng)
        assert near <= away <= far
        assert few <= turn <= many
        assert pose.angle_deg == pytest.approx(turn)
        assert np.linalg.norm(pose.apply(middle) - middle) == pytest.approx(away)


def test_capture_range_ends_before_the_first_bad_bin():
    far = np.array([1.0, 5, 12, 14, 18, 31, 35, 47])
    good = [True] * 8
    assert capture_range.capture_range_mm(far, good) == 47
    assert capture_range.capture_range_mm(far, [*good[:6], False, True]) == 30
    assert capture_range.capture_range_mm(far, [False, *good[1:]]) == 0


def test_success_is_told_for_each_cell(tmp_path, capsys):
    truths = []

    def stay_near(fixed, moving):
        """Give the truth if the start was turned by less than 90 degrees."""
        again = moving.mm_from_ijk @ np.linalg.inv(fixed.mm_from_ijk)
        truths.append(RigidTransform.from_matrix(again))
        near = truths[-1].angle_deg < 90
        return answer(again if near else np.eye(4))

    out = tmp_path / "range.json"
    call = ["--kinds", "identical", "--cells", "2", "--starts", "3", "-o", str(out)]
    assert capture_range.main([*call, "--quiet"], stay_near) == 0
    (pair,) = json.loads(out.read_text())["pairs"]
    assert pair["success_by_displacement_and_angle"] == [[1, 0], [1, 0]]
    assert pair["success"] == 0.5
    assert len(truths) == 12
    assert "50 % within 2.0 mm" in capsys.readouterr().out
    assert (tmp_path / "range.png").is_file()
    for call in ([], ["--kinds", "identical", "--starts", "0"]):
        with pytest.raises(SystemExit):
            capture_range.main(call, stay_near)


def test_cells_may_be_measured_in_any_order():
    case = SimpleNamespace(id="one", limit_mm=2.0)
    starts = [
        {"cell": cell, "start_mm": far, "good": good}
        for cell, far, good in (
            ((1, 0), 30.0, False),
            ((0, 0), 5.0, True),
            ((1, 1), 90.0, True),
            ((0, 1), 20.0, True),
            ((1, 0), 34.0, True),
            ((0, 0), 6.0, True),
            ((0, 1), 22.0, True),
            ((1, 1), 91.0, False),
        )
    ]
    for order in (starts, starts[::-1]):
        found = capture_range.sum_up(case, order, 2, (150, 180))
        share = found["success_by_displacement_and_angle"]
        np.testing.assert_array_equal(share, [[1, 1], [0.5, 0.5]])
        assert found["success"] == 0.75
        assert found["capture_range_mm"] == 30


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not capture_range.draw([], tmp_path / "none.png")
