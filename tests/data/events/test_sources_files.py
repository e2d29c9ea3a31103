import hashlib
import multiprocessing
import os
import sqlite3
import stat

import pytest

from spikelfp.data.events.sources import files as module
from spikelfp.data.events.sources.files import content_hashes, hash_of
from spikelfp.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", 0.0)  # files of a test have just been written
    return tmp_path / "cache"


def blake(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def counted(monkeypatch):
    """Paths that are found out, in order."""
    asked = []

    def find_out(path):
        asked.append(path)
        return f"fact of {os.path.basename(path)}"

    return asked, lambda paths, kind="test": module.facts_of_files(paths, kind, find_out)


def test_the_hash_is_that_of_the_content(tmp_path):
    files = [tmp_path / name for name in ("a", "b", "ä with blanks")]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * (1 << 20) + b"end")
    expected = [blake(file.read_bytes()) for file in files]
    assert content_hashes(files) == expected
    assert content_hashes(files) == expected


def test_a_fact_is_found_out_once_until_the_file_changes(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    asked, facts = counted(monkeypatch)
    assert facts([file]) == facts([str(file)]) == ["fact of file"]
    assert len(asked) == 1
    status = os.stat(file)
    file.write_bytes(b"two")  # as long, and set back to the same time: only its times of change of the inode differ
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    facts([file])
    assert len(asked) == 2
    facts([file], "another kind")
    assert len(asked) == 3


def test_another_file_in_its_place_is_found_out(tmp_path, monkeypatch):
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    assert content_hashes([file]) == [blake(b"one")]
    os.replace(other, file)
    assert content_hashes([file]) == [blake(b"two")]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SETTLED", 60.0)
    file = tmp_path / "file"
    file.write_bytes(b"one")
    asked, facts = counted(monkeypatch)
    facts([file])
    facts([file])
    assert len(asked) == 2


def test_an_empty_fact_is_not_remembered(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    asked = []
    for _ in range(2):
        assert module.facts_of_files([file], "test", lambda path: asked.append(path) or "") == [""]
    assert len(asked) == 2


@pytest.mark.parametrize("harm", ["no folder", "not a database", "locked"])
def test_without_a_memory_all_is_found_out_each_time(tmp_path, monkeypatch, cache, harm):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    file = tmp_path / "file"
    file.write_bytes(b"one")
    cache.mkdir()
    if harm == "no folder":
        (tmp_path / "taken").write_text("")
        monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "taken" / "cache"))
    elif harm == "not a database":
        (cache / module.FACTS_FILE).write_bytes(b"nonsense" * 1000)
    asked, facts = counted(monkeypatch)
    if harm == "locked":
        with sqlite3.connect(cache / module.FACTS_FILE) as other:
            other.execute("begin exclusive")
            assert facts([file]) == facts([file]) == ["fact of file"]
        other.close()
    else:
        assert facts([file]) == facts([file]) == ["fact of file"]
    assert len(asked) == 2


def test_a_cache_folder_that_is_read_only(tmp_path, monkeypatch, cache):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    content_hashes([file])
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    (cache / module.FACTS_FILE).chmod(stat.S_IRUSR)
    try:
        assert content_hashes([file]) == [blake(b"one")]
    finally:
        cache.chmod(stat.S_IRWXU)


def _hash_many(folder):
    names = sorted(os.listdir(folder))
    return content_hashes([os.path.join(folder, name) for name in names])


def test_several_processes_side_by_side(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}").write_bytes(b"%d" % number)
    expected = [blake(b"%d" % number) for number in range(300)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_hash_many, [str(folder)] * 4) == [expected] * 4
    assert _hash_many(str(folder)) == expected


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=rf"^{tmp_path / 'file'}: cannot be read \(No such file or directory\)$"):
        content_hashes([tmp_path / "file"])


def test_the_parts_of_a_hash_do_not_run_together():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), (b"ab", "c"), (1, "c"), ("1", "c"), ("ab", "c", "")]
    assert len({hash_of(*each) for each in parts}) == len(parts)
    assert hash_of("ab", "c") == hash_of("ab", "c")
