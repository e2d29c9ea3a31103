"""Networks by name, and functions that make them."""

from spikelfp.models.adaptive import make_adaptive
from spikelfp.models.ann import activations, lenet, mlp
from spikelfp.models.base import ModelSpec, build, is_spiking, models, normalizes, takes_neuron
from spikelfp.models.decays import decay_starts, spread_decays
from spikelfp.models.resnet import lif_resnet18, resnet18, resnet34
from spikelfp.models.spiking import lif_conv, lif_lenet, lif_mlp, lif_rnn
from spikelfp.models.vgg import lif_vgg_like, vgg16, vgg_like
from spikelfp.models.vit import lif_vit, vit
from spikelfp.registry import public_names

__all__ = [
    "ModelSpec", "activations", "build", "decay_starts", "is_spiking", "lenet", "lif_conv", "lif_lenet", "lif_mlp",
    "lif_resnet18", "lif_rnn", "lif_vgg_like", "lif_vit", "make_adaptive", "mlp", "models", "normalizes", "resnet18",
    "resnet34", "spread_decays", "takes_neuron", "vgg16", "vgg_like", "vit",
]  # fmt: skip

public_names(globals())
