"""VGG-16 and ResNets of this package compute what networks of torchvision's shape compute."""

import pytest
import torch
from plain_nets import VGG, resnet18, resnet34

from spikelfp import models


def copied(net, plain):
    """``net`` with the parameters and statistics of ``plain``, in evaluation mode; both hold them in one order."""
    with torch.no_grad():
        for own, other in zip(net.state_dict().values(), plain.state_dict().values(), strict=True):
            own.copy_(other)
    return net.eval()


@pytest.mark.parametrize(
    ("net", "plain", "side"),
    [
        (lambda: models.resnet18((3, 70, 66), 5, width=4), resnet18, (70, 66)),
        (lambda: models.resnet34((3, 64, 64), 5, width=4), resnet34, (64, 64)),
        (lambda: models.vgg16((3, 224, 240), 5, width=4), VGG, (224, 240)),
        (lambda: models.vgg16((3, 224, 224), 5, width=4, batch_norm=True), lambda: VGG(batch_norm=True), (224, 224)),
    ],
)
def test_outputs_with_the_same_parameters(net, plain, side):
    plain = plain()
    for buffer in plain.buffers():
        buffer.data = torch.rand_like(buffer.float()).to(buffer.dtype) + 0.5 * buffer.is_floating_point()
    plain.eval()
    x = torch.randn(2, 3, *side)
    torch.testing.assert_close(copied(net(), plain)(x.unsqueeze(0))[0], plain(x), rtol=1e-4, atol=1e-5)
