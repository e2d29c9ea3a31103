"""What from_nir reads, to_nir writes: random graphs of everything it takes, read, written, read again."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from nir_graphs import chain, graph

from hw_export import from_nir, to_nir
from hw_export.nir import read_chain
from hw_export.nir.chain import output_shape
from hw_export.simulators.base import dense_layers
from spikelfp.errors import UserError


class Random:
    """Makes graphs of random nodes; ``shape``: of what flows behind the last one."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.shape = tuple(self.pick([(5,), (5,), (3, 5), (2, 6, 6), (4, 5, 7), (1, 1, 4)]))

    def pick(self, options):
        return options[self.rng.integers(len(options))]

    def full(self, low, high, *, varied=0.3):
        """Numbers of the present shape, the same for all, or differing."""
        if self.rng.random() < varied:
            return self.rng.uniform(low, high, self.shape)
        return np.full(self.shape, self.rng.uniform(low, high))

    def graph(self, length):
        start, nodes, feedback = self.shape, [], {}
        for _ in range(length):
            node = getattr(self, self.pick(self.kinds()))()
            if node is None:
                continue
            if isinstance(node, (nir.LIF, nir.CubaLIF)) and self.rng.random() < 0.3:
                feedback[len(nodes)] = self.weights_back()
            nodes.append(node)
            if not isinstance(node, (nir.LIF, nir.CubaLIF, nir.IF, nir.I, nir.LI, nir.CubaLI)):
                described = {"type": type(node).__name__, **vars(node)}
                self.shape = output_shape("n", described, self.shape)
        return graph(start, self.shape, *chain(*nodes, feedback=feedback))

    def kinds(self):
        common = ["affine", "linear", "scale", "threshold", "lif", "lif", "fire", "cuba"]
        return [*common, "integrate", "leaky", "current", "flatten"] + (
            ["conv", "conv", "conv", "pool", "pool"] if len(self.shape) == 3 else []
        )

    def affine(self):
        rows = int(self.rng.integers(1, 7))
        return nir.Affine(self.rng.normal(size=(rows, self.shape[-1])) * 2, self.rng.normal(size=rows))

    def linear(self):
        return nir.Linear(self.rng.normal(size=(int(self.rng.integers(1, 7)), self.shape[-1])) * 2)

    def conv(self):
        channels, *size = self.shape
        groups = self.pick([g for g in (1, 2, 4) if channels % g == 0])
        kernel = [int(self.rng.integers(1, min(3, n) + 1)) for n in size]
        padding = self.pick([0, (1, 0), 1, "same", "valid"])
        stride = 1 if padding == "same" else self.pick([1, (2, 1)])
        dilation = self.pick([1, 1, (1, 2)]) if min(size) > 4 else 1
        rows = groups * int(self.rng.integers(1, 4))
        weight = self.rng.normal(size=(rows, channels // groups, *kernel))
        said = self.pick([None, tuple(size)])
        return nir.Conv2d(said, weight, stride, padding, dilation, groups, self.rng.normal(size=rows))

    def pool(self):
        kernel = [int(self.rng.integers(1, min(3, n) + 1)) for n in self.shape[1:]]
        padding = [int(self.rng.integers(0, k // 2 + 1)) for k in kernel]
        sizes = np.array(kernel), np.array([self.pick([1, 2]), self.pick([1, 2])]), np.array(padding)
        return self.pick([nir.SumPool2d, nir.AvgPool2d])(*sizes)

    def flatten(self):
        start = int(self.rng.integers(len(self.shape)))
        return nir.Flatten({"input": np.array(self.shape)}, start, int(self.rng.integers(start, len(self.shape))))

    def scale(self):
        return nir.Scale(self.full(-1, 2))

    def threshold(self):
        return nir.Threshold(self.full(-0.3, 0.5) * self.pick([0, 1, 1]))

    def lif(self):
        r, reset = self.full(0.5, 2), self.pick([0.0, 0.0, -0.05])
        leak = self.full(-0.1, 0.1) * self.pick([0, 0, 1])
        tau = np.full(self.shape, self.pick([1.5e-4, 1e-3, 1.0]))
        return nir.LIF(tau, r, leak, self.full(0.05, 0.2), np.full(self.shape, reset))

    def fire(self):
        return nir.IF(np.full(self.shape, self.pick([1.0, 1e4])), self.full(0.3, 2), np.zeros(self.shape))

    def cuba(self):
        taus = [np.full(self.shape, self.pick([1e-4, 3e-4, 2e-3])), np.full(self.shape, 1e-3)]
        rest = np.full(self.shape, self.pick([0.0, -0.02]))
        return nir.CubaLIF(*taus, self.full(0.5, 2), rest, self.full(0.05, 0.2), rest, w_in=self.full(0.5, 3))

    def integrate(self):
        return nir.I(np.full(self.shape, self.pick([1.0, 1e4])))

    def leaky(self):
        return nir.LI(np.full(self.shape, 5e-4), self.full(0.5, 2), self.full(-1, 1) * self.pick([0, 1]))

    def current(self):
        taus = [np.full(self.shape, self.pick([1e-4, 3e-4])), np.full(self.shape, 1e-3)]
        return nir.CubaLI(*taus, self.full(0.5, 2), self.full(-1, 1) * self.pick([0, 1]), w_in=self.full(0.5, 2))

    def weights_back(self):
        if len(self.shape) == 3 and self.rng.random() < 0.5:
            weight = self.rng.normal(size=(self.shape[0], self.shape[0], 3, 1)) * 0.3
            return nir.Conv2d(self.shape[1:], weight, 1, (1, 0), 1, 1, np.zeros(self.shape[0]))
        return nir.Linear(self.rng.normal(size=(self.shape[-1], self.shape[-1])) * 0.3)


def rewritten(seed, folder, dialect="default"):
    """Whether a random graph is read at all; it is written then, and nothing that comes back differs."""
    random = Random(seed)
    made = random.graph(int(random.rng.integers(0, 6)))
    reset, text, net = random.pick(["zero", "subtract", "immediate"]), "", None
    try:
        net = from_nir(made, reset=reset)
    except UserError as error:
        text = str(error)
    if net is None:
        assert "contradicts" in text or "differ within the channels" in text, text
        return False
    first, second = folder / "first.nir", folder / "second.nir"
    to_nir(net, first, dialect, write_if=True)
    back = from_nir(first)
    assert back.input_shape == net.input_shape
    x = (torch.rand(12, 2, *net.input_shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    with torch.no_grad():
        ours, theirs = net(x), back(x)
    assert torch.equal(ours, theirs), f"seed {seed}: {int((ours != theirs).sum())} of {ours.numel()} differ"
    to_nir(back, second, dialect, write_if=True)
    assert first.read_bytes() == second.read_bytes()
    return True


@pytest.mark.parametrize("dialect", ["default", "std"])
def test_random_graphs_come_back_as_they_were_read(tmp_path, dialect):
    read = [rewritten(seed, tmp_path, dialect) for seed in range(40)]
    assert sum(read) > 30


def test_nir_itself_reads_what_it_types_rightly_and_is_told_of_the_rest(tmp_path):
    told = 0
    for seed in range(40):
        random = Random(seed)
        try:
            net = from_nir(random.graph(3))
        except UserError:
            continue
        to_nir(net, tmp_path / "a.nir", write_if=True)
        kept = nir.read(tmp_path / "a.nir", type_check=False)
        if "read_with" not in kept.metadata:
            nir.read(tmp_path / "a.nir")
        else:
            told += 1
            assert kept.metadata["read_with"] == "nir.read(path, type_check=False)"
            with pytest.raises(ValueError, match="type mismatch"):
                nir.read(tmp_path / "a.nir")
    assert 3 < told < 30


def full(*shape, value=0.0):
    return np.full(shape, value)


def leaky(*shape, v_leak=0.0):
    return nir.LIF(*(full(*shape, value=v) for v in (1e-3, 1.0, v_leak, 0.1, 0.0)))


def weights(*shape):
    return np.random.default_rng(3).normal(size=shape)


BORDERED = nir.AvgPool2d(np.array([3, 3]), np.array([2, 2]), np.array([1, 1]))


@pytest.mark.parametrize(
    ("shape", "out", "nodes", "written"),
    [
        ((5,), (4,), [nir.Linear(weights(4, 5)), nir.Threshold(full(4, value=0.2))], "Affine Threshold"),
        ((5,), (5,), [nir.Threshold(np.linspace(0.1, 0.9, 5))], "Threshold"),
        ((4, 3, 4), (2, 3, 4), [nir.Conv2d((3, 4), weights(2, 2, 1, 3), 1, (0, 1), 1, 2, weights(2))], "Conv2d"),
        ((2, 6, 6), (4, 6, 6), [nir.Conv2d((6, 6), weights(4, 2, 2, 3), 1, "same", 1, 1, weights(4))], "Conv2d"),
        ((2, 5, 5), (2, 3, 3), [BORDERED], "AvgPool2d"),
        ((2, 5, 5), (2, 3, 3), [BORDERED, leaky(2, 3, 3)], "SumPool2d LIF"),
        ((3, 5), (3, 4), [nir.Affine(weights(4, 5), weights(4)), leaky(3, 4)], "Affine LIF"),
        ((1, 5), (1, 4), [nir.Affine(weights(4, 5), weights(4)), leaky(1, 4)], "Affine LIF"),
        ((5,), (5,), [leaky(5, v_leak=0.05)], "LIF"),
        ((2, 3, 4), (24,), [nir.Flatten({"input": np.array([2, 3, 4])}, 0, -1), leaky(24)], "Flatten LIF"),
        ((5,), (5,), [nir.LI(full(5, value=1e-3), full(5, value=2.0), full(5, value=3.0))], "Scale LI"),
        ((5,), (5,), [], ""),
    ],
)  # fmt: skip
def test_kinds_of_nodes_that_are_written_as_they_were_read(tmp_path, shape, out, nodes, written):
    net = from_nir(graph(shape, out, *chain(*nodes)))
    made = to_nir(net, tmp_path / "a.nir")
    kinds = [type(node).__name__ for node in made.nodes.values()]
    assert " ".join(kinds[1:-1]) == written
    x = (torch.rand(20, 2, *shape, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    assert net(x).any()
    assert torch.equal(from_nir(tmp_path / "a.nir")(x), net(x))


def test_readers_of_matrices_are_given_every_linear_node(tmp_path):
    """Grouped, flat, unevenly padded convolutions, borders in averages, scales: one matrix, the layers' own."""
    nodes = [
        nir.Conv2d((4, 5), weights(4, 1, 2, 2), 1, "same", 1, 2, weights(4)),
        nir.AvgPool2d(*(np.array([n, m]) for n, m in ((3, 2), (2, 1), (1, 1)))), nir.Scale(weights(4, 2, 6)),
        nir.Conv2d((2, 6), weights(3, 4, 1, 3), 1, 0, 1, 1, weights(3)), leaky(3, 2, 4),
    ]  # fmt: skip
    net = from_nir(graph((2, 4, 5), (3, 2, 4), *chain(*nodes)))
    to_nir(net, tmp_path / "a.nir")
    (stage,) = dense_layers(read_chain(tmp_path / "a.nir"))
    x = torch.rand(1, 6, 2, 4, 5)
    with torch.no_grad():
        current = net[:-1](x)[0].flatten(1).double().numpy()
    gain = float(stage.threshold[0]) / net[-1].threshold  # averages are written as sums
    assert gain == pytest.approx(6)
    given = x[0].flatten(1).double().numpy()
    np.testing.assert_allclose(given @ stage.weight.T + stage.bias, gain * current, atol=1e-4)
