"""Multiply-adds and memory of training, against counts by loops and the formulas of section 3.4 of the F³ paper."""

from itertools import pairwise, product

import pytest
import torch

from spikelfp import models, nn, rules
from spikelfp.analysis import Products, cost, products
from spikelfp.errors import ShapeError, UserError


def dense_by_loops(inputs, outputs):
    """Count the products of ``z = W x``, ``δx = Wᵀ δz`` and ``δW = δz xᵀ`` one by one."""
    forward = back = update = 0
    for _o in range(outputs):
        for _i in range(inputs):
            forward += 1
    for _i in range(inputs):
        for _o in range(outputs):
            back += 1
    for _o in range(outputs):
        for _i in range(inputs):
            update += 1
    return forward, back, update


@pytest.mark.parametrize("hidden", [1, 2, 4])
def test_the_formulas_of_the_paper(hidden):
    """Section 3.4: ``K`` layers of width ``w``, ``C`` outputs, ``b`` samples in a batch, ``|X|`` in the table."""
    layers, width, classes, batch, samples = hidden + 1, 7, 3, 5, 11
    found = cost(
        models.mlp([6, *[width] * hidden, classes], activation="tanh"), torch.rand(1, batch, 6), samples=samples
    )
    assert found.back == (layers - 2) * width**2 + classes * width
    assert found.feedback == classes * (layers - 1) * width
    sizes = [6, *[width] * hidden, classes]
    loops = [dense_by_loops(a, b) for a, b in pairwise(sizes)]
    assert [(block.forward, block.update) for block in found.blocks] == [(f, u) for f, _, u in loops]
    assert [block.back for block in found.blocks] == [0, *(b for _, b, _ in loops[1:])]
    assert found.kept == hidden * width * batch
    assert found.held == (2 if hidden > 1 else 1) * width * batch
    assert found.feedback_weights == classes * hidden * width
    assert found.error_table == classes * samples
    assert found.saved == (batch - classes) * hidden * width - classes * samples
    assert found.saved_at_peak == found.saved - found.held


def test_the_erratum():
    """MNIST, 500 neurons a layer, b = 50: F³ needs 580,000 elements more, and less from 31 hidden layers on.

    The depth is counted with a tenth of the neurons and of the samples, which is the same balance.
    """

    def saved(hidden, width, samples):
        net = models.mlp([4, *[width] * hidden, 10], activation="tanh")
        return cost(net, torch.rand(1, 50, 4), samples=samples).saved

    assert saved(1, 500, 60_000) == -580_000
    assert [saved(hidden, 50, 6000) for hidden in (30, 31)] == [0, 2000]


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 2)])
def test_a_convolution_by_loops(stride, padding, groups):
    """One multiply-add for each weight at each output; those with the padding are counted too, as kernels do them."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 3, stride, padding, groups=groups), nn.Tanh(),
        nn.Flatten(), nn.Linear(6 * 3 * 3, 2),
    )  # fmt: skip
    found = cost(net, torch.rand(1, 3, 2, 5, 5))
    first = sum(1 for _ in product(range(4), range(5), range(5), range(2), range(3), range(3)))
    second = 0
    for _channel, _row, _column in product(range(6), range(3), range(3)):  # each output
        for _own, _down, _right in product(range(4 // groups), range(3), range(3)):  # each weight of its channel
            second += 1
    assert [block.forward for block in found.blocks] == [first, second, 54 * 2]
    assert [block.update for block in found.blocks] == [first, second, 54 * 2]
    assert [block.back for block in found.blocks] == [0, second, 54 * 2]
    assert [block.width for block in found.blocks] == [4 * 25, 54, 2]
    assert [block.feedback for block in found.blocks] == [2 * 100, 2 * 54, 0]


@pytest.mark.parametrize("head_dim", [2, 5])
def test_attention_by_loops(head_dim):
    """``Q Kᵀ`` and ``A V`` of each head: one product forward, and one for the error of each factor."""
    tokens, dim, heads = 3, 4, 2
    layer = nn.SelfAttention(dim, heads, head_dim=head_dim)
    x = torch.rand(1, 2, tokens, dim)
    found = products(layer, x, layer(x))
    scores = mixed = errors = 0
    for _head, _query, _key, _feature in product(range(heads), range(tokens), range(tokens), range(head_dim)):
        scores += 1
        mixed += 1
        errors += 4  # of Q and K, of A and V
    dense = tokens * dim * heads * head_dim
    samples = 2
    assert found == Products(
        forward=samples * (4 * dense + scores + mixed),
        inside=samples * (dense + errors),
        back=samples * 3 * dense,
        update=samples * 4 * dense,
    )
    if head_dim == dim // heads:
        spiking = nn.SpikingSelfAttention(dim, heads)
        assert products(spiking, x, spiking(x)) == found


def test_errors_inside_of_a_block_are_counted_in_both_ways():
    """A transformer block gets ``Bᵀe`` at its output, and sends errors back to all its weights but the first."""
    tokens, dim, classes = 4, 6, 3
    net = models.vit(
        (1, 4, 4), classes, patch=2, dim=dim, depth=2, heads=2, tokens="all", positions=False, head_width=5
    )
    first, second, head, last = cost(net, torch.rand(1, 2, 1, 4, 4)).blocks
    attention = tokens * dim * dim + 4 * tokens * tokens * dim
    mlp = 2 * tokens * dim * 4 * dim
    assert first.back == first.feedback - classes * tokens * dim == attention + 3 * tokens * dim * dim + mlp
    assert second.back == attention + 3 * tokens * dim * dim + mlp
    assert second.feedback == second.back + classes * tokens * dim  # LayerNorm before the attention has weights
    assert (head.back, head.feedback) == (tokens * dim * 5, classes * 5)
    assert (last.back, last.feedback) == (5 * classes, 0)


def test_steps_of_a_sequence():
    """Products count at every step; of a constant sequence once, as they are made."""
    steps, batch = 4, 3
    net = models.lif_mlp([5, 6, 2], threshold=0.1)
    constant, varying = nn.constant(torch.rand(batch, 5), steps), torch.rand(steps, batch, 5)
    first, last = cost(net, constant).blocks
    assert (first.forward, first.update) == (30, 30)
    assert (last.forward, last.back, last.feedback) == (steps * 12, steps * 12, 0)
    assert first.feedback == 2 * 6
    assert cost(net, varying).blocks[0].forward == steps * 30
    recurrent = cost(models.lif_rnn([5, 6, 2]), varying).blocks[0]
    assert (recurrent.forward, recurrent.update) == (steps * (30 + 36),) * 2
    assert (recurrent.back, recurrent.feedback) == (steps * 36, steps * 36 + 2 * 6)


def test_frozen_layers_need_no_errors_and_no_updates():
    net = models.mlp([6, 7, 8, 3], activation="tanh")
    net[1].requires_grad_(False)
    first, second, last = cost(net, torch.rand(1, 2, 6)).blocks
    assert (first.forward, first.back, first.update) == (42, 0, 0)
    assert (second.back, last.back) == (0, 24)


def test_the_network_and_random_numbers_are_left_as_they_were():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.LIF(), nn.Dropout(0.5), nn.Linear(3, 2), nn.LIF())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.rand(3, 4, 4)
    state = torch.get_rng_state()
    found = cost(net, x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters())
    assert cost(net, x) == found


def test_the_table_shows_every_count():
    found = cost(models.mlp([6, 7, 3], activation="tanh"), torch.rand(1, 5, 6), samples=1000)
    text = repr(found)
    for number in (found.forward, found.back, found.feedback, found.update, found.kept, found.held):
        assert f"{number:,}" in text
    assert f"F³ saves {found.saved:,} elements; {found.saved_at_peak:,} with the activations of one block" in text
    assert "3,000 errors (1,000 samples)" in text


class Bilinear(nn.Layer):
    """``x W x``, with products that only it knows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(4, 4))

    def forward(self, x):
        return x * (x @ self.weight)


class Hidden(torch.nn.Module):
    """Layers inside, in an order that only ``forward`` knows."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("net", "options", "error", "text"),
    [
        (lambda: nn.Sequential(Bilinear(), nn.Linear(4, 2)), {}, UserError, "multiply-adds of Bilinear are not known"),
        (lambda: nn.Sequential(Hidden(), nn.Linear(4, 2)), {}, UserError, "Hidden, in the block that ends with 0,"),
        (lambda: nn.Linear(4, 2), {}, UserError, "does not run its layers one"),
        (lambda: nn.Sequential(nn.Linear(4, 2)), {"samples": -1}, UserError, "at least 0, got -1"),
        (lambda: nn.Sequential(nn.Linear(4, 2)), {"samples": True}, UserError, "at least 0, got True"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), {"x": torch.rand(4)}, ShapeError, r"\[T, B, …\].*got shape \[4\]"),
        (lambda: nn.Sequential(nn.Linear(4, 2)), {"x": torch.rand(1, 0, 4)}, ShapeError, "a sample at least"),
        (lambda: nn.Sequential(nn.Linear(4, 2)), {"x": torch.rand(1, 2, 3, 4)}, ShapeError, r"returns \[1, 2, 3, 2\]"),
    ],
)
def test_what_cannot_be_counted_is_said(net, options, error, text):
    with pytest.raises(error, match=text):
        cost(net(), options.pop("x", torch.rand(1, 2, 4)), **options)


def test_a_layer_of_ones_own_tells_its_products():
    class Known(Bilinear):
        pass

    @products.register
    def _(layer: Known, given: torch.Tensor, out: torch.Tensor) -> Products:
        count = out.numel() * 4
        return Products(count, 0, count, count)

    net = nn.Sequential(Known(), nn.Tanh(), nn.Linear(4, 2))
    assert cost(net, torch.rand(1, 3, 4)).forward == 16 + 8


def test_rules_keep_their_own():
    """The memory is that of the rule: surrogate gradients and LFP-ε keep other tensors."""
    net, x = models.lif_mlp([5, 6, 2]), torch.rand(3, 4, 5)
    lfp, surrogate = cost(net, x), cost(net, x, rule=rules.Surrogate())
    assert lfp.forward == surrogate.forward
    assert all(type(layer.rule) is rules.Epsilon for layer in net.modules() if isinstance(layer, nn.Linear))
