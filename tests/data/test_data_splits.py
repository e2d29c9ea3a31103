from dataclasses import replace

import pytest
import torch
from torch.utils.data import Subset

from spikelfp.data import ArrayDataset, Augmented, DataSplits, TargetScale
from spikelfp.data.samples import target_scale_of
from spikelfp.errors import DataError, UserError


def make(counts: tuple[int, ...] = (40, 10, 1)) -> DataSplits:
    """Training images that hold their own index, so that a sample can be told from every other."""
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    train = ArrayDataset(torch.arange(len(labels)).float()[:, None], labels)
    test = ArrayDataset(torch.zeros(3, 1), torch.tensor([0, 1, 2]))
    return DataSplits("toy", train, test, 3, (1,), ("a", "b", "c"))


def ids(data: ArrayDataset) -> list[int]:
    return data.images[:, 0].int().tolist()


def test_validation_is_stratified_and_disjoint():
    data = make()
    held = data.with_validation(0.2, seed=0)
    assert held.validation is not None
    assert held.validation.labels.bincount(minlength=3).tolist() == [8, 2, 0]
    assert held.train.labels.bincount(minlength=3).tolist() == [32, 8, 1]
    assert sorted(ids(held.train) + ids(held.validation)) == ids(data.train)
    assert ids(held.train) == sorted(ids(held.train))
    for part in (held.train, held.validation):
        assert torch.equal(part.labels, data.train.labels[ids(part)])
    assert held.test is data.test
    assert data.validation is None


def test_no_class_is_held_out_entirely():
    held = make((3, 2, 1)).with_validation(0.9, seed=0)
    assert held.train.labels.bincount(minlength=3).tolist() == [1, 1, 1]


def test_what_is_held_out_depends_on_the_seed_alone():
    data = make()
    first = ids(data.with_validation(0.2, seed=3).validation)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert ids(data.with_validation(0.2, seed=3).validation) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert ids(data.with_validation(0.2, seed=4).validation) != first


def test_a_fraction_of_zero_changes_nothing():
    data = make()
    assert data.with_validation(0, seed=0) is data


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(UserError, match=f"at least 0 and below 1, got {fraction}"):
        make().with_validation(fraction, seed=0)


def test_a_fraction_that_holds_out_nothing_is_refused():
    with pytest.raises(UserError, match=r"0.001 of toy holds out no sample .* largest has 40 training"):
        make().with_validation(0.001, seed=0)


def test_holding_out_twice_is_refused():
    with pytest.raises(UserError, match="toy has a validation part of 10 samples already"):
        make().with_validation(0.2, seed=0).with_validation(0.2, seed=0)


def test_parts_that_do_not_fit_are_refused():
    data = make()
    with pytest.raises(DataError, match="3 classes but 2 class names"):
        replace(data, names=("a", "b"))
    with pytest.raises(DataError, match=r"toy train: label 2 at index \d+ is outside 0 to 1"):
        replace(data, outputs=2, names=("a", "b"))
    wide = ArrayDataset(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(DataError, match=r"toy test: samples of shape \(4,\), expected \(1,\)"):
        replace(data, test=wide)
    with pytest.raises(DataError, match="toy validation: samples"):
        replace(data, validation=wide)


def test_a_data_set_prints_a_small_table():
    assert repr(make()).splitlines() == [
        "DataSplits('toy', samples of (1,), 3 classes: a, b, c",
        "  train:      ArrayDataset(51 samples of (1,), float32)",
        "  test:       ArrayDataset(3 samples of (1,), float32))",
    ]
    held = replace(make().with_validation(0.2, seed=0), skipped=("a: broken",))
    assert "  validation: ArrayDataset(10 samples of (1,), float32)\n" in repr(held)
    assert repr(held).endswith("  skipped:    1 that could not be read)")
    pixels = ArrayDataset(torch.zeros(2, 1, 9, 9, dtype=torch.uint8), torch.tensor([0, 1]), 0.5, 2)
    assert repr(pixels) == "ArrayDataset(2 samples of (1, 9, 9), uint8, 2 classes, scale=0.5)"
    assert repr(Augmented(pixels)) == f"Augmented({pixels!r}, flip=True, padding=4)"


def regression(scale: TargetScale | None = None) -> DataSplits:
    train, test = (
        ArrayDataset(torch.arange(float(n))[:, None], torch.arange(2.0 * n).reshape(n, 2), target_scale=scale)
        for n in (10, 4)
    )
    return DataSplits("rows", train, test, 2, (1,), ("length", "width"))


def test_real_targets_have_outputs_and_no_classes():
    data = regression()
    assert (data.kind, data.outputs, data.names) == ("values", 2, ("length", "width"))
    assert repr(data).startswith("DataSplits('rows', samples of (1,), 2 values: length, width")
    assert "float32, 2 values each)" in repr(data)
    for ask in (lambda: data.classes, lambda: data.class_names):
        with pytest.raises(UserError, match="the targets of rows are values, and there are no classes"):
            ask()
    held = data.with_validation(0.3, seed=0)
    assert (len(held.train), len(held.validation or ())) == (7, 3)
    assert sorted(ids(held.train) + ids(held.validation)) == list(range(10))
    assert torch.equal(held.train.labels[:, 0], 2 * held.train.images[:, 0])
    with pytest.raises(UserError, match="holds out no sample: there are 10 training samples"):
        data.with_validation(0.01, seed=0)


def test_targets_of_another_form_name_the_part():
    data = regression()
    wide = ArrayDataset(torch.zeros(2, 1), torch.zeros(2, 3))
    with pytest.raises(DataError, match=r"rows test: targets of shape \[2, 3\], expected \[N, 2\]"):
        replace(data, test=wide)
    with pytest.raises(DataError, match="rows test: targets are classes"):
        replace(data, test=ArrayDataset(torch.zeros(2, 1), torch.tensor([0, 1])))
    with pytest.raises(DataError, match="rows: 3 values but 2 value names"):
        replace(data, outputs=3)
    with pytest.raises(DataError, match="of scale TargetScale"):
        replace(data, test=regression(TargetScale((0.0, 1.0), (1.0, 2.0))).test)


def test_targets_know_their_own_units():
    data = regression(TargetScale((1.0, -2.0), (10.0, 0.5)))
    assert data.target_scale is not None
    assert data.target_scale.values(torch.tensor([[0.5, 4.0]])).tolist() == [[6.0, 0.0]]
    assert target_scale_of(Subset(data.train, [0])) == data.target_scale
    assert data.train.fingerprint() != regression().train.fingerprint()
    for wrong, named in (((1.0,), "1 means"), ((0.0, float("nan")), "finite means")):
        with pytest.raises(DataError, match=named):
            replace(data.train, target_scale=TargetScale(wrong, (1.0, 1.0)))
    with pytest.raises(DataError, match="positive deviations"):
        replace(data.train, target_scale=TargetScale((1.0, 1.0), (1.0, 0.0)))
