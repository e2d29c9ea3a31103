import gzip
import io
import lzma
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import TemporalTrainer, data, models
from spikelfp.data import ArrayDataset, Augmented, Standardization, batches, cifar
from spikelfp.errors import DataError, SaveError, ShapeError, UserError

NAMES = (*cifar.TRAIN, cifar.TEST)
SUBSET_COUNTS = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
SUBSET_TEST_COUNTS = [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]


pytestmark = pytest.mark.usefixtures("offline")


def records(seed: int, count: int = 3) -> bytes:
    random = np.random.default_rng(seed)
    content = random.integers(0, 256, (count, 3073), dtype=np.uint8)
    content[:, 0] = random.integers(0, 10, count)
    return content.tobytes()


def original(**changes: bytes | None) -> dict[str, bytes]:
    """Tiny batches by file name; ``test_batch=...`` replaces one, ``None`` leaves it out."""
    content = {name: records(number) for number, name in enumerate(NAMES)}
    content |= {f"{stem}.bin": replacement for stem, replacement in changes.items()}
    return {name: batch for name, batch in content.items() if batch is not None}


def write_files(folder: Path, content: dict[str, bytes], pack=None, ending: str = "") -> Path:
    folder.mkdir(parents=True)
    for name, batch in content.items():
        (folder / f"{name}{ending}").write_bytes(pack(batch) if pack else batch)
    return folder


def write_archive(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / cifar.ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        # as in the original, a text comes along and the batches are in no order
        for name, batch in [("readme.html", b"<html>"), *reversed(content.items())]:
            member = tarfile.TarInfo(f"{cifar.UNPACKED}/{name}")
            member.size = len(batch)
            archive.addfile(member, io.BytesIO(batch))
        dangling = tarfile.TarInfo(f"links/{cifar.TEST}")
        dangling.type, dangling.linkname = tarfile.SYMTYPE, "nowhere"
        archive.addfile(dangling)
    return path


def slow_records(content: bytes) -> tuple[list[int], list]:
    """Labels and nested lists ``[N][C][y][x]`` by the layout's definition, byte by byte."""
    starts = range(0, len(content), 3073)
    images = [
        [[[content[s + 1 + 1024 * c + 32 * y + x] for x in range(32)] for y in range(32)] for c in range(3)]
        for s in starts
    ]
    return [content[s] for s in starts], images


FORMS = {
    "archive": lambda folder, content: write_archive(folder, content),
    "unpacked": lambda folder, content: write_files(folder / cifar.UNPACKED, content),
    "flat": lambda folder, content: write_files(folder, content),
    "xz": lambda folder, content: write_files(folder, content, lzma.compress, ".xz"),
    "gz": lambda folder, content: write_files(folder / cifar.UNPACKED, content, gzip.compress, ".gz"),
    "packed under a plain name": lambda folder, content: write_files(folder, content, gzip.compress),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_a_slow_reader_gives(tmp_path, form):
    content = original(data_batch_3=records(7, 5))
    FORMS[form](tmp_path / "cifar10", content)
    splits = data.load("cifar10", tmp_path)
    assert (splits.name, splits.classes, splits.shape) == ("cifar10", 10, (3, 32, 32))
    for part, names in ((splits.train, cifar.TRAIN), (splits.test, (cifar.TEST,))):
        labels, images = slow_records(b"".join(content[name] for name in names))
        assert part.images.dtype == torch.uint8
        assert part.images.tolist() == images
        assert part.labels.tolist() == labels
        x, y = part.__getitems__([1, 0])
        torch.testing.assert_close(x, torch.tensor(images)[[1, 0]] / 255)
        assert y.tolist() == [labels[1], labels[0]]
    assert (len(splits.train), len(splits.test)) == (17, 3)


def test_single_files_may_be_of_any_form_and_go_before_the_archive(tmp_path):
    folder = tmp_path / "cifar10"
    write_archive(folder, original(test_batch=records(99)))
    write_files(folder / cifar.UNPACKED, original(data_batch_2=None))
    (folder / "data_batch_2.bin.xz").write_bytes(lzma.compress(records(1)))
    assert data.load("cifar10", tmp_path).test.labels.tolist() == slow_records(records(5))[0]
    (folder / "data_batch_2.bin.xz").unlink()
    assert data.load("cifar10", tmp_path).test.labels.tolist() == slow_records(records(99))[0]


def test_nothing_there_offline_names_the_file_and_the_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("cifar10", tmp_path)
    text = str(caught.value)
    assert f"Put the file {cifar.ARCHIVE} into the folder {tmp_path / 'cifar10'}" in text
    assert f"https://www.cs.toronto.edu/~kriz/{cifar.ARCHIVE}: Temporary failure in name resolution" in text
    assert f"(missing there: {', '.join(NAMES)}; the unpacked files do as well)" in text
    assert "\n" not in text


def test_a_missing_batch_is_named(tmp_path):
    write_files(tmp_path / "cifar10", original(data_batch_4=None))
    with pytest.raises(DataError, match=r"missing there: data_batch_4\.bin; the unpacked"):
        data.load("cifar10", tmp_path)
    archive = write_archive(tmp_path / "other" / "cifar10", original(data_batch_4=None))
    with pytest.raises(DataError, match=rf"{archive}: expected the files .* found no data_batch_4\.bin$"):
        data.load("cifar10", tmp_path / "other")


def test_the_archive_is_downloaded_with_its_checksum(tmp_path, monkeypatch):
    asked, batches = [], original()

    def fetch(urls, target, original):
        asked.append((tuple(urls), target, original.sha256))
        return write_archive(target.parent, batches)

    monkeypatch.setattr(cifar, "fetch", fetch)
    for _ in range(2):  # the second time it is there
        assert len(data.load("cifar10", tmp_path).train) == 15
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    assert asked == [(cifar.URLS, path, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")]


def test_a_disk_that_refuses_is_not_taken_for_a_missing_network(tmp_path, monkeypatch):
    def fetch(*args: object) -> None:
        raise SaveError("disk full")

    monkeypatch.setattr(cifar, "fetch", fetch)
    with pytest.raises(SaveError, match="disk full"):
        data.load("cifar10", tmp_path)


def wrong_label() -> bytes:
    content = bytearray(records(2))
    content[3073] = 10
    return bytes(content)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (records(2)[:-1], r"expected records of 3073 bytes .* found 9218 bytes: 2 records and 3072 bytes more"),
        (b"", "expected records of 3073 bytes .* found none"),
        (wrong_label(), "label 10 at index 1 is outside 0 to 9"),
        (lzma.compress(records(2))[:-20], r"expected xz data, found it truncated or damaged \(Compressed file ended"),
        (lzma.compress(records(2))[:20] + b"?" * 500, r"expected xz data, found it truncated or damaged \(Corrupt"),
        (gzip.compress(records(2))[:-20], r"expected gzip data, found it truncated or damaged \(Compressed file end"),
        (gzip.compress(records(2))[:-8] + b"12345678", r"expected gzip data, found it .* \(CRC check failed"),
    ],
)
def test_a_bad_batch_is_named(tmp_path, batch, message):
    write_files(tmp_path / "cifar10", original(data_batch_3=batch))
    with pytest.raises(DataError, match=rf"^{tmp_path}/cifar10/data_batch_3\.bin: {message}") as caught:
        data.load("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [records(2)[:-1], wrong_label()])
def test_a_bad_batch_in_the_archive_is_named_with_it(tmp_path, batch):
    path = write_archive(tmp_path / "cifar10", original(data_batch_3=batch))
    with pytest.raises(DataError, match=rf"^{path}: data_batch_3\.bin: (expected records|label 10 at index 1)"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-8] + b"12345678",  # the checksum, behind all that tar reads
        lambda content: b"<html>not here</html>",
        lambda content: gzip.compress(b"no tar archive" * 100),
        lambda content: b"",
    ],
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = write_archive(tmp_path / "cifar10", original())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{path}: expected a gzip-compressed tar archive, found it") as caught:
        data.load("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    folder = write_files(tmp_path / "cifar10", original(test_batch=None))
    (folder / cifar.TEST).mkdir()
    with pytest.raises(DataError, match=r"test_batch\.bin: cannot be read \(Is a directory\)"):
        data.load("cifar10", tmp_path)


def test_a_python_without_xz_is_told_what_to_do(tmp_path, monkeypatch):
    FORMS["xz"](tmp_path / "cifar10", original())
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(DataError, match=r"data_batch_1\.bin\.xz: this Python cannot read xz; unpack .* `xz -d`"):
        data.load("cifar10", tmp_path)


def test_the_subset_is_read_from_its_own_files_or_cut_from_the_full_data_set(tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("cifar10-subset", tmp_path)
    text = str(caught.value)
    assert f"put data_batch_1.bin.xz, test_batch_first1000.bin.xz into the folder {tmp_path / 'cifar10_subset'}" in text
    assert f"{cifar.ARCHIVE}, from which it is cut, into {tmp_path / 'cifar10'}" in text
    assert "\n" not in text

    full = {"data_batch_1.bin": records(0, 12), "test_batch.bin": records(1, 1003)}  # the others are not needed
    write_archive(tmp_path / "cifar10", full)
    cut = data.load("cifar10-subset", tmp_path)
    folder = write_files(tmp_path / "cifar10_subset", {"data_batch_1.bin": records(3, 5)})
    assert len(data.load("cifar10-subset", tmp_path).train) == 12  # half of the files are not the data set
    assert (cut.name, len(cut.train), len(cut.test)) == ("cifar10-subset", 12, 1000)
    assert cut.train.labels.tolist() == slow_records(full["data_batch_1.bin"])[0]
    assert cut.test.labels.tolist() == slow_records(full["test_batch.bin"])[0][:1000]

    (folder / "test_batch_first1000.bin.xz").write_bytes(lzma.compress(records(4, 2)))
    own = data.load("cifar10-subset", tmp_path)
    assert own.train.images.tolist() == slow_records(records(3, 5))[1]
    assert own.test.images.tolist() == slow_records(records(4, 2))[1]


@pytest.fixture(scope="module")
def subset_folder() -> Path:
    """A folder with the CIFAR-10 subset, from $SPIKELFP_DATA or beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    for folder in (os.environ.get("SPIKELFP_DATA"), beside):
        if folder and (Path(folder) / "cifar10_subset" / "data_batch_1.bin.xz").is_file():
            return Path(folder)
    pytest.skip("the CIFAR-10 subset is not at hand: set SPIKELFP_DATA to a folder that holds cifar10_subset/")


def test_the_original_images(subset_folder):
    splits = data.load("cifar10-subset", subset_folder)
    assert splits.train.labels.bincount().tolist() == SUBSET_COUNTS
    assert splits.test.labels.bincount().tolist() == SUBSET_TEST_COUNTS
    content = lzma.decompress((subset_folder / "cifar10_subset" / "test_batch_first1000.bin.xz").read_bytes())
    assert splits.test.images[:8].tolist() == slow_records(content[: 8 * 3073])[1]
    names = (subset_folder / "cifar10_subset" / "batches.meta.txt").read_text().split()
    assert list(splits.class_names) == names
    x, _ = splits.train.__getitems__(range(10_000))
    assert (x.min(), x.max()) == (0, 1)
    x, _ = splits.standardized().train.__getitems__(range(10_000))
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.network
@pytest.mark.skipif("SPIKELFP_TEST_NETWORK" not in os.environ, reason="SPIKELFP_TEST_NETWORK is not set")
def test_the_address_delivers_the_original(tmp_path, monkeypatch):
    monkeypatch.undo()  # the network is wanted here
    splits = data.load("cifar10", tmp_path)
    assert splits.train.labels.bincount().tolist() == [5000] * 10
    assert splits.test.labels.bincount().tolist() == [1000] * 10


def few_images(shape=(9, 3, 6, 5), by=None) -> ArrayDataset:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return ArrayDataset(images, torch.arange(len(images)) % 4, 1 / 255, classes=4, standardization=by)


def test_each_channel_is_standardised_in_every_part(tmp_path):
    write_archive(tmp_path / "cifar10", original(data_batch_1=records(0, 30)))
    splits = data.load("cifar10", tmp_path).with_validation(0.3, seed=0)
    for made in (splits.standardized(), data.load("cifar10", tmp_path).standardized().with_validation(0.3, seed=0)):
        for part in ("train", "test", "validation"):
            plain, (x, y) = getattr(splits, part), getattr(made, part).__getitems__([1, 0])
            for channel, (mean, std) in enumerate(zip(*cifar.STATISTICS, strict=True)):
                expected = (plain.images[[1, 0], channel].double() / 255 - mean) / std
                torch.testing.assert_close(x[:, channel].double(), expected, atol=1e-6, rtol=1e-6)
            assert (x.dtype, y.tolist()) == (torch.float32, plain.labels[[1, 0]].tolist())
    plain = splits.standardized().standardized(Standardization((0.0,) * 3, (1.0,) * 3)).test[0][0]  # replaces the first
    torch.testing.assert_close(plain, splits.test[0][0])
    assert data.constant(x, 2).shape == (2, *x.shape)
    with pytest.raises(ShapeError, match=r"must be in \[0, 1\]"):
        data.rate(x, 2)


def test_an_unknown_standardisation_is_that_of_the_training_part():
    splits = data.load("digits")
    values = splits.train.images.double() * splits.train.scale
    x = (splits.test.images[:5].double() * splits.test.scale - values.mean()) / values.std(correction=0)
    shown = torch.stack([splits.standardized().test[n][0] for n in range(5)])
    torch.testing.assert_close(shown, x.float(), atol=1e-6, rtol=1e-6)


def test_a_standardisation_that_does_not_fit_is_refused():
    flat = replace(
        data.load("digits").train, images=torch.zeros(2, 1, 8, 8, dtype=torch.uint8), labels=torch.zeros(2).long()
    )
    with pytest.raises(DataError, match="channel 0 of the images is the same everywhere"):
        replace(data.load("digits"), train=flat).standardized()
    with pytest.raises(DataError, match=r"by 3 means and 3 deviations, but images of shape .* have 1 channels"):
        data.load("digits").standardized(cifar.STATISTICS)
    for mean, std in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(DataError, match="finite means and positive deviations"):
            few_images((2, 1, 4, 4), Standardization((mean,), (std,)))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7)),
    padding=st.integers(0, 2),
    flip=st.booleans(),
    standard=st.booleans(),
    seed=st.integers(0, 9),
)
def test_flips_and_shifts_equal_those_of_single_pixels(shape, padding, flip, standard, seed):
    by = Standardization((0.4,) * shape[1], (0.3,) * shape[1]) if standard else None
    plain = few_images(shape, by)
    augmented = Augmented(plain, flip, padding).at_epoch(seed, 1)
    order = torch.randperm(shape[0]).tolist()
    x, y = augmented.__getitems__(order)
    assert y.tolist() == plain.labels[order].tolist()
    for place, index in enumerate(order):
        mirrored, row, column = augmented.draws[index].tolist()
        expected = torch.zeros(shape[1:], dtype=torch.uint8)
        for v in range(shape[2]):
            for u in range(shape[3]):
                from_v, from_u = v + row - padding, (shape[3] - 1 - u if mirrored else u) + column - padding
                if 0 <= from_v < shape[2] and 0 <= from_u < shape[3]:
                    expected[:, v, u] = plain.images[index, :, from_v, from_u]
        assert torch.equal(x[place], plain.values(expected[None])[0])
        assert torch.equal(augmented[index][0], x[place])
    assert augmented.__getitems__([])[0].shape == (0, *shape[1:])


def test_every_flip_and_shift_is_equally_likely_and_a_function_of_seed_epoch_and_sample():
    many = ArrayDataset(torch.zeros(50_000, 1, 5, 5, dtype=torch.uint8), torch.zeros(50_000, dtype=torch.int64))
    draws = Augmented(many).at_epoch(0, 0).draws
    counts = (draws * torch.tensor([81, 9, 1])).sum(1).bincount(minlength=162)
    assert len(counts) == 162
    assert ((counts - 50_000 / 162).square() / (50_000 / 162)).sum() < 250  # χ² of 161 degrees: 161 ± 18
    assert torch.equal(Augmented(many.subset(torch.arange(7))).at_epoch(0, 0).draws, draws[:7])
    others = [Augmented(many).at_epoch(seed, epoch).draws for seed, epoch in ((0, 1), (1, 0), (1, 1))]
    assert all((other == draws).all(1).float().mean() < 0.01 for other in others)
    only_shifts, only_flips = (Augmented(many, **off).at_epoch(0, 0).draws for off in ({"flip": False}, {"padding": 0}))
    assert torch.equal(only_shifts, draws * torch.tensor([0, 1, 1]))
    assert torch.equal(only_flips, draws * torch.tensor([1, 0, 0]))


def test_batches_are_the_same_with_workers_on_resume_and_over_ranks():
    images = Augmented(few_images((23, 3, 6, 5)), padding=2)

    def epoch(number=3, **options) -> list:
        return list(batches(images, 6, seed=1, epoch=number, **options))

    random_state = torch.get_rng_state()
    whole = epoch()
    torch.testing.assert_close(epoch(workers=2), whole, atol=0, rtol=0)
    torch.testing.assert_close(epoch(start=2), whole[2:], atol=0, rtol=0)
    ranks = [[x for x, _ in epoch(rank=rank, world_size=2)] for rank in range(2)]
    assert all(torch.equal(torch.cat(parts), x) for *parts, (x, _) in zip(*ranks, whole, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    first, second = (torch.cat([x for x, _ in epoch(number, shuffle=False)]) for number in (0, 1))
    changed = (first != second).flatten(1).any(1)
    assert changed.float().mean() > 0.7
    assert images.draws is None


def test_training_on_augmented_images_goes_on_bit_for_bit(tmp_path):
    def trainer(**options) -> TemporalTrainer:
        torch.manual_seed(0)
        return TemporalTrainer(models.lif_mlp([64, 16, 10]), steps=3, device="cpu", **options)

    train = Augmented(data.load("digits").train.subset(torch.arange(300)), flip=False, padding=1)
    whole, stopped = trainer(), trainer(should_stop=lambda: stopped.position.step == 4)
    whole.fit(train, 2)
    stopped.fit(train, 2)
    stopped.save(tmp_path / "middle.pt")
    resumed = trainer()
    resumed.load(tmp_path / "middle.pt")
    resumed.fit(train, 2)
    assert resumed.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(resumed.net.parameters(), whole.net.parameters(), strict=True))


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(UserError, match=r"belong to an epoch: take them from data\.batches"):
        Augmented(few_images())[0]
    with pytest.raises(ShapeError, match=r"these have shape \[4, 5\]"):
        Augmented(few_images((4, 5)))
    for padding in (-1, 5):
        with pytest.raises(UserError, match=f"padding must be 0 to 4 for images of 6 x 5 pixels, got {padding}"):
            Augmented(few_images(), padding=padding)
