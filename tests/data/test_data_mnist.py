import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spikelfp import data
from spikelfp.data import mnist as mnist_module
from spikelfp.errors import DataError, SaveError, UserError

IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def nothing_is_downloaded(offline):
    """All tests here must do without a network."""


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("packed", [False, True])
def test_local_files_of_any_size_and_content_are_read(write_mnist, name, packed):
    pixels = np.arange(20 * 4 * 5).reshape(20, 4, 5) % 256
    splits = data.load(name, write_mnist(name, packed, train_images=pixels))
    assert (splits.name, splits.classes, splits.shape) == (name, 10, (1, 4, 5))
    assert (len(splits.train), len(splits.test), len(splits.class_names)) == (20, 10, 10)
    x, y = splits.train.__getitems__([0, 13])
    np.testing.assert_allclose(x.squeeze(1).numpy(), pixels[[0, 13]] / 255, rtol=1e-6)
    assert y.tolist() == [0, 3]


def test_packed_and_plain_files_may_be_mixed(write_mnist):
    folder = write_mnist()
    packed = folder / "mnist" / f"{IMAGES}.gz"
    (folder / "mnist" / IMAGES).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert len(data.load("mnist", folder).train) == 20


def test_the_folder_comes_from_the_environment(write_mnist, monkeypatch):
    monkeypatch.setenv("SPIKELFP_DATA", str(write_mnist()))
    assert len(data.load("mnist").train) == 20


def test_class_names():
    assert mnist_module.MNIST.class_names[7] == "7"
    assert mnist_module.FASHION_MNIST.class_names[9] == "Ankle boot"


def test_missing_files_offline_name_the_file_and_the_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("mnist", tmp_path)
    text = str(caught.value)
    assert f"Put the file {IMAGES}.gz into the folder {tmp_path / 'mnist'}" in text
    assert "Temporary failure in name resolution" in text
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" in text
    assert "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz" in text
    for stem in mnist_module.MNIST.originals:
        assert f"{stem}.gz" in text.partition("missing there: ")[2]
    assert "\n" not in text


def test_only_what_is_missing_is_asked_for(write_mnist):
    folder = write_mnist("fashion-mnist")
    (folder / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"missing there: t10k-labels-idx1-ubyte\.gz; unpacked") as caught:
        data.load("fashion-mnist", folder)
    assert "https://storage.googleapis.com/tensorflow/tf-keras-datasets/t10k-labels" in str(caught.value)
    assert IMAGES not in str(caught.value)


def test_a_missing_file_is_downloaded_with_its_own_checksum(write_mnist, monkeypatch):
    folder = write_mnist()
    path = folder / "mnist" / f"{IMAGES}.gz"
    content = path.read_bytes()
    path.unlink()
    asked = []

    def fetch(urls, target, original):
        asked.append((urls, target, original))
        target.write_bytes(content)
        return target

    monkeypatch.setattr(mnist_module, "fetch", fetch)
    assert len(data.load("mnist", folder).train) == 20
    urls = [f"{mirror}{IMAGES}.gz" for mirror in mnist_module.MNIST.mirrors]
    assert asked == [(urls, path, mnist_module.MNIST.originals[IMAGES])]


def test_a_disk_that_refuses_is_not_taken_for_a_missing_network(tmp_path, monkeypatch):
    def fetch(*args: object) -> None:
        raise SaveError("disk full")

    monkeypatch.setattr(mnist_module, "fetch", fetch)
    with pytest.raises(SaveError, match="disk full"):
        data.load("mnist", tmp_path)


def test_a_label_outside_is_named_with_its_file(write_mnist):
    labels = np.arange(20) % 10
    labels[13] = 10
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: label 10 at index 13 is outside 0 to 9"):
        data.load("mnist", write_mnist(train_labels=labels))


def test_counts_of_images_and_labels_must_agree(write_mnist):
    with pytest.raises(DataError, match=r"t10k-images.* holds 10 images, but .*t10k-labels.* holds 9 labels"):
        data.load("mnist", write_mnist(t10k_labels=np.arange(9)))


def test_train_and_test_images_must_agree(write_mnist):
    with pytest.raises(DataError, match=r"t10k-images.*: images of 5 x 4 pixels, but .*train-.* have 4 x 5"):
        data.load("mnist", write_mnist(t10k_images=np.zeros((10, 5, 4))))


def test_swapped_files_are_noticed(write_mnist):
    folder = write_mnist()
    labels = folder / "mnist" / "train-labels-idx1-ubyte.gz"
    (folder / "mnist" / f"{IMAGES}.gz").write_bytes(labels.read_bytes())
    with pytest.raises(DataError, match=rf"{IMAGES}\.gz: expected .* 3 dimensions .* found 1 dimensions"):
        data.load("mnist", folder)


def test_a_truncated_file_is_named(write_mnist):
    folder = write_mnist(packed=False)
    path = folder / "mnist" / IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{IMAGES}: expected 20 x 4 x 5 = 400 bytes .* found 399: truncated"):
        data.load("mnist", folder)


def real_data() -> Path:
    root = Path(__file__).resolve().parents[2]
    candidates = [root / "shared" / "data", root.parent / "shared" / "data"]
    if "SPIKELFP_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["SPIKELFP_DATA"]))
    for folder in candidates:
        if (folder / "mnist" / f"{IMAGES}.gz").exists():
            return folder
    pytest.skip("no MNIST files: set SPIKELFP_DATA to a folder with mnist/train-images-idx3-ubyte.gz")


def test_the_original_files():
    folder = real_data()
    splits = data.load("mnist", folder)
    assert (len(splits.train), len(splits.test), splits.shape) == (60_000, 10_000, (1, 28, 28))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert splits.train.labels.bincount().tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert splits.test.labels.bincount().tolist() == counts
    x, _ = splits.train.__getitems__(torch.arange(10_000).tolist())
    assert (x.min(), x.max()) == (0, 1)
    assert x.mean().item() == pytest.approx(0.1307, abs=2e-3)


def test_the_checksums_are_those_of_the_original_files():
    folder = real_data() / "mnist"
    for stem, original in mnist_module.MNIST.originals.items():
        content = (folder / f"{stem}.gz").read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (original.sha256, original.size)


@pytest.mark.parametrize("source", [mnist_module.MNIST, mnist_module.FASHION_MNIST])
def test_every_mirror_is_https(source):
    assert all(mirror.startswith("https://") for mirror in source.mirrors)


@pytest.mark.network
@pytest.mark.skipif("SPIKELFP_TEST_NETWORK" not in os.environ, reason="SPIKELFP_TEST_NETWORK is not set")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_every_mirror_delivers_the_original(tmp_path, name, monkeypatch):
    monkeypatch.undo()  # the network is wanted here
    source = {"mnist": mnist_module.MNIST, "fashion-mnist": mnist_module.FASHION_MNIST}[name]
    stem = "t10k-labels-idx1-ubyte"
    for number, mirror in enumerate(source.mirrors):
        mnist_module.fetch([f"{mirror}{stem}.gz"], tmp_path / str(number), source.originals[stem])


def test_a_part_of_mnist_is_its_first_images(write_mnist):
    folder = write_mnist("mnist")
    whole = data.load("mnist", folder)
    part = data.load("mnist-part:7,4", folder)
    assert (len(part.train), len(part.test), part.name) == (7, 4, "mnist-part:7,4")
    assert part.train[6][0].equal(whole.train[6][0])
    assert part.test[3][1] == whole.test[3][1]
    for path in ("7", "7,x", "7,²", "0,4", "-1,4", "7,4,1", f"7,{len(whole.test) + 1}", f"{len(whole.train) + 1},4"):
        with pytest.raises(UserError, match=r"mnist-part|MNIST has"):
            data.load(f"mnist-part:{path}", folder)
