"""snnTorch models with a forward of their own: what is found by watching it, what is refused, training in place."""

import copy

import interop_nets as nets
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import utils

import hw_export
from spikelfp import TemporalTrainer, data, models, nn
from spikelfp.errors import UserError
from spikelfp.interop import ConversionError, from_snntorch, to_snntorch
from spikelfp.quantized import Quantization, WeightGrids


@pytest.mark.parametrize("neuron", [{"threshold": 0.5}, {"threshold": 0.5, "reset_mechanism": "zero"}])
def test_a_tutorial_model_is_converted_in_the_order_it_runs(neuron):
    model, x = nets.Tutorial(**neuron), torch.rand(7, 64)
    net = from_snntorch(model, example=x)
    assert [name for name, _ in net.named_children()] == ["fc1", "lif1", "fc2", "lif2"]
    assert all(a is b for a, b in zip(net.parameters(), model.parameters(), strict=True))
    with torch.no_grad():
        spikes, _ = model(x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(net(nn.constant(x, model.steps)), spikes)
    as_list = from_snntorch([model.fc1, model.lif1, model.fc2, model.lif2])
    assert torch.equal(as_list(nn.constant(x, model.steps)), spikes)


class Convolutional(torch.nn.Module):
    """Containers, pooling used twice, a view, sequences with the batch first, and hidden states that stay."""

    def __init__(self, init_hidden=True):
        super().__init__()
        self.out = snn.Leaky(0.8, 0.2, init_hidden=True, output=True)  # defined first, runs last
        self.pool = torch.nn.MaxPool2d(2)
        self.block = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.ReLU(inplace=True))
        self.lif = snn.Leaky(0.9, 0.1, init_hidden=True)
        self.rec = snn.RLeaky(0.9, linear_features=8, threshold=0.2)
        self.syn = snn.Synaptic(0.5, 0.5, 0.3, init_hidden=True)
        self.fc = torch.nn.ModuleList([torch.nn.Linear(12, 8), torch.nn.Linear(8, 6), torch.nn.Linear(6, 4)])
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        spk, mem = self.rec.init_rleaky()
        outputs = []
        for t in range(x.shape[1]):
            maps = self.pool(self.lif(self.pool(self.block(x[:, t]))))
            spk, mem = self.rec(self.fc[0](maps.view(len(x), -1)), spk=spk, mem=mem)
            hidden = self.dropout(self.syn(self.fc[1](spk)))
            outputs.append(self.out(self.fc[2](hidden))[0])
        return torch.stack(outputs, 1)


def test_containers_views_and_hidden_states():
    model, x = Convolutional(), torch.rand(5, 9, 1, 8, 8)
    model(x)  # leaves hidden states behind
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    net = from_snntorch(model, example=x)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert model.dropout.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name])
    assert [name for name, _ in net.named_children()] == [
        "block_0", "block_1", "pool", "lif", "pool_2", "flatten_fc_0", "fc_0", "rec", "fc_1", "syn", "dropout", "fc_2",
        "out",
    ]  # fmt: skip
    for neuron in (model.out, model.lif, model.syn):
        neuron.reset_mem()
    with torch.no_grad():
        spikes = model.eval()(x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(net.eval()(x.transpose(0, 1)), spikes.transpose(0, 1))


class OneStep(torch.nn.Module):
    """A forward of one step that takes and returns the states, as the documentation of ``Leaky`` writes it."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif = torch.nn.Linear(5, 4), snn.Leaky(0.5, 0.1)

    def forward(self, x, mem):
        return self.lif(self.fc(x), mem)


def test_an_example_of_several_arguments():
    model, x = OneStep(), torch.rand(3, 5)
    net = from_snntorch(model, example=(x, torch.zeros(3, 4)))
    assert torch.equal(net(x.unsqueeze(0))[0], model(x, torch.zeros(3, 4))[0])
    with pytest.raises(ConversionError, match=r"'lif'.*from step 0 on.*from rest"):
        from_snntorch(model, example=(x, torch.full((3, 4), 5.0)))


def test_a_readout_by_its_membrane():
    model, x = nets.Tutorial(threshold=0.5), torch.rand(4, 64)
    model.lif2 = snn.Leaky(0.9, reset_mechanism="none")
    net = from_snntorch(model, example=x, membrane_output=True)
    torch.testing.assert_close(net(nn.constant(x, model.steps)), model(x)[1])


class Variant(nets.Tutorial):
    """The tutorial's model with another step."""

    def __init__(self, step):
        super().__init__(steps=5, threshold=0.2)
        self.step = step

    def forward(self, x):
        mems = [self.lif1.init_leaky(), self.lif2.init_leaky()]
        outputs = [self.step(self, x, mems, t) for t in range(self.steps)]
        return torch.stack(outputs)


def neuron(lif, current, mems, k):
    spk, mems[k] = lif(current, mems[k])
    return spk


def functional_pooling(net, x, mems, t):
    spk = neuron(net.lif1, net.fc1(x), mems, 0)
    return neuron(net.lif2, net.fc2(F.avg_pool1d(spk, 3, 1, 1)), mems, 1)


def skip(net, x, mems, t):
    spk = neuron(net.lif1, net.fc1(x), mems, 0)
    return neuron(net.lif2, net.fc2(spk + (x.sum() > 0)), mems, 1)


def scaled_input(net, x, mems, t):
    return neuron(net.lif2, net.fc2(neuron(net.lif1, net.fc1(x / 2), mems, 0)), mems, 1)


def shifted(net, x, mems, t):
    return neuron(net.lif2, net.fc2(neuron(net.lif1, net.fc1(x) + 1, mems, 0)), mems, 1)


def only_at_first(net, x, mems, t):
    if t == 0:
        net.current = net.fc1(x)
    return neuron(net.lif2, net.fc2(neuron(net.lif1, net.current, mems, 0)), mems, 1)


def twice_a_step(net, x, mems, t):
    spk = neuron(net.lif1, net.fc1(x), mems, 0)
    return neuron(net.lif2, net.fc2(neuron(net.lif1, spk, mems, 0)), mems, 1)


def forgetting(net, x, mems, t):
    mems[0] = mems[0] * (t != 3)
    return neuron(net.lif2, net.fc2(neuron(net.lif1, net.fc1(x), mems, 0)), mems, 1)


def no_neurons(net, x, mems, t):
    return net.fc2(net.fc1(x))


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (functional_pooling, "output of 'lif1' is not what goes into 'fc2'"),
        (skip, "output of 'lif1' is not what goes into 'fc2'"),
        (scaled_input, "the example is not what goes into 'fc1'"),
        (shifted, "output of 'fc1' is not what goes into 'lif1'"),
        (only_at_first, "once a step and in the same order .*fc1 1, lif1 5"),
        (twice_a_step, "once a step and in the same order .*lif1 10"),
        (forgetting, "'lif1'.*from step 3 on"),
        (no_neurons, "called no neurons"),
    ],
)
def test_a_forward_that_is_no_chain_is_refused(step, named):
    model = Variant(step)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match=named):
        from_snntorch(model, example=torch.rand(3, 64) + 0.1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_silence_proves_nothing():
    """Neurons that never fire return zeros, and so does whatever doubles them."""
    model = Variant(lambda net, x, mems, t: neuron(net.lif2, net.fc2(2 * neuron(net.lif1, x, mems, 0)), mems, 1))
    model.lif1.threshold.fill_(100)
    with pytest.raises(UserError, match=r"output of 'lif1' is not what goes into 'fc2'.*example is silent"):
        from_snntorch(model, example=torch.rand(3, 128))
    model.step = lambda net, x, mems, t: neuron(net.lif2, net.fc2(neuron(net.lif1, x, mems, 0)), mems, 1)
    assert len(from_snntorch(model, example=torch.rand(3, 128))) == 3


def test_without_an_example_the_order_is_not_guessed():
    with pytest.raises(UserError, match=r"Tutorial has a forward of its own.*example=.*as a list"):
        from_snntorch(nets.Tutorial())
    with pytest.raises(UserError, match="no layers"):
        from_snntorch([])
    with pytest.raises(UserError, match="did you mean 'inflow'"):
        from_snntorch([snn.Leaky(0.9)], denominator="inflows")


def test_floor_and_margin_of_all_neurons():
    chain = [torch.nn.Linear(4, 3), snn.Leaky(0.9), torch.nn.Linear(3, 2), snn.Synaptic(0.5, 0.9)]
    net = from_snntorch(chain, floor=0.5, margin=0.75)
    assert [(layer.floor, layer.margin) for layer in (net[1], net[3])] == [(0.5, 0.75)] * 2
    for options, text in (({"floor": -1}, "floor is a finite number"), ({"margin": 2}, "margin is a share")):
        with pytest.raises(UserError, match=text):
            from_snntorch(chain, **options)


def accuracy(model, images, labels):
    """By the user's own forward."""
    with torch.no_grad():
        spikes, _ = model(images.flatten(1))
    return (spikes.sum(0).argmax(-1) == labels).float().mean().item()


def test_training_in_place_improves_the_users_model():
    digits = data.load("digits")
    images, labels = digits.test.__getitems__(range(len(digits.test)))
    model = nets.Tutorial()
    before = accuracy(model, images, labels)
    net = from_snntorch(model, example=images[:32].flatten(1), denominator="increment")
    assert net.lif1.denominator == "increment"
    trainer = TemporalTrainer(nn.Sequential(nn.Flatten(), net), steps=model.steps, device="cpu")
    trainer.fit(digits.train, epochs=10)
    assert before < 0.4
    after = accuracy(model, images, labels)
    assert after > 0.9
    assert after == pytest.approx(trainer.evaluate(digits.test).accuracy, abs=0.003)


def test_masters_of_quantised_weights_are_not_handed_over_for_the_weights():
    net = models.lif_mlp([12, 8, 4])
    WeightGrids(net, Quantization(4))
    with pytest.raises(ConversionError, match=r"layer '1' .* quantised weights.*hw_export\.quantize"):
        to_snntorch(net)
    x = nn.constant(torch.rand(5, 12), 10)
    model = to_snntorch(hw_export.quantize(net, 32))
    utils.reset(model)
    with torch.no_grad():
        assert torch.equal(torch.stack([model(step) for step in x]), net(x))
