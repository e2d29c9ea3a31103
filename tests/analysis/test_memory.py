"""Memory of training steps as it was, against what the accounting says (F³, section 3.4)."""

import pytest
import torch

from spikelfp import methods, models, nn
from spikelfp.analysis import HeldMemory, cost
from spikelfp.methods import Batch
from spikelfp.rules import lending
from spikelfp.tasks import Classification

WIDTH, CLASSES, BATCH = 40, 3, 20


def batch(x):
    numbers = torch.arange(x.shape[1])
    return Batch(x, numbers % CLASSES, indices=numbers)


def step(method, net, x):
    """Memory of one step of training, after one in which kernels are compiled and feedback weights drawn."""
    method.suit(net, Classification())
    method.prepare(net)
    given = batch(x)
    with lending(net, method.rule):
        for _ in range(2):
            net.zero_grad()
            with HeldMemory(net, x, given.targets) as held:
                method.begin_update()
                method.learn(net, given)
    return held


def mlp(hidden):
    torch.manual_seed(0)
    return models.mlp([8, *[WIDTH] * hidden, CLASSES], activation="tanh")


LOSS = 4 * BATCH * CLASSES
"""Elements that the loss may keep: probabilities and targets of the outputs."""


@pytest.mark.parametrize("hidden", [1, 3, 10])
def test_backpropagation_keeps_the_activations_of_all_layers(hidden):
    net, x = mlp(hidden), torch.rand(1, BATCH, 8)
    found, held = cost(net, x), step(methods.GradientDescent(), net, x)
    assert found.kept == hidden * WIDTH * BATCH
    assert 0 <= held.saved / 4 - found.kept <= LOSS


@pytest.mark.parametrize("hidden", [1, 3, 10])
def test_blocks_hold_the_activations_of_one_layer(hidden):
    """Input and output of a layer, however deep the network is."""
    net, x = mlp(hidden), torch.rand(1, BATCH, 8)
    method = methods.F3()
    found, held = cost(net, x, samples=BATCH), step(method, net, x)
    assert found.held == min(hidden, 2) * WIDTH * BATCH
    assert 0 <= held.saved / 4 - found.held <= (LOSS if hidden == 1 else 0)
    assert sum(weights.numel() for weights in method.weights.values()) == found.feedback_weights
    assert method.table.errors.numel() == found.error_table


def test_the_peak_of_all_tensors_grows_with_depth_under_backpropagation_alone():
    """Backpropagation: one more activation a layer at the end of the forward pass. F³: the update of its weights."""
    x = torch.rand(1, 10 * BATCH, 8)

    def growth(method):
        deep, flat = (step(method(), net, x).peak for net in (mlp(12), mlp(6)))
        return (deep - flat) / 6

    assert growth(methods.GradientDescent) == 4 * WIDTH * 10 * BATCH
    assert growth(methods.F3) == 4 * WIDTH * (WIDTH + 1)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("hidden", [2, 5])
def test_spiking_networks(hidden, constant):
    """LFP keeps what each layer needs for its scan through time, and F³ for one layer at a time."""
    torch.manual_seed(0)
    net = models.lif_mlp([8, *[WIDTH] * hidden, CLASSES], threshold=0.1)
    x = nn.constant(torch.rand(BATCH, 8), 6) if constant else (torch.rand(6, BATCH, 8) < 0.4).float()
    found = cost(net, x)
    lfp, f3 = step(methods.LFP(Classification().reward(True)), net, x), step(methods.F3(), net, x)
    assert found.kept > hidden / 2 * found.held
    assert lfp.saved / 4 == found.kept
    assert f3.saved / 4 == found.held


def test_the_transformer_of_the_paper():
    torch.manual_seed(0)
    net = models.vit(
        (1, 8, 8), CLASSES, dim=8, depth=3, heads=2, activation="tanh", tokens="all", positions=False, head_width=20
    )
    x = torch.rand(1, BATCH, 1, 8, 8)
    found = cost(net, x)
    assert 0 <= step(methods.GradientDescent(), net, x).saved / 4 - found.kept <= LOSS
    assert step(methods.F3(), net, x).saved / 4 == found.held


def test_what_is_shared_counts_once_and_what_was_given_not_at_all():
    weight, x = torch.rand(4, 4, requires_grad=True), torch.rand(8, 4)
    with HeldMemory(x, weight) as held:
        hidden = x @ weight  # keeps x
        out = torch.tanh(hidden)  # keeps its output
        again = out[:4] * out[4:]  # keeps two parts of it
    assert held.saved == 4 * 32
    assert held.peak == 4 * (32 + 32 + 16)
    del hidden
    again.sum().backward()
    assert weight.grad.any()
    with HeldMemory() as held:
        (x @ weight).tanh().sum().backward()
        (x @ weight).sum().backward()
    assert held.saved == 4 * (32 + 32)  # x, and the output of tanh, of one pass at a time


def test_sparse_tensors_count_their_indices_and_values():
    x, weight = torch.eye(5).to_sparse(), torch.rand(5, 2, requires_grad=True)
    with HeldMemory() as held:
        out = torch.sparse.mm(x, weight)
    assert out.requires_grad
    assert held.saved == 5 * 2 * 8 + 5 * 4
