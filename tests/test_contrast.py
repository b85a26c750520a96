"""The contrast score: worked by hand, what leaves it alone, and its command."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import naive
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mireg import contrast, prepare, read_image
from mireg._contrast import (
    JOINT_BINS,
    Contrast,
    Histogram,
    cohort,
    cohort_text,
    compare,
    histogram,
    neighbourhood_histogram,
    read_cohort,
)
from mireg._errors import InputError
from mireg._files import nifti
from mireg._image import Image
from mireg.cli import main
from mireg.phantom import make_phantom

DATA = os.environ.get("MIREG_SHARED_DATA")
SCANS = (
    "ms_longitudinal/patient01/study1_FLAIR",
    "ms_longitudinal/patient01/study1_T1W",
    "hcp_style/LS2001_bold",
    "ms_mni/patient07/T1",
    "nibabel_slab/someones_epi",
    "ct_template/scct",
    "cord/cord_T2w",
)


@pytest.fixture(scope="module", params=["T1", "EPI", "PET"])
def scan(request):
    """Scan a head in one of three contrasts, in whole numbers."""
    image = make_phantom(request.param, voxel_size_mm=5.0)
    return Image(np.rint(image.data), image.mm_from_ijk)


@pytest.fixture(scope="module")
def t1():
    return make_phantom("T1", voxel_size_mm=5.0)


@pytest.fixture(scope="module")
def ct():
    return make_phantom("CT", voxel_size_mm=5.0)


def like(image, data):
    return Image(data, image.mm_from_ijk)


def washed_out(image, share):
    """Pull all intensities to the middle of their range."""
    low, high = np.nanmin(image.data), np.nanmax(image.data)
    return like(image, (low + high) / 2 * (1 - share) + share * image.data)


def blurred(image, sigma_mm):
    sigma = sigma_mm / image.voxel_size_mm
    return like(image, ndimage.gaussian_filter(image.data, sigma))


def noisy(image, share, rng):
    top = np.percentile(np.abs(image.data), 99)
    return like(image, image.data + share * top * rng.standard_normal(image.shape))


# --- histograms, by hand ----------------------------------------------------------


@pytest.mark.parametrize("n", [64, 128, 256, 4096])
def test_a_uniform_histogram_is_at_0_bits_at_any_bit_depth(n):
    uniform = histogram(np.arange(n), 0, n - 1)
    assert uniform.divergence == pytest.approx(0, abs=1e-12)
    assert uniform.levels == pytest.approx(64)
    assert uniform.entropy == pytest.approx(6)


def test_two_levels_use_two_bins():
    two = histogram([0, 0, 1, 1], 0, 1)
    assert two.divergence == 5  # log2(64) - 1
    assert (two.entropy, two.levels) == (1, 2)


def test_one_level_uses_one_bin():
    for value in (0, 0.5, 1):
        assert histogram([value], 0, 1).divergence == pytest.approx(6, abs=1)
    assert histogram([0.0], 0, 1).divergence == 6


def test_levels_that_fit_no_bins_make_no_comb():
    """90 levels in 64 bins would leave some with one level and some with two."""
    assert histogram(np.arange(90), 0, 89).divergence < 1e-12
    comb = np.histogram(np.arange(90), 64)[0]
    assert comb.max() == 2 * comb.min()


def test_fewer_levels_than_bins_count_as_lost():
    lost = histogram(np.arange(22) * 3, 0, 63)  # every third bin
    assert lost.divergence == pytest.approx(np.log2(64 / 22))
    assert lost.levels == pytest.approx(22)


def test_a_histogram_is_mirrored_by_inversion(rng):
    values = np.rint(rng.normal(100, 30, 5000))
    there = histogram(values, 20, 190).p
    back = histogram(210 - values, 20, 190).p
    assert np.allclose(there, back[::-1], atol=1e-12)


def test_values_beyond_the_ends_count_as_there_and_nan_does_not():
    given = histogram([-50, 0, 1, 99, np.nan], 0, 1, bins=2).p
    assert given.tolist() == [0.5, 0.5]


def test_nothing_has_no_histogram():
    with pytest.raises(InputError, match="no intensities"):
        histogram([np.nan], 0, 1)


def test_a_ramp_in_its_nominal_range_is_uniform():
    ramp = Image(np.arange(4096).reshape(16, 16, 16) // 16, np.eye(4))
    nominal = contrast(ramp, limits=(0, 255))
    # The intensity scale clips the rarest 0.02 % on each side: one voxel here.
    assert nominal.whole.divergence < 1e-3
    assert contrast(ramp, limits=(0, 511)).whole.divergence == pytest.approx(1, abs=0.1)


# --- what leaves the figures alone, and what does not -------------------------------


def figures(image):
    """Return all figures in bits."""
    found = contrast(image).figures()
    return np.array([v for k, v in found.items() if k.endswith("_bits")])


def test_a_change_of_scale_changes_nothing(scan):
    for scale in (0.125, 3.7, 1000):
        changed = figures(like(scan, scale * scan.data))
        assert np.allclose(changed, figures(scan), atol=0.01)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 4, 3), (2, 1, 1)])
def test_the_neighbourhood_histogram_equals_its_reference(shape, order, rng):
    data = rng.normal(size=shape).astype(np.float32)
    holes = rng.random(shape) < 0.3
    holes.flat[:2] = False
    data[holes] = np.nan
    data = np.asarray(data, order=order)
    where = rng.random(shape) < 0.7
    where.flat[:2] = True
    found = neighbourhood_histogram(data, where, -1.0, 1.5)
    expected = naive.neighbourhood_histogram(data, where, -1.0, 1.5, JOINT_BINS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_voxels_without_neighbours_have_a_joint_histogram():
    data = np.full((5, 5, 5), np.nan, np.float32)
    data[0, 0, 0], data[4, 4, 4] = 0, 1
    joint = neighbourhood_histogram(data, np.isfinite(data), 0.0, 1.0)
    assert joint[0, 0] == joint[0, -1] == 0.5


def test_a_prepared_image_has_the_figures_of_the_image(scan):
    prepared = prepare(scan)
    assert contrast(prepared).figures() == contrast(scan).figures()
    limits = (0.0, 4000.0)
    expected = contrast(scan, limits=limits).figures()
    assert contrast(prepared, limits=limits).figures() == expected


def test_an_inversion_changes_nothing(scan):
    inverted = like(scan, scan.data.max() + scan.data.min() - scan.data)
    assert np.allclose(figures(inverted), figures(scan), atol=1e-3)


def test_the_offset_of_hounsfield_units_changes_nothing(ct):
    ct = like(ct, np.maximum(ct.data, -1000))
    assert np.allclose(figures(like(ct, ct.data + 1000)), figures(ct), atol=1e-3)


def test_a_few_spikes_change_little(scan, rng):
    spikes = scan.data.copy()
    spikes.flat[rng.choice(spikes.size, 5, replace=False)] = 20 * spikes.max()
    assert np.allclose(figures(like(scan, spikes)), figures(scan), atol=0.02)


def test_eight_bits_change_little(scan):
    eight = like(scan, np.rint(scan.data * (255 / scan.data.max())))
    ours, theirs = contrast(eight), contrast(scan)
    assert ours.score == pytest.approx(theirs.score, abs=0.05)
    assert ours.foreground.divergence == pytest.approx(
        theirs.foreground.divergence, abs=0.05
    )


def test_a_bigger_field_of_view_leaves_the_foreground_alone(t1):
    wide = Image(np.pad(t1.data, 12), t1.mm_from_ijk)
    ours, theirs = contrast(wide), contrast(t1)
    assert ours.foreground.divergence == pytest.approx(
        theirs.foreground.divergence, abs=0.05
    )
    assert ours.whole.divergence > theirs.whole.divergence + 0.5


def test_washing_out_and_blurring_lower_the_contrast_step_by_step(scan):
    washed = [contrast(washed_out(scan, share)).score for share in (1, 0.7, 0.4, 0.2)]
    blurs = [contrast(blurred(scan, mm)).score for mm in (0, 3, 5, 8)]
    assert washed == sorted(washed)
    assert blurs == sorted(blurs)
    assert min(washed[1], blurs[1]) > washed[0] + 0.05


def test_noise_takes_the_structure_and_no_change_of_scale_does(scan, rng):
    shares = (0, 0.3, 0.6, 1.2, 2.4)
    structure = [contrast(noisy(scan, share, rng)).structure for share in shares]
    assert structure == sorted(structure, reverse=True)
    assert structure[-1] < 0.05
    assert structure[0] > 0.3
    plain = contrast(scan).structure
    assert contrast(washed_out(scan, 0.2)).structure == pytest.approx(plain, abs=0.02)


def test_in_its_nominal_range_a_squeezed_scan_is_told_about_any_middle(ct):
    squeezed = like(ct, 0.5 * ct.data)
    limits = (-1024.0, 3071.0)
    assert contrast(squeezed).score == pytest.approx(contrast(ct).score, abs=0.05)
    plain = contrast(ct, limits=limits)
    told = contrast(squeezed, limits=limits)
    assert told.score > plain.score
    assert told.foreground.divergence > plain.foreground.divergence + 0.5
    assert plain.limits == limits


def test_nan_is_no_intensity(t1):
    data = np.pad(t1.data, 4, constant_values=np.nan)
    assert contrast(Image(data, t1.mm_from_ijk)).foreground.divergence == pytest.approx(
        contrast(t1).foreground.divergence, abs=0.05
    )


@pytest.mark.parametrize("limits", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
def test_limits_that_are_no_range_are_refused(t1, limits):
    with pytest.raises(InputError, match="range"):
        contrast(t1, limits=limits)


def test_tiny_and_nearly_constant_images_have_a_score():
    two = Image(np.array([[[0.0, 1.0]]]), np.eye(4))
    speck = np.zeros((6, 6, 6))
    speck[3, 3, 3] = 1
    for image in (two, Image(speck, np.eye(4))):
        assert np.isfinite(list(contrast(image).figures().values())).all()


@pytest.mark.skipif(
    DATA is None, reason="MIREG_SHARED_DATA does not say where scans are"
)
@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS)
def test_real_scans_are_ordered_as_a_person_would(name):
    image = read_image(Path(DATA) / f"{name}.nii.gz")
    plain = contrast(image)
    low, high = np.nanmin(image.data), np.nanmax(image.data)
    for same in (low + high - image.data, 2.5 * image.data):
        assert contrast(like(image, same)).score == pytest.approx(plain.score, abs=0.01)
    two_mm, four_mm = (contrast(blurred(image, mm)).score for mm in (2, 4))
    assert plain.score < two_mm < four_mm
    washed = [contrast(washed_out(image, share)).score for share in (0.6, 0.3)]
    assert plain.score < washed[0] < washed[1]


# --- beside others ----------------------------------------------------------------


def of(p, score=1.0):
    """Return a contrast with this foreground."""
    p = Histogram(np.pad(np.array(p, float), (0, 64 - len(p))))
    return Contrast(score, 1.0, p, p, 0.3, (0.0, 1.0))


def test_comparisons_by_hand():
    apart = compare(of([1]), of([0] * 32 + [1]))
    assert apart.js == 1
    assert apart.wasserstein == pytest.approx(0.5)  # 32 of 64 bins
    # Smoothed, each has 1 + e in one bin and e in 63, of 1 + 64 e in all.
    e = 1e-4
    assert apart.jeffreys == pytest.approx(
        2 * np.log2((1 + e) / e) / (1 + 64 * e), rel=1e-12
    )
    same = compare(of([0.5, 0.5]), of([0.5, 0.5]))
    assert (same.js, same.jeffreys, same.wasserstein) == (0, 0, 0)
    assert same.deviation is None


def test_a_cohort_is_the_mean_and_knows_its_spread():
    learnt = cohort([of([1], 1.0), of([0, 1], 2.0), of([0, 1], 3.0)])
    assert learnt.n == 3
    assert learnt.foreground.p[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert learnt.means["score_bits"] == 2
    assert learnt.spreads["score_bits"] == 1
    assert compare(of([1], 4.0), learnt).deviation == 2
    assert compare(of([1]), cohort([of([1])])).deviation is None
    with pytest.raises(InputError, match="no scan to make a cohort of"):
        cohort([])


def test_a_cohort_comes_back_from_its_file(tmp_path, scan):
    learnt = cohort([contrast(scan), contrast(blurred(scan, 4))])
    path = tmp_path / "cohort.json"
    path.write_text(cohort_text(learnt))
    back = read_cohort(path)
    assert np.allclose(back.foreground.p, learnt.foreground.p, rtol=1e-12, atol=0)
    assert (back.n, back.means, back.spreads) == (2, learnt.means, learnt.spreads)


def test_a_file_that_is_no_cohort_is_refused(tmp_path):
    path = tmp_path / "cohort.json"
    good = json.loads(cohort_text(cohort([of([1])])))
    bad = [
        "not json",
        "[1, 2]",
        "{}",
        json.dumps({**good, "format": "other"}),
        json.dumps({**good, "foreground": [1.0]}),
        json.dumps({**good, "foreground": [-1.0, 2.0] + [0.0] * 62}),
        json.dumps({**good, "means": {}}),
        json.dumps({**good, "spreads": {"score_bits": float("nan")}}),
        "[" * 100_000,
    ]
    for text in bad:
        path.write_text(text)
        with pytest.raises(InputError, match=r"cohort\.json: not a cohort of mireg"):
            read_cohort(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_cohort(tmp_path)


# --- the command --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, t1):
    """Put a scan, and what is left of it washed out and blurred, into a folder."""
    monkeypatch.chdir(tmp_path)
    int16 = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    made = {"plain": t1, "washed": washed_out(t1, 0.3), "blurred": blurred(t1, 5)}
    for name, image in made.items():
        nifti.write_image(f"{name}.nii.gz", image, template=int16)
    return tmp_path


NAMES = ["washed.nii.gz", "plain.nii.gz", "blurred.nii.gz"]


@pytest.mark.usefixtures("folder")
def test_the_table_is_sorted_by_score(capsys):
    assert main(["contrast", *NAMES]) == 0
    said = capsys.readouterr()
    head, *rows = said.out.splitlines()
    assert head.split()[:2] == ["score", "structure"]
    assert rows[0].split()[0] == "plain.nii.gz"
    scores = [float(row.split()[1]) for row in rows]
    assert scores == sorted(scores)
    assert said.err == ""


@pytest.mark.usefixtures("folder")
def test_json_and_csv_hold_the_library_s_figures(capsys):
    assert main(["contrast", *NAMES, "--json", "--csv", "table.csv"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = contrast(read_image("plain.nii.gz")).figures()
    assert record["images"][0] == {"image": "plain.nii.gz", **expected}
    assert main(["contrast", *NAMES, "--csv", "-"]) == 0
    text = capsys.readouterr().out
    assert text == Path("table.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert float(rows[0]["score_bits"]) == expected["score_bits"]


@pytest.mark.usefixtures("folder")
def test_a_scan_is_at_no_distance_from_itself(capsys):
    command = ["contrast", *NAMES, "--reference", "plain.nii.gz", "--json"]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)["images"]
    assert rows[0]["js_bits"] == rows[0]["jeffreys_bits"] == rows[0]["wasserstein"] == 0
    assert rows[0]["deviation"] is None
    assert min(row["js_bits"] for row in rows[1:]) > 0


@pytest.mark.usefixtures("folder")
def test_scans_are_held_against_a_cohort(capsys):
    assert main(["contrast", *NAMES, "--save-cohort", "c.json", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["contrast", *NAMES, "--reference", "c.json"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[-4:] == ["JS", "Jeffreys", "Wasserst.", "deviation"]
    assert float(rows[0].split()[-1]) < 0 < float(rows[-1].split()[-1])


@pytest.mark.slow  # matplotlib is slow to import
@pytest.mark.usefixtures("folder")
def test_the_picture_is_drawn():
    pytest.importorskip("matplotlib")
    command = ["contrast", *NAMES, "--reference", NAMES[0], "--plot", "p.png", "-q"]
    assert main(command) == 0
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")


def refused(capsys, *argv):
    """Run a command that must be refused; return its one line."""
    assert main(["contrast", *argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


@pytest.mark.usefixtures("folder")
def test_a_picture_without_matplotlib_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = refused(capsys, *NAMES, "--plot", "p.png")
    assert (
        "pictures need matplotlib, which is not installed; get it by: pip install"
        in said
    )


def test_what_cannot_be_done_is_refused_in_one_line(folder, capsys):
    Path("c.json").write_text("{}")
    for said, argv in {
        "missing.nii.gz": ["missing.nii.gz"],
        "not a cohort": [NAMES[0], "--reference", "c.json"],
        "--force": [NAMES[0], "--csv", "c.json"],
        "is an input": [NAMES[0], "--csv", NAMES[0], "--force"],
        "both want stdout": [NAMES[0], "--csv", "-", "--json"],
        "must end in": [NAMES[0], "--plot", "p.gif"],
        "two outputs": [NAMES[0], "--csv", "x", "--save-cohort", "./x"],
        "the range is from 3 to 3": [NAMES[0], "--range", "3", "3"],
        "Missing argument": [],
    }.items():
        assert said in refused(capsys, *argv)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*NAMES, "c.json"])


# --- in a registration --------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_register_records_the_contrast_and_warns_of_noise(capsys, t1, rng):
    grain = like(t1, 1000 * rng.standard_normal(t1.shape))
    nifti.write_image("noise.nii.gz", grain)
    command = ["register", "plain.nii.gz", "noise.nii.gz", "-o", "out"]
    assert main([*command, "--init", "header"]) in (0, 1)
    record = json.loads(Path("out.json").read_text())
    said = [text for text in record["warnings"] if "too little contrast" in text]
    assert len(said) == 1
    assert said[0].startswith("the moving image")
    assert said[0] in capsys.readouterr().err
    fixed = contrast(read_image("plain.nii.gz"))
    assert record["fixed"]["contrast"]["score_bits"] == pytest.approx(fixed.score)
    assert record["moving"]["contrast"]["structure"] < 0.1


def test_it_shows_itself():
    flat, spikes = np.full(64, 1 / 64), np.zeros(64)
    spikes[[0, 63]] = 0.5
    found = Contrast(1.25, 0.1, Histogram(flat), Histogram(spikes), 0.4, (-3.5, 20.0))
    assert repr(found) == (
        "<Contrast score 1.250 bits, structure 0.100, 2.0 grey levels>"
    )
    shown = found._repr_html_()
    for cell in (
        "1.250 bits from uniform (0 best, 4 nothing to see)",
        "neighbours share 10 % of their information",
        "2.0 of 64 in the foreground",
        "40 % of the voxels",
        "-3.5 to 20",
    ):
        assert f"<td>{cell}</td>" in shown
    assert "too little contrast for its noise" in shown


def test_contrast_is_of_what_a_mask_lets_compare(t1):
    half = Image(np.zeros(t1.shape, np.float32), t1.mm_from_ijk)
    half.data[: t1.shape[0] // 2] = 1
    kept = Image(np.where(half.data > 0, t1.data, np.nan), t1.mm_from_ijk)
    masked = contrast(prepare(t1, half))
    there = prepare(t1).scale.is_foreground(t1.data)
    assert masked.foreground_fraction == pytest.approx(
        (there & (half.data > 0)).sum() / t1.data.size
    )
    alone = histogram(kept.data[there], *masked.limits)
    np.testing.assert_allclose(masked.foreground.p, alone.p, atol=1e-3)
    assert abs(masked.score - contrast(t1).score) > 1e-3
