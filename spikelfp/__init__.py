"""spikelfp: train spiking neural networks without surrogate gradients."""
