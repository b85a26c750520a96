"""Sets of files that appear whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
import types
from pathlib import Path

import pytest

from mireg import InputError
from mireg._files.writing import check_new, new_file, new_files

NAMES = ("a.nii", "b.tfm", "c.json")


@pytest.fixture(params=["hard links", "no hard links"])
def folder(request, tmp_path, monkeypatch):
    """Go to an empty folder, on a file system with or without hard links."""
    if request.param == "no hard links":

        def link(*_paths, **_more):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def has_hard_links():
    """Tell which of the two file systems of `folder` it is."""
    return isinstance(os.link, types.BuiltinFunctionType)


def content(folder):
    """Read every file of a folder, hidden ones too; None is a folder."""
    return {p.name: p.read_text() if p.is_file() else None for p in folder.iterdir()}


def write(*, force=False, meanwhile=lambda: None):
    with new_files(NAMES, force=force) as files:
        for path, file in files.items():
            file.write(f"new {path}".encode())
        meanwhile()


NEW = {name: f"new {name}" for name in NAMES}
OLD = {name: f"old {name}" for name in NAMES}


def put_old(*names):
    for name in names:
        Path(name).write_text(OLD[name])


def test_all_appear_at_the_end(folder):
    seen = []
    write(meanwhile=lambda: seen.extend(p.suffix for p in folder.iterdir()))
    assert seen == [".part"] * 3
    assert content(folder) == NEW


def test_all_are_replaced_by_force(folder):
    put_old("a.nii", "c.json")
    write(force=True)
    assert content(folder) == NEW


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_appears_takes_back_the_others(name, force, folder):
    before = {}
    if force:
        put_old(*(other for other in NAMES if other != name))
        before = content(folder)
    with pytest.raises(InputError, match=f"{name}: this is a folder"):
        write(force=force, meanwhile=lambda: Path(name).mkdir())
    assert content(folder) == {**before, name: None}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_appears_is_not_replaced(name, folder):
    with pytest.raises(InputError, match=f"{name}: exists already"):
        write(meanwhile=lambda: put_old(name))
    assert content(folder) == {name: OLD[name]}


def test_a_file_that_appears_after_the_last_look_is_not_replaced(folder, monkeypatch):
    monkeypatch.setattr("mireg._files.writing.check_new", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"b.tfm: cannot be written \(File exists\)"):
        write(meanwhile=lambda: put_old("b.tfm"))
    assert content(folder) == {"b.tfm": OLD["b.tfm"]}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("stop", "error"),
    [
        (KeyboardInterrupt, KeyboardInterrupt),
        (OSError(errno.EIO, "I/O error"), InputError),
    ],
)
@pytest.mark.parametrize("kth", range(3))
def test_what_stops_it_while_it_publishes(kth, stop, error, force, folder, monkeypatch):
    if force:
        put_old(*NAMES)
    before = content(folder)
    calls = iter(range(99))

    def stopping(real):
        def move(*args, **more):
            # Of a draft only: that originals are put back is what is tested.
            if str(args[1]) in NAMES and next(calls) == kth:
                raise stop
            return real(*args, **more)

        return move

    if force or not has_hard_links():
        monkeypatch.setattr(Path, "replace", stopping(Path.replace))
    elif error is KeyboardInterrupt:
        monkeypatch.setattr(os, "link", stopping(os.link))
    else:
        pytest.skip("a link that fails is made up for")
    with pytest.raises(error):
        write(force=force)
    assert content(folder) == before


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_put_back_is_kept(monkeypatch):
    put_old(*NAMES)
    real = Path.replace

    def replace(self, target):
        if self.suffix == ".kept" and self.read_text() == OLD["a.nii"]:
            raise OSError(errno.EIO, "I/O error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    if not has_hard_links():
        pytest.skip("then the first cannot be set aside, and nothing happens")
    with pytest.raises(InputError, match="cannot be put back") as caught:
        write(
            force=True, meanwhile=lambda: (os.remove("c.json"), Path("c.json").mkdir())
        )
    kept = str(caught.value).rpartition(" ")[2]
    assert Path(kept).read_text() == OLD["a.nii"]
    assert Path("b.tfm").read_text() == OLD["b.tfm"]


def test_nothing_is_left_of_work_that_fails(folder):
    put_old("b.tfm")

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(force=True, meanwhile=fail)
    assert content(folder) == {"b.tfm": OLD["b.tfm"]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk here")
def test_a_full_disk_is_told_in_one_line(folder, monkeypatch):
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    monkeypatch.setattr(Path, "open", lambda *_: full)
    with pytest.raises(InputError, match=r"a.nii: cannot be written \(No space left"):
        write()
    assert content(folder) == {}


@pytest.mark.usefixtures("folder")
def test_permissions():
    umask = os.umask(0o022)
    try:
        write()
        assert stat.S_IMODE(Path("a.nii").stat().st_mode) == 0o644
        Path("a.nii").chmod(0o600)
        Path("b.tfm").chmod(0o444)
        write(force=True)
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE(Path(name).stat().st_mode) for name in NAMES]
    assert modes == [0o600, 0o444, 0o644]


def test_two_may_write_the_same_at_once(folder):
    """The second to end is told; its files are not mixed with those of the first."""
    with pytest.raises(InputError, match=r"a.nii: exists already"):
        write(meanwhile=write)
    assert content(folder) == NEW


def test_a_link_that_leads_nowhere_is_not_replaced(folder):
    Path("b.tfm").symlink_to("gone")
    with pytest.raises(InputError, match=r"b\.tfm: "):
        write()
    assert [p.name for p in folder.iterdir()] == ["b.tfm"]
    write(force=True)
    assert content(folder) == {**NEW, "gone": NEW["b.tfm"]}
    assert Path("b.tfm").is_symlink()


def test_a_long_name_leaves_room_for_the_temporary_one(folder):
    name = "x" * 255
    with new_file(name) as file:
        file.write(b"y")
    assert content(folder) == {name: "y"}


def test_two_outputs_of_one_name(folder):
    with pytest.raises(InputError, match="two outputs"), new_files(["a", "a"]):
        pass
    assert content(folder) == {}


@pytest.mark.usefixtures("folder")
def test_force_replaces_the_target_of_a_link():
    Path("real").mkdir()
    Path("real/b.tfm").write_text("old")
    Path("b.tfm").symlink_to("real/b.tfm")
    with pytest.raises(InputError, match=r"b\.tfm: exists already"):
        write()
    write(force=True)
    assert Path("b.tfm").is_symlink()
    assert Path("real/b.tfm").read_text() == NEW["b.tfm"]
    assert len(list(Path("real").iterdir())) == 1


@pytest.mark.usefixtures("folder")
def test_two_outputs_that_a_link_makes_one():
    Path("a.nii").touch()
    Path("b.tfm").symlink_to("a.nii")
    with pytest.raises(InputError, match="two outputs"):
        write(force=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("force", [False, True])
def test_what_cannot_be_written_is_found_before(force, folder, monkeypatch):
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("device").symlink_to("/dev/null")
    Path("file").touch()
    for name, says in {
        "pipe": "a device or a pipe",
        "device": "a device or a pipe",
        "/dev/null": "a device or a pipe",
        "loop": "symbolic links",
        "file/x": "Not a directory",
        "gone/x": "no such folder",
        "x" * 256: "File name too long",
        "a\0b": "null",
        ".": "this is a folder",
    }.items():
        with pytest.raises(InputError, match=says):
            check_new(name, force=force)
        with pytest.raises(InputError, match=says), new_file(name, force=force):
            pass
    # As on a read-only file system; permissions would not stop root.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="nothing can be written"):
        check_new("new", force=force)
    assert sorted(content(folder)) == ["device", "file", "loop", "pipe"]


def test_what_killed_runs_left_is_swept_once_it_is_old(folder):
    def left(name, age):
        Path(name).write_text("x")
        os.utime(name, (time.time() - age,) * 2)
        return name

    stale = left(".mireg-0123456789abcdef.part", 7200)
    kept = {
        left(".mireg-0123456789abcde0.part", 60),
        left(".mireg-0123456789abcdef.kept", 7200),
        left(".mireg-notes.part", 7200),
        left("a.part", 7200),
    }
    in_use = None

    def meanwhile():
        nonlocal in_use
        (in_use, *_) = set(content(folder)) - kept
        left(in_use, 7200)
        with new_file("other"):  # another run, at the same time
            assert Path(in_use).exists()

    with new_file("first") as file:
        file.write(b"1")
        meanwhile()
    assert set(content(folder)) == {"first", "other", *kept}
    assert stale not in content(folder)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are of Unix")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kth", range(3))
def test_an_interrupt_while_files_get_their_names_takes_them_back(
    kth, force, folder, monkeypatch
):
    if force:
        put_old(*NAMES)
    before = content(folder)
    calls = iter(range(99))

    def interrupting(real):
        def move(*args, **more):
            if str(args[1]) in NAMES and next(calls) == kth:
                signal.raise_signal(signal.SIGINT)
            return real(*args, **more)

        return move

    if force or not has_hard_links():
        monkeypatch.setattr(Path, "replace", interrupting(Path.replace))
    else:
        monkeypatch.setattr(os, "link", interrupting(os.link))
    handlers = [signal.getsignal(number) for number in (1, 2, 15)]
    with pytest.raises(KeyboardInterrupt):
        write(force=force)
    assert [signal.getsignal(number) for number in (1, 2, 15)] == handlers
    assert content(folder) == before


def test_an_interrupt_while_it_cleans_up_leaves_nothing(folder, monkeypatch):
    real = Path.unlink

    def unlink(path, **more):
        signal.raise_signal(signal.SIGINT)
        return real(path, **more)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(folder.glob(".mireg-*"))


def test_other_threads_write_too(folder):
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert content(folder) == NEW
