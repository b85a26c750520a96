"""Large images: whole numbers stay so, slabs are made one by one, to the same bits.

What is large is made small here: a few thousand voxels.
"""

from __future__ import annotations

import copy
import pickle

import nibabel as nib
import numpy as np
import pytest

import mireg
from mireg import _parameters as parameters
from mireg import _resample as resample_module
from mireg._files.formats import open_nibabel, read_volumes
from mireg._image import Image, Slabs, WholeNumbers
from mireg._resample import INTERPOLATIONS, resampled_slabs
from mireg.cli import main
from mireg.phantom import phantom_pair


@pytest.fixture
def large(monkeypatch):
    """Let hundreds of voxels be many."""
    monkeypatch.setattr(parameters, "LARGE", 100)


def written(folder, voxels, *, slope=1.0, inter=0.0, name="a.nii"):
    """Write voxels as they are to be stored."""
    image = nib.Nifti1Image(np.asfortranarray(voxels), np.diag([2, 2, 3, 1]))
    image.header.set_data_dtype(voxels.dtype)
    image.header.set_slope_inter(slope, inter)
    path = folder / name
    nib.save(image, path)
    raw = nib.Nifti1Image.from_filename(path)
    assert (raw.dataobj.slope, raw.dataobj.inter) == (slope, inter)
    return path


def numbers(rng, dtype="<i2", low=-3000, high=3000):
    return rng.integers(low, high, (12, 10, 9)).astype(dtype)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "u1", "i1"])
def test_whole_numbers_stay_so_until_floats_are_asked_for(dtype, name, tmp_path, rng):
    top = np.iinfo(dtype)
    voxels = numbers(rng, dtype, max(top.min, -3000), min(top.max, 60000))
    path = written(tmp_path, voxels, name=name)
    small = mireg.read_image(path)
    assert small.voxels is small.data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "LARGE", 100)
        image = mireg.read_image(path)
    assert image.voxels.dtype == np.dtype(dtype).newbyteorder("=")
    assert image.shape == small.shape
    assert repr(image) == repr(small)
    assert "data" not in vars(image)
    np.testing.assert_array_equal(image.data, small.data)
    assert image.data.dtype == np.float32
    assert image.voxels is image.data  # the others are not kept besides


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "kept"),
    [
        ("<i2", 1.0, -1024.0, "int16"),
        ("<u2", 1.0, -1024.0, "int16"),
        ("<u2", 1.0, -32768.0, "int16"),
        ("<i2", 1.0, 32000.0, "float32"),  # beyond 16 bits
        ("u1", 1.0, -3.0, "float32"),
        ("<i2", 1.0, 0.5, "float32"),
        ("<i2", 0.25, 0.0, "float32"),
        ("<i4", 1.0, 0.0, "float32"),
        ("<f4", 1.0, 0.0, "float32"),
    ],
)
def test_what_is_scaled_stays_exact(dtype, slope, inter, kept, tmp_path, rng):
    top = (0, 250) if dtype == "u1" else (0, 40000) if dtype == "<u2" else (-3000, 3000)
    if inter == -1024.0 and dtype == "<u2":
        top = (0, 33791)
    path = written(tmp_path, numbers(rng, dtype, *top), slope=slope, inter=inter)
    expected = mireg.read_image(path).data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "LARGE", 100)
        image = mireg.read_image(path)
        (volume,) = read_volumes(open_nibabel(path))
    assert image.voxels.dtype == volume.voxels.dtype == kept
    np.testing.assert_array_equal(image.data, expected)
    np.testing.assert_array_equal(volume.data, expected)


@pytest.mark.usefixtures("large")
def test_a_copy_is_as_good(tmp_path, rng):
    voxels = numbers(rng)
    image = mireg.read_image(written(tmp_path, voxels))
    for made in (
        copy.copy(image),
        pickle.loads(pickle.dumps(Image(voxels, np.eye(4)))),
    ):
        np.testing.assert_array_equal(made.data, voxels)
    assert not hasattr(image, "nothing")
    with pytest.raises(AttributeError, match="an Image has no nothing"):
        _ = image.nothing


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size_mm", [1.5, 4.0])
def test_slabs_of_whole_numbers_are_the_image(interpolation, size_mm, monkeypatch, rng):
    voxels = numbers(rng, low=0, high=9)
    m = np.diag([2.0, 2.0, 3.0, 1.0])
    floats, whole = Image(voxels, m), Image(WholeNumbers(voxels), m)
    like = mireg.Image(np.zeros((20, 20, 30)), np.diag([size_mm, size_mm, 1.0, 1.0]))
    pose = mireg.RigidTransform([0.1, 0.2, 0.3], [1, 2, 3])
    expected = mireg.resample(floats, like, pose, interpolation=interpolation)
    monkeypatch.setattr(resample_module, "_MOST_AT_ONCE", 20 * 20 * 8)
    slabs = resampled_slabs(whole, like, pose, interpolation=interpolation, threads=1)
    made = [*slabs]
    assert len(made) == (1 if size_mm > 2 and slabs.step == 30 else 4)
    np.testing.assert_array_equal(np.concatenate(made, axis=2), expected.data)
    np.testing.assert_array_equal(slabs.whole().data, expected.data)


def test_an_image_is_one_slab(rng):
    image = Image(numbers(rng), np.eye(4))
    (slab,) = Slabs.of(image)
    np.testing.assert_array_equal(slab, image.data)


@pytest.mark.parametrize("init", ["auto", "header"])
def test_a_registration_is_the_same(init, tmp_path, monkeypatch):
    pair = phantom_pair(fixed_voxel_size_mm=5, moving_voxel_size_mm=6)
    files = []
    for image, name in ((pair.fixed, "fixed"), (pair.moving, "moving")):
        data = np.rint(image.data * (900 / image.data.max())).astype(np.int16)
        files.append(str(tmp_path / f"{name}.nii.gz"))
        nib.save(nib.Nifti1Image(data, image.mm_from_ijk), files[-1])
    words = ["register", *files, "--init", init, "-q"]
    main([*words, "-o", str(tmp_path / "small")])
    monkeypatch.setattr(parameters, "LARGE", 1000)
    monkeypatch.setattr(resample_module, "_MOST_AT_ONCE", 1000)
    main([*words, "-o", str(tmp_path / "large")])
    for ending in (".nii.gz", ".tfm"):
        small, large = (tmp_path / f"{n}{ending}" for n in ("small", "large"))
        assert small.read_bytes() == large.read_bytes()
