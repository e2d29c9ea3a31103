"""A step on CUDA queues its work and never waits for it; what is checked there, the device checks."""

import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from spikelfp import kernels, methods, models, nn, propagate, rewards, rules
from spikelfp.errors import NonFiniteError, ShapeError
from spikelfp.training.captured import train_once

METHODS = {
    "epsilon": methods.LFP(rewards.SpikeSequence()),
    "epsilon-normalised": methods.LFP(rewards.SpikeSequenceV1(), rules.Epsilon(normalize=True)),
    "zplusminus": methods.LFP(rewards.SpikeSequence(), rules.ZPlusMinus()),
    "softmax": methods.LFP(rewards.Softmax()),
    "surrogate": methods.GradientDescent(rules.Surrogate()),
}
NETWORKS = {"mlp": lambda: models.lif_mlp([784, 50, 10]), "cnn": models.lif_lenet}

every_step = pytest.mark.parametrize(
    ("make", "method"),
    [pytest.param(net, method, id=f"{n}-{m}") for n, net in NETWORKS.items() for m, method in METHODS.items()],
)


def prepare(make, method, device):
    """A network, and a training step of it."""
    with torch.device(device):
        net = make()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    images, labels = torch.rand(8, 1, 28, 28, device=device), torch.randint(10, (8,), device=device)

    def step():
        optimizer.zero_grad()
        train_once(net, method, optimizer, nn.constant(images, 5), labels)

    return net, step


@every_step
def test_a_step_reads_no_number_on_the_host(make, method, monkeypatch):
    """On tensors without values, taken for CUDA ones: whoever asked for a value would get an error of torch's."""
    pytest.importorskip("triton")
    from spikelfp.kernels import triton_scan

    monkeypatch.setenv(kernels.KERNELS, "triton")
    monkeypatch.setattr(triton_scan, "INTERPRETED", True)
    monkeypatch.setattr(FakeTensor, "is_cuda", True)
    with FakeTensorMode():
        net, step = prepare(make, method, "cpu")
        step()
        step()
        for parameter in net.parameters():
            assert parameter.grad.shape == parameter.shape


def test_tensors_without_values_notice_who_asks():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        bool(torch.zeros(3).any())


@pytest.mark.gpu
@every_step
def test_a_step_does_not_wait(make, method):
    _, step = prepare(make, method, "cuda")
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_on_the_cpu_a_wrong_label_and_a_reward_of_nan_are_named():
    with pytest.raises(ShapeError, match=r"label 7 at position 1 is outside the classes 0\.\.3"):
        rewards.Softmax()(torch.randn(2, 4), torch.tensor([0, 7]))
    outputs = nn.Linear(3, 2)(torch.randn(1, 4, 3))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        propagate(outputs, torch.full((1, 4, 2), float("nan")))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "line",
    [
        "rewards.Softmax()(torch.randn(2, 4).cuda(), torch.tensor([0, 7]).cuda())",
        "propagate(nn.Linear(3, 2).cuda()(torch.randn(1, 4, 3).cuda()), torch.full((1, 4, 2), math.nan).cuda())",
    ],
)
def test_on_cuda_the_device_fails_an_assertion(line):
    """In a process of its own: a failed assertion is the end of CUDA in it."""
    code = f"import math, torch; from spikelfp import nn, propagate, rewards; {line}; torch.cuda.synchronize()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "assert" in done.stderr
