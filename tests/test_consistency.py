"""The script that compares answers with each other, with stubs for the method."""

from __future__ import annotations

import json

import consistency
import nibabel as nib
import numpy as np
import pytest
from checks import answer, shifted

from mireg._image import Image
from mireg._transform import RigidTransform

GRID = np.diag([2.0, 2, 2, 1])


def by_mark(fixed, moving):
    """Find the pose of grids from the headers alone; each file says where it lies."""
    return answer(moving.mm_from_ijk @ np.linalg.inv(fixed.mm_from_ijk))


def blocks(shape=(14, 12, 13)):
    """Return a block in a box."""
    data = np.zeros(shape, np.float32)
    data[4:10, 3:9, 4:9] = 100
    return data


@pytest.fixture
def case_file(tmp_path):
    """Write three images of one patient and two of another, with a case for each."""
    turned = RigidTransform([0.1, 0.2, -0.1], [3.0, 1.0, 2.0]).matrix @ GRID
    thick = RigidTransform([0.0, -0.1, 0.2], [1.0, 5.0, 2.0]).matrix @ np.diag(
        [2.0, 2, 6, 1]
    )
    for name, affine in {"a": GRID, "b": turned, "c": thick, "x": GRID}.items():
        nib.save(nib.Nifti1Image(blocks(), affine), tmp_path / f"{name}.nii")
    entries = [
        {
            "id": f"{one}_{other}",
            "fixed": f"{one}.nii",
            "moving": f"{other}.nii",
            "moving_from_fixed": (
                nib.load(tmp_path / f"{other}.nii").affine
                @ np.linalg.inv(nib.load(tmp_path / f"{one}.nii").affine)
            ).tolist(),
            "reference_uncertainty_mm": 0.5,
        }
        for one, other in ("ab", "ac", "xb")
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(entries))
    return path


def run(case_file, *options, register=by_mark):
    """Run the script; return its exit code and its record."""
    out = case_file.with_name("out.json")
    call = [str(case_file), "-o", str(out), "--quiet", *options]
    return consistency.main(call, register), json.loads(out.read_text())


def test_answers_that_agree_are_within_their_bounds(case_file, capsys):
    only = ("--only", "a_", "--poses", "2", "--copies", "0")
    code, record = run(case_file, *only)
    assert code == 0
    assert [pair["id"] for pair in record["pairs"]] == ["a_b", "a_c"]
    for pair in record["pairs"]:
        assert len(pair["swapped_by_pose_mm"]) == 3
        assert pair["swapped"]["max_mm"] < 1e-9
    (loop,) = record["loops"]  # b and c have no case of their own, but one patient
    assert loop["id"].endswith("a b c a")
    assert loop["loop"]["max_mm"] < 1e-9
    assert loop["loop"]["limit_mm"] == 1  # c has thick slices
    assert "!" not in capsys.readouterr().out.partition("mm; !")[0]


def test_a_loop_that_gains_a_little_at_each_step_does_not_close(case_file, capsys):
    def to_the_right(fixed, moving):
        return answer(by_mark(fixed, moving).moving_from_fixed @ shifted(0.5))

    options = ("--only", "a_", "--poses", "0", "--copies", "0")
    code, record = run(case_file, *options, register=to_the_right)
    assert code == 1
    # Half a millimetre each way, along axes that are turned a little.
    assert record["pairs"][0]["swapped"]["max_mm"] == pytest.approx(1, abs=0.05)
    assert record["loops"][0]["loop"]["max_mm"] == pytest.approx(1.5, abs=0.1)
    assert "!" in capsys.readouterr().out.partition("mm; !")[0]


def test_resampled_copies_show_the_same_anatomy_in_the_same_place():
    def middle_of(image):
        data = np.nan_to_num(image.data)
        ijk = np.indices(data.shape).reshape(3, -1)
        return image.to_mm((ijk @ data.ravel() / data.sum())[None])[0]

    image = Image(blocks(), GRID)
    rng = np.random.default_rng(1)
    grids = [consistency.on_a_grid(image, rng) for _ in range(5)]
    for grid in grids:
        np.testing.assert_allclose(middle_of(grid), middle_of(image), atol=0.1)
        assert (np.array(grid.voxel_size_mm) >= 0.8 * 2).all()
        assert (np.array(grid.voxel_size_mm) <= 2).all()
    assert len({grid.mm_from_ijk.tobytes() for grid in grids}) == 5


def test_moves_are_small_and_brought_back():
    seen = []

    def header(_fixed, moving):
        seen.append(moving.mm_from_ijk @ np.linalg.inv(GRID))
        return answer(seen[-1])

    image = Image(blocks(), GRID)
    pair = consistency.Pair(image, image, np.eye(4))
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = consistency.copied(header, pair, "moved", rng)
        np.testing.assert_allclose(found, np.eye(4), atol=1e-9)
    moved = np.array([pose @ [*image.centre_mm, 1] for pose in seen])[:, :3]
    away = np.linalg.norm(moved - image.centre_mm, axis=1)
    angles = [RigidTransform.from_matrix(pose).angle_deg for pose in seen]
    assert 4 < away.max() <= 5
    assert 4 < max(angles) <= 5


def test_spread_by_hand():
    points = np.array([[0.0, 0, 0], [5, 5, 5]])
    answers = [shifted(-1.0), shifted(0.0), shifted(4.0)]
    # Off the mean, 1, by 2, 1 and 3.
    assert consistency.rms(answers, points) == pytest.approx(np.sqrt(14 / 3))


def test_images_of_one_grid_are_resampled_before_a_loop(tmp_path):
    paths = [tmp_path / f"{name}.nii" for name in "abc"]
    for path in paths:
        nib.save(nib.Nifti1Image(blocks(), GRID), path)
    grids = []

    def note(fixed, moving):
        grids.extend(image.mm_from_ijk for image in (fixed, moving))
        return answer(np.eye(4))

    (loop,) = consistency.close_loops(paths, note, 0, quiet=True)
    assert loop["loop"] == {"mean_mm": 0, "max_mm": 0, "limit_mm": 0.5, "good": True}
    assert len({grid.tobytes() for grid in grids}) == 3


def test_bad_calls_end_with_2(case_file):
    assert consistency.main([str(case_file), "--only", "nothing"], by_mark) == 2
    for call in ([], [str(case_file), "--copies", "-1"], ["--loop", "a", "b"]):
        with pytest.raises(SystemExit) as stop:
            consistency.main(call, by_mark)
        assert stop.value.code == 2
