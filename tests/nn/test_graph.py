"""The layers of a network: what they are, how they follow each other, and what comes out of them."""

import pytest
import torch
import torch.nn.functional as F

import spikelfp
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.models import ModelSpec, build
from spikelfp.nn import graph
from spikelfp.nn.graph import INPUT, OUTPUT, UNKNOWN

torch.manual_seed(0)
NEURONS = [nn.LIF(), nn.Synaptic(), nn.RecurrentLIF(4), nn.RecurrentSynaptic(4), nn.RecurrentALIF(4)]


class Own(nn.Layer):
    """A neuron of a user's own: traits, and no base of neurons."""

    fires = True
    has_membrane = True
    arguments = ("gain",)

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain
        self.inner = torch.nn.Linear(3, 3)  # neurons count as one, whatever they are made of

    def forward(self, x):
        return self.run(x)[0]

    def run(self, x, state=None):
        return (x * self.gain > 0.5).float(), x[-1]


class Stepped(torch.nn.Module):
    """A forward of a user's own, through time by hand, with a function between layers."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.lif = nn.LIF(0.9, 0.3)
        self.out = nn.Linear(6, 3)
        self.li = nn.LI()

    def forward(self, x):
        lif = li = None
        outputs = []
        for t in range(len(x)):
            s, lif = self.lif.run(torch.relu(self.fc(x[t : t + 1])), lif)
            u, li = self.li.run(self.out(s), li)
            outputs.append(u)
        return torch.cat(outputs)


class Branching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.lif = nn.Linear(4, 3), nn.Linear(4, 3), nn.LIF()
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        s = self.lif(self.a(x) + 2 * self.b(x))
        return self.last(s) * 0.5


def resnet():
    return build(ModelSpec("lif-resnet18", (1, 8, 8), 3, hidden=(), width=4))


def vit():
    return build(ModelSpec("lif-vit", (1, 8, 8), 3, hidden=(), width=8, depth=1, heads=2, patch=4))


# traits


@pytest.mark.parametrize("layer", NEURONS, ids=lambda each: type(each).__name__)
def test_neurons_state_what_they_are(layer):
    assert [name for name in ("fires", "has_membrane", "has_threshold") if graph.has_trait(layer, name)] == [
        "fires", "has_membrane", "has_threshold",
    ]  # fmt: skip
    assert not graph.has_trait(layer, "has_weights")


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.MaxPool2d(2), torch.randn(3, 2, 4, 4, 4)),
        (nn.AvgPool2d(2), torch.randn(3, 2, 4, 4, 4)),
        (nn.AdaptiveAvgPool2d(2), torch.randn(3, 2, 4, 4, 4)),
        (nn.Linear(4, 3), torch.randn(3, 2, 4)),
        (nn.Linear(4, 3, bias=False), torch.randn(3, 2, 4)),
        (nn.Flatten(), torch.randn(3, 2, 4, 4)),
        (nn.FlattenAxes(0, 1), torch.randn(3, 2, 4, 4)),
        (nn.Dropout(), torch.randn(3, 2, 4)),
        (nn.Noise(), torch.randn(3, 2, 4)),
        (nn.Identity(), torch.randn(3, 2, 4)),
        (nn.ReLU(), torch.randn(3, 2, 4)),
        (nn.LeakyReLU(0.2), torch.randn(3, 2, 4)),
        (nn.GELU(), torch.randn(3, 2, 4)),
        (nn.ELU(), torch.randn(3, 2, 4)),
        (nn.SiLU(), torch.randn(3, 2, 4)),
        (nn.Tanh(), torch.randn(3, 2, 4)),
        (nn.Sigmoid(), torch.randn(3, 2, 4)),
        (nn.Heaviside(), torch.randn(3, 2, 4)),
        (nn.Scale(2.0), torch.randn(3, 2, 4)),
        (nn.Scale(2.0, 1.0), torch.randn(3, 2, 4)),
        (nn.ToTokens(), torch.randn(3, 2, 4, 4, 4)),
        (nn.FirstToken(), torch.randn(3, 2, 4, 4)),
        (nn.MeanToken(), torch.randn(3, 2, 4, 4)),
        (nn.ClassToken(4), torch.randn(3, 2, 4, 4)),
        (nn.PositionEmbedding(4, 4), torch.randn(3, 2, 4, 4)),
        (nn.LayerNorm(4), torch.randn(3, 2, 4)),
        (nn.BatchNorm1d(4), torch.randn(3, 2, 4)),
        *((twin, torch.randn(3, 2, 4)) for twin in (torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Linear(4, 3))),
    ],
    ids=lambda each: repr(each) if isinstance(each, torch.nn.Module) else "",
)
def test_traits_hold_of_what_a_layer_computes(layer, x):
    layer = layer.eval()
    spikes = (x > 0).float()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3)  # a bias of 0 passes anything on
        scaled = torch.allclose(layer(3 * x), 3 * layer(x), atol=1e-6)
        binary = bool(((layer(spikes) == 0) | (layer(spikes) == 1)).all())
        fires = bool(((layer(x) == 0) | (layer(x) == 1)).all())
    if not graph.has_trait(layer, "has_weights"):
        assert graph.has_trait(layer, "passes_scale") <= scaled
        if not isinstance(layer, nn.Heaviside):
            assert scaled <= graph.has_trait(layer, "passes_scale")
    assert graph.has_trait(layer, "passes_spikes") <= binary
    assert graph.has_trait(layer, "fires") == fires


def test_a_forward_of_ones_own_does_not_inherit_what_the_old_one_passes():
    class Squared(nn.AvgPool2d):
        def forward(self, x):
            return super().forward(x) ** 2

    class Stated(Squared):
        passes_scale = True

    assert not graph.has_trait(Squared(2), "passes_scale")
    assert graph.has_trait(Stated(2), "passes_scale")


def test_an_unknown_trait_is_refused():
    with pytest.raises(UserError, match="got 'spikes'"):
        graph.has_trait(nn.LIF(), "spikes")


# arguments

REMADE = [
    nn.Linear(3, 2, bias=False), nn.Conv2d(2, 4, 3, padding=1, stride=2, bias=False), nn.BatchNorm1d(3, 1e-3),
    nn.BatchNorm2d(3, affine=False), nn.LayerNorm(3, bias=False), nn.MaxPool2d(2, 1), nn.AvgPool2d(2, ceil_mode=True),
    nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.FlattenAxes(0, 1), nn.Dropout(0.3), nn.Noise(0.2), nn.Identity(),
    nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(0.5), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(True), nn.Heaviside(),
    nn.Scale(2.0, 1.0), nn.ToTokens(), nn.FirstToken(), nn.MeanToken(), nn.ClassToken(5), nn.PositionEmbedding(4, 5),
    nn.TokenNorm(4), nn.LIF(0.5, 2.0, "zero", "increment"), nn.LIF(0.25, learn_beta=True), nn.Synaptic(0.3, 0.5),
    nn.RecurrentLIF(3, 0.5), nn.RecurrentSynaptic(3, 0.25, 0.5), nn.RecurrentALIF(3, 0.5, phi=0.25),
    nn.LI(0.25), nn.MultiSpikeLIF(0.5, 2.0),
    nn.Alpha(0.75, 0.5), nn.ALIF(0.5, phi=0.25), nn.LIF(torch.tensor([0.5, 0.25]), learn_beta=True),
    nn.Delay(3), nn.Delay(torch.tensor([1, 0, 4])), nn.Taps((0, 3)), nn.TapLinear(3, 2, 4, bias=False),
    nn.Lapicque(0.75, R=2.0, time_step=0.5), nn.Lapicque(R=3.0, C=2.0),
    torch.nn.Linear(3, 2, bias=False), torch.nn.Flatten(2), torch.nn.GELU("tanh"), torch.nn.Dropout(0.2),
    torch.nn.MaxPool2d(2, return_indices=True), torch.nn.Conv2d(2, 4, 3, groups=2),
    *([nn.BatchNorm1d(3, bias=False)] if "bias" in nn.BatchNorm1d.arguments else []),
]  # fmt: skip


@pytest.mark.parametrize("layer", REMADE, ids=repr)
def test_arguments_make_a_layer_again(layer):
    again = graph.rebuild(type(layer), graph.arguments(layer))
    assert type(again) is type(layer)
    assert repr(again) == repr(layer)
    assert [(n, p.shape) for n, p in again.named_parameters()] == [(n, p.shape) for n, p in layer.named_parameters()]
    assert repr(graph.arguments(again)) == repr(graph.arguments(layer))


def test_every_layer_without_layers_inside_tells_its_arguments():
    made = {type(layer) for layer in REMADE}
    whole = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Layer)}
    abstract = {nn.Layer, nn.Activation, nn.Neurons}
    attention = {nn.SelfAttention, nn.SpikingSelfAttention}
    containers = {nn.Sequential, nn.Block, nn.DelayLinear, nn.Sum, nn.Concat, nn.Recomputed} | attention
    assert whole - made - abstract - containers == set()


def test_arguments_that_are_not_told_missing_or_too_many():
    class Silent(nn.Layer):
        pass

    with pytest.raises(UserError, match="Silent does not tell what it is made of: state arguments"):
        graph.arguments(Silent())
    with pytest.raises(UserError, match="Bilinear does not tell"):
        graph.arguments(torch.nn.Bilinear(1, 2, 3))
    with pytest.raises(UserError, match="LI is made of beta, got none: beta is missing"):
        graph.rebuild(nn.LI, {})
    with pytest.raises(UserError, match="tau is too many"):
        graph.rebuild(nn.LI, {"tau": 1, "beta": 0.5})
    assert graph.rebuild(Own, graph.arguments(Own(2.0))).gain == 2.0


# leaves and chains


def test_leaves_are_named_and_each_is_there_once():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(
        nn.Sequential(shared, nn.RecurrentLIF(4)), nn.Sum(shared, nn.Identity()), torch.nn.ModuleList(), Own(),
        nn.Recomputed(nn.Sequential(nn.Linear(4, 2), nn.LI())),
    )  # fmt: skip
    assert list(graph.leaves(net)) == ["0.0", "0.1", "1.branches.1", "3", "4.net.0", "4.net.1"]
    assert graph.leaves(net)["0.0"] is shared
    assert list(graph.leaves(nn.RecurrentLIF(3))) == [""]
    order = [layer for layer in net.modules() if layer in graph.leaves(net).values()]
    assert order == list(graph.leaves(net).values())


@pytest.mark.parametrize("make", [resnet, vit], ids=["resnet", "vit"])
def test_leaves_hold_every_parameter_of_a_model(make):
    net = make()
    held = {id(p) for layer in graph.leaves(net).values() for p in layer.parameters()}
    assert held == {id(p) for p in net.parameters()}


def test_a_chain_is_opened_with_the_names_of_both_places_of_a_layer():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(4, 4), relu, torch.nn.Sequential(nn.Linear(4, 4), relu), nn.RecurrentLIF(4))
    assert [name for name, _ in graph.chain(net)] == ["0", "1", "2.0", "2.1", "3"]
    assert graph.chain(net)[3][1] is relu


def test_chains_whose_order_is_not_known_are_refused():
    class Odd(nn.Sequential):
        def forward(self, x):
            return x

    class Reversed(torch.nn.Sequential):
        def forward(self, x):
            return x

    class Run(nn.Sequential):
        def run(self, x, state=None):
            return x, None

    with pytest.raises(UserError, match="Stepped is no Sequential"):
        graph.chain(Stepped())
    for kind in (Odd, Reversed, Run):
        with pytest.raises(UserError, match=f"{kind.__name__} has a forward or run of its own"):
            graph.chain(kind(nn.ReLU()))
        with pytest.raises(UserError, match=f"layer 1 .{kind.__name__}. has a forward or run of its own"):
            graph.chain(nn.Sequential(nn.ReLU(), kind(nn.ReLU())))


# neighbours


def test_structure_and_example_agree_on_a_chain_with_branches():
    net = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.LIF(0.9, 0.1),
        nn.Sum(nn.Sequential(nn.Linear(5, 5), nn.LIF(0.9, 0.1)), nn.Identity()), nn.Dropout(),
        nn.Concat(nn.Linear(5, 2), nn.Linear(5, 3)), nn.RecurrentLIF(5),
        nn.Recomputed(nn.Sequential(nn.Linear(5, 2), nn.LI()), 2),
    )  # fmt: skip
    known, seen = graph.neighbours(net), graph.neighbours(net, torch.rand(7, 2, 4))
    for found in (known, seen):
        assert found.drives == {
            "0": ("2",), "3.branches.0.0": ("3.branches.0.1",), "5.branches.0": ("6",), "5.branches.1": ("6",),
            "7.net.0": ("7.net.1",),
        }  # fmt: skip
        assert found.weights == {
            "2": ("0",), "3.branches.0.1": ("3.branches.0.0",), "6": ("5.branches.0", "5.branches.1"),
            "7.net.1": ("7.net.0",),
        }  # fmt: skip
        assert found.before["0"] == {INPUT}
        assert found.after["7.net.1"] == {OUTPUT}
        assert found.nearest("5.branches.0", lambda layer: layer is None or graph.has_trait(layer, "passes_scale")) == {
            "2", "3.branches.0.1",
        }  # fmt: skip


@pytest.mark.parametrize("make", [resnet, vit], ids=["resnet", "vit"])
def test_structure_and_example_agree_on_models(make):
    net = make().eval()
    known, seen = graph.neighbours(net), graph.neighbours(net, torch.rand(2, 2, 1, 8, 8))
    assert known.drives == seen.drives
    assert known.weights == seen.weights
    assert set().union(*known.before.values()) & {UNKNOWN} == set()
    assert all(known.weights.values()) or make is vit  # the neurons behind attention have no weights in front


def test_a_converted_network_tells_what_goes_where():
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2)
            self.again, self.fc = torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.Linear(32, 3)
            self.lif = nn.LIF()

        def forward(self, x):
            h = F.relu(self.norm(self.conv(x)))
            h = F.max_pool2d(h + self.again(h), 2)
            return self.lif(self.fc(h.flatten(1)))

    net = spikelfp.convert(Residual())
    known, seen = graph.neighbours(net), graph.neighbours(net, torch.rand(3, 2, 1, 8, 8))
    assert known.drives == seen.drives == {"conv": (), "again": (), "fc": ("lif",)}
    assert known.before["norm"] == {"conv"}
    assert known.before["again"] == {"relu"}
    assert known.nearest("fc", lambda layer: layer is None) == {"relu", "again"}


def test_a_forward_of_ones_own_is_unknown_until_it_runs():
    for net, x in ((Branching(), torch.rand(4, 2, 4)), (nn.Sequential(Branching(), nn.LIF()), torch.rand(4, 2, 4))):
        inner = "0." if isinstance(net, nn.Sequential) else ""
        known, seen = graph.neighbours(net), graph.neighbours(net, x)
        assert known.before[f"{inner}lif"] == {UNKNOWN}
        assert known.weights[f"{inner}lif"] == ()
        assert UNKNOWN in known.after[f"{inner}a"]
        assert seen.weights[f"{inner}lif"] == (f"{inner}a", f"{inner}b")
        assert seen.drives[f"{inner}last"] == (("1",) if inner else ())


def test_a_forward_through_time_by_hand_is_followed():
    seen = graph.neighbours(Stepped(), torch.rand(5, 2, 4))
    assert seen.drives == {"fc": ("lif",), "out": ("li",)}
    assert seen.weights == {"lif": ("fc",), "li": ("out",)}


def test_a_module_of_ones_own_tells_by_its_flow():
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.lif = nn.Linear(4, 4), nn.LIF()

        def forward(self, x):
            return self.lif(self.a(x)) + x

        def flow_inside(self, flow, given):
            return flow.function("sum", flow.through(self.lif, flow.through(self.a, given)), given)

    class Changed(Twice):
        def forward(self, x):
            return self.a(x)

    assert graph.neighbours(nn.Sequential(Twice(), nn.LI())).weights["0.lif"] == ("0.a",)
    assert graph.neighbours(nn.Sequential(Twice(), nn.LI())).before["1"] == {"<sum 1>"}
    assert graph.neighbours(nn.Sequential(Changed(), nn.LI())).before["1"] == {UNKNOWN}


def test_a_layer_that_runs_twice_has_the_neighbours_of_both_places():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.LIF(0.9, 0.1), shared, nn.LI())
    for found in (graph.neighbours(net), graph.neighbours(net, torch.rand(3, 2, 4))):
        assert found.before["0"] == {INPUT, "1"}
        assert found.drives == {"0": ("1", "3")}
        assert found.weights == {"1": ("0",), "3": ("0",)}


@pytest.mark.parametrize(
    ("net", "last"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.LIF(), nn.Flatten()), nn.LIF),
        (nn.Sequential(nn.Recomputed(nn.Sequential(nn.Linear(4, 3), nn.LI()))), nn.LI),
        (nn.Sum(nn.LIF(), nn.LIF()), None),
        (Stepped(), None),
        (nn.Sequential(nn.Flatten()), None),
        (Own(), Own),
    ],
    ids=["chain", "recomputed", "sum", "own", "nothing", "neuron"],
)
def test_the_layer_whose_outputs_are_those_of_the_network(net, last):
    found = graph.last_layer(net)
    assert found is None if last is None else type(found) is last


# outputs


def test_outputs_are_recorded_in_the_order_layers_ran_and_the_network_is_as_it_was():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.LIF(), nn.Sequential(nn.Dropout(), nn.Linear(5, 3)))
    net[1].eval()
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.rand(6, 2, 4)
    found = graph.record(net, x)
    assert list(found) == ["0", "1", "2", "3.0", "3.1"] == graph.run_order(net, x)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert not any("run" in vars(module) for module in net.modules())
    with torch.no_grad():
        plain = net.eval()(x)
    assert torch.equal(found["3.1"], plain)
    assert not found["3.1"].requires_grad


@pytest.mark.parametrize(
    "neuron", [nn.LIF(), nn.Synaptic(), nn.Alpha(0.5, 0.25), nn.LI()], ids=lambda each: type(each).__name__
)
def test_traces_are_recorded_with_their_membranes(neuron):
    net, x = nn.Sequential(nn.Linear(4, 4), neuron, nn.Linear(4, 2)), 3 * torch.rand(6, 2, 4)
    found = graph.record(net, x, trace=True)
    plain = graph.record(net, x)
    with torch.no_grad():
        trace, _ = neuron.run(plain["0"], trace=True)
    assert torch.equal(found["1"].membrane, trace.membrane)
    assert torch.equal(found["1"][0], plain["1"])
    assert torch.equal(found["2"], plain["2"])
    assert not any(each.requires_grad for each in found["1"])


def test_traces_of_steps_by_hand_are_one_and_neurons_without_any_are_named():
    net, x = Stepped(), torch.rand(6, 2, 4)
    found = graph.record(net, x, graph.is_neuron, trace=True)
    assert found["lif"].membrane.shape == (6, 2, 6)
    assert torch.equal(found["lif"].spikes, graph.record(net, x)["lif"])
    with pytest.raises(UserError, match=r"layer 0 .Own. has a membrane, but its run takes no trace=True"):
        graph.record(nn.Sequential(Own()), x, trace=True)


def test_a_network_is_as_it_was_where_it_fails():
    net = nn.Sequential(nn.Linear(4, 5), nn.LIF(), nn.Linear(4, 5))
    with pytest.raises(UserError, match="built for 4"):
        graph.record(net, torch.rand(3, 2, 4))
    assert net.training
    assert not net[0]._forward_hooks
    assert "run" not in vars(net[1])
    assert net.training
    assert torch.is_grad_enabled()


def test_what_runs_in_parts_is_recorded_whole():
    torch.manual_seed(1)
    inner = nn.Sequential(nn.Linear(4, 5), nn.LIF(0.9, 0.2), nn.Linear(5, 3), nn.LI())
    x = torch.rand(9, 2, 4)
    parts = nn.Recomputed(inner, 2)
    whole, cut = graph.record(inner, x), graph.record(nn.Sequential(parts), x)
    assert {f"0.net.{name}": None for name in whole}.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[f"0.net.{name}"]) for name in whole)
    assert parts.steps == 2


def test_steps_through_time_by_hand_are_one_sequence():
    net, x = Stepped(), torch.rand(6, 2, 4)
    found = graph.record(net, x, graph.is_neuron)
    assert list(found) == ["lif", "li"]
    assert found["lif"].shape == (6, 2, 6)
    with torch.no_grad():
        assert torch.equal(found["li"], net(x))


def test_a_layer_that_runs_twice_is_recorded_twice():
    lif = nn.LIF(0.9, 0.2)
    net, x = nn.Sequential(lif, nn.Linear(4, 4), lif), torch.rand(5, 2, 4)
    found = graph.record(net, x)
    assert list(found) == ["0", "1", "0:2"]
    assert torch.equal(found["0:2"], lif(net[1](found["0"])).detach())


@pytest.mark.parametrize("make", [resnet, vit], ids=["resnet", "vit"])
def test_models_are_recorded_layer_by_layer(make):
    net, x = make(), torch.rand(2, 3, 1, 8, 8)
    found = graph.record(net, x)
    assert set(found) == set(graph.leaves(net)) == set(graph.run_order(net, x))


def test_own_neurons_are_recorded_by_their_traits_and_nothing_else_is():
    net, x = nn.Sequential(nn.Linear(4, 3), Own(), nn.Linear(3, 2), nn.LI()), torch.rand(5, 2, 4)
    assert list(spikelfp.analysis.record(net, x)) == ["1"]
    rates = spikelfp.analysis.spike_rates(net, x)
    assert rates["1"] == pytest.approx(float((net[0](x) > 0.5).float().mean()))
