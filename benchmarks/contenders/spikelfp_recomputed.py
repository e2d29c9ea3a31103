"""This package: LFP-ε, reward A.4, Adam, the sequence recomputed in parts of √T steps to save memory."""

import spikelfp_lfp

from spikelfp import nn

PACKAGES = spikelfp_lfp.PACKAGES


class Contender(spikelfp_lfp.Contender):
    """One training step of the network."""

    def forward(self):
        return nn.recomputed(self.net, self.shown())[0]
