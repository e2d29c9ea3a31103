"""Prune networks: connections or whole neurons, by magnitude or by relevance, at once or with training in between.

LFP v3, section 4.1 prunes without retraining and draws the accuracy over the share of pruned connections
(:func:`sweep`). The least important go first:

=============  =======================================================================================================
``magnitude``  ``|w|`` (Han et al. 2015)
``relevance``  ``|Σ R_ij|`` over a reference set, the LRP relevance of the connection for the true class of each sample
               (v3, appendix A.6.3, after Yeom et al. 2021): :func:`spikelfp.explain.weight_relevance`
=============  =======================================================================================================

The scope is ``local``, the same share of each layer, or ``global``, a share of all together. A BatchNorm makes the
scale of the weights in front of it arbitrary: fold it first (:func:`spikelfp.fold.fold_batchnorm`).

>>> masks = pruning.prune(net, 0.8)                     # in place; the names are those of torch.nn.utils.prune
>>> with masks.held(trainer):                           # pruned weights stay 0 in training
...     trainer.fit(train, epochs=2)
>>> small = pruning.shrink(net)                         # without the neurons that have no effect any more
"""

from spikelfp.pruning.masks import (
    Curve,
    Masks,
    from_torch,
    iterative,
    magnitude,
    prune,
    relevance,
    sparsity,
    sweep,
)
from spikelfp.pruning.smaller import shrink

__all__ = [
    "Curve",
    "Masks",
    "from_torch",
    "iterative",
    "magnitude",
    "prune",
    "relevance",
    "shrink",
    "sparsity",
    "sweep",
]
