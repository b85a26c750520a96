"""Series: poses against known motion, streams, files, the live class."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import pose_error_mm
from scipy import ndimage

import mireg
from mireg import Image, Settings, phantom, prepare
from mireg._engine.series import _gain_corrected
from mireg._errors import InputError
from mireg._files.series.names import named
from mireg._files.series.reader import Series
from mireg._transform import RigidTransform

#: Where the voxels of the volumes are: oblique, 3 mm.
AFFINE = RigidTransform([0.1, -0.05, 0.2], [-40, 30, 10]).matrix @ np.diag(
    [3.0, 3, 3, 1]
)

#: Points of the head, to measure errors at.
POINTS = (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * 45 + [-8, 60, 40]


def scene(rng: np.random.Generator) -> np.ndarray:
    """Return a head of blobs on a fine grid, 1 mm."""
    texture = ndimage.gaussian_filter(rng.random((78, 78, 72)), 4)
    texture = (texture - texture.min()) / np.ptp(texture)
    x, y, z = np.indices(texture.shape)
    inside = ((x - 38) / 28) ** 2 + ((y - 38) / 30) ** 2 + ((z - 35) / 26) ** 2 < 1
    return ndimage.gaussian_filter(inside * (0.3 + texture), 1.2)


def volume(fine: np.ndarray, volume_from_head: np.ndarray) -> np.ndarray:
    """Scan the head in a pose, without interpolation to speak of."""
    ijk = np.indices((26, 26, 24)).reshape(3, -1)
    mm_from_fine = AFFINE @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    fine_from_ijk = (
        np.linalg.inv(mm_from_fine) @ np.linalg.inv(volume_from_head) @ AFFINE
    )
    at = fine_from_ijk[:3, :3] @ ijk + fine_from_ijk[:3, 3:]
    return ndimage.map_coordinates(fine, at, order=3).reshape(26, 26, 24)


@pytest.fixture(scope="module")
def moving_head() -> tuple[np.ndarray, np.ndarray]:
    """Return a series of 20 volumes, and the truth: drift, a nod, and a jump."""
    rng = np.random.default_rng(5)
    fine = scene(rng)
    poses = []
    for t in range(20):
        vector = np.array([0.01 * np.sin(t), 0.002 * t, 0])
        shift = np.array([0.05 * t, 0, 0.4 * np.sin(t / 2)])
        if t >= 14:
            shift += np.array([1.0, -2.5, 1.0])
        poses.append(RigidTransform(vector, shift, [-8, 60, 40]).matrix)
    volumes = [volume(fine, pose) for pose in poses]
    data = np.stack(volumes, axis=-1) * 1000
    data = data + rng.normal(0, 10, data.shape)
    return data.astype(np.float32), np.array(poses)


def errors_mm(found: np.ndarray, truth: np.ndarray, like: int) -> np.ndarray:
    """Errors of volume_from_reference, if the reference lies as volume `like` does."""
    wanted = truth @ np.linalg.inv(truth[like])
    return np.array(
        [pose_error_mm(a, b, POINTS) for a, b in zip(found, wanted, strict=True)]
    )


def test_motion_is_found(moving_head):
    data, truth = moving_head
    found = mireg.register_series((data, AFFINE))
    errors = errors_mm(found.moving_from_fixed, truth, 10)
    assert np.median(errors) < 0.16  # a twentieth of a voxel, at the corners of a box
    assert errors.max() < 0.3
    assert not found.doubted.any()
    assert (found.standard_error_mm < 0.3).all()
    assert found.kind == "mean of the first pass"


def test_contrast_may_invert_from_volume_to_volume(moving_head):
    data, truth = moving_head
    flipped = data.copy()
    flipped[..., 1::2] = 900 - flipped[..., 1::2]
    found = mireg.register_series((flipped, AFFINE))
    errors = errors_mm(found.moving_from_fixed, truth, 10)
    assert np.median(errors) < 0.15
    assert errors.max() < 0.6
    assert found.kind == "volume 10"  # the mean is flat


def slices_that_recover(data):
    """Darken the lower slices, more in each of four volumes in turn."""
    z = np.linspace(0, 1, data.shape[2])
    shares = np.array([0, 0.35, 0.65, 0.9])[np.arange(data.shape[3]) // 2 % 4]
    gain = 1 - shares * (1 - z[:, None]) ** 1.5
    return (data * gain[None, None]).astype(np.float32)


def test_gains_are_divided_out_where_that_explains_more(moving_head, monkeypatch):
    data, _ = moving_head
    recovering, plain = (slices_that_recover(data[..., :9]), AFFINE), data[..., :9]
    kinds = [mireg.register_series((plain, AFFINE)).kind]
    for worth in (1.0, np.inf):  # if it explains more at all, and never
        monkeypatch.setattr("mireg._parameters.SERIES_GAIN_WORTH", worth)
        kinds.append(mireg.register_series(recovering).kind)
    assert ["gains divided out" in kind for kind in kinds] == [False, True, False]


def test_a_gain_is_divided_out(moving_head):
    data, _ = moving_head
    gained = slices_that_recover(data[..., :7])[..., 6]
    reference = prepare((data[..., 6], AFFINE))
    even = _gain_corrected(Image(gained, AFFINE), reference, np.eye(4)).data
    head = ndimage.binary_erosion(data[..., 6] > 400, iterations=2)
    ratio = even[head] / data[..., 6][head]
    before = gained[head] / data[..., 6][head]
    # The overall gain stays: it moves nothing.
    assert ratio.std() / ratio.mean() < 0.75 * before.std() / before.mean()


def test_answers_are_the_same_on_any_number_of_threads(moving_head):
    data, _ = moving_head
    one, three = (
        mireg.register_series((data[..., :7], AFFINE), settings=Settings(threads=n))
        for n in (1, 3)
    )
    np.testing.assert_array_equal(one.moving_from_fixed, three.moving_from_fixed)
    np.testing.assert_array_equal(one.standard_error_mm, three.standard_error_mm)


@pytest.mark.slow
def test_a_volume_that_is_far_off_is_searched_for(moving_head):
    data, truth = moving_head
    rng = np.random.default_rng(5)
    far = RigidTransform([0, 0, 2.4], [4, 0, 0], [-8, 60, 40]).matrix
    odd = volume(scene(rng), far) * 1000
    series = np.stack([data[..., 0], data[..., 1], odd, data[..., 2]], axis=-1)
    found = mireg.register_series((series, AFFINE), reference=0)
    poses = np.array([truth[0], truth[1], far, truth[2]])
    assert found.searched.tolist() == [False, False, True, False]
    assert errors_mm(found.moving_from_fixed, poses, 0).max() < 0.5


def test_a_list_of_images_is_a_series(moving_head):
    data, truth = moving_head
    images = [nib.Nifti1Image(data[..., t], AFFINE) for t in (0, 5, 15)]
    found = mireg.register_series(images, reference=1)
    errors = errors_mm(found.moving_from_fixed, truth[[0, 5, 15]], 1)
    assert errors.max() < 0.3


def test_volumes_are_moved_into_line(moving_head):
    data, _ = moving_head
    found = mireg.register_series((data, AFFINE), reference=0)
    moved = np.stack([one.data for one in found.volumes()], axis=-1)
    inner = (slice(6, -6),) * 3
    before, after = (np.nanstd(d[inner], axis=-1).mean() for d in (data, moved))
    assert after < 0.35 * before


@pytest.mark.parametrize("jump_mm", [0.0, 3.0, 12.0])
def test_a_jump_that_is_followed_is_not_doubted(jump_mm):
    first, second = (
        phantom.make_phantom("EPI", voxel_size_mm=6, noise_seed=seed) for seed in (0, 1)
    )
    moved = np.eye(4)
    moved[0, 3] = jump_mm
    live = mireg.SeriesRegistration(first)
    found = live.add(Image(second.data, moved @ second.mm_from_ijk))
    apart = found.transform.max_displacement(
        [[0, 0, 0]], RigidTransform.from_matrix(moved)
    )
    assert apart < 0.6
    assert not found.doubted
    assert found.standard_error_mm < 0.6


def test_live_volumes_are_followed(moving_head):
    data, truth = moving_head
    live = mireg.SeriesRegistration((data[..., 0], AFFINE))
    found = [live.add((data[..., t], AFFINE)) for t in range(5)]
    matrices = np.array([one.transform.matrix for one in found])
    assert errors_mm(matrices, truth[:5], 0).max() < 0.3
    assert all(0 < one.standard_error_mm < 0.3 and one.seconds > 0 for one in found)
    assert not any(one.doubted or one.searched for one in found)


# --- files ----------------------------------------------------------------------------


@pytest.fixture
def run(moving_head, tmp_path) -> Path:
    """Write the first volumes as a scanner does: int16, a TR, compressed."""
    data, _ = moving_head
    image = nib.Nifti1Image(data[..., :5].astype(np.int16), AFFINE)
    image.header.set_zooms((3, 3, 3, 1.5))
    image.header.set_xyzt_units("mm", "sec")
    path = tmp_path / "sub-01_task-rest_bold.nii.gz"
    nib.save(image, path)
    return path


def test_volumes_are_read_one_by_one(run, moving_head):
    data, _ = moving_head
    series = Series(run)
    assert len(series) == 5
    assert series.repetition_time == 1.5
    for t, one in enumerate(series):
        np.testing.assert_array_equal(one.data, data[..., t].astype(np.int16))
    (third,) = series.read([3])
    np.testing.assert_array_equal(third.data, data[..., 3].astype(np.int16))
    with pytest.raises(InputError, match="no volume 5"):
        series.read([5])


def test_scaling_of_the_file_is_applied(tmp_path):
    raw = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    image = nib.Nifti1Image(raw * 0.5 + 3, np.eye(4))
    image.header.set_data_dtype(np.int16)
    path = tmp_path / "scaled.nii"
    nib.save(image, path)
    read = np.stack([one.data for one in Series(path)], axis=-1)
    np.testing.assert_allclose(read, raw * 0.5 + 3, atol=1e-3)


def test_a_file_cut_short_is_refused_in_one_line(run):
    content = gzip.decompress(run.read_bytes())
    run.write_bytes(gzip.compress(content[: len(content) // 2]))
    with pytest.raises(InputError, match="damaged or cut short"):
        list(Series(run))


def test_one_volume_is_no_series(moving_head):
    data, _ = moving_head
    with pytest.raises(InputError, match="one volume only"):
        mireg.register_series((data[..., 0], AFFINE))


def test_files_are_written_under_names_of_bids(run, tmp_path):
    nt = pytest.importorskip("nitransforms")
    found = mireg.register_series(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        files = found.save(folder=tmp_path, formats=["itk", "fsl"], picture=True)
    moved = nib.load(tmp_path / "sub-01_task-rest_desc-hmc_bold.nii.gz")
    assert moved.shape == (26, 26, 24, 5)
    assert moved.get_data_dtype() == np.int16
    assert moved.header.get_zooms()[3] == pytest.approx(1.5)
    assert moved.header.get_xyzt_units() == ("mm", "sec")
    table = (tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv").read_text()
    assert len(table.splitlines()) == 6
    said = json.loads(files.definitions.read_text())
    assert set(said) == set(table.splitlines()[0].split("\t"))
    record = json.loads(files.record.read_text())
    assert record["schema"] == "mireg-series/1"
    assert len(record["volumes"]) == 5
    theirs = nt.linear.load(files.transforms["itk"], fmt="itk")
    for t, matrix in enumerate(found.moving_from_fixed):
        ours = POINTS @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(theirs[t].map(POINTS), ours, atol=1e-3)
    assert sorted(p.name for p in files.transforms["fsl"].iterdir())[0] == "MAT_0000"
    assert files.picture is not None
    assert files.picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="exists already"):
        found.save(folder=tmp_path)


def test_a_series_goes_onto_another_scan_by_one_interpolation(moving_head, tmp_path):
    data, truth = moving_head
    away = RigidTransform([0, 0, 0.3], [20, -10, 5]).matrix
    anatomy = nib.Nifti1Image(900 - data[..., 0], away @ AFFINE)
    path = tmp_path / "t1.nii"
    nib.save(anatomy, path)
    found = mireg.register_series((data[..., :4], AFFINE), reference=0, to=path)
    files = found.save(tmp_path / "on_t1")
    moved = nib.load(files.image)
    assert found.to is not None
    wanted = truth[:4] @ np.linalg.inv(truth[0]) @ np.linalg.inv(away)
    points = POINTS @ away[:3, :3].T + away[:3, 3]
    for t in range(4):
        ours = found.moving_from_fixed[t] @ found.to.moving_from_fixed
        assert pose_error_mm(ours, wanted[t], points) < 0.5
    assert moved.shape[3] == 4
    np.testing.assert_allclose(moved.affine[:3, :3], (away @ AFFINE)[:3, :3], atol=1e-3)


def test_a_folder_that_holds_something_else_is_not_replaced(run, tmp_path):
    found = mireg.register_series(run, reference=0)
    files = named(tmp_path / "out", ["fsl"], image=False)
    folder = files.transforms["fsl"]
    folder.mkdir()
    (folder / "precious").write_text("x")
    with pytest.raises(InputError, match="exists already"):
        found.save(tmp_path / "out", formats=["fsl"], image=False)
    with pytest.raises(InputError, match="not replaced"):
        found.save(tmp_path / "out", formats=["fsl"], image=False, force=True)
    (folder / "precious").rename(folder / "MAT_0007")
    found.save(tmp_path / "out", formats=["fsl"], image=False, force=True)
    assert sorted(path.name for path in folder.iterdir())[-1] == "MAT_0004"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_midway_it_leaves_nothing_half_written(run, tmp_path, number):
    script = (
        "import sys, time, mireg._series_results as r\n"
        "old = r.resample\n"
        "def slow(*a, **k):\n"
        "    print('moving', flush=True); time.sleep(0.5); return old(*a, **k)\n"
        "r.resample = slow\n"
        "from mireg.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "moved"
    command = [sys.executable, "-c", script, "series", str(run), "-o", str(out)]
    command += ["--transform-format", "itk,fsl", "--threads", "1", "--reference", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "moving\n" in iter(process.stdout.readline, "")
        time.sleep(0.7)
        process.send_signal(number)
        process.communicate()
    left = [p.name for p in tmp_path.iterdir() if not p.name.endswith(".part")]
    assert left == [run.name]
