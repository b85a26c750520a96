"""The ablation script, with a stub and numbers of its own in place of the method."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import ablation
import measuring
import numpy as np
import pytest
from checks import FIXED, answer, ball, shifted

from mireg._image import Image

CALL = ["--kinds", "identical", "--seeds", "2", "--quiet"]
FINE = {"FINE": False}
REACH = {"REACH_MM": 0.0}


@pytest.fixture
def parameters(monkeypatch):
    """Put numbers in place of the method's, and two heuristics to switch off."""
    module = ModuleType(ablation.PARAMETERS)
    vars(module).update(FINE=True, REACH_MM=100.0)
    monkeypatch.setitem(sys.modules, ablation.PARAMETERS, module)
    table = {"last": ("last step", FINE), "far": ("far search", REACH)}
    monkeypatch.setattr(ablation, "ABLATIONS", table)
    return module


class Method:
    """Be 0.5 mm off; without the last step 1 mm, and 30 mm without reach."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.calls = []

    def __call__(self, _fixed, _moving):
        """Stand in for `mireg.register`."""
        parameters = self.parameters
        self.calls.append((parameters.FINE, parameters.REACH_MM))
        off = 0.5 if parameters.FINE else 1.0
        return answer(shifted(off if parameters.REACH_MM else 30.0))


@pytest.fixture
def method(parameters, monkeypatch):
    """Put one small pair in place of all kinds, and say how often it was made."""

    def made(*_):
        method.made += 1
        image = Image(ball(), FIXED)
        return measuring.Pair(image, image, np.eye(4), np.zeros((4, 3)))

    monkeypatch.setattr(measuring, "pair_of_kind", made)
    method = Method(parameters)
    method.made = 0
    return method


def run(tmp_path, register, *options):
    """Run the script; return its record."""
    out = tmp_path / "ablation.json"
    assert ablation.main([*CALL, "-o", str(out), *options], register) == 0
    return json.loads(out.read_text())


def test_numbers_are_changed_only_meanwhile(parameters):
    def fail():
        with ablation.overridden(REACH):
            raise ArithmeticError(f"{parameters.REACH_MM:g}, {parameters.FINE}")

    with pytest.raises(ArithmeticError, match="0, True"):
        fail()
    assert parameters.REACH_MM == 100.0


def test_a_number_that_the_method_lacks_ends_it(parameters, method, tmp_path):
    ablation.ABLATIONS["gone"] = ("what is no more", {"FINE": False, "GONE": 1})
    with pytest.raises(AttributeError, match="GONE"):
        run(tmp_path, method)
    assert parameters.FINE
    assert not hasattr(parameters, "GONE")
    assert not method.calls


def test_each_heuristic_has_its_line(method, tmp_path, capsys):
    record = run(tmp_path, method)
    assert method.calls == 2 * [(True, 100.0), (False, 100.0), (True, 0.0)]
    assert method.made == 2
    assert record["split"] == "choose"
    assert record["cases"][0]["ways"]["far"]["overrides"] == {"REACH_MM": "0.0"}
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    ]
    assert cells[0][0] == "without"
    assert set(cells[1]) == {"---", "---:"}
    wanted = [
        ["(baseline)", "2/2", "0.500", "0.50", "+0.000", "+0.0000"],
        ["last step", "2/2", "1.000", "1.00", "+0.500", "+0.5000"],
        ["far search", "0/2", "30.000", "30.00", "+29.500", "+nan"],
    ]
    assert [line[:6] for line in cells[2:]] == wanted


def test_what_is_done_is_not_done_again(method, tmp_path):
    run(tmp_path, method, "--without", "last")
    assert len(method.calls) == 4
    run(tmp_path, method, "--resume")
    assert method.calls[4:] == 2 * [(True, 0.0)]
    # Another number: what was made with the old one is made anew.
    ablation.ABLATIONS["far"] = ("far search", {"REACH_MM": 0.0, "FINE": False})
    record = run(tmp_path, method, "--resume")
    assert method.calls[6:] == 2 * [(False, 0.0)]
    assert list(record["cases"][0]["ways"]) == ["baseline", "last", "far"]
    with pytest.raises(SystemExit, match="seed 0"):
        run(tmp_path, method, "--resume", "--seed", "3")


def test_sums_by_hand():
    def way(*runs):
        names = ("tre_mean_mm", "good", "cpu_seconds", "doubtful")
        runs = [dict(zip(names, values, strict=True)) for values in runs]
        return {"poses": runs}

    lost = {"error": "InputError: nothing", "good": False}
    base = way((1.0, True, 2.0, False), (1.5, True, 4.0, True), (9.0, False, 6, True))
    other = way((1.2, True, 3.0, False), (8.5, False, 5.0, True))
    other["poses"].append(lost)
    records = [
        {"ways": {"baseline": base, "other": other}},
        {"ways": {"baseline": base}},
    ]
    found = ablation.summary(records, "other")
    assert found == pytest.approx(
        {
            "right": 1,
            "runs": 3,
            "median_mm": 4.85,
            "worst_mm": 8.5,
            "change_mm": (0.2 + 7.0) / 2,
            "change_of_right_mm": 0.2,
            "cpu_seconds": 4.0,
            "cpu_ratio": 8 / 6,
            "doubtful": 1,
        }
    )
    assert ablation.summary(records, "baseline")["runs"] == 6


def test_bad_calls_end_with_2(method, capsys):
    for call in ([], [*CALL, "--without", "luck"], ["--kinds", "knee"]):
        with pytest.raises(SystemExit) as stop:
            ablation.main(call, method)
        assert stop.value.code == 2
    assert "the kind knee is not to be chosen on" in capsys.readouterr().err
    assert ablation.main([*CALL, "--only", "nothing"], method) == 2


def test_the_method_has_every_number_that_is_changed():
    for _, overrides in ablation.ABLATIONS.values():
        with ablation.overridden(overrides):  # refuses a name that is not there
            assert overrides
