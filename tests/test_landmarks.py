"""Landmarks: every kind of file, every frame, worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mireg import InputError, MiregWarning
from mireg._files.landmarks import read_landmarks

RAS = [[10.0, 20.0, 30.0], [-1.5, 2.0, -3.0]]
LPS = [[-10.0, -20.0, 30.0], [1.5, -2.0, -3.0]]

COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"


def fcsv(system: str | None, places: list[list[float]]) -> str:
    """Write what Slicer 4 and 5 do."""
    lines = ["# Markups fiducial file version = 4.11\n"]
    if system is not None:
        lines.append(f"# CoordinateSystem = {system}\n")
    lines.append(COLUMNS)
    for i, (x, y, z) in enumerate(places):
        lines.append(f"vtk_{i},{x},{y},{z},0,0,0,1,1,1,0,F-{i + 1},,\n")
    return "".join(lines)


def mrk(places: list[list[float]], **more: object) -> str:
    """Write what Slicer 5 does."""
    points = [
        {"id": str(i), "label": f"F-{i}", "position": place, "positionStatus": status}
        for i, (place, status) in enumerate(
            [*((place, "defined") for place in places), ([0, 0, 0], "undefined")], 1
        )
    ]
    return json.dumps(
        {"markups": [{"type": "Fiducial", "controlPoints": points, **more}]}
    )


SLICER_3 = (
    "# Fiducial List file L.fcsv\n# version = 2\n# name = L\n"
    "# columns = label,x,y,z,sel,vis\nF-1,10,20,30,1,1\nF-2,-1.5,2,-3,1,1\n"
)


@pytest.mark.parametrize(
    ("name", "text", "frame"),
    [
        ("new.fcsv", fcsv("LPS", LPS), None),
        ("new_ras.fcsv", fcsv("RAS", RAS), None),
        ("old.fcsv", fcsv("0", RAS), None),
        ("old_lps.fcsv", fcsv("1", LPS), "lps"),
        ("unsaid.fcsv", fcsv(None, RAS), None),
        ("slicer3.fcsv", SLICER_3, None),
        ("a.mrk.json", mrk(LPS, coordinateSystem="LPS", coordinateUnits="mm"), None),
        (
            "b.mrk.json",
            mrk(
                RAS,
                coordinateSystem="RAS",
                coordinateUnits=["mm", "UCUM", "millimeter"],
            ),
            None,
        ),
        ("c.mrk.json", mrk(LPS), None),
        ("a.csv", "10,20,30,F-1\n-1.5,2,-3,F-2\n", "ras"),
        ("b.csv", "F-1,-10,-20,30\r\nF-2,1.5,-2,-3\r\n", "lps"),
        ("c.csv", "\ufeffx,y,z,t,label\n-10,-20,30,0,F-1\n1.5,-2,-3,0,F-2\n", "lps"),
        ("d.csv", "# frame = LPS\nName, Z, Y, X\nF-1,30,-20,-10\nF-2,-3,-2,1.5", None),
        ("e.tsv", "F-1\t10\t20\t30\nF-2\t-1.5\t2\t-3\n", "ras"),
    ],
)
def test_points_are_where_they_were_set(tmp_path, name, text, frame):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    found = read_landmarks(path, frame)
    assert found.labels == ("F-1", "F-2")
    assert np.array_equal(found.points, RAS)


def test_blanks_about_a_label_do_not_count(tmp_path):
    path = tmp_path / "a.mrk.json"
    path.write_text(mrk(RAS).replace('"F-1"', '" F-1 "').replace('"F-2"', '" "'))
    assert read_landmarks(path).labels == ("F-1", "2")


def test_points_without_names_are_numbered(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2,3\n4,5,6\n")
    assert read_landmarks(path, "ras").labels == ("1", "2")


@pytest.mark.parametrize("frame", ["LPS", "lps", "Lps"])
def test_a_frame_is_taken_in_any_case(tmp_path, frame):
    path = tmp_path / "a.csv"
    path.write_text("-10,-20,30\n1.5,-2,-3\n")
    assert np.array_equal(read_landmarks(path, frame).points, RAS)


@pytest.mark.parametrize("frame", ["dicom", "", "0"])
def test_a_frame_that_is_none_is_refused(tmp_path, frame):
    path = tmp_path / "a.csv"
    path.write_text("1,2,3\n")
    with pytest.raises(InputError, match=f"{frame!r} is no frame; give ras or lps"):
        read_landmarks(path, frame)


@pytest.mark.parametrize(
    ("name", "text", "frame", "stated"),
    [
        ("a.fcsv", fcsv("LPS", LPS), "ras", "LPS"),
        ("a.fcsv", fcsv("RAS", RAS), "lps", "RAS"),
        ("a.fcsv", fcsv(None, RAS), "lps", "RAS"),
        ("a.mrk.json", mrk(RAS, coordinateSystem="RAS"), "lps", "RAS"),
        ("a.mrk.json", mrk(LPS), "RAS", "LPS"),
        ("a.csv", "# frame = LPS\nF-1,-10,-20,30\nF-2,1.5,-2,-3\n", "ras", "LPS"),
    ],
)
def test_a_file_that_states_its_frame_is_right(tmp_path, name, text, frame, stated):
    path = tmp_path / name
    path.write_text(text)
    with pytest.warns(MiregWarning) as noted:
        found = read_landmarks(path, frame)
    assert np.array_equal(found.points, RAS)
    (note,) = noted
    assert str(note.message) == (
        f"{path}: its points are in {stated}, as its content or format says; the "
        f"frame {frame.upper()} is for files that do not say theirs"
    )


@pytest.mark.parametrize(
    ("name", "text", "frame", "says"),
    [
        ("a.csv", "1,2,3\n", None, "to the right, ras, or to the left, lps"),
        ("a.csv", "1,2\n", "ras", "'1,2' is not x, y, z"),
        ("a.csv", "a,b,c,d\n", "ras", "line 1: b, c, d are not three numbers"),
        ("a.csv", "#\n\n1,2,nan\n", "ras", "line 3: .* three numbers"),
        ("a.csv", "", "ras", "no points"),
        ("a.fcsv", fcsv("IJK", RAS), None, "voxels of an image"),
        ("a.fcsv", fcsv("2", RAS), None, "voxels of an image"),
        ("a.fcsv", fcsv("SCS", RAS), None, "'SCS'"),
        ("a.mrk.json", "{", None, "not a file of markups"),
        ("a.mrk.json", "[]", None, "not a file of markups"),
        ("a.mrk.json", '{"markups": []}', "ras", "no points"),
        ("a.mrk.json", mrk([[1, 2]]), None, "three numbers"),
        ("a.mrk.json", mrk(RAS, coordinateUnits="um"), None, "unit is um"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, name, text, frame, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_landmarks(path, frame)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_landmarks(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a text file"):
        read_landmarks(tmp_path / "a.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_landmarks(tmp_path)


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_with_decimal_commas_is_read(sign, tmp_path):
    rows = ["label;x;y;z", "left eye, outer;-31,5;62;0,25", "inion;0;-85,0;-20"]
    (tmp_path / "a.csv").write_text("\n".join(rows).replace(";", sign), "utf-8-sig")
    marks = read_landmarks(tmp_path / "a.csv", "ras")
    assert marks.labels == ("left eye, outer", "inion")
    assert marks.points.tolist() == [[-31.5, 62, 0.25], [0, -85, -20]]
    (tmp_path / "b.csv").write_text(f"1,5{sign}2{sign}3{sign}inion", "utf-8")
    assert read_landmarks(tmp_path / "b.csv", "ras").points.tolist() == [[1.5, 2, 3]]
    (tmp_path / "c.csv").write_text('"1,500",2,3\n', "utf-8")  # 1.5 or 1500?
    with pytest.raises(InputError, match="is not x, y, z in mm"):
        read_landmarks(tmp_path / "c.csv", "ras")
