"""This package: the same network by surrogate gradients, fast sigmoid and rate cross-entropy, Adam."""

import spikelfp_lfp

from spikelfp import methods, rules

PACKAGES = ("spikelfp",)


class Contender(spikelfp_lfp.Contender):
    """One training step of the network."""

    def step(self):
        self.optimizer.zero_grad()
        with rules.using(self.net, rules.Surrogate()):
            outputs = self.forward()
        methods.rate_cross_entropy(outputs, self.labels).backward()
        self.optimizer.step()
