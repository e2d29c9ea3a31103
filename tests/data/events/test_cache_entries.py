import os
import time

import pytest
from toy_recordings import BINS, PIPELINES, WINDOW, Toy

from spikelfp.data.events.cache import binned, clear_caches, limit_bytes, list_caches
from spikelfp.errors import UnknownNameError, UserError


def fill(folder) -> list:
    """Four entries, the first used longest ago; nothing is open."""
    stores = [
        binned(Toy(name=name), pipeline, cache_dir=folder)
        for name, pipeline in (("toy train", BINS), ("toy test", WINDOW), ("toyota train", BINS), ("other", BINS))
    ]
    # all but one have the same content and settings, and so the same key: the name tells their folders apart
    folders = [store.folder for store in stores]
    for age, each in zip((40, 30, 20, 10), folders, strict=True):
        used_before(each, age)
    return folders


def used_before(folder, seconds: float) -> None:
    os.utime(folder / "used", (time.time() - seconds,) * 2)


def names(folder) -> list[str]:
    return [entry.name for entry in list_caches(folder)]


def test_they_are_listed_by_their_last_use(tmp_path):
    assert list_caches(tmp_path / "nowhere") == []
    folders = fill(tmp_path)
    (tmp_path / "known-files.sqlite3").touch()
    (tmp_path / "somebody's").mkdir()
    assert names(tmp_path) == ["other", "toyota-train", "toy-test", "toy-train"]
    entry = list_caches(tmp_path)[2]
    assert entry.folder == folders[1]
    assert entry.folder.name == f"toy-test-{entry.key}"
    assert entry.about["name"] == "toy test"
    assert entry.about["recordings"] == 12
    assert entry.bytes == sum(file.stat().st_size for file in entry.folder.iterdir())
    assert abs(entry.used.timestamp() - (time.time() - 30)) < 5
    binned(Toy(name="toy train"), BINS, cache_dir=tmp_path)
    assert names(tmp_path)[0] == "toy-train"


def test_damaged_ones_are_listed_too(tmp_path):
    (fill(tmp_path)[0] / "meta.json").write_text("{")
    assert [bool(entry.about) for entry in list_caches(tmp_path)] == [True, True, True, False]
    assert clear_caches(["toy train"], tmp_path).bytes > 0
    assert len(list_caches(tmp_path)) == 3


def test_clearing_a_selection(tmp_path):
    folders = fill(tmp_path)
    before = {entry.name: entry for entry in list_caches(tmp_path)}
    cleared = clear_caches(["toy"], tmp_path)
    assert {entry.name for entry in cleared.removed} == {"toy-train", "toy-test"}
    assert cleared.bytes == before["toy-train"].bytes + before["toy-test"].bytes
    assert cleared.in_use == ()
    assert names(tmp_path) == ["other", "toyota-train"]
    assert not folders[0].exists()
    key = before["other"].key[:8]
    assert {entry.name for entry in clear_caches([key], tmp_path).removed} == {"other", "toyota-train"}
    assert list(tmp_path.iterdir()) == []


def test_clearing_all_leaves_what_is_not_of_the_cache(tmp_path):
    fill(tmp_path)
    (tmp_path / "known-files.sqlite3").touch()
    (tmp_path / "somebody's").mkdir()
    (tmp_path / f".toy-train-{'0' * 32}.part").mkdir()
    (tmp_path / f".{'1' * 32}.part").mkdir()
    (tmp_path / ".another-program.part").mkdir()
    (tmp_path / f".toy-{'2' * 32}.part").symlink_to("somebody's")
    (tmp_path / f"toy-{'3' * 32}").symlink_to("somebody's")
    assert len(clear_caches(cache_dir=tmp_path).removed) == 4
    left = {".another-program.part", f".toy-{'2' * 32}.part", "known-files.sqlite3", "somebody's", f"toy-{'3' * 32}"}
    assert {each.name for each in tmp_path.iterdir()} == left
    assert not any((tmp_path / "somebody's").iterdir())
    assert clear_caches(cache_dir=tmp_path) == (0, (), ())


def test_an_unknown_selection_clears_nothing(tmp_path):
    fill(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown cache entry 'toi': did you mean"):
        clear_caches(["other", "toi"], tmp_path)
    with pytest.raises(UnknownNameError):
        clear_caches([""], tmp_path)
    assert len(list_caches(tmp_path)) == 4


def test_what_is_in_use_stays(tmp_path):
    fill(tmp_path)
    store = binned(Toy(name="toy train"), BINS, cache_dir=tmp_path)
    for _ in range(2):  # asking does not take the lock away
        cleared = clear_caches(["toy"], tmp_path)
        assert [entry.name for entry in cleared.in_use] == ["toy-train"]
    assert int(store.places.max()) < 3 * 40
    del store
    assert [entry.name for entry in clear_caches(["toy"], tmp_path).removed] == ["toy-train"]


def test_the_limit_removes_what_was_used_longest_ago(tmp_path):
    fill(tmp_path)
    sizes = {entry.name: entry.bytes for entry in list_caches(tmp_path)}
    held = binned(Toy(name="toy test"), WINDOW, cache_dir=tmp_path)
    used_before(held.folder, 1000)
    new = binned(Toy(name="new"), PIPELINES[2], cache_dir=tmp_path)
    size = {entry.name: entry.bytes for entry in list_caches(tmp_path)}["new"]
    del new
    clear_caches(["new"], tmp_path)
    limit = size + sizes["toy-test"] + sizes["other"]
    new = binned(Toy(name="new"), PIPELINES[2], cache_dir=tmp_path, limit=limit)
    assert sorted(names(tmp_path)) == ["new", "other", "toy-test"]
    assert (len(held), len(new)) == (12, 12)


def test_a_limit_below_what_is_in_use(tmp_path):
    store = binned(Toy(), BINS, cache_dir=tmp_path, limit=0)
    assert names(tmp_path) == ["toy-train"]
    binned(Toy(), WINDOW, cache_dir=tmp_path, limit="1B")
    assert len(names(tmp_path)) == 2
    del store
    binned(Toy(), PIPELINES[2], cache_dir=tmp_path, limit=1)
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20GB", 20 * 10**9), ("1.5 GiB", 3 * 2**29), ("500m", 5 * 10**8), ("0", 0), ("7", 7), ("2TB", 2 * 10**12)],
)
def test_sizes(monkeypatch, text, expected):
    assert limit_bytes(text) == expected
    monkeypatch.setenv("SPIKELFP_CACHE_LIMIT", text)
    assert limit_bytes() == expected
    assert limit_bytes(3) == 3


def test_sizes_that_are_none(monkeypatch, tmp_path):
    monkeypatch.delenv("SPIKELFP_CACHE_LIMIT", raising=False)
    assert limit_bytes() == 20 * 10**9
    for text in ("", "GB", "-1GB", "1e3", "20 XB", "inf", "20iB"):
        with pytest.raises(UserError, match="must be a size such as 20GB"):
            limit_bytes(text)
    with pytest.raises(UserError, match="0 bytes or more, got -1"):
        limit_bytes(-1)
    monkeypatch.setenv("SPIKELFP_CACHE_LIMIT", "lots")
    with pytest.raises(UserError, match=r"from \$SPIKELFP_CACHE_LIMIT if not given\), got 'lots'"):
        binned(Toy(), BINS, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
