"""Images from and to files; other programs have the second word."""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name

from mireg._errors import InputError, MiregWarning
from mireg._files import formats, nifti
from mireg._files.writing import new_file
from mireg._image import Image

AFFINE = np.array([[-2, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1.0]])
NIBABEL_DATA = Path(nib.__file__).parent / "tests" / "data"


def save(path, data, affine=AFFINE, kind=nib.Nifti1Image):
    """Write an image with nibabel."""
    nib.save(kind(data, affine), path)
    return path


def ramp(*shape, dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture(params=["isal", "Python's own"])
def gzipper(request, monkeypatch):
    """Read and write compressed files with either library, if it is there."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(formats, "GzipFile", gzip.GzipFile)
        monkeypatch.setattr(nifti, "isal_zlib", None)


# --- reading ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("a.nii", nib.Nifti1Image, "i2"),
        ("a.nii.gz", nib.Nifti1Image, ">f4"),
        ("a.nii", nib.Nifti2Image, "f8"),
        ("a.hdr", nib.Nifti1Pair, "u1"),
        ("a.mgz", nib.MGHImage, "i2"),
        ("a.mgh", nib.MGHImage, "f4"),
    ],
)
@pytest.mark.filterwarnings(  # nibabel leaves plain .mgh files open
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_every_format_reads_alike(name, kind, dtype, tmp_path):
    path = save(tmp_path / name, ramp(3, 4, 5, dtype=dtype), kind=kind)
    image = formats.read_image(path)
    np.testing.assert_array_equal(image.data, ramp(3, 4, 5))
    np.testing.assert_allclose(image.mm_from_ijk, AFFINE)


@pytest.mark.parametrize(
    "name", ["tiny.mnc", "example4d+orig.HEAD", "phantom_EPI_asc_CLEAR_2_1.PAR"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_minc_afni_and_philips_as_nibabel_ships_them(name):
    path = NIBABEL_DATA / name
    if not path.exists():
        pytest.skip("this nibabel comes without its test data")
    opened = nib.load(path)
    image = formats.read_image(path)
    data = np.asarray(opened.dataobj, dtype=float)
    expected = data if data.ndim == 3 else data.mean(axis=-1)
    np.testing.assert_allclose(image.data, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(image.mm_from_ijk, opened.affine)


def test_minc_with_time_first_is_refused():
    path = NIBABEL_DATA / "minc1_4d.mnc"
    if not path.exists():
        pytest.skip("this nibabel comes without its test data")
    with pytest.raises(InputError, match="volumes lie first"):
        formats.read_image(path)


def test_analyze_does_not_say_which_side_is_left(tmp_path):
    path = tmp_path / "a.img"
    nib.save(nib.AnalyzeImage(ramp(3, 4, 5), None), path)
    with pytest.warns(MiregWarning, match="which side is left"):
        formats.read_image(path)


@pytest.mark.parametrize("dtype", ["i2", "u1", "i4", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_applied(dtype, suffix, tmp_path):
    image = nib.Nifti1Image(ramp(3, 4, 5, dtype=dtype), AFFINE)
    image.header.set_slope_inter(0.25, -1000)
    path = tmp_path / f"a{suffix}"
    # nibabel would undo the scaling: put raw values under the header by hand.
    header = image.header.copy()
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    content = (
        header.binaryblock
        + b"\0" * 4
        + image.get_fdata().astype(dtype).tobytes(order="F")
    )
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    found = formats.read_image(path)
    np.testing.assert_allclose(found.data, 0.25 * ramp(3, 4, 5) - 1000, rtol=1e-6)
    np.testing.assert_allclose(found.data, nib.load(path).get_fdata(), rtol=1e-6)


@pytest.mark.usefixtures("gzipper")
@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("a.nii.gz", nib.Nifti1Image, ">i2"),
        ("a.nii.gz", nib.Nifti1Image, "f8"),
        ("A.NII.GZ", nib.Nifti1Image, "u1"),
        ("a.img.gz", nib.Nifti1Pair, "i4"),
        ("a.mgz", nib.MGHImage, "f4"),
    ],
)
def test_compressed_files_read_as_nibabel_reads_them(
    name, kind, dtype, tmp_path, monkeypatch
):
    monkeypatch.setattr(formats, "_READ_AT_ONCE", 7)  # in many parts, the last short
    voxels = np.random.default_rng(3).normal(0, 50, (5, 6, 4, 3)).astype(dtype)
    path = save(tmp_path / name, voxels, kind=kind)
    opened = nib.load(path)
    expected = opened.get_fdata()
    for t, volume in enumerate(formats.read_volumes(opened)):
        np.testing.assert_allclose(volume.data, expected[..., t], rtol=1e-6)
    one = save(tmp_path / f"one{name.lower()}", voxels[..., 1], kind=kind)
    np.testing.assert_array_equal(
        formats.read_image(one).data, nib.load(one).get_fdata(dtype=np.float32)
    )


@pytest.mark.usefixtures("gzipper")
@pytest.mark.parametrize("where", ["voxels", "checksum", "end", "length"])
def test_damage_to_a_compressed_file_is_told_in_one_line(where, tmp_path):
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", noise)
    content = bytearray(path.read_bytes())
    if where == "voxels":
        content[len(content) // 2] ^= 0xFF
    elif where == "checksum":
        content[-8] ^= 1
    elif where == "end":
        content = content[:-6]
    else:  # the header promises more
        whole = bytearray(gzip.decompress(content))
        whole[42] = 40
        content = gzip.compress(whole)
    path.write_bytes(content)
    with pytest.raises(InputError, match="copy it again") as caught:
        formats.read_image(path)
    assert str(caught.value).startswith(f"{path}: the voxels cannot be read (")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("gzipper")
def test_the_same_bytes_are_compressed_on_any_number_of_threads(tmp_path):
    noise = np.random.default_rng(1).normal(size=(90, 80, 70)).astype(np.float32)
    image = Image(noise, AFFINE)
    plain = io.BytesIO()
    nifti.dump_image(plain, tmp_path / "a.nii", image)
    written = []
    for threads in (1, 2, 5, None):
        file = io.BytesIO()
        nifti.dump_image(file, tmp_path / "a.nii.gz", image, threads=threads)
        written.append(file.getvalue())
    assert gzip.decompress(written[0]) == plain.getvalue()
    assert len(set(written)) == 1


def test_without_isal_files_are_read_and_written_all_the_same(tmp_path):
    program = (
        "import sys; sys.modules['isal'] = None\n"
        "from mireg import read_image, write_image\n"
        "from mireg._files import formats\n"
        "assert formats.GzipFile.__module__ == 'gzip'\n"
        "write_image(sys.argv[2], read_image(sys.argv[1]))\n"
    )
    path = save(tmp_path / "a.nii.gz", ramp(3, 4, 5))
    subprocess.run(
        [sys.executable, "-c", program, path, tmp_path / "b.nii.gz"], check=True
    )
    np.testing.assert_array_equal(
        nib.load(tmp_path / "b.nii.gz").get_fdata(), ramp(3, 4, 5)
    )


def test_a_slope_that_is_nan_or_zero_scales_nothing(tmp_path):
    for slope in (np.nan, 0):
        path = save(tmp_path / "a.nii", ramp(3, 4, 5))
        content = bytearray(path.read_bytes())
        content[112:116] = np.float32(slope).tobytes()
        path.write_bytes(content)
        np.testing.assert_array_equal(formats.read_image(path).data, ramp(3, 4, 5))


def test_nan_and_infinite_are_no_data(tmp_path):
    data = ramp(2, 3, 4, dtype=np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    found = formats.read_image(save(tmp_path / "a.nii", data)).data
    assert np.isnan(found[0, 0, :3]).all()
    np.testing.assert_array_equal(found[1], data[1])


def test_which_volume(tmp_path):
    data = np.random.default_rng(0).integers(0, 99, (4, 3, 5, 6)).astype(np.int16)
    for suffix in (".nii", ".nii.gz"):
        path = save(tmp_path / f"a{suffix}", data)
        with pytest.warns(MiregWarning, match="6 volumes; their mean is used"):
            mean = formats.read_image(path)
        np.testing.assert_allclose(mean.data, data.mean(axis=-1), rtol=1e-6)
        same = formats.read_image(path, "mean")
        np.testing.assert_array_equal(same.data, mean.data)
        median = formats.read_image(path, "median")
        np.testing.assert_allclose(median.data, np.median(data, axis=-1))
        np.testing.assert_array_equal(formats.read_image(path, 5).data, data[..., 5])
        for wrong in (6, -1):
            with pytest.raises(InputError, match=f"no volume {wrong}; it has .*0 to 5"):
                formats.read_image(path, wrong)


@pytest.mark.parametrize("shape", [(3, 4, 5, 1), (3, 4, 5, 1, 1)])
def test_one_volume_of_four_dimensions_is_just_that(shape, tmp_path):
    path = save(tmp_path / "a.nii", ramp(*shape))
    np.testing.assert_array_equal(formats.read_image(path).data, ramp(3, 4, 5))


def test_from_nibabel_without_a_file():
    with pytest.raises(InputError, match="the image: the image is constant"):
        formats.from_nibabel(nib.Nifti1Image(np.zeros((2, 2, 2)), AFFINE))
    with pytest.raises(InputError, match="no affine"):
        formats.from_nibabel(nib.Nifti1Image(ramp(2, 2, 2), None))
    found = formats.from_nibabel(nib.Nifti1Image(ramp(2, 3, 4), AFFINE))
    np.testing.assert_array_equal(found.data, ramp(2, 3, 4))


def colour(tmp_path):
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save(tmp_path / "rgb.nii", rgb)


def cut(tmp_path):
    noise = np.random.default_rng(0).normal(size=(20, 20, 20))
    path = save(tmp_path / "cut.nii.gz", noise)
    path.write_bytes(path.read_bytes()[:5000])
    return path


def cut_plain(tmp_path):
    path = save(tmp_path / "cut.nii", ramp(9, 9, 9))
    path.write_bytes(path.read_bytes()[:800])
    return path


def text(tmp_path):
    (tmp_path / "a.nii").write_text("this is no image")
    return tmp_path / "a.nii"


def nothing(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d / "gone.nii", "there is no such file"),
        (lambda d: d, "this is a folder"),
        (text, "cannot be read as an image"),
        (nothing, "cannot be read as an image"),
        (cut, "cut short"),
        (cut_plain, "cut short"),
        (colour, "RGB"),
        (lambda d: save(d / "a.nii", ramp(3, 4, 5, dtype="c8")), "complex"),
        (lambda d: save(d / "a.nii", ramp(30, 4)), "2-D image"),
        (lambda d: save(d / "a.nii", ramp(2, 2, 2, 2, 3)), "5-D image"),
        (lambda d: save(d / "a.nii", np.ones((2, 2, 2))), "constant, every voxel is 1"),
        (lambda d: save(d / "a.nii", np.full((2, 2, 2), np.nan)), "every voxel is NaN"),
    ],
)
def test_what_cannot_be_registered_is_refused_in_one_line(make, says, tmp_path):
    path = make(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        formats.read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_headers_that_disagree_are_told(tmp_path):
    image = nib.Nifti1Image(ramp(3, 4, 5), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += 7
    image.set_sform(AFFINE, 2)
    image.set_qform(other, 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(MiregWarning, match="up to 7 mm apart; the sform is used"):
        found = formats.read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(found.mm_from_ijk, AFFINE)


def test_headers_that_say_nothing_are_told(tmp_path):
    path = save(tmp_path / "a.nii", ramp(3, 4, 5))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(content)
    with pytest.warns(MiregWarning, match="does not say where the image is"):
        formats.read_image(path)


def test_a_good_header_gives_no_warning(tmp_path):
    image = nib.Nifti1Image(ramp(3, 4, 5), AFFINE)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "a.nii")
    formats.read_image(tmp_path / "a.nii")  # warnings are errors here


def test_a_sheared_sform_is_read_as_it_is(tmp_path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 3 * np.tan(np.deg2rad(13.5))
    found = formats.read_image(save(tmp_path / "a.nii", ramp(3, 4, 5), sheared))
    np.testing.assert_allclose(found.mm_from_ijk, sheared, rtol=1e-6)


def test_masks(tmp_path):
    mask = formats.read_mask(save(tmp_path / "a.nii", np.ones((2, 2, 2))))
    assert (mask.data == 1).all()
    with pytest.raises(InputError, match="the mask is empty"):
        formats.read_mask(save(tmp_path / "b.nii", np.zeros((2, 2, 2))))


def test_a_grid_is_read_without_its_voxels(tmp_path):
    path = cut(tmp_path)
    grid = formats.read_grid(path)
    assert grid.shape == (20, 20, 20)
    np.testing.assert_allclose(grid.mm_from_ijk, AFFINE)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    expected = hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert formats.sha256(tmp_path / "a") == expected


# --- what other tools read ----------------------------------------------------


def test_a_dicom_folder_is_met_with_the_tool_to_use(tmp_path):
    folder = tmp_path / "my scan"
    (folder / "series").mkdir(parents=True)
    slice_ = sitk.Image([8, 8, 1], sitk.sitkInt16)
    sitk.WriteImage(slice_, str(folder / "series" / "a.dcm"))
    unnamed = folder / "series" / "IM0001"
    (folder / "series" / "a.dcm").rename(unnamed)
    with pytest.raises(InputError, match=r"dcm2niix -z y -o \. '.*my scan'$"):
        formats.read_image(folder)
    with pytest.raises(InputError, match=r"a DICOM file; .* dcm2niix .*series'$"):
        formats.read_image(unnamed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="give the image file in it"):
        formats.read_image(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_files_of_itk_are_met_with_a_line_that_works(suffix, tmp_path, rng):
    scan = sitk.GetImageFromArray(rng.integers(0, 99, (5, 4, 3)).astype(np.int16))
    scan.SetSpacing((1.0, 2.0, 3.0))
    path = tmp_path / f"it's{suffix}"
    sitk.WriteImage(scan, str(path))
    with pytest.raises(InputError) as caught:
        formats.read_image(path)
    line = str(caught.value).partition("SimpleITK; ")[2].removeprefix("python")
    assert "\n" not in str(caught.value)
    subprocess.run(
        f"{shlex.quote(sys.executable)}{line}", shell=True, check=True, cwd=tmp_path
    )
    found = formats.read_image(tmp_path / "it's.nii.gz")
    np.testing.assert_array_equal(found.data, sitk.GetArrayFromImage(scan).T)
    np.testing.assert_allclose(found.voxel_size_mm, [1, 2, 3])


# --- writing ----------------------------------------------------------------


def scaled(path, dtype, slope, inter):
    """Write a small file with raw values 0, 1, 2 ... under a scaling; open it."""
    image = nib.Nifti1Image(np.zeros((3, 4, 5), dtype), AFFINE)
    image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return nib.load(path)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("u1", 0, 255), ("i2", -32768, 32767), ("u2", 0, 65535), ("i4", -(2**31), None)],
)
def test_overshoot_is_clipped_never_wrapped(dtype, low, high, tmp_path):
    template = nib.Nifti1Image(np.zeros((1, 1, 1), dtype), np.eye(4))
    image = Image(np.reshape([-1e12, 1.4, 1.6, 1e12, np.nan], (5, 1, 1)), AFFINE)
    nifti.write_image(tmp_path / "a.nii.gz", image, template=template)
    back = nib.load(tmp_path / "a.nii.gz")
    assert back.get_data_dtype() == np.dtype(dtype)
    high = high if high is not None else 2**31 - 1
    assert np.asarray(back.dataobj).ravel().tolist() == [low, 1, 2, high, 0]


def test_int64_is_clipped_too(tmp_path):
    template = nib.Nifti1Image(np.zeros((1, 1, 1), "i8"), np.eye(4), dtype="i8")
    image = Image(np.reshape([-1e20, 7, 1e20], (3, 1, 1)), AFFINE)
    nifti.write_image(tmp_path / "a.nii", image, template=template)
    back = np.asarray(nib.load(tmp_path / "a.nii").dataobj).ravel()
    assert back[0] == -(2**63)
    assert back[1] == 7
    assert back[2] > 2**62


def test_scaling_and_header_are_kept(tmp_path):
    path = tmp_path / "in.nii"
    image = nib.Nifti1Image(ramp(3, 4, 5, 2), AFFINE)
    image.header.set_zooms((2, 2.5, 3, 1.75))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"BOLD run 1"
    image.header["slice_code"] = 3
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.float32([0.5, -100]).tobytes()
    path.write_bytes(content)
    opened = nib.load(path)
    volumes = list(formats.read_volumes(opened))
    with new_file(tmp_path / "out.nii.gz") as file:
        nifti.dump_image(file, "out.nii.gz", volumes, template=opened)
    back = nib.load(tmp_path / "out.nii.gz")
    assert back.shape == (3, 4, 5, 2)
    assert back.get_data_dtype() == np.int16
    assert (back.dataobj.slope, back.dataobj.inter) == (0.5, -100)
    np.testing.assert_array_equal(back.dataobj.get_unscaled(), ramp(3, 4, 5, 2))
    assert back.header.get_zooms()[3] == 1.75
    assert back.header.get_xyzt_units() == ("mm", "sec")
    assert back.header["descrip"].item() == b"BOLD run 1"
    assert back.header["slice_code"] == 0  # slices have another order on a new grid
    np.testing.assert_allclose(back.get_sform(), AFFINE)
    np.testing.assert_allclose(back.get_qform(), AFFINE, atol=1e-5)
    assert (back.header["sform_code"], back.header["qform_code"]) == (2, 2)


def test_a_sheared_grid_has_no_qform(tmp_path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.7
    nifti.write_image(tmp_path / "a.nii", Image(np.zeros((9, 9, 9)), sheared))
    back = nib.load(tmp_path / "a.nii")
    assert back.header["qform_code"] == 0
    np.testing.assert_allclose(back.affine, sheared, rtol=1e-6)


@pytest.mark.parametrize("kind", [nib.MGHImage, nib.Nifti2Image, nib.Nifti1Pair])
def test_other_formats_as_template(kind, tmp_path):
    template = kind(ramp(3, 4, 5), AFFINE)
    image = formats.from_nibabel(template)
    nifti.write_image(tmp_path / "a.nii.gz", image, template=template)
    back = nib.load(tmp_path / "a.nii.gz")
    assert isinstance(back, nib.Nifti2Image) == (kind is nib.Nifti2Image)
    assert back.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(back.dataobj), ramp(3, 4, 5))


def test_the_same_image_gives_the_same_bytes(tmp_path):
    image = Image(ramp(3, 4, 5), AFFINE)
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_image(tmp_path / name, image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_written_files_are_read_by_simpleitk(tmp_path):
    nifti.write_image(tmp_path / "a.nii.gz", Image(ramp(3, 4, 5), AFFINE))
    back = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back).T, ramp(3, 4, 5))
    lps = back.TransformIndexToPhysicalPoint((2, 3, 4))
    ras = AFFINE @ [2, 3, 4, 1]
    np.testing.assert_allclose(lps, [-ras[0], -ras[1], ras[2]], rtol=1e-6)


def test_nothing_is_left_when_writing_fails(tmp_path):
    def two():
        yield Image(ramp(2, 2, 2), AFFINE)
        raise KeyboardInterrupt

    template = nib.Nifti1Image(ramp(2, 2, 2, 2), AFFINE)
    path = tmp_path / "a.nii"
    with pytest.raises(KeyboardInterrupt), new_file(path) as file:
        nifti.dump_image(file, path, two(), template=template)
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_replaced_unless_forced(tmp_path):
    path = tmp_path / "a.nii"
    path.write_text("mine")
    image = Image(ramp(2, 2, 2), AFFINE)
    with pytest.raises(InputError, match="exists already"):
        nifti.write_image(path, image)
    assert path.read_text() == "mine"
    nifti.write_image(path, image, force=True)
    assert nib.load(path).shape == (2, 2, 2)
    with pytest.raises(InputError, match="no such folder"):
        nifti.write_image(tmp_path / "gone" / "a.nii", image)
    with pytest.raises(InputError, match=r"\.nii or \.nii\.gz"):
        nifti.write_image(tmp_path / "a.img", image)


def test_fill_values_that_do_not_fit_are_refused(tmp_path):
    opened = scaled(tmp_path / "a.nii", "u1", 1, 0)
    stored = nifti.storage(opened)
    stored.check_fill(255, "a.nii")
    for wrong in (-1, 256, np.nan):
        with pytest.raises(InputError, match="cannot hold the fill value"):
            stored.check_fill(wrong, "a.nii")
    floats = nifti.storage(nib.Nifti1Image(np.zeros((2, 2, 2)), AFFINE))
    floats.check_fill(np.nan, "b.nii")


def test_labels_that_would_be_rounded_are_refused():
    opened = nib.Nifti1Image(np.full((2, 2, 2), 2**24 + 1, "i4"), AFFINE)
    with pytest.raises(InputError, match="would be rounded"):
        list(formats.read_volumes(opened, exact=True))
