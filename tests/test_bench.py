"""The script that says where the time goes: its tables, and one small run."""

from __future__ import annotations

import json
import sys

import bench
import bench_kernels
import numpy as np
import pytest
from bench_kernels import (
    gather,
    increment,
    increment_four,
    pick,
    pick_two,
    places,
    stream,
)

from mireg._image import flat_volume
from mireg._prepare import prepare


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    pair = bench.phantom_pair(fixed_voxel_size_mm=12, moving_voxel_size_mm=12)
    return bench.written("small", pair.fixed, pair.moving, folder)


def test_a_table_has_a_line_for_each_row_and_leaves_gaps_where_nothing_was_measured():
    rows = {"a": {"ns": 1.2345, "x": 5}, "b": {"ns": 12345.6, "GB/s": 2.0}}
    assert bench.table("part", rows).splitlines() == [
        "| part | ns | GB/s |",
        "| --- | ---: | ---: |",
        "| a | 1.23 |  |",
        "| b | 12346 | 2 |",
    ]


def test_a_comparison_marks_what_moved_by_more_than_a_tenth():
    old = {"p": {"a": {"ns": 10.0, "GB/s": 10.0, "x": 1}, "gone": {"ns": 1.0}}}
    row = {"ns": 10.9, "GB/s": 12.0, "x": 9}
    new = {"p": {"a": row, "fresh": {"ns": 3.0}}, "q": {"a": {"ns": 1.0}}}
    assert list(bench.compare(old, new)) == [
        ("p: a: ns", pytest.approx(1.09), ""),
        ("p: a: GB/s", pytest.approx(1.2), "better"),
    ]
    back = list(bench.compare(new, old))
    assert [mark for _, _, mark in back] == ["", "worse"]
    slower = list(bench.compare({"p": {"a": {"s": 1.0}}}, {"p": {"a": {"s": 1.2}}}))
    assert slower == [("p: a: s", pytest.approx(1.2), "worse")]


def test_a_comparison_says_where_the_machines_differ():
    old = {"about": {"numpy": "1", "processors": 2}, "parts": {}}
    new = {"about": {"numpy": "2", "processors": 2}, "parts": {}}
    text = bench.compared(old, new)
    assert "numpy was 1, is 2" in text
    assert "processors" not in text
    assert text.endswith("0 of 0 measures are as before, to 10 %.")


def test_the_gather_reads_the_eight_neighbours_of_a_voxel():
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    volume = flat_volume(data)
    ijk = np.array([[1, -7, 99], [2, 0, 99], [0, 0, 99]])
    first = places(volume, ijk)
    corners = [data[1:3, 2:4, 0:2], data[:2, :2, :2], data[1:, 2:, 3:]]
    assert gather(volume[0], first, *volume[2]) == sum(c.sum() for c in corners)
    assert pick(volume[0], first) == sum(c[0, 0, 0] for c in corners)
    assert stream(volume[0]) == data.sum()
    words = np.arange(1, 61, dtype=np.uint16)
    assert pick_two(words, first) == sum(
        c[0, 0, 0] + 1 + (c[0, 0, 0] + 2) * 2**16 for c in corners
    )


def test_the_increments_count_what_comes():
    first = np.array([3, 1, 3, 0], np.uint32)
    one, four = np.zeros(7), np.zeros(7)
    increment(one, first)
    increment_four(four, first)
    assert one.tolist() == [1, 1, 0, 2, 0, 0, 0]
    assert four.tolist() == [1, 2, 2, 4, 3, 2, 2]


def test_kernels_are_timed_beside_a_bound_and_compared_with_the_last_run(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(bench_kernels, "DRAM_BYTES", 2**20)
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    before = {"joint_histogram, 12 mm": {"ns": 1e-3}}
    old.write_text(json.dumps({"about": {}, "parts": {"kernels": before}}))
    words = ["--only", "kernels", "--voxels-mm", "12", "--seconds", "0"]
    assert bench.main([*words, "--against", str(old), "-o", str(new)]) == 0
    rows = json.loads(new.read_text())["parts"]["kernels"]
    for name in ("joint_histogram", "score_gradient", "downsample", "resample_cubic"):
        row = rows[f"{name}, 12 mm"]
        assert 0 < row["ns"] < 1e5
        assert row["% of bound"] == pytest.approx(100 * row["bound ns"] / row["ns"])
    (line,) = [
        text for text in capsys.readouterr().out.splitlines() if "mm: ns" in text
    ]
    assert line.startswith("| kernels: joint_histogram, 12 mm: ns |")
    assert line.endswith("| worse |")
    assert bench.main([*words, "-o", str(new)]) == 0
    assert "measures are as before" in capsys.readouterr().out


def test_a_registration_takes_longer_than_its_stages(files):
    settings = {"threads": 1, "orientations": 50, "candidates": 2, "samples": 8000}
    row = bench.registered(*files, settings, 1)
    stages = [row[f"{name} s"] for name in bench.STAGES]
    assert min(stages) > 0
    assert sum(stages) <= row["register s"]
    assert row["register / nibabel"] == row["register s"] / row["nibabel s"]
    assert 50 < row["peak MB"] < 10_000
    assert row["volumes MB"] + row["beyond MB"] == pytest.approx(row["peak MB"])


@pytest.mark.slow
def test_the_steps_of_each_level_are_told_apart(files):
    rows = bench.stepped(*files, 1)
    assert list(rows)[:3] == ["prepare", "contrast", "pyramid"]
    sizes = [name.partition(", ")[2] for name in rows if name.startswith("level")]
    assert sizes
    assert "" not in sizes
    assert sum(row["%"] for row in rows.values()) == pytest.approx(100)
    assert bench.register.__globals__["prepare"] is prepare


def test_a_process_tells_what_it_held():
    small, large = (bench.started(f"x = bytearray({n})") for n in (1, 10**8))
    assert 95 < large["peak MB"] - small["peak MB"] < 105
    assert 0 < small["processor s"] <= small["s"]


def test_python_keeps_bytecode_as_it_does_for_users(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    _, said = bench.spawn(["-c", "import sys; print(sys.dont_write_bytecode)"])
    assert said.strip() == "False"


def test_a_program_is_timed_to_its_end():
    work = "import time; sum(range(10**6)); time.sleep(0.2)"
    timed = bench.whole([sys.executable, "-c", work])
    assert timed["s"] >= 0.2
    assert 0 < timed["processor s"] < timed["s"]


@pytest.mark.parametrize(
    "words", [["--fixed", "a.nii"], ["--repeats", "0"], ["--largest", "8"]]
)
def test_odd_wishes_are_refused(words):
    with pytest.raises(SystemExit):
        bench.parse(words)
