"""Many pairs: tables, what is done already, processes that die, results of all."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cohort_work import do

from mireg import InputError, RigidTransform, write_image
from mireg._cohort import layout, needs, results, schedule, state, workers
from mireg._cohort.state import Outcome, Task
from mireg._cohort.table import read_table
from mireg._report.document import data_url
from mireg.cli import main, many
from mireg.phantom import phantom_pair


def task(name="a", *words, output="", root="", files=None):
    return Task(name, files or {"fixed": "f", "moving": "m"}, words, output, root)


# --- the table ------------------------------------------------------------------------


def table(tmp_path, text, name="pairs.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_cells_may_have_blanks_and_paths_are_relative_to_the_table(tmp_path):
    path = table(
        tmp_path,
        "\ufeff fixed , moving,id , metric,init\n\n# a comment\n"
        " a.nii , sub/b.nii, one, mi , header\n c.nii,d.nii,n/a,,start.tfm\n",
    )
    first, second = read_table(path, ["metric"])
    assert first.files == {
        "fixed": tmp_path / "a.nii",
        "moving": tmp_path / "sub/b.nii",
    }
    assert (first.id, first.options) == ("one", {"metric": "mi", "init": "header"})
    assert second.id == "d_to_c"
    assert second.files["init"] == tmp_path / "start.tfm"
    assert (first.line, second.line) == (4, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed\tmoving\tcolour\na\tb\tred\n", "line 1: column 'colour'"),
        ("fixed\ta\n", "column 'a'"),
        ("fixed\tid\na\tb\n", "no column 'moving'"),
        ("fixed\tmoving\na\t\n", "line 2, column moving: empty"),
        ("fixed\tmoving\na\tb\nc\td\te\n", "line 3: has 3 cells"),
        ("fixed\tmoving\tid\na\tb\t../x\n", "line 2, column id: '../x'"),
        ("fixed\tmoving\tid\na\tb\tX\na\tc\tx\n", "line 3: the pair is called 'x'"),
        ("fixed\tmoving\n", "holds no pairs"),
        ("", "no column 'fixed'"),
        ("fixed moving\na b\n", "no column 'fixed'.*tabs or commas between"),
        ("a.nii\tb.nii\nc.nii\td.nii\n", "no column 'fixed'; the first line names"),
        ("fixed\tmoving\tfixed\na\tb\tc\n", "two columns are called 'fixed'"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_line_and_column(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as error:
        read_table(table(tmp_path, text), ["metric"])
    assert "pairs.tsv" in str(error.value)


def test_columns_are_options_of_register():
    words = many.as_arguments(
        "t, line 2", {"no_image": "yes", "inverse": "no", "metric": "mi"}
    )
    assert words == ["--no-image", "--metric=mi"]
    with pytest.raises(InputError, match="line 2, column no_image: 'x' is neither"):
        many.as_arguments("t, line 2", {"no_image": "x"})
    with pytest.raises(InputError, match=r"line 2: .*metric"):
        many.check_arguments("t, line 2", ["--metric=nothing"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-dim", "3"], "No such option.*-dim'?; see mireg {name} --help"),
        (
            ["-metric", "mi"],
            "No such option '-metric'; nearest: --metric; see mireg register --help",
        ),
        (["--metrik=mi"], "nearest: --metric; see mireg register --help"),
        (
            ["--schedular", "dask"],
            "nearest: --scheduler; see mireg {name} --help",
        ),
        (["--job=4"], "nearest: --jobs; see mireg {name} --help"),
        (["--nonsense"], "No such option.*--nonsense.*; see mireg {name} --help"),
        (["one_more"], "unexpected extra.*one_more.*; see mireg {name} --help"),
        (["one_more"], r"unexpected extra arguments \(one_more\)(: one table.*)?; see"),
        (
            ["--metric", "x"],
            "Invalid value for '--metric'.*; see mireg register --help",
        ),
        (["--picture"], "--picture.* requires an argument; see mireg register --help"),
        (["--jobs", "--metric"], "--jobs needs a value; --metric is an option"),
        (["--metric", "--strict"], "--metric needs a value; --strict is an option"),
    ],
)
def test_options_of_all_pairs_are_checked_as_register_does(
    tmp_path, words, said, capsys
):
    pairs, out = table(tmp_path, "fixed\tmoving\na\tb\n"), str(tmp_path / "out")
    for name, argv in (
        ("batch", [str(pairs), "-o", out]),
        ("bids", [str(tmp_path), out, "participant"]),
    ):
        assert main([name, *argv, *words]) == 2
        line = capsys.readouterr().err
        assert re.search(said.format(name=name), line), line
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "mi"], "PAIRS comes before the options; --metric is an option"),
        (["--job=4"], r"No such option:? .?--job.*--jobs.*; see mireg batch --help"),
    ],
)
def test_an_option_of_register_is_no_table(tmp_path, words, said, capsys):
    pairs = table(tmp_path, "fixed\tmoving\na\tb\n")
    argv = ["batch", *words, str(pairs), "-o", str(tmp_path / "out")]
    assert main(argv) == 2
    assert re.search(said, capsys.readouterr().err)


# --- what is done already -------------------------------------------------------------


@pytest.fixture
def done(tmp_path):
    """Make a pair that is done, with a mask."""
    files = {}
    for role in ("fixed", "moving", "fixed_mask"):
        path = tmp_path / f"{role}.nii"
        path.write_bytes(role.encode())
        files[role] = str(path)
    one = task("a", "--metric=mi", root=str(tmp_path), files=files)
    one.state_file.parent.mkdir()
    (tmp_path / "r.json").write_text("{}")
    outcome = Outcome("a", "done", "", {"score": 1.5}, "r.json", 1.0, 2.0)
    state.remember(one, outcome)
    return one, outcome


def test_a_pair_is_done_while_all_is_as_it_was(done):
    one, outcome = done
    assert state.known(one) == outcome
    assert state.all_outcomes(Path(one.root)) == [outcome]


def test_a_dry_run_names_what_is_missing_only(done, capsys):
    one, _ = done
    root = Path(one.root)
    tasks = [one, task("b", root=one.root, files=one.files)]
    many.tell_missing(tasks, root, ())
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["b"]
    many.tell_missing(tasks, root, ["a"])
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["a", "b"]
    with pytest.raises(InputError, match="--redo c: no such pair"):
        many.tell_missing(tasks, root, ["c"])


def test_a_file_that_was_only_touched_is_the_same(done):
    one, outcome = done
    os.utime(one.files["fixed_mask"], (1, 1))
    assert state.known(one) == outcome


@pytest.mark.parametrize("role", ["fixed", "moving", "fixed_mask"])
@pytest.mark.parametrize("content", [b"other", b"longer than before"])
def test_a_pair_whose_input_changed_is_not_done(done, role, content):
    one, _ = done
    path = Path(one.files[role])
    path.write_bytes(content.ljust(path.stat().st_size))
    os.utime(path, (1, 1))
    assert state.known(one) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: Path(one.root, "r.json").unlink(),
        lambda one: one.state_file.write_text("{"),
        lambda one: one.state_file.unlink(),
        lambda one: Path(one.files["moving"]).unlink(),
    ],
)
def test_a_pair_of_which_something_is_missing_is_not_done(done, spoil):
    one, _ = done
    spoil(one)
    assert state.known(one) is None


def test_other_options_masks_or_versions_make_another_pair(done, monkeypatch):
    one, _ = done
    assert state.known(dataclasses.replace(one, arguments=("--metric=nmi",))) is None
    fewer = {role: one.files[role] for role in ("fixed", "moving")}
    assert state.known(dataclasses.replace(one, files=fewer)) is None
    monkeypatch.setattr(state, "__version__", "9")
    assert state.known(one) is None


# --- processes ------------------------------------------------------------------------


def test_what_is_in_work_never_needs_more_memory_than_there_is():
    def may_start(need_mb, *others, slots=3):
        running = [schedule._Running(task(), other, 0.0, 1) for other in others]
        one = schedule._Running(task(), need_mb, 0.0, 0)
        return schedule._may_start(one, running, slots, 100.0)

    assert may_start(20, 40, 40)
    assert not may_start(21, 40, 40)
    # Alone it may, however large: it would never be done otherwise.
    assert may_start(500)
    assert not may_start(500, slots=0)
    assert not may_start(1, 40, 40, 1)


def test_the_memory_of_a_pair_is_estimated_from_its_headers(tmp_path):
    image = (np.zeros((50, 40, 30), np.float32), np.eye(4))
    write_image(tmp_path / "f.nii.gz", image)
    path = str(tmp_path / "f.nii.gz")
    grows = needs.memory_mb(task(files={"fixed": path, "moving": path}))
    none = needs.memory_mb(task(files={"fixed": "no", "moving": "no"}))
    assert grows - none == pytest.approx(2 * 60_000 * needs._BYTES_A_VOXEL / 1e6)
    assert 0 < needs.free_mb() < 1e7


@pytest.mark.slow
def test_a_worker_makes_itself_ready_in_silence(monkeypatch, recwarn, capfd):
    monkeypatch.setattr(workers, "_alone", nullcontext)  # as if the first of a machine
    workers.make_ready.__wrapped__()
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_process_that_dies_or_hangs_costs_its_own_pair_only(kind, tmp_path):
    if kind == "dask":
        pytest.importorskip("distributed")
        pool = workers.DaskPool(2, 2000)
    else:
        pool = workers.LocalPool(2, 2000)
    tasks = [task(f"good{i}") for i in range(6)]
    tasks.insert(1, task("dies", "die"))
    tasks.insert(3, task("dies once", "die once", output=str(tmp_path / "mark")))
    tasks.insert(5, task("hangs", "hang"))
    try:
        found = {
            one.id: one
            for one in schedule.outcomes(
                ((one, 10) for one in tasks), do, pool, most_seconds=20
            )
        }
    finally:
        pool.close()
    assert found.keys() == {one.id for one in tasks}
    failed = {name for name, one in found.items() if one.status == "failed"}
    assert failed == {"dies", "hangs"}
    assert "died" in found["dies"].message
    assert found["hangs"].message.startswith("no answer within 20 seconds")


# --- results --------------------------------------------------------------------------


def test_a_scanner_that_changed_stands_out(tmp_path):
    rng = np.random.default_rng(0)
    outcomes = []
    for i in range(20):
        levels = np.exp(-(((np.arange(64) - 30) / 12) ** 2)) + 0.02 * rng.random(64)
        if i == 7:  # its grey levels lie elsewhere
            levels = np.roll(levels, 15)
        shares = (levels / levels.sum()).tolist()
        contrast = {
            "score_bits": 1.0,
            "structure": 0.5,
            "foreground_histogram": shares,
            "whole_histogram": shares,
            "foreground_fraction": 0.5,
            "low": 0.0,
            "high": 1.0,
        }
        image = {"path": f"x{i}.nii", "contrast": contrast}
        (tmp_path / f"{i}.json").write_text(
            json.dumps({"fixed": image, "moving": image})
        )
        outcomes.append(Outcome(f"p{i}", "done", "", {}, f"{i}.json", 1.0, 1.0))
    rows = results.table(outcomes, tmp_path, {})
    odd = {row["id"]: row["outlier_in"] for row in rows if row["outlier_in"]}
    assert list(odd) == ["p7"]
    assert "fixed_js_bits" in odd["p7"]
    assert "moving_wasserstein" in odd["p7"]


def test_the_page_on_many_pairs_has_pictures_of_the_worst(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MOST_PICTURES", 2)
    figures = {
        "good": ("right", 0.99),
        "odd": ("doubtful", 0.1),
        "so-so": ("right", 0.6),
    }
    outcomes = []
    for name, (verdict, probability) in figures.items():
        row = {"verdict": verdict, "probability": probability}
        outcomes.append(Outcome(name, "done", "", row, None, 1, 1))
        picture = state.picture_file(tmp_path, name)
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(name.encode())
    results.write_all(tmp_path, outcomes, {})
    page = (tmp_path / "index.html").read_text()
    shown = [name for name in figures if data_url("image/jpeg", name.encode()) in page]
    assert shown == ["odd", "so-so"]


def test_what_a_person_wrote_into_exclude_is_kept(tmp_path):
    outcomes = [
        Outcome("good", "done", "", {"verdict": "right"}, None, 1, 1),
        Outcome("odd", "done", "", {"verdict": "doubtful"}, None, 1, 1),
        Outcome("bad", "failed", "=1+1\tx", {}, None, 1, 1),
    ]
    results.write_tables(tmp_path, results.table(outcomes, tmp_path, {}))
    path = tmp_path / "exclude.tsv"
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["id"] for row in rows] == ["odd", "bad"]
    assert rows[1]["reason"] == "'=1+1 x"  # no formula, no further cell
    path.write_text(path.read_text().replace("odd\tn/a", "odd\tkeep") + "good\tdrop\n")
    results.write_tables(tmp_path, results.table(outcomes, tmp_path, {}))
    assert results.read_decisions(tmp_path) == {
        "good": ("drop", ""),
        "odd": ("keep", ""),
        "bad": ("", ""),
    }
    path.write_text("id\tdecision\nodd\tmaybe\n")
    with pytest.raises(InputError, match="line 2: the decision is 'maybe'"):
        results.read_decisions(tmp_path)


def test_the_sidecar_describes_every_column(tmp_path):
    results.write_tables(tmp_path, [])
    names = (tmp_path / "results.tsv").read_text().split("\n")[0].split("\t")
    about = json.loads((tmp_path / "results.json").read_text())
    assert names == list(about)
    assert all(about[name]["Description"] for name in names)


# --- BIDS -----------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    """Names of a small data set, without content."""
    for name in (
        *("sub-01/ses-1/anat/sub-01_ses-1_T1w", "sub-01/ses-1/anat/sub-01_ses-1_T2w"),
        "sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask",
        "sub-01/ses-1/func/sub-01_ses-1_task-a_echo-1_bold",
        "sub-01/ses-1/func/sub-01_ses-1_task-a_echo-2_bold",
        "sub-01/ses-1/func/sub-01_ses-1_task-b_bold",
        "sub-01/ses-1/func/sub-01_ses-1_task-b_sbref",
        "sub-01/ses-2/perf/sub-01_ses-2_asl",
        "sub-02/anat/sub-02_T2w",
        "sub-02/pet/sub-02_pet",
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_each_session_is_registered_to_its_t1w(dataset):
    pairs, notes = layout.find_pairs(dataset)
    assert [pair.id for pair in pairs] == [
        "sub-01_ses-1_T2w",
        "sub-01_ses-1_task-a_echo-1_bold",
        "sub-01_ses-1_task-b_sbref",
        "sub-01_ses-2_asl",
    ]
    assert {pair.fixed.name for pair in pairs} == {"sub-01_ses-1_T1w.nii.gz"}
    assert pairs[3].folder == "sub-01/ses-2/perf"
    assert len(notes) == 1
    assert notes[0].startswith("sub-02: left out, as it has no T1w")


def test_what_is_registered_can_be_chosen(dataset):
    pairs, notes = layout.find_pairs(dataset, fixed=["T1w", "T2w"], participants=["02"])
    assert [pair.id for pair in pairs] == ["sub-02_pet"]
    assert notes == []
    pairs, _ = layout.find_pairs(dataset, sessions=["ses-2"])
    assert [pair.id for pair in pairs] == ["sub-01_ses-2_asl"]
    pairs, _ = layout.find_pairs(dataset, filters={"bold": {"task": ["b"]}})
    assert "sub-01_ses-1_task-a_echo-1_bold" not in {pair.id for pair in pairs}
    with pytest.raises(InputError, match="there is no sub-09"):
        layout.find_pairs(dataset, participants=["sub-09"])
    with pytest.raises(InputError, match="not the root of a BIDS data set"):
        layout.find_pairs(dataset / "sub-01")


# --- the commands ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three small pairs, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("scans")
    lines = ["fixed\tmoving\tid"]
    for i in range(3):
        pose = RigidTransform([0.1 * i, 0.05, 0], [4, -3, i])
        pair = phantom_pair(
            "T1", "T2", pose=pose, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
        )
        write_image(folder / f"f{i}.nii.gz", pair.fixed)
        write_image(folder / f"m{i}.nii.gz", pair.moving)
        lines.append(f"f{i}.nii.gz\tm{i}.nii.gz\tp{i}")
    (folder / "bad.nii.gz").write_bytes(b"nonsense")
    lines.append("f0.nii.gz\tbad.nii.gz\tbad")
    (folder / "pairs.tsv").write_text("\n".join(lines))
    return folder


def rows_of(folder):
    with (folder / "results.tsv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}


@pytest.mark.slow
def test_a_batch_does_what_is_missing_and_one_bad_pair_stops_no_other(
    scans, tmp_path, capsys
):
    argv = ["batch", str(scans / "pairs.tsv"), "-o", str(tmp_path / "out")]
    how = ["--scheduler", "processes", "--nprocs", "2"]
    assert main([*argv, *how, "--no-image"]) == many.SOME_FAILED
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows.values()] == ["done"] * 3 + ["failed"]
    assert "bad.nii.gz" in rows["bad"]["message"]
    alone = tmp_path / "alone"
    names = (str(scans / "f1.nii.gz"), str(scans / "m1.nii.gz"))
    assert main(["register", *names, "-o", str(alone), "--no-image"]) == 0
    transform = tmp_path / "out/p1/m1_to_f1.tfm"
    assert transform.read_bytes() == alone.with_suffix(".tfm").read_bytes()

    capsys.readouterr()
    (tmp_path / "out/p1/m1_to_f1.json").unlink()
    assert main([*argv, *how, "--no-image", "--json-lines", "-q"]) == many.SOME_FAILED
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["id"] for one in said] == ["p1"]
    assert transform.read_bytes() == alone.with_suffix(".tfm").read_bytes()


@pytest.mark.slow
def test_a_bids_data_set_from_start_to_end(scans, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "raw/derivatives/mireg"
    for source, name in (
        ("f0", "sub-01/anat/sub-01_T1w"),
        ("m0", "sub-01/anat/sub-01_T2w"),
        ("bad", "sub-01/anat/sub-01_FLAIR"),
        ("m1", "sub-02/anat/sub-02_T2w"),
    ):
        path = raw / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((scans / f"{source}.nii.gz").read_bytes())
    how = ["--scheduler", "processes", "--nprocs", "2"]
    code = main(["bids", str(raw), str(out), "participant", *how, "--no-image"])
    assert code == many.SOME_FAILED
    assert "sub-02: left out" in capsys.readouterr().err
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert (out / "sub-01/anat/sub-01_from-T2w_to-T1w_mode-image_xfm.txt").is_file()
    assert not (out / "results.tsv").exists()
    assert main(["bids", str(raw), str(out), "group"]) == many.SOME_FAILED
    assert [row["status"] for row in rows_of(out).values()] == ["failed", "done"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    lock = tmp_path / "x" / "lock"
    lock.parent.mkdir()
    with (
        many._the_only_run(lock),
        pytest.raises(InputError, match="another run of mireg works here"),
        many._the_only_run(lock),
    ):
        pass
