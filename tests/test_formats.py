"""Images from and to files; other programs have the second word."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name

from mireg._errors import InputError, MiregWarning, printable
from mireg._files import formats, nifti
from mireg._files.writing import new_file
from mireg._image import Image
from mireg._resample import resample

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
    with pytest.raises(InputError, match="first axis is that of its volumes"):
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


def without_suffix(tmp_path):
    for name in ("t1.nii.gz", "t1.json", "t10.nii.gz"):
        (tmp_path / name).touch()
    return tmp_path / "t1"


def nothing(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d / "gone.nii", "there is no such file; check the path"),
        (without_suffix, "there is no such file; give .*t1.json or .*t1.nii.gz$"),
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
    assert str(caught.value).startswith(printable(f"{path}: "))
    assert "\n" not in str(caught.value)


def gifti(folder):
    path = folder / "a.gii"
    points = nib.gifti.GiftiDataArray(np.zeros((3, 3), "f4"), "NIFTI_INTENT_POINTSET")
    nib.save(nib.GiftiImage(darrays=[points]), path)
    return path


def pipe(folder):
    os.mkfifo(folder / "a.nii")
    return folder / "a.nii"


def link(folder):
    (folder / "a.nii").symlink_to(".git/annex/objects/a")
    return folder / "a.nii"


def looped(folder):
    (folder / "a.nii").symlink_to("a.nii")
    return folder / "a.nii"


def renamed(old, new):
    return lambda folder: save(folder / old, ramp(3, 4, 5)).rename(folder / new)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (gifti, "a GIFTI surface, not a volume"),
        (pipe, "a pipe or a device; save"),
        (link, "a link whose target, .git/annex/objects/a, is missing; .*datalad get"),
        (looped, "cannot be read .*symbolic links.*check the path"),
        (lambda d: d / f"{'a' * 300}.nii", "File name too long.*check the path"),
        (lambda d: d / "a\0.nii", "no such file"),
        (renamed("a.nii.gz", "a.nii"), r"rename it to end in \.nii\.gz$"),
        (renamed("a.nii", "a.nii.gz"), r"rename it to end in \.nii$"),
        (renamed("a.nii", "a.dat"), r"rename it to end in \.nii$"),
        (lambda d: patched(d / "a.nii", (70, "<i2", 999)), "header is damaged"),
        (lambda d: patched(d / "a.nii", (42, "<i2", -5)), "image is empty"),
        (lambda d: patched(d / "a.nii", (280, "<f4", 1e30)), "voxel is 1e.30 mm long"),
        (lambda d: patched(d / "a.nii", (280, "<f4", 1e5)), "voxel is 1e.05 mm long"),
        (lambda d: patched(d / "a.nii", (292, "<f4", 1e30)), "from the origin"),
        (lambda d: patched(d / "a.nii", (280, "<f4", np.nan)), "not finite"),
        (lambda d: patched(d / "a.nii", (280, "<f4", 0)), "singular: .* nowhere"),
    ],
)
def test_what_others_stumble_over_is_one_line(make, says, tmp_path):
    path = make(tmp_path)
    for read in (formats.read_image, formats.read_grid):
        with pytest.raises(InputError, match=f"(?s){says}") as caught:
            read(path)
        assert str(caught.value).startswith(printable(f"{path}: "))
        assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(InputError, match=r"cannot be read .Permission denied"):
        formats.read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("read", [formats.read_image, formats.read_grid])
def test_no_memory_is_taken_for_what_a_short_file_promises(suffix, read, tmp_path):
    path = patched(tmp_path / "a.nii", (42, "<i2", [1000, 1000, 1000]))
    if suffix == ".nii.gz":
        path = tmp_path / "b.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    tracemalloc.start()
    with pytest.raises(InputError, match="fewer voxels than the header says"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_grid_takes_no_memory():
    tracemalloc.start()
    proxy = np.broadcast_to(np.int16(0), (1000, 1000, 1000))
    grid = formats.grid_of(nib.Nifti1Image(proxy, AFFINE))
    assert grid.shape == (1000, 1000, 1000)
    assert np.isnan(grid.data[-1, -1, -1])
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_resampling_reads_no_voxel_of_the_grid(tmp_path):
    path = patched(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-40])  # its voxels are damaged
    found = resample((ramp(20, 4, 5), AFFINE), path, np.eye(4))
    np.testing.assert_array_equal(found.data, ramp(20, 4, 5))


def test_too_little_memory_is_said_as_such(tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    path = save(tmp_path / "a.nii", ramp(3, 4, 5))
    monkeypatch.setattr(formats, "scaled", fail)
    with pytest.raises(InputError, match=r"a\.nii: there is not enough memory"):
        formats.read_image(path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("forms", [(1, 1), (0, 1)])
@pytest.mark.filterwarnings("ignore::mireg._errors.MiregWarning", "ignore:Extension")
def test_any_header_is_read_or_refused_in_one_line(kind, forms, tmp_path, rng):
    odd = np.array([0, 1, -1, 7, 1e5, 9e9, 1e30, -1e30, np.nan, np.inf, 1e-30])
    size = kind.header_class.sizeof_hdr
    said = []
    for _ in range(40):
        at = int(rng.integers(0, size // 2)) * 2
        with np.errstate(invalid="ignore"):
            number = rng.choice(odd).astype(rng.choice(["<f4", "<f8", "<i2", "<i4"]))
        path = patched(
            tmp_path / "a.nii", (at, number.dtype, number), kind=kind, forms=forms
        )
        try:
            image = formats.read_image(path)
            nifti.write_image(tmp_path / "b.nii", image, template=image, force=True)
        except InputError as error:
            said.append(str(error))
    assert 0 < len(said) < 30
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said)


def half_turns_that_nibabel_refuses():
    """Yield half turns whose quaternions are rounded to more than 1."""
    rng = np.random.default_rng(0)
    header = nib.Nifti2Header()
    for along in rng.normal(size=(300, 3)):
        axis = along / np.linalg.norm(along)
        turned = np.eye(4)
        turned[:3, :3] = 2 * np.outer(axis, axis) - np.eye(3)
        header.set_qform(turned, 1)
        try:
            header.get_qform()
        except ValueError:
            yield turned


def test_half_a_turn_about_an_oblique_axis_is_written(tmp_path):
    turns = list(half_turns_that_nibabel_refuses())
    assert turns
    for n, turned in enumerate(turns):
        template = nib.Nifti2Image(ramp(3, 4, 5), np.eye(4))
        path = tmp_path / f"{n}.nii"
        nifti.write_image(path, Image(ramp(3, 4, 5), turned), template=template)
        qform, code = nib.load(path).get_qform(coded=True)
        np.testing.assert_allclose(qform, turned, atol=1e-6)
        assert code == 2
        found = formats.read_image(path)
        np.testing.assert_allclose(found.mm_from_ijk, turned, atol=1e-6)


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
    says = "does not say where the image is.*check left and right"
    with pytest.warns(MiregWarning, match=says):
        formats.read_image(path)


def patched(path, *patches, kind=nib.Nifti1Image, affine=AFFINE, forms=(1, 1)):
    """Write an image, then other bytes into its header: (offset, type, value)."""
    image = kind(ramp(20, 4, 5), affine)
    image.set_sform(affine, forms[0])
    image.set_qform(affine, forms[1])
    nib.save(image, path)
    header = path.with_suffix(".hdr") if path.suffix == ".img" else path
    content = bytearray(header.read_bytes())
    for offset, dtype, value in patches:
        number = np.array(value, dtype).tobytes()
        content[offset : offset + len(number)] = number
    header.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "at", "dtype", "first"),
    [(nib.Nifti1Image, 108, "<f4", 352), (nib.Nifti2Image, 168, "<i8", 544)],
)
@pytest.mark.parametrize("offset", [0, 100])
def test_voxels_do_not_begin_within_the_header(
    kind, at, dtype, first, offset, tmp_path
):
    path = patched(tmp_path / "a.nii", (at, dtype, offset), kind=kind)
    with pytest.warns(MiregWarning, match=f"byte {offset}; .* read from byte {first}"):
        found = formats.read_image(path)
    np.testing.assert_array_equal(found.data, ramp(20, 4, 5))


def test_voxels_that_nibabel_takes_from_the_header_are_refused(tmp_path):
    path = patched(tmp_path / "a.nii", (108, "<f4", 0))
    with pytest.raises(InputError, match=r"a\.nii: .* give the path, not the image"):
        formats.read_image(nib.load(path))


@pytest.mark.parametrize("offset", [9e9, -1, np.nan, np.inf])
def test_an_offset_of_no_use_is_refused(offset, tmp_path):
    path = patched(tmp_path / "a.nii", (108, "<f4", offset))
    with pytest.raises(InputError, match=r"a\.nii: .* vox_offset"):
        formats.read_image(path)


@pytest.mark.parametrize("size", [0, np.nan, np.inf])
@pytest.mark.parametrize("forms", [(0, 1), (0, 0)], ids=["qform", "neither"])
def test_a_voxel_size_of_none_is_refused_where_it_places_the_image(
    size, forms, tmp_path
):
    path = patched(tmp_path / "a.nii", (84, "<f4", size), forms=forms)
    with pytest.raises(InputError, match=r"a\.nii: .*size along axis j is .* repair"):
        formats.read_image(path)


def test_a_voxel_size_of_none_does_not_matter_beside_an_sform(tmp_path):
    path = patched(tmp_path / "a.nii", (84, "<f4", 0), forms=(1, 0))
    np.testing.assert_allclose(formats.read_image(path).mm_from_ijk, AFFINE)


def test_analyze_needs_voxel_sizes_too(tmp_path):
    path = tmp_path / "a.img"
    nib.save(nib.AnalyzeImage(ramp(3, 4, 5), None), path)
    header = path.with_suffix(".hdr")
    header.write_bytes(header.read_bytes()[:80] + bytes(4) + header.read_bytes()[84:])
    with pytest.raises(InputError, match="voxel size along axis i is 0"):
        formats.read_image(path)


@pytest.mark.parametrize(
    ("patch", "note"),
    [
        ((80, "<f4", -2), "axis i is -2 .*; its sign is ignored"),
        ((76, "<f4", -3), "is taken as -1"),
        ((252, "<i2", 9), "the qform has the unknown code 9"),
        ((123, "u1", 7), "unit of length has the unknown code 7"),
        ((123, "u1", 255), "unit of length has the unknown code 7"),
    ],
)
def test_what_nibabel_mends_or_trips_over_is_said(patch, note, tmp_path):
    # qfac is -1 here: the first axis runs to the left.
    path = patched(tmp_path / "a.nii", patch, forms=(0, 1))
    with pytest.warns(MiregWarning, match=f"a.nii: .*{note}"):
        found = formats.read_image(path)
    np.testing.assert_allclose(found.mm_from_ijk, AFFINE, atol=1e-5)


@pytest.mark.parametrize(
    "patch", [(76, "<f4", 0), (70, "<i2", 0), (123, "u1", 56 + 2), (254, "<i2", -1)]
)
def test_what_has_one_meaning_is_read_in_silence(patch, tmp_path, caplog):
    affine = np.diag([2, 2.5, 3, 1.0])
    if patch[0] == 70:
        patch = (72, "<i2", 77)  # bits a voxel
    path = patched(tmp_path / "a.nii", patch, forms=(0, 1), affine=affine)
    np.testing.assert_allclose(formats.read_image(path).mm_from_ijk, affine, atol=1e-5)
    assert caplog.records == []


def test_a_qform_too_long_by_rounding_is_a_rotation(tmp_path):
    half_turn = np.diag([-1.0, -1, 1, 1])  # about the third axis: w is 0
    long = (264, "<f4", np.sqrt(1 + 6.7e-7))
    path = patched(tmp_path / "a.nii", long, affine=half_turn, forms=(0, 1))
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path)
    found = formats.read_image(path)
    np.testing.assert_allclose(found.mm_from_ijk, half_turn, atol=1e-6)
    path = patched(tmp_path / "b.nii", (264, "<f4", 1.1), forms=(0, 1))
    with pytest.raises(InputError, match=r"b\.nii: the qform is not a rotation"):
        formats.read_image(path)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e3), ("micron", 1e-3)])
@pytest.mark.parametrize("forms", [(1, 0), (0, 1)])
def test_lengths_are_scaled_to_mm(unit, scale, forms, tmp_path):
    image = nib.Nifti1Image(ramp(20, 4, 5), AFFINE)
    image.set_sform(AFFINE, forms[0])
    image.set_qform(AFFINE, forms[1])
    image.header.set_xyzt_units(unit, "sec")
    path = tmp_path / "a.nii"
    nib.save(image, path)
    with pytest.warns(MiregWarning, match=f"lengths in {unit[:3]}.* scaled to mm"):
        found = formats.read_image(path)
    np.testing.assert_allclose(found.voxel_size_mm, np.array([2, 2.5, 3]) * scale)
    peer = sitk.ReadImage(str(path))
    if forms != (0, 0):  # ITK places it elsewhere, then
        lps = peer.TransformIndexToPhysicalPoint((2, 3, 4))
        np.testing.assert_allclose(found.to_mm([2, 3, 4]) * [-1, -1, 1], lps, rtol=1e-5)
    # What is written says mm, in every way.
    for name, write in (("b.nii", nifti.dump_image), ("c.nii", nifti.dump_in_place)):
        opened = found.source.opened
        what = found.mm_from_ijk if name == "c.nii" else found
        with new_file(tmp_path / name) as file:
            if name == "b.nii":
                write(file, name, what, template=opened)
            else:
                write(file, name, opened, what)
        back = nib.load(tmp_path / name)
        assert back.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_allclose(back.affine, found.mm_from_ijk, rtol=1e-5)
    grid = formats.read_grid(path)
    np.testing.assert_array_equal(grid.mm_from_ijk, found.mm_from_ijk)
    with pytest.warns(MiregWarning, match="scaled to mm"):
        formats.warn_of(grid)


def test_an_image_of_nibabel_is_scaled_to_mm_and_left_as_it_is():
    image = nib.Nifti1Image(ramp(3, 4, 5), AFFINE)
    image.header.set_xyzt_units("micron")
    before = image.header.binaryblock
    with pytest.warns(MiregWarning, match="the image: .* scaled to mm"):
        found = formats.read_image(image)
    np.testing.assert_allclose(found.mm_from_ijk[:3], AFFINE[:3] / 1000)
    assert image.header.binaryblock == before
    np.testing.assert_array_equal(image.affine, AFFINE)


@pytest.mark.filterwarnings(  # nibabel leaves plain .mgh files open
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
def test_an_mgh_file_that_does_not_say_where_it_is_is_told(tmp_path):
    path = save(tmp_path / "a.mgh", ramp(3, 4, 5), kind=nib.MGHImage)
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)
    path.write_bytes(content)
    with pytest.warns(MiregWarning, match="goodRASFlag is 0.*check left and right"):
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
    weights = np.linspace(0, 1, 40**3, dtype=np.float32).reshape(40, 40, 40)
    with pytest.warns(MiregWarning, match=r"c\.nii: as a mask .* there are no weights"):
        formats.read_mask(save(tmp_path / "c.nii", weights))


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


def test_an_archive_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("IM0001", bytes(500))
    with pytest.raises(InputError, match=r"export\.zip: an archive .* unpack it"):
        formats.read_image(tmp_path / "export.zip")


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


@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize(
    ("largest", "dtype"), [(2**31 - 1, "i4"), (2**31, "f8"), (2**53, "f8")]
)
def test_integers_of_64_bits_are_written_as_others_read_them(
    kind, largest, dtype, tmp_path
):
    path = tmp_path / "a.nii"
    voxels = np.reshape([0, 7, largest], (3, 1, 1)).astype(kind)
    nib.save(nib.Nifti1Image(voxels, AFFINE, dtype=kind), path)
    opened = formats.open_nibabel(path)
    with pytest.warns(MiregWarning, match="a.nii: its u?int64 numbers are written as"):
        stored = nifti.storage(opened)
    assert stored.dtype == dtype
    with (
        pytest.warns(MiregWarning, match="FSL, SPM and AFNI"),
        new_file(tmp_path / "b.nii") as file,
    ):
        nifti.dump_in_place(file, "b.nii", opened, AFFINE)
    back = nib.load(tmp_path / "b.nii")
    assert back.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(back.dataobj), voxels)
    if dtype == "i4":
        peer = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nii"))).T
        np.testing.assert_array_equal(peer, voxels)


@pytest.mark.parametrize("stored", ["f2", "g", "i8", "?", "masked"])
def test_arrays_of_every_type_are_read_and_written(stored, tmp_path):
    voxels = ramp(3, 4, 5)
    if stored == "masked":
        array = np.ma.masked_equal(voxels, 7)
    else:
        array = (voxels % 2 if stored == "?" else voxels).astype(stored)
    image = formats.read_image((array, AFFINE))
    nifti.write_image(tmp_path / "a.nii", image, template=image)
    back = nib.load(tmp_path / "a.nii").get_fdata()
    expected = np.ma.filled(array.astype(float), np.nan)
    np.testing.assert_array_equal(back, expected)
    with pytest.raises(InputError, match="object values, not numbers"):
        formats.read_image((array.astype(object), AFFINE))


def test_a_negative_repetition_time_is_not_taken_over(tmp_path):
    path = save(tmp_path / "a.nii", ramp(3, 4, 5, 2))
    content = bytearray(path.read_bytes())
    content[92:96] = np.float32(-2).tobytes()
    path.write_bytes(content)
    opened = formats.open_nibabel(path)
    with new_file(tmp_path / "b.nii") as file:
        nifti.dump_image(file, "b.nii", formats.read_volumes(opened), template=opened)
    assert nib.load(tmp_path / "b.nii").header.get_zooms()[3] == 1


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


def test_what_nibabel_thinks_of_a_header_is_not_told(tmp_path, recwarn):
    path = save(tmp_path / "a.nii", ramp(3, 4, 5))
    content = bytearray(path.read_bytes())
    content[348:352] = 1, 0, 0, 0
    content[108:112] = np.float32(352 + 24).tobytes()
    content[352:352] = np.array([17, 6], "<i4").tobytes() + bytes(16)
    path.write_bytes(content)
    assert formats.read_image(path).shape == (3, 4, 5)
    assert not recwarn.list


def test_a_pair_that_claims_much_takes_little_memory(tmp_path):
    path = save(tmp_path / "a.hdr", ramp(3, 4, 5), kind=nib.Nifti1Pair)
    tracemalloc.start()
    formats.read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_voxels_that_are_not_there_are_missed_in_an_opened_image_too(tmp_path):
    path = save(tmp_path / "a.nii", ramp(3, 4, 5))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([2000, 2000, 2000], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.nii: there are fewer voxels"):
        formats.read_image(nib.load(path))


def test_nobody_waits_for_a_pipe_to_tell_its_digest(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(
        InputError, match="a pipe or a device; save the image to a file"
    ):
        formats.sha256(tmp_path / "pipe.nii")
