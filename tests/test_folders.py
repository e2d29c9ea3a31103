"""Folders that are owned by one process and replaced only once there is something new, killed at every step."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spikelfp import files as folders
from spikelfp.errors import RunFolderError, SaveError, UserError
from spikelfp.files import Kind, check_not_inside, check_path, content_of, owned, settle, write_text


def files(path, trusted):
    found = [name for name in ("sub/last", "a", "b", "sign") if os.path.lexists(path / name)]
    if not trusted and "sign" not in found:
        raise RunFolderError("not ours")
    return found


KIND = Kind("run", "sub/last", files)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Nothing is brought to disk: the machine keeps its power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def contents(path):
    """All files of a folder with what they hold, but for the lock."""
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_text() for file in found if file.name != folders.LOCK}


def fill(path, text, names=("sign", "a", "sub/last")):
    for name in names:
        write_text(path / name, text)


class Killed(BaseException):
    """The process ends here: nothing behind it runs."""


NAMES = {"replace": os.replace, "mkdir": os.mkdir, "rmdir": os.rmdir, "unlink": os.unlink}


def replace(path):
    with owned(path, KIND) as place:
        place.replace()
        fill(place.current, "new", ("sign", "b", "sub/last"))
        place.commit()


def killed_at(step, path, monkeypatch):
    """Replace the content of ``path``, but end for good before the ``step``-th change of a name; tell if it did."""
    count, dead = 0, False

    def counting(name):
        def call(*arguments, **named):
            nonlocal count, dead
            if dead:
                raise Killed
            count += 1
            if count == step:
                dead = True
                raise Killed
            return NAMES[name](*arguments, **named)

        return call

    with monkeypatch.context() as patched:
        for name in NAMES:
            patched.setattr(os, name, counting(name))
        try:
            replace(path)
        except Killed:
            return True
        except OSError:  # pathlib and shutil may tell an error of their own after the first
            return True
    return False


OLD = {"sign": "old", "a": "old", "sub/last": "old", "notes": "mine"}
REPLACED = {"sign": "new", "b": "new", "sub/last": "new", "notes": "mine"}


def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    seen = []
    for step in range(1, 200):
        path = tmp_path / str(step)
        fill(path, "old")
        write_text(path / "notes", "mine")
        if not killed_at(step, path, monkeypatch):
            break
        settle(path, KIND)
        found = contents(path)
        assert found in (OLD, REPLACED), (step, found)
        assert content_of(path) == sorted(set(os.listdir(path)) - {folders.LOCK}), step  # nothing is left over
        seen.append(found == REPLACED)
        replace(path)  # and the same can be done again
        assert contents(path) == REPLACED
    else:
        pytest.fail("never came to an end")
    assert len(seen) > 15
    assert seen == sorted(seen)  # the old until it is the new
    assert set(seen) == {False, True}


def test_a_second_kill_while_the_first_is_mended(tmp_path, monkeypatch):
    """Whatever step of the mending is the last one, too."""
    made = 0
    for first in range(2, 60, 4):
        base = tmp_path / f"base{first}"
        fill(base, "old")
        write_text(base / "notes", "mine")
        if not killed_at(first, base, monkeypatch):
            break
        for second in range(1, 60):
            path = tmp_path / "again"
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(base, path)
            again = killed_at(second, path, monkeypatch)  # which begins by mending
            settle(path, KIND)
            assert contents(path) in (OLD, REPLACED), (first, second)
            made += 1
            if not again:
                break
    assert made > 60


def test_what_was_not_committed_goes_and_the_old_stays(tmp_path):
    fill(tmp_path / "r", "old")

    def fail():
        with owned(tmp_path / "r", KIND) as place:
            place.replace()
            fill(place.current, "new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents(tmp_path / "r") == {"sign": "old", "a": "old", "sub/last": "old"}
    assert sorted(os.listdir(tmp_path / "r")) == ["a", "sign", "sub"]


@pytest.mark.parametrize("failing", range(1, 8))
def test_a_step_that_fails_leaves_the_old(tmp_path, monkeypatch, failing):
    """Whichever of the seven moves it is."""
    fill(tmp_path / "r", "old")
    write_text(tmp_path / "r" / "notes", "mine")
    with owned(tmp_path / "r", KIND) as place:
        place.replace()
        fill(place.current, "new", ("sign", "b", "sub/last"))
        count = 0

        def full(source, target):
            nonlocal count
            count += 1
            if count == failing:
                raise OSError(28, "No space left on device")
            NAMES["replace"](source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(SaveError, match="No space left"):
            place.commit()
    assert contents(tmp_path / "r") == OLD


@pytest.mark.parametrize("failing", range(1, 8))
def test_ctrl_c_within_the_moves_leaves_the_old_or_the_new(tmp_path, monkeypatch, failing):
    fill(tmp_path / "r", "old")
    write_text(tmp_path / "r" / "notes", "mine")
    count = 0

    def interrupted(source, target):
        nonlocal count
        count += 1
        if count == failing:
            raise KeyboardInterrupt
        NAMES["replace"](source, target)

    def interrupt():
        with owned(tmp_path / "r", KIND) as place:
            place.replace()
            fill(place.current, "new", ("sign", "b", "sub/last"))
            monkeypatch.setattr(os, "replace", interrupted)
            place.commit()

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert contents(tmp_path / "r") == (OLD if failing < 5 else REPLACED)


def test_a_folder_that_stays_empty_is_gone(tmp_path):
    with owned(tmp_path / "a" / "b", KIND):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


def test_only_files_that_are_known_are_replaced(tmp_path):
    write_text(tmp_path / "r" / "thesis", "years of work")
    with pytest.raises(RunFolderError, match="not ours"), owned(tmp_path / "r", KIND) as place:
        place.replace()
    assert contents(tmp_path / "r") == {"thesis": "years of work"}


def test_links_are_not_followed(tmp_path):
    """Of a folder that somebody else has made, to make us move or remove files elsewhere."""
    outside = tmp_path / "outside"
    fill(outside, "precious", ("last", "sub/last"))
    before = contents(outside)
    for name, target in (
        ("sub", outside), (folders.OLD, outside), (folders.MOVING, outside), (folders.NEW, outside),
    ):  # fmt: skip
        path = tmp_path / name.strip(".")
        fill(path, "old", ("sign", "a"))
        (path / name).symlink_to(target)
        with pytest.raises(UserError) as error:
            replace(path)
        settle(path, KIND)
        assert len(str(error.value).splitlines()) == 1
        assert contents(outside) == before, name
        assert (path / "a").read_text() == "old"
    path = tmp_path / "lock"
    fill(path, "old", ("sign", "a"))
    (path / folders.LOCK).symlink_to(outside / "last")
    with pytest.raises(SaveError), owned(path, KIND):
        pass
    assert contents(outside) == before


def test_one_owner_at_a_time(tmp_path):
    """In this process too; and the message names it."""
    found = []

    def other():
        try:
            with owned(tmp_path / "r", KIND):
                found.append("owned")
        except RunFolderError as error:
            found.append(str(error))

    with owned(tmp_path / "r", KIND):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        write_text(tmp_path / "r" / "sign", "x")
    assert f"in use by process {os.getpid()} on " in found[0]
    other()
    assert found[1] == "owned"
    assert os.listdir(tmp_path / "r") == ["sign"]


HOLD = """
import os, sys, time
from pathlib import Path
from spikelfp.files import Kind, owned
with owned(Path(sys.argv[1]), Kind("run", "last", lambda path, trusted: [])) as place:
    if not os.fork():  # as a process that loads data does
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_owner_is_free(tmp_path):
    """Also while a process that it has started lives on."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "r")], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError, match=f"process {process.pid} on"), owned(tmp_path / "r", KIND):
            pass
        process.kill()
        process.wait()
        with owned(tmp_path / "r", KIND):
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.stdout.close()


def test_a_reader_leaves_a_folder_alone_that_is_owned(tmp_path):
    fill(tmp_path / "r", "old")
    with owned(tmp_path / "r", KIND) as place:
        place.replace()
        fill(place.current, "new")
        settle(tmp_path / "r", KIND)
        assert (tmp_path / "r" / "a").read_text() == "old"
        assert (place.current / "a").read_text() == "new"


def test_file_systems_without_locks(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with owned(tmp_path / "r", KIND):
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), owned(tmp_path / "r", KIND):
            pass
        write_text(tmp_path / "r" / "sign", "x")
    with owned(tmp_path / "r", KIND):
        pass
    assert os.listdir(tmp_path / "r") == ["sign"]


def test_paths_that_can_be_no_folder_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, named in (
        ("file", "is a file"),
        ("file/inside", "no folder"),
        ("nowhere", "does not exist"),
        ("loop", "loop"),
        ("x" * 300, "too long"),
        ("a\nb", r"a\\nb"),
        ("a\0b", r"a\\x00b"),
        ("a\x1b[31mb", r"\\x1b"),
    ):
        with pytest.raises(RunFolderError, match=named) as error:
            check_path(Path(path))
        assert len(str(error.value).splitlines()) == 1
    check_path(tmp_path)
    check_path(tmp_path / "new" / "er")


def test_a_folder_inside_another_one_is_refused(tmp_path):
    fill(tmp_path / "r", "old")
    with pytest.raises(RunFolderError, match="inside the run folder"):
        check_not_inside(tmp_path / "r" / "deep" / "new", KIND, {})
    with pytest.raises(RunFolderError, match="inside the cache"):
        check_not_inside(tmp_path / "cache" / "new", KIND, {"the cache": tmp_path / "cache"})
    check_not_inside(tmp_path / "new", KIND, {"the cache": tmp_path / "cache"})


def hold_part(path, started, leave):
    def write(file):
        file.write(b"half")
        file.flush()
        started.set()
        leave.wait(30)

    from spikelfp.files import write_whole

    write_whole(path, write)


def test_parts_of_killed_writers_go_and_those_of_others_stay(tmp_path):
    fork = multiprocessing.get_context("fork")
    started, leave = fork.Event(), fork.Event()
    writer = fork.Process(target=hold_part, args=(tmp_path / "x", started, leave))
    writer.start()
    assert started.wait(30)
    write_text(tmp_path / "x", "whole")
    (part,) = (name for name in os.listdir(tmp_path) if name.endswith(".part"))  # it is being written
    writer.kill()
    writer.join()
    time.sleep(0.01)
    write_text(tmp_path / "y", "another file")
    assert part in os.listdir(tmp_path)
    write_text(tmp_path / "x", "whole")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]
