"""Every layer runs on every kind of floats, or says in one line which one it wants."""

import pytest
import torch

from spikelfp import models, nn, propagate
from spikelfp.errors import UserError

FLAT, IMAGES, TOKENS = (5, 3, 8), (5, 3, 2, 6, 6), (5, 3, 4, 8)
LAYERS = {
    "Linear": (lambda: nn.Linear(8, 4), FLAT),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), IMAGES),
    "LIF": (nn.LIF, FLAT),
    "Synaptic": (nn.Synaptic, FLAT),
    "RecurrentLIF": (lambda: nn.RecurrentLIF(8), FLAT),
    "RecurrentALIF": (lambda: nn.RecurrentALIF(8), FLAT),
    "RecurrentSynaptic": (lambda: nn.RecurrentSynaptic(8), FLAT),
    "LI": (nn.LI, FLAT),
    "MultiSpikeLIF": (nn.MultiSpikeLIF, FLAT),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(8), FLAT),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), IMAGES),
    "LayerNorm": (lambda: nn.LayerNorm(8), FLAT),
    **{kind.__name__: (kind, FLAT) for kind in (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.ELU, nn.Tanh)},
    "Heaviside": (nn.Heaviside, FLAT),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGES),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGES),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), IMAGES),
    "Dropout": (nn.Dropout, FLAT),
    "Noise": (lambda: nn.Noise(0.1), FLAT),
    "Flatten": (nn.Flatten, IMAGES),
    "SelfAttention": (lambda: nn.SelfAttention(8, 2), TOKENS),
    "SpikingSelfAttention": (lambda: nn.SpikingSelfAttention(8, 2), TOKENS),
    "ClassToken": (lambda: nn.ClassToken(8), TOKENS),
    "PositionEmbedding": (lambda: nn.PositionEmbedding(4, 8), TOKENS),
    "ToTokens": (nn.ToTokens, IMAGES),
    "Sum": (lambda: nn.Sum(nn.Linear(8, 8), nn.Identity()), FLAT),
    "Concat": (lambda: nn.Concat(nn.Linear(8, 8), nn.Linear(8, 2)), FLAT),
    "lif_mlp": (lambda: models.lif_mlp([8, 6, 4], threshold=0.3), FLAT),
    "lif_rnn": (lambda: models.lif_rnn([8, 6, 4], threshold=0.3), FLAT),
    "lif_lenet": (lambda: models.lif_lenet((1, 16, 16), 4, threshold=0.2), (3, 2, 1, 16, 16)),
}
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_network_and_inputs_of_one_kind(layer, dtype):
    make, shape = LAYERS[layer]
    net, x = make().to(dtype), (torch.rand(shape) * 2).to(dtype).requires_grad_()
    with torch.no_grad():
        assert net(x).dtype == dtype
    if dtype == torch.float16:
        with pytest.raises(UserError, match=r"float16 ends at 65,504: use bfloat16"):
            propagate(net(x), torch.ones_like(net(x)))
        return
    out = net(x)
    if layer == "MultiSpikeLIF":
        return  # for inference
    propagate(out, torch.ones_like(out))
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("given", [*FLOATS, *OTHERS], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_network_and_inputs_of_several_kinds_run_or_are_refused(layer, dtype, given):
    make, shape = LAYERS[layer]
    x = (torch.rand(shape) * 2).to(given)
    said = ""
    try:
        out = make().to(dtype)(x)
    except UserError as refused:
        said = str(refused)
    if said:
        assert str(given) in said
        assert "\n" not in said
    else:
        assert out.shape[:2] == x.shape[:2]
        assert not list(make().parameters()) or given == dtype or out.is_floating_point()


def test_spikes_and_updates_in_halves_are_those_of_floats():
    """A membrane is kept in float32: bfloat16 only rounds weights and inputs."""
    torch.manual_seed(0)
    net = models.lif_mlp([16, 32, 4], threshold=0.5)
    for p in net.parameters():
        p.data = p.data.bfloat16().float()
    x = (torch.rand(10, 4, 16) < 0.3).float()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        net.to(dtype).zero_grad()
        spikes = net(x.to(dtype))
        propagate(spikes, torch.linspace(-1, 1, spikes.numel()).view_as(spikes))
        found.append((spikes.float(), torch.cat([p.grad.float().flatten() for p in net.parameters()])))
    assert (found[0][0] != found[1][0]).float().mean() < 0.02
    assert torch.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.98
