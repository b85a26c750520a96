"""The script that compares the metrics."""

from __future__ import annotations

import json
from types import SimpleNamespace

import metric_study as script
import numpy as np
import pytest

from mireg import Image, write_image
from mireg.phantom import phantom_pair


def record(kind, methods):
    """Make what the study of one pair gives."""
    return {
        "id": kind,
        "set": kind,
        "methods": {
            name: {
                "tre_mm": tre,
                "good": [one < 2 for one in tre],
                "basin": [6 * n for n in range(1, 7)],
                "false_maxima": 0.5,
            }
            for name, tre in methods.items()
        },
    }


def test_tables_sum_up_by_metric_and_by_set():
    records = [
        record("slab", {"mi": [1.0, 9.0], "prior 4": [0.5, 0.7]}),
        record("knee", {"mi": [0.1, 0.2]}),
    ]
    methods = [script.Method("mi"), script.Method("prior", 4.0)]
    rows = script.table(records, methods).splitlines()
    assert rows[2] == "| mi | 2 | 3/4 | 0.60 | 6 | 12 | 18 | 24 | 30 | 36 | 0.50 |"
    assert rows[3].startswith("| prior 4 | 1 | 2/2 | 0.60 |")
    rows = script.table_of_sets(records, methods).splitlines()
    assert rows[2:] == ["| slab | 1/2 | 2/2 |", "| knee | 2/2 | - |"]


def test_a_prior_is_learned_from_other_folders_alone(tmp_path):
    """Of pairs with names that end alike, those of the same folder are left out."""
    entries = []
    for number, names in enumerate([("a", "T1W"), ("b", "T1W"), ("b", "FLAIR")]):
        folder = tmp_path / names[0]
        folder.mkdir(exist_ok=True)
        pair = phantom_pair(
            "T1", "T2", seed=number, fixed_voxel_size_mm=9, moving_voxel_size_mm=9
        )
        files = f"{names[0]}/s{number}_{names[1]}.nii.gz", f"{names[0]}/{number}_T2.nii"
        for image, path in zip(pair[:2], files, strict=True):
            write_image(tmp_path / path, image)
        entries.append(
            {
                "fixed": files[0],
                "moving": files[1],
                "moving_from_fixed": pair.moving_from_fixed.matrix.tolist(),
            }
        )
    assert script.prior_of_file(entries[0], entries, tmp_path).pairs == 1
    assert script.prior_of_file(entries[2], entries, tmp_path) is None


def test_a_smooth_bowl_has_a_wide_basin_and_no_false_maxima():
    """On a blob seen twice the climb comes back from afar."""
    x = np.indices((40, 40, 40)) - 19.5
    blob = np.exp(-(x[0] ** 2 / 200 + x[1] ** 2 / 120 + x[2] ** 2 / 60))
    fixed = Image(blob, np.diag([3.0, 3, 3, 1]))
    pair = SimpleNamespace(fixed=fixed, moving=fixed, moving_from_fixed=np.eye(4))
    points = fixed.to_mm(np.argwhere(blob > 0.5))
    landscape = script.Landscape.of(pair, points, None)
    method = script.Method("mi")
    assert landscape.basin(method, 0) >= 12
    assert landscape.false_maxima([method])["mi"] < 0.5


@pytest.mark.slow
def test_the_command_prints_tables_and_stores_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "TEACHERS", (9001,))
    out = tmp_path / "study.json"
    call = ["--kinds", "aligned", "--metrics", "mi", "--strengths", "1", "--poses", "0"]
    assert script.main([*call, "--quiet", "-o", str(out)]) == 0
    assert "| prior 1 | 1 | 1/1 |" in capsys.readouterr().out
    (pair,) = json.loads(out.read_text())["pairs"]
    assert set(pair["methods"]) == {"mi", "prior 1"}
    with pytest.raises(SystemExit):
        script.main(["--kinds", "aligned", "--strengths", "-1"])


def test_its_own_kinds_come_from_the_split(monkeypatch):
    monkeypatch.setattr(script, "TEACHERS", (9001,))
    args = script.parse(["--kinds", "rough", "--seeds", "2", "--split", "report"])
    ((case, learn), (other, _)) = script.all_cases(args)
    assert [case.id, other.id] == ["rough_1000", "rough_1001"]
    assert case.load().moving.shape[2] == 2
    assert learn().pairs == 1
