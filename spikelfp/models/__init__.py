"""Networks by name, and functions that make them."""

from spikelfp.models.activations import activations
from spikelfp.models.ann import lenet, mlp
from spikelfp.models.base import ModelSpec, models
from spikelfp.models.lif import lif_lenet, lif_mlp
from spikelfp.models.lif_conv import lif_conv
from spikelfp.models.lif_resnet import lif_resnet18
from spikelfp.models.lif_rnn import lif_rnn
from spikelfp.models.lif_vgg import lif_vgg_like
from spikelfp.models.lif_vit import lif_vit
from spikelfp.models.named import build, is_spiking, normalizes, takes_neuron
from spikelfp.models.resnet import resnet18, resnet34
from spikelfp.models.vgg import vgg16, vgg_like
from spikelfp.models.vit import vit
from spikelfp.registry import public_names

__all__ = [
    "ModelSpec", "activations", "build", "is_spiking", "lenet", "lif_conv", "lif_lenet", "lif_mlp", "lif_resnet18",
    "lif_rnn", "lif_vgg_like", "lif_vit", "mlp", "models", "normalizes", "resnet18", "resnet34", "takes_neuron",
    "vgg16", "vgg_like", "vit",
]  # fmt: skip

public_names(globals())
