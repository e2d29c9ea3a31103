"""Sequences as sparse COO tensors train as the dense ones, and are cut without being made dense."""

import pytest
import torch
from sequence_data import NETS, make, recordings

from spikelfp import methods, rules
from spikelfp.errors import NonFiniteError
from spikelfp.methods import Batch


def assert_grads(found, expected):
    assert any(grad.any() for grad in expected)
    for a, b in zip(found, expected, strict=True):
        tolerance = 1e-4
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_batches_are_cut_without_being_made_dense():
    x, labels = recordings(7, sparse=True).__getitems__(range(7))
    whole = Batch(x.values, labels, x.mask)
    parts = [*whole.parts(9), *(piece.batch for piece in whole.chunks(6))]
    dense = Batch(x.values.to_dense(), labels, x.mask)
    expected = [*dense.parts(9), *(piece.batch for piece in dense.chunks(6))]
    assert [len(part.targets) for part in parts[:9]] == [1] * 7 + [0] * 2
    for part, same in zip(parts, expected, strict=True):
        assert part.sequence.is_sparse
        assert part.sequence.is_coalesced()
        assert torch.equal(part.sequence.to_dense(), same.sequence)
        assert same.sequence.untyped_storage().data_ptr() == dense.sequence.untyped_storage().data_ptr()


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"chunk": 6}, {"accumulate": 2, "chunk": 7}])
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_training_is_that_of_dense_values(net, options):
    build, shape = NETS[net]
    trained = []
    for sparse in (False, True):
        trainer = make(build, **options)
        x, labels = recordings(14, shape=shape, sparse=sparse).__getitems__(range(14))
        assert x.values.is_sparse is sparse
        seen = trainer.train_step(x, labels)
        trained.append((trainer, int(seen.correct), trainer.evaluate(recordings(14, shape=shape, sparse=sparse))))
    (dense, right, evaluation), (sparse, right_sparse, evaluation_sparse) = trained
    assert_grads([p.grad for p in sparse.net.parameters()], [p.grad for p in dense.net.parameters()])
    assert right == right_sparse
    assert evaluation.accuracy == evaluation_sparse.accuracy


def test_a_value_that_is_not_finite_is_named():
    x, labels = recordings(8, sparse=True).__getitems__(range(8))
    x.values.values()[7] = float("nan")
    with pytest.raises(NonFiniteError, match="the input is not finite"):
        make(method=methods.GradientDescent(rules.Surrogate())).train_step(x, labels)
