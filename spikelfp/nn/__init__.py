"""Layers with native reward propagation. Sequences are ``[T, B, …]``, time first."""

from spikelfp.functional.sequence import Trace, constant, sample_slice, time_slice
from spikelfp.nn.activation import (
    ELU,
    GELU,
    Activation,
    Heaviside,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Tanh,
    sign_complaints,
)  # fmt: skip
from spikelfp.nn.attention import (
    ClassToken,
    FirstToken,
    MeanToken,
    PositionEmbedding,
    SelfAttention,
    SpikingSelfAttention,
    TokenNorm,
    ToTokens,
)
from spikelfp.nn.container import Block, Concat, Identity, Sequential, Sum
from spikelfp.nn.delay import Delay, DelayLinear, TapLinear, Taps, choose_delays
from spikelfp.nn.elementwise import Noise, Scale
from spikelfp.nn.graph import leaves
from spikelfp.nn.layer import Layer
from spikelfp.nn.linear import Conv2d, Linear
from spikelfp.nn.neurons.alif import ALIF
from spikelfp.nn.neurons.alpha import Alpha
from spikelfp.nn.neurons.base import Decay, NeuronConstant, Neurons, Threshold
from spikelfp.nn.neurons.integrator import LI
from spikelfp.nn.neurons.lapicque import Lapicque
from spikelfp.nn.neurons.lif import LIF
from spikelfp.nn.neurons.multi_spike import MultiSpikeLIF
from spikelfp.nn.neurons.recurrent_alif import RecurrentALIF
from spikelfp.nn.neurons.recurrent_lif import RecurrentLIF
from spikelfp.nn.neurons.recurrent_synaptic import RecurrentSynaptic
from spikelfp.nn.neurons.synaptic import Synaptic
from spikelfp.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm
from spikelfp.nn.recompute import Recomputed, check_recomputable, recomputed
from spikelfp.nn.shape import AdaptiveAvgPool2d, AvgPool2d, Dropout, Flatten, FlattenAxes, MaxPool2d
from spikelfp.registry import check_constructors, public_names

__all__ = [
    "ALIF", "ELU", "GELU", "LI", "LIF", "Activation", "AdaptiveAvgPool2d", "Alpha", "AvgPool2d", "BatchNorm1d",
    "BatchNorm2d", "Block", "ClassToken", "Concat", "Conv2d", "Decay", "Delay", "DelayLinear", "Dropout", "FirstToken",
    "Flatten", "FlattenAxes", "Heaviside", "Identity", "Lapicque", "Layer", "LayerNorm", "LeakyReLU", "Linear",
    "MaxPool2d", "MeanToken", "MultiSpikeLIF", "NeuronConstant", "Neurons", "Noise", "PositionEmbedding", "ReLU",
    "Recomputed", "RecurrentALIF", "RecurrentLIF", "RecurrentSynaptic", "Scale", "SelfAttention", "Sequential", "SiLU",
    "Sigmoid", "SpikingSelfAttention", "Sum", "Synaptic", "Tanh", "TapLinear", "Taps", "Threshold", "ToTokens",
    "TokenNorm", "Trace", "check_recomputable", "choose_delays", "constant", "leaves", "recomputed", "sample_slice",
    "sign_complaints", "time_slice",
]  # fmt: skip

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
